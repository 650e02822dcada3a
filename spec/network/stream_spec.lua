-- The streams of lunad.net.

local support = require "support"

-- For scripts: `pair(fn)` serves with `fn` and returns a stream that is connected to it.
local PAIR = [[
local net = require "lunad.net"
local server
local function pair(fn, options)
  if server then server:close() end -- the next one has the same socket
  server = truthy(net.serve("127.0.0.1:0", fn, options))
  return truthy(net.connect(server:address())), server
end
]]

describe("A stream", function()
  local box = support.with_box(before_each, after_each)

  local function inside(text, options)
    return box:inside(PAIR .. text .. " lunad.stop()", options)
  end

  it("is read as it comes, by bytes, by lines, and to the end", function()
    inside [[
      local stream = pair(function(s)
        s:write("hello", 1, "\n")
        s:read(1)
        s:write "one\r\ntwo\n\nthree 12345678 rest"
      end)
      equal("hello1\n", stream:read())
      stream:write "."
      equal("one", stream:read "line")
      equal("two", stream:read "line")
      equal("", stream:read "line")
      equal("three", stream:read(5))
      equal("", stream:read(0))
      equal(" 12345678", stream:read(9))
      equal(" rest", stream:read "all")
      equal("", stream:read "all")
      equal(nil, stream:read())
      equal(1, select("#", stream:read()))
      equal(nil, stream:read(1))
      equal(nil, stream:read "line")
      equal(0, select("#", stream:read "line") - 1) -- the end is no error
    ]]
  end)

  it("gives fewer bytes, and a line without a newline, only at the end", function()
    inside [[
      local stream = pair(function(s) s:write "abc" end)
      equal("abc", stream:read(10))
      equal(nil, stream:read(10))
      stream = pair(function(s) s:write "a line" end)
      equal("a line", stream:read "line")
      equal(nil, stream:read "line")
    ]]
  end)

  it("keeps what came before a read timed out, or was cancelled", function()
    inside [[
      local stream = pair(function(s) s:write "ab" s:read(1) s:write "cd\n" s:read() end)
      fails("ETIMEDOUT", stream:read(4, 0.1))
      fails("ETIMEDOUT", stream:read("line", 0.1))
      local task = lunad.task(function() return stream:read "all" end)
      lunad.sleep(0.02)
      task:cancel()
      task:wait()
      stream:write "."
      equal("abcd", stream:read "line")
    ]]
  end)

  it("limits the time of a whole read, not of each piece", function()
    inside [[
      local stream = pair(function(s) while s:write "x" do lunad.sleep(0.02) end end)
      local start = lunad.now()
      fails("ETIMEDOUT", stream:read("line", 0.3))
      truthy(lunad.now() - start < 5)
    ]]
  end)

  it("refuses a line that never ends", function()
    inside [[
      local stream = pair(function(s) repeat until not s:write(("x"):rep(1000)) end)
      fails("EMSGSIZE", stream:read "line")
      stream:close()
      stream = pair(function(s) s:write(("x"):rep(65535), "\n") end)
      equal(65535, #stream:read "line")
    ]]
  end)

  it("holds a writer back while the other side does not read", function()
    inside [[
      local written = 0
      local stream = pair(function(s)
        for _ = 1, 400 do
          truthy(s:write(("x"):rep(100000)))
          written = written + 100000
        end
      end)
      stream:read(1) -- its reading has begun
      local before
      repeat before = written lunad.sleep(0.2) until written == before
      truthy(written < 20e6, written .. " bytes were taken")
      equal(39999999, #stream:read "all")
      equal(40e6, written + 0.0)
    ]]
  end)

  it("that is written by two tasks has the whole of each write", function()
    inside [[
      local stream = pair(function(s)
        local function put(char)
          return function() for _ = 1, 20 do truthy(s:write(char:rep(300000) .. "\n")) end end
        end
        truthy(lunad.all { put "a", put "b" })
      end)
      local text = stream:read "all"
      equal(2 * 20 * 300001, #text)
      for line in text:gmatch "[^\n]+" do
        truthy(line == line:sub(1, 1):rep(300000), "mixed")
      end
    ]]
  end)

  it("can be read and written at once", function()
    inside [[
      local stream = pair(function(s) for chunk in function() return (s:read()) end do s:write(chunk) end end)
      local reader = lunad.task(function() return #stream:read "all" end)
      for _ = 1, 100 do stream:write(("y"):rep(50000)) end
      truthy(stream:shutdown())
      equal(5000000, reader:wait())
    ]]
  end)

  it("is read by one task at a time", function()
    inside [[
      local stream = pair(function(s) s:read() end)
      lunad.task(function() stream:read() end)
      raises("another task reads this stream", stream.read, stream)
    ]]
  end)

  it("that has been shut down is still read", function()
    inside [[
      local stream = pair(function(s) s:write(#s:read "all" .. " bytes") end)
      stream:write "abc"
      equal(true, stream:shutdown())
      equal(true, stream:shutdown())
      equal("3 bytes", stream:read "all")
      fails("EPIPE", stream:write "more")
      equal(true, stream:shutdown())
    ]]
  end)

  it("tells a task that waits when it is closed", function()
    inside [[
      local stream = pair(function(s) s:read() end)
      local reader = lunad.task(function() return stream:read() end)
      lunad.sleep(0.01)
      stream:close()
      stream:close()
      fails("ECANCELED", reader:wait())
      raises("the stream is closed", stream.read, stream)
      raises("the stream is closed", stream.write, stream, "x")
      raises("the stream is closed", stream.shutdown, stream)
      raises("the stream is closed", stream.lines, stream)
    ]]
  end)

  it("is closed when a write to it is cancelled, and nothing of that is sent later", function()
    inside [[
      local got
      local stream = pair(function(s) lunad.sleep(0.3) got = #s:read "all" end)
      fails("ETIMEDOUT", lunad.timeout(0.1, stream.write, stream, ("x"):rep(50e6)))
      raises("the stream is closed", stream.write, stream, "x")
      eventually(function() return got end)
      truthy(got < 50e6)
    ]]
  end)

  it("lets go of a task that its time has woken and that is cancelled before it goes on", function()
    inside [[
      local due, late, idle = nil, 0, 0.2
      local stream = pair(function(s)
        local writer = lunad.task(function() due = lunad.now() + idle s:write(("x"):rep(30e6)) end)
        local gate = lunad.channel()
        local last
        for _ = 1, 200 do -- each holds the loop for a turn; the writer comes after them
          last = lunad.task(function()
            gate:get()
            late = late + (lunad.now() > due and 1 or 0)
            if late == 5 then writer:cancel() end
            local ends = lunad.now() + (late < 5 and 0.005 or 0)
            repeat until lunad.now() > ends
          end)
        end
        gate:close()
        last:wait()
        equal("cancelled", select(2, writer:wait()))
      end, { idle = idle })
      local sleepers = {}
      repeat lunad.sleep(0.01) until late >= 5
      for i = 1, 50 do
        sleepers[i] = lunad.task(function() local n = lunad.now() lunad.sleep(0.3) return lunad.now() - n end)
      end
      for i = 1, 50 do truthy(sleepers[i]:wait() >= 0.3) end
      truthy(#stream:read "all" < 30e6)
    ]]
  end)

  it("is a variable to be closed", function()
    inside [[
      local ended
      local server = net.serve("127.0.0.1:0", function(s) ended = s:read() == nil end)
      do
        local stream <close> = net.connect(server:address())
      end
      eventually(function() return ended end)
    ]]
  end)

  it("that was dropped is closed", function()
    inside [[
      local ended
      local server = net.serve("127.0.0.1:0", function(s) ended = s:read() == nil end)
      net.connect(server:address())
      eventually(function() collectgarbage() return ended end)
    ]]
  end)

  it("gives its lines to a loop, and raises an error there", function()
    inside [[
      local stream = pair(function(s) s:write "a\nb\n\nc" end)
      local lines = {}
      for line in stream:lines() do lines[#lines + 1] = line end
      equal("a,b,,c", table.concat(lines, ","))
      stream = pair(function(s) repeat until not s:write(("x"):rep(10000)) end)
      raises("EMSGSIZE", function() for _ in stream:lines() do end end)
    ]]
  end)

  it("reports that the connection was reset, after what came before", function()
    inside [[
      local uv = require "luv"
      local stream = pair(function(s)
        s:write "last"
        s.handle:close_reset()
        s.closed = true
      end)
      fails("ECONNRESET", stream:read "all")
      equal("last", stream:read(4))
      fails("ECONNRESET", stream:read())
    ]]
  end)

  it("refuses wrong arguments", function()
    inside [[
      local stream = pair(function(s) s:read() end)
      raises("bad argument #1 to 'read'", stream.read, stream, "lines")
      raises("bad argument #1 to 'read'", stream.read, stream, -1)
      raises("bad argument #1 to 'read'", stream.read, stream, 1.5)
      raises("bad argument #2 to 'read'", stream.read, stream, 1, -1)
      raises("bad argument #2 to 'write' (string expected, got nil)", stream.write, stream, "a", nil)
      raises("lunad.stream expected, got table", stream.read, {})
      raises("lunad.stream expected, got nil", stream.close)
      local co = coroutine.wrap(function() raises("no task", stream.write, stream, "x") end)
    ]]
  end)
end)

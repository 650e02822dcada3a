-- Connections that move to the next generation: stream:hand_on and net.taken.

local net = require "support.net"
local support = require "support"

-- For scripts: answers each line with the number of the generation; every connection is handed on, under
-- "client N", and taken. `talk` may be replaced before `go`.
local LINES = [[
  local net = require "lunad.net"
  local open, count = {}, lunad.state and lunad.state.count or 0
  function talk(stream)
    for line in stream:lines() do stream:write(lunad.generation .. ":" .. line .. "\n") end
  end
  local function serve(stream, key)
    open[stream] = key
    local _ <close> = setmetatable({}, { __close = function() open[stream] = nil end })
    talk(stream)
    print("end of " .. key)
  end
  local function go(address)
    local server = assert(net.serve(address or "127.0.0.1:0", function(stream)
      count = count + 1
      serve(stream, "client " .. count)
    end))
    print("port " .. server:address():match "%d*$")
    for _, key in ipairs(lunad.state and lunad.state.keys or {}) do
      local stream = net.taken(key)
      lunad.task(function() local _ <close> = stream serve(stream, key) end)
    end
    lunad.on_reload(function()
      local keys = {}
      for stream, key in pairs(open) do
        assert(stream:hand_on(key))
        keys[#keys + 1] = key
      end
      return { keys = keys, count = count }
    end)
  end
]]

local function wait_retired(box, name)
  support.wait_for("the end of what was replaced", function()
    return #box:status(name or "s").retiring == 0
  end)
end

describe("a connection that is handed on", function()
  local box = support.with_box(before_each, after_each)

  local function connect(text, ...)
    box:serve(LINES .. text, ...)
    return net.connect(net.port(box, "s"))
  end

  it("goes on in the next generation with what it has sent so far", function()
    local client = connect "go()":send "one\ntw"
    client:wait "^1:one\n$"
    assert.equal(0, box:reload(LINES .. "go()").code)
    wait_retired(box)
    client:send "o\n"
    client:wait "^1:one\n2:two\n$"
    assert.not_matches("end of", box:log "s")
    client:close()
    box:wait_log("s", "end of client 1")
    assert.equal(0, box:status("s").errors.count)
  end)

  it("gets each answer once, in order, over reloads that succeed and that are refused", function()
    local clients = { connect "go()" }
    for i = 2, 4 do clients[i] = net.connect(net.port(box, "s")) end
    local said = 0
    local function say()
      said = said + 1
      for _, client in ipairs(clients) do client:send("number " .. said .. "\nsplit"):send(said .. "\n") end
    end
    for i = 1, 20 do
      local is_bad = i % 3 == 0
      say()
      assert.equal(is_bad and 1 or 0, box:reload(LINES .. "go() " .. (is_bad and "error 'no'" or "")).code)
      say()
    end
    local expected = {}
    for i = 1, said do expected[i] = ("number %d\nsplit%d\n"):format(i, i) end
    for _, client in ipairs(clients) do
      client:wait("split" .. said .. "\n")
      assert.equal(table.concat(expected), (client.received:gsub("%d+:", "")))
      client:close()
    end
  end)

  it("is as it was after a refused reload: the new code has neither read nor written", function()
    local client = connect("go() lunad.ready()", "--wait-ready"):send "one\ntw"
    client:wait "^1:one\n$"
    box:write("s.lua", support.BEAT .. LINES .. [[
      function talk(stream)
        lunad.task(function() stream:write "too early\n" end)
        print("read " .. tostring(stream:read "line"))
      end
      go()
      print "loading"
      while not io.open(lunad.script .. ".go") do lunad.sleep(0.01) end
      error "no"
    ]])
    local reload = box:spawn { "reload", "s" }
    box:wait_log("s", "loading")
    client:send "o\nthr"
    box:write("s.lua.go", "")
    box:await(reload, "the verdict", reload.is_over)
    assert.equal(1, reload.code)
    client:send "ee\n":wait "^1:one\n1:two\n1:three\n$"
    assert.not_matches("read ", box:log "s")
    client:close()
  end)

  local WAYS = { computes = "", sleeps = "lunad.sleep(0.01)" }
  for what, wait in pairs(WAYS) do
    it("is not timed out for what it sent while the new code " .. what, function()
      local client = connect([[
        function talk(stream)
          stream:write(stream:read "line", "\n")
          lunad.on_reload(function()
            lunad.task(function()
              stream:write(tostring(stream:read("line", 0.05)), "\n")
              print("code " .. select(3, stream:read("line", 0.05)))
            end)
            stream:hand_on "it"
          end)
          lunad.sleep(600)
        end
        go()
        lunad.ready()
      ]], "--wait-ready"):send "one\n"
      client:wait "^one\n$"
      box:write("s.lua", support.BEAT .. ([[
        require "lunad.net".taken "it"
        local ends = lunad.now() + 0.2
        print "loading"
        while lunad.now() < ends or not io.open(lunad.script .. ".go") do %s end
        error "no"
      ]]):format(wait))
      local reload = box:spawn { "reload", "s" }
      box:wait_log("s", "loading")
      client:send "two\n"
      box:write("s.lua.go", "")
      box:await(reload, "the verdict", reload.is_over)
      assert.equal(1, reload.code)
      client:wait "^one\ntwo\n$"
      box:wait_log("s", "code ETIMEDOUT")
      client:close()
    end)
  end

  it("brings what was written and not sent yet, before what the next generation writes", function()
    local big = 12000000
    local text = [[
      function talk(stream)
        if lunad.generation == 1 then
          stream:read "line"
          print "writing"
          print("written", stream:write(("x"):rep(12000000), "y\n"))
        end
        while true do
          local line = stream:read "line"
          if not line then return end
          stream:write("and ", line, "\n")
        end
      end
      go()
    ]]
    local client = connect(text):wait_connected()
    client.stream:read_stop()
    client:send "go\n"
    box:wait_log("s", "writing")
    assert.equal(0, box:reload(LINES .. text).code)
    assert.equal(0, box:reload(LINES .. text).code) -- also what has come with it
    wait_retired(box)
    client:send "now\n"
    local expected, parts, size = ("x"):rep(big) .. "y\nand now\n", {}, 0
    client.stream:read_start(function(_, chunk)
      parts[#parts + 1], size = chunk, size + #(chunk or "")
    end)
    support.wait_for("all of it", function()
      support.uv.run "nowait"
      return size >= #expected
    end)
    assert.is_true(table.concat(parts) == expected)
    assert.not_matches("written", box:log "s")
    client:close()
  end)

  it("brings what a read of many bytes had got", function()
    local text = "function talk(s) while true do local d = s:read(10) if not d then return end " ..
      "s:write('<', d, '>') end end go()"
    local client = connect(text):send "0123456789abc"
    client:wait "^<0123456789>$"
    assert.equal(0, box:reload(LINES .. text).code)
    client:send "def"
    assert.equal(0, box:reload(LINES .. text).code)
    client:send "ghijKLM":wait "<abcdefghij>$"
    client:finish()
    client:wait "<KLM>$"
  end)

  it("may be a Unix socket", function()
    box:serve(LINES .. ("go 'unix:%s'"):format(box:path "u.sock"))
    local client = net.connect(box:path "u.sock"):send "one\n"
    client:wait "^1:one\n$"
    assert.equal(0, box:reload(LINES .. ("go 'unix:%s'"):format(box:path "u.sock")).code)
    client:send "two\n":wait "2:two\n$"
    client:close()
  end)

  it("may be handed on before the reload begins, and by what asks for it", function()
    local client = connect [[
      net.serve("127.0.0.1:0", function() end)
      function talk(stream)
        local line = stream:read "line"
        assert(stream:hand_on "this")
        lunad.reload()
        stream:write(line, " 1\n")
        stream:write(stream:read "line", " never\n")
      end
      go()
      lunad.on_reload(function() end)
    ]]
    box:write("s.lua", support.BEAT .. [[
      local stream = require "lunad.net".taken "this"
      lunad.task(function()
        print("peer " .. stream:peer())
        for line in stream:lines() do stream:write(line, " 2\n") end
      end)
    ]])
    client:send "one\n":wait "one 1\n"
    box:wait_log("s", "reloaded: generation 2")
    client:send "two\n":wait "^one 1\ntwo 2\n$"
    assert.matches("peer 127%.0%.0%.1:%d+\n", box:log "s")
    client:close()
  end)

  it("may be taken later, as long as a replaced generation may take", function()
    local client = connect "go()":send "one\ntwo"
    client:wait "^1:one\n$"
    assert.equal(0, box:reload([[
      lunad.after(0.05, function()
        local stream = require "lunad.net".taken "client 1"
        stream:write(stream:read "line", " taken\n")
        stream:close()
      end)
    ]]).code)
    client:send "!\n"
    assert.equal("1:one\ntwo! taken\n", (client:wait_end()))
  end)

  it("may be taken by the generation after the next", function()
    local client = connect "go()":send "one\ntwo"
    client:wait "^1:one\n$"
    assert.equal(0, box:reload("").code)
    assert.equal(1, box:reload("assert(require 'lunad.net'.taken 'client 1') error 'no'").code)
    assert.equal(0, box:reload([[
      local stream = require "lunad.net".taken "client 1"
      lunad.task(function() stream:write(stream:read "line", " 3\n") end)
    ]]).code)
    client:send "!\n":wait "^1:one\ntwo! 3\n$"
    client:close()
  end)

  it("is closed and named when nothing takes it", function()
    local client = connect("go()", "--stop-timeout", "0.3"):send "one\n"
    client:wait "^1:one\n$"
    assert.equal(0, box:reload("").code)
    wait_retired(box)
    client:wait_end()
    box:wait_log("s", "warn  lunad: closed, as no generation has taken what was handed on: " ..
      "client 1 %(127%.0%.0%.1:%d+%)\n")
  end)

  it("is closed by a stop, taken or not", function()
    local client = connect "go()":send "one\n"
    client:wait "^1:one\n$"
    assert.equal(0, box:reload("").code)
    box:ok("stop", "s")
    client:wait_end()
  end)

  it("keeps no generation from its end, nor its tasks, which see nothing of it", function()
    local client = connect [[
      function talk(stream)
        stream:write "hello\n"
        lunad.task(function()
          while lunad.stats().generation == 1 do lunad.sleep(0.001) end
          print("write", select(3, stream:write "late"))
          print("shutdown", select(3, stream:shutdown()))
          print("hand_on", select(3, stream:hand_on "again"))
          print("peer", stream:peer())
          stream:close()
          stream:read()
          print "read has returned"
        end)
        stream:read()
        print "read has returned"
      end
      go()
      lunad.on_stop(function() lunad.sleep(0.1) end)
    ]]
    client:wait "hello\n"
    assert.equal(0, box:reload(LINES .. "go()").code)
    wait_retired(box)
    box:wait_log("s", "write\tECANCELED.*shutdown\tECANCELED.*hand_on\tECANCELED.*peer\t127")
    client:send "two\n":wait "2:two\n$"
    assert.not_matches("read has returned", box:log "s")
    assert.equal(0, box:status("s").errors.count)
    client:close()
  end)

  it("that ends during the reload is read to its end by the next generation", function()
    local client = connect("go() lunad.ready()", "--wait-ready"):send "one\n"
    client:wait "^1:one\n$"
    box:write("s.lua", support.BEAT .. LINES .. "go() print 'loading' lunad.sleep(0.1) lunad.ready()")
    local reload = box:spawn { "reload", "s" }
    box:wait_log("s", "loading")
    client:send("last\n"):finish()
    box:await(reload, "the verdict", reload.is_over)
    assert.matches("2:last\n$", (client:wait_end()))
    box:wait_log("s", "end of client 1")
  end)

  it("that the old generation closes during the reload has ended for the next", function()
    local client = connect([[
      function talk(stream)
        stream:read "line"
        lunad.on_reload(function()
          stream:hand_on "it"
          lunad.task(function() lunad.sleep(0.02) stream:close() end)
        end)
        stream:write "ready\n"
        stream:read "line"
      end
      go()
      lunad.ready()
    ]], "--wait-ready"):send "one\n"
    client:wait "ready\n"
    assert.equal(0, box:reload([[
      local stream = require "lunad.net".taken "it"
      lunad.task(function()
        print("read", stream:read())
        print("write", select(3, stream:write "x"))
      end)
      lunad.after(0.1, lunad.ready)
    ]]).code)
    client:wait_end()
    box:wait_log("s", "read\tnil.*write\tEPIPE\n")
  end)

  it("that the new generation closes before it is the service is closed then", function()
    local client = connect "go()":send "one\n"
    client:wait "^1:one\n$"
    assert.equal(1, box:reload("require 'lunad.net'.taken('client 1'):close() error 'no'").code)
    client:send "two\n":wait "1:two\n$"
    assert.equal(0, box:reload("require 'lunad.net'.taken('client 1'):close()").code)
    client:wait_end()
  end)

  it("is closed if the new generation fails in the middle of taking it, and goes on", function()
    local client = connect "go()":send "one\n"
    client:wait "1:one\n"
    local reload = box:reload(LINES .. [[
      local uv = require "luv"
      local new_tcp = uv.new_tcp
      uv.new_tcp = function() error "not enough memory" end
      print("taken", pcall(net.taken, "client 1"))
      uv.new_tcp = new_tcp
      lunad.state.keys = nil
      go()
    ]])
    assert.equal(0, reload.code)
    box:wait_log("s", "taken\tfalse\t[^\n]*not enough memory\n")
    client:wait_end()
    assert.equal(0, box:status("s").errors.count)
  end)

  it("is closed if the service fails in the middle of taking it", function()
    local client = connect "go()":send "one\n"
    client:wait "1:one\n"
    assert.equal(0, box:reload(LINES .. [[
      lunad.state.keys = nil
      go()
      lunad.signal("USR1", function()
        local uv = require "luv"
        local new_tcp = uv.new_tcp
        uv.new_tcp = function() error "not enough memory" end
        print("taken", pcall(net.taken, "client 1"))
        uv.new_tcp = new_tcp
      end)
    ]]).code)
    box:ok("signal", "s", "USR1")
    box:wait_log("s", "taken\tfalse\t[^\n]*not enough memory\n")
    client:wait_end()
    assert.equal(0, box:status("s").errors.count)
  end)

  it("moves with a keeper too", function()
    local client = connect("go()", "--restart", "always"):send "one\n"
    client:wait "^1:one\n$"
    assert.equal(0, box:reload(LINES .. "go()").code)
    client:send "two\n":wait "2:two\n$"
    client:close()
  end)

  it("needs no descriptor more, however many move", function()
    local clients = { connect("go()", "--rlimit", "nofile=210") }
    for i = 2, 140 do clients[i] = net.connect(net.port(box, "s")) end
    for _, client in ipairs(clients) do client:send "one\n":wait "^1:one\n$" end
    for _ = 1, 3 do assert.equal(0, box:reload(LINES .. "go()").code) end
    for _, client in ipairs(clients) do
      client:send "two\n":wait "^1:one\n4:two\n$"
      client:close()
    end
  end)

  it("moves where the limit of open files is reached, again and again", function()
    local clients = { connect("go()", "--rlimit", "nofile=90:90") }
    for i = 2, 100 do clients[i] = net.connect(net.port(box, "s")) end -- more than can be served
    box:wait_log("s", "clients have to wait")
    for i = 1, 20 do clients[i]:send "one\n":wait "^1:one\n$" end
    for _ = 1, 3 do
      assert.equal(0, box:reload(LINES .. "go()").code)
      wait_retired(box)
    end
    for i = 1, 20 do clients[i]:send "two\n":wait "^1:one\n4:two\n$" end
    assert.not_matches("stays with this generation", box:log "s")
    for _, client in ipairs(clients) do client:close() end
  end)
end)

describe("stream:hand_on and net.taken", function()
  local box = support.with_box(before_each, after_each)

  it("refuse what they cannot do", function()
    box:inside [[
      local net = require "lunad.net"
      local server = net.serve("127.0.0.1:0", function(stream) stream:read() end)
      local one, two = net.connect(server:address()), net.connect(server:address())
      equal(nil, net.taken "nothing")
      raises("#1 to 'taken'", function() net.taken() end)
      raises("#1 to 'hand_on'", function() one:hand_on() end)
      raises("#1 to 'hand_on'", function() one:hand_on "" end)
      raises("#1 to 'hand_on'", function() one:hand_on(("x"):rep(1001)) end)
      equal(true, one:hand_on "key")
      equal(true, one:hand_on "key")
      fails("EEXIST", two:hand_on "key")
      equal(true, one:hand_on "other")
      equal(true, two:hand_on "key")
      equal(nil, net.taken "key")
      two:close()
      equal(true, one:hand_on "key")
      one:close()
      raises("closed", function() one:hand_on "key" end)
      lunad.stop()
    ]]
  end)

  it("refuse TLS", function()
    if not pcall(require, "ssl") then
      return pending "LuaSec is not installed (Debian: lua-sec)"
    end
    assert.equal(0, box:shell([[cd "$2" && openssl req -x509 -nodes -keyout k.pem -out c.pem -days 30 \
      -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=localhost 2>&1]], { box.dir }).code)
    box:inside(([[
      local net = require "lunad.net"
      local tls = { cert = %q, key = %q }
      local server = truthy(net.serve("127.0.0.1:0", function(stream)
        stream:write(select(2, stream:hand_on "key"), "\n")
      end, { tls = tls }))
      local stream = truthy(net.connect(server:address(), { tls = { verify = false } }))
      local line = stream:read "line"
      truthy(line:find("^ENOTSUP: .*TLS"), line)
      lunad.stop()
    ]]):format(box:path "c.pem", box:path "k.pem"))
  end)

  it("are for the service: a generation that was replaced hands nothing on", function()
    box:serve(LINES .. [[
      go()
      lunad.on_stop(function()
        local stream = next(open)
        print(pcall(stream.hand_on, stream, "late"))
        print(pcall(net.taken, "late"))
      end)
      lunad.on_reload(function() end)
    ]])
    local client = net.connect(net.port(box, "s")):send "one\n"
    client:wait "^1:one\n$"
    assert.equal(0, box:reload("").code)
    box:wait_log("s", "false\t[^\n]*hand_on: this generation.*false\t[^\n]*taken: this generation")
    client:close()
  end)
end)

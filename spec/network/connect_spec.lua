-- lunad.net: connect and serve.

local support = require "support"

local NET = 'local net = require "lunad.net" '

describe("net.connect", function()
  local box = support.with_box(before_each, after_each)

  local function inside(text, options)
    return box:inside(NET .. text .. " lunad.stop()", options)
  end

  it("connects to IPv4, IPv6, names and Unix sockets", function()
    inside(([[
      for _, address in ipairs { "127.0.0.1:0", "[::1]:0", "unix:%s" } do
        local server = truthy(net.serve(address, function(s) s:write(s:read "line", "!") end))
        local stream <close> = truthy(net.connect(server:address()))
        equal(server:address(), stream:peer())
        stream:write "hello\n"
        equal("hello!", stream:read "all")
      end
      local server = net.serve("127.0.0.1:0", function(s) s:write(s:peer()) end)
      local port = server:address():match ":(%%d+)$"
      local stream <close> = truthy(net.connect("localhost:" .. port))
      equal("127.0.0.1:" .. port, stream:peer())
      truthy(stream:read "all":find "^127%%.0%%.0%%.1:%%d+$")
    ]]):format(box:path "u.sock"))
  end)

  it("says why it failed", function()
    inside(([[
      fails("ECONNREFUSED", net.connect "127.0.0.1:1")
      fails("ECONNREFUSED", net.connect "localhost:1")
      fails("ENOENT", net.connect "unix:%s/none")
      local _, err = net.connect "no-such-host.invalid:80"
      truthy(err:find "EAI_" and err:find "no%%-such%%-host.invalid", err)
    ]]):format(box.dir))
  end)

  it("returns an error for what only looks like an address", function()
    inside(([[
      for _, address in ipairs { "999.1.1.1:80", "[1::2::3]:80", "[::g]:80" } do
        for _, options in ipairs { { timeout = 20 }, {} } do
          local stream, err = net.connect(address, options)
          truthy(not stream and err:find "^EAI_", err)
        end
      end
      fails("ENAMETOOLONG", net.connect("unix:%s/" .. ("x"):rep(108)))
      for _, address in ipairs { "127.0.0.1\0:80", "unix:/tmp/a\0b" } do
        raises("no zero byte", net.connect, address)
      end
      equal(0, lunad.stats().errors.count)
    ]]):format(box.dir))
  end)

  it("has a limit of time over all of it", function()
    inside [[
      -- A server that has as many clients as it may, and as many in its queue, does not answer.
      local server = net.serve("127.0.0.1:0", function(s) s:read() end, { max = 1, backlog = 1 })
      local waiting, stream, err, code = {}, nil, nil, nil
      local start = lunad.now()
      repeat
        stream, err, code = net.connect(server:address(), { timeout = 0.3 })
        waiting[#waiting + 1] = stream
      until not stream
      fails("ETIMEDOUT", stream, err, code)
      truthy(err:find(server:address() .. " has not answered within 0.3 s", 1, true), err)
      truthy(lunad.now() - start < 15)
    ]]
  end)

  it("does not hold the loop while a name is looked up", function()
    inside [[
      local beats = 0
      lunad.every(0.001, function() beats = beats + 1 end)
      net.connect "no-such-host.invalid:80"
      lunad.sleep(0.05)
      truthy(beats > 3)
    ]]
  end)

  it("leaves nothing behind when it is cancelled", function()
    inside [[
      local uv = require "luv"
      local function count() local n = 0 uv.walk(function() n = n + 1 end) return n end
      local before = count()
      local task = lunad.task(function() return net.connect "no-such-host.invalid:80" end)
      task:cancel()
      task = lunad.task(function() return net.connect "127.0.0.1:1" end)
      task:cancel()
      task = lunad.task(function() return net.connect("localhost:1", { timeout = 5 }) end)
      task:cancel()
      eventually(function() return count() == before end)
    ]]
  end)

  it("refuses wrong arguments", function()
    inside [[
      raises("is not host:port", net.connect, "localhost")
      raises("is not host:port", net.connect, "localhost:65536")
      raises("is not host:port", net.connect, "::1:80")
      raises("is not host:port", net.connect, "a:99999999999999999999")
      raises("bad argument #1 to 'connect' (string expected, got nil)", net.connect)
      raises("connect: unknown option 'timeot'", net.connect, "localhost:1", { timeot = 1 })
      raises("connect: option 'timeout': number expected, got string", net.connect, "a:1", { timeout = "1" })
      raises("connect: option 'timeout': seconds", net.connect, "a:1", { timeout = -1 })
      raises("connect: option 'timeout': seconds", net.connect, "a:1", { timeout = 0 / 0 })
    ]]
  end)

  it("tries the addresses of a name beside each other", function()
    if not support.is_root then
      pending "only root can give a name several addresses"
      return
    end
    local hosts = box:write("hosts", "127.0.0.2 both.test\n127.0.0.3 both.test\n")
    local script = box:write("race.lua", NET .. [[
      local lunad = require "lunad"
      local server = assert(net.serve("127.0.0.3:0", function(s) s:write "third" end))
      local port = server:address():match ":(%d+)$"
      -- The other address does not answer, because its queue is full.
      assert(lunad.listen("127.0.0.2:" .. port, { backlog = 1 }))
      local waiting, stream = {}, nil
      repeat
        stream = net.connect("127.0.0.2:" .. port, { timeout = 0.3 })
        waiting[#waiting + 1] = stream
      until not stream
      stream = assert(net.connect("both.test:" .. port, { timeout = 20 }))
      print(stream:read "all")
      lunad.stop()
    ]])
    local result = box:shell([[mount --bind "$2" /etc/hosts && exec "$1" run "$3"]], { hosts, script },
      { through = { "unshare", "--mount" } })
    assert.matches("third", result.out .. result.err)
  end)
end)

describe("net.serve", function()
  local box = support.with_box(before_each, after_each)

  local function inside(text, options)
    return box:inside(NET .. text .. " lunad.stop()", options)
  end

  it("serves each client in a task, and closes its stream at the end", function()
    inside [[
      local server = net.serve("127.0.0.1:0", function(s)
        for line in s:lines() do s:write(line, "\n") end
      end)
      local streams = {}
      for i = 1, 50 do streams[i] = truthy(net.connect(server:address())) end
      for i = 1, 50 do streams[i]:write(i, "\n") end
      for i = 1, 50 do equal(tostring(i), streams[i]:read "line") end
      equal(50, server:clients())
      for i = 1, 50 do truthy(streams[i]:shutdown()) equal(nil, streams[i]:read()) end
      eventually(function() return server:clients() == 0 end)
    ]]
  end)

  it("leaves clients in the queue while it serves as many as it may", function()
    inside [[
      local server = net.serve("127.0.0.1:0", function(s) s:write "hello" s:read() end, { max = 2 })
      local streams = {}
      for i = 1, 5 do streams[i] = truthy(net.connect(server:address())) end
      equal("hello", streams[1]:read())
      equal("hello", streams[2]:read())
      fails("ETIMEDOUT", streams[3]:read(1, 0.1))
      equal(2, server:clients())
      for i = 1, 3 do streams[i]:close() equal("hello", streams[i + 2]:read()) end
    ]]
  end)

  it("ends a client that is idle", function()
    inside [[
      local result
      local function serve(s) result = table.pack(s:read "line") end
      local server = net.serve("127.0.0.1:0", serve, { idle = 0.1 })
      local stream = net.connect(server:address())
      equal(nil, stream:read())
      fails("ETIMEDOUT", table.unpack(result, 1, 3))
    ]]
  end)

  it("ends a client that reads nothing, and serves a slow one", function()
    inside [[
      local results = {}
      local server = net.serve("127.0.0.1:0", function(s)
        results[#results + 1] = table.pack(s:write(("x"):rep(30e6)))
      end, { idle = 0.3 })
      local stream = net.connect(server:address())
      eventually(function() return results[1] end)
      fails("ETIMEDOUT", table.unpack(results[1], 1, 3))
      stream:close()
      stream = net.connect(server:address())
      local size, chunk = 0, nil
      repeat
        chunk = stream:read()
        size = size + #(chunk or "")
        lunad.sleep(0.001)
      until not chunk
      equal(30e6, size + 0.0)
      equal(true, results[2][1])
    ]]
  end)

  it("reports an error of its function, and goes on", function()
    local result = inside([[
      local server = net.serve("127.0.0.1:0", function(s) error("no " .. s:read "line") end)
      local stream = net.connect(server:address())
      stream:write "luck\n"
      equal(nil, stream:read())
      stream = net.connect(server:address())
      stream:write "more\n"
      equal(nil, stream:read())
    ]], { errors = true })
    assert.matches("inside.lua:1: no luck", result.err)
    assert.matches("no more", result.err)
  end)

  it("closes: no more clients are taken, and those that are served finish", function()
    inside [[
      local server = net.serve("127.0.0.1:0", function(s) s:write(s:read "line") end)
      local stream = net.connect(server:address())
      eventually(function() return server:clients() == 1 end)
      server:close()
      server:close()
      stream:write "last\n"
      equal("last", stream:read "all")
    ]]
  end)

  it("lets a script finish once it is closed", function()
    box:inside(NET .. [[
      local server = net.serve("127.0.0.1:0", function() end)
      server:close()
    ]])
  end)

  it("waits while there are no descriptors, and says so once", function()
    local result = inside([[
      local served = 0
      local server = net.serve("127.0.0.1:0", function(s) served = served + 1 s:read() end)
      local streams, files = {}, {}
      for i = 1, 4 do streams[i] = net.connect(server:address()) end
      eventually(function() return served == 4 end)
      local uv = require "luv"
      local late = uv.new_tcp()
      local is_connected
      repeat local file = io.open "/dev/null" files[#files + 1] = file until not file
      files[#files]:close()
      files[#files] = nil
      local port = tonumber(server:address():match ":(%d+)$")
      late:connect("127.0.0.1", port, function() is_connected = true end)
      eventually(function() return is_connected end)
      lunad.sleep(0.3)
      equal(4, served)
      for _, file in ipairs(files) do file:close() end
      eventually(function() return served == 5 end)
    ]], { args = { "--rlimit", "nofile=64" } })
    local _, count = result.err:gsub("clients have to wait, 4 are served: EMFILE", "")
    assert.equal(1, count, result.err)
  end)

  it("refuses wrong arguments", function()
    inside [[
      raises("bad argument #2 to 'serve' (function expected, got nil)", net.serve, "127.0.0.1:0")
      raises("serve: unknown option 'maxx'", net.serve, "127.0.0.1:0", print, { maxx = 1 })
      raises("serve: option 'max': number expected", net.serve, "127.0.0.1:0", print, { max = "1" })
      raises("at least one client", net.serve, "127.0.0.1:0", print, { max = 0 })
      raises("bad argument #1", net.serve, "nowhere", print)
      local server = net.serve("127.0.0.1:0", print)
      raises("lunad.server expected, got table", server.close, {})
      fails("ENOENT", net.serve("unix:/no/such/folder", print))
    ]]
  end)
end)

-- A service that answers each line with the number of its generation.
local function service(address, options)
  return NET .. ([[
    net.serve(%q, function(s)
      for line in s:lines() do s:write(line, " ", lunad.generation, "\n") end
    end, %s)
  ]]):format(address, options)
end

describe("net.serve", function()
  local box = support.with_box(before_each, after_each)

  it("refuses wrong arguments at the script's line", function()
    box:inside(NET .. [[
      local http = require "lunad.http"
      local line = debug.getinfo(1, "l").currentline
      local ok, err = pcall(function() net.serve("bogus", print) end)
      local words = ": bad argument #1 to 'serve' ('bogus': it has no port"
      truthy(not ok and err:find(":" .. line + 1 .. words, 1, true), err)
      ok, err = pcall(function() http.serve("bogus", print) end)
      truthy(not ok and err:find(":" .. line + 4 .. words, 1, true), err)
      raises("option 'max': a whole number", net.serve, "127.0.0.1:0", print, { max = 1.5 })
      raises("option 'max': a whole number", net.serve, "127.0.0.1:0", print, { max = 0 / 0 })
      lunad.stop()
    ]])
  end)

  it("closes the socket that nobody else has, and its file", function()
    box:inside((NET .. [[
      local path = "%s"
      local one = truthy(net.serve("127.0.0.1:0", print))
      local two = truthy(net.serve("127.0.0.1:0", function(s) s:write "two" end))
      local file = truthy(net.serve("unix:" .. path, print))
      equal(one:address(), two:address())
      lunad.sleep(0)
      equal(1, #lunad.stats().tasks) -- this one: those that accept are lunad's own
      equal(1, lunad.stats().totals.tasks)
      one:close()
      equal("two", truthy(net.connect(two:address())):read "all")
      equal(2, #lunad.stats().listeners)
      two:close()
      fails("ECONNREFUSED", net.connect(two:address()))
      file:close()
      fails("ENOENT", net.connect("unix:" .. path))
      equal(0, #lunad.stats().listeners)
      local again = truthy(net.serve("unix:" .. path, function(s) s:write "again" end))
      equal("again", truthy(net.connect("unix:" .. path)):read "all")
      lunad.stop()
    ]]):format(box:path "u.sock"))
  end)
end)

describe("net.serve over a reload", function()
  local box = support.with_box(before_each, after_each)

  it("finishes the clients that it serves, and leaves the queue to the new generation", function()
    local address = "unix:" .. box:path "a.sock"
    box:serve(service(address, "{ max = 1 }"))
    local client = box:write("client.lua", NET .. ([[
      local lunad = require "lunad"
      local function ask(s, word) assert(s:write(word, "\n")) return s:read("line", 20) end
      local one = assert(net.connect(%q))
      print(ask(one, "one"))
      local two = assert(net.connect(%q)) -- waits in the queue: there is a place for one
      two:write "two\n"
      print(lunad.exec({ %q, "reload", "s" }).ok)
      print(two:read("line", 20))
      print(ask(one, "one again"))
      one:close()
      local three = assert(net.connect(%q))
      two:close()
      print(ask(three, "three"))
      lunad.stop()
    ]]):format(address, address, support.binary, address))
    local out = box:ok("run", client)
    assert.equal("one 1\ntrue\ntwo 2\none again 1\nthree 2\n", out)
  end)

  it("does not accept a client with code that is refused", function()
    local address = "unix:" .. box:path "a.sock"
    box:serve(service(address, "nil"))
    local client = box:write("client.lua", NET .. ([[
      local lunad = require "lunad"
      for _ = 1, 200 do
        local s <close> = assert(net.connect(%q))
        s:write "x\n"
        local line = s:read("line", 20)
        assert(line == "x 1", line)
      end
      print "done"
      lunad.stop()
    ]]):format(address))
    local asked = box:spawn { "run", client }
    repeat
      asked.turn()
      assert.equal(1, box:reload(service(address, "nil") .. " error 'refused'").code)
    until asked.is_over()
    assert.equal("done\n", asked.out(), asked.err())
  end)
end)

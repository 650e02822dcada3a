-- lunad.socket: LuaSocket's interface for tasks.

local luasocket = require "support.luasocket"
local support = require "support"

local PRELUDE = luasocket.PRELUDE .. [[ local socket = require "lunad.socket" ]]

describe("lunad.socket", function()
  local box = support.with_box(before_each, after_each)

  -- Run a script that needs LuaSocket inside lunad.
  local function inside(text, options)
    if not luasocket.is_there then
      pending "LuaSocket is not installed (Debian: lua-socket)"
    end
    return box:inside(PRELUDE .. text .. "\nlunad.stop()", options)
  end

  it("sends and receives as LuaSocket does", function()
    inside [[
      local client, served = pair()
      equal("13.0,nil,nil", show(client:send "one\r\ntwo\nrest"))
      equal("one,nil,nil", show(served:receive()))
      equal("before two", (served:receive("*l", "before ")))
      equal("re", (served:receive(2)))
      equal("12s", (served:receive(3, "12")))
      equal("abc", (served:receive(2, "abc")))
      client:send "\rin\r\rside\r\n; and all"
      equal("tinside", (served:receive()))
      client:close()
      equal("all: ; and all", (served:receive("*a", "all: ")))
      equal("nil,closed,", show(served:receive "*a"))
      equal("nil,closed,x", show(served:receive("*l", "x")))
      equal("nil,closed,0.0", show(client:send "x"))
    ]]
  end)

  it("keeps the loop free while many tasks wait", function()
    inside [[
      local waiting = 0
      local port = serve(function(client)
        waiting = waiting + 1
        eventually(function() return waiting == 50 end)
        some_beats()
        client:send(client:receive() .. " served\n")
      end)
      local tasks = {}
      for i = 1, 50 do
        tasks[i] = lunad.task(function()
          local client = assert(socket.connect("localhost", port))
          client:send(i .. "\n")
          return (client:receive())
        end)
      end
      for i = 1, 50 do equal(i .. " served", tasks[i]:wait()) end
    ]]
  end)

  it("gives what has come when the time is up or the other side closes", function()
    inside [[
      local client, served = pair()
      served:settimeout(0.02)
      client:send "par\rt"
      eventually(function() return #socket.select({ served }, nil, 0) == 1 end)
      equal("nil,timeout,part", show(served:receive()))
      client:send "some"
      equal("nil,timeout,1some", show(served:receive(9, "1")))
      equal("nil,timeout,", show(served:receive "*a"))
      client:send "end"
      client:close()
      equal("nil,closed,end", show(served:receive(5)))
    ]]
  end)

  it("waits for a byte when none is asked for", function()
    inside [[
      local client, served = pair()
      served:settimeout(0.01)
      equal("nil,timeout,", show(served:receive(0)))
      client:send "x"
      served:settimeout()
      equal(",nil,nil", show(served:receive(0)))
      equal("x", (served:receive(1)))
    ]]
  end)

  it("passes on millions of bytes, whole and in lines, beside a beat", function()
    inside [[
      local line = ("0123456789"):rep(10000)
      local port = serve(function(client)
        for _ = 1, 40 do client:send(line .. "\n") end
        client:send(line:rep(40))
        client:send(line:rep(40))
      end)
      local client = assert(socket.connect("127.0.0.1", port))
      for _ = 1, 40 do equal(true, client:receive() == line) end
      equal(true, client:receive(#line * 40) == line:rep(40))
      equal(true, client:receive "*a" == line:rep(40))
      equal(40 * (#line + 1) + 80 * #line, math.tointeger((client:getstats())))
      truthy(beats > 1)
    ]]
  end)

  it("lets the loop turn under a flood of data, datagrams and events", function()
    inside [[
      local server = assert(socket.bind("127.0.0.1", 0))
      lunad.spawn { "bash", "-c", "exec yes >/dev/tcp/127.0.0.1/" .. port_of(server) }
      local client = assert(server:accept())
      local function while_beats(fn)
        local before = beats
        while beats < before + 5 do fn() end
      end
      while_beats(function() equal("y", (client:receive())) end)
      while_beats(function() equal(1, #socket.select({ client })) end)
      local udp = socket.udp4()
      udp:setsockname("127.0.0.1", 0)
      while_beats(function()
        udp:sendto("x", "127.0.0.1", port_of(udp))
        equal("x", (udp:receivefrom()))
      end)
    ]]
  end)

  it("sends a part of a string, and says how far it came", function()
    inside [[
      local client, served = pair()
      equal("4.0,nil,nil", show(client:send("0123456", 3, 4)))
      equal("7.0,nil,nil", show(client:send("0123456", -2)))
      equal("2,nil,nil", show(client:send("0123456", 3, 2)))
      equal("2356", (served:receive(4)))
      local data = ("x"):rep(20000000)
      client:settimeout(0.05)
      local index, err, sent = client:send(data)
      equal("nil,timeout", show(index, err))
      truthy(sent > 0 and sent < #data)
      client:settimeout()
      local reader = lunad.task(function() return #served:receive(#data) end)
      equal(#data, math.tointeger((client:send(data, sent + 1))))
      equal(#data, reader:wait())
    ]]
  end)

  it("has LuaSocket's two timeouts", function()
    inside [[
      local client, served = pair()
      equal("-1,-1", show(client:gettimeout()))
      equal(1, client:settimeout(0.5))
      client:settimeout(2, "t")
      equal("0.5,2", show(client:gettimeout()))
      client:settimeout(nil, "t")
      client:settimeout(math.huge)
      equal("inf,-1", show(client:gettimeout()))
      raises("bad argument #2 to 'settimeout' (invalid timeout mode)", client.settimeout, client, 1, "x")
      raises("bad argument #1 to 'settimeout' (number expected, got table)", client.settimeout, client, {})
      client:settimeout(0.03, "t")
      local start = lunad.now()
      lunad.task(function() for i = 1, 9 do served:send "x" lunad.sleep(0.01) end end)
      equal("timeout", select(2, client:receive(100)))
      truthy(lunad.now() - start >= 0.03)
    ]]
  end)

  it("never suspends with a timeout of 0, and says where it cannot", function()
    inside [[
      local client, served = pair()
      local told = coroutine.wrap(function()
        client:settimeout(0)
        equal("nil,timeout,", show(client:receive()))
        client:send "x"
        equal(0, #socket.select({ client }, nil, 0))
        client:settimeout()
        return select(2, pcall(client.receive, client))
      end)()
      truthy(told:find("receive: it cannot suspend here: this coroutine is not a task", 1, true), told)
      equal("x", (served:receive(1)))
      told = coroutine.wrap(function() return select(2, pcall(socket.connect, "localhost", 1)) end)()
      truthy(told:find("connect: it cannot suspend here", 1, true), told)
      equal("connection refused", coroutine.wrap(function()
        local object = socket.tcp()
        object:settimeout(0)
        local _, err = object:connect("127.0.0.1", 1)
        return err == "timeout" and "connection refused" or err
      end)())
    ]]
  end)

  it("says why it cannot connect", function()
    inside [[
      equal("nil,connection refused", show(socket.connect("127.0.0.1", 1)))
      equal("nil,connection refused", show(socket.connect("localhost", "1")))
      equal("nil,host or service not provided, or not known", show(socket.connect("no.such.invalid", 1)))
      equal("nil,service not supported for socket type", show(socket.connect("localhost", "no-service")))
      local server = assert(socket.bind("127.0.0.1", 0, 0))
      local full, client, err = {}, nil, nil
      for i = 1, 20 do -- nobody accepts: the queue is full before long
        client = socket.tcp()
        client:settimeout(0.02)
        full[i], err = client, select(2, client:connect("127.0.0.1", port_of(server)))
        if err then break end
      end
      equal("timeout", err)
    ]]
  end)

  it("connects to addresses of either family, from an address of one's own", function()
    inside [[
      local port = serve(function(client) client:send(client:getpeername() .. "\n") end)
      local client = assert(socket.connect("localhost", port, "127.0.0.5", 0))
      equal("127.0.0.5", (client:receive()))
      equal("127.0.0.1", (assert(socket.connect4("localhost", port)):receive()))
      local six = socket.bind("::1", 0)
      if six then
        local other = assert(socket.connect6("::1", port_of(six)))
        equal("inet6", select(3, assert(six:accept()):getpeername()))
        equal("inet6", other:getfamily())
        truthy(not socket.connect4("::1", port_of(six)))
      end
      raises("bad argument #5 to 'connect' (invalid option 'x')", socket.connect, "::1", 1, nil, nil, "x")
    ]]
  end)

  it("connects without waiting, and select tells when it is done", function()
    inside [[
      local server = assert(socket.bind("127.0.0.1", 0))
      local client = socket.tcp()
      client:settimeout(0)
      local ok, err = client:connect("127.0.0.1", port_of(server))
      truthy(ok or err == "timeout", err)
      local _, writable = socket.select(nil, { client })
      equal(client, writable[1])
      client:connect("127.0.0.1", port_of(server)) -- asks how it went
      equal("nil,already connected", show(client:connect("127.0.0.1", port_of(server))))
      equal("2.0", show((client:send "hi")))
    ]]
  end)

  it("tells a task that its socket was closed meanwhile", function()
    inside [[
      local client, served = pair()
      local server, udp = assert(socket.bind("127.0.0.1", 0)), socket.udp4()
      local _, stuck = pair()
      local tasks = {
        lunad.task(function() return show(client:receive()) end),
        lunad.task(function() return show(server:accept()) end),
        lunad.task(function() return show(udp:receivefrom()) end),
        lunad.task(function() return show(udp:receive()) end),
        lunad.task(function() return select(2, stuck:send(("x"):rep(2e7))) end),
        lunad.task(function() return socket.select({ client, server })[1]:getfd() < 0 and "closed" end),
        lunad.task(function() return socket.select({ client })[1]:getfd() < 0 and "closed" end),
      }
      some_beats()
      for _, object in ipairs { client, server, udp, stuck } do object:close() end
      for i, task in ipairs(tasks) do truthy(task:wait():find("closed", 1, true), i) end
      equal("nil,closed,", show(client:receive()))
      equal("nil,closed", show(udp:receive()))
      equal("1.0", show(client:close()))
    ]]
  end)

  it("loses nothing when a task is cancelled, and nothing waits any more", function()
    inside [[
      local client, served = pair()
      local server = assert(socket.bind("127.0.0.1", 0))
      local tasks = {
        lunad.task(function() client:receive() end),
        lunad.task(function() client:receive(100) end),
        lunad.task(function() server:accept() end),
        lunad.task(function() socket.select({ client, server }, nil, 60) end),
        lunad.task(function() socket.sleep(60) end),
      }
      served:send "half a "
      some_beats()
      for _, task in ipairs(tasks) do task:cancel() equal(false, task:running()) end
      equal(1, lunad.stats().totals.tasks) -- this one
      served:send "line\n"
      equal("half a line", (client:receive()))
      lunad.task(function() socket.connect("127.0.0.1", port_of(server)) end)
      truthy(server:accept())
    ]]
  end)

  it("is used by a task that reads and one that writes", function()
    inside [[
      local client, served = pair()
      local size = 5000000
      lunad.task(function() served:send(served:receive(size)) end)
      local writer = lunad.task(function() return client:send(("x"):rep(size)) end)
      local reader = lunad.task(function() return #client:receive(size) end)
      equal(size, reader:wait())
      equal(size, math.tointeger((writer:wait())))
    ]]
  end)

  it("lets tasks that write to the same socket write one after the other", function()
    inside [[
      local client, served = pair()
      local size, writers = 3000000, {}
      for i = 1, 4 do
        writers[i] = lunad.task(function() return client:send(tostring(i):rep(size) .. "\n") end)
      end
      client:settimeout(0)
      equal("nil,timeout,0", show(client:send "x"))
      client:settimeout()
      for i = 1, 4 do
        local line = served:receive()
        equal(true, line == line:sub(1, 1):rep(size))
      end
      for i = 1, 4 do equal(size + 1, math.tointeger((writers[i]:wait()))) end
    ]]
  end)

  it("counts as LuaSocket counts", function()
    inside [[
      local client, served = pair()
      client:send "12345678"
      equal("123", (served:receive(3)))
      equal(true, served:dirty())
      local received, sent, age = served:getstats()
      equal("3.0,0.0", show(received, sent))
      truthy(age >= 0)
      equal(8, math.tointeger((select(2, client:getstats()))))
      served:setstats(100)
      equal("45678", (served:receive(5)))
      equal("105.0", show((served:getstats())))
      equal(false, served:dirty())
    ]]
  end)

  it("raises misuse at the caller's line", function()
    inside [[
      local client, served = pair()
      local server = assert(socket.bind("127.0.0.1", 0))
      truthy(raises("bad self (tcp{client} expected)", server.receive, server):find "^[^:]*inside.lua:")
      raises("calling 'accept' on bad self (tcp{server} expected)", client.accept, client)
      raises("calling 'send' on bad self (a socket expected, got string)", client.send, "x")
      raises("bad argument #1 to 'send' (string expected, got no value)", client.send, client)
      raises("bad argument #2 to 'send' (number expected, got table)", client.send, client, "x", {})
      truthy(raises("bad argument #1 to 'setoption' (unsupported option `nope')", client.setoption, client,
        "nope", 1):find "^[^:]*inside.lua:")
      raises("calling 'shutdown' on bad self (tcp{client} expected)", server.shutdown, server)
      for _, pattern in ipairs { -1, "l", "*n", true, "*" } do
        raises("bad argument #1 to 'receive' (invalid receive pattern)", client.receive, client, pattern)
      end
      raises("bad argument #1 to 'connect' (string expected, got no value)", socket.connect)
      raises("bad argument #1 to 'sleep' (number expected, got no value)", socket.sleep)
    ]]
  end)

  it("opens descriptors that other programs do not inherit", function()
    inside [[
      local client, served = pair()
      local udp = socket.udp4()
      for _, object in ipairs { client, served, udp } do
        local fd = math.tointeger(object:getfd())
        local pipe = io.popen(("test -e /proc/self/fd/%d && echo inherited"):format(fd))
        equal("", pipe:read "a")
        pipe:close()
      end
    ]]
  end)

  it("takes over a descriptor that is not the host's", function()
    inside [[
      local fd = assert(lunad.listen "127.0.0.1:0")
      local server = socket.tcp()
      server:setfd(fd)
      server:listen()
      server:settimeout(0.01)
      equal("nil,timeout", show(server:accept()))
      local object = socket.tcp()
      raises("setfd: EBADF", object.setfd, object, 987654)
      object:setfd(-1)
    ]]
  end)
end)

describe("select of lunad.socket", function()
  local box = support.with_box(before_each, after_each)

  local function inside(text, options)
    if not luasocket.is_there then
      pending "LuaSocket is not installed (Debian: lua-socket)"
    end
    return box:inside(PRELUDE .. text .. "\nlunad.stop()", options)
  end

  it("gives lists that can also be asked for an object", function()
    inside [[
      local client, served = pair()
      local other, far = pair()
      served:send "x"
      local readable, writable, err = socket.select({ client, other }, { other })
      equal("1,1,nil", show(#readable, #writable, err))
      equal(client, readable[1])
      equal(1, readable[client])
      equal(1, writable[other])
      equal(nil, readable[other])
    ]]
  end)

  it("waits for many sockets at once beside a beat", function()
    inside [[
      local ends, list = {}, {}
      for i = 1, 40 do list[i], ends[i] = pair() end
      lunad.task(function() some_beats() ends[17]:send "x" end)
      local readable = socket.select(list, nil, 60)
      equal("1,1", show(#readable, readable[list[17] ]))
      local _, writable = socket.select(list, list)
      equal(40, #writable)
    ]]
  end)

  it("says when the time is up, without sockets too", function()
    inside [[
      local client, served = pair()
      for _, list in ipairs { { client }, { client, served }, {} } do
        local start = lunad.now()
        local readable, writable, err = socket.select(list, nil, 0.02)
        equal("0,0,timeout", show(#readable, #writable, err))
        truthy(lunad.now() - start >= 0.02)
      end
      equal("timeout", select(3, socket.select(nil, nil, 0)))
    ]]
  end)

  it("counts data that was read ahead, and takes whatever has a descriptor", function()
    inside [[
      local client, served = pair()
      served:send "one\ntwo\n"
      equal("one", (client:receive()))
      equal(client, socket.select({ client }, nil, 60)[1])
      equal("two", (client:receive()))
      local core = require "socket.core"
      local raw = assert(core.udp())
      assert(raw:setsockname("127.0.0.1", 0))
      local any = { getfd = function() return raw:getfd() end }
      local sender = socket.udp()
      lunad.task(function() some_beats() sender:sendto("x", "127.0.0.1", port_of(raw)) end)
      equal(any, socket.select({ any, client, { getfd = function() return -1 end } })[1])
    ]]
  end)

  it("takes descriptors beyond 1024, and refuses what LuaSocket refuses", function()
    inside([[
      local files = {}
      for i = 1, 1100 do files[i] = assert(io.open "/dev/null") end
      local client, served = pair()
      truthy(client:getfd() > 1024)
      served:send "x"
      equal(client, socket.select({ client, served }, nil, 60)[1])
      raises("bad argument #1 to 'select' (table expected, got number)", socket.select, 1)
      raises("bad argument #3 to 'select' (number expected, got string)", socket.select, nil, nil, "x")
      raises("select failed", socket.select, { { getfd = function() return 99999 end } }, nil, 0)
    ]], { args = { "--rlimit", "nofile=2000" } })
  end)
end)

-- lunad.socket in the place of LuaSocket: what others have written for that.

local luasocket = require "support.luasocket"
local support = require "support"

local PRELUDE = luasocket.PRELUDE .. [[
  local function read_head(client)
    local first = client:receive()
    while (client:receive() or "") ~= "" do end
    return first
  end
  -- Run fn(i) in `count` tasks; returns their first results.
  local function side_by_side(count, fn)
    local tasks, results = {}, {}
    for i = 1, count do tasks[i] = lunad.task(fn, i) end
    for i = 1, count do results[i] = tasks[i]:wait() end
    return results
  end
]]

local CERTIFICATE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
  .. "-keyout key.pem -out cert.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>&1"

describe("lunad.socket.install", function()
  local box = support.with_box(before_each, after_each)

  -- Run a script inside lunad; `needed` are the libraries that have to be there.
  local function inside(text, needs_luasec)
    if not luasocket.is_there or needs_luasec and not luasocket.has_luasec then
      pending "LuaSocket or LuaSec is not installed (Debian: lua-socket, lua-sec)"
    end
    return box:inside(PRELUDE .. text .. "\nlunad.stop()")
  end

  -- Make cert.pem and key.pem in the box.
  local function make_certificate()
    local result = box:shell(CERTIFICATE)
    assert.equal(0, result.code, result.out)
  end

  it("puts its functions where LuaSocket's are, whoever has required that before", function()
    inside [[
      local before = require "socket"
      local connect = before.connect
      local socket = require("lunad.socket").install()
      equal(before, socket)
      equal(socket, require "socket")
      equal(socket, require "socket.core")
      equal(require("lunad.socket").connect, socket.connect)
      truthy(connect ~= socket.connect)
      for name, value in pairs(require "lunad.socket") do
        if name ~= "install" then equal(type(value), type(socket[name])) end
      end
    ]]
  end)

  it("does nothing the second time", function()
    inside [[
      local install = require("lunad.socket").install
      local socket = install()
      local connect, wrap = socket.connect, package.preload.ssl
      equal(socket, install())
      equal(connect, socket.connect)
      equal(wrap, package.preload.ssl)
    ]]
  end)

  it("lets requests of socket.http run side by side", function()
    inside [[
      require("lunad.socket").install()
      local http, ltn12 = require "socket.http", require "ltn12"
      local waiting = 0
      local port = serve(function(client)
        local path = read_head(client):match "^GET (%S+)"
        waiting = waiting + 1
        eventually(function() return waiting >= 20 end)
        client:send "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nfor\r\n"
        some_beats()
        client:send(("%x\r\n %s\r\n0\r\n\r\n"):format(#path + 1, path))
      end)
      local bodies = side_by_side(20, function(i)
        local body, status = http.request(("http://localhost:%d/%d"):format(port, i))
        equal(200, status)
        return body
      end)
      for i = 1, 20 do equal("for /" .. i, bodies[i]) end
      local sent = {}
      local ok, err = http.request { url = "http://127.0.0.1:1/", sink = ltn12.sink.table(sent) }
      equal("connection refused", not ok and err)
      http.TIMEOUT = 0.02
      equal("timeout", select(2, http.request("http://127.0.0.1:" .. serve(function() lunad.sleep(9) end))))
    ]]
  end)

  it("does that also for a socket.http that was required before", function()
    inside [[
      local http = require "socket.http"
      require("lunad.socket").install()
      local port = serve(function(client)
        read_head(client)
        some_beats()
        client:send "HTTP/1.0 200 OK\r\n\r\nbody"
      end)
      local bodies = side_by_side(3, function() return (http.request("http://127.0.0.1:" .. port)) end)
      equal("body body body", table.concat(bodies, " "))
    ]]
  end)

  it("lets socket.smtp send mail", function()
    inside [[
      require("lunad.socket").install()
      local smtp = require "socket.smtp"
      local mails = {}
      local port = serve(function(client)
        client:send "220 hello\r\n"
        local in_data, text = false, {}
        for line in function() return (client:receive()) end do
          some_beats()
          if in_data then
            text[#text + 1] = line
            in_data = line ~= "."
            if not in_data then client:send "250 taken\r\n" end
          elseif line:find "^DATA" then
            in_data = true
            client:send "354 go on\r\n"
          else
            client:send(line:find "^QUIT" and "221 bye\r\n" or "250 ok\r\n")
          end
        end
        mails[#mails + 1] = table.concat(text, "\n")
      end)
      side_by_side(3, function(i)
        return assert(smtp.send { from = "<a@localhost>", rcpt = "<b@localhost>", server = "127.0.0.1",
          port = port, source = smtp.message { headers = { subject = "mail " .. i }, body = "text" } })
      end)
      eventually(function() return #mails == 3 end)
      local all = table.concat(mails)
      for i = 1, 3 do truthy(all:lower():find("subject: mail " .. i, 1, true), all) end
    ]]
  end)

  it("lets clients of Redis wait side by side", function()
    if not os.execute "command -v redis-server >/dev/null" then
      pending "Redis is not installed (Debian: redis-server)"
    end
    inside [[
      local socket = require("lunad.socket").install()
      local probe = assert(socket.bind("127.0.0.1", 0))
      local port = port_of(probe)
      probe:close()
      assert(lunad.spawn { "redis-server", "--port", tostring(port), "--bind", "127.0.0.1", "--save", "",
        "--dir", lunad.script:match "^(.*)/", stdout = "null" })
      local function ask(client, command)
        assert(client:send(command .. "\r\n"))
        local kind, text = assert(client:receive()):match "^(.)(.*)$"
        if kind == "*" and text ~= "-1" then -- of two bulk strings
          client:receive()
          client:receive()
          kind, text = assert(client:receive()):match "^(.)(.*)$"
        end
        return kind == "$" and client:receive(text + 2):sub(1, -3) or text
      end
      local client
      eventually(function() client = socket.connect("127.0.0.1", port) return client end)
      eventually(function() return ask(client, "PING") == "PONG" end)
      local waiting = 0
      local results = {}
      for i = 1, 10 do
        lunad.task(function()
          local own = assert(socket.connect("127.0.0.1", port))
          waiting = waiting + 1
          local job = ask(own, "BLPOP jobs 60")
          results[#results + 1] = job
        end)
      end
      eventually(function() return waiting == 10 and ask(client, "CLIENT LIST"):find "cmd=blpop" end)
      some_beats()
      for i = 1, 10 do ask(client, "RPUSH jobs job" .. i) end
      eventually(function() return #results == 10 end)
      table.sort(results)
      equal("job1 job10 job2 job3 job4 job5 job6 job7 job8 job9", table.concat(results, " "))
    ]]
  end)

  it("returns errors from try to protect, after a finalizer that may suspend", function()
    inside [[
      local original = require("socket.core").protect
      local socket = require("lunad.socket").install()
      local closed = 0
      local try = socket.newtry(function() lunad.sleep(0.001) closed = closed + 1 end)
      equal("1,nil,3", show(socket.protect(function() lunad.sleep(0.001) return try(1, nil, 3) end)()))
      equal("nil,why", show(socket.protect(function() try(nil, "why", 3) end)()))
      equal("nil,nil", show(socket.protect(function() socket.try(false) end)()))
      equal("nil,why", show(original(function() socket.try(nil, "why") end)()))
      equal(1, closed)
      raises("another error", socket.protect(function() error "another error" end))
      local task = lunad.task(socket.protect(function() lunad.sleep(60) end))
      task:cancel()
      equal("cancelled", select(2, task:wait()))
    ]]
  end)

  it("makes Unix sockets that suspend", function()
    inside [[
      require("lunad.socket").install()
      local unix = require "socket.unix"
      local path = lunad.script .. ".sock"
      local server = unix()
      assert(server:bind(path))
      assert(server:listen())
      local client = unix.stream()
      equal("refused", client:connect(path .. "x") or "refused")
      client = unix.stream()
      assert(client:connect(path))
      lunad.task(function() some_beats() client:send "line\n" client:close() end)
      local served = assert(server:accept())
      equal("line", (served:receive()))
      equal("closed", select(2, served:receive()))
      local one, other = unix.dgram(), unix.dgram()
      assert(one:bind(path .. ".dgram"))
      lunad.task(function() some_beats() other:sendto("datagram", path .. ".dgram") end)
      local data, from = one:receivefrom()
      equal("datagram", data)
      equal("", from or "")
    ]]
  end)

  it("waits where the queue of a Unix socket is full", function()
    inside [[
      local unix = require("lunad.socket").unix
      local path = lunad.script .. ".sock"
      local server = unix.stream()
      assert(server:bind(path))
      assert(server:listen(0))
      local clients = {}
      for i = 1, 5 do
        clients[i] = lunad.task(function()
          local client = unix.stream()
          assert(client:connect(path))
          return (client:receive())
        end)
      end
      some_beats()
      for _ = 1, 5 do assert(server:accept()):send "served\n" end
      for i = 1, 5 do equal("served", clients[i]:wait()) end
      local one, other = unix.dgram(), unix.dgram()
      assert(one:bind(path .. ".dgram"))
      other:settimeout(0.02)
      local err
      repeat _, err = other:sendto("x", path .. ".dgram") until err
      equal("timeout", err)
      other:settimeout()
      lunad.task(function() some_beats() one:receive() end)
      truthy(other:sendto("x", path .. ".dgram"))
    ]]
  end)

  it("lets requests of ssl.https run side by side, and LuaSec's connections suspend", function()
    make_certificate()
    inside([[
      local ssl = require "ssl" -- before
      require("lunad.socket").install()
      local https = require "ssl.https"
      local dir = lunad.script:match "^(.*)/"
      local context = assert(ssl.newcontext { mode = "server", protocol = "any", key = dir .. "/key.pem",
        certificate = dir .. "/cert.pem" })
      local waiting, ends = 0, {}
      local port = serve(function(raw)
        local client = assert(ssl.wrap(raw, context))
        assert(client:dohandshake())
        read_head(client)
        waiting = waiting + 1
        eventually(function() return waiting >= 5 end)
        some_beats()
        client:send("HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n" .. ("x"):rep(2000000))
        client:close()
      end)
      local bodies = side_by_side(5, function()
        local body, status = https.request(("https://localhost:%d/"):format(port))
        equal(200, status)
        return body
      end)
      for i = 1, 5 do equal(true, bodies[i] == ("x"):rep(2000000)) end
    ]], true)
  end)

  -- For scripts: both ends of a connection of LuaSec.
  local PAIR = [[
    local socket = require("lunad.socket").install()
    local ssl = require "ssl"
    local dir = lunad.script:match "^(.*)/"
    local server = assert(socket.bind("127.0.0.1", 0))
    local client = assert(socket.connect("127.0.0.1", (select(2, server:getsockname()))))
    local served = assert(server:accept())
    client = assert(ssl.wrap(client, { mode = "client", protocol = "any", verify = "peer",
      cafile = dir .. "/cert.pem" }))
    served = assert(ssl.wrap(served, { mode = "server", protocol = "any", key = dir .. "/key.pem",
      certificate = dir .. "/cert.pem" }))
    client:sni "localhost"
    client:settimeout(0.02)
    local ok, err = client:dohandshake()
    equal("false wantread", ("%s %s"):format(ok, err))
    client:settimeout()
    local shaking = lunad.task(function() return served:dohandshake() end)
    equal(true, client:dohandshake())
    equal(true, shaking:wait())
    equal("localhost", served:getsniname())
    equal("TLSv1", client:info("protocol"):sub(1, 5))
  ]]

  it("keeps LuaSec's timeouts and patterns", function()
    make_certificate()
    inside(PAIR .. [[
      client:settimeout(0.02)
      equal("wantread", select(2, client:receive()))
      lunad.task(function() some_beats() served:send "one\r\ntwo" end)
      client:settimeout()
      equal("one", (client:receive()))
      equal("two", (client:receive(3)))
      client:settimeout(0.02)
      local data = ("x"):rep(20000000)
      local index, failure, sent = client:send(data)
      equal("nil wantwrite", ("%s %s"):format(index, failure))
      client:settimeout()
      local reader = lunad.task(function() return #served:receive(#data) end)
      equal(#data, math.tointeger((client:send(data, sent + 1))))
      equal(#data, reader:wait())
      equal(false, client:dirty())
    ]], true)
  end)

  it("closes LuaSec's connections under a task that waits, and where the other side reads nothing", function()
    make_certificate()
    inside(PAIR .. [[
      local reader = lunad.task(function() return select(2, client:receive()) end)
      local writer = lunad.task(function() return select(2, client:send(("x"):rep(20000000))) end)
      some_beats()
      client:settimeout(0.02)
      client:close()
      equal("closed", reader:wait())
      equal("closed", writer:wait())
      equal("closed", select(2, client:send "x"))
      client:close()
      served:settimeout(0)
      while served:send(("x"):rep(100000)) do end
      served = nil -- collected without a wait
      collectgarbage()
      collectgarbage()
      some_beats()
    ]], true)
  end)

  it("leaves a cancelled task's connection of LuaSec usable", function()
    make_certificate()
    inside(PAIR .. [[
      local reader = lunad.task(function() return client:receive() end)
      served:send "half a "
      some_beats()
      reader:cancel()
      served:send "line\n"
      equal("half a line", (client:receive()))
      served:close()
      equal("closed", select(2, client:receive()))
    ]], true)
  end)

  it("leaves TLS of lunad.net as it is", function()
    make_certificate()
    inside([[
      require("lunad.socket").install()
      local net = require "lunad.net"
      local dir = lunad.script:match "^(.*)/"
      local server = assert(net.serve("127.0.0.1:0", function(stream)
        stream:write(stream:read "line", " served\n")
      end, { tls = { cert = dir .. "/cert.pem", key = dir .. "/key.pem" } }))
      local port = server:address():match ":(%d+)$"
      local stream = assert(net.connect("localhost:" .. port, { tls = { ca = dir .. "/cert.pem" } }))
      stream:write "is\n"
      equal("is served", stream:read "line")
    ]], true)
  end)

  it("says what is missing where LuaSocket is not installed", function()
    local result = box:run { "run", "-e", [[
      package.path, package.cpath = "", ""
      print(select(2, pcall(require, "lunad.socket")))
    ]] }
    assert.matches("lunad.socket needs LuaSocket, and there is no 'socket.core' (Debian: lua-socket)",
      result.out, 1, true)
  end)
end)

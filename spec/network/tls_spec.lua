-- TLS of lunad.net, by LuaSec.

local support = require "support"

-- Makes NAME.pem and NAME.key in the folder $2 for the names $4, valid without another certificate.
local CERTIFICATE = [[
cd "$2" && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$3.key" \
  -out "$3.pem" -days 30 -subj "/CN=$3" -addext "subjectAltName=$4" 2>&1
]]

-- For scripts: certificates in DIR, and `connect(options)` to a server that echoes lines.
local ECHO = [[
local net = require "lunad.net"
local D = DIR
local main = { cert = D .. "main.pem", key = D .. "main.key" }
local function serve(tls, fn, idle)
  return truthy(net.serve("127.0.0.1:0", fn or function(s)
    for line in s:lines() do s:write("<", line, ">\n") end
  end, { tls = tls, idle = idle }))
end
]]

describe("TLS", function()
  local box = support.with_box(before_each, after_each)
  local has_luasec = pcall(require, "ssl")

  local function certificate(name, names)
    local result = box:shell(CERTIFICATE, { box.dir, name, names })
    assert.equal(0, result.code, result.out)
  end

  local function inside(text, options)
    if not has_luasec then
      pending "LuaSec is not installed (Debian: lua-sec)"
      return
    end
    certificate("main", "DNS:localhost,DNS:*.example.test,IP:127.0.0.1")
    return box:inside(ECHO:gsub("DIR", ("%q"):format(box.dir .. "/")) .. text .. " lunad.stop()", options)
  end

  it("carries a stream both ways", function()
    inside [[
      local server = serve(main)
      local stream <close> = truthy(net.connect(server:address(), { timeout = 5, tls = { ca = main.cert } }))
      equal(true, stream:write("hello\r\n", "x\n"))
      equal("<hello>", stream:read "line")
      equal("<x>", stream:read "line")
      fails("ETIMEDOUT", stream:read("line", 0.1))
      stream:write "y\n"
      equal("<y>\n", stream:read(4))
      equal(server:address(), stream:peer())
      fails("ENOTSUP", stream:shutdown())
    ]]
  end)

  it("verifies the certificate and the name in it, unless told not to", function()
    inside [[
      local server = serve(main)
      local address = server:address()
      local port = address:match ":(%d+)$"
      local function connect(host, tls)
        local stream, err, code = net.connect(host .. ":" .. port, { tls = tls })
        if stream then stream:close() end
        return stream, err, code
      end
      local ca = main.cert
      truthy(connect("127.0.0.1", { ca = ca }))
      truthy(connect("localhost", { ca = ca }))
      truthy(connect("127.0.0.1", { ca = ca, server_name = "a.example.test" }))
      truthy(connect("127.0.0.1", { ca = ca, server_name = "A.Example.TEST." }))
      truthy(connect("127.0.0.1", { verify = false }))
      local _, err = connect("127.0.0.1", true)
      truthy(err:find("certificate verify failed", 1, true), err)
      local others = { "a.b.example.test", "example.test", "main", "127.0.0.2", "localhost.example" }
      for _, name in ipairs(others) do
        local stream, why, code = connect("127.0.0.1", { ca = ca, server_name = name })
        fails("EPROTO", stream, why, code)
        truthy(why:find("its certificate is not for " .. name, 1, true), why)
      end
    ]]
  end)

  it("lets a server choose a certificate by the name that is asked for", function()
    certificate("other", "DNS:other.test")
    inside [[
      local other = { cert = D .. "other.pem", key = D .. "other.key" }
      local server = serve { cert = main.cert, key = main.key, names = { ["other.test"] = other } }
      for name, ca in pairs { ["other.test"] = other.cert, ["localhost"] = main.cert } do
        local stream = truthy(net.connect(server:address(), { tls = { ca = ca, server_name = name } }))
        stream:write "a\n"
        equal("<a>", stream:read "line")
      end
    ]]
  end)

  it("lets a server ask for the certificate of a client", function()
    certificate("client", "DNS:client.test")
    inside [[
      local client = D .. "client.pem"
      local server = serve({ cert = main.cert, key = main.key, ca = client })
      local function ask(tls)
        local stream <close> = net.connect(server:address(), { tls = tls })
        return stream and stream:write "a\n" and stream:read "line"
      end
      equal("<a>", ask { ca = main.cert, cert = client, key = D .. "client.key" })
      equal(nil, (ask { ca = main.cert }))
    ]]
  end)

  it("holds a writer back, and two writers whole", function()
    inside [[
      local written = 0
      local server = serve(main, function(s)
        local function put(char)
          return function()
            for _ = 1, 10 do
              truthy(s:write(char:rep(1000000), "\n"))
              written = written + 1
            end
          end
        end
        truthy(lunad.all { put "a", put "b" })
      end)
      local stream = truthy(net.connect(server:address(), { tls = { ca = main.cert } }))
      local before
      repeat before = written lunad.sleep(0.3) until written == before
      truthy(written < 20, written)
      local text = stream:read "all"
      equal(20 * 1000001, #text)
      for line in text:gmatch "[^\n]+" do truthy(line == line:sub(1, 1):rep(1000000), "mixed") end
    ]]
  end)

  it("does not hold the loop for a client that reads nothing, or never begins", function()
    inside [[
      local results = {}
      local server = serve(main, function(s)
        results[#results + 1] = table.pack(s:write(("x"):rep(30e6)))
      end, 0.3)
      local worst, last = 0, lunad.now()
      lunad.every(0.01, function()
        worst, last = math.max(worst, lunad.now() - last), lunad.now()
      end)
      local stream = truthy(net.connect(server:address(), { tls = { ca = main.cert } }))
      local silent = truthy(net.connect(server:address()))
      eventually(function() return results[1] end)
      fails("ETIMEDOUT", table.unpack(results[1], 1, 3))
      lunad.sleep(0.2)
      truthy(worst < 3, worst)
    ]]
  end)

  it("tells a task that waits when the stream is closed", function()
    inside [[
      local server = serve(main)
      local stream = truthy(net.connect(server:address(), { tls = { ca = main.cert } }))
      local reader = lunad.task(function() return stream:read() end)
      lunad.sleep(0.01)
      stream:close()
      fails("ECANCELED", reader:wait(5))
    ]]
  end)

  it("refuses a client that does not speak it, and goes on", function()
    inside([[
      local server = serve(main)
      local plain = truthy(net.connect(server:address()))
      plain:write "GET / HTTP/1.0\r\n\r\n"
      local data, err, code = plain:read "all"
      truthy(data == "" or code == "ECONNRESET" or #data < 20, data)
      local stream = truthy(net.connect(server:address(), { tls = { ca = main.cert } }))
      stream:write "a\n"
      equal("<a>", stream:read "line")
      fails("EPROTO", net.connect(net.serve("[::1]:0", function(s) s:write "hello\r\n" end):address(),
        { tls = true }))
    ]])
  end)

  it("that is cut says so, each time it is asked", function()
    local result = inside([[
      local server = serve(main)
      local cut
      -- Passes on what comes, until it is told to cut both sides.
      local proxy = truthy(net.serve("[::1]:0", function(s)
        local other <close> = truthy(net.connect(server:address()))
        local function copy(from, to)
          return function() repeat until not to:write(from:read() or "") or cut end
        end
        lunad.any { copy(s, other), copy(other, s), function() repeat lunad.sleep(0.01) until cut end }
      end))
      local function check(stream, read, write)
        write()
        equal("<a>", read())
        cut = true
        for _ = 1, 3 do equal(nil, (read())) end
        for _ = 1, 3 do equal(nil, (write())) end
        cut = false
      end
      local tls = { ca = main.cert, server_name = "localhost" }
      local stream = truthy(net.connect(proxy:address(), { tls = tls }))
      check(stream, function() return stream:read("line", 20) end, function() return stream:write "a\n" end)
      local socket = require("lunad.socket").install()
      local client = truthy(socket.connect("::1", tonumber(proxy:address():match ":(%d+)$")))
      client = truthy(require("ssl").wrap(client, { mode = "client", protocol = "any", verify = "none" }))
      client:settimeout(20)
      truthy(client:dohandshake())
      check(client, function() return client:receive "*l" end, function() return client:send "a\n" end)
    ]], { errors = true })
    assert.matches("unexpected eof while reading", result and result.err or "unexpected eof while reading")
  end)

  it("says what is wrong with its options", function()
    certificate("other", "DNS:other.test")
    inside [[
      raises("tls: unknown option 'verif'", net.connect, "127.0.0.1:1", { tls = { verif = false } })
      raises("tls: option 'verify': boolean expected", net.connect, "127.0.0.1:1", { tls = { verify = 1 } })
      raises("connect: option 'tls': boolean or table", net.connect, "127.0.0.1:1", { tls = "yes" })
      raises("the options 'cert' and 'key'", net.serve, "127.0.0.1:0", print, { tls = {} })
      raises("serve: option 'tls': table expected", net.serve, "127.0.0.1:0", print, { tls = true })
      fails("EINVAL", net.serve("127.0.0.1:0", print, { tls = { cert = main.cert, key = D .. "other.key" } }))
      fails("ENOENT", net.serve("127.0.0.1:0", print, { tls = { cert = "/no/file", key = main.key } }))
      fails("ENOENT", net.serve("127.0.0.1:0", print, { tls = { cert = main.cert, key = "/no/file" } }))
      fails("ENOENT", net.connect("127.0.0.1:1", { tls = { ca = "/no/file" } }))
      for wrong, words in pairs {
        [1] = "a table of names and tables expected", [{}] = "the options 'cert' and 'key'",
        [{ cert = main.cert, key = main.key, bogus = 1 }] = "x: unknown option 'bogus'",
      } do
        local tls = { cert = main.cert, key = main.key, names = { x = wrong } }
        raises(words, net.serve, "127.0.0.1:0", print, { tls = tls })
      end
    ]]
  end)

  it("is refused with words where LuaSec is missing", function()
    local result = box:shell([[exec "$1" run --path "$2" -e '
      package.preload.ssl = function() error "no such module" end
      local _, err = require "lunad.net".connect("127.0.0.1:1", { tls = true })
      print(err)']], { box.dir })
    assert.matches("^ENOTSUP: .*TLS needs LuaSec %(Debian: lua%-sec%)\n", result.out)
  end)
end)

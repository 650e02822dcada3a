local net = require "support.net"
local support = require "support"
local uv = support.uv

-- Run an example from another directory; returns the process.
local function run_example(box, name, env)
  env.PATH, env.LUNAD = support.binary:match "^(.*)/" .. ":" .. os.getenv "PATH", false
  local script = support.root .. "/examples/" .. name .. ".lua"
  local process = box:spawn({ "run", script }, { cwd = "/", env = env })
  box:await(process, "the start of " .. name, function() return process.err():find "started" end)
  return process
end

-- Stop it; it must exit with 0 and without an error in its log.
local function stop(box, process)
  support.kill(process.pid)
  box:await(process, "the end", process.is_over)
  assert.equal(0, process.code)
  assert.not_matches("error", process.err())
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

describe("examples/http.lua", function()
  local box = support.with_box(before_each, after_each)
  local port, process

  before_each(function()
    port = net.free_port()
    process = run_example(box, "http", { HTTP_ADDRESS = "127.0.0.1:" .. port })
  end)

  -- The answer of the server to a text; then it must end the connection.
  local function ask(text)
    local answer, err = net.ask(port, text)
    assert.is_nil(err)
    return answer
  end

  local function refused(status, text)
    local answer = ask(text)
    assert.matches("^HTTP/1%.1 " .. status .. " [%u%l ]+\r\n", answer)
    assert.equal(1, count(answer, "HTTP/1.1"))
    assert.matches("\r\nConnection: close\r\n", answer)
  end

  it("answers, and stops cleanly", function()
    local answer = ask "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert.equal("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n", answer)
    stop(box, process)
    assert.same({}, box:left_files())
  end)

  it("keeps a connection for further requests, and counts them", function()
    local client = net.connect(port)
    for i = 1, 5 do
      client:send "GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"
      client:wait(("served %d, generation 1\n$"):format(i))
    end
    assert.equal(5, count(client.received, "Connection: keep%-alive"))
    client:close()
  end)

  it("answers requests that come in one piece, in their order", function()
    local client = net.connect(port):send(("GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"):rep(3) ..
      "GET /hello HTTP/1.1\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n\r\n")
    local answer = client:wait_end()
    assert.matches("served 1,.*served 2,.*served 3,.*hello\n$", answer)
    assert.equal(4, count(answer, "HTTP/1.1 200 OK"))
  end)

  it("takes a request that comes byte by byte", function()
    local client = net.connect(port)
    for byte in ("POST /echo HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"):gmatch "." do
      client:send(byte)
      uv.run "nowait"
    end
    assert.matches("\r\n\r\nabc$", (client:wait_end()))
  end)

  it("speaks HTTP/1.0, whose connections end unless asked otherwise", function()
    assert.matches("Connection: close\r\n\r\nhello\n$", ask "GET /hello HTTP/1.0\r\n\r\n")
    local client = net.connect(port):send "GET /hello HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
    client:wait "Connection: keep%-alive\r\n\r\nhello\n$"
    client:send("GET /hello HTTP/1.0\r\n\r\n"):wait_end()
    assert.equal(2, count(client.received, "hello\n"))
  end)

  it("answers HEAD with the head alone", function()
    local answer = ask "HEAD /hello HTTP/1.1\r\nConnection: close\r\n\r\n"
    assert.equal("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n", answer)
  end)

  it("answers 404 for what does not exist, and keeps the connection", function()
    local client = net.connect(port):send "GET /nothing HTTP/1.1\r\n\r\n"
    client:wait "^HTTP/1.1 404 Not Found\r\n.*Connection: keep%-alive"
    client:send "GET /hello HTTP/1.1\r\n\r\n":wait "hello\n$"
    client:close()
  end)

  it("sends a body back whole, also to a client that has closed its sending side", function()
    local body = ("0123456789abcde\n"):rep(60000)
    local request = ("POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n"):format(#body) .. body
    local answer, err = net.connect(port):send(request:rep(10)):finish():wait_end()
    assert.is_nil(err)
    assert.is_true(answer:sub(-#body) == body, "the body is not the same")
    assert.equal(10, count(answer, "HTTP/1.1 200 OK"))
  end)

  for what, text in pairs {
    ["garbage"] = "\0\1\2\r\n\r\n",
    ["a line without a version"] = "GET /hello\r\n\r\n",
    ["another version"] = "GET /hello HTTP/2.0\r\n\r\n",
    ["a path with a space"] = "GET /hel lo HTTP/1.1\r\n\r\n",
    ["a header without a colon"] = "GET /hello HTTP/1.1\r\nbroken\r\n\r\n",
    ["a space before a colon"] = "GET /hello HTTP/1.1\r\nHost : x\r\n\r\n",
    ["a folded header"] = "GET /hello HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
    ["a Content-Length that is not a number"] = "POST /echo HTTP/1.1\r\nContent-Length: 3x\r\n\r\nabc",
    ["a negative Content-Length"] = "POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ["an empty Content-Length"] = "POST /echo HTTP/1.1\r\nContent-Length:\r\n\r\n",
    ["two Content-Lengths"] = "POST /echo HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\nabc",
  } do
    it("refuses " .. what, function()
      refused(400, text)
    end)
  end

  it("refuses a body that is too large", function()
    refused(413, "POST /echo HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n")
    refused(413, "POST /echo HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n")
  end)

  it("refuses what it cannot do", function()
    refused(501, "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    local client = net.connect(port):send "BREW /hello HTTP/1.1\r\n\r\n"
    client:wait "^HTTP/1.1 501 Not Implemented"
    client:close()
  end)

  it("refuses a request line that is too long, though the client sends more", function()
    refused(431, "GET /" .. ("x"):rep(17000) .. " HTTP/1.1\r\n\r\n")
    refused(431, "GET /" .. ("x"):rep(1000000))
  end)

  it("refuses too many headers", function()
    refused(431, "GET /hello HTTP/1.1\r\n" .. ("X-Filler: of some length\r\n"):rep(1000) .. "\r\n")
  end)

  it("takes a head that is just small enough", function()
    local head = "GET /hello HTTP/1.1\r\nConnection: close\r\nX: "
    assert.matches("hello\n$", ask(head .. ("x"):rep(16 * 1024 - #head - 4) .. "\r\n\r\n"))
  end)

  it("passes its count and its clients on at a reload", function()
    local client = net.connect(port):send "GET /stats HTTP/1.1\r\n\r\n"
    client:wait "served 1, generation 1\n"
    box:ok("reload", "http")
    client:send "GET /hello HTTP/1.1\r\n\r\n":wait_end()
    assert.matches("Connection: close\r\n\r\nhello\n$", client.received)
    assert.matches("served %d, generation 2\n$", ask "GET /stats HTTP/1.0\r\n\r\n")
  end)
end)

describe("examples/echo.lua", function()
  local box = support.with_box(before_each, after_each)

  it("sends back what comes, by TCP and by a Unix socket", function()
    local port = net.free_port()
    local process = run_example(box, "echo", {
      ECHO_ADDRESS = "127.0.0.1:" .. port, ECHO_SOCKET = box:path "echo.sock" })
    for _, target in ipairs { port, box:path "echo.sock" } do
      local client = net.connect(target):send "one":send "two"
      client:wait "^onetwo$"
      client:send(("three"):rep(100000)):finish()
      assert.equal(6 + 500000, #client:wait_end())
    end
    stop(box, process)
    assert.is_nil(uv.fs_lstat(box:path "echo.sock"))
  end)

  it("counts its clients in the status, and keeps them over a reload", function()
    local port = net.free_port()
    local process = run_example(box, "echo", { ECHO_ADDRESS = "127.0.0.1:" .. port })
    local clients = {}
    for i = 1, 3 do
      clients[i] = net.connect(port):send "hello"
      clients[i]:wait "hello"
    end
    assert.equal("3 clients", box:status("echo").text)
    box:ok("reload", "echo")
    for i = 1, 3 do clients[i]:send "again":wait "again" end
    for i = 1, 3 do clients[i]:close() end
    support.wait_for("their end", function() return #box:status("echo").retiring == 0 end)
    stop(box, process)
  end)
end)

describe("examples/prefork.lua", function()
  local box = support.with_box(before_each, after_each)

  it("serves by workers, each a lunad of its own, and ends them with it", function()
    local port = net.free_port()
    local process = run_example(box, "prefork", { HTTP_ADDRESS = "127.0.0.1:" .. port, WORKERS = "2" })
    assert.matches("^HTTP/1.1 200 OK.*hello\n$", (net.ask(port, "GET /hello HTTP/1.0\r\n\r\n")))
    support.wait_for("both workers", function()
      return box:lunad("status", "http-1").code == 0 and box:lunad("status", "http-2").code == 0
    end)
    support.kill(process.pid)
    box:await(process, "the end", process.is_over)
    assert.equal(0, process.code)
    support.wait_for("the end of the workers", function() return #box:marked() == 0 end)
    assert.same({}, box:left_files())
  end)

  it("restarts a worker that died", function()
    local port = net.free_port()
    local process = run_example(box, "prefork", { HTTP_ADDRESS = "127.0.0.1:" .. port, WORKERS = "1" })
    local dead = box:status("prefork").children[1].pid
    support.kill(dead, "sigkill")
    support.wait_for("another worker", function()
      local child = box:status("prefork").children[1]
      return child and child.state == "running" and child.pid ~= dead
    end)
    assert.matches("hello\n$", (net.ask(port, "GET /hello HTTP/1.0\r\n\r\n")))
    support.kill(process.pid)
    box:await(process, "the end", process.is_over)
  end)
end)

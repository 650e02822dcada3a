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

describe("examples/http.lua", function()
  local box = support.with_box(before_each, after_each)
  local port, process

  before_each(function()
    port = net.free_port()
    process = run_example(box, "http", { HTTP_ADDRESS = "127.0.0.1:" .. port })
  end)

  -- The answer to a request without a body; then the server must end the connection.
  local function ask(line)
    local answer, err = net.ask(port, line .. " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert.is_nil(err)
    return answer
  end

  it("answers, and stops cleanly", function()
    assert.matches("^HTTP/1%.1 200 OK\r\n.*\r\n\r\nhello world\n$", ask "GET /hello")
    assert.matches("\r\n\r\nhello a b\n$", ask "GET /hello?name=a+b")
    assert.matches("^HTTP/1.1 404 Not Found\r\n", ask "GET /nothing")
    stop(box, process)
    assert.same({}, box:left_files())
  end)

  it("sends a body back, with its type", function()
    local client = net.connect(port)
    client:send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nab\0cd")
    client:wait "Content%-Type: a/b\r\n.*\r\n\r\nab%zcd$"
    client:close()
  end)

  it("runs a command for a page", function()
    assert.matches("^HTTP/1%.1 200 OK\r\n.*\r\n\r\n%a.*%d\n$", ask "GET /date")
  end)

  it("counts requests, and passes its count and its clients on at a reload", function()
    local client = net.connect(port)
    for i = 1, 3 do
      client:send "GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"
      client:wait(("served %d, generation 1\n$"):format(i))
    end
    box:ok("reload", "http")
    client:send "GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"
    client:wait "served 4, generation 2\n$"
    client:close()
    assert.matches("served 5, generation 2\n$", ask "GET /stats")
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

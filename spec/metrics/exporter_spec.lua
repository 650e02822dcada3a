-- lunad metrics --listen, and require "lunad.exporter".

local net = require "support.net"
local openmetrics = require "support.openmetrics"
local support = require "support"

local value = openmetrics.value

describe("the exporter", function()
  local box = support.with_box(before_each, after_each)
  local port, process

  -- Start lunad metrics --listen.
  local function serve(...)
    port = net.free_port()
    process = box:spawn { "metrics", "--listen", tostring(port), ... }
    box:await(process, "the exporter", function()
      return process.out():find "http://" or process.is_over()
    end)
    assert.equal(("http://127.0.0.1:%d/\n"):format(port), process.out(), process.err())
  end

  after_each(function()
    if process and not process.is_over() then
      support.kill(process.pid, "sigterm")
      box:await(process, "its end", process.is_over)
      assert.equal(0, process.code)
    end
    process = nil
  end)

  -- Ask: status, head, body.
  local function ask(path, fields, method, sent)
    fields = fields or ("Host: localhost:%d\r\n"):format(port)
    local answer = net.ask(port, ("%s %s HTTP/1.1\r\n%sConnection: close\r\n\r\n%s"):format(method or "GET",
      path, fields, sent or ""))
    local head, body = answer:match "^(.-\r\n)\r\n(.*)$"
    return tonumber(head:match "^HTTP/1%.1 (%d+) "), head, body
  end

  local ACCEPT = "Host: 127.0.0.1\r\n" ..
    "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3\r\n"
  local OLDER = "Host: 127.0.0.1\r\nAccept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n"
  local BROWSER = "Host: 127.0.0.1\r\nAccept: text/html,application/xml;q=0.9,*/*;q=0.8\r\n"
  local BODY = "Host: 127.0.0.1\r\nContent-Length: 3\r\n"

  it("serves metrics in both formats, the status, and the page, and can only be read", function()
    box:start(box:idle "s")
    serve()
    local status, head, body = ask("/metrics", OLDER)
    assert.equal(200, status)
    assert.matches("\r\nContent%-Type: text/plain; version=0%.0%.4; charset=utf%-8\r\n", head)
    assert.matches('\nlunad_up{daemon="s"} 1\n', body)
    assert.not_matches("# EOF", body)
    status, head, body = ask("/metrics", ACCEPT)
    assert.equal(200, status)
    assert.matches("\r\nContent%-Type: application/openmetrics%-text; version=1%.0%.0; charset=utf%-8\r\n",
      head)
    local families = openmetrics.parse(body)
    assert.equal(1, value(families, "lunad_up", "lunad_up", { daemon = "s" }))
    assert.equal(1, value(families, "lunad_up", "lunad_up", { daemon = "lunad-" .. process.pid }))
    assert.matches("\r\nContent%-Type: text/plain", select(2, ask("/metrics", BROWSER)))
    assert.matches("# EOF\n$", (select(3, ask "/metrics")))
    assert.equal(405, (ask("/metrics", BODY, "POST", "a=1")))
    status, head, body = ask "/status.json"
    assert.equal(200, status)
    assert.matches("\r\nContent%-Type: application/json\r\n", head)
    local report = support.json.decode(body)
    assert.equal(2, #report.daemons)
    for _, daemon in ipairs(report.daemons) do
      assert.is_true(daemon.up)
      assert.equal("running", daemon.answer.status.state)
    end
    status, head, body = ask "/"
    assert.equal(200, status)
    local nonce = body:match "<script nonce=\"(%x+)\">"
    assert.equal(32, #nonce)
    assert.truthy(head:find("script-src 'nonce-" .. nonce .. "'", 1, true))
    assert.not_equal(nonce, select(3, ask "/"):match "<script nonce=\"(%x+)\">")
    assert.not_matches("https?://", (body:gsub("http://www.w3.org/2000/svg", "")))
    assert.not_matches("NONCE", body)
    for _, path in ipairs { "/", "/metrics", "/status.json", "/nothing" } do
      head = select(2, ask(path))
      assert.matches("\r\nContent%-Security%-Policy: default%-src 'none'; ", head)
      assert.matches("\r\nX%-Content%-Type%-Options: nosniff\r\n", head)
      assert.not_matches("Access%-Control", head)
      for _, method in ipairs { "POST", "PUT", "DELETE", "OPTIONS" } do
        assert.equal(path == "/nothing" and 404 or 405, (ask(path, nil, method)))
      end
    end
    assert.equal(200, (ask("/metrics", nil, "HEAD")))
    assert.equal("", (select(3, ask("/metrics", nil, "HEAD"))))
  end)

  it("answers only to names that it knows", function()
    serve()
    local host = support.uv.os_gethostname()
    local known = { "localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]", "[::1]:9", "10.1.2.3", host }
    for _, name in ipairs(known) do
      assert.equal(200, (ask("/metrics", "Host: " .. name .. "\r\n")), name)
    end
    for _, name in ipairs { "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "1.2.3.4.5",
      "[::1].evil.example", "x127.0.0.1", "evil.example:9", "a@localhost", "" } do
      local status, _, body = ask("/status.json", "Host: " .. name .. "\r\n")
      assert.truthy(status == 421 or status == 400, name)
      assert.not_matches("daemons", body)
    end
  end)

  it("is on this machine alone unless an address is said in full", function()
    serve()
    local listener = box:status("lunad-" .. process.pid).listeners[1]
    assert.equal("127.0.0.1:" .. port, listener.address)
    local second = box:lunad("metrics", "--listen", ":" .. port)
    assert.equal(1, second.code)
    assert.matches("EADDRINUSE", second.err)
    assert.not_matches("traceback", second.err)
  end)

  it("has others wait once for a daemon that is stuck, and shows why", function()
    box:start("--stuck-after", "0", box:write("stuck.lua", [[
      local lunad = require "lunad"
      lunad.signal("USR1", function() while true do end end)
    ]]))
    local pid = box:start(box:idle "stopped")
    box:start(box:idle "s")
    serve "s" -- names
    assert.equal(1, #support.json.decode((select(3, ask "/status.json"))).daemons)
    support.kill(process.pid, "sigterm")
    box:await(process, "its end", process.is_over)
    box:ok("signal", "stuck", "USR1")
    support.kill(pid, "sigstop")
    serve()
    local seen
    for _ = 1, 3 do
      seen = {}
      for _, daemon in ipairs(support.json.decode((select(3, ask "/status.json"))).daemons) do
        seen[daemon.name] = daemon
      end
      assert.is_true(seen.s.up)
      assert.is_false(seen.stopped.up)
      assert.is_false(seen.stuck.up)
    end
    assert.equal("it does not answer", seen.stopped.error)
    assert.matches("^busy in %S+stuck.lua:2 for ", seen.stuck.error)
    support.kill(pid, "sigcont")
    support.wait_for("the daemon that was stopped", function()
      return select(3, ask "/metrics"):find('lunad_up{daemon="stopped"} 1', 1, true)
    end)
  end)

  it("is a service too, of which a reload loses nothing", function()
    port = net.free_port()
    box:start("--env", "EXPORTER_ADDRESS=127.0.0.1:" .. port, support.root .. "/examples/exporter.lua")
    assert.matches('\nexporter_clients{daemon="exporter"} 1\n', (select(3, ask "/metrics")))
    box:ok("reload", "exporter")
    assert.matches('\nlunad_generation{daemon="exporter"} 2\n', (select(3, ask "/metrics")))
    assert.equal("serves 127.0.0.1:" .. port, box:status("exporter").text)
  end)

  it("checks what it is given", function()
    box:inside [[
      local exporter = require "lunad.exporter"
      raises("an address or a port expected", exporter.serve, {})
      raises("unknown option 'nam'", exporter.serve, 0, { nam = {} })
      raises("option 'names': table expected", exporter.serve, 0, { names = "x" })
      raises("option 'names': 'a/b' is not a name", exporter.serve, 0, { names = { "a/b" } })
      raises("option 'timeout': seconds up to 60", exporter.serve, 0, { timeout = 0 })
      local server = truthy(exporter.serve(0, { hosts = { "mon.example.org" }, names = {} }))
      truthy(server:address():find "^127%.0%.0%.1:%d+$")
      local http = require "lunad.http"
      local function get(host)
        local url = "http://" .. server:address() .. "/metrics"
        return truthy(http.request { url = url, headers = { Host = host } })
      end
      equal(200, get("mon.example.org").status) equal(421, get("example.org").status)
      equal("# EOF\n", get("mon.example.org").body)
      local path = "unix:" .. os.getenv("LUNAD_RUN_DIR") .. "/x"
      truthy(exporter.serve(path, { run_dir = "/nowhere" }))
      lunad.stop()
    ]]
  end)
end)

-- examples/workers.lua: a web server of several processes that tell each other what they know.

local net = require "support.net"
local support = require "support"

describe("examples/workers.lua", function()
  local box = support.with_box(before_each, after_each)
  local port

  before_each(function()
    port = net.free_port()
    box:start("--workers", "2", "--env", "HTTP_ADDRESS=127.0.0.1:" .. port,
      support.root .. "/examples/workers.lua")
  end)

  -- The body of the answer to a request.
  local function ask(line, body)
    local head = "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    local answer, err = net.ask(port, head:format(line, #body) .. body)
    assert.is_nil(err)
    return (assert(answer:match "^HTTP/1%.1 200 OK\r\n.-\r\n\r\n(.*)$", answer))
  end

  -- Ask until both workers have given this note.
  local function wait_note(note)
    local known = {}
    support.wait_for("both workers to know the note", function()
      local client = net.connect(port)
      client:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
      local worker = client:wait "worker (%d) of 2\n"
      client:send "GET /note HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
      known[worker] = client:wait_end():find("\r\n\r\n" .. note .. "\n$") and true or nil
      return known["1"] and known["2"]
    end)
  end

  it("has what one worker was told in all, also over a reload and in one that crashed", function()
    assert.equal("back at noon\n", ask("POST /note", "back at noon"))
    wait_note "back at noon"
    assert.equal("workers: reloaded, ", box:ok("reload", "workers"):sub(1, 19))
    wait_note "back at noon"
    local before = tonumber(box:read "run/workers-2.pid")
    support.kill(before, "sigkill")
    support.wait_for("worker 2", function()
      local pid = tonumber(box:read "run/workers-2.pid")
      return pid and pid ~= before
    end)
    wait_note "back at noon"
    assert.equal("later\n", ask("POST /note", "later"))
    wait_note "later"
  end)

  it("has its cron job once", function()
    local timers = { #box:status("workers-1").timers, #box:status("workers-2").timers }
    assert.same({ 1, 0 }, timers)
  end)
end)

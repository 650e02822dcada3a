-- examples/queue.lua, with a Redis of the spec's own.

local net = require "support.net"
local support = require "support"

local EXAMPLE = support.root .. "/examples/queue.lua"

local has_all = package.searchpath("socket.core", package.cpath)
  and os.execute "command -v redis-server redis-cli >/dev/null"

describe("examples/queue.lua", function()
  local box = support.with_box(before_each, after_each)
  local port

  -- Run redis-cli; its output.
  local function ask(...)
    local result = box:run({ "-p", tostring(port), ... }, { program = "redis-cli" })
    assert.equal(0, result.code, result.out .. result.err)
    return result.out
  end

  -- Start Redis as a service, and wait until it answers.
  local function start_redis()
    box:start("--name", "redis", box:write("redis.lua", ([[
      local lunad = require "lunad"
      lunad.supervise { "redis-server", "--port", "%d", "--bind", "127.0.0.1", "--save", "",
        "--dir", lunad.script:match "^(.*)/" }
    ]]):format(port)))
    support.wait_for("Redis", function()
      return box:run({ "-p", tostring(port), "ping" }, { program = "redis-cli" }).out == "PONG\n"
    end)
  end

  before_each(function()
    if not has_all then
      pending "Redis or LuaSocket is not installed (Debian: redis-server, lua-socket)"
    end
    port = net.free_port()
  end)

  local function start()
    return box:start("--env", "REDIS=127.0.0.1:" .. port, EXAMPLE)
  end

  it("does each job once, over reloads and a stop", function()
    start_redis()
    start()
    for i = 1, 3 do
      for job = 1, 8 do
        ask("rpush", "jobs", ("job %d.%d"):format(i, job))
      end
      box:ok("reload", "queue")
    end
    box:ok("stop", "queue")
    start()
    support.wait_for("the jobs", function() return ask("llen", "done") == "24\n" end)
    local seen = {}
    for job in ask("lrange", "done", "0", "-1"):gmatch "[^\n]+" do
      assert.is_nil(seen[job], job)
      seen[job] = true
    end
    assert.equal("0\n", ask("llen", "jobs"))
  end)

  it("waits for a Redis that is not there, and does what a crash has left", function()
    start()
    box:wait_log("queue", "worker 4: no Redis at=127.0.0.1:%d+ reason=\"?connection refused")
    start_redis()
    ask("rpush", "doing:2", "left")
    box:ok("stop", "queue")
    start()
    box:wait_log("queue", "done job=left")
  end)
end)

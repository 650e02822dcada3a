-- The status of a script that has very many of everything.

local support = require "support"
local stress = require "support.stress"

local MOST = 1000 -- of each kind in a report
-- Seconds for which one report may hold the loop; a slice of the test has more patience with the machine.
local HELD = stress.size(0.02, 0.005)

local CROWD = ([[
  local COUNT = %d
  for i = 1, COUNT do
    lunad.after(1000 + i, print)
    lunad.task(lunad.sleep, 1000 + i)
  end
  for i = 1, 1000 do lunad.signal(i %% 2 == 0 and "WINCH" or "URG", print) end
  for i = 1, 300 do lunad.listen("unix:" .. DIR .. "/" .. i) end
  lunad.supervise { "false", count = 300, backoff = { 500, 500 }, max_restarts = 1e6 }
  for _ = 1, 20 do lunad.spawn { "sh", "-c", "exec sleep 1000", ("x"):rep(100000) } end
]]):format(stress.size(20000, 100000))

-- The least time that a report holds the loop, of many: what the machine adds is no concern.
local TIMED = [[
  local best = math.huge
  collectgarbage "stop"
  for _ = 1, 40 do
    local before = os.clock()
    lunad.stats()
    best = math.min(best, os.clock() - before)
  end
  collectgarbage "restart"
  print(("a report takes %.6f s"):format(best))
]]

describe("The status of a script with very many timers, tasks and children", function()
  local box = support.with_box(before_each, after_each)

  it("is short, soon made, and exact in its totals", function()
    local count = stress.size(20000, 100000)
    box:serve(("local DIR = %q "):format(box.dir) .. CROWD ..
      "lunad.after(0.2, function() " .. TIMED .. " end)")
    local best = tonumber((box:wait_log("s", "a report takes ([%d.]+) s", 60)))
    if not support.is_sanitized() then
      assert.is_true(best < HELD, ("a report takes %.6f s"):format(best))
    end
    local status, size
    support.wait_for("its children to end", function()
      local text = box:ok("status", "--json", "s")
      status, size = support.json.decode(text), #text
      if not status.totals then return false end
      return status.totals.children == 320 and status.children[21].state == "waiting"
    end)
    assert.is_true(size < 600000, size .. " bytes")
    assert.same({ timers = count + 1, tasks = count, signals = 2, children = 320, listeners = 300,
      retiring = 0 }, status.totals)
    for kind, most in pairs { timers = MOST, tasks = MOST, children = 320, listeners = 300 } do
      assert.equal(most, #status[kind], kind)
    end
    local timers, tasks = status.groups.timers, status.groups.tasks
    assert.same({ count + 1, 0, count }, { timers.counted, timers.others, timers.places[1].count })
    assert.same({ count, count, "sleep" }, { tasks.counted, tasks.places[1].count, tasks.places[1].kind })
    assert.same({ { count = 300, kind = "waiting", name = "false" },
      { count = 20, kind = "running", name = "sh" } }, status.groups.children.places)
    assert.is_true(#status.children[1].command < 1100)
    local text = box:ok("status", "s")
    for _, rest in ipairs { ("timer     and %d more"):format(count + 1 - MOST),
      ("task      and %d more"):format(count - MOST),
      "\n  children  320\n            300  waiting  false\n" } do
      assert.matches(rest, text, 1, true)
    end
    stress.note("a report of %d timers and as many tasks: %d bytes, %.2f ms", count, size, best * 1000)
  end)

  it("can be asked each second, and the beat goes on", function()
    box:serve(("local DIR = %q "):format(box.dir) .. CROWD .. [[
      local runs, beat = 0, nil
      lunad.after(0, function() beat = lunad.every(0.01, function() runs = runs + 1 end) end)
      lunad.signal("USR1", function() print(("beats %d of %d"):format(runs, runs + beat:missed())) end)
    ]])
    local worst = 0
    for _ = 1, stress.size(3, 60) do
      local before = support.uv.hrtime()
      assert.equal(0, box:lunad("status", "--json", "s").code)
      worst = math.max(worst, support.uv.hrtime() - before)
      local next_time = before + 1e9
      support.wait_for("the next second", function() return support.uv.hrtime() >= next_time end)
    end
    box:ok("signal", "s", "USR1")
    local runs, beats = box:wait_log("s", "beats (%d+) of (%d+)")
    local loop = box:status("s").loop
    stress.note("%s of %s beats; status took %.1f ms at most; lag %.2f ms at p50, %.2f at p99", runs, beats,
      worst / 1e6, loop.lag_p50_ms, loop.lag_p99_ms)
    assert.is_true(tonumber(runs) > 10)
  end)
end)

local support = require "support"

-- The only item with a place whose line is `line`.
local function at(list, line, what)
  local found
  for _, item in ipairs(list) do
    if item.where:match ":(%d+)$" == tostring(line) and (not what or item.what == what) then
      assert(not found, "more than one")
      found = item
    end
  end
  return found
end

describe("--slow", function()
  local box = support.with_box(before_each, after_each)

  it("logs and counts what takes longer, with its place, and status has how long each takes", function()
    local path = box:write("s.lua", [[
      local lunad = require "lunad"
      local function spin(seconds) local t = lunad.now() + seconds repeat until lunad.now() > t end
      lunad.every(0.02, function()
        spin(0.06)
      end)
      lunad.every(0.02, function(n) return n end, 1)
      lunad.task(function()
        lunad.sleep(0.01)
        spin(0.07)
        lunad.sleep(600)
      end)
      lunad.signal("USR2", function() spin(0.08) print "signalled" end)
    ]])
    local pid = box:start("--slow", "0.05", path)
    local where = support.pattern(path)
    local ms = box:wait_log("s", "slow: a timer at " .. where .. ":3 held the loop for ([%d.]+) ms\n")
    assert.is_true(tonumber(ms) >= 59, ms)
    box:wait_log("s", "slow: a task at " .. where .. ":8 held")
    support.kill(pid, "sigusr2")
    box:wait_log("s", "slow: a signal handler at " .. where .. ":12 held")
    local status = support.wait_for("beats", function()
      local got = box:status "s"
      local quick = at(got.callbacks, 6)
      return quick and quick.measured > 2 and at(got.callbacks, 3).measured > 2 and got
    end)
    local slow, timer = at(status.callbacks, 3), at(status.timers, 3)
    assert.is_true(slow.slow > 0 and slow.slow <= status.slow.count and status.slow.after == 0.05)
    for _, item in ipairs { slow, timer } do
      assert.is_true(item.p50_ms >= 55 and item.p99_ms >= item.p50_ms and item.max_ms >= 60)
    end
    assert.is_true(at(status.timers, 6).p50_ms < 50)
    assert.matches("slow +%d+ callbacks took longer than 0.05 s", box:ok("status", "s"))
    local _, lines = box:log("s"):gsub("slow: a timer at " .. where .. ":3", "")
    assert.is_true(lines < slow.slow or slow.slow < 3, lines)
    assert.matches("--slow: \"0\" is not", box:refused(2, "start", "--slow", "0", path))
  end)

  it("is off unless asked for, and callbacks are measured all the same", function()
    box:serve "lunad.every(0.01, function() local t = lunad.now() + 0.02 repeat until lunad.now() > t end)"
    local status = support.wait_for("a beat", function()
      local got = box:status "s"
      return got.timers[1].max_ms and got
    end)
    assert.is_true(status.timers[1].max_ms >= 19)
    assert.same({ count = 0 }, status.slow)
    assert.is_nil(box:log("s"):find "slow:")
  end)
end)

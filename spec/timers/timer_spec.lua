local support = require "support"

describe("Lua", function()
  it("is 5.4 in the specs", function()
    assert.equal("Lua 5.4", _VERSION)
  end)
end)

-- For scripts: hold the loop for a while.
local BUSY = [[
local function busy(seconds)
  local start = lunad.now()
  while lunad.now() - start < seconds do end
end
]]

-- For scripts: the beat number n of a timer, from its own count of calls, is due at start + n × beat,
-- within the time that the calls of now() around the readings leave open.
local ON_BEAT = BUSY .. [[
local function on_beat(before, after, timer, n, beat)
  local low = lunad.now()
  local due = timer:due()
  local high = lunad.now()
  if due > 0 then
    truthy(low + due - (n + 1) * beat <= after + 1e-6, "the beat has drifted away")
    truthy(high + due - (n + 1) * beat >= before - 1e-6, "the beat comes early")
  end
end
]]

describe("lunad.after", function()
  local box = support.with_box(before_each, after_each)

  it("calls once, from the loop, with its arguments", function()
    box:inside [[
      local calls = {}
      lunad.after(0.01, function(...) calls[#calls + 1] = table.pack(...) end, 1, nil, "x", nil)
      equal(0, #calls)
      eventually(function() return #calls > 0 end)
      lunad.sleep(0.03)
      equal(1, #calls)
      equal(4, calls[1].n)
      equal(1, calls[1][1])
      equal("x", calls[1][3])
    ]]
  end)

  it("passes on 250 arguments", function()
    box:inside [[
      local got
      lunad.after(0, function(...) got = table.pack(...) end, table.unpack({}, 1, 250))
      eventually(function() return got end)
      equal(250, got.n)
    ]]
  end)

  it("never calls at once, even with 0 seconds", function()
    box:inside [[
      local called = false
      local timer = lunad.after(0, function() called = true end)
      equal(false, called)
      equal(true, timer:active())
      eventually(function() return called end)
    ]]
  end)

  it("never fires early", function()
    box:inside(BUSY .. [[
      for i = 1, 30 do
        local seconds = i % 2 == 0 and 0.003 or i / 7000
        if i % 5 == 0 then busy(0.004) end -- the loop's own idea of the time is old now
        local start, fired = lunad.now(), nil
        lunad.after(seconds, function() fired = lunad.now() end)
        eventually(function() return fired end)
        truthy(fired - start >= seconds, "it fired early")
      end
    ]])
  end)

  it("fires at its time though the callback that armed it had held the loop", function()
    box:inside(BUSY .. [[
      local late = {}
      lunad.after(0, function()
        busy(2)
        for i, seconds in ipairs { 0.03, 0.25 } do
          local due = lunad.now() + seconds
          lunad.after(seconds, function() late[i] = lunad.now() - due end)
          lunad.task(function() lunad.sleep(seconds) late[i + 2] = lunad.now() - due end)
        end
      end)
      eventually(function() return #late == 4 end)
      for _, seconds in ipairs(late) do
        truthy(seconds >= 0 and seconds < 1.5, "late by " .. seconds .. " s")
      end
    ]])
  end)

  it("of a millisecond fires after a little more than that", function()
    box:inside [[
      local took = {}
      for i = 1, 100 do
        local start, fired = lunad.now(), nil
        lunad.after(0.001, function() fired = lunad.now() end)
        while not fired do lunad.sleep(0.001) end
        took[i] = fired - start
      end
      table.sort(took)
      truthy(took[1] >= 0.001, "it fired early")
      truthy(took[5] < 0.0015, "it took " .. took[5] .. " s") -- a busy machine delays most
    ]]
  end)

  it("fires in the order of arming where the due times are equal", function()
    box:inside(BUSY .. [[
      local order = {}
      for i = 1, 200 do
        lunad.after(0.01, function() order[#order + 1] = i end)
      end
      busy(0.02)
      eventually(function() return #order == 200 end)
      for i = 1, 200 do equal(i, order[i]) end
    ]])
  end)

  it("fires in the order of due times, not of arming", function()
    box:inside [[
      local order, seed = {}, 7
      for _ = 1, 1000 do
        seed = seed * 16807 % 2147483647
        local seconds = seed % 50 / 500
        local low, high = lunad.now() + seconds, nil
        lunad.after(seconds, function() order[#order + 1] = { low = low, high = high } end)
        high = lunad.now() + seconds
      end
      eventually(function() return #order == 1000 end)
      for i = 2, 1000 do truthy(order[i - 1].low <= order[i].high, "out of order") end
    ]]
  end)

  it("takes times up to ten years", function()
    box:inside [[
      local year = 365 * 86400
      for _, seconds in ipairs { 1, 3600, 86400, year, 10 * year } do
        local timer = lunad.after(seconds, function() end)
        truthy(math.abs(timer:due() - seconds) < 5)
        timer:stop()
      end
    ]]
  end)

  it("takes a callable table", function()
    box:inside [[
      local got
      lunad.after(0, setmetatable({}, { __call = function(_, ...) got = table.pack(...) end }), 7, 8)
      eventually(function() return got end)
      equal(2, got.n)
      equal(8, got[2])
    ]]
  end)

  it("lets its callback sleep, without delaying others", function()
    box:inside [[
      local order = {}
      lunad.after(0, function() lunad.sleep(0.02); order[#order + 1] = "sleeper" end)
      lunad.after(0.001, function() order[#order + 1] = "other" end)
      eventually(function() return #order == 2 end)
      equal("other", order[1])
    ]]
  end)

  it("does not starve I/O, signals or other timers when chained without delay", function()
    box:inside [[
      local chain, fired, signalled = true, false, false
      local function link() if chain then lunad.after(0, link) end end
      link()
      lunad.after(0.01, function() fired = true end)
      local handle = lunad.signal("USR1", function() signalled = true end)
      lunad.kill(lunad.pid, "USR1")
      equal("out\n", lunad.exec { "echo", "out" }.stdout)
      eventually(function() return fired and signalled end)
      chain = false
      handle:stop()
    ]]
  end)

  it("keeps the script alive until it has fired, and no longer", function()
    local result = box:inside "lunad.after(0.02, print, 'fired')"
    assert.equal("fired\n", result.out)
    assert.truthy(result.err:find("finished", 1, true))
  end)
end)

describe("lunad.every", function()
  local box = support.with_box(before_each, after_each)

  it("calls at start + n × seconds, without drift, with its arguments", function()
    box:inside(ON_BEAT .. [[
      local calls, before, timer, after = 0, lunad.now(), nil, nil
      timer = lunad.every(0.01, function(...)
        calls = calls + 1
        equal("x", (select(2, ...)))
        on_beat(before, after, timer, calls + timer:missed(), 0.01)
        busy(0.003)
      end, nil, "x")
      after = lunad.now()
      eventually(function() return calls >= 25 end)
      timer:stop()
    ]])
  end)

  it("never calls early", function()
    box:inside [[
      local calls, start, timer = 0, lunad.now(), nil
      timer = lunad.every(0.004, function()
        calls = calls + 1
        truthy(lunad.now() - start >= (calls + timer:missed()) * 0.004, "it came early")
      end)
      eventually(function() return calls >= 25 end)
      timer:stop()
    ]]
  end)

  it("skips and counts beats missed because the loop was busy", function()
    box:inside(BUSY .. [[
      local calls = 0
      local timer = lunad.every(0.01, function() calls = calls + 1 end)
      eventually(function() return calls > 0 end)
      local before, missed = calls, timer:missed()
      busy(0.105)
      lunad.sleep(0)
      truthy(calls - before <= 2, "missed beats are piled up")
      truthy(calls - before + timer:missed() - missed >= 9, "missed beats are not counted")
      timer:stop()
    ]])
  end)

  for whose, hold in pairs {
    ["its own function"] = "if calls == 2 then busy(0.27) end",
    ["another one"] = "if calls == 2 then lunad.after(0.05, busy, 0.22) end",
  } do
    it("is on its beat again after " .. whose .. " was busy", function()
      box:inside(BUSY .. [[
        local calls, before, timer = 0, lunad.now(), nil
        timer = lunad.every(0.1, function()
          calls = calls + 1
          local late = lunad.now() - before - (calls + timer:missed()) * 0.1
          truthy(late < 0.05, ("call %d is late by %.4f s"):format(calls, late))
          ]] .. hold .. [[

        end)
        eventually(function() return calls == 5 end)
        truthy(timer:missed() >= 2)
        timer:stop()
      ]])
    end)
  end

  it("is called though another one holds the loop at each of its beats", function()
    box:inside(BUSY .. [[
      local calls = 0
      local first = lunad.every(0.04, busy, 0.03)
      local second = lunad.every(0.04, function() calls = calls + 1 end)
      eventually(function() return calls >= 5 end)
      truthy(second:missed() <= 2 * calls + 2, second:missed() .. " beats missed")
      first:stop()
      second:stop()
    ]])
  end)

  it("of a millisecond loses hardly a beat", function()
    box:inside [[
      local calls, best = 0, 0
      local timer = lunad.every(0.001, function() calls = calls + 1 end)
      eventually(function()
        local before, missed = calls, timer:missed()
        lunad.sleep(0.1)
        before, missed = calls - before, timer:missed() - missed
        best = math.max(best, before / (before + missed))
        return best >= 0.99
      end)
      timer:stop()
    ]]
  end)

  it("skips and counts beats missed because the function still sleeps", function()
    box:inside(ON_BEAT .. [[
      local inside, calls, before, timer, after = 0, 0, lunad.now(), nil, nil
      timer = lunad.every(0.01, function()
        calls, inside = calls + 1, inside + 1
        equal(1, inside)
        on_beat(before, after, timer, calls + timer:missed(), 0.01)
        lunad.sleep(0.035)
        inside = inside - 1
      end)
      after = lunad.now()
      eventually(function() return calls >= 5 end)
      truthy(timer:missed() >= 12)
      timer:stop()
    ]])
  end)

  it("does not overlap calls that sleep, even if they stop and arm it again", function()
    box:inside [[
      local inside, most, timer = 0, 0, nil
      timer = lunad.every(0.01, function()
        inside = inside + 1
        most = math.max(most, inside)
        timer:stop()
        timer:again()
        lunad.sleep(0.05)
        inside = inside - 1
      end)
      lunad.sleep(0.2)
      timer:stop()
      equal(1, most)
    ]]
  end)

  it("keeps the order of arming among equal beats", function()
    box:inside [[
      local order, timers = {}, {}
      for i = 1, 5 do
        timers[i] = lunad.every(0.02, function() order[#order + 1] = i end)
      end
      eventually(function() return #order >= 50 end)
      for i = 1, 50 do equal((i - 1) % 5 + 1, order[i]) end
      for i = 1, 5 do timers[i]:stop() end
    ]]
  end)

  it("continues after an error in its function, which is logged and counted", function()
    local result = box:inside([[
      lunad.sleep(0)
      local calls, timer = 0, nil
      timer = lunad.every(0.005, function() calls = calls + 1; error("beat " .. calls) end)
      eventually(function() return calls >= 3 end)
      equal(calls, lunad.stats().errors.count)
      for _, entry in ipairs(lunad.stats().timers) do
        if entry.kind == "every" then equal(calls, entry.errors) end
      end
      timer:stop()
    ]], { errors = true })
    assert.truthy(result.err:find("uncaught error in a timer: [^\n]*beat 1\n    stack traceback:"))
    assert.truthy(result.err:find("uncaught error in a timer: [^\n]*beat 3 %(again%)\n"))
  end)

  it("with a beat that is always due does not starve I/O or other timers", function()
    box:inside [[
      local fired, beat = false, lunad.every(1e-6, function() end)
      lunad.after(0.01, function() fired = true end)
      equal("out\n", lunad.exec { "echo", "out" }.stdout)
      eventually(function() return fired end)
      beat:stop()
    ]]
  end)

  it("takes a callable table", function()
    box:inside [[
      local calls = 0
      local timer = lunad.every(0.005, setmetatable({}, { __call = function() calls = calls + 1 end }))
      eventually(function() return calls >= 2 end)
      timer:stop()
    ]]
  end)
end)

describe("lunad.sleep", function()
  local box = support.with_box(before_each, after_each)

  it("suspends for the time, never less", function()
    box:inside [[
      for _, seconds in ipairs { 0, 0.0005, 0.001, 0.0123 } do
        local start = lunad.now()
        lunad.sleep(seconds)
        truthy(lunad.now() - start >= seconds, "it woke early")
      end
    ]]
  end)

  it("returns nothing, and lets others run even with 0 seconds", function()
    box:inside [[
      local turn = 0
      lunad.after(0, function() turn = turn + 1 end)
      equal(0, select("#", lunad.sleep(0)))
      equal(1, turn)
    ]]
  end)

  it("wakes tasks in the order of their due times", function()
    box:inside [[
      local order = {}
      for i = 1, 20 do
        lunad.task(function() lunad.sleep(0.01 + i % 2 / 3); order[#order + 1] = i end)
      end
      eventually(function() return #order == 20 end)
      for i = 1, 20 do equal(i <= 10 and 2 * i or 2 * (i - 10) - 1, order[i]) end
    ]]
  end)
end)

describe("lunad.now", function()
  local box = support.with_box(before_each, after_each)

  it("is a float of monotonic seconds", function()
    box:inside [[
      equal("float", math.type(lunad.now()))
      local last = lunad.now()
      for _ = 1, 1000 do
        local now = lunad.now()
        truthy(now >= last)
        last = now
      end
    ]]
  end)
end)

describe("timer:stop", function()
  local box = support.with_box(before_each, after_each)

  it("keeps the function from being called, and does nothing the second time", function()
    box:inside [[
      local called, later = false, false
      local timer = lunad.after(0.01, function() called = true end)
      equal(0, select("#", timer:stop()))
      timer:stop()
      equal(false, timer:active())
      lunad.after(0.02, function() later = true end)
      eventually(function() return later end)
      equal(false, called)
    ]]
  end)

  it("does nothing on a timer that has fired", function()
    box:inside [[
      local fired = false
      local timer = lunad.after(0, function() fired = true end)
      eventually(function() return fired end)
      timer:stop()
      timer:stop()
      equal(false, timer:active())
    ]]
  end)

  it("ends a beat from inside its own function, which still runs to its end", function()
    box:inside [[
      local calls, done, timer = 0, 0, nil
      timer = lunad.every(0.005, function()
        calls = calls + 1
        timer:stop()
        equal(false, timer:active())
        lunad.sleep(0.02)
        done = done + 1
      end)
      eventually(function() return done == 1 end)
      equal(1, calls)
    ]]
  end)

  it("works on a timer that is due in the same turn of the loop", function()
    box:inside(BUSY .. [[
      local first, second, calls = nil, nil, 0
      first = lunad.after(0.005, function() calls = calls + 1; second:stop() end)
      second = lunad.after(0.006, function() calls = calls + 10; first:stop() end)
      local reused
      lunad.after(0.0055, function() reused = lunad.after(0, function() calls = calls + 100 end) end)
      busy(0.02)
      lunad.sleep(0.01)
      equal(101, calls)
      equal(false, reused:active())
    ]])
  end)

  it("lets the script end", function()
    local result = box:inside "local t = lunad.every(100, print) lunad.after(0.01, function() t:stop() end)"
    assert.truthy(result.err:find("finished", 1, true))
  end)
end)

describe("timer:again", function()
  local box = support.with_box(before_each, after_each)

  it("arms a timer that has fired, and one that was stopped", function()
    box:inside [[
      local calls = {}
      local timer = lunad.after(0.001, function(word) calls[#calls + 1] = word end, "x")
      eventually(function() return #calls == 1 end)
      equal(0, select("#", timer:again()))
      equal(true, timer:active())
      eventually(function() return #calls == 2 end)
      timer:again()
      timer:stop()
      timer:again()
      eventually(function() return #calls == 3 end)
      equal("x", calls[3])
    ]]
  end)

  it("starts again on a timer that is active", function()
    box:inside [[
      local fired, timer = nil, nil
      timer = lunad.after(0.02, function() fired = lunad.now() end)
      lunad.sleep(0.01)
      local start = lunad.now()
      timer:again()
      eventually(function() return fired end)
      truthy(fired - start >= 0.02, "it kept its old due time")
    ]]
  end)

  it("takes other seconds, which stay", function()
    box:inside [[
      local timer = lunad.after(100, function() end)
      timer:again(50)
      truthy(timer:due() <= 50 and timer:due() > 40)
      timer:stop()
      timer:again()
      truthy(timer:due() <= 50 and timer:due() > 40)
      timer:again(nil)
      truthy(timer:due() <= 50 and timer:due() > 40)
      timer:stop()
    ]]
  end)

  it("starts a new beat from now and clears missed", function()
    box:inside(ON_BEAT .. [[
      local calls, before, after, timer = 0, nil, nil, nil
      timer = lunad.every(0.01, function()
        calls = calls + 1
        if before then on_beat(before, after, timer, calls + timer:missed(), 0.007) end
      end)
      eventually(function() return calls > 0 end)
      busy(0.05)
      eventually(function() return timer:missed() > 0 end)
      before = lunad.now()
      timer:again(0.007)
      calls, after = 0, lunad.now()
      equal(0, timer:missed())
      eventually(function() return calls >= 5 end)
      timer:stop()
    ]])
  end)

  it("works from inside the timer's own function", function()
    box:inside [[
      local calls, timer = 0, nil
      timer = lunad.after(0.001, function()
        calls = calls + 1
        equal(false, timer:active())
        if calls < 5 then timer:again(calls / 1000) end
      end)
      eventually(function() return calls == 5 end)
      equal(false, timer:active())
    ]]
  end)

  it("calls the function of after while an earlier call still sleeps", function()
    box:inside [[
      local log, timer = {}, nil
      timer = lunad.after(0.001, function()
        log[#log + 1] = "begin"
        if #log == 1 then
          timer:again(0.001)
          lunad.sleep(0.05)
          equal("end", log[3])
          equal(false, timer:active())
          timer:again(0.001) -- once more
        end
        log[#log + 1] = "end"
      end)
      eventually(function() return #log == 6 end)
      equal("begin begin end end begin end", table.concat(log, " "))
      equal(false, timer:active())
    ]]
  end)

  it("leaves nothing of a timer that is stopped while its function sleeps", function()
    box:inside [[
      local timer
      timer = lunad.after(0.001, function()
        timer:again(100)
        lunad.sleep(0.001)
        timer:stop()
      end)
      lunad.sleep(0.01)
      eventually(function() return not timer:active() end)
      equal(0, #lunad.stats().timers)
    ]]
  end)

  it("works on a timer that is due in the same turn of the loop", function()
    box:inside(BUSY .. [[
      local second, fired = nil, nil
      local start = lunad.now()
      lunad.after(0.005, function() start = lunad.now(); second:again(0.02) end)
      second = lunad.after(0.006, function() fired = lunad.now() end)
      busy(0.01)
      eventually(function() return fired end)
      truthy(fired - start >= 0.02, "it fired by its old due time")
    ]])
  end)
end)

describe("timer:active, due and missed", function()
  local box = support.with_box(before_each, after_each)

  it("tell of a timer that is armed", function()
    box:inside [[
      for _, kind in ipairs { "after", "every" } do
        local timer = lunad[kind](10, function() end)
        equal(true, timer:active())
        truthy(timer:due() <= 10 and timer:due() > 5)
        equal(0, timer:missed())
        timer:stop()
      end
    ]]
  end)

  it("tell of one that was stopped: false, nil, and the count as it was", function()
    box:inside(BUSY .. [[
      local timer = lunad.every(0.005, function() end)
      busy(0.03)
      eventually(function() return timer:missed() > 0 end)
      local missed = timer:missed()
      timer:stop()
      equal(false, timer:active())
      equal(nil, timer:due())
      equal(missed, timer:missed())
    ]])
  end)

  it("tell of one that has fired", function()
    box:inside [[
      local fired = false
      local timer = lunad.after(0, function() fired = true end)
      eventually(function() return fired end)
      equal(false, timer:active())
      equal(nil, timer:due())
      equal(0, timer:missed())
    ]]
  end)

  it("tell from inside the function: after is over, every is armed for its next beat", function()
    box:inside [[
      local seen, once, beat = 0, nil, nil
      once = lunad.after(0.001, function()
        equal(false, once:active())
        equal(nil, once:due())
        seen = seen + 1
      end)
      beat = lunad.every(0.002, function()
        equal(true, beat:active())
        truthy(beat:due() <= 0.002)
        beat:stop()
        seen = seen + 1
      end)
      eventually(function() return seen == 2 end)
    ]]
  end)

  it("tell of one that is due, but waits for others in the same turn of the loop", function()
    box:inside(BUSY .. [[
      local seen, second = nil, nil
      lunad.after(0.001, function()
        seen = { active = second:active(), due = second:due() }
        for _, entry in ipairs(lunad.stats().timers) do
          if entry.kind == "after" then seen.listed = true end
        end
      end)
      second = lunad.after(0.002, function() second = false end)
      busy(0.01)
      eventually(function() return not second end)
      equal(true, seen.active)
      equal(0, math.ceil(seen.due))
      equal(true, seen.listed)
    ]])
  end)
end)

describe("A timer", function()
  local box = support.with_box(before_each, after_each)

  -- Makes a timer in its own function, so that nothing on the stack refers to it afterwards.
  local DROPPED = [[
  local weak = setmetatable({}, { __mode = "v" })
  local function drop(make)
    weak.timer, weak.callback = make()
    collectgarbage()
    collectgarbage()
  end
  ]]

  it("that is dropped still fires", function()
    box:inside(DROPPED .. [[
      local fired, beats = false, 0
      drop(function() return lunad.after(0.01, function() fired = true end) end)
      drop(function() return lunad.every(0.01, function() beats = beats + 1 end) end)
      eventually(function() collectgarbage() return fired and beats >= 3 end)
      eventually(function() return lunad.stats().ready end)
      lunad.stop()
    ]])
  end)

  it("that was stopped and is not referred to is collected, with its function", function()
    box:inside(DROPPED .. [[
      drop(function()
        local callback = function() error(weak) end
        local timer = lunad.after(100, callback, {})
        timer:stop()
        return timer, callback
      end)
      equal(nil, weak.timer)
      equal(nil, weak.callback)
    ]])
  end)

  it("that has fired and is not referred to is collected, with its function", function()
    box:inside(DROPPED .. [[
      local fired = false
      drop(function()
        local callback = function() fired = weak end
        return lunad.after(0, callback, {}), callback
      end)
      eventually(function() return fired end)
      collectgarbage()
      equal(nil, weak.timer)
      equal(nil, weak.callback)
    ]])
  end)

  it("that never fires costs no memory once it is stopped, however many there were", function()
    box:inside [[
      local function round()
        for _ = 1, 2000 do lunad.after(100, function() end):stop() end
        collectgarbage()
        return collectgarbage("count")
      end
      local first = round()
      for _ = 1, 5 do round() end
      truthy(round() - first < 64, "stopped timers are kept")
    ]]
  end)

  it("is one of a hundred thousand without trouble", function()
    box:inside [[
      local count, keep = 0, {}
      for i = 1, 100000 do
        local timer = lunad.after(i % 100 / 1000, function() count = count + 1 end)
        if i % 2 == 0 then keep[#keep + 1] = timer end
      end
      for _, timer in ipairs(keep) do timer:stop() end
      eventually(function() return count == 50000 end)
    ]]
  end)

  it("has a name and a state as text, and a locked metatable", function()
    box:inside [[
      local timer = lunad.after(1, function() end)
      truthy(tostring(timer):find("timer"))
      equal("locked", getmetatable(timer))
      timer:stop()
    ]]
  end)

  it("is not taken for what it is not", function()
    box:inside [[
      local timer = lunad.after(1, function() end)
      local stop = timer.stop
      local disguised = debug.setmetatable({}, debug.getmetatable(timer))
      for _, other in ipairs { {}, io.stdout, disguised, "timer", lunad.task(function() end) } do
        local ok, err = pcall(stop, other)
        equal(false, ok)
        truthy(err:find("lunad.timer expected", 1, true), err)
      end
      truthy(not pcall(stop))
      equal(true, timer:active())
      timer:stop()
    ]]
  end)
end)

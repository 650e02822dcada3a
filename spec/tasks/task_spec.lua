local support = require "support"

-- For scripts: continue when the script is ready; an error before that makes the start fail.
local READY = "while not lunad.stats().ready do lunad.sleep(0.001) end  "

describe("lunad.task", function()
  local box = support.with_box(before_each, after_each)

  it("starts at once, with its arguments, and returns when it suspends", function()
    box:inside [[
      local steps = {}
      local task = lunad.task(function(...)
        steps[#steps + 1] = select("#", ...) .. tostring((select(3, ...)))
        lunad.sleep(0)
        steps[#steps + 1] = "end"
      end, 1, nil, "x", nil)
      steps[#steps + 1] = "back"
      equal(true, task:running())
      eventually(function() return not task:running() end)
      equal("4x,back,end", table.concat(steps, ","))
    ]]
  end)

  it("may end at once", function()
    box:inside [[
      local task = lunad.task(function() return "done" end)
      equal(false, task:running())
      equal("done", task:wait())
    ]]
  end)

  it("takes a callable table", function()
    box:inside [[
      local task = lunad.task(setmetatable({}, { __call = function(self, a) return type(self), a end }), 7)
      local kind, value = task:wait()
      equal("table", kind)
      equal(7, value)
    ]]
  end)

  it("starts from every kind of callback, and inside other tasks", function()
    box:inside [[
      local order = {}
      local function deep(n)
        if n == 0 then return lunad.sleep(0) end
        lunad.task(deep, n - 1):wait()
        order[#order + 1] = n
      end
      lunad.after(0, deep, 100)
      eventually(function() return #order == 100 end)
      for i = 1, 100 do equal(i, order[i]) end
    ]]
  end)

  it("nested too deep is an error in the last task, and no crash", function()
    box:inside(READY .. [[
      local started = 0
      local function deeper() started = started + 1; lunad.task(deeper) end
      deeper()
      truthy(started > 100)
      lunad.sleep(0)
      equal("fine", lunad.task(function() return "fine" end):wait())
    ]], { errors = true })
  end)

  it("runs thousands side by side", function()
    box:inside [[
      local done, tasks = 0, {}
      for i = 1, 5000 do
        tasks[i] = lunad.task(function() lunad.sleep(i % 10 / 1000); done = done + 1; return i end)
      end
      for i = 1, 5000 do equal(i, tasks[i]:wait()) end
      equal(5000, done)
    ]]
  end)

  it("can wait in a chain of any length", function()
    box:inside [[
      local last = lunad.task(function() lunad.sleep(0.001) return "first" end)
      for _ = 1, 60000 do
        local before = last
        last = lunad.task(function() local value = before:wait() return value end)
      end
      equal("first", last:wait())
    ]]
  end)

  it("reuses its memory", function()
    box:inside [[
      local function round()
        for _ = 1, 2000 do lunad.task(lunad.sleep, 0) end
        lunad.sleep(0.001)
        collectgarbage()
        return collectgarbage("count")
      end
      local first = round()
      for _ = 1, 5 do round() end
      truthy(round() - first < 256, "tasks that ended are kept")
    ]]
  end)

  it("is collected, with its results, once it has ended and is not referred to", function()
    box:inside [[
      local weak = setmetatable({}, { __mode = "v" })
      local function drop()
        local result = {}
        weak.result = result
        weak.task = lunad.task(function() lunad.sleep(0) return result end)
      end
      drop()
      collectgarbage()
      truthy(weak.task, "a task that runs was collected")
      eventually(function() return not (weak.task and weak.task:running()) end)
      collectgarbage()
      equal(nil, weak.task)
      equal(nil, weak.result)
    ]]
  end)

  it("keeps the script alive until it has ended", function()
    local result = box:inside "lunad.task(function() lunad.sleep(0.02) print('ended') end)"
    assert.equal("ended\n", result.out)
  end)

  it("has a name and a state as text, and a locked metatable", function()
    box:inside [[
      local task = lunad.task(lunad.sleep, 0)
      truthy(tostring(task):find("task"))
      equal("locked", getmetatable(task))
    ]]
  end)
end)

describe("task:wait", function()
  local box = support.with_box(before_each, after_each)

  it("returns the results: none, nil, several, thousands", function()
    box:inside [[
      local function results(...)
        return table.pack(lunad.task(function(...) lunad.sleep(0) return ... end, ...):wait())
      end
      equal(0, results().n)
      local one = results(nil)
      equal(1, one.n)
      equal(nil, one[1])
      local several = results(nil, false, "x", nil)
      equal(4, several.n)
      equal("x", several[3])
      equal(5000, results(table.unpack({}, 1, 5000)).n)
    ]]
  end)

  it("returns them again, also after the end", function()
    box:inside [[
      local value = {}
      local task = lunad.task(function() lunad.sleep(0) return value, 2 end)
      for _ = 1, 3 do
        local first, second = task:wait()
        equal(value, first)
        equal(2, second)
      end
      equal(2, select("#", task:wait()))
    ]]
  end)

  it("returns nil and the error, as it was raised", function()
    box:inside [[
      local object = {}
      local function wait(value, level)
        local task = lunad.task(function() lunad.sleep(0) error(value, level) end)
        local results = table.pack(task:wait())
        equal(2, results.n)
        equal(nil, results[1])
        return results[2]
      end
      equal(object, wait(object))
      equal("plain", wait("plain", 0))
      truthy(wait("placed"):find("inside.lua:%d+: placed"))
      equal(nil, wait(nil))
      equal(7, wait(7))
    ]]
  end)

  it("wakes all that wait, in the order they came, with the same results", function()
    box:inside [[
      local order, result = {}, {}
      local task = lunad.task(function() lunad.sleep(0.001) return result end)
      for i = 1, 5 do
        lunad.task(function() equal(result, task:wait()); order[#order + 1] = i end)
      end
      eventually(function() return #order == 5 end)
      for i = 1, 5 do equal(i, order[i]) end
    ]]
  end)

  it("raises for the task itself, also from a task deeper in its own callback", function()
    box:inside [[
      local task
      task = lunad.task(function()
        lunad.sleep(0)
        raises("wait for itself", function() task:wait() end)
        return "still here"
      end)
      equal("still here", task:wait())
    ]]
  end)

  it("is possible for a task that ended even where nothing can suspend", function()
    box:inside [[
      local task = lunad.task(function() return "x" end)
      equal("xx", (string.gsub("ab", ".", function() return (task:wait()) end)))
      equal("x", coroutine.wrap(function() return task:wait() end)())
    ]]
  end)

  it("can be given up by cancelling the task that waits", function()
    box:inside [[
      local slow = lunad.task(function() lunad.sleep(0.02) return "slow" end)
      local first = lunad.task(function() return slow:wait() end)
      local second = lunad.task(function() return slow:wait() end)
      first:cancel()
      equal(false, first:running())
      equal("slow", second:wait())
    ]]
  end)
end)

describe("A failed task", function()
  local box = support.with_box(before_each, after_each)

  it("is logged, with its traceback, if no other task waits for it", function()
    local result = box:inside(READY .. [[
      local function fail() error("broken") end
      local task = lunad.task(function() lunad.sleep(0) fail() end)
      eventually(function() return not task:running() end)
      equal(1, lunad.stats().errors.count)
      truthy(select(2, task:wait()):find("broken"))
      equal(1, lunad.stats().errors.count)
    ]], { errors = true })
    assert.truthy(result.err:find("uncaught error in a task: [^\n]*inside%.lua:1: broken\n"))
    assert.truthy(result.err:find("stack traceback:.*inside%.lua:1: in .*inside%.lua:2:"))
  end)

  it("is not logged if another task waits for it", function()
    local result = box:inside [[
      local task = lunad.task(function() lunad.sleep(0) error("broken") end)
      task:wait()
      equal(0, lunad.stats().errors.count)
    ]]
    assert.falsy(result.err:find("broken", 1, true))
  end)

  it("is logged if the only one that waited was cancelled", function()
    local result = box:inside(READY .. [[
      local task = lunad.task(function() lunad.sleep(0.01) error("broken") end)
      local waiter = lunad.task(function() task:wait() end)
      waiter:cancel()
      eventually(function() return not task:running() end)
    ]], { errors = true })
    assert.truthy(result.err:find("broken", 1, true))
  end)

  it("leaves the others and the script alone", function()
    box:inside(READY .. [[
      local beats, timer = 0, nil
      timer = lunad.every(0.002, function() beats = beats + 1 end)
      lunad.task(error, "x")
      lunad.task(error, {})
      lunad.task(error, setmetatable({}, { __tostring = error }))
      lunad.task(error)
      eventually(function() return beats > 3 end)
      equal(4, lunad.stats().errors.count)
      timer:stop()
    ]], { errors = true })
  end)

  it("before the script is ready makes the start fail", function()
    local result = box:run { "run", "-e", "require('lunad').task(error, 'early') print('reached')" }
    assert.equal(1, result.code)
    assert.truthy(result.err:find("early", 1, true))
  end)

  it("after the chunk first gave control back does not", function()
    local result = box:run { "run", "-e", "require('lunad').sleep(0) error('late')" }
    assert.truthy(result.err:find("late", 1, true))
    assert.falsy(result.err:find("start failed", 1, true))
  end)

  it("has its variables closed", function()
    box:inside [[
      local closed
      local task = lunad.task(function()
        local _ <close> = setmetatable({}, { __close = function(_, err) closed = err end })
        lunad.sleep(0)
        error("broken", 0)
      end)
      task:wait()
      equal("broken", closed)
    ]]
  end)
end)

-- For scripts: start a task that notes how it ends, cancel it, and see that it has ended.
local CANCELLED = [[
local function cancelled(fn)
  local seen = {}
  local task = lunad.task(function()
    local _ <close> = setmetatable({}, { __close = function(_, err) seen.closed, seen.err = true, err end })
    fn()
    seen.went_on = true
  end)
  equal(true, task:running())
  equal(0, select("#", task:cancel()))
  equal(false, task:running())
  equal(nil, seen.went_on)
  equal(true, seen.closed)
  truthy(seen.err, "no error was raised")
  equal(nil, (task:wait()))
  truthy(select(2, task:wait()))
  return task
end
]]

describe("task:cancel raises at the point of suspension:", function()
  local box = support.with_box(before_each, after_each)

  it("in sleep", function()
    local result = box:inside(CANCELLED .. "cancelled(function() lunad.sleep(100) end)")
    assert.equal("", result.err) -- the timer is gone as well: it has finished at once
  end)

  it("in wait for a task", function()
    box:inside(CANCELLED .. [[
      local other = lunad.task(lunad.sleep, 0.01)
      cancelled(function() other:wait() end)
      equal(true, other:running())
      other:wait()
    ]])
  end)

  it("in wait for a child, which is left alone", function()
    box:inside(CANCELLED .. [[
      local child = lunad.spawn { "cat", stdin = "pipe" }
      cancelled(function() child:wait() end)
      equal(true, child:running())
      child:close_stdin()
      equal(true, child:wait().ok)
    ]])
  end)

  it("in flush", function()
    box:inside(CANCELLED .. [[
      local child = lunad.spawn { "sleep", "100", stdin = "pipe" }
      child:write(("x"):rep(1000000))
      cancelled(function() child:flush() end)
      child:kill()
      equal("TERM", child:wait().signal)
    ]])
  end)

  it("in exec, whose child is ended", function()
    box:inside(CANCELLED .. [[
      local pid
      cancelled(function() lunad.exec { "sleep", "100" } end)
      local children = lunad.stats().children
      equal(1, #children)
      pid = children[1].pid
      eventually(function() return select(3, lunad.kill(pid, 0)) == "ESRCH" end)
      eventually(function() return #lunad.stats().children == 0 end)
    ]])
  end)

  it("in exec, whose child is killed if it ignores SIGTERM", function()
    box:inside [[
      local ready = false
      local task = lunad.task(lunad.exec, { "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done",
        stdout = function() ready = true end, kill_after = 0.05 })
      eventually(function() return ready end)
      task:cancel()
      equal(false, task:running())
      eventually(function() return #lunad.stats().children == 0 end)
    ]]
  end)

  it("deep inside calls, pcall and coroutine-free code", function()
    box:inside(CANCELLED .. [[
      local caught
      cancelled(function()
        local function deep(n) if n == 0 then lunad.sleep(100) else deep(n - 1) end end
        local ok, err = pcall(deep, 100)
        caught = not ok and err
        error(err, 0)
      end)
      truthy(caught)
    ]])
  end)
end)

describe("A cancelled task", function()
  local box = support.with_box(before_each, after_each)

  it("is not an error: nothing is logged, counted or shown to on_error", function()
    local result = box:inside [[
      lunad.on_error(function() print("on_error") end)
      local task = lunad.task(lunad.sleep, 100)
      task:cancel()
      lunad.task(function() lunad.sleep(100) end):cancel()
      equal(0, lunad.stats().errors.count)
    ]]
    assert.equal("", result.out)
    assert.falsy(result.err:find("error", 1, true))
  end)

  it("may catch the error, and end as it likes", function()
    box:inside [[
      local task = lunad.task(function()
        local ok, err = pcall(lunad.sleep, 100)
        return "caught", ok, err
      end)
      task:cancel()
      local word, ok, err = task:wait()
      equal("caught", word)
      equal(false, ok)
      truthy(err)
    ]]
  end)

  it("that fails while it cleans up is logged", function()
    local result = box:inside(READY .. [[
      local task = lunad.task(function()
        if not pcall(lunad.sleep, 100) then error("clean-up failed") end
      end)
      task:cancel()
      truthy(select(2, task:wait()):find("clean-up failed", 1, true))
    ]], { errors = true })
    assert.truthy(result.err:find("clean-up failed", 1, true))
  end)

  it("that catches the error again and again does not block the loop", function()
    box:inside [[
      local done, task = false, nil
      task = lunad.task(function()
        while not done do pcall(lunad.sleep, 0.001) end
      end)
      lunad.after(0.01, function() done = true end)
      task:cancel()
      eventually(function() return not task:running() end)
    ]]
  end)

  it("wakes those that wait for it", function()
    box:inside [[
      local task = lunad.task(lunad.sleep, 100)
      lunad.after(0.001, function() task:cancel() end)
      local results = table.pack(task:wait())
      equal(2, results.n)
      equal(nil, results[1])
      truthy(results[2])
    ]]
  end)

  it("can be cancelled again, and so can one that has ended, without effect", function()
    box:inside [[
      local closed = 0
      local task = lunad.task(function()
        local _ <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
        lunad.sleep(100)
      end)
      task:cancel()
      task:cancel()
      equal(1, closed)
      local ended = lunad.task(function() return "result" end)
      ended:cancel()
      equal("result", ended:wait())
    ]]
  end)

  it("can be cancelled from its own close handler, and by another one's", function()
    box:inside [[
      local first, second
      local function closer(fn) return setmetatable({}, { __close = fn }) end
      first = lunad.task(function()
        local _ <close> = closer(function() first:cancel(); second:cancel() end)
        lunad.sleep(100)
      end)
      second = lunad.task(function()
        local _ <close> = closer(function() first:cancel() end)
        lunad.sleep(100)
      end)
      first:cancel()
      equal(false, first:running() or second:running())
    ]]
  end)

  it("that runs is stopped where it next suspends", function()
    box:inside [[
      local steps, task = {}, nil
      task = lunad.task(function()
        lunad.sleep(0)
        task:cancel()
        steps[#steps + 1] = "runs on"
        lunad.sleep(0)
        steps[#steps + 1] = "never"
      end)
      eventually(function() return not task:running() end)
      equal("runs on", table.concat(steps, ","))
    ]]
  end)

  it("that is about to be woken does not continue", function()
    box:inside [[
      local went_on, first, second = false, nil, nil
      local slow = lunad.task(lunad.sleep, 0.001)
      first = lunad.task(function() slow:wait(); second:cancel() end)
      second = lunad.task(function() slow:wait(); went_on = true end)
      slow:wait()
      eventually(function() return not first:running() end)
      equal(false, second:running())
      equal(false, went_on)
    ]]
  end)

  it("leaves its coroutine to the next one", function()
    box:inside [[
      for _ = 1, 300 do
        local task = lunad.task(lunad.sleep, 100)
        task:cancel()
        equal("next", lunad.task(function() lunad.sleep(0) return "next" end):wait())
      end
    ]]
  end)
end)

describe("Suspending", function()
  local box = support.with_box(before_each, after_each)

  it("is possible in the chunk and in every callback", function()
    box:inside [[
      local seen = {}
      local function try(name) return function() lunad.sleep(0) seen[name] = true end end
      local handle = lunad.signal("USR1", try "signal")
      lunad.after(0, try "after")
      local beat = lunad.every(0.001, try "every")
      lunad.spawn { "sh", "-c", "echo out; echo err >&2", stdout = try "stdout", stderr = try "stderr",
        on_exit = try "on_exit" }
      lunad.on_stop(try "on_stop")
      lunad.kill(lunad.pid, "USR1")
      for _, name in ipairs { "signal", "after", "every", "stdout", "stderr", "on_exit" } do
        eventually(function() return seen[name] end)
      end
      handle:stop()
      beat:stop()
    ]]
  end)

  it("is possible across pcall, xpcall, metamethods, iterators, dofile and close handlers", function()
    box:write("chunk.lua", "require('lunad').sleep(0) return 'chunk'")
    box:inside(([[
      local nap = function() lunad.sleep(0) return "n" end
      local object = setmetatable({}, { __index = nap, __add = nap, __concat = nap, __call = nap,
        __newindex = nap, __unm = nap, __close = nap, __eq = nap, __lt = nap, __len = nap })
      equal("n", object.x .. "")
      equal("nnn", (object + 1) .. object() .. -object)
      equal("n", object .. 1)
      equal(true, object == setmetatable({}, getmetatable(object)))
      equal(true, object < object)
      object.y = #object
      do local _ <close> = object end
      for value in function(_, last) return not last and nap() or nil end do equal("n", value) end
      equal("n", select(2, pcall(nap)))
      equal("n", select(2, xpcall(nap, error)))
      equal("chunk", dofile("%s"))
    ]]):format(box:path("chunk.lua")))
  end)

  it("in a coroutine made by the script raises, and says why", function()
    box:inside [[
      local child = lunad.spawn { "cat", stdin = "pipe" }
      child:write(("x"):rep(1000000))
      local task = lunad.task(lunad.sleep, 0.01)
      for name, fn in pairs {
        sleep = function() lunad.sleep(0) end, exec = function() lunad.exec { "true" } end,
        ["task:wait"] = function() task:wait() end, ["child:wait"] = function() child:wait() end,
        ["child:flush"] = function() child:flush() end,
      } do
        local message = raises("not a task", coroutine.wrap(fn))
        truthy(message:find(name, 1, true), message)
        truthy(message:find("inside.lua:%d+:"), message)
      end
      child:kill("KILL")
      equal(1, #lunad.stats().children)
    ]]
  end)

  it("across a call of C raises, and says why", function()
    box:inside [[
      local function nap() lunad.sleep(0) end
      local sleepy = setmetatable({}, { __tostring = nap, __lt = nap, __gc = nap })
      raises("a C function", table.sort, { 1, 2, 3 }, nap)
      raises("a C function", string.gsub, "x", "x", nap)
      raises("a C function", tostring, sleepy)
      raises("a C function", print, sleepy)
      raises("a C function", table.sort, { sleepy, sleepy })
      truthy(select(2, load(nap)):find("a C function", 1, true))
      raises("a C function", string.gsub, "x", "x", function() lunad.exec { "true" } end)
      equal(0, #lunad.stats().children)
    ]]
  end)

  it("in a task that was started inside a coroutine or a C call is fine", function()
    box:inside [[
      local done = 0
      local function work() lunad.sleep(0); done = done + 1 end
      coroutine.wrap(function() lunad.task(work) end)()
      string.gsub("x", "x", function() lunad.task(work) end)
      table.sort({ 1, 2 }, function(a, b) lunad.task(work) return a < b end)
      eventually(function() return done >= 3 end)
    ]]
  end)

  it("by a bare coroutine.yield raises, which can be caught", function()
    box:inside [[
      raises("task", coroutine.yield)
      lunad.task(function()
        lunad.sleep(0)
        raises("task", coroutine.yield, 1)
      end):wait()
      lunad.sleep(0)
    ]]
  end)
end)

describe("At a stop", function()
  local box = support.with_box(before_each, after_each)

  -- Stops a daemon whose script is `text` once it has logged "up"; returns its log.
  local function stop(text)
    box:start("-n", "tasks", box:write("tasks.lua", "local lunad = require 'lunad' " .. text))
    box:wait_log("tasks", "up")
    local start = support.uv.hrtime()
    box:ok("stop", "tasks")
    assert.truthy(support.uv.hrtime() - start < 8e9, "the stop took as long as its deadline")
    return box:log("tasks")
  end

  it("tasks end where they are suspended, with their variables closed", function()
    local log = stop [[
      lunad.task(function()
        local _ <close> = setmetatable({}, { __close = function() print("closed") end })
        lunad.log.info("up")
        lunad.sleep(100)
        print("went on")
      end)
    ]]
    assert.truthy(log:find("closed", 1, true))
    assert.falsy(log:find("went on", 1, true))
  end)

  it("a task that waits for another does not continue when that one ends", function()
    local log = stop [[
      lunad.sleep(0)
      while true do
        local worker = lunad.task(function() lunad.log.info("up") lunad.sleep(100) end)
        worker:wait()
        lunad.log.info("went on")
      end
    ]]
    assert.falsy(log:find("went on", 1, true))
    assert.falsy(log:find(" error ", 1, true))
  end)

  it("a loop that catches every error still ends", function()
    stop [[
      lunad.log.info("up")
      while true do pcall(function() lunad.sleep(1) end) end
    ]]
  end)
end)

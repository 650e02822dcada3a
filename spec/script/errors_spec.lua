-- What the status and the log say of uncaught errors, and what --on-error exit does.

local support = require "support"

-- How often a pattern is in a text.
local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

describe("the places of uncaught errors", function()
  local box = support.with_box(before_each, after_each)

  -- Wait until the status counts so many errors; returns what it says of errors.
  local function wait_errors(number)
    return support.wait_for(number .. " errors", function()
      local errors = box:status("s").errors
      return errors.count >= number and errors
    end)
  end

  -- What a list of places has at a line of s.lua.
  local function at_line(errors, line)
    for _, place in ipairs(errors.places) do
      if place.where == box:path "s.lua" .. ":" .. line then
        return place
      end
    end
  end

  it("are none at first", function()
    box:serve ""
    local errors = box:status("s").errors
    assert.same({ 0, 0, 0 }, { errors.count, #errors.places, errors.elsewhere })
    assert.not_matches("errors", box:ok("status", "s"))
  end)

  it("have the line that raised, the kind of callback, the last message, and how often and when", function()
    local before = os.time()
    box:serve [[
      local function helper(n)
        error("boom " .. n)
      end
      local n = 0
      lunad.every(0.002, function()
        n = n + 1
        if n <= 40 then helper(n) end
      end)
      lunad.task(function() lunad.sleep(0.01) helper(0) end)
    ]]
    local errors = wait_errors(41)
    assert.same({ 41, 2 }, { errors.count, #errors.places })
    local timer, task = errors.places[1], errors.places[2]
    assert.same({ box:path "s.lua:2", "a timer", 40 }, { timer.where, timer.what, timer.count })
    assert.equal(box:path "s.lua:2: boom 40", timer.message)
    assert.same({ box:path "s.lua:2", "a task", 1 }, { task.where, task.what, task.count })
    assert.is_true(timer.first >= before - 2 and timer.last < before + 60) -- the clock may be set meanwhile
    assert.is_true(timer.last >= timer.first)
    assert.is_true(task.first == task.last)
  end)

  it("are found for errors of every kind", function()
    box:serve [[
      lunad.after(0.01, function()
        local t = nil; t.x = 1
      end)
      lunad.spawn { "echo", "x", stdout = lunad.by_line(function()
        error { "a table" }
      end) }
      lunad.signal("USR1", function()
        coroutine.wrap(function()
          error "inside" end)()
      end)
      lunad.kill(lunad.pid, "USR1")
      lunad.after(0.01, error, "from C")
      local task = lunad.task(function()
        local _ <close> = setmetatable({}, { __close = function()
          error "closing" end })
        lunad.sleep(10)
      end)
      lunad.after(0.01, function() task:cancel() end)
    ]]
    local errors = wait_errors(5)
    assert.equal("a timer", at_line(errors, 2).what)
    assert.equal("a by_line function", at_line(errors, 5).what)
    assert.equal("a signal handler", at_line(errors, 8).what)
    assert.equal("a task", at_line(errors, 15).what)
    assert.equal(5, #errors.places)
    assert.truthy(box:ok("status", "s"):find("1 in a timer at ?, ", 1, true))
  end)

  it("are counted over generations, and those of refused code are not", function()
    box:serve "lunad.after(0.01, function() error 'old' end)"
    wait_errors(1)
    assert.equal(1, box:reload("lunad.task(error, 'refused')").code)
    assert.equal(0, box:reload("\nlunad.after(0.01, function() error 'new' end) lunad.on_stop(error)").code)
    local errors = wait_errors(2)
    assert.equal(2, #errors.places)
    assert.same({ 1, 1 }, { at_line(errors, 1).count, at_line(errors, 2).count })
    box:ok("reload", "s") -- whose on_stop function fails
    errors = wait_errors(4)
    assert.equal(2, at_line(errors, 2).count)
  end)

  it("are at most 32: the rest is counted together", function()
    box:serve [[
      for i = 1, 50 do
        lunad.after(0.01, load(("\n"):rep(i - 1) .. "error 'x'", "=line"))
      end
    ]]
    local errors = wait_errors(50)
    assert.same({ 50, 32, 18 }, { errors.count, #errors.places, errors.elsewhere })
    assert.matches("\n            47 at other places\n", box:ok("status", "s"))
  end)

  it("are shown to people, the worst first", function()
    box:serve [[
      local n = 0
      lunad.every(0.001, function() n = n + 1 if n <= 1100 then error "often" end end)
      lunad.after(0.01, function() error "once" end)
    ]]
    wait_errors(1101)
    local text = box:ok("status", "s")
    assert.matches("\n  errors    1,101; the last [%d-]+ [%d:]+: [^\n]*s%.lua:2: often\n" ..
      "            1,100 in a timer at [^\n]*s%.lua:2, the last [%d.]+s ago\n" ..
      "            1 in a timer at [^\n]*s%.lua:3, [%d.]+s ago\n", text)
  end)
end)

describe("the log of uncaught errors", function()
  local box = support.with_box(before_each, after_each)

  it("has the first traceback of a place whole, and repeats in few lines; no count is lost", function()
    box:serve [[
      local n, seen = 0, 0
      lunad.on_error(function(message, trace)
        seen = seen + (message:find "boom" and trace:find "stack traceback" and 1 or 0)
        lunad.status("seen " .. seen)
      end)
      lunad.every(0.001, function() n = n + 1 if n <= 500 then error("boom " .. n) end end)
    ]]
    support.wait_for("all errors", function() return box:status("s").text == "seen 500" end)
    assert.equal(500, box:status("s").errors.count)
    box:ok("stop", "s")
    local log = box:log "s"
    assert.equal(1, count(log, "stack traceback:"))
    assert.matches("uncaught error in a timer: [^\n]*s%.lua:6: boom 1\n    stack traceback:\n", log)
    for n = 2, 5 do
      assert.matches("uncaught error in a timer: [^\n]*s%.lua:6: boom " .. n .. " %(again%)\n", log)
    end
    local repeats = 0
    for number in log:gmatch "%(repeated ([%d,]+) times in [%d.]+ s%)\n" do
      repeats = repeats + number:gsub(",", "")
    end
    assert.equal(495, repeats)
    assert.is_true(count(log, "uncaught error") <= 8, log)
  end)

  it("has each of different places whole", function()
    box:serve [[
      lunad.after(0.01, function() error "one" end)
      lunad.after(0.01, function() error "two" end)
      lunad.task(function() lunad.sleep(0.01) error "three" end)
    ]]
    for _, message in ipairs { "one", "two", "three" } do
      box:wait_log("s", "uncaught error in a %l+: [^\n]*" .. message .. "\n    stack traceback:")
    end
  end)

  it("has the first one of new code whole", function()
    box:serve "lunad.after(0.01, function() error 'boom' end)"
    box:wait_log("s", "stack traceback:")
    box:ok("reload", "s")
    box:wait_log("s", "generation 2.*s%.lua:1: boom\n    stack traceback:")
  end)

  it("has the whole message of repeats, also if that has NUL bytes", function()
    box:serve [[lunad.every(0.01, function() error "left\0right" end)]]
    box:wait_log("s", "s%.lua:1: left\\x00right\n.*s%.lua:1: left%?right %(again%)\n")
  end)

  it("is told in time of repeats that have ended, without a wake-up in between", function()
    box:serve "local n = 0 lunad.every(0.001, function(t) n = n + 1 if n <= 100 then error 'boom' end end)"
    box:wait_log("s", "boom %(repeated 95 times in 1%d s%)\n", 30)
  end)
end)

describe("the errors of a timer", function()
  local box = support.with_box(before_each, after_each)

  it("are counted for every kind, also when its function had been suspended", function()
    box:inside([[
      lunad.sleep(0)
      local every, later = 0, 0
      local beat = lunad.every(0.005, function() every = every + 1; error "x" end)
      local sleeper = lunad.every(0.005, function() lunad.sleep(0.001); later = later + 1; error "y" end)
      local cron = lunad.cron("* * * * *", error)
      eventually(function() return every >= 3 and later >= 3 end)
      beat:stop() sleeper:stop()
      local before = every
      beat:again(1000) sleeper:again(1000)
      lunad.sleep(0.01)
      local counts = {}
      for _, timer in ipairs(lunad.stats().timers) do
        if timer.interval == 1000 then counts[#counts + 1] = timer.errors end
        if timer.kind == "cron" then equal(0, timer.errors) end
      end
      table.sort(counts)
      local expected = { before, later }
      table.sort(expected)
      equal(2, #counts)
      equal(lunad.stats().errors.count, before + later)
      cron:stop() beat:stop() sleeper:stop()
    ]], { errors = true })
  end)
end)

describe("--on-error exit", function()
  local box = support.with_box(before_each, after_each)

  -- An error must end the daemon with status 1, and the log must say why. `also` is done once it runs.
  local function ends(text, what, also)
    local process = box:spawn { "run", "--on-error", "exit", box:write("s.lua", support.BEAT .. text) }
    if also then
      box:await(process, "the daemon", function() return process.err():find("started", 1, true) end)
      also(process)
    end
    box:await(process, "the end", process.is_over)
    assert.equal(1, process.code, process.err())
    assert.matches("stopping after an uncaught error in " .. what .. " at [^\n]* %(%-%-on%-error exit%)\n",
      process.err())
    assert.matches("lunad: stopped\n$", process.err())
    assert.same({}, box:left_files())
  end

  for what, text in pairs {
    ["a timer"] = "lunad.every(0.01, function() error 'x' end)",
    ["a task"] = "lunad.task(function() lunad.sleep(0.01) error 'x' end)",
    ["the script"] = "lunad.sleep(0.01) error 'x'",
    ["a signal handler"] = "lunad.signal('USR1', function() error 'x' end) lunad.kill(lunad.pid, 'USR1')",
    ["a stdout callback"] = "lunad.spawn { 'echo', stdout = function() error 'x' end }",
    ["a stderr callback"] = "lunad.spawn { 'sh', '-c', 'echo >&2', stderr = function() error 'x' end }",
    ["an on_exit callback"] = "lunad.spawn { 'true', on_exit = function() error 'x' end }",
    ["a luv callback"] = "local t = require 'luv'.new_timer() t:start(1, 0, function() error 'x' end)",
    ["a by_line function"] =
      "lunad.spawn { 'echo', stdout = lunad.by_line(function() error 'x' end) }",
  } do
    it("ends the daemon after an error in " .. what, function()
      ends(text, what)
    end)
  end

  it("ends the daemon after an error in a supervisor's functions", function()
    ends("lunad.supervise { 'true', on_exit = function() error 'x' end }", "an on_exit callback")
    ends([[lunad.supervise { 'false', max_restarts = 0, on_give_up = function() error 'x' end }]],
      "an on_exit callback")
  end)

  it("ends the daemon also if the on_error function fails, or does nothing", function()
    ends("lunad.on_error(function() error 'y' end) lunad.after(0.01, function() error 'x' end)",
      "the on_error function")
    ends("lunad.on_error(function() end) lunad.after(0.01, function() error 'x' end)", "a timer")
  end)

  it("holds after a reload, for old code and new", function()
    ends("if lunad.generation == 2 then lunad.after(0.01, function() error 'x' end) end", "a timer",
      function() box:ok("reload", "s") end)
    ends("lunad.on_stop(function() error 'x' end)", "an on_stop function",
      function() box:ok("reload", "s") end)
  end)

  it("does not end the daemon after a refused reload, or an error that is caught", function()
    box:serve([[
      pcall(error, "x")
      lunad.task(function()
        lunad.task(function() lunad.sleep(0.001) error "x" end):wait()
        print "waited"
      end)
    ]], "--on-error", "exit")
    box:wait_log("s", "waited")
    assert.equal(1, box:reload("error 'x'").code)
    assert.equal("running", box:status("s").state)
  end)
end)

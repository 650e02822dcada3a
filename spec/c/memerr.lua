-- What test_memerr tries while memory runs out: its arguments are a private directory and the name
-- of what to try.

local lunad = require "lunad"
local trial = require "trial" -- the test itself

local starve, effect, problem = trial.starve, trial.effect, trial.problem

-- An answer of nil, message counts as an error.
local function check(value, message)
  if not value then
    problem(message)
  end
  return value
end

local directory, name = ...

local acts = {}

function acts.after()
  starve()
  lunad.after(0, function(...)
    assert(select("#", ...) == 3)
    effect()
  end, {}, "x", 1.5)
end

-- The timer is made before, so that it must fire whatever happens.
function acts.armed_after()
  lunad.after(0, effect)
  starve(true)
end

function acts.every()
  local timer
  timer = lunad.every(0.0005, function()
    if timer then -- else there was no memory to make it: it cannot be stopped by its object
      effect()
      timer:stop()
    end
  end)
  starve(true)
end

function acts.again()
  local timer = lunad.after(100, effect)
  starve()
  timer:again(0)
end

function acts.cron()
  trial.before_minute()
  starve()
  local timer
  timer = lunad.cron("* * * * *", function()
    timer:stop()
    effect()
  end)
end

function acts.armed_cron()
  trial.before_minute()
  local timer
  timer = lunad.cron("* * * * *", function()
    timer:stop()
    effect()
  end)
  starve(true)
end

function acts.cron_spec()
  starve()
  local timer = lunad.cron("*/5 9-17,20 1 jan-mar mon,tue", effect)
  timer:stop()
  effect()
end

function acts.sleep()
  lunad.task(function()
    starve()
    lunad.sleep(0.0005)
    effect()
  end)
end

function acts.woken()
  lunad.task(function()
    lunad.sleep(0.0005)
    effect()
  end)
  starve(true)
end

function acts.task()
  starve(true)
  local task = lunad.task(function(...)
    lunad.sleep(0)
    return select("#", ...), ...
  end, 1, "two", {})
  local count, one, two = task:wait()
  if check(count, one) then
    assert(count == 3 and one == 1 and two == "two")
    effect()
  end
end

function acts.many_arguments()
  local list = {}
  for i = 1, 200 do
    list[i] = i
  end
  starve(true)
  local count = lunad.task(function(...) return select("#", ...) end, table.unpack(list)):wait()
  assert(count == 200)
  effect()
end

-- The error of a task that no other task waits for is reported, without memory too.
function acts.failing_task()
  starve(true)
  lunad.task(function()
    local list <close> = setmetatable({}, { __close = function() lunad.sleep(0) end })
    error({ list })
  end)
  lunad.after(0, effect)
end

function acts.cancelled_task()
  local task = lunad.task(function()
    local _ <close> = setmetatable({}, { __close = effect })
    lunad.sleep(100)
  end)
  starve(true)
  task:cancel()
end

function acts.coroutine()
  starve()
  local next_value = coroutine.wrap(function(...)
    coroutine.yield(...)
    return coroutine.resume(coroutine.create(function(...) return ... end), 1, 2, 3)
  end)
  assert(next_value("x") == "x")
  assert(select("#", next_value()) == 4)
  effect()
end

local handle = lunad.signal("USR2", effect)

function acts.signal()
  starve(true)
  assert(lunad.kill(lunad.pid, "USR2"))
end

function acts.new_signal()
  starve()
  local added = lunad.signal("USR1", function() end)
  added:stop()
  effect()
end

function acts.spawn()
  starve()
  local child, message = lunad.spawn { "true", env = { A = 1 }, on_exit = effect }
  check(child, message)
end

-- The child is there before: all that it says and its end must come, or an error.
function acts.exit()
  lunad.spawn { "true", on_exit = effect }
  starve(true)
end

function acts.output()
  lunad.spawn { "echo", "a line", stdout = function(chunk)
    if chunk == "a line\n" then
      effect()
    end
  end }
  starve(true)
end

function acts.by_line()
  lunad.spawn { "sh", "-c", "printf 'one\ntwo\nthree'", stdout = lunad.by_line(function(line)
    if line == "three" then
      effect()
    end
  end) }
  starve(true)
end

function acts.logged_output()
  lunad.spawn { "sh", "-c", "printf 'one\ntwo\nthree'; echo >&2 four", on_exit = effect }
  starve()
end

function acts.exec()
  starve()
  local result, message = lunad.exec { "cat", input = "hello" }
  if check(result, message) then
    assert(result.ok and result.stdout == "hello")
    effect()
  end
end

function acts.write()
  local child = lunad.spawn { "cat", stdin = "pipe", stdout = "null" }
  local text = ("x"):rep(200000)
  local _ <close> = setmetatable({}, { __close = function() child:close_stdin() end })
  starve()
  local ok, message = child:write(text)
  if check(ok, message) and check(child:flush()) then
    effect()
  end
end

function acts.wait()
  local child = lunad.spawn { "true" }
  starve(true)
  assert(child:wait().ok)
  effect()
end

function acts.supervise()
  starve()
  local supervisor, message
  supervisor, message = lunad.supervise { "sleep", "1000", count = 2, on_exit = function(exit)
    if not exit.ok then
      effect()
    end
  end }
  if check(supervisor, message) then
    supervisor:stop()
  end
end

function acts.unknown_command()
  starve()
  local child, message, code = lunad.spawn { "/nowhere/to/be/found" }
  assert(child == nil and code == "ENOENT", message)
  effect()
end

function acts.listen()
  starve()
  check(lunad.listen("unix:" .. directory .. "/listen"))
  effect()
end

function acts.new_listen()
  local path = directory .. "/listen" .. math.random(1 << 40)
  starve()
  local fd, message = lunad.listen("unix:" .. path, { mode = "600" })
  if check(fd, message) then
    effect()
  end
end

function acts.popen()
  starve()
  local pipe <close> = check(io.popen("echo x"))
  if pipe and check(pipe:read("a")) then
    effect()
  end
end

function acts.execute()
  starve()
  if check(os.execute("true")) then
    effect()
  end
end

function acts.stats()
  starve()
  local stats, message = lunad.stats()
  if check(stats, message) then
    assert(stats.name == "memerr" and #stats.timers > 0)
    effect()
  end
end

function acts.say()
  starve()
  lunad.log.info("a message", { a = 1, b = "two", c = {}, d = true, e = 1.5 })
  print("this", 1, {})
  lunad.status("all is well")
  effect()
end

function acts.error()
  starve(true)
  lunad.after(0, function() error("an error to be seen") end)
end

function acts.seen_error()
  lunad.on_error(function(message, traceback)
    if message:find("to be seen") and #traceback > #message then
      effect()
    end
  end)
  lunad.after(0, function() error("an error to be seen") end)
  starve(true)
end

function acts.on_stop()
  starve()
  lunad.on_stop(function() end)
  lunad.on_reload(function() end)
  lunad.on_error(function() end)
  effect()
end

-- Requests on the control socket are answered, or cut off; and the next one is answered again.
local function request(verb)
  starve()
  trial.ask(verb)
  local answer
  repeat
    lunad.sleep(0.0005)
    answer = trial.answer()
  until answer
  check(answer ~= "", "the connection was closed")
  effect()
end

function acts.control() request "status" end

function acts.reopen() request "reopen" end

function acts.luv()
  local timer = require "luv".new_timer()
  starve(true)
  timer:start(0, 0, function()
    timer:close()
    effect()
  end)
end

-- A line is lost only with an error; the child comes to its end.
function acts.failing_line()
  starve(true)
  local child, message = lunad.spawn { "printf", "one\ntwo\n", stdout = lunad.by_line(function(line)
    error { line }
  end) }
  check(child, message)
end

-- The child is started again, or the supervisor says why not.
function acts.restart()
  local supervisor
  local ends = 0
  local function on_exit()
    ends = ends + 1
    if ends == 2 then
      supervisor:stop()
      effect()
    end
  end
  supervisor = lunad.supervise { "true", backoff = { 0, 0 }, max_restarts = 3, within = 100,
    on_exit = on_exit, on_give_up = function() problem("it gives up") end }
  starve(true)
end

local act = assert(acts[name], name)
if name ~= "signal" then
  handle:stop()
end

trial.drive(act)
lunad.after(1e6, act) -- there is always something to wait for

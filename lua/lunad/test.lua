-- require "lunad.test": what specs have that are run by `lunad test`. In a service that a spec runs it has
-- only what the spec asks of it.

local core, lunad = ...

if not core.spec then
  error("lunad.test is for specs: run them with `lunad test`", 2)
elseif core.spec ~= "" then
  return core.load "test_remote.lua"
end

local SECOND = 1000000000

local uv = require "luv"
core.uv = uv

local test = {}

core.scope = core.load "test_scope.lua"
local fakes = core.load "test_fake.lua"
local services = core.load "test_service.lua"

-- Wait for some milliseconds, whatever the clock does.
function core.pause(ms)
  core.await(function(done)
    local timer = uv.new_timer()
    timer:start(ms, 0, function()
      timer:close()
      done()
    end)
    return true
  end)
end

local function check_seconds(seconds, default, n, name)
  if seconds == nil then
    return default
  end
  core.check_timeout(seconds, n, name)
  return seconds
end

-- Call `fn` until it returns a true value, and return what it returns; for at most `seconds`.
function test.eventually(fn, seconds)
  if not core.is_callable(fn) then
    core.raise("bad argument #1 to 'eventually' (a function expected)")
  end
  core.check_task "eventually"
  local deadline = uv.hrtime() + check_seconds(seconds, 10, 2, "eventually") * SECOND
  while true do
    local results = table.pack(fn())
    if results[1] then
      return table.unpack(results, 1, results.n)
    elseif uv.hrtime() >= deadline then
      core.raise(("not within %g s"):format(seconds or 10))
    end
    core.pause(5)
  end
end

local Clock = {}
Clock.__index = Clock
Clock.__name = "lunad.clock"

local current -- the clock that is frozen, or nil

local function check_clock(clock, method)
  if getmetatable(clock) ~= Clock then
    core.raise(("bad argument #1 to '%s' (a clock expected)"):format(method))
  elseif clock ~= current then
    core.raise(("%s: this clock was restored"):format(method))
  end
end

-- Freeze the clock of the specs and of the services that they run, at `at` (Unix time).
function test.clock(at)
  if at ~= nil and not (type(at) == "number" and at >= 0 and at < 1 << 33) then
    core.raise("bad argument #1 to 'clock' (Unix time expected)")
  elseif current then
    core.raise("the clock is frozen already")
  end
  local _, real = core.clock_now()
  real = at and math.floor(at * SECOND) or real
  core.clock_freeze(real)
  current = core.scope.add(setmetatable({}, Clock), Clock.restore)
  services.freeze(real)
  return current
end

-- Move the clock forward, and fire everything that is due on the way.
function Clock:advance(seconds)
  check_clock(self, "clock:advance")
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds <= core.TEN_YEARS) then
    core.raise("bad argument #1 to 'advance' (seconds from 0 to ten years expected)")
  end
  core.check_task "clock:advance"
  local now = core.clock_now()
  local target = now + math.floor(seconds * SECOND + 0.5)
  repeat
    local due = core.clock_next()
    local stop = due and due < target and math.max(due, now) or target
    services.advance(stop)
    local ok, why = core.clock_advance(stop)
    if not ok then
      core.raise("clock:advance: " .. why)
    end
    due = core.clock_next()
  until stop == target and (not due or due > target)
end

function Clock:now()
  check_clock(self, "clock:now")
  return lunad.now()
end

function Clock:time()
  check_clock(self, "clock:time")
  local _, real = core.clock_now()
  return real / SECOND
end

-- Let the clock run again.
function Clock:restore()
  if self == current then
    current = nil
    core.clock_release()
    services.release()
  end
end

Clock.__close = Clock.restore

test.fake = fakes.here
test.service = services.new

-- For `lunad test` itself.
function test.main(...)
  test.main = nil
  return core.load "test_run.lua"(...)
end

return test

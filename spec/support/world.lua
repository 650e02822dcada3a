-- What supervisors are checked against: time that passes when the spec says so, and children that end so.

local support = require "support"

-- An environment for lua/lunad/supervise.lua.
local World = {}
World.__index = World

function World.new()
  local world = setmetatable({}, World)
  world.time, world.timers, world.delays = 1000, {}, {}
  world.children, world.notes, world.errors = {}, {}, {}
  world.ends, world.strays, world.gave_up = {}, {}, false
  local core = {
    raise = function(message) error("raised: " .. message, 0) end,
    TEN_YEARS = 3650 * 86400,
    now = function() return world.time end,
    is_over = function() return world.over end,
    after = function(...) return world:after(...) end,
    spawn_marked = function(...) return world:spawn(...) end,
    note_ready = function(child, is_ready) child.ready = is_ready end,
    is_ready = function(child) return child.ready or false end,
    is_claimed = function(child) return child.claimed or false end,
    is_callable = function(value) return type(value) == "function" end,
    check_task = function() end,
    check_likely = function() end,
    await = function(fn) return world.await(fn) end,
    strays = function(child, signal)
      table.insert(world.strays, { child = child, signal = signal, time = world.time })
      child.strays = signal == "KILL" and 0 or child.strays
      return child.strays or 0
    end,
    note_give_up = function() world.gave_up = true end,
    end_reserve = function() end,
    end_child = function(child) child.told = world.time end,
    drop_claim = function(child)
      child.given_up = child.claimed
      return child.claimed
    end,
    note_child = function(child, restarts, last)
      world.notes[child] = { restarts = restarts, last = last }
    end,
    log = {
      error = function(...) table.insert(world.errors, { ... }) end,
      info = function(...) table.insert(world.ends, { "info", ... }) end,
      warn = function(...) table.insert(world.ends, { "warn", ... }) end,
    },
  }
  world.core = core
  local loaded = {}
  function core.load(name)
    loaded[name] = loaded[name] or assert(loadfile(support.root .. "/lua/lunad/" .. name))(core)
    return loaded[name]
  end
  world.supervise = core.load "supervise.lua"
  return world
end

function World:after(delay, fn, ...)
  local timer = { due = self.time + delay, fn = fn, args = table.pack(...) }
  function timer.stop() timer.stopped = true end
  table.insert(self.timers, timer)
  table.insert(self.delays, delay)
  return timer
end

-- Suspend the coroutine, as lunad.await does a task.
function World.await(fn)
  local co, answer = coroutine.running(), nil
  fn(function(...)
    answer = answer or table.pack(...)
    if coroutine.status(co) == "suspended" then
      assert(coroutine.resume(co))
    end
  end)
  if not answer then
    coroutine.yield()
  end
  return table.unpack(answer, 1, answer.n)
end

-- Call supervisor:restart() in a coroutine; returns a table that gets `ok`, `err` and `over` in the end.
function World.restart(_, supervisor)
  local call = {}
  call.co = coroutine.create(function()
    call.ok, call.err = supervisor:restart()
    call.over = true
  end)
  assert(coroutine.resume(call.co))
  return call
end

function World:spawn(options, how, tell)
  table.remove(self.delays) -- that of the timer for its readiness, which is made just before
  if self.refusal then
    return nil, self.refusal .. ": refused", self.refusal
  end
  local child = { options = options, name = options.name or "cmd", started = self.time, alive = true,
    pid = #self.children + 1, how = how, tell = tell }
  table.insert(self.children, child)
  return child
end

-- Let time pass, and the timers that are due fire.
function World:pass(seconds)
  local deadline = self.time + seconds
  while true do
    table.sort(self.timers, function(a, b) return a.due < b.due end)
    local timer = self.timers[1]
    if not timer or timer.due > deadline + 1e-9 then
      self.time = deadline
      return
    end
    table.remove(self.timers, 1)
    if not timer.stopped then
      self.time = timer.due
      timer.fn(table.unpack(timer.args, 1, timer.args.n))
    end
  end
end

-- Let a child end: with an exit code, or by a signal.
function World:exit(child, how)
  assert(child.alive, "it has ended already")
  child.alive = false
  local exit = { ok = how == 0, seconds = self.time - child.started, timed_out = false }
  exit[math.type(how) and "code" or "signal"] = how
  child.options.on_exit(exit, child)
end

-- The children that live, by pid.
function World:alive()
  local list = {}
  for _, child in ipairs(self.children) do
    if child.alive then
      table.insert(list, child)
    end
  end
  return list
end

function World:last()
  return self.children[#self.children]
end

-- Let the last child end, and time pass until there is another; returns the delay.
function World:cycle(how, lived)
  self:pass(lived or 0)
  self:exit(self:last(), how)
  local count, before = #self.children, self.time
  self:pass(100)
  self.time = before + self.delays[#self.delays]
  assert(#self.children == count + 1, "it was not started again")
  self:last().started = self.time
  return self.delays[#self.delays]
end

-- Options for a supervisor that never gives up.
function World.patient(options)
  options.max_restarts = options.max_restarts or 1000
  return options
end


return World

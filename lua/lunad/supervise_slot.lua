-- The slots of a supervisor: one for each of its `count` children. A slot is in one of these states:
--
--   state      what there is     an exit of the child means
--   running    a child           restart, by policy: waiting; or ended
--   rolling    a child that was  running again at once, for a rolling restart
--              told to end
--   waiting    a timer           -
--   ended      nothing           -
--
-- While a child runs, `is_ready` says whether it has become ready. `on_outcome`, if it is set, is called
-- once: with true when the child is ready, or with false and why it will not be.

local core = ...

local strays = core.load "supervise_strays.lua"

local HEALTHY = 10 -- seconds; a child that ran longer is not in a restart loop

local slots = {}

-- Whether the script is about to end, so that nothing is restarted. A supervisor that was made after its
-- script was replaced does restart.
function slots.is_over(state)
  local why = core.is_over()
  return why and why ~= state.made_when
end

-- The name of the child in a slot; nil for the default.
local function name_of(state, index)
  if state.count == 1 then
    return state.name
  end
  local base = state.name
  if base == nil and not state.spawn.keep then
    base = tostring(state.spawn[1]):match("[^/]+$") or "child"
    base = base:gsub("[^%w._-]", "_"):gsub("^[.-]", "_")
  end
  if type(base) ~= "string" then
    return base -- lunad.spawn reports what is wrong with it
  end
  return ("%s-%d"):format(base, index)
end

-- The name of the child that runs in a slot, or ran there last.
local function label(state, slot)
  local child = slot.child or slot.last
  return child and child.name or slot.name or tostring(state.spawn[1])
end

-- How a child ended, as text.
local function describe(exit)
  return exit.error or exit.signal and "signal " .. exit.signal or ("code %d"):format(exit.code)
end

-- Tell the one who waits for a slot.
local function tell(slot, ok, why)
  local on_outcome = slot.on_outcome
  slot.on_outcome = false
  if on_outcome then
    on_outcome(ok, why)
  end
end

-- Stop waiting until the child of a slot is ready.
local function unwatch(slot)
  slot.is_ready = false
  if slot.ready_timer then
    slot.ready_timer:stop()
    slot.ready_timer = false
  end
end

-- Handle that the child of a slot is ready.
local function become_ready(state, slot)
  unwatch(slot)
  slot.is_ready = true
  core.note_ready(slot.child, true)
  if slot.is_late then
    core.log.info("supervised child is ready", { name = label(state, slot), pid = slot.child.pid })
  end
  tell(slot, true)
end

-- Handle that the child of a slot is not ready in time. It may serve all the same, so it is left running.
local function be_late(state, slot)
  slot.ready_timer, slot.is_late = false, true
  core.log.warn("supervised child is not ready", {
    name = label(state, slot), pid = slot.child.pid, seconds = state.ready_timeout,
  })
  tell(slot, false, ("%s (pid %d) was not ready within %.10g s"):format(slot.child.name, slot.child.pid,
    state.ready_timeout))
end

-- Begin to wait until the child that a slot is about to get is ready.
local function watch(state, slot)
  slot.is_late = false
  if state.ready_by then
    slot.ready_timer = core.after(state.ready_timeout, be_late, state, slot)
  else
    slot.ready_timer = core.after(state.ready, become_ready, state, slot)
  end
end

-- Whether a line says that the child is ready.
local function is_found(state, slot, line)
  local ok, found = pcall(string.find, line, state.ready)
  if not ok and not state.is_malformed then
    state.is_malformed = true
    core.log.error("a pattern is malformed: no child will count as ready", {
      name = label(state, slot), pattern = state.ready, error = found,
    })
  end
  return ok and found
end

-- Handle a line of output of the child of a slot, or its own word (nil) that it is ready.
local function hear(state, slot, line)
  if slot.state == "running" and not slot.is_ready and (line == nil or is_found(state, slot, line)) then
    become_ready(state, slot)
  end
end

local on_exit

-- Start the child of a slot; returns it, or nil, error, code. What raises without memory comes before that.
local function start(state, slot)
  local options = {}
  for key, value in pairs(state.spawn) do
    options[key] = value
  end
  options.name = slot.name
  if state.count > 1 then
    options.env = {}
    for key, value in pairs(state.spawn.env or {}) do
      options.env[key] = value
    end
    options.env.LUNAD_INSTANCE = tostring(slot.index)
  end
  local child, err, code
  options.on_exit = function(exit, ended)
    on_exit(state, slot, exit, ended)
  end
  local tell_of = state.ready_by and function(line)
    if slot.child == child then
      hear(state, slot, line)
    end
  end
  local _ <close> = setmetatable({}, { __close = function()
    if not slot.child then
      unwatch(slot)
    end
  end })
  watch(state, slot)
  child, err, code = core.spawn_marked(options, state.ready_by, tell_of)
  if child then
    slot.child, slot.state = child, "running"
    core.note_child(child, slot.restarts, slot.last or nil)
    if core.is_ready(child) then -- for the generation that started it
      become_ready(state, slot)
    else
      core.note_ready(child, false)
    end
  end
  return child, err, code
end

-- Add a slot and start its child; returns that, or nil, error, code. The slot has all its fields from the
-- beginning, so that setting one later needs no memory.
function slots.add(state, index)
  local slot = {
    index = index, name = name_of(state, index), state = "ended", restarts = 0, failures = 0, child = false,
    last = false, timer = false, is_ready = false, is_late = false, ready_timer = false, on_outcome = false,
    strays_until = false,
  }
  state.slots[index] = slot
  return start(state, slot)
end

-- Log the unexpected end of a child, or that it could not be started again; `delay` is nil if it is not
-- restarted.
local function log_end(state, slot, exit, delay)
  if exit.error then -- there was no child
    core.log.error("a supervised command cannot be started", {
      name = label(state, slot), error = exit.error, delay = delay,
    })
    return
  end
  local log = exit.ok and core.log.info or core.log.warn
  log(delay and "supervised child ended, it is started again" or "supervised child ended", {
    name = label(state, slot), pid = slot.last.pid, exit = describe(exit),
    seconds = ("%.3f"):format(exit.seconds), delay = delay,
  })
end

-- Empty a slot: stop its timers and end its child, unless the old generation still owns that.
local function clear(slot)
  unwatch(slot)
  if slot.timer then
    slot.timer:stop()
    slot.timer = false
  end
  if slot.child and core.drop_claim(slot.child) then
    slot.child = false
  elseif slot.child then
    core.end_child(slot.child)
  end
  slot.state = "ended"
  if slot.strays_until then
    strays.forget(slot)
  end
end

-- Empty all slots for good; `why` is for those who wait for one.
function slots.stop(state, why)
  state.stopped = why
  for _, slot in ipairs(state.slots) do
    clear(slot)
    tell(slot, false, why)
  end
end

local function give_up(state, slot, exit)
  core.log.error("supervisor gives up", {
    name = label(state, slot),
    command = tostring(state.spawn[1]),
    exit = describe(exit),
    restarts = #state.times,
    within = state.within,
  })
  core.note_give_up()
  slots.stop(state, "the supervisor has given up")
  if state.on_give_up then
    core.end_reserve()
    state.on_give_up(state.object, exit)
  end
end

-- Drop restarts that are too old to count; returns whether one more is too many.
local function is_too_often(state, now)
  local recent = {}
  for _, time in ipairs(state.times) do
    if now - time < state.within then
      recent[#recent + 1] = time
    end
  end
  state.times = recent
  return #recent >= state.max_restarts
end

local schedule

-- Start the child of an empty slot again, unless the script is about to end. Waits until what the
-- previous child left behind is gone.
function slots.restart(state, slot)
  slot.timer = false
  if slots.is_over(state) then
    slot.state = "ended"
    tell(slot, false, "the script is about to end")
    return
  end
  if strays.are_left(slot) then
    slot.state = "waiting"
    slot.timer = core.after(strays.CHECK_EVERY, slots.restart, state, slot)
    return
  end
  slot.restarts = slot.restarts + 1
  local ok, child, err = pcall(start, state, slot) -- it raises without memory: later there may be some
  if not ok then
    child, err = nil, tostring(child)
  end
  if not child then
    tell(slot, false, ("%s could not be started: %s"):format(label(state, slot), err))
    schedule(state, slot, { ok = false, error = err, seconds = 0, timed_out = false })
  end
end

-- Restart the child of a slot after its delay.
function schedule(state, slot, exit)
  local now = core.now()
  if is_too_often(state, now) then
    log_end(state, slot, exit)
    strays.note(slot, exit, label(state, slot), true, state.kill_after)
    give_up(state, slot, exit)
    return
  end
  state.times[#state.times + 1] = now
  if exit.seconds >= HEALTHY then
    slot.failures = 0
  end
  local delay = math.min(state.first_delay * 2 ^ slot.failures, state.most_delay)
  slot.failures = slot.failures + 1
  slot.state = "waiting"
  log_end(state, slot, exit, delay)
  strays.note(slot, exit, label(state, slot), true, state.kill_after)
  slot.timer = core.after(delay, slots.restart, state, slot)
end

-- End the child of a slot and start it again; `on_outcome` is called when it is ready, or not.
function slots.roll(state, slot, on_outcome)
  slot.on_outcome = on_outcome
  if slot.state == "running" then
    slot.state = "rolling"
    unwatch(slot)
    core.end_child(slot.child)
    return -- on_exit continues
  end
  clear(slot)
  slots.restart(state, slot)
end

-- Handle the end of a child.
function on_exit(state, slot, exit, child)
  local before = slot.state
  local was_ready = slot.is_ready
  unwatch(slot)
  slot.child, slot.last = false, child
  if state.stopped or slots.is_over(state) then
    slot.state = "ended"
    tell(slot, false, "the script is about to end")
  elseif before == "rolling" then
    strays.note(slot, exit, label(state, slot), true, state.kill_after)
    slots.restart(state, slot)
  else
    if not was_ready then
      tell(slot, false, ("%s (pid %d) ended before it was ready: %s"):format(child.name, child.pid,
        describe(exit)))
    end
    if state.policy(exit) then
      schedule(state, slot, exit)
    else
      slot.state = "ended"
      log_end(state, slot, exit)
      strays.note(slot, exit, label(state, slot), false)
    end
  end
  if state.on_exit then
    core.end_reserve()
    state.on_exit(exit, child)
  end
end

return slots

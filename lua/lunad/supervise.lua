-- lunad.supervise: keep commands running.
--
-- A supervisor has a slot for each of its `count` children. A slot is in one of these states:
--
--   state      what there is     an exit of the child means
--   running    a child           restart, by policy: waiting; or ended
--   rolling    a child that was  running again at once, then the next slot rolls
--              told to end
--   waiting    a timer           -
--   ended      nothing           -

local core = ...

local HEALTHY = 10 -- seconds; a child that ran longer is not in a restart loop
local KILL_AFTER = 5 -- seconds between SIGTERM and SIGKILL for what a child has left behind, as for a child
local GONE_AFTER = 2 -- seconds to wait after SIGKILL
local CHECK_EVERY = 0.05 -- seconds between checks whether it has ended

local own_options = {
  count = true, restart = true, backoff = true, max_restarts = true, within = true,
  on_give_up = true, on_exit = true, name = true,
}

local policies = {
  always = function() return true end,
  ["on-failure"] = function(exit) return not exit.ok end,
  never = function() return false end,
}

-- The state of each supervisor object; scripts cannot reach it.
local private = setmetatable({}, { __mode = "k" })

local Supervisor = {}
Supervisor.__index = Supervisor
Supervisor.__name = "lunad.supervisor"

local function option_error(name, text)
  core.raise(("option '%s': %s"):format(name, text))
end

local function check_whole(name, value, least)
  local whole = type(value) == "number" and math.tointeger(value)
  if not whole or whole < least then
    option_error(name, ("a whole number from %d expected"):format(least))
  end
  return whole
end

local function check_backoff(value)
  local first, most
  if type(value) == "table" then
    first, most = value[1], value[2] or value[1]
  end
  local valid = type(first) == "number" and type(most) == "number" and first >= 0 and
    first <= most and most < math.huge
  if not valid then
    option_error("backoff", "{first, most} in seconds expected, such as {0.1, 30}")
  end
  return first, most
end

local function check_callable(name, value)
  local meta = getmetatable(value)
  if value ~= nil and type(value) ~= "function" and not (type(meta) == "table" and meta.__call) then
    option_error(name, "function expected, got " .. type(value))
  end
  return value
end

-- Read the options into a supervisor's state.
local function read_options(options)
  if type(options) ~= "table" then
    core.raise("bad argument #1 to 'supervise' (table expected, got " .. type(options) .. ")")
  end
  local state = { spawn = {}, slots = {}, times = {}, made_when = core.is_over() }
  local function get(name, default)
    local value = options[name]
    if value == nil then
      return default
    end
    return value
  end
  state.count = check_whole("count", get("count", 1), 1)
  state.policy = policies[get("restart", "always")]
  if not state.policy then
    option_error("restart", "\"always\", \"on-failure\" or \"never\" expected")
  end
  state.first_delay, state.most_delay = check_backoff(get("backoff", { 0.1, 30 }))
  state.max_restarts = check_whole("max_restarts", get("max_restarts", 5), 0)
  state.within = get("within", 10)
  if type(state.within) ~= "number" or state.within ~= state.within or state.within <= 0 then
    option_error("within", "seconds above 0 expected")
  end
  state.on_give_up = check_callable("on_give_up", options.on_give_up)
  state.on_exit = check_callable("on_exit", options.on_exit)
  for key, value in pairs(options) do
    if not own_options[key] then
      state.spawn[key] = value
    end
  end
  state.name = options.name
  state.kill_after = type(options.kill_after) == "number" and options.kill_after or KILL_AFTER
  return state
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

-- Whether the script is about to end, so that nothing is restarted. A supervisor that was made after its
-- script was replaced does restart.
local function is_over(state)
  local why = core.is_over()
  return why and why ~= state.made_when
end

local on_exit

-- Start the child of a slot; returns it, or nil, error, code.
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
  options.on_exit = function(exit, child)
    on_exit(state, slot, exit, child)
  end
  local child, err, code = core.spawn_marked(options)
  if child then
    slot.child, slot.state = child, "running"
    core.note_child(child, slot.restarts, slot.last)
  end
  return child, err, code
end

-- How a child ended, as text.
local function describe(exit)
  return exit.error or exit.signal and "signal " .. exit.signal or ("code %d"):format(exit.code)
end

-- The name of the child that runs in a slot, or ran there last.
local function label(state, slot)
  local child = slot.child or slot.last
  return child and child.name or slot.name or tostring(state.spawn[1])
end

-- Log the unexpected end of a child; `delay` is nil if it is not restarted.
local function log_end(state, slot, exit, delay)
  if exit.error then
    return -- there was no child; restart logged the error
  end
  local log = exit.ok and core.log.info or core.log.warn
  log(delay and "supervised child ended, it is started again" or "supervised child ended", {
    name = label(state, slot), pid = slot.last.pid, exit = describe(exit),
    seconds = ("%.3f"):format(exit.seconds), delay = delay,
  })
end

-- Check whether the child of a slot left processes behind at its end, and log it; they are told to end
-- if the child is restarted.
local function note_strays(state, slot, exit, again)
  local count = slot.last and core.strays(slot.last, again and "TERM" or "") or 0
  if count == 0 then
    return
  end
  local what = exit.ok and exit.seconds < HEALTHY and
    "supervised child has put itself in the background: have the command stay in the foreground" or
    "supervised child has left processes behind"
  core.log.warn(again and what .. "; what it left is ended" or what, {
    name = label(state, slot), pid = slot.last.pid, processes = count,
  })
  if again then
    slot.strays_until = core.now() + state.kill_after
  end
end

-- Whether processes that the child of a slot left behind still run; they are killed at their deadline.
local function has_strays(slot)
  if not slot.strays_until then
    return false
  end
  local late = core.now() - slot.strays_until
  if core.strays(slot.last, late >= 0 and "KILL" or "") > 0 and late < GONE_AFTER then
    return true
  end
  slot.strays_until = nil
  return false
end

-- Keep checking on what the child of an abandoned slot left behind, until it is gone.
local function forget_strays(slot)
  if has_strays(slot) and not core.is_over() then
    core.after(CHECK_EVERY, forget_strays, slot)
  end
end

-- Empty a slot: stop its timer and end its child, unless the old generation still owns that.
local function clear(slot)
  if slot.timer then
    slot.timer:stop()
    slot.timer = nil
  end
  if slot.child and core.drop_claim(slot.child) then
    slot.child = nil
  elseif slot.child then
    core.end_child(slot.child)
  end
  slot.state = "ended"
  if slot.strays_until then
    forget_strays(slot)
  end
end

local function stop(state)
  state.stopped = true
  for _, slot in ipairs(state.slots) do
    clear(slot)
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
  stop(state)
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

local schedule, restart

-- Restart the child of a slot, unless the script is about to end. Waits until what the previous child
-- left behind is gone.
function restart(state, slot)
  slot.timer = nil
  if is_over(state) then
    slot.state = "ended"
    return
  end
  if has_strays(slot) then
    slot.state = "waiting"
    slot.timer = core.after(CHECK_EVERY, restart, state, slot)
    return
  end
  slot.restarts = slot.restarts + 1
  local child, err = start(state, slot)
  if not child then
    core.log.error("a supervised command cannot be started", { name = label(state, slot), error = err })
    schedule(state, slot, { ok = false, error = err, seconds = 0, timed_out = false })
  end
end

-- Restart the child of a slot after its delay.
function schedule(state, slot, exit)
  local now = core.now()
  if is_too_often(state, now) then
    log_end(state, slot, exit)
    note_strays(state, slot, exit, true)
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
  note_strays(state, slot, exit, true)
  slot.timer = core.after(delay, restart, state, slot)
end

-- Continue a rolling restart: end the next child, or start the child of an empty slot.
local function roll(state)
  if state.stopped or is_over(state) then
    return -- it has given up since, or the script is about to end
  end
  local slot = state.rolling and state.slots[state.rolling]
  if not slot then
    state.rolling = nil
    if state.roll_again then
      state.roll_again, state.rolling = nil, 1
      return roll(state)
    end
    return
  end
  state.rolling = state.rolling + 1
  if slot.state == "running" then
    slot.state = "rolling"
    core.end_child(slot.child)
    return -- on_exit continues from here
  end
  clear(slot)
  restart(state, slot)
  return roll(state)
end

-- Handle the end of a child.
function on_exit(state, slot, exit, child)
  local rolling = slot.state == "rolling"
  slot.child, slot.last = nil, child
  if state.stopped or is_over(state) then
    slot.state = "ended"
  elseif rolling then
    note_strays(state, slot, exit, true)
    restart(state, slot)
    roll(state)
  elseif state.policy(exit) then
    schedule(state, slot, exit)
  else
    slot.state = "ended"
    log_end(state, slot, exit)
    note_strays(state, slot, exit, false)
  end
  if state.on_exit then
    core.end_reserve()
    state.on_exit(exit, child)
  end
end

local function check(self, method)
  local state = private[self]
  if not state then
    core.raise(("bad argument #1 to '%s' (supervisor expected)"):format(method))
  end
  return state
end

function Supervisor:stop()
  stop(check(self, "stop"))
end

function Supervisor:restart()
  local state = check(self, "restart")
  if state.stopped then
    core.raise("supervisor:restart: this supervisor has stopped")
  end
  if state.rolling then
    state.roll_again = true
  else
    state.rolling = 1
    roll(state)
  end
end

function Supervisor:children()
  local list = {}
  for _, slot in ipairs(check(self, "children").slots) do
    list[#list + 1] = slot.child
  end
  return list
end

-- The children that wait to be restarted, for the status report.
function core.waiting(most)
  local list, total = {}, 0
  for _, state in pairs(private) do
    for _, slot in ipairs(state.slots) do
      total = total + (slot.state == "waiting" and 1 or 0)
      if slot.state == "waiting" and total <= most then
        list[total] = {
          name = slot.name or slot.last and slot.last.name,
          command = table.concat(state.spawn, " "),
          restarts = slot.restarts,
          keep = state.spawn.keep or false,
          last = slot.last,
        }
      end
    end
  end
  return list, total
end

return function(options)
  local state = read_options(options)
  state.object = setmetatable({}, Supervisor)
  local complete = false
  -- If starting fails or raises, end the children that run: the caller gets no object to stop them by.
  local _ <close> = setmetatable({}, { __close = function()
    if not complete then
      stop(state)
    end
  end })
  for index = 1, state.count do
    local slot = { index = index, name = name_of(state, index), state = "ended" }
    slot.restarts, slot.failures = 0, 0
    state.slots[index] = slot
    local child, err, code = start(state, slot)
    if not child then
      return nil, err, code
    end
  end
  private[state.object] = state
  complete = true
  return state.object
end

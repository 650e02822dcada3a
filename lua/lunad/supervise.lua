-- lunad.supervise: keep commands running.

local core = ...

local read_options = core.load "supervise_options.lua"
local slots = core.load "supervise_slot.lua"
local roll = core.load "supervise_roll.lua"

-- The state of each supervisor object; scripts cannot reach it.
local private = setmetatable({}, { __mode = "k" })

local Supervisor = {}
Supervisor.__index = Supervisor
Supervisor.__name = "lunad.supervisor"

local function check(self, method)
  local state = private[self]
  if not state then
    core.raise(("bad argument #1 to '%s' (supervisor expected)"):format(method))
  end
  return state
end

-- supervisor:stop(): end all children, and restart none
function Supervisor:stop()
  slots.stop(check(self, "stop"), "the supervisor was stopped")
end

-- supervisor:restart() -> true | nil, error
function Supervisor:restart()
  local state = check(self, "restart")
  if state.stopped then
    core.raise("supervisor:restart: this supervisor has stopped")
  end
  core.check_task "supervisor:restart"
  return roll(state)
end

-- supervisor:children() -> list
function Supervisor:children()
  local list = {}
  for _, slot in ipairs(check(self, "children").slots) do
    list[#list + 1] = slot.child or nil
  end
  return list
end

-- Count the children that wait to be restarted, for the status report.
function core.count_waiting()
  local total = 0
  for _, state in pairs(private) do
    for _, slot in ipairs(state.slots) do
      total = total + (slot.state == "waiting" and 1 or 0)
    end
  end
  return total
end

local function describe_waiting(state, slot)
  return {
    name = slot.name or slot.last and slot.last.name or nil,
    command = table.concat(state.spawn, " "),
    restarts = slot.restarts,
    keep = state.spawn.keep or false,
    last = slot.last or nil,
  }
end

-- Walk over them: a function that looks at the next `most` places and returns a list of those that wait
-- there, and whether there are more places.
function core.walk_waiting()
  local states, at, place = {}, 1, 0
  for _, state in pairs(private) do
    states[#states + 1] = state
  end
  return function(most)
    local list = {}
    for _ = 1, most do
      local state = states[at]
      if not state then
        return list, false
      end
      place = place + 1
      local slot = state.slots[place]
      if not slot then
        at, place = at + 1, 0
      elseif slot.state == "waiting" then
        list[#list + 1] = describe_waiting(state, slot)
      end
    end
    return list, true
  end
end

return function(options)
  local state = read_options(options)
  state.object = setmetatable({}, Supervisor)
  local complete = false
  -- If starting fails or raises, end the children that run: the caller gets no object to stop them by.
  local _ <close> = setmetatable({}, { __close = function()
    if not complete then
      slots.stop(state, "the supervisor was not started")
    end
  end })
  for index = 1, state.count do
    local child, err, code = slots.add(state, index)
    if not child then
      return nil, err, code
    end
  end
  private[state.object] = state
  complete = true
  return state.object
end

-- The options of lunad.supervise.

local core = ...

local KILL_AFTER = 5 -- seconds between SIGTERM and SIGKILL for what a child has left behind, as for a child
local READY_AFTER = 0.5 -- seconds that a child lives until it counts as ready
local READY_TIMEOUT = 30 -- seconds, as for a daemon's own start

local own_options = {
  count = true, restart = true, backoff = true, max_restarts = true, within = true,
  on_give_up = true, on_exit = true, name = true, ready = true, ready_timeout = true,
}

local policies = {
  always = function() return true end,
  ["on-failure"] = function(exit) return not exit.ok end,
  never = function() return false end,
}

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
  if value ~= nil and not core.is_callable(value) then
    option_error(name, "function expected, got " .. type(value))
  end
  return value
end

local function check_seconds(name, value, most)
  if type(value) ~= "number" or not (value > 0 and value <= most) then
    option_error(name, "seconds above 0 expected")
  end
  return value
end

-- Whether lunad reads what a child writes to this stream, for itself or to drop it.
local function is_read(value)
  return value == nil or value == "log" or value == "null" or core.is_callable(value)
end

local function drop() end

-- Prepare the options of spawn for the search for a line: what would go to /dev/null has to be read.
local function let_hear(spawn)
  local joined = spawn.stderr == "stdout"
  if not is_read(spawn.stdout) and (joined or not is_read(spawn.stderr)) then
    option_error("ready", "a pattern needs output that lunad reads: " ..
      "stdout or stderr as \"log\", \"null\" or a function")
  end
  for _, name in ipairs { "stdout", "stderr" } do
    if spawn[name] == "null" then
      spawn[name] = drop
    end
  end
end

-- Check when a child counts as ready; returns that, and how the child is to say it.
local function check_ready(value, spawn)
  if value == nil then
    return READY_AFTER
  elseif type(value) == "number" then
    if not (value >= 0 and value <= core.TEN_YEARS) then
      option_error("ready", "seconds from 0 to ten years expected")
    end
    return value
  elseif type(value) ~= "string" then
    option_error("ready", "seconds, \"notify\" or a pattern expected, got " .. type(value))
  elseif value == "notify" then
    if type(spawn.env) == "table" and spawn.env.NOTIFY_SOCKET ~= nil then
      option_error("env", "NOTIFY_SOCKET is set by the option 'ready'")
    end
    return value, "notify"
  end
  local ok, err = pcall(string.find, "", value)
  if not ok then
    option_error("ready", err)
  end
  let_hear(spawn)
  return value, "line"
end

-- Read the options into a supervisor's state.
return function(options)
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
  for key, value in pairs(options) do
    if not own_options[key] then
      core.check_likely(key, own_options, "supervise")
      state.spawn[key] = value
    end
  end
  state.count = check_whole("count", get("count", 1), 1)
  state.policy = policies[get("restart", "always")]
  if not state.policy then
    option_error("restart", "\"always\", \"on-failure\" or \"never\" expected")
  end
  state.first_delay, state.most_delay = check_backoff(get("backoff", { 0.1, 30 }))
  state.max_restarts = check_whole("max_restarts", get("max_restarts", 5), 0)
  state.within = check_seconds("within", get("within", 10), math.huge)
  state.ready, state.ready_by = check_ready(options.ready, state.spawn)
  local ready_timeout = get("ready_timeout", READY_TIMEOUT)
  state.ready_timeout = check_seconds("ready_timeout", ready_timeout, core.TEN_YEARS)
  state.on_give_up = check_callable("on_give_up", options.on_give_up)
  state.on_exit = check_callable("on_exit", options.on_exit)
  state.name = options.name
  state.kill_after = type(options.kill_after) == "number" and options.kill_after or KILL_AFTER
  return state
end

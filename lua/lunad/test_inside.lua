-- What is different where specs run, and in the services that they run: the clock of os.time and os.date, and
-- the commands that a spec fakes. In a service, the file that core.spec names is run before the script.

local core, lunad = ...

local SECOND = 1000000000

local time, date = os.time, os.date

function os.time(moment)
  if moment ~= nil then
    return time(moment)
  end
  local _, real = core.clock_now()
  return real // SECOND
end

function os.date(format, moment)
  return date(format, moment or os.time())
end

-- The rule for a command: that of its whole line, of its longest beginning in words, or of "*".
function core.find_rule(rules, words)
  for last = #words, 1, -1 do
    local rule = rules[table.concat(words, " ", 1, last)]
    if rule ~= nil then
      return rule
    end
  end
  return rules["*"]
end

local real = { spawn = core.spawn, spawn_marked = core.spawn_marked }
core.real_spawn = real.spawn

-- The words of a command as text; nil if they are not what lunad.spawn wants.
local function words_of(options)
  local words = {}
  for i, word in ipairs(options) do
    if type(word) ~= "string" and type(word) ~= "number" then
      return nil
    end
    words[i] = tostring(word)
  end
  return words[1] and words
end

-- The options for the stand-in of a command.
local function stand_in(options, words, rule, mode)
  local changed = {}
  for key, value in pairs(options) do
    if math.type(key) ~= "integer" then
      changed[key] = value
    end
  end
  table.move({ core.program(), "test-command", core.fakes.path, mode }, 1, 4, 1, changed)
  table.move(words, 1, #words, 5, changed)
  if changed.name == nil and not changed.keep then
    changed.name = words[1]:match "[^/]+$":gsub("[^%w._-]", "_"):gsub("^[.-]", "_"):sub(1, 64)
  end
  if rule ~= "prompt" then
    return changed
  end
  local on_exit = options.on_exit
  core.clock_hold(1) -- until it has ended
  changed.on_exit = function(...)
    core.clock_hold(-1)
    if on_exit then
      return on_exit(...)
    end
  end
  return changed
end

-- Call a function of the module that spawns, with a stand-in if a spec fakes the command.
local function spawn(call, mode, options, ...)
  local words = core.fakes and type(options) == "table" and words_of(options)
  if not words then
    return call(options, ...)
  end
  local line = table.concat(words, " ")
  local rule = core.find_rule(core.fakes.rules, words)
  if rule == nil then
    core.raise(('the spec fakes commands, and has no word for this one: "%s"'):format(line))
  elseif rule == "real" then
    return call(options, ...)
  elseif rule == "missing" then
    return nil, "ENOENT: no such file or directory: " .. words[1], "ENOENT"
  end
  local changed = stand_in(options, words, rule, mode)
  local child, err, code = call(changed, ...)
  if not child and rule == "prompt" then
    core.clock_hold(-1)
  end
  return child, err, code
end

function lunad.spawn(options)
  return spawn(real.spawn, "spawn", options)
end

function core.spawn(options) -- of lunad.exec
  return spawn(real.spawn, "exec", options)
end

function core.spawn_marked(options, ...) -- of lunad.supervise
  return spawn(real.spawn_marked, "spawn", options, ...)
end

if core.spec ~= "" then
  assert(loadfile(core.spec, "t"))(core, lunad)
end

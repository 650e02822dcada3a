-- Reads configs: Lua files that return the options of services. Called by the verb that was given one, in
-- a state of its own, with a table of facts; returns the services in the order in which they are started,
-- and whether they are a set. Raises { status = 1 or 2, message = text }.

local facts = ...

-- What configs see: nothing that reaches a file, a process or another state.
local function sandbox()
  local env = { _VERSION = _VERSION, assert = assert, error = error, ipairs = ipairs, next = next,
    pairs = pairs, select = select, tonumber = tonumber, tostring = tostring, type = type,
    os = { date = os.date, getenv = os.getenv, time = os.time } }
  for _, name in ipairs { "math", "string", "table", "utf8" } do
    env[name] = {}
    for key, value in pairs(_G[name]) do
      env[name][key] = value
    end
  end
  env.string.dump = nil
  return env
end

-- Refuse a config whose KEY is wrong. That is an error of usage.
local function refuse(where, format, ...)
  error({ status = 2, message = where .. ": " .. format:format(...) }, 0)
end

-- A value as a message shows it.
local function show(value)
  if type(value) == "string" then
    return '"' .. value .. '"'
  elseif type(value) == "table" or type(value) == "function" then
    return "a " .. type(value)
  end
  return tostring(value)
end

-- The keys of a table, sorted.
local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end

-- How many letters differ between two words; two that are exchanged count as one.
local function distance(a, b)
  local rows = { [0] = {} }
  for j = 0, #b do
    rows[0][j] = j
  end
  for i = 1, #a do
    rows[i] = { [0] = i }
    for j = 1, #b do
      local changed = rows[i - 1][j - 1] + (a:byte(i) == b:byte(j) and 0 or 1)
      rows[i][j] = math.min(changed, rows[i - 1][j] + 1, rows[i][j - 1] + 1)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        rows[i][j] = math.min(rows[i][j], rows[i - 2][j - 2] + 1)
      end
    end
  end
  return rows[#a][#b]
end

-- "; did you mean NAME?", or "" if nothing in a sorted list is like a word.
local function suggest(word, names)
  local best, least = nil, math.max(1, #word // 3) + 1
  for _, name in ipairs(names) do
    local far = #word < 64 and distance(word:lower(), name) or least
    if far < least then
      best, least = name, far
    end
  end
  return best and ("; did you mean %s?"):format(best) or ""
end

-- Make a path absolute: relative ones are relative to the folder of the config.
local function absolute(path, folder)
  return path:sub(1, 1) == "/" and path or folder .. path:gsub("^%./+", "")
end

local WORDS = { log = { syslog = true, stderr = true, none = true } } -- which are no paths
local LISTS = { path = true, cpath = true } -- of paths, with ";" between

-- Make what is a path in the value of an option absolute.
local function resolve(option, text, folder)
  if option.name == "listen" then
    return (text:gsub("^unix:(.+)$", function(path) return "unix:" .. absolute(path, folder) end))
  elseif not option.is_path or text == "" or (WORDS[option.name] or {})[text] then
    return text
  elseif LISTS[option.name] then
    return (text:gsub("[^;]+", function(path) return absolute(path, folder) end))
  end
  return absolute(text, folder)
end

-- Check that a text can be a word of a command line.
local function check_text(text, where)
  if text:find("\0", 1, true) then
    refuse(where, "a text with a zero byte")
  end
  return text
end

-- Check that a value is a text, or a number, and return it as a text. WANTS says what it should be.
local function text_of(value, where, wants, takes_number)
  if type(value) == "string" then
    return check_text(value, where)
  elseif type(value) ~= "number" then
    refuse(where, "it must be %s, not %s", wants, show(value))
  elseif not takes_number then
    refuse(where, 'it must be %s, written as a text, not the number %s', wants, show(value))
  end
  return math.type(value) == "integer" and ("%d"):format(value) or ("%.14g"):format(value)
end

-- Check that a value is a list, or (with ONE) one of its elements, and return it as a list.
local function list_of(value, where, one)
  if type(value) == one then
    return { value }
  elseif type(value) ~= "table" then
    refuse(where, "it must be a list of texts, not %s", show(value))
  end
  for key in pairs(value) do
    if math.type(key) ~= "integer" or key < 1 or key > #value then
      refuse(where, "it must be a list of texts, but has the key %s", show(key))
    end
  end
  return value
end

-- Check that a value is a table whose keys are names.
local function map_of(value, where, what)
  if type(value) ~= "table" then
    refuse(where, "it must be a table of %s, not %s", what, show(value))
  end
  for key in pairs(value) do
    if type(key) ~= "string" then
      refuse(where, "it must be a table of %s, but has the key %s", what, show(key))
    end
  end
  return value
end

local LIMITS = { "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
  "nproc", "rss", "rtprio", "rttime", "sigpending", "stack" }

-- Readers of values that are no single text: each returns a list, or a map of texts.
local readers = {}

function readers.env(value, where)
  local map = {}
  for key, item in pairs(map_of(value, where, "variables")) do
    local place = where .. "." .. key
    if key == "" or key:find("[=%z]") then
      refuse(place, "it cannot be the name of a variable")
    end
    map[key] = text_of(item, place, "a text", true)
  end
  return map
end

function readers.rlimit(value, where)
  local map = {}
  for key, item in pairs(map_of(value, where, "limits")) do
    local place = where .. "." .. key
    if not facts.accepts("rlimit", check_text(key, place) .. "=1") then
      refuse(place, "there is no such limit%s", suggest(key, LIMITS))
    end
    map[key] = text_of(item, place, "a limit", true)
    if not facts.accepts("rlimit", key .. "=" .. map[key]) then
      refuse(place, "%s is not SOFT[:HARD], such as \"256:512\"", show(item))
    end
  end
  return map
end

function readers.listen(value, where, folder)
  local list = {}
  local option = facts.options.listen
  for i, item in ipairs(list_of(value, where, "string")) do
    list[i] = resolve(option, text_of(item, where, option.wants), folder)
    if not facts.accepts("listen", list[i]) then
      refuse(where, "%s is not %s", show(item), option.wants)
    end
  end
  return list
end

function readers.args(value, where)
  local list = {}
  for i, item in ipairs(list_of(value, where)) do
    list[i] = text_of(item, ("%s[%d]"):format(where, i), "a text", true)
  end
  return list
end

function readers.after(value, where)
  local list = {}
  for i, item in ipairs(list_of(value, where, "string")) do
    list[i] = text_of(item, where, "the name of a service")
  end
  return list
end

function readers.script(value, where, folder)
  local text = text_of(value, where, "a path")
  if text == "" then
    refuse(where, "it is empty")
  end
  return absolute(text, folder)
end

-- The value of an option that has one.
local function read_option(option, value, where, folder)
  if option.is_flag then
    if type(value) ~= "boolean" then
      refuse(where, "it must be true or false, not %s", show(value))
    end
    return value
  end
  local text = resolve(option, text_of(value, where, option.wants, option.takes_number), folder)
  if not facts.accepts(option.name, text) then
    refuse(where, "%s is not %s", show(value), option.wants)
  end
  return text
end

-- Every key that a service may have.
local known = { "after", "args", "script" }
for key in pairs(facts.options) do
  known[#known + 1] = key
end
table.sort(known)

-- Read the table of a service, or what is common to several, into texts, lists and maps.
local function read_table(own, prefix, folder, also)
  local values = {}
  for _, key in ipairs(sorted_keys(own)) do
    local where = prefix .. (type(key) == "string" and key or ("[%s]"):format(show(key)))
    local option = facts.options[key]
    if readers[key] then
      values[key] = readers[key](own[key], where, folder)
    elseif option then
      values[key] = read_option(option, own[key], where, folder)
    elseif key ~= also then
      local hint = type(key) == "string" and suggest(key, known) or ""
      hint = hint == "" and also and type(key) == "string" and suggest(key, { also }) or hint
      refuse(where, "there is no such option%s", hint)
    end
  end
  return values
end

-- A table with the keys of two; the second wins.
local function join(first, second)
  local both = {}
  for _, map in ipairs { first, second } do
    for key, value in pairs(map) do
      both[key] = value
    end
  end
  return both
end

-- Put the values of a service over common ones.
local function merge(common, own)
  local values = join(common, own)
  values.env = join(common.env or {}, own.env or {})
  values.rlimit = join(common.rlimit or {}, own.rlimit or {})
  return values
end

-- The options of a service as words of a command line.
local function words_of(values)
  local words = {}
  for _, key in ipairs(sorted_keys(values)) do
    local value, option = values[key], facts.options[key]
    local dashed = option and "--" .. option.name
    if key == "env" or key == "rlimit" then
      for _, name in ipairs(sorted_keys(value)) do
        words[#words + 1] = ("%s=%s=%s"):format(dashed, name, value[name])
      end
    elseif key == "listen" then
      for _, address in ipairs(value) do
        words[#words + 1] = dashed .. "=" .. address
      end
    elseif option and option.is_flag then
      words[#words + 1] = value and dashed or nil
    elseif option then
      words[#words + 1] = dashed .. "=" .. value
    end
  end
  return words
end

-- Make a service.
local function make(values, file, prefix)
  return { name = values.name or values.script and facts.script_name(values.script),
    script = values.script, file = file, prefix = prefix, words = words_of(values),
    args = values.args or {}, after = values.after or {}, run_dir = values.run_dir }
end

-- Add the services of a table `services`, with what they have in common.
local function add_services(services, map, common, file, folder)
  if type(map) ~= "table" or next(map) == nil then
    refuse(file .. ": services", "it must be a table of services by name, not %s",
      type(map) == "table" and "an empty one" or show(map))
  end
  for _, name in ipairs(sorted_keys(map)) do
    local prefix = ("%s: services.%s"):format(file, tostring(name))
    if type(name) ~= "string" or not facts.is_name(name) then
      refuse(prefix, "it is not %s", facts.options.name.wants)
    elseif type(map[name]) ~= "table" then
      refuse(prefix, "it must be a table of options, not %s", show(map[name]))
    elseif map[name].name ~= nil then
      refuse(prefix .. ".name", "its name is %s", name)
    end
    local values = merge(common, read_table(map[name], prefix .. ".", folder))
    if not values.script then
      refuse(prefix, "it has no script")
    end
    values.name = name
    services[#services + 1] = make(values, file, prefix .. ".")
  end
end

-- Run a config and return its table.
local function run_file(file)
  local chunk, why = facts.load(file, sandbox())
  if not chunk then
    error({ status = 1, message = why }, 0)
  end
  local ok, result = pcall(chunk)
  if not ok then
    local message = type(result) == "string" and result or "it failed with " .. show(result)
    local name = message:match "nil value %(global '([%w_]+)'%)$"
    if name and _G[name] then
      message = ("%s; configs have no %s"):format(message, name)
    end
    local has_file = message:sub(1, #file + 1) == file .. ":"
    error({ status = 1, message = has_file and message or file .. ": " .. message }, 0)
  elseif type(result) ~= "table" then
    refuse(file, "it must return a table of options, not %s", show(result))
  end
  return result
end

-- Add the services of a file; whether it has a table of them.
local function add_file(services, file)
  local own = run_file(file)
  local folder = file:match("^.*/")
  local values = read_table(own, file .. ": ", folder, "services")
  if own.services ~= nil then
    for _, key in ipairs { "name", "after" } do
      if values[key] then
        refuse(file .. ": " .. key, "it belongs into a service")
      end
    end
    add_services(services, own.services, values, file, folder)
    return true
  end
  local service = make(values, file, file .. ": ")
  if service.name and not facts.is_name(service.name) then
    refuse(file .. ": script", '"%s" cannot be a daemon\'s name: give one by `name`', service.name)
  end
  services[#services + 1] = service
  return false
end

-- Check that names are used once, and return the services by name.
local function index(services)
  local by_name = {}
  for _, service in ipairs(services) do
    local other = service.name and by_name[service.name]
    if other then
      refuse(service.file, "the service %s is in %s too", service.name, other.file)
    end
    if service.name then
      by_name[service.name] = service
    end
  end
  return by_name
end

-- Put the services into an order in which each comes after those that it names.
local function order(services)
  local by_name, state, path, ordered = index(services), {}, {}, {}
  local names = sorted_keys(by_name)
  local function visit(service)
    if state[service] == "open" then
      path[#path + 1] = service.name
      while path[1] ~= service.name do
        table.remove(path, 1)
      end
      refuse(service.prefix .. "after", "a circle: %s", table.concat(path, " after "))
    elseif state[service] then
      return
    end
    state[service] = "open"
    path[#path + 1] = service.name or "?"
    for _, name in ipairs(service.after) do
      if not by_name[name] then
        refuse(service.prefix .. "after", "there is no service %s%s", show(name), suggest(name, names))
      end
      visit(by_name[name])
    end
    path[#path] = nil
    state[service] = "done"
    ordered[#ordered + 1] = service
  end
  table.sort(services, function(a, b) return (a.name or "") < (b.name or "") end)
  for _, service in ipairs(services) do
    visit(service)
  end
  return ordered
end

local services, is_set = {}, facts.is_folder
for _, file in ipairs(facts.files) do
  local has_table = add_file(services, file)
  is_set = is_set or has_table
  local last = services[#services]
  if facts.is_folder and not last.script then
    refuse(file, "it has no script")
  end
end
return order(services), is_set

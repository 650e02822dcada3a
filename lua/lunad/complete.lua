-- The names that may continue the beginning of a line. Nothing of the script runs for it: fields are read
-- without metamethods, and an __index is followed only if it is a table.

local MAX_NAMES = 150
local MAX_LOOKS = 5000 -- keys of one table that are looked at
local MAX_DEPTH = 10 -- tables of a chain of __index
local MAX_TEXT = 1000 -- bytes at the end of the line

local WORDS = [[and break do else elseif end false for function goto if in local nil not or repeat return
  then true until while]]

-- The table that a value without a field itself has its fields of; nil if there is none.
local function behind(value)
  local meta = debug.getmetatable(value)
  local index = type(meta) == "table" and rawget(meta, "__index")
  return type(index) == "table" and index or nil
end

-- The tables that a value has its fields of, its own first.
local function sources(value)
  local list = {}
  local at = value
  for _ = 1, MAX_DEPTH do
    list[#list + 1] = type(at) == "table" and at or nil
    at = behind(at)
    if at == nil then
      break
    end
  end
  return list
end

-- A field of a value.
local function field(value, name)
  for _, source in ipairs(sources(value)) do
    local found = rawget(source, name)
    if found ~= nil then
      return found
    end
  end
  return nil
end

-- Whether a value can be called.
local function is_callable(value)
  local meta = debug.getmetatable(value)
  return type(value) == "function" or (type(meta) == "table" and rawget(meta, "__call") ~= nil)
end

-- Add the fields of a table that begin with `start`.
local function add_fields(names, source, start, wants)
  local key, value
  for _ = 1, MAX_LOOKS do
    key, value = next(source, key)
    if key == nil then
      return
    end
    local fits = type(key) == "string" and #key <= MAX_TEXT and key:sub(1, #start) == start and
      key:find("^[%a_][%w_]*$")
    if fits and (not wants or wants(value)) then
      names[key] = true
    end
  end
end

-- The value that the first names of a chain such as "a.b.c" lead to.
local function walk(chain)
  local value
  for name in chain:gmatch("[%w_]+") do
    if value == nil then
      value = name == "lunad" and package.loaded.lunad or field(_ENV, name)
    else
      value = field(value, name)
    end
    if value == nil then
      return nil
    end
  end
  return value
end

-- The names in a set, sorted.
local function sort(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = name
  end
  table.sort(names)
  return table.unpack(names, 1, math.min(#names, MAX_NAMES))
end

-- The fields of a value.
local function complete_field(value, sign, start)
  local names = {}
  for _, source in ipairs(value and sources(value) or {}) do
    add_fields(names, source, start, sign == ":" and is_callable or nil)
  end
  return sort(names)
end

return function(line)
  line = line:sub(-MAX_TEXT)
  local tail = line:match("[%w_.:]*$") -- each pattern below is anchored: a long line takes no longer for it
  local chain, sign, start = tail:match("^(.*)([.:])([%w_]*)$")
  if chain == "" then
    local is_string = line:sub(1, -#tail - 1):find("[\"']%)$")
    return complete_field(is_string and sign == ":" and "" or nil, sign, start)
  elseif chain then
    return complete_field(chain:find("^[%a_][%w_.]*$") and walk(chain), sign, start)
  end
  local names = {}
  for _, source in ipairs(sources(_ENV)) do
    add_fields(names, source, tail)
  end
  for word in (WORDS .. " lunad"):gmatch("%a+") do
    names[word] = word:sub(1, #tail) == tail or names[word]
  end
  return sort(names)
end

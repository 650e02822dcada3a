-- Values as a person reads them, whatever they are: every text is bounded, and of a metatable only
-- __tostring and __name are used. Called with the values; returns a list with a text for each.

local MAX_VALUES = 200
local MAX_TEXT = 1 << 20 -- bytes of a string that is a value itself
local MAX_ALL = 4 << 20 -- bytes of all values, about
local MAX_STRING = 200 -- bytes of a string in a table
local MAX_DEPTH = 6
local MAX_ITEMS = 100 -- of one table
local MAX_LOOKS = 2000 -- keys of one table that are looked at
local MAX_SIZE = 65536 -- bytes of one value, about
local LINE = 72 -- a table that is no longer stays on one line

local WORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return
  then true until while]]):gmatch("%a+") do
  WORDS[word] = true
end

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

-- A byte as an escape of Lua.
local function escape_byte(byte)
  return ESCAPES[byte] or ("\\x%02X"):format(byte:byte())
end

-- Where the UTF-8 sequence ends that begins at `at`; nil if there is none.
local function sequence_end(text, at)
  local byte = text:byte(at)
  local length = byte < 0x80 and 1 or byte >= 0xF0 and 4 or byte >= 0xE0 and 3 or byte >= 0xC2 and 2 or 1
  return utf8.len(text, at, at) and at + length - 1 or nil
end

-- A text with its invalid bytes as escapes.
local function clean(text)
  local first, bad = 1, select(2, utf8.len(text))
  if not bad then
    return text
  end
  local parts = {}
  while bad do
    parts[#parts + 1] = text:sub(first, bad - 1)
    parts[#parts + 1] = ("\\x%02X"):format(text:byte(bad))
    first = bad + 1
    bad = select(2, utf8.len(text, first))
  end
  parts[#parts + 1] = text:sub(first)
  return table.concat(parts)
end

-- The first `max` bytes of a text, or up to three less, so that no UTF-8 sequence is cut; and what says how
-- long it is.
local function cut(text, max)
  if #text <= max then
    return text, ""
  end
  local stop = max
  for at = max, math.max(max - 3, 1), -1 do
    if text:byte(at) >= 0xC0 then
      local last = sequence_end(text, at)
      stop = last and last > max and at - 1 or stop
      break
    end
  end
  return text:sub(1, stop), ("... (%d bytes)"):format(#text)
end

-- A string as Lua would have it.
local function quote(text)
  local part, more = cut(text, MAX_STRING)
  return '"' .. clean((part:gsub('[%c"\\\x7F]', escape_byte))) .. '"' .. more
end

-- What a value without a better text is called: its type, or the __name of its metatable, and its address.
local function name(value)
  local meta = debug.getmetatable(value)
  local given = type(meta) == "table" and rawget(meta, "__name")
  local is_usable = type(given) == "string" and #given <= 100
  return ("%s: %p"):format(is_usable and clean((given:gsub("%c", escape_byte))) or type(value), value)
end

-- Where a function is from.
local function describe_function(value)
  local info = debug.getinfo(value, "S")
  if info.what == "C" then
    return ("function: %p (C)"):format(value)
  end
  return ("function: %s:%d"):format(clean((info.short_src:gsub("%c", escape_byte))), info.linedefined)
end

-- What __tostring says; nil if there is none.
local function call_tostring(value, max)
  local meta = debug.getmetatable(value)
  local convert = type(meta) == "table" and rawget(meta, "__tostring")
  if not convert or type(value) == "string" then
    return nil
  end
  local ok, text = pcall(convert, value)
  if ok and type(text) == "string" then
    local part, more = cut(text, max)
    return clean(part) .. more
  elseif ok then
    return ("<%s; its __tostring returned no string>"):format(name(value))
  end
  local reason = type(text) == "string" and cut(text, MAX_STRING) or type(text)
  return ("<%s; its __tostring failed: %s>"):format(name(value), clean((reason:gsub("%c", escape_byte))))
end

-- A value that has no parts.
local function plain(value)
  local kind = type(value)
  if kind == "string" then
    return quote(value)
  elseif kind == "number" or kind == "boolean" or kind == "nil" then
    return tostring(value)
  end
  return call_tostring(value, MAX_STRING) or kind == "function" and describe_function(value) or name(value)
end

-- The order of keys: numbers, strings, all others as they come.
local RANKS = { number = 1, string = 2 }
local function precedes(a, b)
  local first, second = RANKS[type(a.key)] or 3, RANKS[type(b.key)] or 3
  if first ~= second then
    return first < second
  elseif first == 3 or a.key ~= a.key or b.key ~= b.key then
    return a.at < b.at
  end
  return a.key < b.key
end

-- The keys of a table beside 1 to `length`, sorted, and whether there are more than are looked at.
local function list_keys(value, length)
  local keys = {}
  local key = length > MAX_ITEMS and length or nil
  for looks = 1, MAX_LOOKS do
    key = next(value, key)
    if key == nil then
      table.sort(keys, precedes)
      return keys, false
    end
    if not (math.type(key) == "integer" and key >= 1 and key <= length) then
      keys[#keys + 1] = { key = key, at = looks }
    end
  end
  table.sort(keys, precedes)
  return keys, true
end

-- A key with the sign after it.
local function show_key(key)
  if type(key) == "string" and #key <= MAX_STRING and key:find("^[%a_][%w_]*$") and not WORDS[key] then
    return key .. " = "
  end
  return "[" .. plain(key) .. "] = "
end

local show -- of a value, in `state`: parents, size of what there is, indentation

-- Add an item to the list of those of a table; false if there is no room for it.
local function add(state, items, key, value)
  if #items >= MAX_ITEMS or state.size >= MAX_SIZE then
    return false
  end
  local text = key .. show(state, value)
  state.size = state.size + #text
  items[#items + 1] = text
  return true
end

-- The items of a table.
local function list_items(state, value)
  local items = {}
  local length = rawlen(value)
  local keys, is_more = list_keys(value, length)
  local left = length + #keys
  for i = 1, length do
    if not add(state, items, "", rawget(value, i)) then
      break
    end
    left = left - 1
  end
  for _, key in ipairs(keys) do
    if not add(state, items, show_key(key.key), rawget(value, key.key)) then
      break
    end
    left = left - 1
  end
  if left > 0 or is_more then
    items[#items + 1] = is_more and ("... (more than %d more)"):format(left) or ("... (%d more)"):format(left)
  end
  return items
end

-- A table, on one line or on several.
local function show_table(state, value)
  if state.parents[value] then
    return "<cycle>"
  elseif next(value) == nil then
    return "{}"
  elseif state.depth == MAX_DEPTH then
    return "{...}"
  end
  state.parents[value], state.depth = true, state.depth + 1
  local items = list_items(state, value)
  state.parents[value], state.depth = nil, state.depth - 1
  local line = table.concat(items, ", ")
  if #line + 2 + 2 * state.depth <= LINE and not line:find("\n", 1, true) then
    return "{" .. line .. "}"
  end
  local indent = ("  "):rep(state.depth)
  return "{\n" .. indent .. "  " .. table.concat(items, ",\n" .. indent .. "  ") .. "\n" .. indent .. "}"
end

function show(state, value)
  if type(value) == "table" then
    return call_tostring(value, MAX_STRING) or show_table(state, value)
  end
  return plain(value)
end

-- A value itself: a string is shown as it is.
local function show_value(value)
  if type(value) == "string" then
    local part, more = cut(value, MAX_TEXT)
    return clean(part) .. more
  end
  return call_tostring(value, MAX_TEXT) or show({ parents = {}, depth = 0, size = 0 }, value)
end

return function(...)
  local texts = {}
  local count = select("#", ...)
  local values = { ... }
  local size = 0
  for i = 1, count do
    if i > MAX_VALUES or size >= MAX_ALL then
      texts[i] = ("... (%d more)"):format(count - i + 1)
      break
    end
    texts[i] = show_value(values[i])
    size = size + #texts[i]
  end
  return texts
end

-- Finds what a text of Lua requires, without running it. Called with the text; returns a list of
-- { name, line, is_optional, is_nested }, the names that the text itself provides in package.preload or
-- package.loaded, and whether it changes where modules are searched.

local text = ...

local tokens = {} -- { kind = "name", "string" or "other", value, line }
local line = 1

local function add(kind, value)
  tokens[#tokens + 1] = { kind = kind, value = value, line = line }
end

-- The end of a string in quotes that begins at `from`.
local function end_of_quoted(from)
  local quote, at = text:sub(from, from), from + 1
  while true do
    local stop = text:find("[\\" .. quote .. "\n]", at)
    if not stop or text:sub(stop, stop) ~= "\\" then
      return stop or #text
    end
    at = stop + 2
  end
end

-- The contents of a long bracket that begins at `from`, and its end; nil if there is none.
local function long_bracket(from)
  local level = text:match("^%[(=*)%[", from)
  if level then
    local start = from + #level + 2
    local stop, last = text:find("]" .. level .. "]", start, true)
    return text:sub(start, (stop or #text + 1) - 1), last or #text
  end
end

-- Read the token at `at`; where the next one begins.
local function read(at)
  local char = text:sub(at, at)
  local last = select(2, text:find("^[%a_][%w_]*", at)) or select(2, text:find("^%d[%w.]*", at))
  local contents
  if text:find("^%-%-", at) then
    last = select(2, long_bracket(at + 2))
    return (last or (text:find("\n", at, true) or #text + 1) - 1) + 1
  elseif char == '"' or char == "'" then
    last = end_of_quoted(at)
    add("string", text:sub(at + 1, last - 1))
  elseif char == "[" and text:find("^%[=*%[", at) then
    contents, last = long_bracket(at)
    add("string", contents)
  elseif last then
    add(char:find "%d" and "other" or "name", text:sub(at, last))
  elseif not char:find "%s" then
    add("other", char)
  end
  return (last or at) + 1
end

-- Split the text into tokens.
local function split()
  local at = select(2, text:find("^\xEF\xBB\xBF")) or 0
  at = (select(2, text:find("^#[^\n]*", at + 1)) or at) + 1
  while at <= #text do
    local next_at = read(at)
    line = line + select(2, text:sub(at, next_at - 1):gsub("\n", ""))
    at = next_at
  end
end

split()

-- The value of a token, or "".
local function value(index)
  return tokens[index] and tokens[index].value or ""
end

-- Whether tokens from an index on are these; "*" is any string.
local function are(index, ...)
  for i, wanted in ipairs { ... } do
    local token = tokens[index + i - 1] or {}
    local is_string = token.kind == "string"
    if is_string ~= (wanted == "*") or not is_string and token.value ~= wanted then
      return false
    end
  end
  return true
end

local OPENS = { ["function"] = true, ["do"] = true, ["if"] = true, ["repeat"] = true }
local CLOSES = { ["end"] = true, ["until"] = true }

-- Which tokens are within a function that pcall or xpcall is given: what it requires may be missing. And
-- which are within any block, so that they may never run.
local function find_blocks()
  local guarded, nested, stack, depth = {}, {}, {}, 0
  for i, token in ipairs(tokens) do
    local is_word = token.kind == "name"
    if is_word and OPENS[token.value] then
      local is_guard = are(i - 2, "pcall", "(") or are(i - 2, "xpcall", "(")
      stack[#stack + 1] = is_guard
      depth = depth + (is_guard and 1 or 0)
    elseif is_word and CLOSES[token.value] then
      depth = depth - (table.remove(stack) and 1 or 0)
    end
    guarded[i], nested[i] = depth > 0, #stack > 0
  end
  return guarded, nested
end

-- Where the name of the function that the token at an index ends begins: _G.require is require.
local function start_of(index)
  return (are(index - 2, "_G", ".") or are(index - 2, "_ENV", ".")) and index - 2 or index
end

-- The index of the constant name that the `require` at an index is called with, and whether by pcall; nil if
-- there is none.
local function name_at(index)
  local start = start_of(index)
  local before = value(start - 1)
  if before == "." or before == ":" or before == "function" then
    return nil -- another require
  elseif are(index + 1, "*") then
    return index + 1, false
  elseif are(index + 1, "(", "*", ")") then
    return index + 2, false
  elseif are(start - 2, "pcall", "(") and are(index + 1, ",", "*") then
    return index + 2, true
  elseif are(start - 2, "xpcall", "(") and are(index + 1, ",") and are(index + 3, ",", "*") then
    return index + 4, true
  end
end

-- The name that package.preload or package.loaded gets at an index, if it is constant; nil if none.
local function provided_at(index)
  if are(index, "[", "*", "]", "=") then
    return value(index + 1)
  elseif are(index, ".") and are(index + 2, "=") then
    return value(index + 1)
  end
end

local found, provided, changes = {}, {}, false

-- Note what a mention of a field of `package`, at an index, does.
local function note_package(index)
  local field = value(index)
  local name = (field == "preload" or field == "loaded") and provided_at(index + 1)
  if name then
    provided[name] = true
  elseif field == "preload" or field == "searchers" or field == "path" or field == "cpath" then
    changes = changes or field == "preload" or field == "searchers" or are(index + 1, "=")
  end
end

local guarded, nested = find_blocks()
for i, token in ipairs(tokens) do
  local at, by_pcall
  if token.kind == "name" and token.value == "require" then
    at, by_pcall = name_at(i)
  elseif are(i, "package", ".") then
    note_package(i + 2)
  end
  if at and not tokens[at].value:find "[\\%z]" then
    found[#found + 1] = { name = tokens[at].value, line = token.line, is_optional = by_pcall or guarded[i],
      is_nested = nested[i] }
  end
end
return found, provided, changes

-- lunad.by_line: an output callback that is called with chunks and calls with lines.

local core = ...

local DEFAULT_MAX = 65536

local function is_callable(value)
  local meta = getmetatable(value)
  return type(value) == "function" or (type(meta) == "table" and meta.__call ~= nil)
end

-- Give `line` to `fn` in pieces of at most `max` bytes.
local function emit(fn, line, max)
  while #line > max do
    fn(line:sub(1, max))
    line = line:sub(max + 1)
  end
  fn(line)
end

-- Give all whole lines of `text` to `fn`; returns what is left.
local function emit_lines(fn, text, max)
  local start = 1
  while true do
    local stop = text:find("\n", start, true)
    if not stop then
      break
    end
    emit(fn, text:sub(start, stop - 1), max)
    start = stop + 1
  end
  local rest = text:sub(start)
  while #rest > max do
    fn(rest:sub(1, max))
    rest = rest:sub(max + 1)
  end
  return rest
end

return function(fn, max)
  if not is_callable(fn) then
    core.raise("bad argument #1 to 'by_line' (function expected, got " .. type(fn) .. ")")
  end
  if max == nil then
    max = DEFAULT_MAX
  elseif math.type(max) ~= "integer" or max < 1 then
    core.raise("bad argument #2 to 'by_line' (a whole number of bytes above 0 expected)")
  end
  local parts, size = {}, 0
  return function(chunk)
    if chunk == nil then
      local rest = table.concat(parts)
      parts, size = {}, 0
      if #rest > 0 then
        emit(fn, rest, max)
      end
      return
    end
    parts[#parts + 1] = chunk
    size = size + #chunk
    if size > max or chunk:find("\n", 1, true) then
      local text = table.concat(parts)
      parts, size = {}, 0
      local rest = emit_lines(fn, text, max)
      parts, size = { rest }, #rest
    end
  end
end

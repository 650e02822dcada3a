-- lunad.by_line: an output callback that is called with chunks and calls with lines.

local core = ...

local DEFAULT_MAX = 65536

-- For each callback made here, a function that takes the unfinished line out of it.
local takers = setmetatable({}, { __mode = "k" })

-- What a callback holds back, when its child changes hands; "" for any other function.
function core.take_partial(callback)
  local take = callback ~= nil and takers[callback]
  return take and take() or ""
end

local function is_callable(value)
  local meta = debug.getmetatable(value) -- whatever __metatable says
  return type(value) == "function" or (type(meta) == "table" and meta.__call ~= nil)
end

-- Call `fn` with a line. An error in it is no reason to lose the lines that follow.
local function emit(fn, line)
  local trace
  local ok, err = xpcall(fn, function(message)
    trace = debug.traceback("", 2):gsub("^\n", "")
    return message
  end, line)
  if not ok and err == "cancelled" then
    error(err, 0)
  elseif not ok then
    core.report("a by_line function", err, trace)
  end
end

-- Give `text` to `fn` in pieces of `max` bytes as long as there is more than that; returns the rest.
local function emit_pieces(fn, text, max)
  local start = 1
  while #text - start >= max do
    emit(fn, text:sub(start, start + max - 1))
    start = start + max
  end
  return text:sub(start)
end

-- Give all whole lines of `text` to `fn`; returns what is left.
local function emit_lines(fn, text, max)
  local start = 1
  local stop = text:find("\n", start, true)
  while stop do
    emit(fn, emit_pieces(fn, text:sub(start, stop - 1), max))
    start = stop + 1
    stop = text:find("\n", start, true)
  end
  return emit_pieces(fn, text:sub(start), max)
end

return function(fn, max)
  if not is_callable(fn) then
    core.raise("bad argument #1 to 'by_line' (function expected, got " .. type(fn) .. ")")
  end
  max = max == nil and DEFAULT_MAX or max
  if math.type(max) ~= "integer" or max < 1 then
    core.raise("bad argument #2 to 'by_line' (a whole number of bytes above 0 expected)")
  end
  local parts, size = {}, 0 -- of the unfinished line

  local function take()
    local text = table.concat(parts)
    parts, size = {}, 0
    return text
  end

  local function keep(text)
    parts[#parts + 1] = text
    size = size + #text
  end

  local function callback(chunk)
    if chunk == nil then
      local rest = take()
      if #rest > 0 then
        emit(fn, rest)
      end
      return
    end
    keep(chunk)
    if size > max or chunk:find("\n", 1, true) then
      keep(emit_lines(fn, take(), max))
    end
  end

  takers[callback] = take
  return callback
end

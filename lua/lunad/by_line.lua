-- lunad.by_line: an output callback that is called with chunks and calls with lines.

local core = ...

local DEFAULT_MAX = 65536

-- For each callback made here, its state: `parts` and `size` of the unfinished line, and `busy`, the
-- texts whose lines are being passed on.
local states = setmetatable({}, { __mode = "k" })

-- Call `fn` with a line. An error in it is reported, and the next line follows.
local function emit(fn, line)
  local trace, where -- stay nil if memory runs out: then no handler is called
  local ok, err = xpcall(fn, function(message)
    where = core.where()
    trace = debug.traceback("", 2):gsub("^\n", "")
    return message
  end, line)
  if not ok and err == "cancelled" then
    error(err, 0)
  elseif not ok then
    core.report("a by_line function", err, trace, where)
  end
end

-- Take what is before `stop` out of `work`, and `skip` bytes more.
local function cut(work, stop, skip)
  local piece = work.text:sub(work.start, stop - 1)
  work.start = stop + skip
  return piece
end

-- Where to end a piece of `text` from `start` that would end before `stop`: before the last UTF-8
-- sequence if `stop` would cut it, but never so that the piece is empty.
local function boundary(text, start, stop)
  for at = stop - 1, math.max(stop - 3, start + 1), -1 do
    local byte = text:byte(at)
    if byte < 0x80 or byte >= 0xC0 then
      local length = byte > 0xF4 and 1 or byte >= 0xF0 and 4 or byte >= 0xE0 and 3 or byte >= 0xC2 and 2 or 1
      return at + length > stop and at or stop
    end
  end
  return stop
end

-- Call `fn` with each whole line of a text, in pieces of at most `max` bytes; returns the rest. If that
-- takes long, the loop turns in between. While `fn` sleeps or the loop turns, the rest of the text may be
-- taken out of `work`.
local function emit_lines(fn, work, max)
  local text = work.text
  local newline
  local start = core.give_way()
  repeat
    newline = text:find("\n", work.start, true)
    local stop = newline or #text + 1
    while stop - work.start > max do
      emit(fn, cut(work, boundary(work.text, work.start, work.start + max), 0))
      start = core.give_way(start)
    end
    if newline and work.start <= newline then
      emit(fn, cut(work, newline, 1))
      start = core.give_way(start)
    end
  until not newline
  return cut(work, #text + 1, 0)
end

-- Take the unfinished line out of a state.
local function take_parts(state)
  local text = table.concat(state.parts)
  state.parts, state.size = {}, 0
  return text
end

-- Add to the unfinished line.
local function keep(state, text)
  state.parts[#state.parts + 1] = text
  state.size = state.size + #text
end

-- A text whose lines are being passed on leaves its list whatever happens.
local Work = {
  __close = function(work)
    for i, other in ipairs(work.busy) do
      if other == work then
        table.remove(work.busy, i)
        break
      end
    end
  end,
}

-- Pass on the whole lines of a text; returns the rest.
local function emit_text(state, text)
  local work <close> = setmetatable({ text = text, start = 1, busy = state.busy }, Work)
  state.busy[#state.busy + 1] = work
  local rest = emit_lines(state.fn, work, state.max)
  return rest -- not as a tail call: the text is in the list until then
end

-- Take all that a callback has not passed on yet, when its child gets a new owner; "" for other functions.
function core.take_partial(callback)
  local state = callback ~= nil and states[callback]
  if not state then
    return ""
  end
  local texts = {}
  for i, work in ipairs(state.busy) do
    texts[i] = cut(work, #work.text + 1, 0)
  end
  return table.concat(texts) .. take_parts(state)
end

-- Handle a chunk of output, or its end (nil).
local function on_chunk(state, chunk)
  if chunk == nil then
    local rest = take_parts(state)
    if #rest > 0 then
      emit(state.fn, rest)
    end
    return
  end
  keep(state, chunk)
  if state.size > state.max or chunk:find("\n", 1, true) then
    keep(state, emit_text(state, take_parts(state)))
  end
end

return function(fn, max)
  if not core.is_callable(fn) then
    core.raise("bad argument #1 to 'by_line' (function expected, got " .. type(fn) .. ")")
  end
  max = max == nil and DEFAULT_MAX or type(max) == "number" and math.tointeger(max)
  if not max or max < 1 then
    core.raise("bad argument #2 to 'by_line' (a whole number of bytes above 0 expected)")
  end
  local state = { fn = fn, max = max, parts = {}, size = 0, busy = {} }
  local function callback(chunk)
    on_chunk(state, chunk)
  end
  states[callback] = state
  return callback
end

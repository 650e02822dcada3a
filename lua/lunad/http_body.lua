-- Bodies of HTTP messages, read from a stream piece by piece.
--
-- What is wrong with a body is returned as nil, words and a number, the status that answers it; what is wrong
-- with the stream as nil, words and a code.

local core = ...

local head = core.load "http_head.lua"
local take = core.load("stream.lua").take

local find, match = string.find, string.match

local EXTRA_MAX = 16384 -- bytes of a chunked body that are not data, but extensions and trailers
local LINE_MAX = 1024 -- bytes of a line with a chunk's size
local SIZE_DIGITS = 12 -- of a chunk's size, without leading zeros

local Body = {}
Body.__index = Body

-- The body of a message on a stream. `length` is its length, "chunked", or false: it ends with the stream.
-- It has at most `most` bytes. `wait(owner)` suspends until the stream has more: true, or nil (the end),
-- error, code.
local function new(stream, length, most, wait, owner)
  return setmetatable({
    stream = stream, most = most, wait = wait, owner = owner, got = 0, extra = EXTRA_MAX,
    state = length == "chunked" and "size" or "data", is_chunked = length == "chunked",
    left = length == false and math.maxinteger or length ~= "chunked" and length or 0,
    ends_with_stream = length == false,
  }, Body)
end

-- Wait for more; fails at the end of the stream.
local function fill(body)
  local ok, words, code = body.wait(body.owner)
  if ok then
    return true
  end
  return nil, words or "EPIPE: broken pipe: the message ended before its end", code or "EPIPE"
end

-- Take a line of at most `most` bytes, without its end.
local function take_line(body, most)
  local stream, searched = body.stream, 1
  while true do
    local text = stream.buffer
    local stop = find(text, "\r\n", searched, true)
    if (stop or #text) > most + 1 then
      return nil, "a line of the chunked body is too long", 431
    elseif stop then
      return take(stream, stop + 1):sub(1, -3)
    elseif find(text, "[^\r]\n", math.max(searched - 1, 1)) or find(text, "^\n") then
      return nil, "a line of the chunked body ends without CR", 400
    end
    searched = math.max(#text, 1)
    local ok, words, code = fill(body)
    if not ok then
      return nil, words, code
    end
  end
end

-- Count bytes that are not data.
local function spend(body, size)
  body.extra = body.extra - size
  if body.extra < 0 then
    return nil, "the chunked body has too much that is not data", 431
  end
  return true
end

-- Read the size of the next chunk.
local function read_size(body)
  local line, words, code = take_line(body, LINE_MAX)
  if not line then
    return nil, words, code
  end
  local digits = match(line, "^(%x+)$")
  if not digits then
    digits = match(line, "^(%x+)[ \t]*;[\t -~\x80-\xFF]*$")
    if not digits then
      return nil, "a chunk has no valid size", 400
    end
  end
  local ok
  ok, words, code = spend(body, #line - #match(digits, "^0*(%x*)$")) -- leading zeros cost too
  if not ok then
    return nil, words, code
  end
  digits = match(digits, "^0*(%x+)$")
  local size = #digits <= SIZE_DIGITS and tonumber(digits, 16) or math.maxinteger
  if size > body.most - body.got then
    return nil, "the body is too large", 413
  end
  body.left, body.state = size, size > 0 and "data" or "trailers"
  return true
end

-- Read the trailers and the end of a chunked body. Trailers are checked and dropped.
local function read_trailers(body)
  local lines = {}
  while true do
    local line, words, code = take_line(body, body.extra)
    if not line then
      return nil, words, code
    elseif line == "" then
      break
    end
    local ok
    ok, words, code = spend(body, #line + 2)
    if not ok then
      return nil, words, code
    end
    lines[#lines + 1] = line .. "\r\n"
  end
  local text = table.concat(lines)
  local fields, status, words = head.parse_fields(text, 1, #text + 1)
  if not fields then
    return nil, words, status
  end
  body.state = "end"
  return true
end

-- Read the end of a chunk, after its data.
local function read_chunk_end(body)
  local stream = body.stream
  while #stream.buffer < 2 and find(stream.buffer, "^\r?$") do
    local ok, words, code = fill(body)
    if not ok then
      return nil, words, code
    end
  end
  if take(stream, 2) ~= "\r\n" then
    return nil, "a chunk is longer than its size", 400
  end
  body.state = "size"
  return true
end

local steps = { size = read_size, chunk_end = read_chunk_end, trailers = read_trailers }

-- Take what there is of the data, at most `size` bytes.
local function take_data(body, size)
  local stream = body.stream
  if stream.buffer == "" then
    local ok, words, code = body.wait(body.owner)
    if not ok and not words and body.ends_with_stream then
      body.state = "end"
      return nil
    elseif not ok then
      return nil, words or "EPIPE: broken pipe: the message ended before its end", code or "EPIPE"
    end
  end
  local data = take(stream, math.min(body.left, size))
  body.left, body.got = body.left - #data, body.got + #data
  if body.got > body.most then
    return nil, "the body is too large", 413
  elseif body.left == 0 then
    body.state = body.is_chunked and "chunk_end" or "end"
  end
  return data
end

-- Read what comes next, at most `size` bytes; nil at the end.
function Body:read(size)
  if self.state == "data" and self.left == 0 then
    self.state = "end"
  end
  while self.state ~= "end" do
    local step = steps[self.state]
    local data, words, code
    if step then
      data, words, code = step(self)
    else
      data, words, code = take_data(self, size)
    end
    if not data and self.state ~= "end" then
      return nil, words, code
    elseif not step and data ~= "" then
      return data
    end
  end
  return nil
end

-- Read to the end.
function Body:read_all()
  local parts, count = {}, 0
  while true do
    local data, words, code = self:read(math.maxinteger)
    if data then
      count = count + 1
      parts[count] = data
    elseif words then
      return nil, words, code
    else
      return table.concat(parts)
    end
  end
end

-- Whether it has been read, to its end, or to where only what is in the buffer is missing, which is skipped.
function Body:is_over()
  if self.state == "data" and self.left <= #self.stream.buffer and not self.is_chunked then
    take(self.stream, self.left)
    self.left, self.state = 0, "end"
  end
  return self.state == "end"
end

return new

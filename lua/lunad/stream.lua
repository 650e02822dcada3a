-- The streams of lunad.net: a connected socket that tasks read and write. The socket is luv's; what it
-- brings is kept until a task reads it, and a task that waits is woken. tls.lua puts TLS on top.

local core = ...

local READ_AHEAD = 65536 -- bytes that are taken from the kernel before a task reads them
local LINE_MAX = 65536

local Stream = { __name = "lunad.stream" }
Stream.__index = Stream

-- What luv says of an error, a code alone or "CODE: text", as nil, "CODE: text: detail", "CODE".
local function fail(err, detail)
  local code = err:match "^[%u%d_]+" or "EIO"
  return nil, ("%s: %s: %s"):format(code, core.explain_code(code), detail), code
end

-- An address of luv as text.
local function show(name)
  if type(name) == "string" then
    return "unix:" .. name
  end
  return (name.family == "inet6" and "[%s]:%d" or "%s:%d"):format(name.ip, name.port)
end

-- The end of a wait for something to read, also when the task is cancelled.
local Reader = {}
function Reader.__close(reader)
  reader.stream.waiter = nil
end

-- Make a stream of a connected handle. `address` is what the other side is called, if that is known.
local function new(handle, address)
  return setmetatable({ handle = handle, address = address, buffer = "" }, Stream)
end

-- What ends a wait of a stream, made when it first waits: one that no task reads needs none.
local function reader_of(stream)
  local reader = stream.reader
  if not reader then
    reader = setmetatable({ stream = stream }, Reader)
    stream.reader = reader
  end
  return reader
end

local function check(stream, method)
  if getmetatable(stream) ~= Stream then
    core.raise(("bad argument #1 to '%s' (lunad.stream expected, got %s)"):format(method, type(stream)))
  elseif stream.closed and not stream.moved then
    core.raise(method .. ": the stream is closed")
  end
end

-- Let the task that waits for a stream continue.
local function wake(stream)
  local waiter = stream.waiter
  if waiter then
    stream.waiter = nil
    waiter()
  end
end

-- Take data, the end, or an error from luv.
local function on_read(stream, err, chunk)
  if chunk then
    local buffer = stream.buffer
    buffer = buffer == "" and chunk or buffer .. chunk
    stream.buffer = buffer
    if #buffer >= READ_AHEAD then
      stream.reading = false
      stream.handle:read_stop()
    end
  else
    -- libuv takes a hang-up for a good end if it has just read something.
    stream.ended = err or core.socket_error(stream.handle:fileno()) or true
  end
  wake(stream)
end

-- Have luv bring data.
local function start_reading(stream)
  stream.on_read = stream.on_read or function(err, chunk) on_read(stream, err, chunk) end
  local ok, err = stream.handle:read_start(stream.on_read)
  if not ok then
    return fail(err, stream:peer())
  end
  stream.reading = true
  return true
end

-- For await: the task continues when there is something.
local function park(stream, done)
  stream.waiter = done
  return true
end

-- Why nothing more comes: nil, or nil, error, code.
local function explain_end(stream)
  if stream.ended == true then
    return nil
  end
  return fail(stream.ended, stream:peer())
end

-- Suspend until there is more in the buffer: true, nil at the end, or nil, error, code. At most `seconds`,
-- or as long as the stream may be idle.
local function fill(stream, seconds)
  if stream.ended then
    return explain_end(stream)
  elseif stream.waiter then
    core.raise "read: another task reads this stream"
  elseif stream.fill then
    return stream:fill(seconds)
  elseif not stream.reading then
    local ok, err, code = start_reading(stream)
    if not ok then
      return ok, err, code
    end
  end
  local before = stream.buffer
  seconds = seconds or stream.idle
  if stream.grace then -- it was not read for a while
    seconds, stream.grace = seconds and math.max(seconds, stream.grace), nil
  end
  local reader <close> = reader_of(stream) -- luacheck: ignore 211
  if not core.await_for(seconds, park, stream) then
    if stream.frozen then -- the other side may have sent something
      return stream:fill()
    end
    return core.timed_out(("%s has sent nothing for %.3g s"):format(stream:peer(), seconds))
  elseif stream.closed then
    return fail("ECANCELED", "the stream was closed meanwhile")
  elseif stream.ended and stream.buffer == before then
    return explain_end(stream)
  end
  return true
end

-- Wait in a task for those who asked to be called.
local function wait_in_task(stream)
  while stream.on_more do
    local ok, err = fill(stream, core.TEN_YEARS) -- who asked knows how long it may take
    if not ok then
      stream.ended = stream.ended or err or true
    end
    local on_more = stream.on_more
    stream.on_more = nil
    on_more()
  end
  stream.is_waited_for = false
end

-- Call a function once, in the task of what brings it, when there is more, or the end. No task waits
-- meanwhile, unless the stream is one of TLS.
local function on_data(stream, fn)
  if stream.fill then
    stream.on_more = fn
    if not stream.is_waited_for then
      stream.is_waited_for = true
      core.task(wait_in_task, stream)
    end
    return
  elseif not stream.reading and not stream.ended and not start_reading(stream) then
    stream.ended = true
  end
  stream.waiter = fn
  if stream.ended then
    core.after(0, wake, stream)
  end
end

-- Take the first `size` bytes, or all, out of the buffer.
local function take(stream, size)
  local buffer = stream.buffer
  if size >= #buffer then
    stream.buffer = ""
    return buffer
  end
  stream.buffer = buffer:sub(size + 1)
  return buffer:sub(1, size)
end

-- What is left of a time limit: seconds, or nil for none.
local function time_left(deadline)
  return deadline and math.max(deadline - core.now(), 0)
end

-- Read what there is.
local function read_some(stream, timeout)
  while stream.buffer == "" do
    local ok, err, code = fill(stream, timeout)
    if err then
      return nil, err, code
    elseif not ok then
      return nil
    end
  end
  local data = stream.buffer
  stream.buffer = ""
  return data
end

-- Read a number of bytes; fewer only at the end. After an error, what had come is there for the next read.
local function read_size(stream, size, timeout)
  local deadline = timeout and core.now() + timeout
  local parts, got = {}, 0
  stream.parts = parts -- for who hands the stream on
  local _ <close> = setmetatable({}, { __close = function()
    stream.parts = nil
    if parts[1] then
      stream.buffer = table.concat(parts) .. stream.buffer
    end
  end })
  while got < size do
    if stream.buffer == "" then
      local ok, err, code = fill(stream, time_left(deadline))
      if err then
        return ok, err, code
      elseif not ok then
        break
      end
    end
    parts[#parts + 1] = take(stream, size - got)
    got = got + #parts[#parts]
  end
  local data = table.concat(parts)
  parts = {}
  return (got > 0 or size == 0) and data or nil
end

-- Read to the next newline, which is dropped with a CR before it.
local function read_line(stream, timeout)
  local deadline = timeout and core.now() + timeout
  local searched = 1
  while true do
    local newline = stream.buffer:find("\n", searched, true)
    if (newline or #stream.buffer) > LINE_MAX then
      return fail("EMSGSIZE", ("a line of %s has more than %d bytes"):format(stream:peer(), LINE_MAX))
    elseif newline then
      return (take(stream, newline):gsub("\r?\n$", ""))
    end
    searched = #stream.buffer + 1
    local ok, err, code = fill(stream, time_left(deadline))
    if err then
      return ok, err, code
    elseif not ok then
      return stream.buffer ~= "" and take(stream, #stream.buffer) or nil
    end
  end
end

-- stream:read([n | "line" | "all"] [, timeout]) -> data | nil (the end) | nil, error, code
function Stream:read(what, timeout)
  check(self, "read")
  core.check_timeout(timeout, 2, "read")
  if what == nil then
    return read_some(self, timeout)
  elseif what == "line" then
    return read_line(self, timeout)
  elseif what == "all" then
    local data, err, code = read_size(self, math.maxinteger, timeout)
    if err then
      return nil, err, code
    end
    return data or ""
  end
  local size = type(what) == "number" and math.tointeger(what)
  if not size or size < 0 then
    core.raise "bad argument #1 to 'read' (a number of bytes, \"line\" or \"all\" expected)"
  end
  return read_size(self, size, timeout)
end

local function next_line(stream)
  local line, err = stream:read "line"
  if err then
    error(err, 0)
  end
  return line
end

-- for line in stream:lines() do … end; an error is raised, as by io.lines
function Stream:lines()
  check(self, "lines")
  return next_line, self
end

-- What luv has been given to write cannot be taken back: a stream whose task does not wait for it is closed.
local Writing = {}
function Writing.__close(writing)
  if not writing.is_over then
    writing.stream:close()
  end
end

-- Wait until luv has written what it was given: true, or false when the other side has read nothing for as
-- long as the stream may be idle.
local function wait_for_write(stream, writing)
  while not writing.is_over do
    local left = stream.handle:get_write_queue_size()
    local is_woken = core.await_for(stream.idle, park, writing)
    if stream.moved then
      core.load "parcel.lua".stay()
    elseif not is_woken and not writing.is_over and stream.handle:get_write_queue_size() >= left then
      return false
    end
  end
  return true
end

-- Have luv write what the kernel does not take at once: true | nil, nil, code. What is not written yet can be
-- found by `unsent`.
local function give(stream, writing, data)
  local writings = stream.writings or {}
  local ok, _, code = stream.handle:write(data, function(err)
    table.remove(writings, 1) -- luv writes them in their order
    writing.is_over, writing.err = true, err
    wake(writing)
  end)
  if ok then
    writing.data, stream.writings = data, writings
    writings[#writings + 1] = writing
  end
  return ok, nil, code
end

-- What was written and luv has not sent.
local function unsent(stream)
  local size = stream.handle:get_write_queue_size()
  if size == 0 then
    return ""
  end
  local parts = {}
  for i, writing in ipairs(stream.writings) do
    parts[i] = writing.data
  end
  return table.concat(parts):sub(-size)
end

-- Send what another generation could not; nothing waits for it.
local function send_on(stream, data)
  give(stream, {}, data)
end

-- Write what the kernel does not take at once, when the other side has read some.
local function write_rest(stream, data)
  local peer = stream:peer()
  local writing <close> = setmetatable({ stream = stream }, Writing)
  local ok, _, code = give(stream, writing, data)
  if not ok then
    writing.is_over = true
    return fail(code, peer)
  elseif not wait_for_write(stream, writing) then
    return core.timed_out(("%s has read nothing for %.10g s; the stream is closed"):format(peer, stream.idle))
  elseif writing.err then
    return fail(writing.err, peer)
  end
  return true
end

-- Write a string.
local function write(stream, data)
  if stream.send then
    return stream:send(data)
  end
  local sent, _, code = stream.handle:try_write(data)
  if sent == #data then
    return true
  elseif not sent and code ~= "EAGAIN" then
    return fail(code, stream:peer())
  end
  return write_rest(stream, sent and data:sub(sent + 1) or data)
end

-- The arguments of a `write` as one string.
local function join(...)
  local parts = { ... }
  for i = 1, select("#", ...) do
    if type(parts[i]) ~= "string" and type(parts[i]) ~= "number" then
      core.raise(("bad argument #%d to 'write' (string expected, got %s)"):format(i, type(parts[i])))
    end
  end
  return parts[2] and table.concat(parts) or tostring(parts[1] or "")
end

-- stream:write(data, …) -> true | nil, error, code. Suspends while the other side is slow.
function Stream:write(...)
  check(self, "write")
  local data = join(...)
  core.check_task "write"
  return write(self, data)
end

-- stream:shutdown() -> true | nil, error, code: nothing more is sent; the other side reads the end.
function Stream:shutdown()
  check(self, "shutdown")
  core.check_task "shutdown"
  if self.finish then
    return fail("ENOTSUP", "a side of TLS cannot be closed alone")
  elseif self.is_shut then
    return true
  elseif self.send then -- the connection is not here
    local ok, err, code = self:send("")
    if not ok then
      return nil, err, code
    end
  end
  local peer = self:peer()
  local ok, err, code = core.await_for(nil, self.handle.shutdown, self.handle)
  if not ok then
    return fail(code or err, peer)
  elseif err then
    return fail(err, peer)
  end
  self.is_shut = true
  return true
end

-- stream:close(); twice does nothing. What was written is sent.
function Stream:close()
  if getmetatable(self) ~= Stream then
    check(self, "close")
  elseif not self.closed then
    self.closed = true
    if self.key then
      core.load "parcel.lua".take_back(self)
    end
    if self.finish then
      self:finish() -- closes the handle
    else
      self.handle:close()
    end
    wake(self)
    if self.server then
      self.server:leave()
    end
  end
end

Stream.__close = Stream.close

-- Close a stream that was dropped.
function Stream:__gc()
  if not self.closed and not self.handle:is_closing() then
    self:close()
  end
end

-- stream:hand_on(key) -> true | nil, error, code: the connection continues in the next generation
function Stream:hand_on(key)
  check(self, "hand_on")
  return core.load "parcel.lua".hand_on(self, key)
end

-- stream:peer() -> the address of the other side
function Stream:peer()
  if not self.address then
    local name = not self.closed and self.handle:getpeername()
    self.address = name and name ~= "" and show(name) or self.server and self.server.text or "?"
  end
  return self.address
end

return {
  new = new, check = check, fail = fail, show = show, fill = fill, take = take, join = join, write = write,
  reader_of = reader_of, on_data = on_data, wake = wake, time_left = time_left, unsent = unsent,
  send_on = send_on, Stream = Stream,
}

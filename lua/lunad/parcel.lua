-- Connections that move to the next generation: stream:hand_on and net.taken. A stream that is handed on
-- is not read during the reload, so that its state is the one that on_reload has returned; what has come is
-- kept aside. Until the commit the old generation has the connection, and the new one has a stream that
-- waits for it. api/parcel.c calls the functions of `core` here at the steps of a reload.

local core = ...

local uv = require "luv"
local streams = core.load "stream.lua"

local fail, wake = streams.fail, streams.wake

local KEY_MAX = 1000
local GRACE = 0.2 -- seconds for what has come in the meantime, when a stream is read again

local parcel = {
  last_offers = {}, -- functions that hand on streams when the next generation takes over
  adopters = {}, -- beginning of a key, up to its last space -> function that takes the stream
}

local handed = {} -- streams that this generation hands on, by key
local awaited = {} -- streams whose connections it gets when the reload is over, by key

core.use_parcels()

-- For await: nothing ends this but the end of the task.
local function never()
  return true
end

-- Suspend for good: a task of the old generation that continues with a connection it does not have.
function parcel.stay()
  core.await_for(nil, never)
end

-- For await: the task continues when the stream is woken.
local function park(stream, done)
  stream.waiter = done
  return true
end

-- Wait until the stream may be read again.
local function wait_to_read(stream)
  local reader <close> = streams.reader_of(stream) -- luacheck: ignore 211
  core.await_for(nil, park, stream)
  if stream.closed then
    return fail("ECANCELED", "the stream was closed meanwhile")
  end
  return true
end

-- Stop reading a stream, and put what has come aside.
local function freeze(stream)
  if stream.frozen then
    return
  end
  stream.frozen = { buffer = stream.buffer, ended = stream.ended }
  stream.buffer, stream.ended, stream.fill = "", nil, wait_to_read
  if stream.reading then
    stream.reading = false
    stream.handle:read_stop()
  end
end

-- Read a stream again, which is not handed on after all.
local function thaw(stream)
  local frozen = stream.frozen
  stream.key = nil
  if frozen then
    stream.frozen, stream.fill = nil, nil
    stream.buffer, stream.ended, stream.grace = frozen.buffer, frozen.ended, GRACE
    wake(stream)
  end
end

-- Stop handing a stream on.
function parcel.take_back(stream)
  core.take_back(stream.key)
  handed[stream.key] = nil
  stream.key = nil
end

-- stream:hand_on(key) -> true | nil, error, code: its connection continues in the next generation.
function parcel.hand_on(stream, key)
  if type(key) ~= "string" or key == "" or #key > KEY_MAX then
    core.raise(("bad argument #1 to 'hand_on' (a string of 1 to %d bytes expected)"):format(KEY_MAX))
  elseif stream.finish then
    return fail("ENOTSUP", "a connection with TLS cannot be handed on: its keys are in this generation")
  elseif stream.moved then
    return fail("ECANCELED", "the connection was handed on")
  elseif stream.blocked then
    return fail("EAGAIN", "the connection has not come yet from the generation before")
  elseif stream.key == key then
    return true
  end
  local peer = stream:peer()
  local _, is_unix = core.socket_address(stream.handle:fileno())
  local ok, is_under_way, code = core.offer(key, peer, is_unix)
  if not ok then
    return nil, is_under_way, code
  elseif stream.key then
    parcel.take_back(stream)
  end
  stream.key, handed[key] = key, stream
  if is_under_way then
    freeze(stream)
  end
  return true
end

-- A reload begins.
function core.freeze_parcels()
  for _, stream in pairs(handed) do
    freeze(stream)
  end
end

-- It has been refused.
function core.thaw_parcels()
  local all = handed
  handed = {}
  for _, stream in pairs(all) do
    thaw(stream)
  end
end

-- The next generation takes over now. Those who know until the last moment what they hand on offer it here.
function core.offer_last()
  for _, offer in ipairs(parcel.last_offers) do
    offer()
  end
end

local function refuse_to_send()
  return fail("ECANCELED", "the connection was handed on")
end

-- Let go of a connection that another generation has now: nothing is said to the other side.
local function let_go(stream)
  stream.moved, stream.closed, stream.key, stream.waiter = true, true, nil, nil
  stream.fill, stream.send = parcel.stay, refuse_to_send
  stream.handle:close()
  if stream.server then
    stream.server:leave()
  end
end

local function hand_over(key, stream)
  local received = table.concat(stream.parts or {}) .. stream.frozen.buffer
  local ok, err = core.hand_over(key, stream.handle:fileno(), received, streams.unsent(stream))
  if not ok then
    error(err, 0)
  end
end

-- The reload is done: hand the connection over. If that fails, this generation continues with it.
function core.release_parcel(key)
  local stream = handed[key]
  handed[key] = nil
  local ok, err = pcall(hand_over, key, stream)
  if ok then
    let_go(stream)
  else
    thaw(stream)
    core.log.warn(("the connection with %s stays with this generation: %s"):format(stream:peer(), err))
  end
end

-- Give a stream its connection.
local function open(stream, fd, received, unsent)
  local ok, err = core.open_new(stream.handle, fd)
  if not ok then
    core.log.warn(("the connection with %s is lost: %s"):format(stream:peer(), err))
    stream.ended = err
    return
  end
  stream.buffer = received
  if unsent ~= "" then
    streams.send_on(stream, unsent)
  end
end

-- Write when the connection has come.
local function wait_to_send(stream, data)
  core.await_for(nil, function(done)
    stream.blocked[#stream.blocked + 1] = done
    return true
  end)
  if stream.closed then
    return fail("ECANCELED", "the stream was closed meanwhile")
  end
  return streams.write(stream, data)
end

local function send_nowhere(stream)
  return fail("EPIPE", stream:peer())
end

local function receive(key, stream)
  local fd, _, is_unix, received, unsent = core.taken(key)
  if not fd then
    stream.ended, stream.send = true, send_nowhere
  elseif stream.closed then
    stream.handle = is_unix and uv.new_pipe(false) or uv.new_tcp()
    open(stream, fd, "", unsent)
    stream.handle:close()
  else
    open(stream, fd, received, unsent)
  end
end

-- The reload is done: take the connection over, unless that was closed meanwhile, by either generation. What
-- waits for it continues in any case.
function core.receive_parcel(key)
  local stream = awaited[key]
  if not stream then
    return -- there was no memory for it when it was claimed: api/parcel.c closes the connection
  end
  local blocked = stream.blocked
  awaited[key] = nil
  stream.fill, stream.send, stream.blocked = nil, nil, nil
  local ok, err = pcall(receive, key, stream)
  if not ok then
    stream.ended, stream.send = "ENOMEM", send_nowhere
  end
  wake(stream)
  for _, done in ipairs(blocked) do
    done()
  end
  if not ok then
    error(err, 0)
  end
end

-- Make a stream without a connection.
local function make(is_unix, peer)
  return streams.new(is_unix and uv.new_pipe(false) or uv.new_tcp(), peer)
end

-- net.taken(key) -> the stream that was handed on, or nil
function parcel.taken(key)
  if type(key) ~= "string" then
    core.raise(("bad argument #1 to 'taken' (string expected, got %s)"):format(type(key)))
  elseif awaited[key] then
    return awaited[key]
  end
  local fd, peer, is_unix, received, unsent = core.taken(key)
  if fd == nil then
    return nil
  end
  local ok, stream = pcall(make, is_unix, peer)
  if not ok then
    if fd then
      core.close_client(fd)
    end
    error(stream, 0)
  elseif fd then
    open(stream, fd, received, unsent)
  else
    stream.fill, stream.send, stream.blocked = wait_to_read, wait_to_send, {}
    awaited[key] = stream
  end
  return stream
end

-- A connection has come that was not asked for by its key. One of lunad's own that nothing serves any more is
-- closed; a script may still ask for its own.
function core.adopt_parcel(key)
  local adopt = parcel.adopters[key:match "^(.*) "]
  if adopt then
    adopt(parcel.taken(key))
  elseif key:find "^lunad%." then
    local stream <close> = parcel.taken(key) -- luacheck: ignore 211
  end
end

return parcel

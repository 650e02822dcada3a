-- Methods of the objects of lunad.socket that receive and send bytes.

local core = ...

local waits = core.load "socket_wait.lua"
local new_semaphore = core.load "semaphore.lua"

local to_read, to_write, check, check_text, check_number = waits.to_read, waits.to_write, waits.check,
  waits.check_text, waits.check_number
local time_left, wait, give_way, persist = waits.time_left, waits.wait, waits.give_way, waits.persist

local find, min, max = string.find, math.min, math.max

local CHUNK = 65536 -- bytes that are read or sent at a time
local AHEAD = 8192 -- bytes that are read when fewer are asked for, as LuaSocket does
local PAUSE = 0.01 -- seconds after a client that could not be accepted

local stream = {}

-- What was read and not yet taken is `buffer` from `at`, and the strings of `more`: `size` bytes. A call
-- takes nothing before it can return, so that a cancelled task loses nothing.

-- Forget where no newline is.
local function search_again(object)
  object.searched, object.searched_size = 0, 0
end

-- Add what was read.
local function append(object, data)
  if object.size == 0 then
    object.buffer, object.at = data, 1
    search_again(object)
  else
    object.more[#object.more + 1] = data
  end
  object.size = object.size + #data
end

-- Take bytes, which are there.
local function take(object, count)
  if count > #object.buffer - object.at + 1 then
    object.buffer = object.buffer:sub(object.at) .. table.concat(object.more)
    object.at, object.more = 1, {}
  end
  local data = object.buffer:sub(object.at, object.at + count - 1)
  object.at, object.size = object.at + count, object.size - count
  if object.size == 0 then
    object.buffer, object.at = "", 1
  end
  search_again(object)
  return data
end

-- The length of the first line with its newline; nil if none has come. Nothing is searched twice.
local function line_length(object)
  for i = object.searched, #object.more do
    local piece, first = object.more[i], 1
    if i == 0 then
      piece, first = object.buffer, object.at
    end
    local found = find(piece, "\n", first, true)
    if found then
      return object.searched_size + found - first + 1
    end
    object.searched, object.searched_size = i + 1, object.searched_size + #piece - first + 1
  end
end

-- The number of bytes that fulfil a request: "l", "a" or a number. LuaSocket waits for a byte even if none
-- is asked for.
local function fulfilled(object, wanted)
  if wanted == "l" then
    return line_length(object)
  elseif wanted ~= "a" and object.size >= wanted and object.size > 0 then
    return wanted
  end
end

-- Remember an error: one that comes with data is for the next call, and LuaSec must not be asked again after
-- one, because it might never return.
local function note_failure(object, err, has_data)
  if err and not to_read[err] and not to_write[err] and (has_data or object.kind == "tls") then
    object.failure = err
  end
end

-- Read what has come, at most a chunk; returns an error, or nothing if there was something.
local function fill(object, wanted)
  local count = wanted == "l" and AHEAD or wanted == "a" and CHUNK
    or max(AHEAD, min(CHUNK, wanted - object.size))
  local failure = object.failure
  if failure then
    object.failure = object.kind == "tls" and failure or nil
    return failure
  end
  local data, err, part = object.raw:receive(count)
  data = data or part
  note_failure(object, err, data ~= "")
  if data == "" then
    return err
  end
  append(object, data)
end

-- Take bytes in the form that was asked for: a line has no newline and no carriage return.
local function take_as(object, count, wanted)
  local data = take(object, count)
  if wanted ~= "l" then
    return data
  end
  local last = #data
  last = last - (data:byte(last) == 10 and 1 or 0)
  last = last - (data:byte(last) == 13 and 1 or 0)
  data = data:sub(1, last)
  if find(data, "\r", 1, true) then
    data = data:gsub("\r", "")
  end
  return data
end

local function check_pattern(pattern)
  if pattern == nil then
    return "l"
  end
  local number = tonumber(pattern)
  if number and number >= 0 then
    return number // 1
  elseif type(pattern) == "string" and not number and find(pattern, "^%*[la]") then
    return pattern:sub(2, 2)
  end
  core.raise "bad argument #1 to 'receive' (invalid receive pattern)"
end

-- Read until a request is fulfilled: the number of bytes, or nil and an error.
local function read(object, wanted)
  local since = core.now()
  while true do
    local err = fill(object, wanted)
    if err then
      local mode, ok, failure = to_read[err], nil, nil
      if mode then
        ok, failure = wait(object, mode, since, "receive")
      end
      if not ok then
        return nil, failure or err
      end
    else
      give_way(object, since)
    end
    local count = fulfilled(object, wanted)
    if count then
      return count
    end
  end
end

-- receive([pattern = "*l" [, prefix]]) -> data | nil, error, part
function stream.receive(object, pattern, prefix)
  check(object, "receive", "client")
  local wanted = check_pattern(pattern)
  prefix = prefix == nil and "" or check_text(prefix, 2, "receive")
  if prefix ~= "" and math.type(wanted) then
    wanted = wanted - #prefix
    if wanted <= 0 then
      return prefix, nil, nil
    end
  end
  local count, err = fulfilled(object, wanted), nil
  if not count then
    count, err = read(object, wanted)
  end
  if not count and wanted == "a" and err == "closed" and object.size > 0 then
    count = object.size
  end
  if not count then
    return nil, err, prefix .. take_as(object, object.size, wanted)
  end
  return prefix .. take_as(object, count, wanted), nil, nil
end

-- Send at most a chunk of what is from byte `first` up to byte `last`; the same results as of `send`.
local function send_some(object, data, first, last)
  if object.kind == "tls" and object.failure then
    return nil, object.failure, first - 1
  end
  local index, err, part = object.raw:send(data, first, min(last, first - 1 + CHUNK))
  if object.kind == "tls" then
    note_failure(object, err, false)
  end
  return index, err, part
end

-- Send what is after byte `sent` up to byte `last`, while no other task does. `is_sending` stays if that
-- fails or the task is cancelled.
local function send_rest(object, data, sent, last, since)
  object.is_sending = true
  while sent < last do
    local index, err, part = send_some(object, data, sent + 1, last)
    sent = index or part
    if err then
      local mode, ok, failure = to_write[err], nil, nil
      if mode then
        ok, failure = wait(object, mode, since, "send")
      end
      if not ok then
        return nil, failure or err, sent
      end
    else
      give_way(object, since)
    end
  end
  object.is_sending = false
  return sent, nil, nil
end

-- Wait until no other task sends; nil if the time is up.
local function wait_turn(object, since)
  local seconds = time_left(object, since)
  if object.writers.free == 0 and seconds == 0 then
    return nil
  end
  return object.writers:acquire(seconds)
end

-- send(data [, first [, last]]) -> index of the last byte sent | nil, error, the same index
function stream.send(object, data, first, last)
  check(object, "send", "client")
  data = check_text(data, 1, "send")
  first, last = check_number(first, 1, 2, "send"), check_number(last, -1, 3, "send")
  first = max(first < 0 and #data + first + 1 or first, 1)
  last = min(last < 0 and #data + last + 1 or last, #data)
  if first > last then
    return first - 1, nil, nil
  end
  local since = core.now()
  local sent = first - 1
  if not object.writers then
    local index, err, part = send_some(object, data, first, last)
    if index == last then
      return index, nil, nil
    elseif err and not to_write[err] then
      return nil, err, part
    end
    sent = index or part
    object.writers = new_semaphore(1)
  end
  local held <close> = wait_turn(object, since)
  if not held then
    return nil, object.kind == "tls" and "wantwrite" or "timeout", sent
  end
  return send_rest(object, data, sent, last, since)
end

-- dirty() -> whether something was read that was not taken
function stream.dirty(object)
  local raw = check(object, "dirty")
  return object.size > 0 or raw:dirty()
end

-- getstats() -> bytes received, bytes sent, seconds
function stream.getstats(object)
  local received, sent, age = check(object, "getstats"):getstats()
  return received - object.size, sent, age
end

-- setstats([received [, sent [, seconds]]]) -> 1
function stream.setstats(object, received, sent, age)
  received = check_number(received, nil, 1, "setstats")
  return check(object, "setstats"):setstats(received and received + object.size, sent, age)
end

-- listen([backlog]) -> 1 | nil, error
function stream.listen(object, backlog)
  local raw = check(object, "listen", "master")
  local ok, err = raw:listen(check_number(backlog, nil, 1, "listen"))
  waits.note_class(object)
  return ok, err
end

-- accept() -> client | nil, error
function stream.accept(object)
  check(object, "accept", "server")
  if object.is_shared and not core.is_service() then -- the clients are the old generation's
    if time_left(object, core.now()) == 0 then
      return nil, "timeout"
    end
    core.await_service()
  end
  local client, err = persist(object, "accept", "r")
  if not client then
    if err ~= "timeout" and err ~= "closed" and core.can_suspend() then
      core.sleep(PAUSE) -- there is no descriptor, say; servers often try again at once
    end
    return nil, err
  end
  return object.wrap(client, object.kind, object.family)
end

return stream

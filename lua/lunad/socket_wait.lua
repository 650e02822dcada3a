-- How the calls of lunad.socket wait. An object's `raw` is a socket of LuaSocket or a connection of LuaSec
-- whose timeout is 0: what it cannot do at once is tried again when its descriptor is ready.

local core = ...

local TURN = 4 -- chunks, datagrams or clients without a wait, after which other tasks have their turn
local FOREVER = 1e8 -- a timeout that is longer than this many seconds is none


-- What the original waits for, by its error. "timeout" is LuaSocket's, the others are LuaSec's.
local to_read = { timeout = "r", wantread = "r", wantwrite = "w" }
local to_write = { timeout = "w", wantread = "r", wantwrite = "w" }

-- Note the class of the original, which connect and others change.
local function note_class(object)
  object.class = debug.getmetatable(object.raw).__index.class
end

-- Note that an object is a connection, or is to become one: until it is closed, a generation that was
-- replaced is not.
local function hold(object)
  local before = object.held
  object.held = core.hold_connection(object.raw:getfd())
  if before then
    core.release_connection(before)
  end
end

-- Note that it is none any more.
local function release(object)
  if object.held then
    core.release_connection(object.held)
    object.held = nil
  end
end

-- Raise unless an object is of the class that a method is for, as "tcp{client}".
local function check(object, method, state)
  local raw = type(object) == "table" and rawget(object, "raw")
  if not raw then
    core.raise(("calling '%s' on bad self (a socket expected, got %s)"):format(method, type(object)))
  end
  local class = state and debug.getmetatable(raw).__index.class
  if class and class ~= object.kind .. "{" .. state .. "}" then
    core.raise(("calling '%s' on bad self (%s{%s} expected)"):format(method, object.kind, state))
  end
  return raw
end

-- Check an argument that is a text or a number.
local function check_text(value, n, method)
  if type(value) ~= "string" and type(value) ~= "number" then
    core.raise(("bad argument #%d to '%s' (string expected, got %s)"):format(n, method,
      value == nil and "no value" or type(value)))
  end
  return tostring(value)
end

-- Check an argument that is a number, or may be left out.
local function check_number(value, default, n, method)
  if value == nil then
    return default
  end
  local number = (type(value) == "string" or type(value) == "number") and tonumber(value)
  if not number then
    core.raise(("bad argument #%d to '%s' (number expected, got %s)"):format(n, method, type(value)))
  end
  return number
end

-- The seconds that a call which has begun at `since` may still wait; nil: no limit. LuaSocket's own rule:
-- alone, the timeout of an operation is one for the whole call, too.
local function time_left(object, since)
  local block, total = object.block, object.total
  if block < 0 and total < 0 then
    return nil
  end
  local left = math.max((total < 0 and block or total) - (core.now() - since), 0)
  if total >= 0 and block >= 0 then
    left = math.min(left, block)
  end
  return left <= FOREVER and left or nil
end

-- Wait until an object's descriptor is ready: true; nil when its time is up; or nil and an error.
local function wait(object, mode, since, method)
  local seconds = time_left(object, since)
  if seconds == 0 then
    return nil
  end
  core.check_task(method)
  local fd = object.raw:getfd()
  if fd < 0 or object.is_closed then
    return nil, "closed"
  end
  object.streak = 0
  local ready, message, code = core.wait_fd(fd, mode, seconds)
  if object.is_closed then
    return nil, "closed"
  elseif ready then
    return true
  elseif code == "ETIMEDOUT" then
    return nil
  end
  return nil, code == "EBADF" and "closed" or message
end

-- Let other tasks have their turn after some chunks for which nothing had to wait: a busy other side would
-- hold the loop. Nothing is taken from the kernel before that which a cancelled task would lose.
local function give_way(object, since)
  object.streak = object.streak + 1
  if object.streak >= TURN and (not since or time_left(object, since) ~= 0) and core.can_suspend() then
    object.streak = 0
    core.sleep(0)
  end
end

-- Call a method of the original until it says something else than that it has to wait; the rest are its
-- arguments.
local function persist(object, method, mode, ...)
  local raw = object.raw
  local since = core.now()
  if mode == "r" then
    give_way(object, since)
  end
  while true do
    if raw:getfd() < 0 then
      return nil, "closed"
    end
    local first, second, third = raw[method](raw, ...)
    if first ~= nil or second ~= "timeout" then
      return first, second, third
    end
    local ok, err = wait(object, mode, since, method)
    if not ok then
      return nil, err or "timeout"
    end
  end
end

return {
  FOREVER = FOREVER, to_read = to_read, to_write = to_write, note_class = note_class, hold = hold,
  release = release, check = check,
  check_text = check_text, check_number = check_number, time_left = time_left, wait = wait,
  give_way = give_way, persist = persist,
}

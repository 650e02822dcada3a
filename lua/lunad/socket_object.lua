-- The objects of lunad.socket, around sockets of LuaSocket and connections of LuaSec.

local core = ...

local waits = core.load "socket_wait.lua"
local stream = core.load "socket_stream.lua"
local addresses = core.load "socket_address.lua"

local check, check_text, check_number, persist = waits.check, waits.check_text, waits.check_number,
  waits.persist

local FAREWELL = 5 -- seconds that closing a connection of LuaSec without a timeout waits

-- Methods of all objects.
local common = {}

-- settimeout([seconds [, "b" | "t"]]) -> 1
function common.settimeout(object, seconds, mode)
  check(object, "settimeout")
  seconds = check_number(seconds, -1, 1, "settimeout")
  mode = mode == nil and "b" or check_text(mode, 2, "settimeout"):sub(1, 1)
  if mode == "b" then
    object.block = seconds
  elseif mode == "t" or mode == "r" then
    object.total = seconds
  else
    core.raise "bad argument #2 to 'settimeout' (invalid timeout mode)"
  end
  return 1
end

-- gettimeout() -> of an operation, of a call; -1: none
function common.gettimeout(object)
  check(object, "gettimeout")
  return object.block, object.total
end

-- close(): tasks that wait for the socket are told that it is closed.
function common.close(object)
  local raw = check(object, "close")
  local fd = raw:getfd()
  if fd >= 0 then
    core.end_waits(fd)
  end
  object.is_closed = true
  waits.release(object)
  return raw:close()
end

-- setfd(fd): take over a descriptor; -1: let it go.
function common.setfd(object, fd)
  local raw = check(object, "setfd")
  fd = check_number(fd, nil, 1, "setfd")
  if fd and fd >= 0 then
    local ok, err = core.prepare_fd(fd)
    if not ok then
      core.raise("setfd: " .. err)
    end
    object.is_closed, object.is_shared = false, true
  end
  waits.release(object)
  return raw:setfd(fd)
end

-- Methods of what receives and sends datagrams.
local datagram = {}

-- receive([size]) -> data | nil, error
function datagram.receive(object, size)
  check(object, "receive")
  return persist(object, "receive", "r", check_number(size, nil, 1, "receive"))
end

-- receivefrom([size]) -> data, address, port | nil, error
function datagram.receivefrom(object, size)
  check(object, "receivefrom", "unconnected")
  return persist(object, "receivefrom", "r", check_number(size, nil, 1, "receivefrom"))
end

-- send(data) -> size | nil, error
function datagram.send(object, data)
  check(object, "send", "connected")
  return persist(object, "send", "w", check_text(data, 1, "send"))
end

-- Methods of connections of LuaSec.
local tls = {}

-- dohandshake() -> true | false, error
function tls.dohandshake(object)
  local raw = check(object, "dohandshake")
  local since = core.now()
  while true do
    local done, err = raw:dohandshake()
    local mode = waits.to_read[err]
    if done or not mode then
      return done, err
    end
    local ok, failure = waits.wait(object, mode, since, "dohandshake")
    if not ok then
      return false, failure or err
    end
  end
end

-- Whether LuaSec can say goodbye without waiting, which would hold up the loop.
local function can_finish(object, fd)
  return core.takes_data(fd) and not object.is_sending
end

-- Close a connection.
local function close_now(object)
  local fd = object.raw:getfd()
  if fd >= 0 and not can_finish(object, fd) then
    core.shut_socket(fd)
  end
  waits.release(object)
  object.raw:close()
end

local Closing = { __close = function(closing) close_now(closing.object) end }

-- close(): ends TLS and the connection, when there is room for the last words or the time is up.
function tls.close(object)
  local fd = check(object, "close"):getfd()
  if fd < 0 or object.is_closed then
    return
  end
  local _ <close> = setmetatable({ object = object }, Closing) -- also if the task is cancelled
  object.is_closed = true
  core.end_waits(fd)
  local seconds = waits.time_left(object, core.now()) or FAREWELL
  local has_to_wait = not object.is_sending and not core.takes_data(fd)
  if has_to_wait and seconds > 0 and core.can_suspend() then
    core.wait_fd(fd, "w", math.min(seconds, FAREWELL))
  end
end

-- The methods that each kind of object has besides those of its original.
local own_methods = {
  tcp = { common, stream, addresses.tcp }, udp = { common, datagram, addresses.udp },
  unixstream = { common, stream, addresses.unixstream },
  unixdgram = { common, datagram, addresses.unixdgram },
  tls = { common, stream, tls },
}

local classes = {}

-- Pass on what a method of the original returns. Misuse is told at the line of the script, as a method's.
local function pass_on(name, ok, ...)
  if ok then
    return ...
  end
  local n, reason = tostring((...)):match "bad argument #(%d+) to '[^']*' (.*)$"
  if n == "1" then
    core.raise(("calling '%s' on bad self %s"):format(name, reason))
  elseif n then
    core.raise(("bad argument #%d to '%s' %s"):format(n - 1, name, reason))
  end
  error((...), 0)
end

-- Make the class of a kind of object. A method of the original that is not replaced is passed on.
local function new_class(raw, kind)
  local methods = {}
  for name, method in pairs(debug.getmetatable(raw).__index) do
    if type(method) == "function" then
      methods[name] = function(object, ...)
        return pass_on(name, pcall(method, check(object, name), ...))
      end
    end
  end
  local class = {
    __index = methods, __name = "lunad.socket",
    __tostring = function(object) return tostring(object.raw) end,
  }
  for _, own in ipairs(own_methods[kind]) do
    for name, method in pairs(own) do
      methods[name] = (methods[name] or name == "gettimeout") and method or nil
    end
  end
  class.__close = methods.close
  class.__gc = kind == "tls" and close_now or nil -- what a script has dropped
  return class
end

-- Put an object around an original. FAMILY: "inet" or "inet6" if it is bound to one.
local function wrap(raw, kind, family)
  classes[kind] = classes[kind] or new_class(raw, kind)
  raw:settimeout(0)
  local object = setmetatable({
    raw = raw, kind = kind, family = family, block = -1, total = -1, streak = 0, wrap = wrap,
    buffer = "", at = 1, more = {}, size = 0, searched = 0, searched_size = 0,
  }, classes[kind])
  waits.note_class(object)
  if raw:getfd() >= 0 then
    core.prepare_fd(raw:getfd())
  end
  if kind == "tls" or object.class == kind .. "{client}" then
    waits.hold(object)
  end
  return object
end

return wrap

-- Methods of the objects of lunad.socket that take an address. Names are resolved without blocking, and all
-- addresses that a name has are tried.

local core = ...

local waits = core.load "socket_wait.lua"
local dns = core.load "socket_dns.lua"

local check, check_text, time_left, persist = waits.check, waits.check_text, waits.time_left, waits.persist

local NAP = 0.01 -- seconds between tries where a descriptor says nothing

-- Check an address and a port, and find what they stand for: a list, or nil and an error. LuaSocket asks for
-- names also where a timeout is 0.
local function resolve(object, method, address, port, socktype)
  local seconds = time_left(object, core.now())
  return dns.resolve(address, port, {
    family = object.family, socktype = socktype, seconds = seconds ~= 0 and seconds or nil,
  }, method)
end

-- Note what a call may have changed: the class, and a descriptor that was just opened.
local function prepare(object)
  local fd = object.raw:getfd()
  waits.note_class(object)
  if fd >= 0 then
    object.is_closed = false
    core.prepare_fd(fd)
  end
  return fd
end

-- Note to which family an object is bound.
local function note_family(object)
  local _, _, family = object.raw:getsockname()
  object.family = (family == "inet" or family == "inet6") and family or object.family
end

-- Bind to the first of the addresses where that works: 1, or nil and an error.
local function bind(object, method, address, port, socktype)
  local list, err = { { addr = address, port = port } }, nil
  if address ~= "*" then
    list, err = resolve(object, method, address, port, socktype)
  end
  for _, entry in ipairs(list or {}) do
    local ok
    ok, err = object.raw[method](object.raw, entry.addr, entry.port)
    prepare(object)
    if ok then
      note_family(object)
      return ok
    end
  end
  return nil, err
end

-- Connect to one address: 1, or nil and an error.
local function try(object, entry, since)
  local raw = object.raw
  local ok, err = raw:connect(entry.addr, entry.port)
  local fd = prepare(object)
  if ok or err == "timeout" then
    waits.hold(object)
  end
  if err ~= "timeout" then
    return ok, err
  end
  ok, err = waits.wait(object, "w", since, "connect")
  if not ok then
    return nil, err or "timeout"
  elseif raw:getfd() ~= fd then
    return nil, "closed"
  end
  err = raw:getoption "error"
  return not err and 1 or nil, err
end

local tcp = {}

-- connect(address, port) -> 1 | nil, error
function tcp.connect(object, address, port)
  check(object, "connect")
  address, port = check_text(address, 1, "connect"), check_text(port, 2, "connect")
  local since = core.now()
  waits.hold(object)
  local list, err = resolve(object, "connect", address, port, "stream")
  for _, entry in ipairs(list or {}) do
    local ok
    ok, err = try(object, entry, since)
    if ok or err == "timeout" or err == "closed" then
      return ok, err
    end
  end
  waits.release(object)
  return nil, err
end

tcp.setpeername = tcp.connect

-- bind(address, port) -> 1 | nil, error
function tcp.bind(object, address, port)
  check(object, "bind", "master")
  return bind(object, "bind", check_text(address, 1, "bind"), check_text(port, 2, "bind"), "stream")
end

tcp.setsockname = tcp.bind

local udp = {}

-- setsockname(address, port) -> 1 | nil, error
function udp.setsockname(object, address, port)
  check(object, "setsockname", "unconnected")
  address, port = check_text(address, 1, "setsockname"), check_text(port, 2, "setsockname")
  return bind(object, "setsockname", address, port, "dgram")
end

-- setpeername(address, port) or setpeername("*") -> 1 | nil, error
function udp.setpeername(object, address, port)
  local raw = check(object, "setpeername")
  address = check_text(address, 1, "setpeername")
  if address == "*" then
    local done, reason = raw:setpeername "*"
    waits.note_class(object)
    return done, reason
  end
  port = check_text(port, 2, "setpeername")
  local list, err = resolve(object, "setpeername", address, port, "dgram")
  for _, entry in ipairs(list or {}) do
    local ok
    ok, err = raw:setpeername(entry.addr, entry.port)
    prepare(object)
    if ok then
      return ok
    end
  end
  return nil, err
end

-- sendto(data, address, port) -> size | nil, error
function udp.sendto(object, data, address, port)
  local raw = check(object, "sendto", "unconnected")
  data, address = check_text(data, 1, "sendto"), check_text(address, 2, "sendto")
  port = check_text(port, 3, "sendto")
  local list, err = resolve(object, "sendto", address, port, "dgram")
  if not list then
    return nil, err
  end
  local is_new = raw:getfd() < 0
  local size
  size, err = raw:sendto(data, list[1].addr, list[1].port)
  if is_new then
    prepare(object)
  end
  if err == "timeout" then
    return persist(object, "sendto", "w", data, list[1].addr, list[1].port)
  end
  return size, err
end

-- Wait a little, because the queue of the other side is full: the kernel says then that a descriptor is
-- ready. True, or nil and an error.
local function nap(object, since, method)
  local seconds = time_left(object, since)
  if seconds == 0 then
    return nil, "timeout"
  end
  core.check_task(method)
  core.sleep(math.min(seconds or NAP, NAP))
  if object.is_closed then
    return nil, "closed"
  end
  return true
end

local unixstream, unixdgram = {}, {}

-- connect(path) -> 1 | nil, error
function unixstream.connect(object, path)
  check(object, "connect", "master")
  path = check_text(path, 1, "connect")
  local since = core.now()
  while true do
    local ok, err = object.raw:connect(path)
    if err ~= "timeout" then
      prepare(object)
      if ok then
        waits.hold(object)
      end
      return ok, err
    end
    ok, err = nap(object, since, "connect")
    if not ok then
      return nil, err
    end
    object.raw = object.make() -- LuaSocket has closed the socket
    object.raw:settimeout(0)
  end
end

unixstream.setpeername = unixstream.connect

-- sendto(data, path) -> size | nil, error
function unixdgram.sendto(object, data, path)
  local raw = check(object, "sendto", "unconnected")
  data, path = check_text(data, 1, "sendto"), check_text(path, 2, "sendto")
  local since = core.now()
  while true do
    local size, err = raw:sendto(data, path)
    if err ~= "timeout" then
      return size, err
    end
    size, err = nap(object, since, "sendto")
    if not size then
      return nil, err
    end
  end
end

return { tcp = tcp, udp = udp, unixstream = unixstream, unixdgram = unixdgram }

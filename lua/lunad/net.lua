-- require "lunad.net": sockets for tasks.

local core, lunad = ...

local uv = require "luv"
local streams = core.load "stream.lua"

local fail, show = streams.fail, streams.show

local ATTEMPT_DELAY = 0.25 -- before the next address is tried beside the last one (RFC 8305)
local KEEPALIVE = 60 -- seconds of silence after which the kernel asks whether the other side is still there
local HANDSHAKE = 10 -- seconds that a client has for that of TLS, unless it may be idle for longer
local PATH_MAX = 107 -- bytes of a Unix socket's path
local RETRY = 0.1 -- seconds before a client is accepted again after the system has refused one

local net = {}

-- Errors that will not go away: the socket is not one any more. Others may: a shortage of descriptors or
-- memory, a filter, a network that is down.
local FOR_GOOD = { EBADF = true, EINVAL = true, ENOTSOCK = true, ENOTSUP = true, EOPNOTSUPP = true }

local function check_type(value, kind, n, name)
  if type(value) ~= kind then
    core.raise(("bad argument #%d to '%s' (%s expected, got %s)"):format(n, name, kind, type(value)))
  end
end

-- Check the option table of a function against the types of its keys; returns it, or {}.
local function check_options(options, types, n, name)
  if options == nil then
    return {}
  end
  check_type(options, "table", n, name)
  for key, value in pairs(options) do
    local expected = types[key]
    if not expected then
      local word = tostring(key)
      core.raise(("%s: unknown option '%s'%s"):format(name, word, core.suggest(word, types)))
    elseif not expected:find(type(value), 1, true) then
      core.raise(("%s: option '%s': %s expected, got %s"):format(name, key, expected, type(value)))
    end
  end
  for _, key in ipairs { "timeout", "idle" } do
    local seconds = options[key]
    if seconds and not (seconds >= 0 and seconds <= core.TEN_YEARS) then
      core.raise(("%s: option '%s': seconds from 0 to ten years expected"):format(name, key))
    end
  end
  return options
end

-- Take an address apart: { path = } or { host =, port = }.
local function parse(address, name)
  check_type(address, "string", 1, name)
  if address:find("\0", 1, true) then
    core.raise(("bad argument #1 to '%s' (an address has no zero byte)"):format(name))
  end
  local path = address:match "^unix:(.+)$"
  if path then
    return { path = path, text = address }
  end
  local host, port = address:match "^%[([^%]]+)%]:(%d+)$"
  if not host then
    host, port = address:match "^([^:]+):(%d+)$"
  end
  port = #(port or "") <= 5 and math.tointeger(tonumber(port))
  if not port or port > 65535 then
    core.raise(("bad argument #1 to '%s' ('%s' is not host:port, [::1]:port or unix:/path)"):format(name,
      address))
  end
  return { host = host, port = port, text = address }
end

-- Whether a host is an address and not a name. luv raises for what only looks like one; the system is asked
-- for that, as for a name.
local function is_literal(host)
  if host:find(":", 1, true) then
    return uv.getaddrinfo(host, nil, { numerichost = true }) ~= nil
  end
  local bytes = { host:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$" }
  for _, byte in ipairs(bytes) do
    if tonumber(byte) > 255 or byte:find "^0%d" then
      return false
    end
  end
  return bytes[1] ~= nil
end

-- Closes a handle unless that was called off.
local Unfinished = {}
function Unfinished.__close(unfinished)
  if unfinished.handle then
    unfinished.handle:close()
  end
end

-- Connect a handle, which is closed if that fails; returns a stream, or nil, error, code.
local function connect_handle(handle, text, ...)
  local unfinished <close> = setmetatable({ handle = handle }, Unfinished)
  local ok, err, code = core.await_for(nil, handle.connect, handle, ...)
  if not ok or err then
    return fail(code or err, text)
  end
  unfinished.handle = nil
  return streams.new(handle, text)
end

-- Connect to an IP address.
local function connect_ip(ip, port)
  local text = show { ip = ip, port = port, family = ip:find(":", 1, true) and "inet6" }
  local stream, err, code = connect_handle(uv.new_tcp(), text, ip, port)
  if not stream then
    return nil, err, code
  end
  stream.handle:nodelay(true)
  stream.handle:keepalive(true, KEEPALIVE)
  return stream
end

-- The request of luv for the addresses of a name is given up with the task that waits for it.
local Query = {}
function Query.__close(query)
  if query.request then
    uv.cancel(query.request)
  end
end

-- The addresses of a host: those of both families in turn, as RFC 8305 has it.
local function resolve(host)
  local query <close> = setmetatable({}, Query)
  local ok, err, list = core.await_for(nil, function(done)
    local request, message, code = uv.getaddrinfo(host, nil, { socktype = "stream" }, done)
    query.request = request
    return request, message, code
  end)
  query.request = nil
  if not ok or err then
    return fail(err or "EAI_NONAME", host)
  end
  local families, order = {}, {}
  for _, item in ipairs(list) do
    local family = families[item.family]
    if not family then
      family = {}
      families[item.family], order[#order + 1] = family, family
    end
    family[#family + 1] = item.addr
  end
  local addresses = {}
  for i = 1, #list do
    for _, family in ipairs(order) do
      addresses[#addresses + 1] = family[i]
    end
  end
  return addresses
end

-- Connect to the first of several addresses that answers; each has a head start over the next one.
local function race(addresses, port)
  local begun, failed, attempts = {}, {}, {}
  local first
  for i, ip in ipairs(addresses) do
    begun[i], failed[i] = lunad.channel(1), lunad.channel(1)
    attempts[i] = function()
      if i > 1 then
        begun[i - 1]:get()
        failed[i - 1]:get(ATTEMPT_DELAY)
      end
      begun[i]:put(true)
      local stream, err, code = connect_ip(ip, port)
      if not stream then
        first = first or { err, code }
        failed[i]:put(true)
        error(err, 0)
      end
      return stream
    end
  end
  local index, stream = lunad.any(attempts)
  if not index then
    return nil, first[1], first[2]
  end
  return stream
end

-- Connect the socket.
local function connect_socket(address)
  if address.path then
    if #address.path > PATH_MAX then
      return fail("ENAMETOOLONG", address.text) -- luv would cut it
    end
    return connect_handle(uv.new_pipe(false), address.text, address.path)
  elseif is_literal(address.host) then
    return connect_ip(address.host, address.port)
  end
  local addresses, err, code = resolve(address.host)
  if not addresses then
    return nil, err, code
  elseif #addresses == 1 then
    return connect_ip(addresses[1], address.port)
  end
  return race(addresses, address.port)
end

-- Connect without a limit of time.
local function connect(address, tls)
  local stream, err, code = connect_socket(address)
  if not stream or not tls then
    return stream, err, code
  end
  return core.load "tls.lua".connect(stream, address, tls)
end

-- net.connect(address [, options]) -> stream | nil, error, code
function net.connect(text, options)
  local address = parse(text, "connect")
  options = check_options(options, { timeout = "number", tls = "boolean or table" }, 2, "connect")
  core.check_task "connect"
  if options.tls then
    local ok, err, code = core.load "tls.lua".check(options.tls)
    if not ok then
      return nil, err, code
    end
  end
  if not options.timeout then
    return connect(address, options.tls)
  end
  local task <close> = setmetatable({ core.task(connect, address, options.tls) }, { __close = function(task)
    task[1]:cancel()
  end })
  local stream, err, code = task[1]:wait(options.timeout)
  if not stream and task[1]:running() then
    return core.timed_out(("%s has not answered within %.10g s"):format(text, options.timeout))
  end
  return stream, err, code
end

local Server = { __name = "lunad.server" }
Server.__index = Server

local function check_server(server, method)
  if getmetatable(server) ~= Server then
    core.raise(("bad argument #1 to '%s' (lunad.server expected, got %s)"):format(method, type(server)))
  end
end

-- Handle the end of a client.
local function leave(server)
  server.open = server.open - 1
  local accept = server.accept
  if accept then
    server.accept = nil
    accept()
  end
end

-- Shake hands with a client, if that is to be, and call the function of the server.
local function greet(server, stream)
  if server.tls then
    local ok, err = core.load "tls.lua".accept(stream, server.tls, math.max(server.idle or 0, HANDSHAKE))
    if not ok then
      stream:close()
      core.log.debug(("%s: a client is refused: %s"):format(server.text, err))
      return
    end
  end
  server.fn(stream)
end

-- Serve one client, in a task of its own. A function that takes the stream away closes it, unless it fails.
local function serve_client(server, stream)
  local client <close> = not server.gives_away and stream or nil -- luacheck: ignore 211
  if not server.gives_away then
    greet(server, stream)
    return
  end
  local ok, err = pcall(greet, server, stream)
  if not ok then
    stream:close()
    error(err, 0)
  end
end

-- Begin to serve the client that has connected with a descriptor.
local function take(server, fd)
  local handle = server.is_unix and uv.new_pipe(false) or uv.new_tcp()
  local ok, err = core.open_new(handle, fd)
  server.arrived = false
  if not ok then
    handle:close()
    core.log.warn(("%s: a client is lost: %s"):format(server.text, err))
    return
  end
  local stream = streams.new(handle)
  stream.server, stream.idle = server, server.idle
  server.open = server.open + 1
  core.task(serve_client, server, stream)
end

-- For await: continue when there is a place for a client, or after a while.
local function wait_for_place(server, done)
  server.accept = done
  return true
end

-- Handle an error of accepting: false if nothing can be accepted any more.
local function pause(server, err, code)
  if server.closed then
    return false
  elseif FOR_GOOD[code] then
    core.log.error(("%s: clients cannot be accepted any more: %s"):format(server.text, err))
    return false
  elseif not server.is_short then
    server.is_short = true
    core.log.warn(("%s: clients have to wait, %d are served: %s"):format(server.text, server.open, err))
  end
  core.await_for(RETRY, wait_for_place, server)
  return true
end

-- Accept clients as long as this generation is the service.
local function accept_clients(server)
  local start = core.give_way()
  while not server.closed do
    if server.open >= server.max then
      core.await_for(nil, wait_for_place, server)
    end
    local fd, err, code = core.accept(server.fd)
    if fd then
      server.arrived = fd
      take(server, fd)
      server.is_short = false
      start = core.give_way(start)
    elseif not err or not pause(server, err, code) then
      return
    end
  end
end

-- The same, in a task of its own. A client for which the script has left no memory is lost, but not those
-- that come when there is some again.
local function go_on_accepting(server)
  core.use_reserve()
  local ok, err
  repeat
    ok, err = pcall(accept_clients, server)
    if server.arrived then
      core.close_client(server.arrived)
      server.arrived = false
    end
    if not ok and err ~= "not enough memory" then
      error(err, 0)
    end
  until ok or not pause(server, err, "ENOMEM")
end

-- server:close(): no more clients; those that are served finish. Twice does nothing.
function Server:close()
  check_server(self, "close")
  if not self.closed then
    self.closed = true
    self.task:cancel()
    core.close_listener(self.fd)
  end
end

-- server:address() -> where it listens
function Server:address()
  check_server(self, "address")
  return self.text
end

-- server:clients() -> how many are connected
function Server:clients()
  check_server(self, "clients")
  return self.open
end

local serve_options = {
  max = "number", idle = "number", tls = "table", backlog = "number", mode = "number or string",
  reuse_port = "boolean",
}

-- The part of the options that lunad.listen takes.
local function listen_options(options)
  return { backlog = options.backlog, mode = options.mode, reuse_port = options.reuse_port }
end

-- Check the arguments of a function that serves; returns the options.
local function check_serve(text, fn, options, types)
  check_type(text, "string", 1, "serve")
  if not core.is_callable(fn) then
    core.raise("bad argument #2 to 'serve' (function expected, got " .. type(fn) .. ")")
  end
  local fault = core.address_fault(text)
  if fault then
    core.raise(("bad argument #1 to 'serve' ('%s': %s)"):format(text, fault))
  end
  options = check_options(options, types, 3, "serve")
  if options.max and not (options.max >= 1 and math.tointeger(options.max)) then
    core.raise("serve: option 'max': a whole number of at least one client expected")
  end
  return options
end

-- Serve clients. If the server gives the streams away, they stay open when `fn` returns.
local function serve(text, fn, options, gives_away)
  local tls, err, code
  if options.tls then
    tls, err, code = core.load "tls.lua".server_context(options.tls)
    if not tls then
      return nil, err, code
    end
  end
  local fd
  fd, err, code = core.listen(text, listen_options(options))
  if not fd then
    return nil, err, code
  end
  local address, is_unix = core.socket_address(fd)
  if not is_unix then
    core.tune_listener(fd, options.idle and 0 or KEEPALIVE)
  end
  local server = setmetatable({
    fd = fd, fn = fn, is_unix = is_unix, open = 0, max = options.max or math.huge, idle = options.idle,
    text = address or text, tls = tls, leave = leave, gives_away = gives_away, arrived = false,
  }, Server)
  server.task = core.task(go_on_accepting, server)
  return server
end

-- net.serve(address, fn [, options]) -> server | nil, error, code
function net.serve(text, fn, options)
  return serve(text, fn, check_serve(text, fn, options, serve_options))
end

-- net.taken(key) -> the stream that the generation before has handed on, or nil
function net.taken(key)
  return core.load "parcel.lua".taken(key)
end

-- For lunad.http.
core.net = { connect = net.connect, serve = serve, check_serve = check_serve, check_options = check_options }

return net

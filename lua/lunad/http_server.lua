-- http.serve: a server of HTTP/1.1 and HTTP/1.0.

local core = ...

local connections = core.load "http_connection.lua"
local parcel = core.load "parcel.lua"

local MOVED_MAX = 1000 -- clients that a reload hands on: each makes it longer, and others can connect again

local OPTIONS = {
  max = "number", idle = "number", head_timeout = "number", body_timeout = "number",
  write_timeout = "number", max_head = "number", max_body = "number", stream = "boolean", tls = "table",
  backlog = "number", mode = "number or string", reuse_port = "boolean",
}

local Server = { __name = "lunad.http_server" }
Server.__index = Server

local function check(server, method)
  if getmetatable(server) ~= Server then
    core.raise(("bad argument #1 to '%s' (lunad.http_server expected, got %s)"):format(method, type(server)))
  end
end

-- The state of each server; scripts cannot reach it.
local private = setmetatable({}, { __mode = "k" })

local State = {}
State.__index = State

-- Note a client.
function State:note(connection)
  self.connections[connection] = true
  self.open = self.open + 1
end

-- Note that a client has gone.
function State:forget(connection)
  self.connections[connection] = nil
  self.open = self.open - 1
  if self.open == 0 and self.on_empty then
    self.on_empty()
  end
end

-- For await: continue when no client is left.
local function wait_until_empty(state, done)
  state.on_empty = done
  return state.open > 0
end

-- Hand clients on to the server of the next generation at the same address. Those of whom a request is being
-- served stay, and are told to connect again.
local function hand_on(state)
  local number = 0
  for connection in pairs(state.connections) do
    local stream = connection.stream
    if number == MOVED_MAX then
      break
    elseif connections.is_movable(connection) and not stream.finish and not stream.ended then
      number = number + 1
      stream:hand_on(("%s %d"):format(state.key, number))
    end
  end
end

-- Go on with a client of the generation before.
local function adopt(state, stream)
  if stream then
    stream.server = state.server
    state.server.open = state.server.open + 1
    connections.begin(state, stream)
  end
end

-- Accept no more clients, and tell those that are still there, with their next answer, to connect again: to
-- close a connection now could cut off a request that is on its way. A service that stops waits for them, but
-- not for those that are idle.
local function end_server(state, reason)
  state.is_ending, state.is_stopping = true, reason ~= "reload"
  state.server:close()
  for connection in pairs(state.connections) do
    connections.end_soon(connection)
  end
  if state.is_stopping then
    core.await(wait_until_empty, state)
  end
end

-- server:close(): no more clients, and those that are served finish. Twice does nothing.
function Server:close()
  check(self, "close")
  local state = private[self]
  if not state.is_ending then
    state.is_ending = true
    state.server:close()
  end
end

-- server:address() -> where it listens
function Server:address()
  check(self, "address")
  return private[self].server:address()
end

-- server:clients() -> how many are connected
function Server:clients()
  check(self, "clients")
  return private[self].open
end

-- Take an option that is a number of at least `least`.
local function number(options, name, default, least)
  local value = options[name]
  if value == nil then
    return default
  elseif value < least or value ~= value then
    core.raise(("serve: option '%s': a number from %d expected"):format(name, least))
  end
  return value
end

-- Take an option that is a time.
local function seconds(options, name, default)
  local value = number(options, name, default, 0)
  if value > core.TEN_YEARS then
    core.raise(("serve: option '%s': seconds from 0 to ten years expected"):format(name))
  end
  return value
end

-- http.serve(address, fn [, options]) -> server | nil, error, code
local function serve(address, fn, options)
  options = core.net.check_serve(address, fn, options, OPTIONS)
  local state = setmetatable({
    fn = fn, connections = {}, open = 0, is_ending = false, is_stopping = false,
    is_streaming = options.stream or false,
    idle = seconds(options, "idle", 60),
    head_timeout = seconds(options, "head_timeout", 10),
    body_timeout = seconds(options, "body_timeout", 30),
    write_timeout = seconds(options, "write_timeout", 30),
    max_head = number(options, "max_head", 16384, 64),
    max_body = number(options, "max_body", 1048576, 0),
  }, State)
  local err, code
  state.server, err, code = core.net.serve(address, function(stream)
    connections.begin(state, stream)
  end, {
    max = options.max or 10000, tls = options.tls, backlog = options.backlog, mode = options.mode,
    reuse_port = options.reuse_port,
  }, true)
  if not state.server then
    return nil, err, code
  end
  core.on_stop(function(reason) end_server(state, reason) end)
  state.key = "lunad.http " .. address
  parcel.adopters[state.key] = function(stream) adopt(state, stream) end
  parcel.last_offers[#parcel.last_offers + 1] = function() hand_on(state) end
  local server = setmetatable({}, Server)
  private[server] = state
  return server
end

return serve

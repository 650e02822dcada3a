-- Clients for specs of servers, and the servers that scripts of specs share.

local support = require "support"
local uv = support.uv

local net = {}

-- For scripts: serve("127.0.0.1:0") greets each client with the number of the generation, and ends
-- the connection. Logs the TCP port as "port N". Returns the luv handle.
net.SERVE = [[
local uv = require "luv"
local function serve(address, options)
  local is_unix = address:find "^unix:"
  local new_stream = is_unix and uv.new_pipe or uv.new_tcp
  local server = new_stream()
  assert(server:open(assert(lunad.listen(address, options))))
  assert(server:listen(128, function(err)
    assert(not err, err)
    local client = new_stream()
    if server:accept(client) then
      client:write("generation " .. lunad.generation .. "\n")
      client:shutdown(function() client:close() end)
    end
  end))
  if not is_unix then print("port " .. server:getsockname().port) end
  return server
end
]]

-- For scripts: the same, but sends back what clients send, after "GENERATION:", until they
-- end. `clients` has the connected ones; on_data(), if defined, is called for each chunk.
net.ECHO = [[
local uv = require "luv"
clients = {}
local function serve(address)
  local server = uv.new_tcp()
  assert(server:open(assert(lunad.listen(address))))
  assert(server:listen(128, function(err)
    assert(not err, err)
    local client = uv.new_tcp()
    if not server:accept(client) then return end
    clients[client] = true
    client:read_start(function(_, chunk)
      if chunk then
        client:write(lunad.generation .. ":" .. chunk)
        if on_data then on_data() end
      elseif not client:is_closing() then
        clients[client] = nil
        client:close()
      end
    end)
  end))
  print("port " .. server:getsockname().port)
end
]]

local Connection = {}
Connection.__index = Connection

-- Begin to connect to a port of the loopback (HOST, 127.0.0.1), or to the path of a Unix socket.
-- `received` is the data so far; `ended` is set at the end, and `err` if that was not an orderly one.
function net.connect(target, host)
  local is_path = type(target) == "string"
  local connection = setmetatable({ received = "" }, Connection)
  local stream = is_path and uv.new_pipe() or uv.new_tcp()
  connection.stream = stream
  local function on_connect(err)
    connection.connected, connection.err, connection.ended = not err, err, err ~= nil
    if not err then
      stream:read_start(function(read_err, chunk)
        connection.err = connection.err or read_err
        connection.received = connection.received .. (chunk or "")
        connection.ended = connection.ended or not chunk
      end)
    end
  end
  if is_path then
    stream:connect(target, on_connect)
  else
    local request, err = stream:connect(host or "127.0.0.1", target, on_connect)
    if not request then
      on_connect(err)
    end
  end
  return connection
end

function Connection:send(text)
  self:wait_connected()
  self.stream:write(text, function(err) self.err = self.err or err end)
  return self
end

function Connection:finish()
  self.stream:shutdown()
  return self
end

-- Wait until what was received matches; returns the captures, or the match.
function Connection:wait(pattern)
  local found
  support.wait_for(("%q from a server"):format(pattern), function()
    uv.run("nowait")
    found = table.pack(self.received:match(pattern))
    return found[1] ~= nil or self.ended
  end)
  if found[1] == nil then
    error(("the connection ended (%s) before %q; it brought %q"):format(self.err or "orderly", pattern,
      self.received), 2)
  end
  return table.unpack(found, 1, found.n)
end

-- Wait for the end; returns what was received, and the error, if any.
function Connection:wait_end()
  support.wait_for("the end of a connection", function()
    uv.run("nowait")
    return self.ended
  end)
  self:close()
  return self.received, self.err
end

-- Wait until the connection is made, or has failed.
function Connection:wait_connected()
  support.wait_for("a connection", function()
    uv.run("nowait")
    return self.connected or self.ended
  end)
  return self
end

function Connection:close()
  if not self.stream:is_closing() then
    self.stream:close()
  end
  uv.run("nowait")
end

-- All that a server sends to a client that sends TEXT (if given) and reads; and the error, if any.
function net.ask(target, text, host)
  local connection = net.connect(target, host):wait_connected()
  if text and connection.connected then
    connection:send(text)
  end
  return connection:wait_end()
end

-- A free port of the loopback; another process might take it.
function net.free_port()
  local socket = uv.new_tcp()
  assert(socket:bind("127.0.0.1", 0))
  local port = socket:getsockname().port
  socket:close()
  uv.run("nowait")
  return port
end

-- The same below 1024.
function net.free_low_port()
  for port = 1023, 512, -1 do
    local socket = uv.new_tcp()
    local ok = socket:bind("127.0.0.1", port) and socket:listen(1, function() end)
    socket:close()
    uv.run("nowait")
    if ok then
      return port
    end
  end
end

-- The port that the daemon NAME has logged last.
function net.port(box, name)
  box:wait_log(name, ": port %d+\n")
  return math.tointeger(tonumber(box:log(name):match(".*: port (%d+)\n")))
end

-- Make a Unix socket file without a listener.
function net.stale(path)
  local socket = uv.new_pipe()
  assert(socket:bind(path))
  assert(os.rename(path, path .. ".kept")) -- or libuv would remove it
  socket:close()
  uv.run("nowait")
  assert(os.rename(path .. ".kept", path))
  return path
end

return net

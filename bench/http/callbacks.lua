-- A server of HTTP/1.1 by callbacks of luv, with what a service needs: limits, timeouts, reloads that cut
-- nothing off. Runs under lunad, and by luv.lua without it.

local lunad = require "lunad"
local uv = require "luv"

local ADDRESS = os.getenv("HTTP_ADDRESS") or "127.0.0.1:8080"
local MAX_HEAD = 16 * 1024   -- bytes of request line and headers
local MAX_BODY = 1024 * 1024
local IDLE = 30              -- seconds without a request before a connection is closed
local LINGER = 2             -- seconds for a client to take its last answer
local QUIET = 0.3            -- seconds of silence after which nothing is on its way, most likely

local served = lunad.state and lunad.state.served or 0
local retiring = false
local connections = {} -- those that are open, and how many
local open = 0

local reasons = {
  [200] = "OK", [400] = "Bad Request", [404] = "Not Found", [413] = "Content Too Large",
  [431] = "Request Header Fields Too Large", [501] = "Not Implemented",
}

-- What to answer: status, body.
local function handle(request)
  served = served + 1
  if request.method ~= "GET" and request.method ~= "HEAD" and request.method ~= "POST" then
    return 501, "no such method here\n"
  elseif request.path == "/hello" then
    return 200, "hello\n"
  elseif request.path == "/stats" then
    return 200, ("served %d, generation %d\n"):format(served, lunad.generation)
  elseif request.path == "/echo" then
    return 200, request.body
  end
  return 404, "there is nothing here\n"
end

-- Parse a head (without its empty line): a request, or nil and a status.
local function parse_head(head)
  local line, rest = head:match("^([^\r\n]*)\r?\n?(.*)$")
  local method, path, version = line:match("^(%u+) (%S+) HTTP/1%.([01])$")
  if not method then
    return nil, 400
  end
  local headers = {}
  for field in rest:gmatch("[^\r\n]+") do
    local name, value = field:match("^([%w!#$%%&'*+.^_`|~-]+):%s*(.-)%s*$")
    name = name and name:lower()
    if not name or name == "content-length" and headers[name] then
      return nil, 400 -- two lengths: who is in front of us may have believed the other
    end
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  local connection = (headers.connection or ""):lower()
  return {
    method = method, path = path, headers = headers,
    keep = version == "1" and connection ~= "close" or connection == "keep-alive",
  }
end

-- The length of a request's body, or nil and a status.
local function body_length(request)
  if request.headers["transfer-encoding"] then
    return nil, 501
  end
  local length = request.headers["content-length"] or "0"
  if not length:match("^%d+$") then
    return nil, 400
  elseif #length > 9 or tonumber(length) > MAX_BODY then
    return nil, 413
  end
  return math.tointeger(tonumber(length))
end

local function close(connection)
  if not connection.socket:is_closing() then
    connections[connection] = nil
    open = open - 1
    connection.timer:close()
    connection.socket:close()
  end
end

-- Announce the end, and let the client close the connection: if the server closed it while the client is
-- still sending, the client would lose the answer.
local function finish(connection)
  connection.timer:start(LINGER * 1000, 0, function() close(connection) end)
  connection.socket:shutdown(function(err)
    if err then
      close(connection)
    end
  end)
end

local function answer(connection, request, status, body)
  local keep = request ~= nil and request.keep and not retiring
  local head = ("HTTP/1.1 %d %s\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n"):format(
    status, reasons[status], #body, keep and "keep-alive" or "close")
  if request and request.method == "HEAD" then
    body = ""
  end
  connection.unsent = connection.unsent + 1
  connection.socket:write(head .. body, function(err)
    connection.unsent = connection.unsent - 1
    if err or connection.ended and connection.unsent == 0 then
      close(connection)
    elseif not keep and not connection.ended then
      finish(connection)
    end
  end)
  return keep
end

-- Serve the requests that have arrived completely; return false if the connection must end.
local function serve(connection)
  while true do
    local head_end, body_start = connection.input:find("\r?\n\r?\n")
    if not head_end then
      return #connection.input <= MAX_HEAD or answer(connection, nil, 431, "the head is too large\n")
    end
    local request, status = parse_head(connection.input:sub(1, head_end - 1))
    local length
    if request then
      length, status = body_length(request)
    end
    if not length or head_end > MAX_HEAD then
      return answer(connection, nil, status or 431, "this request cannot be served\n")
    end
    if #connection.input < body_start + length then
      return true -- the body is not complete
    end
    request.body = connection.input:sub(body_start + 1, body_start + length)
    connection.input = connection.input:sub(body_start + length + 1)
    if not answer(connection, request, handle(request)) then
      return false
    end
  end
end

local function accept(server)
  local connection = { socket = uv.new_tcp(), timer = uv.new_timer(), input = "", unsent = 0 }
  server:accept(connection.socket)
  connection.socket:nodelay(true)
  connections[connection] = true
  open = open + 1
  local function restart_timer()
    connection.timer:start(IDLE * 1000, 0, function() close(connection) end)
  end
  restart_timer()
  connection.heard = lunad.now()
  connection.socket:read_start(function(err, chunk)
    connection.ended = not chunk
    if err or connection.ended and connection.unsent == 0 then
      close(connection)
    elseif chunk and not connection.done then -- after that we only wait for its end
      restart_timer()
      connection.heard = lunad.now()
      connection.input = connection.input .. chunk
      connection.done = not serve(connection)
    end
  end)
end

local server = uv.new_tcp()
assert(server:open(assert(lunad.listen(ADDRESS))))
assert(server:listen(511, function(err)
  if not err then
    accept(server)
  end
end))

lunad.on_reload(function()
  return { served = served }
end)

-- Accept no new clients. The next answer tells connected clients to connect again: closing a connection
-- now could cut off a request that is on its way. When the service stops, idle clients are not waited
-- for.
lunad.on_stop(function(reason)
  retiring = true
  server:close()
  while reason == "stop" and open > 0 do
    for connection in pairs(connections) do
      if connection.unsent == 0 and lunad.now() - connection.heard > QUIET then
        close(connection)
      end
    end
    lunad.sleep(0.05)
  end
end)

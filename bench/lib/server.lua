-- A process that answers requests: that of examples/http.lua, one by callbacks under lunad or luv, or that of
-- node; or a server that returns what it reads.

local uv = require "luv"
local services = require "services"

local commands = {
  lunad = { os.getenv "LUNAD", "run", "--name", "http", "examples/http.lua" },
  callbacks = { os.getenv "LUNAD", "run", "--name", "http", "bench/http/callbacks.lua" },
  luv = { "lua5.4", "bench/http/luv.lua" },
  node = { "node", "bench/http/node.js" },
}

local echo_commands = {
  lunad = { os.getenv "LUNAD", "run", "bench/connections/lunad.lua" },
  luv = { "lua5.4", "bench/connections/luv.lua" },
}

local Server = {}
Server.__index = Server

-- A free port.
local function free_port()
  local socket = uv.new_tcp()
  socket:bind("127.0.0.1", 0)
  local port = socket:getsockname().port
  socket:close()
  uv.run("nowait")
  return port
end

-- Connect, send one request, and call `on_answer`; return the connection, which stays open.
function Server:ask(on_answer)
  local socket = uv.new_tcp()
  socket:connect("127.0.0.1", self.port, function(err)
    if err then
      on_answer(nil)
      return
    end
    socket:read_start(function(_, text) on_answer(text) end)
    socket:write("GET /hello HTTP/1.1\r\nHost: here\r\n\r\n")
  end)
  return socket
end

-- Whether it answers.
function Server:answers()
  local done, answer = false, nil
  local socket = self:ask(function(text)
    done, answer = true, text
  end)
  services.wait_for("an answer", function() return done end)
  socket:close()
  return answer ~= nil
end

-- Seconds of CPU that it has used.
function Server:cpu()
  local user, system = services.read(("/proc/%d/stat"):format(self.pid)):match(
    "^.*%) %a" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
  return (user + system) / 100
end

-- Start a contender's server, of HTTP or for `echo`, call `use` with it, and end it.
return function(name, use, echo)
  local command = (echo and echo_commands or commands)[name]
  local self = setmetatable({ port = free_port() }, Server)
  local env = uv.os_environ()
  env.HTTP_ADDRESS = "127.0.0.1:" .. self.port
  local list = {}
  for key, value in pairs(env) do
    list[#list + 1] = key .. "=" .. value
  end
  local over = false
  local process
  process, self.pid = uv.spawn(command[1], {
    args = table.move(command, 2, #command, 1, {}), env = list, stdio = { nil, 2, 2 },
  }, function() over = true end)
  assert(process, self.pid)
  services.poll_for("the server", function() return over or self:answers() end)
  local ok, err = xpcall(use, debug.traceback, self)
  process:kill("sigkill")
  services.wait_for("its end", function() return over end)
  process:close()
  uv.run("nowait")
  assert(ok, err)
end

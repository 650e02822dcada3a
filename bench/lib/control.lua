-- A client of the control socket: one line each way.

local uv = require "luv"
local services = require "services"

local Client = {}
Client.__index = Client

-- Send a request; return the line of the answer.
function Client:ask(request)
  self.answer = nil
  self.pipe:write(request .. "\n")
  services.wait_for("an answer", function() return self.answer end)
  return self.answer
end

function Client:close()
  self.pipe:close()
  uv.run("nowait")
end

-- Connect to the socket at a path.
return function(path)
  local self = setmetatable({ pipe = uv.new_pipe(false) }, Client)
  local connected, buffer = false, ""
  self.pipe:connect(path, function(err)
    assert(not err, err)
    connected = true
  end)
  services.wait_for(path, function() return connected end)
  self.pipe:read_start(function(err, text)
    assert(text, err or "the connection was closed")
    buffer = buffer .. text
    local line, rest = buffer:match("^([^\n]*)\n(.*)$")
    if line then
      self.answer, buffer = line, rest
    end
  end)
  return self
end

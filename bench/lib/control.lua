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
  local connected, parts = false, {}
  self.pipe:connect(path, function(err)
    assert(not err, err)
    connected = true
  end)
  services.wait_for(path, function() return connected end)
  self.pipe:read_start(function(err, text)
    assert(text, err or "the connection was closed")
    local last, rest = text:match("^([^\n]*)\n(.*)$")
    parts[#parts + 1] = last or text
    if last then
      self.answer, parts = table.concat(parts), { rest }
    end
  end)
  return self
end

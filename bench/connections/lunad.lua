-- A server that returns what it reads: a task for each client.
local net = require "lunad.net"
assert(net.serve(os.getenv "HTTP_ADDRESS", function(stream)
  local chunk = stream:read()
  while chunk do
    stream:write(chunk)
    chunk = stream:read()
  end
end))

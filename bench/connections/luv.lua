-- The same by callbacks.
local uv = require "luv"
local host, port = os.getenv "HTTP_ADDRESS":match "^(.*):(%d+)$"
local server = uv.new_tcp()
assert(server:bind(host, tonumber(port)))
assert(server:listen(1024, function()
  local client = uv.new_tcp()
  server:accept(client)
  client:nodelay(true)
  client:keepalive(true, 60)
  client:read_start(function(_, chunk)
    if chunk then
      client:write(chunk)
    else
      client:close()
    end
  end)
end))
uv.run()

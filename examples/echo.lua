-- An echo server: TCP and a Unix socket, with luv.
--
--   lunad start examples/echo.lua
--   nc 127.0.0.1 7007
--   lunad reload echo      connected clients keep the old code until --stop-timeout
--
-- `require "luv"` loads the installed luv (Debian: lua-luv), on the same loop as everything
-- else: its callbacks are tasks like all others, so they may sleep.

local lunad = require "lunad"
local uv = require "luv"

local ADDRESSES = {
  os.getenv("ECHO_ADDRESS") or "127.0.0.1:7007",
  os.getenv("ECHO_SOCKET") and "unix:" .. os.getenv("ECHO_SOCKET"),
}

local clients = 0

local function serve(client)
  clients = clients + 1
  lunad.status(("%d clients"):format(clients))
  client:read_start(function(err, chunk)
    if chunk then
      client:write(chunk)
      return
    end
    if err then
      lunad.log.warn("client lost", { error = err })
    end
    clients = clients - 1
    lunad.status(("%d clients"):format(clients))
    client:close()
  end)
end

for _, address in ipairs(ADDRESSES) do
  local new_stream = address:find("^unix:") and uv.new_pipe or uv.new_tcp
  local server = new_stream()
  assert(server:open(assert(lunad.listen(address))))
  assert(server:listen(128, function(err)
    if not err then
      local client = new_stream()
      server:accept(client)
      serve(client)
    end
  end))
  lunad.log.info("listening", { address = address })
end

-- A pre-forked server: one listening socket and as many workers as there are cores.
--
--   lunad start examples/prefork.lua      then: curl http://127.0.0.1:8080/hello
--   lunad reload prefork                  the workers are restarted one after the other
--   lunad list                            each worker is its own lunad: http-1, http-2, ...
--
-- This process only holds the socket and supervises the workers, which are examples/http.lua. The
-- kernel gives each client to one of them. While one restarts, the others serve, and new
-- clients wait in the queue of the socket: none is refused.

local lunad = require "lunad"

local ADDRESS = os.getenv("HTTP_ADDRESS") or "127.0.0.1:8080"
local WORKERS = tonumber(os.getenv("WORKERS")) or 2

local folder = lunad.script:match("^(.*)/[^/]*$")
local socket = assert(lunad.listen(ADDRESS))

local workers = assert(lunad.supervise {
  os.getenv("LUNAD") or "lunad", "run", folder .. "/http.lua",
  name = "http", count = WORKERS,
  keep = true,              -- a reload of this file alone does not touch them ...
  fds = { [3] = socket },   -- ... though the new generation has another descriptor
  env = { HTTP_ADDRESS = "fd:3", LISTEN_FDS = "1" }, -- which lunad.listen finds there
  kill_after = 10,
  ready = "notify",         -- a lunad says when it is ready, as to systemd
})

-- ... but here a reload should replace the workers too, one after the other: each when the one before it is
-- ready. If one is not, those after it stay as they are.
if lunad.generation > 1 then
  local ok, err = workers:restart()
  if not ok then
    lunad.log.error("the workers were not all replaced", { error = err })
  end
end

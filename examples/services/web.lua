-- The HTTP half of examples/services/lunad.lua: counts its requests over reloads.

local lunad = require "lunad"
local http = require "lunad.http"

local address = ...
local state = lunad.keep("state", { requests = 0 })

assert(http.serve(address or "127.0.0.1:8080", function()
  state.requests = state.requests + 1
  return 200, ("request %d, queue %s\n"):format(state.requests, os.getenv "QUEUE_NAME")
end))
lunad.log.info("web listens", { address = address })

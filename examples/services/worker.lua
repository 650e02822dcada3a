-- The background half of examples/services/lunad.lua.

local lunad = require "lunad"

local seconds = tonumber((...)) or 1
local state = lunad.keep("state", { looks = 0 })

lunad.every(seconds, function()
  state.looks = state.looks + 1
  lunad.status(("looked %d times at the queue %s"):format(state.looks, os.getenv "QUEUE_NAME"))
end)

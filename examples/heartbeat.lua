-- A heartbeat: the smallest service worth running.
--
--   lunad start examples/heartbeat.lua     it becomes a daemon
--   lunad logs -f heartbeat                see it beat
--   edit this file, then: lunad reload heartbeat
--   lunad stop heartbeat
--
-- A reload runs this file again in a fresh Lua state, beside the old one. There lunad.state is what
-- on_reload returned, so the count continues.

local lunad = require "lunad"

local INTERVAL = tonumber(os.getenv("HEARTBEAT_INTERVAL")) or 0.5

local count = lunad.state and lunad.state.count or 0

-- Called on a fixed beat: the n-th call is due at start + n * INTERVAL, however long a call takes.
lunad.every(INTERVAL, function()
  count = count + 1
  lunad.log.info("beat", { count = count })
  lunad.status(("beat %d"):format(count)) -- shown by `lunad status`
end)

-- Hand the state to the new generation.
lunad.on_reload(function()
  return { count = count }
end)

-- Why it ends: "stop", "reload", or "exit" when there is nothing left to wait for.
lunad.on_stop(function(reason)
  lunad.log.info("last beat", { count = count, reason = reason })
end)

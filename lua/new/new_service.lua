#!/usr/bin/env -S lunad run
-- NAME: what it is for.
--
--     lunad run NAME.lua        in the foreground, until Ctrl-C
--     lunad start NAME.lua      as a daemon; lunad status NAME, lunad logs -f NAME, lunad stop NAME
--     lunad reload NAME         runs this file again in the running daemon
--     lunad test                runs its specs, spec/NAME_spec.lua

local lunad = require "lunad"

-- What is kept over a reload.
local state = lunad.keep("state", { beats = 0 })

-- Once a minute. A function that lunad calls may sleep and wait for a command: the others go on meanwhile.
lunad.every(60, function()
  local result, err = lunad.exec { "uptime", timeout = 10 }
  if not result then
    lunad.log.error("uptime cannot be run", { error = err })
    return
  end
  state.beats = state.beats + 1
  lunad.log.info("beat", { number = state.beats, uptime = result.stdout:match "^%s*(.-)%s*$" })
  lunad.status(("%d beats"):format(state.beats)) -- shown by lunad status
end)

-- Every night at half past three.
lunad.cron("30 3 * * *", function()
  state.beats = 0
end)

-- lunad signal NAME USR1
lunad.signal("USR1", function()
  lunad.log.info("beats so far", { beats = state.beats })
end)

-- Before the end; the reason is "stop", "reload" or "exit".
lunad.on_stop(function(reason)
  lunad.log.info("the end of this code", { reason = reason })
end)

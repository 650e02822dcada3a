-- Completes the module with what is written in Lua. Called with its table, and with the table that
-- lunad's own Lua shares with C: functions that scripts do not see.

local lunad, core = ...

-- Scripts may replace these in the module; lunad's own Lua keeps calling the originals.
core.now, core.spawn, core.log = lunad.now, lunad.spawn, lunad.log

-- The function that another file returns. Few scripts need all: each file is run at the first call.
local function from_file(name)
  local fn
  return function(...)
    fn = fn or core.run(name, core)
    return fn(...)
  end
end

lunad.by_line = from_file("by_line.lua")
lunad.exec = from_file("exec.lua")
lunad.supervise = from_file("supervise.lua")

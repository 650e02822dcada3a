-- State that survives reloads: what on_reload returns is lunad.state in the next generation.
--
--   lunad start examples/counter.lua
--   lunad signal counter USR1; lunad signal counter USR1
--   lunad reload counter            and the count is the same
--   lunad status counter
--
-- Only plain data moves over: nil, booleans, numbers, strings, and tables of those, which may share
-- and cycle. A function, a coroutine or an open file in it refuses the reload and names where it is
-- ("state.history[2].file is a userdata ..."); the old generation keeps running.

local lunad = require "lunad"

local state = lunad.state or { count = 0, history = {} }

local KEEP = 10 -- entries of the history

local function show()
  lunad.status(("counted %d, generation %d"):format(state.count, lunad.generation))
end

-- The script's handler replaces what the signal does by default.
lunad.signal("USR1", function()
  state.count = state.count + 1
  table.insert(state.history, { count = state.count, time = os.time() })
  if #state.history > KEEP then
    table.remove(state.history, 1)
  end
  lunad.log.info("counted", { count = state.count })
  show()
end)

lunad.on_reload(function()
  return state
end)

show()

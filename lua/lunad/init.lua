-- The public face of lunad: what C gives, and what is made of it here.

local lunad, load_part, raise = ...

-- What only lunad's own Lua may use.
local core = {
  raise = raise,
  spawn = lunad.spawn,
  end_child = lunad.end_child,
  check_task = lunad.check_task,
}
lunad.end_child, lunad.check_task = nil, nil

lunad.by_line = load_part("by_line.lua", core)
lunad.exec = load_part("exec.lua", core)

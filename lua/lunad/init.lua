-- The public face of lunad: what C gives, and what is made of it here. Returns what lunad's own Lua
-- shares with C.

local lunad, load_part, raise = ...

-- What only lunad's own parts may use.
local core = {
  raise = raise,
  spawn = lunad.spawn,
  after = lunad.after,
  now = lunad.now,
  log = lunad.log,
}

for _, name in ipairs { "check_task", "drop_claim", "end_child", "is_over", "note_child", "report" } do
  core[name], lunad[name] = lunad[name], nil
end

lunad.by_line = load_part("by_line.lua", core)
lunad.exec = load_part("exec.lua", core)
lunad.supervise = load_part("supervise.lua", core)

return core

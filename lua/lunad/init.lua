-- The public face of lunad: what C gives, and what is made of it here. Returns what lunad's own Lua
-- shares with C.

local lunad, load_part, raise = ...

-- What only lunad's own parts may use.
local core = {
  raise = raise,
  after = lunad.after,
  now = lunad.now,
  spawn = lunad.spawn,
  log = lunad.log,
}

local own = {
  "check_task", "drop_claim", "end_child", "give_way", "is_over", "note_child", "note_command", "note_give_up", "report",
  "spawn_marked", "strays",
}
for _, name in ipairs(own) do
  core[name], lunad[name] = lunad[name], nil
end

-- A function that another part returns. Most scripts need few of them: each is loaded when it is called.
local function of_part(name)
  local fn
  return function(...)
    fn = fn or load_part(name, core)
    return fn(...)
  end
end

lunad.by_line = of_part("by_line.lua")
lunad.exec = of_part("exec.lua")
lunad.supervise = of_part("supervise.lua")

return core

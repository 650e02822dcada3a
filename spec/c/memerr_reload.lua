-- What test_memerr reloads while memory runs out: a script with one of everything, which must find in
-- its next generation what it has passed on, or keep running as it was.

local lunad = require "lunad"
local trial = require "trial"

local state = lunad.state

-- The state is whole, or there was no reload.
if lunad.generation > 1 then
  local whole = type(state) == "table" and state.list[100] == 100 and state.list.me == state.list and
    state.text == ("long "):rep(100) and state.generation == lunad.generation - 1
  if not whole then
    trial.broken("the state")
  end
end

local stopping = false
local child = assert(lunad.spawn {
  "sleep", "1000", name = "kept", keep = true, env = { A = 1 },
  stdout = lunad.by_line(function() end),
  on_exit = function()
    if not stopping then
      trial.broken("the kept child has ended")
    end
  end,
})
if state and child.pid ~= state.pid then
  trial.broken("the kept child is another")
end
assert(lunad.spawn { "sleep", "1000", name = "not-kept", stdin = "pipe" })
assert(lunad.listen("unix:" .. arg[1] .. "/service"))
assert(lunad.signal("USR1", function() end))
lunad.after(1000, function() end)
lunad.cron("@yearly", function() end)
lunad.task(lunad.sleep, 1000)
lunad.on_error(function() end)
lunad.on_stop(function(reason) stopping = reason == "stop" end)
lunad.status("all is well")

lunad.on_reload(function()
  local list = {}
  for i = 1, 100 do
    list[i] = i
  end
  list.me = list
  return {
    list = list, text = ("long "):rep(100), pid = child.pid, generation = lunad.generation,
  }
end)

trial.drive(function()
  trial.starve(true)
  lunad.reload()
end)

local measure, lunad = require "measure", require "lunad"
local left = tonumber((...))
local fired, heard = 0, -1
local cpu, wall = measure.cpu(), lunad.now()

lunad.signal("USR2", function()
  heard = fired
end)

local function on_timer()
  fired, left = fired + 1, left - 1
  if left > 0 then
    lunad.after(0, on_timer)
  else
    measure.report { cpu = measure.cpu() - cpu, wall = lunad.now() - wall, starved = heard }
    lunad.stop()
  end
end

lunad.after(0, on_timer)
lunad.kill(lunad.pid, "USR2")

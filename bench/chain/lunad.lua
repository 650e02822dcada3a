local measure, lunad = require "measure", require "lunad"
local left = tonumber((...))
local fired, heard = 0, -1
local cpu, wall = measure.cpu(), lunad.now()

lunad.signal("USR2", function()
  heard = fired
end)

local timer
local function on_timer()
  fired, left = fired + 1, left - 1
  if left > 0 then
    timer:again(0)
  else
    measure.report { cpu = measure.cpu() - cpu, wall = lunad.now() - wall, starved = heard }
    lunad.stop()
  end
end

timer = lunad.after(0, on_timer)
lunad.kill(lunad.pid, "USR2")

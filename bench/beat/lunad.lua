local measure, lunad = require "measure", require "lunad"
local count, seconds = ...
local ticks = 0
local cpu, wall = measure.cpu(), lunad.now()

local function on_tick()
  ticks = ticks + 1
end

for _ = 1, count do
  lunad.every(0.01, on_tick)
end
lunad.after(seconds + 0.005, function()
  measure.report {
    cpu = measure.cpu() - cpu, wall = lunad.now() - wall, delivered = ticks / (count * seconds * 100),
  }
  lunad.stop()
end)

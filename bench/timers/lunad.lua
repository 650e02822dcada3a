local measure, lunad = require "measure", require "lunad"
local count = tonumber((...))
local delays = measure.delays(count)
local fired = 0
local before, cpu, wall = measure.memory("VmRSS"), measure.cpu(), lunad.now()

local function on_timer()
  fired = fired + 1
  if fired == count then
    measure.report {
      cpu = measure.cpu() - cpu, wall = lunad.now() - wall, fired = fired,
      bytes = (measure.memory("VmHWM") - before) / count,
    }
  end
end

for i = 1, count do
  lunad.after(delays[i] / 1000, on_timer)
end

local measure, uv = require "measure", require "luv"
local count = tonumber((...))
local delays = measure.delays(count)
local fired = 0

local before, cpu, wall = measure.memory("VmRSS"), measure.cpu(), uv.hrtime()
for i = 1, count do
  local timer = uv.new_timer()
  timer:start(delays[i], 0, function()
    fired = fired + 1
    timer:close()
  end)
end
uv.run()
measure.report {
  cpu = measure.cpu() - cpu, wall = (uv.hrtime() - wall) / 1e9, fired = fired,
  bytes = (measure.memory("VmHWM") - before) / count,
}

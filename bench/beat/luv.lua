local measure, uv = require "measure", require "luv"
local count, seconds = ...
local ticks = 0

local function on_tick()
  ticks = ticks + 1
end

local cpu, wall = measure.cpu(), uv.hrtime()
for _ = 1, count do
  uv.new_timer():start(10, 10, on_tick)
end
uv.update_time()
uv.new_timer():start(seconds * 1000 + 5, 0, uv.stop)
uv.run()
measure.report {
  cpu = measure.cpu() - cpu, wall = (uv.hrtime() - wall) / 1e9, delivered = ticks / (count * seconds * 100),
}

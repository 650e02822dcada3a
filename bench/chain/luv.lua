local measure, uv = require "measure", require "luv"
local left = tonumber((...))
local fired, heard = 0, -1

local signal = uv.new_signal()
signal:start("sigusr2", function()
  heard = fired
  signal:close()
end)

local timer = uv.new_timer()
local function on_timer()
  fired, left = fired + 1, left - 1
  if left > 0 then
    timer:start(0, 0, on_timer)
  end
end

local cpu, wall = measure.cpu(), uv.hrtime()
timer:start(0, 0, on_timer)
uv.kill(uv.os_getpid(), "sigusr2")
uv.run()
measure.report { cpu = measure.cpu() - cpu, wall = (uv.hrtime() - wall) / 1e9, starved = heard }

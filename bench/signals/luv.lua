local measure, uv = require "measure", require "luv"
local left = tonumber((...))
local pid = uv.os_getpid()

local signal = uv.new_signal()
signal:start("sigusr2", function()
  left = left - 1
  if left > 0 then
    uv.kill(pid, "sigusr2")
  else
    signal:close()
  end
end)

local cpu, wall = measure.cpu(), uv.hrtime()
uv.kill(pid, "sigusr2")
uv.run()
measure.report { cpu = measure.cpu() - cpu, wall = (uv.hrtime() - wall) / 1e9 }

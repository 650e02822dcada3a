local measure, statistics, uv = require "measure", require "statistics", require "luv"
local seconds = tonumber((...))
local waits, ticks, armed = {}, 0, nil
local timer = uv.new_timer()

local function beat()
  uv.update_time()
  timer:start(1, 1, function()
    ticks = ticks + 1
  end)
  uv.new_timer():start(seconds * 1000, 0, function()
    measure.report { wait = statistics.median(waits), delivered = ticks / (seconds * 1000) }
    uv.stop()
  end)
end

local function on_time()
  local now = uv.hrtime()
  waits[#waits + 1] = (now - armed) / 1e9
  if #waits == seconds * 500 then
    beat()
  else
    armed = now
    timer:start(1, 0, on_time)
  end
end

armed = uv.hrtime()
timer:start(1, 0, on_time)
uv.run()

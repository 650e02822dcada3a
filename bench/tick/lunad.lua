local measure, statistics, lunad = require "measure", require "statistics", require "lunad"
local seconds = tonumber((...))
local waits, ticks, armed = {}, 0, nil

-- Beats of 1 ms for some seconds, beside nothing else.
local function beat()
  local timer = lunad.every(0.001, function()
    ticks = ticks + 1
  end)
  lunad.after(seconds + 0.0005, function()
    timer:stop()
    measure.report { wait = statistics.median(waits), delivered = ticks / (seconds * 1000) }
    lunad.stop()
  end)
end

-- Waits of 1 ms, one after the other.
local function on_time()
  local now = lunad.now()
  waits[#waits + 1] = now - armed
  if #waits == seconds * 500 then
    beat()
  else
    armed = now
    lunad.after(0.001, on_time)
  end
end

armed = lunad.now()
lunad.after(0.001, on_time)

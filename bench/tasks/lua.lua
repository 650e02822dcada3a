-- The same with plain coroutines: N that wait, and a round of switches between 1,000 of them.
local measure = require "measure"
local mode, count = ...
count = tonumber(count)

local function wait()
  coroutine.yield()
end

if mode == "sleep" then
  local before, waiting = measure.memory("VmRSS"), {}
  local cpu = measure.cpu()
  for i = 1, count do
    local co = coroutine.create(wait)
    coroutine.resume(co)
    waiting[i] = co
  end
  measure.report { cpu = measure.cpu() - cpu, bytes = (measure.memory("VmHWM") - before) / #waiting }
else
  local running = {}
  for i = 1, 1000 do
    running[i] = coroutine.create(function()
      for _ = 1, count // 1000 do
        coroutine.yield()
      end
    end)
  end
  local cpu = measure.cpu()
  for _ = 1, count // 1000 do
    for i = 1, 1000 do
      coroutine.resume(running[i])
    end
  end
  measure.report { rate = count / (measure.cpu() - cpu) }
end

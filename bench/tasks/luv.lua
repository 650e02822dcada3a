local measure, uv = require "measure", require "luv"
local mode, count = ...
count = tonumber(count)

local function sleep(milliseconds)
  local timer, co = uv.new_timer(), coroutine.running()
  timer:start(milliseconds, 0, function()
    timer:close()
    assert(coroutine.resume(co))
  end)
  coroutine.yield()
end

local cpu = measure.cpu()
if mode == "sleep" then
  local before = measure.memory("VmRSS")
  for _ = 1, count do
    coroutine.wrap(sleep)(3600000)
  end
  measure.report { cpu = measure.cpu() - cpu, bytes = (measure.memory("VmHWM") - before) / count }
else
  for _ = 1, 1000 do
    coroutine.wrap(function()
      for _ = 1, count // 1000 do
        sleep(0)
      end
    end)()
  end
  uv.run()
  measure.report { rate = count / (measure.cpu() - cpu) }
end
os.exit(0, false)

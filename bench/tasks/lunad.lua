local measure, lunad = require "measure", require "lunad"
local mode, count = ...
count = tonumber(count)

local function sleep()
  lunad.sleep(3600)
end

if mode == "sleep" then
  local before, cpu = measure.memory("VmRSS"), measure.cpu()
  for _ = 1, count do
    lunad.task(sleep)
  end
  measure.report { cpu = measure.cpu() - cpu, bytes = (measure.memory("VmHWM") - before) / count }
else
  local cpu, tasks = measure.cpu(), {}
  for i = 1, 1000 do
    tasks[i] = lunad.task(function()
      for _ = 1, count // 1000 do
        lunad.sleep(0)
      end
    end)
  end
  for i = 1, 1000 do
    tasks[i]:wait()
  end
  measure.report { rate = count / (measure.cpu() - cpu) }
end
os.exit()

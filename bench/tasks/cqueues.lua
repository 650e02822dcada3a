local measure, cqueues = require "measure", require "cqueues"
local mode, count = ...
count = tonumber(count)
local loop = cqueues.new()

local function sleep()
  cqueues.sleep(3600)
end

local cpu = measure.cpu()
if mode == "sleep" then
  local before = measure.memory("VmRSS")
  for _ = 1, count do
    loop:wrap(sleep)
  end
  loop:step(0)
  measure.report { cpu = measure.cpu() - cpu, bytes = (measure.memory("VmHWM") - before) / count }
else
  for _ = 1, 1000 do
    loop:wrap(function()
      for _ = 1, count // 1000 do
        cqueues.sleep(0)
      end
    end)
  end
  assert(loop:loop())
  measure.report { rate = count / (measure.cpu() - cpu) }
end
os.exit(0, false)

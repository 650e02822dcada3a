local measure, cqueues = require "measure", require "cqueues"
local count = tonumber((...))
local delays = measure.delays(count)
local fired = 0
local loop = cqueues.new()

local function timer(delay)
  cqueues.sleep(delay)
  fired = fired + 1
end

local before, cpu, wall = measure.memory("VmRSS"), measure.cpu(), cqueues.monotime()
for i = 1, count do
  loop:wrap(timer, delays[i] / 1000)
end
assert(loop:loop())
measure.report {
  cpu = measure.cpu() - cpu, wall = cqueues.monotime() - wall, fired = fired,
  bytes = (measure.memory("VmHWM") - before) / count,
}

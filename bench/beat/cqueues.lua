local measure, cqueues = require "measure", require "cqueues"
local count, seconds = ...
local ticks = 0
local loop = cqueues.new()
local cpu, wall = measure.cpu(), cqueues.monotime()

local function beat()
  while true do
    cqueues.sleep(0.01)
    ticks = ticks + 1
  end
end

for _ = 1, count do
  loop:wrap(beat)
end
loop:wrap(function()
  cqueues.sleep(seconds + 0.005)
  measure.report {
    cpu = measure.cpu() - cpu, wall = cqueues.monotime() - wall,
    delivered = ticks / (count * seconds * 100),
  }
  os.exit()
end)
assert(loop:loop())

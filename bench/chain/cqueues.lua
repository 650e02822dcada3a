local measure, cqueues, signal = require "measure", require "cqueues", require "cqueues.signal"
local left = tonumber((...))
local fired, heard = 0, -1
local loop = cqueues.new()

signal.block(signal.SIGUSR2)
local listener = signal.listen(signal.SIGUSR2)
loop:wrap(function()
  listener:wait()
  heard = fired
end)
loop:wrap(function()
  while left > 0 do
    cqueues.sleep(0)
    fired, left = fired + 1, left - 1
  end
end)

local cpu, wall = measure.cpu(), cqueues.monotime()
signal.raise(signal.SIGUSR2)
assert(loop:loop())
measure.report { cpu = measure.cpu() - cpu, wall = cqueues.monotime() - wall, starved = heard }

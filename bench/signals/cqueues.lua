local measure, cqueues, signal = require "measure", require "cqueues", require "cqueues.signal"
local left = tonumber((...))
local loop = cqueues.new()

signal.block(signal.SIGUSR2)
local listener = signal.listen(signal.SIGUSR2)
local cpu, wall = measure.cpu(), cqueues.monotime()

loop:wrap(function()
  repeat
    signal.raise(signal.SIGUSR2)
    listener:wait()
    left = left - 1
  until left == 0
end)

assert(loop:loop())
measure.report { cpu = measure.cpu() - cpu, wall = cqueues.monotime() - wall }

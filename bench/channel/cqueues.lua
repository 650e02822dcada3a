-- The nearest that cqueues has: a condition variable that two of its coroutines signal in turn.
local measure, cqueues, condition = require "measure", require "cqueues", require "cqueues.condition"
local count = tonumber((...))
local loop, filled, emptied = cqueues.new(), condition.new(), condition.new()
local slot, sum = nil, 0

loop:wrap(function()
  for i = 1, count do
    while slot do
      emptied:wait()
    end
    slot = i
    filled:signal()
  end
end)
loop:wrap(function()
  for _ = 1, count do
    while not slot do
      filled:wait()
    end
    sum, slot = sum + slot, nil
    emptied:signal()
  end
end)
local cpu = measure.cpu()
assert(loop:loop())
assert(sum == count * (count + 1) // 2)
measure.report { switch = (measure.cpu() - cpu) / count }
os.exit(0, false)

-- The same by hand: a queue in a table, and a coroutine that is resumed with each value.
local measure = require "measure"
local count = tonumber((...))

local queue, first, last, got = {}, 1, 0, 0
local cpu = measure.cpu()
for i = 1, count do
  last = last + 1
  queue[last] = i
  got = got + queue[first]
  queue[first], first = nil, first + 1
end
local one = measure.cpu() - cpu

local sum = 0
local put = coroutine.wrap(function(value)
  while true do
    sum = sum + value
    value = coroutine.yield()
  end
end)
cpu = measure.cpu()
for i = 1, count do
  put(i)
end
local switch = measure.cpu() - cpu
assert(sum == count * (count + 1) // 2 and got == sum)
measure.report { buffered = one / count, switch = switch / count }

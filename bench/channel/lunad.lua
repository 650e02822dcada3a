-- Values through a channel: put and got by one task, and from one task to another.
local measure, lunad = require "measure", require "lunad"
local count = tonumber((...))

local buffered = lunad.channel(1)
local cpu = measure.cpu()
for i = 1, count do
  buffered:put(i)
  buffered:get()
end
local one = measure.cpu() - cpu

local handed, sum = lunad.channel(), 0
cpu = measure.cpu()
local reader = lunad.task(function()
  for value in handed:each() do
    sum = sum + value
  end
end)
for i = 1, count do
  handed:put(i)
end
handed:close()
reader:wait()
local switch = measure.cpu() - cpu
assert(sum == count * (count + 1) // 2)
measure.report { buffered = one / count, switch = switch / count }
os.exit()

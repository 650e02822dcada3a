-- What it is compared with: a coroutine that yields and is resumed at once.
local measure = require "measure"
local count = tonumber((...))

local co = coroutine.wrap(function()
  while true do
    coroutine.yield()
  end
end)

local cpu = measure.cpu()
for _ = 1, count do
  co()
end
measure.report { cpu = (measure.cpu() - cpu) / count }

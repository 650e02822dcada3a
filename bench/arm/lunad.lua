local measure, lunad = require "measure", require "lunad"
local count = tonumber((...))
local delays = measure.delays(count)
local timers = {}

local fresh = measure.cpu()
for i = 1, count do
  timers[i] = lunad.after(60 * delays[i] / 1000, error)
end
local armed = measure.cpu()
for i = 1, count do
  timers[i]:again(60 * delays[i] / 1000)
end
local again = measure.cpu()
for i = 1, count do
  timers[i]:stop()
end
local last = measure.cpu()
measure.report { fresh = armed - fresh + last - again, again = again - armed }

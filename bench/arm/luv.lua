local measure, uv = require "measure", require "luv"
local count = tonumber((...))
local delays = measure.delays(count)
local timers = {}

local fresh = measure.cpu()
for i = 1, count do
  local timer = uv.new_timer()
  timer:start(60 * delays[i], 0, error)
  timers[i] = timer
end
local armed = measure.cpu()
for i = 1, count do
  timers[i]:start(60 * delays[i], 0, error)
end
local again = measure.cpu()
for i = 1, count do
  timers[i]:close()
end
uv.run()
local last = measure.cpu()
measure.report { fresh = armed - fresh + last - again, again = again - armed }

local measure, lunad = require "measure", require "lunad"
local FLYING <const> = 100000
local count = tonumber((...))
local delays, flying = measure.delays(count), {}

local start = measure.cpu()
for i = 1, count do
  local place = i % FLYING + 1
  if flying[place] then
    flying[place]:stop()
  end
  flying[place] = lunad.after(60 * delays[i] / 1000, error)
end
local fresh = measure.cpu()
for i = 1, count do
  flying[i % FLYING + 1]:again(60 * delays[i] / 1000)
end
local again = measure.cpu()
measure.report { fresh = fresh - start, again = again - fresh }
lunad.stop()

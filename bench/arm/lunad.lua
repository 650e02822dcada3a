local measure, lunad = require "measure", require "lunad"
local count, crowd = ...
count = tonumber(count)
local FLYING <const> = tonumber(crowd) or 100000
local delays, flying = measure.delays(count), {}

for i = 1, crowd and FLYING or 0 do
  flying[i] = lunad.after(60 * delays[i % #delays + 1] / 1000, error)
end
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

local measure, uv = require "measure", require "luv"
local FLYING <const> = 100000
local count = tonumber((...))
local delays, flying = measure.delays(count), {}

local start = measure.cpu()
for i = 1, count do
  local place = i % FLYING + 1
  if flying[place] then
    flying[place]:close()
  end
  local timer = uv.new_timer()
  timer:start(60 * delays[i], 0, error)
  flying[place] = timer
  if i % FLYING == 0 then
    uv.run("nowait") -- so that what is closed is freed
  end
end
local fresh = measure.cpu()
for i = 1, count do
  flying[i % FLYING + 1]:start(60 * delays[i], 0, error)
end
local again = measure.cpu()
measure.report { fresh = fresh - start, again = again - fresh }
os.exit(0, false)

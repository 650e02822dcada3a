-- A heap of MEGABYTES stays in use, while each of many beats leaves garbage, in all half as much again: the
-- longest time from one beat to the next, beside the median.
local measure, lunad, statistics = require "measure", require "lunad", require "statistics"
local BEATS <const> = 2000
local BYTES <const> = 100 -- of a small table with one value, about
local megabytes = tonumber((...))

-- Small tables in lists of a thousand: the collector looks at a list at once.
local function fill(lists)
  for i = 1, (megabytes << 20) // (BYTES * 1000) do
    local list = {}
    for k = 1, 1000 do
      list[k] = { k }
    end
    lists[i] = list
  end
  return lists
end

local heap = fill {}
collectgarbage() -- a collection that has begun meanwhile would mark at its end what is new, at once
local each = 3 * (megabytes << 20) // (2 * BEATS * BYTES)
local gaps, last = {}, nil

local timer
timer = lunad.every(0.001, function()
  local now = lunad.now()
  gaps[#gaps + 1] = last and now - last
  last = now
  for i = 1, each do
    local _ = { i }
  end
  if #gaps == BEATS then
    timer:stop()
    measure.report { stall = math.max(table.unpack(gaps)), median = statistics.median(gaps), kept = #heap }
    os.exit()
  end
end)

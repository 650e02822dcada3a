-- Connections one after the other, both sides in one process: made, accepted, and closed by both.
local measure, lunad, net = require "measure", require "lunad", require "lunad.net"
local count, path = ...
count = tonumber(count)

local served = 0
local server = assert(net.serve("unix:" .. path, function(stream)
  stream:read()
  served = served + 1
end))
local wall, cpu = lunad.now(), measure.cpu()
for _ = 1, count do
  local stream <close> = assert(net.connect("unix:" .. path)) -- luacheck: ignore 211
end
while served < count do
  lunad.sleep(0)
end
measure.report { cpu = (measure.cpu() - cpu) / count, wall = (lunad.now() - wall) / count }
server:close()
os.exit()

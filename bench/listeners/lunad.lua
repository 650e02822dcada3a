-- SIZE listening Unix sockets, and then connections to them in turn, one after the other, both sides in one
-- process.
local measure, lunad, net = require "measure", require "lunad", require "lunad.net"
local CONNECTIONS <const> = 2000
local size, path = ...
size = tonumber(size)

local served = 0
local function serve(stream)
  stream:read()
  served = served + 1
end

local servers, start = {}, measure.cpu()
for i = 1, size do
  servers[i] = assert(net.serve(("unix:%s.%d"):format(path, i), serve))
end
local opened = measure.cpu()
for i = 1, CONNECTIONS do
  local address = ("unix:%s.%d"):format(path, i % size + 1)
  local stream <close> = assert(net.connect(address)) -- luacheck: ignore 211
end
while served < CONNECTIONS do
  lunad.sleep(0)
end
measure.report { open = (opened - start) / size, connect = (measure.cpu() - opened) / CONNECTIONS }
for i = 1, size do
  servers[i]:close()
end
os.exit()

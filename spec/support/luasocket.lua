-- What specs of lunad.socket share.

local luasocket = {}

luasocket.is_there = package.searchpath("socket.core", package.cpath) ~= nil
luasocket.has_luasec = package.searchpath("ssl", package.path) ~= nil

-- For scripts: a beat that continues while tasks wait, servers, and a connection with both of its ends.
luasocket.PRELUDE = [[
  local beats = 0
  lunad.every(0.005, function() beats = beats + 1 end)
  local function some_beats()
    local before = beats
    eventually(function() return beats >= before + 3 end)
  end
  local function port_of(object) return (select(2, object:getsockname())) end
  local function serve(fn)
    local server = assert(require("lunad.socket").bind("127.0.0.1", 0))
    lunad.task(function()
      local client = server:accept()
      while client do
        lunad.task(function(client) fn(client) client:close() end, client)
        client = server:accept()
      end
    end)
    return port_of(server)
  end
  local function pair()
    local socket = require "lunad.socket"
    local server = assert(socket.bind("127.0.0.1", 0))
    local client = assert(socket.connect("127.0.0.1", port_of(server)))
    local served = assert(server:accept())
    server:close()
    return client, served
  end
  local function show(...)
    local values = table.pack(...)
    for i = 1, values.n do values[i] = tostring(values[i]) end
    return table.concat(values, ",")
  end
]]

return luasocket

-- Idle connections to examples/http.lua after one request: memory for each.
local measure, services, with_server = require "measure", require "services", require "server"
local name, count = ...

with_server(name, function(server)
  local sockets, answered = {}, 0
  local function connect(total)
    local goal = answered + total
    for _ = 1, total do
      sockets[#sockets + 1] = server:ask(function(text)
        answered = answered + 1
        assert(text, "a connection was closed")
      end)
    end
    services.wait_for("the answers", function() return answered == goal end)
  end
  connect(100)
  local before = measure.memory("VmRSS", server.pid)
  connect(tonumber(count))
  local bytes = (measure.memory("VmRSS", server.pid) - before) / count
  for _, socket in ipairs(sockets) do
    socket:read_stop()
    socket:close()
  end
  measure.report { bytes = bytes }
end)

-- Idle connections after one request: memory for each. To examples/http.lua, or with "echo" to a server that
-- returns what it reads.
local measure, services, with_server = require "measure", require "services", require "server"
local name, count, echo = ...

local BATCH = 100 -- connections that are made at once: no more than wait to be accepted

with_server(name, function(server)
  local sockets, answered, closed = {}, 0, false
  local function connect(total)
    local goal = answered + total
    for _ = 1, total do
      sockets[#sockets + 1] = server:ask(function(text)
        answered, closed = answered + 1, closed or not text
      end)
    end
    services.wait_for("the answers", function() return answered == goal end)
    assert(not closed, "a connection was closed") -- not in the callback: the server has to be ended
  end
  connect(BATCH)
  local before = measure.memory("VmRSS", server.pid)
  for _ = 1, count // BATCH do
    connect(BATCH)
  end
  local bytes = (measure.memory("VmRSS", server.pid) - before) / (#sockets - BATCH)
  for _, socket in ipairs(sockets) do
    socket:read_stop()
    socket:close()
  end
  measure.report { bytes = bytes }
end, echo == "echo")

-- From the command that starts the service to its end and the first sign of the service, whichever is later.
local measure, services, statistics = require "measure", require "services", require "statistics"
local name, count = ...

local SLOW = { supervisor = true, pm2 = true, tarantool = true, runit = true }

services.with(name, 3600, false, function(service)
  local times = {}
  for i = 1, SLOW[name] and count // 10 or count do
    times[i] = service:start()
    service:stop()
  end
  measure.report { ready = statistics.median(times) }
end)

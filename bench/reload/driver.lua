-- The service beats each millisecond and says which code beats. From the request for a reload to the first
-- sign of the new code, and the longest silence meanwhile.
local measure, services, statistics = require "measure", require "services", require "statistics"
local name, count = ...

local SLOW = { supervisor = true, pm2 = true, runit = true }
local SETTLE = 0.02 -- seconds before and after that count for the silence

-- One reload: the latency and the silence.
local function reload_once(service, version)
  service:install(version)
  service:silence(SETTLE)
  local latency = service:time_reload(version)
  return latency, service:silence(SETTLE)
end

services.with(name, 0.001, false, function(service)
  service:start()
  service:silence(0.1)
  local calm, latencies, gaps = {}, {}, {}
  for i = 1, SLOW[name] and count // 20 or count do
    calm[i] = service:silence(2 * SETTLE)
    latencies[i], gaps[i] = reload_once(service, i % 2 == 1 and "B" or "A")
  end
  service:stop()
  measure.report {
    latency = statistics.median(latencies), latency_p99 = statistics.quantile(latencies, 0.99),
    gap = statistics.median(gaps), gap_p99 = statistics.quantile(gaps, 0.99),
    calm = statistics.median(calm), calm_p99 = statistics.quantile(calm, 0.99),
  }
end)

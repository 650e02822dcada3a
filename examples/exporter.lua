-- Metrics of all daemons for Prometheus, and a page that shows them live.
--
--   lunad start examples/exporter.lua     serves on 127.0.0.1:9100, or EXPORTER_ADDRESS
--   curl http://127.0.0.1:9100/metrics    the numbers; http://127.0.0.1:9100/ is for people
--
-- It sees what its own user has started in the same run directory; as root, everything there.

local lunad = require "lunad"
local exporter = require "lunad.exporter"

local server = assert(exporter.serve(os.getenv "EXPORTER_ADDRESS" or "127.0.0.1:9100"))

-- A metric of its own, as any script may have.
lunad.metrics.gauge("exporter_clients", "Clients that are connected to the exporter.", nil, {
  read = function() return server:clients() end,
})

lunad.status("serves " .. server:address())

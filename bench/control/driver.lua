-- Requests on the control socket, one after the other, and the command that sends one.
local measure, services, statistics = require "measure", require "services", require "statistics"
local connect = require "control"
local uv = require "luv"
local name, count = ...

local commands = {
  lunad = "$LUNAD status bench", supervisor = "supervisorctl -c @BOX@/supervisor.conf status bench",
  runit = "sv status @BOX@/sv", pm2 = "pm2 describe bench",
}

-- The median of how long each call takes.
local function time(calls, call)
  local times = {}
  for i = 1, calls do
    local began = uv.hrtime()
    call()
    times[i] = (uv.hrtime() - began) / 1e9
  end
  return statistics.median(times)
end

services.with(name, 1, true, function(service)
  service:start()
  local figures = { command = time(10, function() service:command(commands[name]) end) }
  if name == "lunad" then
    local client = connect(service.dir .. "/run/bench.sock")
    figures.question = time(tonumber(count), function() client:ask('{"verb": "status"}') end)
    client:close()
  end
  service:stop()
  measure.report(figures)
end)

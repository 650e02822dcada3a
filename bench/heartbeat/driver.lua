-- Reloads of examples/heartbeat.lua, one after the other, each asked for on the control socket and timed
-- until its verdict. What the process holds after 500 reloads is compared with what it holds at the end.
local measure, services, statistics = require "measure", require "services", require "statistics"
local connect = require "control"
local uv = require "luv"
local _, count = ...

local WARM = 500

-- What a process holds: memory, descriptors, and descriptors watched by its epoll.
local function holdings(pid)
  local fds, watched = 0, 0
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(("/proc/%d/fd"):format(pid))) do
    fds = fds + 1
    local info = services.read(("/proc/%d/fdinfo/%s"):format(pid, name)) or ""
    watched = watched + select(2, info:gsub("tfd:", ""))
  end
  return { rss = measure.memory("VmRSS", pid), fds = fds, watched = watched }
end

services.with("lunad", 1, true, function(service)
  service.names.FILE = service.dir .. "/heartbeat.lua"
  os.execute(("cp examples/heartbeat.lua '%s'"):format(service.names.FILE))
  service:start()
  local pid, client = service:main_pid(), connect(service.dir .. "/run/bench.sock")
  local times, warm = {}, nil
  for i = 1, tonumber(count) do
    local began = uv.hrtime()
    local answer = client:ask('{"verb": "reload"}')
    times[i] = (uv.hrtime() - began) / 1e9
    assert(answer:find('"ok":true', 1, true), answer)
    warm = i == WARM and holdings(pid) or warm
  end
  uv.sleep(100) -- for what the last generation leaves to be closed
  local last = holdings(pid)
  client:close()
  service:stop()
  measure.report {
    p50 = statistics.median(times), p99 = statistics.quantile(times, 0.99),
    rss = last.rss, rss_growth = last.rss / warm.rss, fds = last.fds - warm.fds,
    watched = last.watched - warm.watched,
  }
end)

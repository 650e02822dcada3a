-- What an idle service with a timer of 1 s costs: memory, and system calls in 10 s, of all its processes.
local measure, services = require "measure", require "services"
local uv = require "luv"
local name, seconds = ...

-- The sum of a field of smaps_rollup over processes, in bytes.
local function memory(pids, field)
  local sum = 0
  for _, pid in ipairs(pids) do
    local text = services.read(("/proc/%d/smaps_rollup"):format(pid)) or ""
    sum = sum + tonumber(text:match(field .. ":%s*(%d+)") or 0) * 1024
  end
  return sum
end

-- How many system calls processes make.
local function count_calls(pids, dir)
  local table_file = dir .. "/strace"
  os.execute(("timeout -s INT %s strace -q -f -c -U calls,name -o '%s' -p %s 2>/dev/null"):format(
    seconds, table_file, table.concat(pids, " -p ")))
  return tonumber((services.read(table_file) or ""):match("(%d+) total")) or 0
end

services.with(name, 1, true, function(service)
  service:start()
  uv.sleep(1500)
  local pids = service:pids()
  assert(#pids > 0, "it does not run")
  local rss, pss = memory(pids, "Rss"), memory(pids, "Pss")
  local calls = count_calls(pids, service.dir)
  service:stop()
  measure.report { rss = rss, pss = pss, calls = calls, processes = #pids }
end)

-- What the Lua programs share: their own clocks and memory, the pseudo-random delays, which are the same in
-- every language, and the one line of JSON that a program prints.

local measure = {}

-- Seconds of CPU of this process, without its children.
measure.cpu = os.clock

-- Bytes in a field of a /proc/PID/status: VmRSS is now, VmHWM the peak.
function measure.memory(field, pid)
  local file = assert(io.open(("/proc/%s/status"):format(pid or "self")))
  local text = file:read("a")
  file:close()
  return (tonumber(text:match(field .. ":%s*(%d+)")) or 0) * 1024
end

-- A list of pseudo-random delays in ms, 1000 to 1999: the same ones every time.
function measure.delays(count)
  local delays, seed = {}, 1
  for i = 1, count do
    seed = (seed * 1664525 + 1013904223) & 0xffffffff
    delays[i] = 1000 + (seed >> 12) % 1000
  end
  return delays
end

-- Print the figures, a table of numbers by name.
function measure.report(figures)
  local parts = {}
  for name, value in pairs(figures) do
    parts[#parts + 1] = ("%q: %.9g"):format(name, value)
  end
  table.sort(parts)
  print("{" .. table.concat(parts, ", ") .. "}")
  io.stdout:flush()
end

return measure

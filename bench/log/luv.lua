-- What a script does without a log library. Each line is written at once, as a log must be.
local measure, uv = require "measure", require "luv"
local lines, path = ...
local log = assert(io.open(path, "a"))

local function info(message, fields)
  local parts = {}
  for name, value in pairs(fields) do
    parts[#parts + 1] = (" %s=%s"):format(name, value)
  end
  local seconds, micros = uv.gettimeofday()
  log:write(os.date("!%Y-%m-%dT%H:%M:%S", seconds), (".%03dZ info  log: "):format(micros // 1000), message,
    table.concat(parts), "\n"):flush()
end

local cpu, wall = measure.cpu(), uv.hrtime()
for i = 1, lines do
  info("beat", { count = i })
end
measure.report { cpu = (measure.cpu() - cpu) / lines, rate = lines / ((uv.hrtime() - wall) / 1e9) }

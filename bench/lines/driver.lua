-- COUNT lines of 80 bytes that another program writes into a pipe go into a log file: the CPU of what
-- reads and writes them, and lines a second.
local measure, services = require "measure", require "services"
local name, count = ...

local BOX <const> = os.getenv "BENCH_BOX"

-- What reads its standard input, for bench/lines/c.c, which measures it.
local commands = {
  c = "",
  ["s6-log"] = "s6-log t s268435455 n1 @BOX@/s6-log",
}

local SCRIPT = [[
  local measure, lunad = require "measure", require "lunad"
  local cpu, wall = measure.cpu(), lunad.now()
  lunad.spawn({ "/bin/cat", "@BOX@/lines" }):wait()
  measure.report { cpu = measure.cpu() - cpu, wall = lunad.now() - wall }
  os.exit()
]]

local function fill(text)
  return (text:gsub("@BOX@", BOX))
end

local file = assert(io.open(BOX .. "/lines", "w"))
for i = 1, count do
  file:write(("%079d\n"):format(i))
end
file:close()

local command
if name == "lunad" then
  file = assert(io.open(BOX .. "/lines.lua", "w"))
  file:write(fill(SCRIPT))
  file:close()
  command = "$LUNAD run --log @BOX@/lines.log @BOX@/lines.lua"
else
  command = "cat @BOX@/lines | $BENCH_BUILD/bin/lines-c @BOX@/lines.log " .. commands[name]
end
local pipe = assert(io.popen(fill(command)))
local text = pipe:read "a"
assert(pipe:close(), text)
local log = services.read(fill(name == "s6-log" and "@BOX@/s6-log/current" or "@BOX@/lines.log"))
assert(select(2, log:gsub("\n", "")) >= tonumber(count), "lines are lost")
os.execute(fill "rm -rf @BOX@/lines @BOX@/lines.lua @BOX@/lines.log @BOX@/s6-log")
local cpu, wall = text:match '"cpu": ([%d.e+-]+), "wall": ([%d.e+-]+)'
measure.report { cpu = cpu / count, rate = count / wall }

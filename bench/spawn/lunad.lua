local measure, lunad = require "measure", require "lunad"
local mode, count, crowd = ...
count = tonumber(count)

local function start(...)
  local command = { ... }
  command.stdout, command.stderr = "null", "null"
  return assert(lunad.spawn(command))
end

-- Each task runs its share, one after the other.
local function run(total, flying)
  local tasks = {}
  for i = 1, flying do
    tasks[i] = lunad.task(function()
      for _ = i, total, flying do
        start("/bin/true"):wait()
      end
    end)
  end
  for _, task in ipairs(tasks) do
    task:wait()
  end
end

local function capture(total)
  for _ = 1, total do
    local result = assert(lunad.exec { "/usr/bin/head", "-c", "1048576", "/dev/zero", stderr = "null" })
    assert(#result.stdout == 1 << 20)
  end
end

local small, heap = 1, {}
if mode == "heap" then
  small = lunad.now()
  run(count, 1)
  small = lunad.now() - small
  for i = 1, 1024 do
    heap[i] = ("x"):rep(1 << 20)
  end
elseif mode == "crowd" then
  for _ = 1, tonumber(crowd) or 2000 do
    start("/bin/sleep", "1000")
  end
end

local wall, cpu = lunad.now(), measure.cpu()
if mode == "capture" then
  capture(count)
else
  run(count, mode == "many" and 32 or 1)
end
wall, cpu = lunad.now() - wall, measure.cpu() - cpu
measure.report { cpu = cpu / count, wall = wall / count, growth = wall / small, held = #heap }
lunad.stop()

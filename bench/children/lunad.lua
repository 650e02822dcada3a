-- N children, 50 in flight: what is left of them?
local measure, lunad, uv = require "measure", require "lunad", require "luv"
local count = tonumber((...))
local FLYING <const> = 50

local function descriptors()
  local fds = 0
  for _ in uv.fs_scandir_next, assert(uv.fs_scandir "/proc/self/fd") do
    fds = fds + 1
  end
  return fds
end

local function zombies()
  local file = assert(io.open(("/proc/%d/task/%d/children"):format(lunad.pid, lunad.pid)))
  local _, left = file:read("a"):gsub("%d+", "")
  file:close()
  return left
end

assert(lunad.spawn { "/bin/true", stdout = function() end }):wait()
local before, tasks = descriptors(), {}
for i = 1, FLYING do
  tasks[i] = lunad.task(function()
    for _ = i, count, FLYING do
      assert(lunad.spawn { "/bin/echo", "hello", stdout = function() end }):wait()
    end
  end)
end
for _, task in ipairs(tasks) do
  task:wait()
end
measure.report { children = zombies(), fds = descriptors() - before }

local measure, uv = require "measure", require "luv"
local mode, count = ...
count = tonumber(count)

local function start(command, args, on_exit)
  local process
  process = assert(uv.spawn(command, { args = args }, function()
    process:close()
    on_exit()
  end))
  return process
end

local function run(total, flying)
  local function next_one()
    if total > 0 then
      total = total - 1
      start("/bin/true", {}, next_one)
    end
  end
  for _ = 1, flying do
    next_one()
  end
  uv.run()
end

local function capture(total)
  for _ = 1, total do
    local chunks, process, out = {}, nil, uv.new_pipe()
    process = assert(uv.spawn("/usr/bin/head", {
      args = { "-c", "1048576", "/dev/zero" }, stdio = { nil, out },
    }, function() process:close() end))
    out:read_start(function(_, chunk)
      if chunk then
        chunks[#chunks + 1] = chunk
      else
        out:close()
      end
    end)
    uv.run()
    assert(#table.concat(chunks) == 1 << 20)
  end
end

local small, heap, crowd = 1, {}, {}
if mode == "heap" then
  small = uv.hrtime()
  run(count, 1)
  small = uv.hrtime() - small
  for i = 1, 1024 do
    heap[i] = ("x"):rep(1 << 20)
  end
elseif mode == "crowd" then
  for i = 1, 2000 do
    crowd[i] = start("/bin/sleep", { "1000" }, function() end)
    crowd[i]:unref()
  end
end

local wall, cpu = uv.hrtime(), measure.cpu()
if mode == "capture" then
  capture(count)
else
  run(count, mode == "many" and 32 or 1)
end
wall, cpu = uv.hrtime() - wall, measure.cpu() - cpu
for _, process in ipairs(crowd) do
  process:ref()
  process:kill("sigkill")
end
uv.run()
measure.report { cpu = cpu / count, wall = wall / 1e9 / count, growth = wall / small, held = #heap }

-- A daemon of lunad, alone or with workers: started, measured, told to change, and stopped.

local services = require "services"
local uv = require "luv"

local LUNAD <const> = os.getenv "LUNAD"
local RUN <const> = os.getenv "LUNAD_RUN_DIR"

local Daemon = {}
Daemon.__index = Daemon

-- Run a command to its end; return what it prints, and whether its exit status is 0.
local function run(...)
  local pipe = assert(io.popen((...):format(select(2, ...)) .. " 2>&1"))
  local text = pipe:read "a"
  return text, pipe:close() == true
end

-- Run a verb on the daemon; return what it prints, and whether its exit status is 0.
function Daemon:verb(verb, options, program)
  return run("%s %s %s %s", program or LUNAD, verb, options or "", self.name)
end

-- The pid in a pidfile, or nil.
local function pid_of(name)
  return math.tointeger(tonumber(services.read(("%s/%s.pid"):format(RUN, name))))
end

-- The pids of its processes: of the workers, or else its own.
function Daemon:pids()
  local list = {}
  repeat
    local pid = pid_of(("%s-%d"):format(self.name, #list + 1))
    list[#list + 1] = pid
  until not pid
  return #list > 0 and list or { pid_of(self.name) }
end

-- Seconds of CPU that they have used.
function Daemon:cpu()
  local sum = 0
  for _, pid in ipairs(self:pids()) do
    local user, system = services.read(("/proc/%d/stat"):format(pid)):match(
      "^.*%) %a" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
    sum = sum + (user + system) / 100
  end
  return sum
end

-- Its log so far.
function Daemon:log()
  return services.read(("%s/%s.log"):format(os.getenv "LUNAD_LOG_DIR", self.name)) or ""
end

-- What the log has that matches a pattern, when it has it.
function Daemon:wait_log(pattern)
  services.poll_for(pattern, function() return self:log():find(pattern) end)
  return self:log():match(pattern)
end

-- Write its script.
function Daemon:install(text)
  local file = assert(io.open(self.file .. ".new", "w"))
  file:write(text)
  file:close()
  assert(os.rename(self.file .. ".new", self.file))
end

-- Find a port of the loopback that is free.
local function free_port()
  local socket = uv.new_tcp()
  assert(socket:bind("127.0.0.1", 0))
  local port = socket:getsockname().port
  socket:close()
  uv.run "nowait"
  return port
end

-- Start a daemon of a script's text with options, call `use` with it, and end it. PORT is free, and in its
-- environment as HTTP_ADDRESS.
local function with(text, options, use)
  local dir = assert(uv.fs_mkdtemp(os.getenv "BENCH_BOX" .. "/daemon-XXXXXX"))
  local self = setmetatable({ name = "bench", file = dir .. "/bench.lua", port = free_port() }, Daemon)
  self:install(text)
  os.remove(("%s/%s.log"):format(os.getenv "LUNAD_LOG_DIR", self.name))
  local said, ok = run("%s start --env HTTP_ADDRESS=127.0.0.1:%d %s %s", LUNAD, self.port, options, self.file)
  assert(ok, said)
  local done, err = xpcall(use, debug.traceback, self)
  said, ok = self:verb "stop"
  os.execute(("rm -rf '%s'"):format(dir))
  assert(done, err)
  assert(ok, said)
end

return { with = with, lunad = LUNAD }

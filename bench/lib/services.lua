-- One small service, in the languages of bench/service, under each of the managers: started, reloaded and
-- stopped in each manager's way. The service writes the version of its code to a FIFO when it is
-- ready, and at each beat.

local uv = require "luv"

local services = {}

local PATIENCE = 30

local SUPERVISOR = [[
[unix_http_server]
file=@BOX@/supervisor.sock
[supervisord]
logfile=@BOX@/supervisord.log
pidfile=@BOX@/supervisord.pid
childlogdir=@BOX@
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://@BOX@/supervisor.sock
[program:bench]
command=lua5.4 @BOX@/service.lua
autostart=false
startsecs=0
]]

-- How each manager does it, as commands: @BOX@ is a private directory, @FILE@ the service in it. `before`
-- and `after` are not measured; `pid` names the file with its pid, `hup` means that a SIGHUP reloads.
local managers = {
  c = { start = "$BENCH_BUILD/bin/service-c @OUT@" },
  lunad = {
    file = "lunad.lua", start = "$LUNAD start --name bench @FILE@", stop = "$LUNAD stop bench",
    pid = "run/bench.pid", hup = true,
  },
  luv = {
    file = "luv.lua", before = "echo $$ >@BOX@/luv.pid; exec lua5.4 @FILE@", detached = true, pid = "luv.pid",
    hup = true,
  },
  daemonize = { file = "lua.lua", start = "daemonize -p @BOX@/pid /usr/bin/lua5.4 @FILE@" },
  daemon = { file = "lua.lua", start = "daemon -n bench -P @BOX@ -- lua5.4 @FILE@" },
  php = { file = "php.php", start = "php @FILE@" },
  runit = {
    file = "luv.lua", before = [[mkdir @BOX@/sv; touch @BOX@/sv/down
      printf '#!/bin/sh\nexec lua5.4 @FILE@\n' >@BOX@/sv/run; chmod +x @BOX@/sv/run; exec runsv @BOX@/sv]],
    detached = true, up = "test -p @BOX@/sv/supervise/ok", start = "sv start @BOX@/sv",
    reload = "sv restart @BOX@/sv", stop = "sv stop @BOX@/sv", after = "sv exit @BOX@/sv",
  },
  supervisor = {
    file = "luv.lua", before = "supervisord -c @BOX@/supervisor.conf",
    start = "supervisorctl -c @BOX@/supervisor.conf start bench",
    reload = "supervisorctl -c @BOX@/supervisor.conf restart bench",
    stop = "supervisorctl -c @BOX@/supervisor.conf stop bench",
    after = "supervisorctl -c @BOX@/supervisor.conf shutdown",
  },
  nginx = {
    file = "nginx.conf", start = "nginx -p @BOX@ -c @FILE@ 2>/dev/null", pid = "nginx.pid", hup = true,
    stop = "kill -QUIT $(cat @BOX@/nginx.pid)",
  },
  tarantool = { file = "tarantool.lua", start = "tarantool @FILE@", pid = "tarantool.pid" },
  pm2 = {
    file = "node.js", before = "pm2 ping", start = "pm2 start @FILE@ --name bench",
    reload = "pm2 reload bench", stop = "pm2 delete bench", after = "pm2 kill",
  },
  node = { file = "node.js", before = "exec node @FILE@", detached = true },
}

local Service = {}
Service.__index = Service

local function write(path, text)
  local file = assert(io.open(path .. ".new", "w"))
  file:write(text)
  file:close()
  assert(os.rename(path .. ".new", path))
end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read("a")
  if file then
    file:close()
  end
  return text
end

services.read = read

-- Run the loop until `condition` holds.
function services.wait_for(what, condition)
  local expired = false
  local timer = uv.new_timer()
  timer:start(PATIENCE * 1000, 0, function() expired = true end)
  while not condition() do
    assert(not expired, "waited in vain for " .. what)
    uv.run("once")
  end
  timer:close()
end

-- The same for conditions that no event announces.
function services.poll_for(what, condition)
  local deadline = uv.hrtime() + PATIENCE * 1e9
  while not condition() do
    assert(uv.hrtime() < deadline, "waited in vain for " .. what)
    uv.sleep(2)
  end
end

-- Replace the @NAMES@ in a text.
function Service:fill(text)
  return (text:gsub("@(%u+)@", self.names))
end

-- Run a command of the manager to its end, or detached.
function Service:command(words, detached)
  local log = assert(uv.fs_open(self.dir .. "/command.log", "a", 420))
  local done, process = false, nil
  process = assert(uv.spawn("/bin/sh", {
    args = { "-c", self:fill(detached and words or "exec " .. words) }, env = self.env, cwd = self.dir,
    stdio = { nil, log, log }, detached = detached,
  }, function(code)
    done = code
    process:close()
  end))
  uv.fs_close(log)
  if detached then
    process:unref()
  else
    services.wait_for(words, function() return done end)
    assert(done == 0, words .. " failed:\n" .. (read(self.dir .. "/command.log") or ""))
  end
end

-- Write the service's code in this version.
function Service:install(version)
  self.names.VERSION = version
  if self.manager.file then
    write(self.names.FILE, self:fill(assert(read("bench/service/" .. self.manager.file))))
  end
end

-- Wait for the byte that says which version runs; return when it came.
function Service:wait_version(version)
  services.wait_for("version " .. version, function() return self.seen[version] end)
  return self.seen[version]
end

-- Start it; return the seconds until the command has returned and the service is ready.
function Service:start()
  self.seen = {}
  local began = uv.hrtime()
  if self.manager.start then
    self:command(self.manager.start)
  end
  local returned = uv.hrtime()
  if self.names.OUT ~= "" then
    returned = math.max(returned, self:wait_version(self.names.VERSION))
  end
  return (returned - began) / 1e9
end

-- The pid in its pidfile, if it has one.
function Service:main_pid()
  local text = self.manager.pid and read(self.dir .. "/" .. self.manager.pid)
  local pid = text and math.tointeger(tonumber(text))
  return pid and pid > 1 and pid or nil
end

-- The processes that carry the service's mark, and their children.
function Service:pids()
  local found, all = {}, {}
  for name in uv.fs_scandir_next, assert(uv.fs_scandir("/proc")) do
    local pid = math.tointeger(tonumber(name))
    local stat = pid and pid > 1 and read("/proc/" .. name .. "/stat")
    if stat then
      all[pid] = tonumber(stat:match("^.*%) %a (%d+)"))
      if (read("/proc/" .. name .. "/environ") or ""):find("BENCH_MARK=" .. self.dir, 1, true) then
        found[pid] = true
      end
    end
  end
  local main = self:main_pid()
  for pid, parent in pairs(all) do
    if pid == main or main and parent == main then
      found[pid] = true
    end
  end
  local list = {}
  for pid in pairs(found) do
    list[#list + 1] = pid
  end
  return list
end

-- Ask for a reload; return the seconds until the new version is seen.
function Service:time_reload(version)
  self.seen = {}
  local began = uv.hrtime()
  if self.manager.hup then
    uv.kill(self:main_pid(), "sighup")
  else
    self:command(self.manager.reload, false)
  end
  return (self:wait_version(version) - began) / 1e9
end

-- Listen for some seconds; return the longest silence since the last call.
function Service:silence(seconds)
  local timer, over = uv.new_timer(), false
  timer:start(math.floor(seconds * 1000), 0, function() over = true end)
  services.wait_for("a while", function() return over end)
  timer:close()
  local gap = self.gap / 1e9
  self.gap = 0
  return gap
end

function Service:stop()
  if self.manager.stop then
    self:command(self.manager.stop)
  end
  if not self.manager.before then
    for _, pid in ipairs(self:pids()) do
      uv.kill(pid, "sigkill")
    end
    services.poll_for("the end of it", function() return #self:pids() == 0 end)
  end
end

-- End everything and remove the directory.
function Service:close()
  if self.manager.after then
    self:command(self.manager.after)
  end
  for _, pid in ipairs(self:pids()) do
    uv.kill(pid, "sigkill")
  end
  self.pipe:close()
  uv.run("nowait")
  os.execute(("rm -rf '%s'"):format(self.dir))
end

-- Open the FIFO and note when each byte comes.
function Service:listen()
  assert(os.execute(("mkfifo '%s/out' '%s/never'"):format(self.dir, self.dir)))
  self.pipe = uv.new_pipe(false)
  self.pipe:open(assert(uv.fs_open(self.dir .. "/out", "r+", 0)))
  self.pipe:read_start(function(err, bytes)
    assert(not err, err)
    local now = uv.hrtime()
    for version in bytes:gmatch(".") do
      self.seen[version] = self.seen[version] or now
    end
    if self.last then
      self.gap = math.max(self.gap, now - self.last)
    end
    self.last = now
  end)
end

-- Make a service under a manager, ready to be started. It beats every `period` seconds and writes a byte for
-- each beat unless `quiet`.
local function new(name, period, quiet)
  local manager = assert(managers[name], "no manager " .. name)
  local dir = assert(uv.fs_mkdtemp(os.getenv "BENCH_BOX" .. "/service-XXXXXX"))
  local self = setmetatable({ manager = manager, dir = dir, seen = {}, gap = 0 }, Service)
  self.names = {
    BOX = dir, OUT = quiet and "" or dir .. "/out", NEVER = dir .. "/never", PERIOD = tostring(period),
    FILE = manager.file and dir .. "/service." .. manager.file:match("%w+$"),
  }
  self.env = {
    "BENCH_MARK=" .. dir, "HOME=" .. dir, "PM2_HOME=" .. dir .. "/pm2",
    "LUNAD_RUN_DIR=" .. dir .. "/run", "LUNAD_LOG_DIR=" .. dir, "LUNAD=" .. os.getenv "LUNAD",
    "BENCH_BUILD=" .. os.getenv "BENCH_BUILD", "PATH=" .. os.getenv "PATH",
  }
  self:listen()
  self:install("A")
  write(dir .. "/supervisor.conf", self:fill(SUPERVISOR))
  if manager.before then
    self:command(manager.before, manager.detached)
  end
  if manager.up then
    services.poll_for(manager.up, function() return os.execute(self:fill(manager.up)) end)
  end
  return self
end

-- Make a service, call `use` with it, and remove everything.
function services.with(name, period, quiet, use)
  local service = new(name, period, quiet)
  local ok, err = xpcall(use, debug.traceback, service)
  service:close()
  assert(ok, err)
end

return services

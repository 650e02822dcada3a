-- The random soak: do random things, chosen by a seed, to two daemons (one with a keeper, if root runs
-- this), which must keep working.
--
--   lua5.4 soak/random.lua SECONDS SEED

local support = require "support"
local uv = support.uv

local SECONDS, SEED = tonumber(arg[1]), math.tointeger(tonumber(arg[2]))
local ANSWER = 20      -- seconds for an answer; a load that hangs takes LOAD of them
local LOAD = 1         -- --start-timeout
local LIMITS = { fds = 160, rss = support.is_sanitized() and 700000 or 60000 } -- rss in KiB
local CLIENTS = 12     -- open at once, per daemon
local PROBLEMS = 20    -- then the run ends

-- What may be wrong with a load of the service, and what a reload may then answer.
local REFUSED = { "raises", "endless", "late raise", "syntax", "finishes" }
local TAKEN = { "none", "none", "none", "on_reload raises", "on_reload is endless",
  "on_reload gives a function" }
local SIGNALS = { "HUP", "USR1", "USR2", "WINCH", "QUIT", "CHLD", "PIPE", "CONT", "URG" }
local GARBAGE = { "\n", "{}\n", "[1,2]\n", '{"verb": 7}\n', '{"verb": "no such"}\n', "\0\0\0\n",
  "{" .. ("["):rep(5000), '{"verb": "status"', '{"verb": "status"}\n{"verb": "status"}\n{"verb": "sta',
  ("x"):rep(100000), "GET / HTTP/1.0\r\n\r\n" }

local box = support.box()
local problems, actions, interrupted = 0, {}, false
local counts = {}

-- Report a problem, and what was done before it.
local function problem(text, ...)
  problems = problems + 1
  print(("FAILED  after %.1f s: %s"):format(uv.hrtime() / 1e9 - counts.start, text:format(...)))
  print("        before it: " .. table.concat(actions, ", ", math.max(1, #actions - 8)))
  io.stdout:flush()
end

local function pick(list)
  return list[math.random(#list)]
end

local Daemon = {}
Daemon.__index = Daemon

local function new_daemon(name, options)
  local self = setmetatable({ name = name, options = options, number = 0, clients = {}, requests = {},
    offset = 0, rotations = 0, restless = false }, Daemon)
  self.script = box:path(name .. ".lua")
  self.plan = box:path(name .. ".plan")
  self.address = box:path("open/" .. name)
  return self
end

-- Replace a file in one step: a signal may cause a load at any time.
local function replace(path, text)
  support.write(path .. ".new", text)
  assert(os.rename(path .. ".new", path))
end

-- Write the next version of the service.
function Daemon:write(flaw)
  self.number = self.number + 1
  self.flaw = flaw
  replace(self.plan, ("return { number = %d, flaw = %q }\n"):format(self.number, flaw))
  replace(self.script, flaw == "syntax" and "local function (\n" or support.read "soak/service.lua")
end

-- Run lunad; it is a problem if it hangs, or ends with none of the statuses.
function Daemon:lunad(statuses, ...)
  local ok, result = pcall(box.run, box, { ... }, { seconds = ANSWER, env = self.options.env })
  local what = table.concat({ ... }, " ", 1, 1) .. " of " .. self.name
  if not ok then
    problem("%s hangs: %s", what, result)
    return { code = -1, out = "", err = "" }
  end
  local expected = false
  for _, status in ipairs(statuses) do
    expected = expected or result.code == status and result.signal == 0
  end
  if not expected then
    problem("%s ends with status %d, signal %d: %s%s", what, result.code, result.signal, result.out,
      result.err)
    if self.pid and not support.is_alive(self.pid) then
      error(self.name .. " is gone:\n" .. box:log(self.name):sub(-5000))
    end
  elseif result.code == 1 and not result.err:find("^lunad: %S") then
    problem("%s fails without words: %q", what, result.err)
  end
  return result
end

function Daemon:start()
  self:write "none"
  self.restless = false
  local words = { "start", "--name", self.name, "--start-timeout", tostring(LOAD), "--stop-timeout", "3" }
  table.move(self.options, 1, #self.options, #words + 1, words)
  table.move({ self.script, self.plan, self.address }, 1, 3, #words + 1, words)
  local result = self:lunad({ 0 }, table.unpack(words))
  self.start_line = words
  self.pid = math.tointeger(tonumber(result.out:match("started %(pid (%d+)%)") or ""))
  if not self.pid then
    error("without a daemon there is nothing to do")
  end
end

-- Reload with a version of which it is known whether it will be accepted.
function Daemon:reload(flaw, statuses)
  self:write(flaw)
  local result = self:lunad(statuses, "reload", self.name)
  if result.code == 0 then
    self.restless = flaw ~= "none"
  end
  return result
end

-- Reload with a version that will be accepted. The previous one may refuse that once, and a hang-up that is
-- still on its way may load another one that refuses; but in the end one is loaded that does not refuse.
function Daemon:reload_good(flaw)
  local is_certain = flaw == "none" and not self.restless
  if self:reload(flaw, is_certain and { 0 } or { 0, 1 }).code == 1 and
     self:reload("none", { 0, 1 }).code == 1 then
    self:reload("none", { 0 })
  end
end

-- Send a request to the service; it must be answered.
function Daemon:request()
  local pipe = uv.new_pipe()
  local word = ("request %d\n"):format(math.random(1 << 40))
  local request = { since = uv.hrtime(), pipe = pipe }
  self.requests[request] = true
  local function over(why)
    self.requests[request] = nil
    if not pipe:is_closing() then
      pipe:close()
    end
    if why then
      problem("a request to %s: %s", self.name, why)
    end
  end
  request.over = over
  pipe:connect(self.address, function(err)
    if err then
      return over("connect: " .. err)
    end
    counts.requests = counts.requests + 1
    pipe:write(word)
    pipe:read_start(function(read_err, chunk)
      over(chunk ~= word and (read_err or (chunk and "another answer") or "no answer") or nil)
    end)
  end)
end

-- Wait until all requests are answered: what is sent while no daemon runs may be lost.
function Daemon:settle()
  pcall(support.wait_for, "requests", function()
    uv.run("nowait")
    return next(self.requests) == nil
  end, ANSWER)
  for request in pairs(self.requests) do
    request.over("it was not answered in time")
  end
  for _, client in ipairs(self.clients) do
    client:close()
  end
  self.clients = {}
end

-- The direct children of the host, according to the kernel.
function Daemon:children()
  local list = {}
  local text = support.read(("/proc/%d/task/%d/children"):format(self.pid, self.pid)) or ""
  for pid in text:gmatch("%d+") do
    list[#list + 1] = math.tointeger(tonumber(pid))
  end
  return list
end

-- Whether a process is a zombie.
local function is_zombie(pid)
  return (support.read(("/proc/%d/stat"):format(pid)) or ""):find("%) Z ") ~= nil
end

-- Check what must hold at any time.
function Daemon:check()
  local result = self:lunad({ 0 }, "status", "--json", self.name)
  if result.code ~= 0 then
    return
  end
  local status = support.json.decode(result.out)
  if status.pid ~= self.pid then
    problem("%s is pid %s, and was %d", self.name, status.pid, self.pid)
  end
  local fds = 0
  local scan = uv.fs_scandir(("/proc/%d/fd"):format(self.pid))
  while scan and uv.fs_scandir_next(scan) do
    fds = fds + 1
  end
  local rss = tonumber((support.proc_status(self.pid).VmRSS or "0"):match("%d+"))
  counts.fds, counts.rss = math.max(counts.fds, fds), math.max(counts.rss, rss)
  if fds > LIMITS.fds then
    problem("%s has %d descriptors", self.name, fds)
  elseif rss > LIMITS.rss then
    problem("%s has %d KiB", self.name, rss)
  end
  self:check_zombies()
  self:check_log()
end

-- Check that no child stays dead for long.
function Daemon:check_zombies()
  for _, pid in ipairs(self:children()) do
    local function is_reaped() return not is_zombie(pid) end
    if not is_reaped() and not pcall(support.wait_for, "a reaper", is_reaped, 5) then
      problem("%s (pid %d) does not reap its child %d: %s\n%s", self.name, self.pid, pid,
        self:lunad({ 0 }, "status", "--json", self.name).out, box:log(self.name):sub(-3000))
    end
  end
end

local LINE = "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ %l+ +[%w%._/%-]+%[?%d*%]?: "
local COMPLAINTS = { "bug:", "Sanitizer", "runtime error:" }

-- What is wrong with a line of the log, if anything is.
local function fault_of_line(line)
  if line:find("soak: ", 1, true) then
    return "beats"
  elseif not line:find("^    ") and not line:find(LINE) then
    return "not well formed"
  elseif line:find("[\0-\8\11-\31\127]") then
    return "control bytes"
  end
end

-- Where in a text lunad or a sanitizer complains.
local function find_complaint(text)
  for _, complaint in ipairs(COMPLAINTS) do
    local at = text:find(complaint, 1, true)
    if at then
      return at
    end
  end
end

-- Check lines, and report the first bad one with the lines around it.
function Daemon:check_lines(text)
  local at = 1
  local complaint = find_complaint(text)
  if complaint then
    problem("a complaint in the log of %s: %s", self.name,
      text:sub(math.max(1, complaint - 1000), complaint + 8000))
    return
  end
  for line, after in text:gmatch("([^\n]*)\n()") do
    counts.lines = counts.lines + 1
    local why = fault_of_line(line)
    if why then
      problem("a line in the log of %s (%s: %q): %s", self.name, why, line,
        text:sub(math.max(1, at - 300), at + 400))
      return
    end
    at = after
  end
end

-- Check the lines that were written since the last time.
function Daemon:check_log()
  local file = io.open(box:path("log/" .. self.name .. ".log"), "rb")
  if file then
    file:seek("set", self.offset)
    local whole = file:read("a"):match("^.*\n") or ""
    file:close()
    self.offset = self.offset + #whole
    self:check_lines(whole)
  end
end

-- Rotate the log. The old file is complete once the new one is in use.
function Daemon:rotate()
  self.rotations = self.rotations + 1
  local path = box:path("log/" .. self.name .. ".log")
  local old = ("%s.%d"):format(path, self.rotations)
  os.rename(path, old)
  self:lunad({ 0 }, "reopen", self.name)
  self:check_lines((support.read(old) or ""):sub(self.offset + 1))
  self.offset = 0
  os.remove(("%s.%d"):format(path, self.rotations - 3))
end

-- Signal the host, unless it has just died: the pid is of our own start, and of this box.
function Daemon:signal(name)
  if self.pid and support.is_alive(self.pid) then
    support.kill(self.pid, "sig" .. name:lower())
  end
end

-- Signal a child of the host, if it still is one. Before its exec a child shares the host's memory and
-- the host waits for it, so stopping it then would stop the host.
function Daemon:signal_child(pid)
  local stat = support.read(("/proc/%d/stat"):format(pid)) or ""
  local words = support.read(("/proc/%d/cmdline"):format(pid)) or ""
  if stat:match("%) %a (%d+)") == tostring(self.pid) and not words:find("^lunad: ") then
    support.kill(pid, pick { "sigkill", "sigterm", "sigstop", "sigcont" })
  end
end

-- The actions on a daemon, and how often each is chosen.
local ACTIONS = {
  reload = { 12, function(self) self:reload_good(pick(TAKEN)) end },
  ["refused reload"] = { 8, function(self) self:reload(pick(REFUSED), { 1 }) self:write "none" end },
  ["hang-ups"] = { 4, function(self)
    for _ = 1, math.random(20) do
      self:signal "HUP"
    end
  end },
  signals = { 10, function(self)
    for _ = 1, math.random(50) do
      self:signal(pick(SIGNALS))
    end
  end },
  requests = { 20, function(self)
    for _ = 1, math.random(10) do
      self:request()
    end
  end },
  client = { 12, function(self)
    if #self.clients >= CLIENTS then
      table.remove(self.clients, math.random(#self.clients)):close()
    end
    local client = box:connect(self.name)
    if client.ended then
      problem("%s takes no control client: %s", self.name, client.ended)
    end
    self.clients[#self.clients + 1] = client
  end },
  ["client's words"] = { 12, function(self)
    if #self.clients > 0 then
      local client = pick(self.clients)
      client:send(math.random(2) == 1 and pick(GARBAGE) or '{"verb": "status"}\n')
      if math.random(2) == 1 then
        client:listen()
      end
    end
  end },
  ["client gone"] = { 8, function(self)
    if #self.clients > 0 then
      table.remove(self.clients, math.random(#self.clients)):close()
    end
  end },
  ["child killed"] = { 10, function(self)
    local children = self:children()
    for _ = 1, #children > 0 and math.random(3) or 0 do
      self:signal_child(pick(children))
    end
  end },
  paused = { 5, function(self)
    self:signal "STOP"
    local waits = uv.new_timer()
    local over = false
    waits:start(math.random(200), 0, function() over = true end)
    self:request()
    while not over do
      uv.run("once")
    end
    waits:close()
    self:signal "CONT"
  end },
  rotate = { 5, function(self) self:rotate() end },
  ["second start"] = { 4, function(self) self:lunad({ 4 }, table.unpack(self.start_line)) end },
  check = { 15, function(self) self:check() end },
  restart = { 3, function(self)
    self:settle()
    self:write "none"
    local result = self:lunad({ 0 }, "restart", self.name)
    self.restless = false
    self.pid = math.tointeger(tonumber(result.out:match("started %(pid (%d+)%)") or "")) or self.pid
  end },
  ["refused restart"] = { 2, function(self)
    self:write "syntax"
    self:lunad({ 1 }, "restart", self.name)
    self:write "none"
    self:check()
  end },
  ["stop and start"] = { 3, function(self)
    self:settle()
    self:lunad({ 0 }, "stop", self.name)
    self:check_gone()
    self:start()
  end },
  murder = { 1, function(self)
    self:settle()
    self:signal "KILL"
    box:wait_gone(self.pid, ANSWER)
    self:check_gone(true)
    self:start()
  end },
}

-- Check that nothing of the daemon is left; after a SIGKILL its files may be.
function Daemon:check_gone(was_killed)
  local left
  local gone = pcall(support.wait_for, "the end", function()
    left = {}
    for _, pid in ipairs(box:marked()) do
      local words = support.read(("/proc/%d/environ"):format(pid)) or ""
      if words:find("LUNAD_SOAK=" .. self.name .. "\0", 1, true) then
        local command = (support.read(("/proc/%d/cmdline"):format(pid)) or "?"):gsub("%z", " ")
        left[#left + 1] = ("process %d (%s)"):format(pid, command)
      end
    end
    for _, file in ipairs(box:left_files()) do
      if not was_killed and file:find(self.name, 1, true) then
        left[#left + 1] = file
      end
    end
    return #left == 0
  end, 5)
  if not gone then
    problem("left of %s: %s", self.name, table.concat(left, ", "))
  end
end

-- The names of the actions, each as often as its weight says, in a fixed order.
local function deck()
  local names, cards = {}, {}
  for name in pairs(ACTIONS) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    for _ = 1, ACTIONS[name][1] do
      cards[#cards + 1] = name
    end
  end
  return cards
end

-- Requests that wait too long.
function Daemon:check_requests()
  for request in pairs(self.requests) do
    if uv.hrtime() - request.since > ANSWER * 1e9 then
      request.over("it was not answered in time")
    end
  end
end

-- Do what the seed chooses until the time is up.
local function run(daemons)
  local cards = deck()
  local deadline = uv.hrtime() + SECONDS * 1e9
  while uv.hrtime() < deadline and not interrupted and problems < PROBLEMS do
    local daemon, name = pick(daemons), pick(cards)
    actions[#actions + 1] = ("%s: %s"):format(daemon.name, name)
    counts.actions = counts.actions + 1
    ACTIONS[name][2](daemon)
    uv.run("nowait")
    daemon:check_requests()
  end
end

-- Stop all, and check that nothing is left.
local function finish(daemons)
  actions = { "the end" }
  for _, daemon in ipairs(daemons) do
    daemon:settle()
    daemon:check()
    daemon:lunad({ 0 }, "stop", daemon.name)
    daemon:check_gone()
    daemon:check_log()
  end
  local socket = uv.fs_scandir(box:path("open"))
  local name = socket and uv.fs_scandir_next(socket)
  if name then
    problem("left: %s", name)
  end
end

-- End the run properly at an interruption.
local function catch_interrupts()
  for _, name in ipairs { "sigint", "sigterm", "sighup" } do
    local handle = uv.new_signal()
    handle:start(name, function() interrupted = true end)
    handle:unref()
  end
end

math.randomseed(SEED)
counts = { start = uv.hrtime() / 1e9, actions = 0, requests = 0, lines = 0, fds = 0, rss = 0 }
print("seed " .. SEED)
catch_interrupts()
assert(uv.fs_mkdir(box:path("open"), tonumber("777", 8)))
assert(uv.fs_chmod(box:path("open"), tonumber("777", 8)))
local asan = "abort_on_error=0:quarantine_size_mb=8:malloc_context_size=8:detect_leaks=%d"
local daemons = { new_daemon("plain", { env = { LUNAD_SOAK = "plain", ASAN_OPTIONS = asan:format(1) } }) }
if support.is_root then -- a process that has changed its user cannot check for leaks
  daemons[2] = new_daemon("user", { "--user", "nobody",
    env = { LUNAD_SOAK = "user", ASAN_OPTIONS = asan:format(0) } })
end
local ok, message = xpcall(function()
  for _, daemon in ipairs(daemons) do
    daemon:start()
  end
  run(daemons)
  finish(daemons)
end, debug.traceback)
if not ok then
  problem("%s", message)
end
box:close(true)
print(("%d actions, %d requests, %d log lines; at most %d descriptors, %d MiB"):format(counts.actions,
  counts.requests, counts.lines, counts.fds, counts.rss // 1024))
if problems > 0 then
  print("again: scripts/soak random --seed " .. SEED .. " --seconds " .. SECONDS)
end
print(("%d problems%s"):format(problems, interrupted and ", interrupted" or ""))
os.exit(problems > 0 and 1 or interrupted and 130 or 0)

-- What specs share: a private directory for each, the real binary, and waiting for events.
--
-- Every process that a spec starts carries the box's mark in its environment; when the box is
-- closed, what still carries it is killed, by its pid, and fails the spec.

local json = require "dkjson"
local uv = require "luv"

local support = {}

-- A client whose daemon closes the connection must not end the specs.
local on_sigpipe = uv.new_signal()
on_sigpipe:start("sigpipe")
on_sigpipe:unref()

local ROOT = assert(uv.fs_realpath("."))
local BINARY = assert(uv.fs_realpath(os.getenv("LUNAD") or "build/release/lunad"),
  "no binary: build first, or set LUNAD")
local MARK = "LUNAD_SPEC_BOX"

-- How many seconds an event may take. Only a spec that fails waits that long.
local PATIENCE = tonumber(os.getenv "PATIENCE") or 60

support.binary = BINARY
support.root = ROOT
support.is_root = uv.getuid() == 0
support.json = json
support.uv = uv

local sanitized

-- Whether the binary was built with the address sanitizer.
function support.is_sanitized()
  if sanitized == nil then
    local file = assert(io.open(BINARY, "rb"))
    sanitized = file:read("a"):find("__asan_init", 1, true) ~= nil
    file:close()
  end
  return sanitized
end

-- Poll `condition` until it returns a true value, and return that; fail after the deadline.
function support.wait_for(what, condition, seconds)
  local deadline = uv.hrtime() + (seconds or PATIENCE) * 1e9
  while true do
    local result = condition()
    if result then
      return result
    end
    if uv.hrtime() > deadline then
      error("timed out waiting for " .. what, 2)
    end
    uv.sleep(3)
  end
end

-- Send a signal to one process. A pid below 2 would mean a group, all processes or init.
function support.kill(pid, signal)
  assert(math.type(pid) == "integer" and pid > 1, "refusing to signal pid " .. tostring(pid))
  return uv.kill(pid, signal or "sigterm")
end

-- The whole of a file, or nil.
function support.read(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read("a")
  file:close()
  return text
end

-- A pattern that matches exactly a text.
function support.pattern(text)
  return (text:gsub("%p", "%%%0"))
end

-- Write a file; returns its path.
function support.write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  file:close()
  return path
end

-- Whether a process lives; a zombie does not. Its first thread can be one while others still hold its files.
function support.is_alive(pid)
  local stat = support.read(("/proc/%d/stat"):format(pid))
  local state, threads = (stat or ""):match("^.*%) (%a)" .. (" %S+"):rep(16) .. " (%d+) ")
  return state ~= nil and (state ~= "Z" and state ~= "X" or tonumber(threads) > 1)
end

-- The fields of /proc/PID/status as strings.
function support.proc_status(pid)
  local fields = {}
  for name, value in (support.read(("/proc/%d/status"):format(pid)) or ""):gmatch("(%w+):%s*([^\n]*)") do
    fields[name] = value
  end
  return fields
end

-- All live processes that satisfy `predicate(pid)`.
function support.processes(predicate)
  local found = {}
  local scan = assert(uv.fs_scandir("/proc"))
  while true do
    local name = uv.fs_scandir_next(scan)
    if not name then
      return found
    end
    local pid = math.tointeger(tonumber(name))
    if pid and pid ~= uv.os_getpid() and support.is_alive(pid) and predicate(pid) then
      found[#found + 1] = pid
    end
  end
end

local Box = {}
Box.__index = Box

local boxes = 0

-- Make a private directory with `run`, `log` and the files that the spec writes.
function support.box()
  boxes = boxes + 1
  local dir = assert(uv.fs_mkdtemp((os.getenv("TMPDIR") or "/tmp") .. "/lunad-spec-XXXXXX"))
  assert(uv.fs_chmod(dir, tonumber("755", 8)))
  return setmetatable({ dir = dir, mark = ("%d.%d"):format(uv.os_getpid(), boxes),
    clients = {} }, Box)
end

function Box:path(name)
  return self.dir .. "/" .. name
end

function Box:write(name, text)
  return support.write(self:path(name), text)
end

function Box:read(name)
  return support.read(self:path(name))
end

-- The environment for what the box starts, as a list.
function Box:environment(extra)
  local map = {}
  for key, value in pairs(uv.os_environ()) do
    map[key] = value
  end
  map.LUNAD_RUN_DIR, map.LUNAD_LOG_DIR = self:path("run"), self:path("log")
  map.LUNAD_STATE_DIR = self:path("state")
  map[MARK] = self.mark
  -- Leaks can be found only without a change of user.
  map.ASAN_OPTIONS = map.ASAN_OPTIONS or "abort_on_error=0"
  for key, value in pairs(extra or {}) do
    map[key] = value or nil
  end
  local list = {}
  for key, value in pairs(map) do
    list[#list + 1] = key .. "=" .. value
  end
  return list
end

-- Collect what is read from a pipe in `sink`, a table of strings.
local function collect(pipe, sink)
  pipe:read_start(function(_, chunk)
    if chunk then
      sink[#sink + 1] = chunk
    else
      sink.ended = true
      pipe:close()
    end
  end)
end

-- Start a command: an object whose `out()` and `err()` are its output so far, with `pid`,
-- and `code` and `signal` after its end. Options: env, cwd, input, program.
function Box:spawn(args, options)
  options = options or {}
  local stdin, stdout, stderr = uv.new_pipe(), uv.new_pipe(), uv.new_pipe()
  local out, err, process = {}, {}, {}
  local handle, pid
  handle, pid = uv.spawn(options.program or BINARY, {
    args = args,
    cwd = options.cwd or self.dir,
    env = self:environment(options.env),
    stdio = { stdin, stdout, stderr },
    uid = options.uid,
    gid = options.gid,
    detached = options.detached,
  }, function(code, signal)
    process.code, process.signal = code, signal
    handle:close()
  end)
  assert(handle, pid)
  collect(stdout, out)
  collect(stderr, err)
  if options.input then
    stdin:write(options.input)
  end
  if not options.keep_stdin then
    stdin:shutdown(function() stdin:close() end)
  end
  process.pid = pid
  process.stdin = stdin
  function process.out() return table.concat(out) end
  function process.err() return table.concat(err) end
  function process.turn() uv.run("nowait") end
  function process.is_over() return process.code ~= nil and out.ended and err.ended end
  return process
end

-- Wait until a spawned command satisfies `condition`.
function Box.await(_, process, what, condition, seconds)
  return support.wait_for(what, function()
    process.turn()
    return condition(process)
  end, seconds)
end

-- Run a command to its end: { code, signal, out, err }.
function Box:run(args, options)
  local process = self:spawn(args, options)
  local ok, message = pcall(self.await, self, process, "the end of " .. table.concat(args, " "),
    process.is_over, options and options.seconds)
  if not ok then
    support.kill(process.pid, "sigkill")
    error(message .. "\nstdout: " .. process.out() .. "\nstderr: " .. process.err(), 2)
  end
  return { code = process.code, signal = process.signal, out = process.out(), err = process.err() }
end

-- The same with words only: box:lunad("stop", "name").
function Box:lunad(...)
  return self:run({ ... })
end

-- Run a command that must succeed; returns its stdout.
function Box:ok(...)
  local result = self:lunad(...)
  if result.code ~= 0 or result.signal ~= 0 then
    error(("lunad %s: exit status %d, signal %d\n%s%s"):format(table.concat({ ... }, " "), result.code,
      result.signal, result.out, result.err), 2)
  end
  return result.out
end

-- Run a command that must fail with exit status `code` and a message; returns the message.
function Box:refused(code, ...)
  local result = self:lunad(...)
  if result.code ~= code or result.err:sub(1, 7) ~= "lunad: " then
    error(("lunad %s: exit status %s, not %d\n%s%s"):format(table.concat({ ... }, " "),
      result.code, code, result.out, result.err), 2)
  end
  return result.err
end

-- Run a bash script with the binary as $1, then `words`. Options: those of Box:run, and
-- `through`, a command line as a list that starts bash, such as { "unshare", "--mount" }.
function Box:shell(script, words, options)
  local args = table.move(options and options.through or {}, 1, 9, 1, {})
  args[#args + 1] = "bash"
  local tail = { "-c", script, "bash", BINARY, table.unpack(words or {}) }
  table.move(tail, 1, #tail, #args + 1, args)
  local program = table.remove(args, 1)
  return self:run(args, setmetatable({ program = program }, { __index = options }))
end

-- Write a script NAME.lua that only stays alive; returns its path.
function Box:idle(name)
  return self:write(name .. ".lua", 'require("lunad").every(60, print)\n')
end

-- Start a daemon; returns its pid. The last word is the script.
function Box:start(...)
  return math.tointeger(tonumber(self:ok("start", ...):match("started %(pid (%d+)%)")))
end

-- The status report of a daemon as a table.
function Box:status(name)
  return assert(json.decode(self:ok("status", "--json", name)))
end

-- The text of a daemon's log.
function Box:log(name)
  return self:read("log/" .. name .. ".log") or ""
end

-- Wait until the log of a daemon has a line that matches; returns the captures, or the match.
function Box:wait_log(name, pattern, seconds)
  local captures = support.wait_for(("%q in the log of %s"):format(pattern, name), function()
    local found = { self:log(name):match(pattern) }
    return found[1] ~= nil and found or nil
  end, seconds)
  return table.unpack(captures)
end

-- Wait until a process has ended.
function Box.wait_gone(_, pid, seconds)
  support.wait_for(("the end of process %d"):format(pid), function()
    return not support.is_alive(pid)
  end, seconds)
end

-- The parent of a process; of a host below a keeper, the keeper.
function support.parent_of(pid)
  return math.tointeger(tonumber(support.proc_status(pid).PPid))
end

-- How many descriptors a process has.
function support.count_fds(pid)
  local scan, count = uv.fs_scandir(("/proc/%d/fd"):format(pid)), 0
  while scan and uv.fs_scandir_next(scan) do
    count = count + 1
  end
  return count
end

-- The processor time of a process in seconds.
function support.cpu_of(pid)
  local words = {}
  for word in support.read(("/proc/%d/stat"):format(pid)):match("^.*%) (.*)$"):gmatch "%S+" do
    words[#words + 1] = word
  end
  return (words[12] + words[13]) / 100
end

-- A script that fails so often that the fifth start of --restart has to wait for 0.8 s, then stays.
support.FAILS = [[
  local lunad = require "lunad"
  local file = io.open(lunad.script .. ".count", "a+")
  file:write "x"
  file:seek "set"
  local count = #file:read "a"
  file:close()
  lunad.every(60, print)
  if count < 5 then lunad.after(0, function() os.exit(3) end) end
]]

-- Begins a script: defines `lunad`, and keeps the script alive.
support.BEAT = 'local lunad = require "lunad" lunad.every(1, function() end) '

-- Write `text` as a script, and start it as the daemon "s"; the other words are options. Returns
-- its pid.
function Box:serve(text, ...)
  local words = { ... }
  words[#words + 1] = self:write("s.lua", support.BEAT .. text)
  return self:start(table.unpack(words))
end

-- Replace the script of the daemon "s", and reload it: { code, signal, out, err }.
function Box:reload(text)
  self:write("s.lua", support.BEAT .. text)
  return self:lunad("reload", "s")
end

local Client = {}
Client.__index = Client

-- Connect to a daemon's control socket. Its answers are collected in `lines`; `ended` is set when
-- it closes the connection.
function Box:connect(name)
  local client = setmetatable({ pipe = uv.new_pipe(), lines = {}, taken = 0, rest = "" }, Client)
  self.clients[#self.clients + 1] = client
  client.pipe:connect(self:path("run/" .. name .. ".sock"), function(err)
    client.connected, client.ended = not err, err
  end)
  support.wait_for("a connection to " .. name, function()
    uv.run("nowait")
    return client.connected or client.ended
  end)
  return client
end

-- Begin to read; until then the client reads nothing.
function Client:listen()
  if self.listening or self.ended then
    return
  end
  self.listening = true
  self.pipe:read_start(function(err, chunk)
    self.ended = self.ended or err or not chunk
    self.rest = self.rest .. (chunk or "")
    local start, newline = 1, self.rest:find("\n", 1, true)
    while newline do
      self.lines[#self.lines + 1] = self.rest:sub(start, newline - 1)
      start, newline = newline + 1, self.rest:find("\n", newline + 1, true)
    end
    self.rest = self.rest:sub(start)
  end)
end

function Client:send(text)
  self.pipe:write(text, function(err) self.failed = self.failed or err end)
  uv.run("nowait")
end

-- Say that nothing more will be sent; answers can still come.
function Client:shutdown()
  self.pipe:shutdown()
  uv.run("nowait")
end

-- The next answer, decoded.
function Client:answer()
  self:listen()
  self.taken = self.taken + 1
  support.wait_for("answer " .. self.taken, function()
    uv.run("nowait")
    return self.lines[self.taken] or self.ended
  end)
  local line = self.lines[self.taken]
  if not line then
    error("the connection was closed without an answer", 2)
  end
  return assert(json.decode(line))
end

-- Send a request and return its answer.
function Client:ask(verb)
  self:send(json.encode { verb = verb } .. "\n")
  return self:answer()
end

-- Wait until the daemon has closed the connection.
function Client:wait_end(seconds)
  self:listen()
  support.wait_for("the end of a connection", function()
    uv.run("nowait")
    return self.ended
  end, seconds)
end

function Client:close()
  if not self.pipe:is_closing() then
    self.pipe:close()
  end
  uv.run("nowait")
end

-- Run `text` as a script in the foreground, with `lunad` and the checks of support/inside.lua at
-- hand; fails the spec with its output if it fails, or if an error went uncaught, unless `errors`
-- allows that. Options: those of Box:run, `args` and `errors`.
function Box:inside(text, options)
  options = options or {}
  local path = self:write("inside.lua",
    'local lunad, equal, truthy, raises, fails, eventually = require("inside")()  ' .. text)
  local args = { "run", "--path", ROOT .. "/spec/support" }
  table.move(options.args or {}, 1, #(options.args or {}), #args + 1, args)
  args[#args + 1] = path
  local result = self:run(args, options)
  if result.code ~= 0 or result.signal ~= 0 or
     (not options.errors and result.err:find("uncaught error", 1, true)) then
    error(("exit status %d, signal %d\n%s%s"):format(result.code, result.signal, result.out, result.err), 2)
  end
  return result
end

-- Run `text` as a script in the foreground, with `lunad`, as another user. More options of run follow.
function Box:run_as(uid, text, ...)
  local dir = self:path("of-" .. uid)
  assert(uv.fs_mkdir(dir, tonumber("700", 8)))
  assert(uv.fs_chown(dir, uid, uid))
  local words = { "--reuid", tostring(uid), "--regid", tostring(uid), "--clear-groups", BINARY, "run",
    "--run-dir", dir, ... }
  table.move({ "-e", 'local lunad = require "lunad" ' .. text }, 1, 2, #words + 1, words)
  local result = self:run(words, { program = "setpriv", env = { ASAN_OPTIONS = "detect_leaks=0" } })
  if result.code ~= 0 then
    error(("exit status %d\n%s%s"):format(result.code, result.out, result.err), 2)
  end
  return result
end

-- Processes that carry the box's mark.
function Box:marked()
  local mark = MARK .. "=" .. self.mark
  return support.processes(function(pid)
    local environment = support.read(("/proc/%d/environ"):format(pid)) or ""
    return ("\0" .. environment):find("\0" .. mark .. "\0", 1, true) ~= nil
  end)
end

local function remove_tree(path)
  local stat = uv.fs_lstat(path)
  if stat and stat.type == "directory" then
    local scan = uv.fs_scandir(path)
    local name = scan and uv.fs_scandir_next(scan)
    while name do
      remove_tree(path .. "/" .. name)
      name = uv.fs_scandir_next(scan)
    end
    uv.fs_rmdir(path)
  elseif stat then
    uv.fs_unlink(path)
  end
end

-- The files in the run directory.
function Box:left_files()
  local names = {}
  local scan = uv.fs_scandir(self:path("run"))
  local name = scan and uv.fs_scandir_next(scan)
  while name do
    names[#names + 1] = name
    name = uv.fs_scandir_next(scan)
  end
  table.sort(names)
  return names
end

-- Wait until no process of the box is left.
function Box:wait_all_gone()
  support.wait_for("the end of all processes", function() return #self:marked() == 0 end)
end

-- The reports of sanitizers in the logs.
function Box:complaints()
  local found = {}
  local scan = uv.fs_scandir(self:path("log"))
  local name = scan and uv.fs_scandir_next(scan)
  while name do
    local is_file = uv.fs_lstat(self:path("log/" .. name)).type == "file" -- opening a FIFO would block
    local text = is_file and self:read("log/" .. name) or ""
    local at = text:find("Sanitizer: ", 1, true) or text:find(": runtime error: ", 1, true)
    found[#found + 1] = at and text:sub(math.max(1, at - 200), at + 4000)
    name = uv.fs_scandir_next(scan)
  end
  return found
end

-- Stop all daemons, and remove the box. Fails if a stop leaves a process or a file behind; with
-- `force`, because the spec has failed already, it only cleans up.
function Box:close(force)
  local problems = {}
  for _, client in ipairs(self.clients) do
    client:close()
  end
  for _, file in ipairs(self:left_files()) do
    local name = file:match("^(.*)%.pid$") or file:match("^([^.].*)%.start$")
    if name then
      local ok, message = pcall(self.ok, self, "stop", name)
      problems[#problems + 1] = not ok and message or nil
    end
  end
  local left = self:marked()
  local deadline = uv.hrtime() + 15e9
  while #left > 0 and uv.hrtime() < deadline do -- those that were just told to end may still be ending
    uv.sleep(20)
    left = self:marked()
  end
  for _, pid in ipairs(left) do
    local words = (support.read(("/proc/%d/cmdline"):format(pid)) or "?"):gsub("%z", " ")
    problems[#problems + 1] = ("process %d is left: %s"):format(pid, words)
    support.kill(pid, "sigkill")
  end
  for _, file in ipairs(self:left_files()) do
    problems[#problems + 1] = "file is left: " .. file
  end
  table.move(self:complaints(), 1, 99, #problems + 1, problems)
  remove_tree(self.dir)
  if #problems > 0 and not force then
    error(table.concat(problems, "\n"), 2)
  end
end

-- Compile the program that runs words on a terminal of its own, for the specs of a file; returns its path.
-- Give it busted's setup and teardown.
function support.with_terminal(setup, teardown)
  local path = os.tmpname()
  setup(function()
    local command = "cc -O1 -D_GNU_SOURCE -o %s %s/spec/fixtures/terminal.c"
    assert(os.execute(command:format(path, support.root)))
  end)
  teardown(function() os.remove(path) end)
  return path
end

-- Give each `it` of a describe block a box: local box = support.with_box(before_each, after_each).
function support.with_box(before_each, after_each)
  local current
  before_each(function() current = support.box() end)
  after_each(function()
    local box = current
    current = nil
    box:close()
  end)
  return setmetatable({}, {
    __index = function(_, key)
      local value = current[key]
      if type(value) ~= "function" then
        return value
      end
      return function(_, ...) return value(current, ...) end
    end,
  })
end

return support

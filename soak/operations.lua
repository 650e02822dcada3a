-- The operations of the fault sweep. Each prepares a daemon, does one thing while a system call of
-- the traced process fails, and checks the result. A problem is a text; nil means that all is well.
--
-- The operation must succeed, or fail with exit status 1 and a message; then the daemon must work as
-- before, or nothing of it may be left.

local support = require "support"

local LIMIT = 25 -- seconds for one command; a start or stop with a fault may use its own limits

local SCRIPT = [[
local lunad = require "lunad"
assert(lunad.listen("unix:%s"))
lunad.on_reload(function() return { list = { 1, 2, 3 } } end)
lunad.on_stop(function() print "on_stop" end)
lunad.every(60, print)
local count = 0
lunad.signal("WINCH", function()
  count = count + 1
  local number = count
  local child, err = lunad.spawn { "sh", "-c", "echo from a child",
    on_exit = function(exit) print(("spawn %%d: over, %%s"):format(number, exit.ok)) end }
  if not child then
    print(("spawn %%d: refused, %%s"):format(number, err))
  end
end)
]]

local Trial = {}
Trial.__index = Trial

-- A place for one case. `inject` is the tracer's path, `fault` the call that fails, or nil to count.
local function trial(inject, keeper, fault)
  local box = support.box()
  local self = setmetatable({ box = box, keeper = keeper, inject = inject, fault = fault or {} }, Trial)
  assert(support.uv.fs_mkdir(box:path("open"), tonumber("777", 8)))
  assert(support.uv.fs_chmod(box:path("open"), tonumber("777", 8)))
  box:write("s.lua", SCRIPT:format(box:path("open/s.listen")))
  return self
end

-- The tracer's command line, before the command or the pid.
function Trial:tracer(process)
  local fault = self.fault
  local words = { "-o", self.box:path("report") }
  if fault.call then
    table.move({ "-k", tostring(process), "-c", fault.call, "-n", tostring(fault.when),
      "-e", tostring(fault.number) }, 1, 8, 3, words)
  end
  return words
end

-- Whether the fault has happened.
function Trial:was_hit()
  return (self.box:read("report") or ""):find("\nhit ", 1, true) ~= nil
end

-- Run lunad; with `process`, trace that process of it.
function Trial:lunad(args, process)
  local words, program = args, nil
  if process then
    words, program = self:tracer(process), self.inject
    words[#words + 1] = support.binary
    table.move(args, 1, #args, #words + 1, words)
  end
  local ok, result = pcall(self.box.run, self.box, words, { seconds = LIMIT, program = program })
  if not ok then
    return nil, ("%s hangs: %s"):format(args[1], (tostring(result):gsub("^[^\n]-waited", "waited")))
  end
  return result
end

-- The arguments of a start.
function Trial:start_words()
  local words = { "start", "--start-timeout", "4", "--stop-timeout", "3" }
  if self.keeper then
    words[#words + 1] = "--user"
    words[#words + 1] = "nobody"
  end
  words[#words + 1] = self.box:path("s.lua")
  return words
end

-- Start the daemon without a fault.
function Trial:prepare()
  local result = assert(self:lunad(self:start_words()))
  self.pid = assert(math.tointeger(tonumber(result.out:match("started %(pid (%d+)%)"))), result.err)
  local stat = support.read(("/proc/%d/stat"):format(self.pid))
  self.parent = math.tointeger(tonumber(stat:match("%) %a (%d+)")))
end

-- Trace a process of the daemon from now on.
function Trial:attach(pid, process)
  local words = self:tracer(process)
  words[#words + 1] = "-p"
  words[#words + 1] = tostring(pid)
  self.tracing = self.box:spawn(words, { program = self.inject })
  self.box:await(self.tracing, "the tracer", function(it)
    return it.code or (self.box:read("report") or ""):find("attached", 1, true)
  end)
  assert(not self.tracing.code, self.tracing.err())
end

-- End the tracer.
function Trial:detach()
  local tracing = self.tracing
  self.tracing = nil
  if tracing then
    if not tracing.code then
      support.kill(tracing.pid, "sigterm")
    end
    self.box:await(tracing, "the end of the tracer", tracing.is_over)
  end
end

-- Whether a command ended correctly: status 0, or 1 with a message.
local function judge(verb, result)
  if result.signal ~= 0 or result.code > 1 then
    return ("%s ends with status %d, signal %d: %s"):format(verb, result.code, result.signal, result.err)
  elseif result.err:find("Sanitizer", 1, true) or result.err:find("bug:", 1, true) then
    return ("%s: %s"):format(verb, result.err)
  elseif result.code == 1 and not result.err:find("^lunad: %S") then
    return ("%s fails without words: %q"):format(verb, result.err)
  elseif result.code == 0 and result.err:find("was killed", 1, true) then
    return ("%s had to kill: %s"):format(verb, result.err)
  end
end

-- Run a command that must succeed, because no call of it fails.
function Trial:must(what, ...)
  local result, problem = self:lunad { ... }
  problem = problem or judge(what, result)
  if not problem and result.code ~= 0 then
    problem = ("%s fails: %s"):format(what, result.err)
  end
  return problem
end

-- Have the daemon spawn a child; the number of the spawn, and a problem.
function Trial:ask_spawn()
  self.spawns = (self.spawns or 0) + 1
  return self:must("signal", "signal", "s", "WINCH")
end

-- What the log says of a spawn: "over, true", "refused, …".
function Trial:spawn_answer()
  local ok, answer = pcall(self.box.wait_log, self.box, "s", ("spawn %d: ([^\n]*)"):format(self.spawns), 8)
  return ok and answer or nil, not ok and ("a spawn is not answered: %s"):format(self.box:log("s"):sub(-600))
end

-- What the log says of the spawn during which a call fails. That call may have been the write of the
-- answer itself: then the log must say that a line was dropped, as soon as it has the next one.
function Trial:spawn_answer_or_loss()
  local ok, answer = pcall(self.box.wait_log, self.box, "s", ("spawn %d: ([^\n]*)"):format(self.spawns), 2)
  if ok then
    return answer
  end
  local problem = self:check_spawn()
  if problem or self:has_lost_lines() then
    return nil, problem
  end
  return nil, ("a spawn is never answered: %s"):format(self.box:log("s"):sub(-600))
end

-- Whether the log says that it lost lines.
function Trial:has_lost_lines()
  return self.box:log("s"):find("log lines? %a+ dropped: ") ~= nil
end

-- Spawn without a fault.
function Trial:check_spawn()
  local problem = self:ask_spawn()
  if problem then
    return problem
  end
  local answer
  answer, problem = self:spawn_answer()
  return problem or (answer ~= "over, true" and "a later spawn: " .. answer) or nil
end

-- Check that the daemon works: it answers, is the same process, spawns.
function Trial:check_alive()
  local result, problem = self:lunad { "status", "--json", "s" }
  if problem or result.code ~= 0 then
    return problem or ("a later status fails: %s%s"):format(result.err, self.box:log("s"):sub(-600))
  end
  local pid = support.json.decode(result.out).pid
  if self.pid and pid ~= self.pid then
    return ("the daemon was pid %d, and is pid %d"):format(self.pid, pid)
  end
  return self:check_spawn()
end

-- Check that nothing is left; processes may need a moment.
function Trial:check_gone()
  local left, processes
  local gone = pcall(support.wait_for, "the end", function()
    processes = self.box:marked()
    left = self.box:left_files()
    if support.uv.fs_lstat(self.box:path("open/s.listen")) then
      left[#left + 1] = "s.listen"
    end
    return #processes == 0 and #left == 0
  end, 3)
  if not gone then
    for _, pid in ipairs(processes) do
      local words = (support.read(("/proc/%d/cmdline"):format(pid)) or "?"):gsub("%z", " ")
      left[#left + 1] = ("process %d (%s)"):format(pid, words)
    end
    return "left: " .. table.concat(left, ", ")
  end
end

-- Stop without a fault, and check that nothing is left.
function Trial:check_stop()
  return self:must("a later stop", "stop", "s") or self:check_gone()
end

-- Close the place and end what is left; return what sanitizers have said.
function Trial:close()
  pcall(self.detach, self)
  local complaints = self.box:complaints()
  local log = self.box:log("s")
  self.box:close(true)
  return complaints[1] or log:match("[^\n]*bug:[^\n]*")
end

-- Run `verb` while a fault is in the process that `where` names: the verb's own, the host's, its
-- first child's or the keeper's.
function Trial:run_with_fault(verb, where)
  if where == "verb" then
    return self:lunad(verb, 0)
  end
  self:attach(where == "keeper" and self.parent or self.pid, where == "child" and 1 or 0)
  local result, problem = self:lunad(verb)
  return result, problem
end

local operations = {}

-- Check a daemon after a start: it works if the start succeeded, and is gone if not.
local function after_start(self, result)
  if result.code ~= 0 then
    return self:check_gone()
  end
  return self:check_alive() or self:check_stop()
end

operations.start = {
  where = { "0", "1", "2", "3" },
  run = function(self, where)
    local result, problem = self:lunad(self:start_words(), tonumber(where))
    return problem or judge("start", result) or after_start(self, result)
  end,
}

operations.restart = {
  where = { "0", "1" },
  run = function(self, where)
    self:prepare()
    self.pid = nil
    local result, problem = self:lunad({ "restart", "s" }, tonumber(where))
    problem = problem or judge("restart", result)
    if problem then
      return problem
    end
    if result.code == 0 then
      problem = self:check_alive()
    end
    return problem or self:check_stop() -- after a failure it may be running, ending or gone
  end,
}

operations.reload = {
  where = { "verb", "host", "keeper" },
  run = function(self, where)
    self:prepare()
    local result, problem = self:run_with_fault({ "reload", "s" }, where)
    self:detach()
    self.spawns = nil
    if problem or judge("reload", result) then
      return problem or judge("reload", result)
    end
    problem = self:must("a later reload", "reload", "s") or self:check_alive()
    return problem or self:check_stop()
  end,
}

operations.reopen = {
  where = { "verb", "host", "keeper" },
  run = function(self, where)
    self:prepare()
    local log = self.box:path("log/s.log")
    assert(os.rename(log, log .. ".1"))
    local result, problem = self:run_with_fault({ "reopen", "s" }, where)
    self:detach()
    problem = problem or judge("reopen", result)
    if not problem and result.code == 1 then
      problem = self:must("a later reopen", "reopen", "s")
    end
    return problem or self:check_alive() or self:check_stop()
  end,
}

operations.spawn = {
  where = { "host", "child" },
  run = function(self, where)
    self:prepare()
    self:attach(self.pid, where == "child" and 1 or 0)
    local problem = self:ask_spawn()
    local answer
    if not problem then
      answer, problem = self:spawn_answer_or_loss()
    end
    self:detach()
    if answer and answer ~= "over, true" and not answer:find("^refused, %S+: ") then
      problem = "the spawn: " .. answer
    end
    return problem or self:check_alive() or self:check_stop()
  end,
}

operations.stop = {
  where = { "verb", "host", "keeper" },
  run = function(self, where)
    self:prepare()
    local result, problem = self:run_with_fault({ "stop", "s" }, where)
    self:detach()
    problem = problem or judge("stop", result)
    if problem then
      return problem
    end
    return result.code == 1 and self:check_stop() or self:check_gone()
  end,
}

local order = { "start", "reload", "spawn", "reopen", "stop", "restart" }
return { trial = trial, operations = operations, order = order }

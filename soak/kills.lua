-- The sweep of kills: SIGKILL hits a process of a daemon at a moment of an operation that the seed chooses.
-- Afterwards the service is back, or gone, as its options say.
--
--   lua5.4 soak/kills.lua list                      the kinds of cases
--   lua5.4 soak/kills.lua run SECONDS SEED KINDS    cases of these kinds, a line each
--   lua5.4 soak/kills.lua case NAME...              cases as a failure has printed them
--
-- A case is SETUP/OPERATION/VICTIM/MOMENT. The moment is a part of the time that the operation takes here.

local net = require "support.net"
local support = require "support"
local uv = support.uv

local LIMIT = 30    -- seconds for one command
local SETTLE = 25   -- seconds until the service is back; a start that is repeated waits 0.1 s and more
local PROBLEMS = 10 -- then the run ends

local Trial = {}
Trial.__index = Trial

-- How the daemon is started.
local SETUPS = {
  plain = { words = {} },
  restart = { words = { "--restart", "always" }, has_keeper = true, restarts = true },
  user = { words = { "--user", "nobody" }, has_keeper = true, needs_root = true },
  workers = { words = { "--workers", "3" }, workers = 3 },
  ["workers-restart"] = { words = { "--workers", "3", "--restart", "always" }, workers = 3,
    has_keeper = true, restarts = true },
  ["workers-user"] = { words = { "--workers", "3", "--user", "nobody", "--restart", "on-failure" },
    workers = 3, has_keeper = true, restarts = true, needs_root = true },
}

-- What is done: the verb, the code that is on the disk then, and as what the daemon goes on: as the new code,
-- as the old, or not. `saves`: there is a state file; `workers`: how many there are then; `replaces`: the
-- process is meant to end.
local OPERATIONS = {
  serve = { ends = "old" },
  reload = { verb = { "reload", "s" }, version = "2", ends = "new" },
  refused = { verb = { "reload", "s" }, version = "2", flaw = "refuses", ends = "old" },
  rollback = { verb = { "reload", "--probation", "3", "s" }, version = "2", flaw = "fails", ends = "old" },
  upgrade = { verb = { "upgrade", "s" }, program = support.binary .. "-next", ends = "old" },
  state = { verb = { "reload", "s" }, version = "2", ends = "new", saves = true },
  resize = { verb = { "reload", "--workers", "2", "s" }, version = "2", ends = "new", workers = 2 },
  restart = { verb = { "restart", "s" }, version = "2", ends = "new", replaces = true },
  stop = { verb = { "stop", "s" }, ends = "gone", replaces = true },
}

-- Replace a file in one step.
local function replace(path, text)
  support.write(path .. ".new", text)
  assert(os.rename(path .. ".new", path))
end

-- Whether a kind of case can be run here.
local function is_possible(setup, operation, victim)
  if (victim == "keeper" and not setup.has_keeper) or (victim == "worker" and not setup.workers) then
    return false
  elseif (operation.workers and not setup.workers) or (victim == "verb" and not operation.verb) then
    return false
  end
  return support.is_root or not setup.needs_root
end

-- All kinds of cases, in a fixed order.
local function list_kinds()
  local kinds = {}
  for setup_name, setup in pairs(SETUPS) do
    for name, operation in pairs(OPERATIONS) do
      for _, victim in ipairs { "verb", "host", "keeper", "worker" } do
        if is_possible(setup, operation, victim) then
          kinds[#kinds + 1] = ("%s/%s/%s"):format(setup_name, name, victim)
        end
      end
    end
  end
  table.sort(kinds)
  return kinds
end

-- A place for one case.
local function new_trial(name)
  local setup, operation, victim, moment = name:match "^([^/]+)/([^/]+)/([^/]+)/([%d.]+)$"
  assert(SETUPS[setup] and OPERATIONS[operation] and tonumber(moment), "there is no case " .. name)
  local box = support.box()
  local self = setmetatable({ box = box, setup = SETUPS[setup], operation = OPERATIONS[operation],
    victim = victim, moment = tonumber(moment), kind = setup .. "/" .. operation }, Trial)
  assert(uv.fs_mkdir(box:path "open", tonumber("777", 8)))
  assert(uv.fs_chmod(box:path "open", tonumber("777", 8)))
  self.workers = self.setup.workers or 1
  self.target = self.setup.workers and net.free_port() or box:path "open/s"
  return self
end

-- Write the code of a version; what require finds is part of it.
function Trial:write(version, flaw)
  local text = support.read "soak/kill_service.lua"
  replace(self.box:path "version.lua", ("return %q\n"):format(version))
  replace(self.box:path "s.lua", (text:gsub("@VERSION@", version):gsub("@FLAW@", flaw or "none")))
end

-- Run lunad. A problem is a text; nil means that all is well.
function Trial:lunad(statuses, ...)
  local ok, result = pcall(self.box.run, self.box, { ... }, { seconds = LIMIT })
  if not ok then
    return nil, ("%s hangs: %s"):format(..., result)
  end
  for _, status in ipairs(statuses) do
    if result.signal == 0 and result.code == status then
      return result
    end
  end
  return nil, ("%s ends with status %d, signal %d: %s%s"):format(..., result.code, result.signal, result.out,
    result.err)
end

-- Start the daemon, and note who is who.
function Trial:start()
  local words = { "start", "--start-timeout", "15", "--stop-timeout", "3" }
  local function add(...)
    table.move({ ... }, 1, select("#", ...), #words + 1, words)
  end
  add(table.unpack(self.setup.words))
  if self.operation.saves then
    add("--state", self.box:path "open/state", "--state-every", "0.02")
  end
  local address = self.setup.workers and "127.0.0.1:" .. self.target or "unix:" .. self.target
  add(self.box:path "s.lua", address, self.box:path "open/lines")
  local result, problem = self:lunad({ 0 }, table.unpack(words))
  self.pid = result and math.tointeger(tonumber(result.out:match "started %(pid (%d+)%)"))
  return problem
end

-- The pid in a pidfile.
function Trial:pid_of(name)
  return math.tointeger(tonumber((self.box:read(("run/%s.pid"):format(name)) or ""):match "^%s*(%d+)\n$"))
end

-- Ask a server once: which code, which worker, and what it has counted; or nil and what went wrong.
function Trial:ask()
  local ok, answer, err = pcall(net.ask, self.target)
  if not ok or err then
    return nil, ok and err or answer
  end
  local entry, module, worker, count = answer:match "^(%d+)%.(%d+) (%d+) (%d+)\n$"
  if not entry then
    return nil, ("an answer is cut: %q"):format(answer)
  end
  return { entry = entry, module = module, worker = tonumber(worker), count = tonumber(count) }
end

-- Whether a worker has a process.
function Trial:has_worker(worker)
  local pid = self:pid_of(("s-%d"):format(worker))
  return pid ~= nil and support.is_alive(pid)
end

-- How many workers there are to be; one that is killed as their number changes may have prevented that.
function Trial:counts()
  return self.operation.workers and { self.workers, self.operation.workers } or { self.workers }
end

-- Who answers, if each worker does, and all with the same code, which is one of VERSIONS; else nil and why.
function Trial:look(versions)
  local result = self.box:lunad("status", "--json", "s")
  if result.code ~= 0 then
    return nil, "status: " .. result.out .. result.err
  end
  local pid = self:pid_of "s"
  local seen, count, version = {}, 0, nil
  for _ = 1, 40 * self.workers do
    local answer, err = self:ask()
    if not answer then
      return nil, "a request: " .. err
    end
    version = version or answer.entry
    if answer.entry ~= version or answer.module ~= version then
      return nil, ("code %s.%s beside %s"):format(answer.entry, answer.module, version)
    end
    count = count + (seen[answer.worker] and 0 or 1)
    seen[answer.worker] = seen[answer.worker] or answer
    local wants = self:counts()
    if count == wants[1] or (count == wants[2] and not self:has_worker(wants[1])) then
      return versions:find(version, 1, true) and { pid = pid, workers = seen, version = version } or nil,
        ("code %s is in force, not one of: %s"):format(version, versions)
    end
  end
  return nil, ("only %d workers answer"):format(count)
end

-- Wait until all answer with one of these versions.
function Trial:wait_up(versions)
  local found, why
  local ok = pcall(support.wait_for, "the service", function()
    found, why = self:look(versions)
    if not found then
      uv.sleep(30)
    end
    return found
  end, SETTLE)
  if ok then
    return found
  end
  return nil, ("the service is not back: %s\n%s"):format(why, self.box:log("s"):sub(-3000))
end

-- Whether threads of the host have not ended: one that waits for the disk holds its locks until that is done.
function Trial:has_threads()
  local tasks, count = uv.fs_scandir(("/proc/%d/task"):format(self.pid)), 0
  while tasks and uv.fs_scandir_next(tasks) do
    count = count + 1
  end
  return count > 1
end

-- Wait until no process is left, and of files only those that a crash may leave: "all", "record" or nil.
function Trial:wait_gone(may_stay)
  local left
  local gone = pcall(support.wait_for, "the end", function()
    left = {}
    for _, pid in ipairs(self.box:marked()) do
      left[#left + 1] = ("process %d (%s)"):format(pid,
        (support.read(("/proc/%d/cmdline"):format(pid)) or "?"):gsub("%z", " "))
    end
    left[#left + 1] = self:has_threads() and ("threads of process %d"):format(self.pid) or nil
    for _, file in ipairs(may_stay == "all" and {} or self.box:left_files()) do
      left[#left + 1] = not (may_stay == "record" and file == "s.start") and "file " .. file or nil
    end
    return #left == 0
  end, SETTLE)
  return not gone and ("left: %s\n%s"):format(table.concat(left, ", "), self.box:log("s"):sub(-2000)) or nil
end

-- Whether the lines of each kept child are complete, in order, and once each.
function Trial:check_lines()
  local last = {}
  for pid, number in (self.box:read "open/lines" or ""):gmatch "(%d+) (%d+)\n" do
    if tonumber(number) ~= (last[pid] or 0) + 1 then
      return ("kept child %s: line %s comes after line %d"):format(pid, number, last[pid] or 0)
    end
    last[pid] = tonumber(number)
  end
end

-- The process that is to die, or nil for the verb.
function Trial:find_victim()
  if self.victim == "host" then
    return self.pid
  elseif self.victim == "keeper" then
    return support.parent_of(self.pid)
  elseif self.victim == "worker" then
    return assert(self:pid_of(("s-%d"):format(self.moment * 1000 // 1 % self.workers + 1)))
  end
end

-- How long each kind of operation took here when it was last done to its end, in seconds.
local durations = {}
local USUAL = 0.06

-- Do the operation, and kill the victim after DELAY seconds. Return how the verb ended, if there is one; or
-- nil and a problem.
function Trial:operate(delay)
  local words = self.operation.verb
  local began, is_killed = uv.hrtime(), false
  local verb = words and self.box:spawn(words, { program = self.operation.program })
  local victim = self.victim == "verb" and verb.pid or self:find_victim()
  local over = false
  local deadline = began + LIMIT * 1e9
  while not (over and is_killed) and uv.hrtime() < deadline do
    uv.run "nowait"
    if not is_killed and uv.hrtime() - began >= delay * 1e9 then
      is_killed = true
      if not (self.victim == "verb" and verb.code) and support.is_alive(victim) then
        support.kill(victim, "sigkill")
      end
    end
    over = not verb or verb.is_over()
  end
  if not over then
    support.kill(verb.pid, "sigkill")
    return nil, ("%s hangs: %s%s"):format(words[1], verb.out(), verb.err())
  end
  if verb and verb.code == 0 and verb.signal == 0 then
    durations[self.kind] = (uv.hrtime() - began) / 1e9
  end
  return verb
end

-- Whether the verb ended as it may: 0, 1 or 3 with words, or by our SIGKILL.
function Trial:judge_verb(verb)
  if not verb or (self.victim == "verb" and verb.signal == 9) then
    return nil
  elseif verb.signal ~= 0 or (verb.code ~= 0 and verb.code ~= 1 and verb.code ~= 3) then
    return ("the verb ends with status %d, signal %d: %s"):format(verb.code, verb.signal, verb.err())
  elseif verb.code ~= 0 and not verb.err():find "^lunad: %S" then
    return ("the verb fails without words: %q"):format(verb.err())
  end
end

-- What may be in force after the operation: versions, and whether the service may be and must be gone.
function Trial:expect(verb)
  local op = self.operation
  local is_done = verb and verb.code == 0 and verb.signal == 0
  local dies = self.victim == "host" and not self.setup.restarts
  if op.ends == "gone" then
    return "1", true, is_done
  elseif op.replaces then
    return is_done and "2" or "12", not is_done, false
  elseif dies then
    return "", true, true
  elseif op.ends == "new" and is_done then
    return "2", false, false
  elseif self.box:log("s"):find("is on probation", 1, true) then
    return "1", false, false -- the next host too has the code that was proved
  end
  return op.version and (op.ends == "new" or self.victim == "host") and "12" or "1", false, false
end

-- Which files may be left when it is gone: without a keeper nothing removes those of a host that was killed.
function Trial:files_after()
  if self.victim == "verb" or self.victim == "worker" then
    return nil
  end
  return self.victim == "host" and self.setup.has_keeper and "record" or "all"
end

-- Check the daemon after the operation, and return it as it is then; nil if it is gone.
function Trial:check_after(verb)
  local versions, may_be_gone, must_be_gone = self:expect(verb)
  if must_be_gone then
    return nil, self:wait_gone(self:files_after())
  end
  if may_be_gone then
    local is_gone = pcall(support.wait_for, "it to be gone", function()
      return #self.box:marked() == 0
    end, 2)
    if is_gone then
      return nil
    end
  end
  local found, problem = self:wait_up(versions)
  if not found then
    return nil, problem
  end
  local is_other = found.pid ~= self.pid
  if not self.operation.replaces and is_other ~= (self.victim == "host") then
    problem = ("the host was pid %d, and is %s"):format(self.pid, found.pid)
  end
  local _, refused = self:lunad({ 4 }, "start", self.box:path "s.lua")
  return found, problem or refused
end

-- Check that what was saved before the operation has not been lost.
function Trial:check_saved(found)
  if not self.operation.saves then
    return nil
  end
  for worker, answer in pairs(found.workers) do
    local before = self.saved[worker] or 0
    if answer.count < before then
      return ("worker %d has counted %d, and %d were saved"):format(worker, answer.count, before)
    end
  end
end

-- Start the daemon again if it is gone, stop it, and check that nothing is left.
function Trial:finish(found)
  local problem
  if not found then
    self:write(self.operation.version or "1")
    problem = self:start()
    if not problem then
      found, problem = self:wait_up "12"
    end
  end
  if self.operation.flaw then
    self:write("1") -- code that fails soon may do so while the reload waits for other workers
  end
  problem = problem or self:check_saved(found) or select(2, self:lunad({ 0 }, "reload", "s"))
  problem = problem or select(2, self:lunad({ 0 }, "stop", "s"))
  return problem or self:wait_gone(nil)
end

-- Reload, and wait until the state of each worker has been saved since.
function Trial:save()
  local seconds, microseconds = uv.gettimeofday()
  local _, problem = self:lunad({ 0 }, "reload", "s")
  if problem then
    return problem
  end
  for worker = 1, self.workers do
    local name = self.workers > 1 and ("s-%d"):format(worker) or "s"
    support.wait_for("the state to be saved", function()
      local file = self.box:status(name).state_file
      return file.time and file.time - file.ms / 1000 > seconds + microseconds / 1e6
    end, SETTLE)
  end
end

-- Run one case.
function Trial:run()
  self:write("1")
  local problem = self:start()
  if problem then
    return problem
  end
  local found
  found, problem = self:wait_up "1"
  if problem then
    return problem
  end
  self.saved = {}
  if self.operation.saves then
    for worker, answer in pairs(found.workers) do
      self.saved[worker] = answer.count
    end
    problem = self:save()
  end
  self:write(self.operation.version or "1", self.operation.flaw)
  local verb, hangs = self:operate(self.moment * (durations[self.kind] or USUAL))
  problem = problem or hangs or self:judge_verb(verb)
  if problem then
    return problem
  end
  if self.operation.flaw == "refuses" then
    self:write("1")
  end
  found, problem = self:check_after(verb)
  return problem or self:finish(found) or self:check_lines()
end

local function run_case(name)
  local trial, problem = new_trial(name), nil
  local ok, message = xpcall(function()
    problem = trial:run()
  end, debug.traceback)
  problem = problem or (not ok and message) or trial.box:complaints()[1] or
    trial.box:log("s"):match "[^\n]*bug:[^\n]*"
  trial.box:close(true)
  return problem
end

-- Run a case and say what is wrong; whether all is well.
local function report(name)
  local problem = run_case(name)
  if problem then
    print(("FAILED  %s: %s"):format(name, problem))
    print("again: scripts/soak kills --case " .. name)
    io.stdout:flush()
  end
  return problem == nil
end

local function run_for(seconds, seed, kinds)
  math.randomseed(seed)
  print("seed " .. seed)
  local deadline, cases, failed = uv.hrtime() + seconds * 1e9, 0, 0
  local deck = {}
  repeat
    if #deck == 0 then
      table.move(kinds, 1, #kinds, 1, deck)
    end
    local kind = table.remove(deck, math.random(#deck))
    cases = cases + 1
    failed = failed + (report(("%s/%.3f"):format(kind, math.random() * 1.1)) and 0 or 1)
  until uv.hrtime() > deadline or failed >= PROBLEMS
  print(("%d cases, %d failed"):format(cases, failed))
  return failed == 0
end

local function main(mode, ...)
  if mode == "list" then
    print(table.concat(list_kinds(), "\n"))
    return true
  elseif mode == "case" then
    local failed = 0
    for _, name in ipairs { ... } do
      failed = failed + (report(name) and 0 or 1)
    end
    print(("%d cases, %d failed"):format(select("#", ...), failed))
    return failed == 0
  end
  local seconds, seed, text = ...
  local kinds = {}
  for line in text:gmatch "[^\n]+" do
    kinds[#kinds + 1] = line
  end
  return run_for(tonumber(seconds), math.tointeger(tonumber(seed)), kinds)
end

os.exit(main(...) and 0 or 1)

-- Services that a spec runs: each is a process of its own, which is what `lunad start` makes of a script but
-- for the detaching, and is asked over its control socket.

local core = ...
local lunad = require "lunad"

local net = require "lunad.net"
local uv = require "luv"

local pack = core.load "test_pack.lua"
local fakes = core.load "test_fake.lua"

local KILL_AFTER = 15 -- seconds after which a service that does not stop is killed
local EVAL_TIMEOUT = 600

local services = {}

local running = {} -- by number
local count = 0
local failures = {} -- what has failed beside services

-- Have the spec that runs fail.
function core.note_failure(message)
  failures[#failures + 1] = message
end

local Service = {}
Service.__index = Service
Service.__name = "lunad.service"

local function check(service, method)
  if getmetatable(service) ~= Service then
    core.raise(("bad argument #1 to '%s' (a service expected)"):format(method))
  end
  core.check_task(method)
end

-- The answer to a request; nil and why, if there is none.
local function ask(service, request)
  local stream, err = net.connect("unix:" .. service.socket)
  if not stream then
    return nil, err
  end
  local _ <close> = stream
  stream:write(request .. "\n")
  local parts = {}
  repeat
    local part = stream:read()
    parts[#parts + 1] = part
  until not part or part:find("\n", 1, true)
  local answer = core.json_decode(table.concat(parts))
  if not answer then
    return nil, "it has ended without an answer"
  end
  return answer
end

-- The same for a verb; raises if there is no answer, or the service refuses.
local function demand(service, method, request)
  local answer, err = ask(service, request)
  if not answer then
    core.raise(("%s: %s is not running: %s"):format(method, service.name, err))
  elseif answer.ok == false then
    core.raise(("%s: %s"):format(method, tostring(answer.error)))
  end
  return answer
end

-- Run a chunk in the service; the texts of its results.
local function eval(service, method, chunk)
  local form = '{"verb": "eval", "chunk": %s, "timeout": %d}'
  return demand(service, method, form:format(core.json_string(chunk), EVAL_TIMEOUT)).values
end

-- Call a function of test_remote.lua in the service.
local function call(service, method, name, ...)
  local parts = {}
  for i = 1, select("#", ...) do
    parts[i] = pack((select(i, ...)), method)
  end
  return eval(service, method, ('return require("lunad.test").%s(%s)'):format(name, table.concat(parts, ",")))
end

-- The services that run, in the order of their start.
local function list_running()
  local list = {}
  for _, service in pairs(running) do
    if service.child:running() then
      list[#list + 1] = service
    end
  end
  table.sort(list, function(a, b) return a.number < b.number end)
  return list
end

-- Freeze the clocks of all, at a Unix time in nanoseconds.
function services.freeze(real)
  for _, service in ipairs(list_running()) do
    service.at = core.clock_now()
    call(service, "clock", "freeze", real)
  end
end

-- Move the clocks of all to where that of the specs will be. Each process has its own: only spans are the
-- same.
function services.advance(target)
  for _, service in ipairs(list_running()) do
    local span = target - service.at
    service.at = target
    call(service, "clock:advance", "advance", span)
  end
end

function services.release()
  for _, service in ipairs(list_running()) do
    pcall(call, service, "clock:restore", "release")
  end
end

-- Write what runs in each generation of a service before its script.
local function write_prelude(service)
  local now, real, is_frozen = core.clock_now()
  service.at = service.at or now
  local parts = { "local core, lunad = ...\n" }
  if is_frozen and not service.child then
    parts[#parts + 1] = ("if lunad.generation == 1 then core.clock_freeze(%d) end\n"):format(real)
  end
  if service.state ~= nil and not service.child then
    local form = "if lunad.generation == 1 then lunad.state = %s end\n"
    parts[#parts + 1] = form:format(pack(service.state, "state"))
  end
  if service.fakes then
    local told = { path = service.fakes.path, rules = service.kinds }
    parts[#parts + 1] = ("core.fakes = %s\n"):format(pack(told, "fake"))
  end
  local file = assert(io.open(service.prelude, "w"))
  file:write(table.concat(parts))
  file:close()
end

-- Fake the commands of a service.
local function set_fakes(service, rules)
  if service.fakes then
    service.fakes:restore()
  end
  service.fakes, service.kinds = fakes.new(rules, core.note_failure, function()
    service.fakes = nil
  end)
end

local OWN = { args = "table", env = "table", state = "any", fake = "table" }

-- Options that the service gets from us.
local TAKEN = { log = true, run_dir = true, notify_fd = true, log_format = true, log_level = true }

-- Add an option of `lunad start` to the words.
local function add_option(words, key, value)
  local name = "--" .. key:gsub("_", "-")
  if value == true then
    words[#words + 1] = name
  elseif type(value) == "table" then
    for k, item in pairs(value) do
      words[#words + 1] = name
      words[#words + 1] = math.type(k) and tostring(item) or ("%s=%s"):format(k, item)
    end
  elseif value then
    words[#words + 1] = name
    words[#words + 1] = math.type(value) == "float" and ("%.14g"):format(value) or tostring(value)
  end
end

-- The command that runs a service.
local function command_of(service, file, options)
  local words = {
    core.program(), "test-service", "--run-dir", core.test_dir(), "--log", service.log_path,
    "--log-format", "json", "--log-level", "debug", "--notify-fd", "3", "--name", service.name,
  }
  for key, value in pairs(options) do
    if type(key) ~= "string" then
      core.raise("service: an option has a name, such as args or memory_limit")
    elseif TAKEN[key] then
      core.raise(("service: option '%s' cannot be given: the spec needs it"):format(key))
    elseif OWN[key] and OWN[key] ~= "any" and type(value) ~= OWN[key] then
      core.raise(("service: option '%s': %s expected, got %s"):format(key, OWN[key], type(value)))
    elseif not OWN[key] and key ~= "name" then
      add_option(words, key, value)
    end
  end
  words[#words + 1] = file
  for _, arg in ipairs(options.args or {}) do
    words[#words + 1] = tostring(arg)
  end
  return words
end

-- Start the process; returns the end of a pipe that says when it is ready.
local function launch(service, file, options)
  local pipe = assert(uv.pipe())
  local command = command_of(service, file, options)
  command.name, command.stdin, command.fds = service.name, "null", { [3] = pipe.write }
  command.env = { LUNAD_TEST_SPEC = service.prelude }
  for key, value in pairs(options.env or {}) do
    command.env[key] = tostring(value)
  end
  local function on_output(chunk)
    service.output = service.output .. (chunk or "")
  end
  command.stdout, command.stderr = on_output, "stdout"
  local child, err = core.real_spawn(command)
  uv.fs_close(pipe.write)
  if not child then
    uv.fs_close(pipe.read)
    core.raise("service: " .. err)
  end
  service.child, service.pid = child, child.pid
  return pipe.read
end

-- Why a service did not start.
local function explain(service)
  local entry = service:log "^start failed: "[1]
  if entry then
    return (entry.message:gsub("^start failed: ", ""))
  end
  local text = service.output:gsub("^lunad: ", ""):gsub("%s+$", "")
  return text ~= "" and text or "it ended before it was ready"
end

-- Run a script as a service; returns when it is ready, and raises if it does not become that.
function services.new(file, options)
  options = options == nil and {} or options
  if type(file) ~= "string" then
    core.raise("bad argument #1 to 'service' (string expected, got " .. type(file) .. ")")
  elseif type(options) ~= "table" then
    core.raise("bad argument #2 to 'service' (table expected, got " .. type(options) .. ")")
  end
  core.check_task "service"
  count = count + 1
  local base = core.test_dir() .. "/" .. count
  local service = setmetatable({
    number = count, prelude = base .. ".lua", log_path = base .. ".log", output = "", seen = 0,
    state = options.state, name = options.name or file:match "[^/]+$":gsub("%.lua$", ""),
  }, Service)
  service.socket = ("%s/%s.sock"):format(core.test_dir(), service.name)
  if options.fake then
    set_fakes(service, options.fake)
  end
  write_prelude(service)
  local fd = launch(service, file, options)
  running[count] = core.scope.add(service, Service.stop)
  lunad.wait_fd(fd, "r")
  local word = uv.fs_read(fd, 1)
  uv.fs_close(fd)
  if word ~= "\n" then
    local exit = service.child:wait()
    running[service.number] = nil
    if not exit.ok then
      local why = explain(service)
      service.seen = math.huge
      core.raise(("%s did not start: %s"):format(service.name, why))
    end
  end
  return service
end

-- Fake commands of the service, instead of those before.
function Service:fake(rules)
  check(self, "fake")
  set_fakes(self, rules)
  write_prelude(self)
  call(self, "fake", "fake", self.fakes.path, self.kinds)
  return self.fakes
end

-- Run a chunk in the service, and return its results, which must be plain data.
function Service:eval(chunk, ...)
  check(self, "eval")
  if type(chunk) ~= "string" then
    core.raise("bad argument #1 to 'eval' (string expected, got " .. type(chunk) .. ")")
  end
  local texts = call(self, "eval", "run", chunk, ...)
  return assert(load("return " .. texts[1], "=result", "t", {}))()
end

-- Reload it: true, or nil and why that was refused.
function Service:reload()
  check(self, "reload")
  local answer, err = ask(self, '{"verb": "reload"}')
  if not answer then
    core.raise(("reload: %s is not running: %s"):format(self.name, err))
  elseif not answer.ok then
    self.refusals = (self.refusals or 0) + 1
    return nil, answer.error
  end
  return true
end

-- Stop it as `lunad stop` does: how its process ended. Its clock runs meanwhile.
function Service:stop()
  check(self, "stop")
  if self.child:running() then
    local _, _, is_frozen = core.clock_now()
    if is_frozen then
      pcall(call, self, "stop", "release")
    end
    ask(self, '{"verb": "stop"}')
    local deadline = uv.hrtime() + KILL_AFTER * 1000000000
    while self.child:running() and uv.hrtime() < deadline do
      core.pause(2)
    end
    self.child:kill "KILL"
  end
  running[self.number] = nil
  return self.child:wait()
end

Service.__close = Service.stop

-- Wait for its end by itself, and return that.
function Service:wait()
  check(self, "wait")
  local exit = self.child:wait()
  running[self.number] = nil
  return exit
end

function Service:running()
  return self.child:running()
end

-- Send it a signal.
function Service:signal(name)
  check(self, "signal")
  return lunad.kill(self.pid, name)
end

-- The status report.
function Service:status()
  check(self, "status")
  return demand(self, "status", '{"verb": "status"}')
end

for _, name in ipairs { "timers", "tasks", "children", "signals" } do
  Service[name] = function(self)
    check(self, name)
    return demand(self, name, '{"verb": "status"}')[name]
  end
end

-- The entries of its log, or those whose message a pattern matches.
function Service:log(pattern)
  local entries = {}
  local file = io.open(self.log_path)
  if file then
    for line in file:lines() do
      local entry = core.json_decode(line)
      if type(entry) == "table" and (not pattern or tostring(entry.message):find(pattern)) then
        entries[#entries + 1] = entry
      end
    end
    file:close()
  end
  return entries
end

-- Whether an entry is an error that nothing in the script has caught.
local function is_uncaught(entry)
  return entry.level == "error" and entry.source == "lunad" and entry.message:find "^uncaught error"
end

-- The errors that nothing in the script has caught, and that were not returned before.
function Service:errors()
  local all, fresh = self:log(), {}
  for i, entry in ipairs(all) do
    if i > self.seen and is_uncaught(entry) then
      fresh[#fresh + 1] = entry.message
    end
  end
  self.seen = math.max(self.seen, #all)
  return fresh
end

-- Kill those that run.
function services.kill_all()
  for _, service in ipairs(list_running()) do
    service.child:kill "KILL"
    service.child:wait()
  end
end

-- What the services of the spec have failed in, and it has not asked for.
function services.take_errors()
  local messages = failures
  failures = {}
  for _, service in ipairs(core.scope.values()) do
    if getmetatable(service) == Service then
      for _, message in ipairs(service:errors()) do
        messages[#messages + 1] = ("in %s: %s"):format(service.name, message)
      end
    end
  end
  return messages
end

return services

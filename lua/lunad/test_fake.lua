-- Commands that a spec fakes. In the place of each runs a stand-in (src/cli/stand_in.c), which asks the spec
-- over a Unix socket what to do: so all that a service sees of a command is real.

local core = ...

local net = require "lunad.net"
local uv = require "luv"

local WAIT = 10 -- seconds for a command to be started, at most

local fakes = {}

-- The private directory of this run, made when it is first needed and removed at the end.
local dir

function core.test_dir()
  if not dir then
    dir = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/lunad-test-XXXXXX"))
  end
  return dir
end

-- Remove the files of the directory, and the directory.
function core.remove_test_dir()
  local scan = dir and uv.fs_scandir(dir)
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    uv.fs_unlink(dir .. "/" .. name)
  end
  if dir then
    uv.fs_rmdir(dir)
    dir = nil
  end
end

-- Child: a command that runs, as the spec sees it.
local Child = {}
Child.__index = Child
Child.__name = "lunad.fake_child"

local function send(child, letter, data)
  if child.is_open then
    child.stream:write(letter .. #data .. "\n" .. data)
  end
end

local function check_text(text, name)
  if type(text) ~= "string" then
    core.raise(("bad argument #1 to '%s' (string expected, got %s)"):format(name, type(text)))
  end
end

function Child:stdout(text)
  check_text(text, "stdout")
  send(self, "O", text)
end

function Child:stderr(text)
  check_text(text, "stderr")
  send(self, "E", text)
end

function Child:running()
  return self.is_open
end

local SIGNALS = uv.constants

-- The frame by which a stand-in ends: of an answer { code = } or { signal = }.
local function ending(answer)
  if answer.signal then
    local name = tostring(answer.signal):upper():gsub("^SIG", "")
    local number = math.tointeger(answer.signal) or SIGNALS["SIG" .. name]
    if not number then
      core.raise("there is no signal " .. tostring(answer.signal))
    end
    return "S" .. number .. "\n"
  end
  return "X" .. (answer.code or 0) .. "\n"
end

-- End the command, with a status or { code = } or { signal = }; returns when it has ended.
function Child:exit(how)
  if how ~= nil and type(how) ~= "table" and math.type(how) ~= "integer" then
    core.raise("bad argument #1 to 'exit' (a status, { code = } or { signal = } expected)")
  end
  local frame = ending(type(how) == "table" and how or { code = how })
  if self.is_open then
    self.stream:write(frame)
    while self.is_open do
      core.pause(1)
    end
  end
end

-- Fakes: a set of rules, with the calls of the commands.
local Fakes = {}
Fakes.__index = Fakes
Fakes.__name = "lunad.fakes"

local ANSWER = { stdout = "string", stderr = "string", code = "number", signal = "number or string" }

-- What is wrong with an answer, or nil.
local function blame(answer)
  if type(answer) ~= "table" then
    return "a table expected, got " .. type(answer)
  end
  for key, value in pairs(answer) do
    if not ANSWER[key] then
      return ("unknown key '%s'"):format(tostring(key))
    elseif not ANSWER[key]:find(type(value), 1, true) then
      return ("'%s': %s expected, got %s"):format(key, ANSWER[key], type(value))
    end
  end
end

-- Check the rules, and make those that the side of the commands gets: what kind each is.
local function kinds_of(rules)
  if type(rules) ~= "table" then
    core.raise("bad argument #1 to 'fake' (table expected, got " .. type(rules) .. ")")
  end
  local kinds = {}
  for command, rule in pairs(rules) do
    if type(command) ~= "string" then
      core.raise("fake: each key is a command, as text")
    end
    local is_word = rule == "open" or rule == "real" or rule == "missing"
    local wrong = not is_word and type(rule) ~= "function" and blame(rule)
    if wrong then
      local words = '"open", "real", "missing", an answer or a function'
      core.raise(('fake: "%s": %s (%s)'):format(command, wrong, words))
    end
    kinds[command] = is_word and rule or "prompt"
  end
  return kinds
end

-- Read what a stand-in says of itself; nil if it has gone.
local function meet(stream)
  local words, cwd = {}, nil
  for line in stream:lines() do
    local letter, size = line:match "^(%u)(%d+)$"
    local data = tonumber(size) > 0 and stream:read(tonumber(size)) or ""
    if letter == "A" then
      words[#words + 1] = data
    elseif letter == "C" then
      cwd = data
    elseif letter == "G" then
      return words, cwd
    end
  end
end

-- Note what a stand-in reads from its stdin; true when that has ended, nil when it has gone.
local function take_input(child)
  local line = child.stream:read "line"
  if not line then
    return nil
  end
  local letter, size = line:match "^(%u)(%d+)$"
  if letter == "I" then
    child.input = child.input .. (child.stream:read(tonumber(size)) or "")
    return false
  end
  return true
end

-- The answer of a rule to a command.
local function answer_of(fakes_of, rule, child)
  if type(rule) ~= "function" then
    return rule
  end
  local ok, answer = pcall(rule, child)
  local wrong = ok and blame(answer)
  if not ok or wrong then
    fakes_of.report(('the function for the command "%s": %s'):format(child.command,
      ok and "its answer: " .. wrong or tostring(answer)))
    return { code = 1 }
  end
  return answer
end

-- Serve one command, in a task.
local function serve(self, stream)
  local words, cwd = meet(stream)
  if not words then
    return
  end
  local mode = table.remove(words, 1)
  local child = setmetatable({
    args = words, command = table.concat(words, " "), cwd = cwd, input = "", stream = stream, is_open = true,
  }, Child)
  self.list[#self.list + 1] = child
  local rule = core.find_rule(self.rules, words) or { code = 127 }
  local has_input = mode == "spawn"
  while mode == "exec" and not has_input do
    has_input = take_input(child)
    if has_input == nil then
      child.is_open = false
      return
    end
  end
  if rule ~= "open" then
    local answer = answer_of(self, rule, child)
    send(child, "O", answer.stdout or "")
    send(child, "E", answer.stderr or "")
    stream:write(ending(answer))
  end
  repeat until take_input(child) == nil
  child.is_open = false
end

-- The commands that were called, in their order; or only those that `command` is the beginning of.
function Fakes:calls(command)
  local calls = {}
  for _, child in ipairs(self.list) do
    if command == nil or (child.command .. " "):sub(1, #command + 1) == command .. " " then
      calls[#calls + 1] = child
    end
  end
  return calls
end

-- The latest call of a command that runs; waits for it.
function Fakes:child(command)
  check_text(command, "child")
  core.check_task "child"
  local deadline = uv.hrtime() + WAIT * 1000000000
  while true do
    local calls = self:calls(command)
    for i = #calls, 1, -1 do
      if calls[i].is_open then
        return calls[i]
      end
    end
    if uv.hrtime() > deadline then
      core.raise(('the command "%s" was not started within %d s'):format(command, WAIT))
    end
    core.pause(2)
  end
end

-- Forget the calls.
function Fakes:clear()
  self.list = {}
end

-- Fake no more; commands that still run end.
function Fakes:restore()
  if self.server then
    self.server:close()
    self.server = nil
    for _, child in ipairs(self.list) do
      if child.is_open then
        child.is_open = false
        child.stream:close()
      end
    end
    uv.fs_unlink(self.path)
    self.on_restore()
  end
end

Fakes.__close = Fakes.restore

local count = 0

-- Make a set of fakes; `report` is called with errors. Returns it, and the kinds of its rules.
function fakes.new(rules, report, on_restore)
  local kinds = kinds_of(rules)
  count = count + 1
  local self = setmetatable({ rules = rules, list = {}, report = report, on_restore = on_restore }, Fakes)
  self.path = ("%s/fake-%d"):format(core.test_dir(), count)
  self.server = assert(net.serve("unix:" .. self.path, function(stream)
    serve(self, stream)
  end))
  return core.scope.add(self, Fakes.restore), kinds
end

-- Fake commands that the specs themselves run, by modules that they require.
function fakes.here(rules)
  if core.fakes then
    core.raise("fake: commands are faked already: restore that first")
  end
  local self, kinds = fakes.new(rules, core.note_failure, function()
    core.fakes = nil
  end)
  core.fakes = { path = self.path, rules = kinds }
  return self
end

return fakes

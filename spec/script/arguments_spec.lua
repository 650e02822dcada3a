-- What a wrong argument does: a raised error that names the argument or the option, at the
-- line of the caller. All rows run in one script, each on its own line.

local support = require "support"

-- A call, and what its error must name. It can use everything that `prelude` makes.
local groups = {}

local function rows(name, list)
  groups[#groups + 1] = { name = name, rows = list }
end

-- The rows for an argument of seconds: `call` has a %s in its place.
local function seconds(call, names)
  local list = {}
  for _, value in ipairs { "'soon'", "{}", "true", "-1", "-1e-9", "0/0", "1/0", "-1/0", "3.2e8" } do
    list[#list + 1] = { call:format(value), names }
  end
  return list
end

local function join(...)
  local all = {}
  for _, list in ipairs { ... } do
    table.move(list, 1, #list, #all + 1, all)
  end
  return all
end

-- The rows for a method: called with a dot, and on other things.
local function selves(object, methods)
  local list = {}
  for _, method in ipairs(methods) do
    list[#list + 1] = { ("%s.%s()"):format(object, method), method }
    list[#list + 1] = { ("%s.%s({})"):format(object, method), method }
    list[#list + 1] = { ("%s.%s('x')"):format(object, method), method }
    list[#list + 1] = { ("%s.%s(other)"):format(object, method), method }
  end
  return list
end

-- The rows for an argument that must be callable.
local function callable(call, names)
  local list = {}
  for _, value in ipairs { "nil", "'x'", "{}", "42", "true", "setmetatable({}, {})", "io.stdout" } do
    list[#list + 1] = { call:format(value), names }
  end
  return list
end

-- The rows for an option of spawn and of exec.
local function options(name, values)
  local list = {}
  for _, value in ipairs(values) do
    list[#list + 1] = { ("lunad.spawn { 'true', %s = %s }"):format(name, value), "'" .. name .. "'" }
    list[#list + 1] = { ("lunad.exec { 'true', %s = %s }"):format(name, value), "'" .. name .. "'" }
  end
  return list
end

rows("lunad.after", join(
  { { "lunad.after()", "#1" }, { "lunad.after(nil, f)", "#1" }, { "lunad.after(1)", "#2" } },
  seconds("lunad.after(%s, f)", "#1"), callable("lunad.after(1, %s)", "#2"),
  { { "lunad.after(1, f, table.unpack({}, 1, 300))", "too many arguments" } }))

rows("lunad.every", join(
  { { "lunad.every()", "#1" }, { "lunad.every(nil, f)", "#1" }, { "lunad.every(1)", "#2" } },
  seconds("lunad.every(%s, f)", "#1"), callable("lunad.every(1, %s)", "#2"),
  { { "lunad.every(0, f)", "#1" }, { "lunad.every(-0.0, f)", "#1" }, { "lunad.every(1e-12, f)", "#1" } }))

rows("lunad.sleep", join({ { "lunad.sleep()", "#1" }, { "lunad.sleep(nil)", "#1" } },
  seconds("lunad.sleep(%s)", "#1")))

rows("a timer", join(
  selves("timer", { "stop", "again", "active", "due", "missed" }),
  seconds("timer:again(%s)", "#1"), seconds("beat:again(%s)", "#1"),
  { { "beat:again(0)", "#1" }, { "timer.stop(nil)", "#1" }, { "timer.x = 1", "index" } }))

rows("lunad.task", join({ { "lunad.task()", "#1" } }, callable("lunad.task(%s)", "#1")))

rows("a task", join(selves("task", { "wait", "cancel", "running" }),
  { { "coroutine.wrap(function() task:wait() end)()", "wait" }, { "task.x = 1", "index" } }))

rows("lunad.signal", join(
  { { "lunad.signal()", "#1" }, { "lunad.signal(nil, f)", "#1" }, { "lunad.signal({}, f)", "#1" },
    { "lunad.signal(true, f)", "#1" }, { "lunad.signal('NOPE', f)", "NOPE" },
    { "lunad.signal('', f)", "#1" }, { "lunad.signal('SIG', f)", "SIG" }, { "lunad.signal(0, f)", "#1" },
    { "lunad.signal(-1, f)", "#1" }, { "lunad.signal(65, f)", "#1" }, { "lunad.signal(2^31, f)", "#1" },
    { "lunad.signal(1.5, f)", "#1" }, { "lunad.signal(0/0, f)", "#1" }, { "lunad.signal(1/0, f)", "#1" },
    { "lunad.signal('USR1')", "#2" } },
  callable("lunad.signal('USR1', %s)", "#2"),
  { { "lunad.signal('CHLD', f)", "on_exit" }, { "lunad.signal('SIGCHLD', f)", "on_exit" },
    { "lunad.signal(17, f)", "on_exit" }, { "lunad.signal('KILL', f)", "KILL" },
    { "lunad.signal('SIGKILL', f)", "KILL" }, { "lunad.signal(9, f)", "KILL" },
    { "lunad.signal('STOP', f)", "STOP" }, { "lunad.signal(19, f)", "STOP" },
    { "lunad.signal('SEGV', f)", "SEGV" }, { "lunad.signal('BUS', f)", "BUS" },
    { "lunad.signal('FPE', f)", "FPE" }, { "lunad.signal('ILL', f)", "ILL" },
    { "lunad.signal(32, f)", "32" }, { "lunad.signal(33, f)", "33" } },
  selves("handle", { "stop" })))

rows("lunad.kill", {
  { "lunad.kill()", "#1" }, { "lunad.kill(nil, 'TERM')", "#1" }, { "lunad.kill('x', 'TERM')", "#1" },
  { "lunad.kill({}, 'TERM')", "#1" }, { "lunad.kill(1.5, 0)", "#1" }, { "lunad.kill(0/0, 0)", "#1" },
  { "lunad.kill(1/0, 0)", "#1" }, { "lunad.kill(2^40, 0)", "#1" }, { "lunad.kill(-2^40, 0)", "#1" },
  { "lunad.kill(lunad.pid)", "#2" }, { "lunad.kill(lunad.pid, nil)", "#2" },
  { "lunad.kill(lunad.pid, {})", "#2" }, { "lunad.kill(lunad.pid, 'NOPE')", "NOPE" },
  { "lunad.kill(lunad.pid, '')", "#2" }, { "lunad.kill(lunad.pid, -1)", "#2" },
  { "lunad.kill(lunad.pid, 65)", "#2" }, { "lunad.kill(lunad.pid, 0.5)", "#2" },
  { "lunad.kill(lunad.pid, 0/0)", "#2" },
})

rows("the command of lunad.spawn and lunad.exec", (function()
  local list = {}
  for _, name in ipairs { "spawn", "exec" } do
    for _, row in ipairs {
      { "()", "#1" }, { "(nil)", "#1" }, { "('true')", "#1" }, { "(42)", "#1" }, { "({})", "command" },
      { "({ '' })", "command" }, { "({ {} })", "command" }, { "({ true })", "command" },
      { "({ 'a\\0b' })", "command" }, { "({ 'true', {} })", "word 2" }, { "({ 'true', false })", "word 2" },
      { "({ 'true', nil, 'x' })", "word 2" }, { "({ 'true', 'a\\0b' })", "word 2" },
      { "({ 'true', f })", "word 2" }, { "({ 'true', [4] = 'x' })", "word" },
      { "({ 'true', [0] = 'x' })", "0" }, { "({ 'true', [-1] = 'x' })", "-1" },
      { "({ 'true', [1.5] = 'x' })", "number" },
      { "({ 'true', [true] = 1 })", "boolean" }, { "({ 'true', [{}] = 1 })", "table" },
      { "({ 'true', unheard = 1 })", "'unheard'" }, { "({ 'true', ['Cwd'] = '/' })", "'Cwd'" },
      { "({ 'true', [''] = 1 })", "''" },
    } do
      list[#list + 1] = { "lunad." .. name .. row[1], row[2] }
    end
  end
  return list
end)())

local times = { "'1'", "{}", "true", "-1", "0/0", "1/0", "3.2e8" }
local not_booleans = { "1", "'yes'", "{}", "f" }
local streams = {
  "true", "false", "{}", "-1", "1.5", "2^40", "0/0", "'nowhere'", "''", "setmetatable({}, {})",
}

rows("an option of lunad.spawn and lunad.exec", join(
  options("name", { "1", "true", "{}", "''", "'a b'", "'.a'", "'-a'", "'a/b'", "('x'):rep(65)" }),
  options("cwd", { "1", "true", "{}", "'/\\0'" }),
  options("env", { "'A=1'", "1", "true", "{ 'A=1' }", "{ A = true }", "{ A = {} }", "{ ['A=B'] = 'x' }",
    "{ [true] = 'x' }", "{ [''] = 'x' }", "{ A = 'x\\0y' }", "{ ['A\\0B'] = 'x' }" }),
  options("clear_env", not_booleans), options("detach", not_booleans),
  options("stdin", streams), options("stdin", { "f", "'log'", "'inherit'", "'stdout'" }),
  options("stdout", streams), options("stdout", { "'pipe'", "'stdout'" }),
  options("stderr", streams), options("stderr", { "'pipe'", "'stderr'" }),
  options("on_exit", { "true", "'x'", "{}", "1" }),
  options("timeout", times), options("timeout", { "0" }), options("kill_after", times)))

rows("an option of lunad.exec", {
  { "lunad.exec { 'cat', input = 1 }", "'input'" }, { "lunad.exec { 'cat', input = {} }", "'input'" },
  { "lunad.exec { 'cat', input = true }", "'input'" }, { "lunad.exec { 'cat', input = f }", "'input'" },
  { "lunad.exec { 'cat', input = 'x', stdin = 'null' }", "'stdin'" },
  { "lunad.exec { 'true', max_output = -1 }", "'max_output'" },
  { "lunad.exec { 'true', max_output = 1.5 }", "'max_output'" },
  { "lunad.exec { 'true', max_output = 0/0 }", "'max_output'" },
  { "lunad.exec { 'true', max_output = 1/0 }", "'max_output'" },
  { "lunad.exec { 'true', max_output = '1' }", "'max_output'" },
  { "lunad.exec { 'true', max_output = {} }", "'max_output'" },
  { "lunad.spawn { 'true', input = 'x' }", "'input'" },
  { "lunad.spawn { 'true', max_output = 1 }", "'max_output'" },
  { "coroutine.wrap(function() lunad.exec { 'true' } end)()", "exec" },
})

rows("a child", join(
  selves("child", { "running", "wait", "kill", "write", "flush", "close_stdin", "pause", "resume" }),
  { { "child:kill('NOPE')", "NOPE" }, { "child:kill({})", "#1" }, { "child:kill(-1)", "#1" },
    { "child:kill(65)", "#1" }, { "child:kill(1.5)", "#1" }, { "child:kill(0/0)", "#1" },
    { "child:write()", "#1" }, { "child:write(nil)", "#1" }, { "child:write({})", "#1" },
    { "child:write(true)", "#1" }, { "mute:write('x')", "write" }, { "mute:flush()", "flush" },
    { "mute:close_stdin()", "close_stdin" }, { "closed:write('x')", "close_stdin" },
    { "child.pid = 1", "index" } }))

rows("lunad.by_line", join({ { "lunad.by_line()", "#1" } }, callable("lunad.by_line(%s)", "#1"),
  { { "lunad.by_line(f, 0)", "#2" }, { "lunad.by_line(f, -1)", "#2" }, { "lunad.by_line(f, 1.5)", "#2" },
    { "lunad.by_line(f, 0/0)", "#2" }, { "lunad.by_line(f, 1/0)", "#2" }, { "lunad.by_line(f, '9')", "#2" },
    { "lunad.by_line(f, {})", "#2" }, { "lunad.by_line(f, false)", "#2" } }))

rows("lunad.log", (function()
  local list = {}
  for _, level in ipairs { "debug", "info", "warn", "error" } do
    for _, row in ipairs {
      { "()", "#1" }, { "(nil)", "#1" }, { "({})", "#1" }, { "(true)", "#1" }, { "(f)", "#1" },
      { "('x', 'y')", "#2" }, { "('x', 1)", "#2" }, { "('x', true)", "#2" }, { "('x', f)", "#2" },
      { "('x', { 'y' })", "number" }, { "('x', { [true] = 1 })", "boolean" },
    } do
      list[#list + 1] = { "lunad.log." .. level .. row[1], row[2] }
    end
  end
  return list
end)())

rows("the life functions", join(
  { { "lunad.stop('x')", "#1" }, { "lunad.stop({})", "#1" }, { "lunad.stop(-1)", "#1" },
    { "lunad.stop(256)", "#1" }, { "lunad.stop(1.5)", "#1" }, { "lunad.stop(0/0)", "#1" },
    { "lunad.status()", "#1" }, { "lunad.status(nil)", "#1" }, { "lunad.status({})", "#1" },
    { "lunad.status(true)", "#1" }, { "lunad.on_reload()", "#1" }, { "lunad.on_stop()", "#1" },
    { "lunad.on_error()", "#1" } },
  callable("lunad.on_reload(%s)", "#1"), callable("lunad.on_stop(%s)", "#1"),
  callable("lunad.on_error(%s)", "#1")))

rows("what lunad makes again of Lua's own", {
  { "os.execute({})", "#1" }, { "os.execute(true)", "#1" }, { "io.popen()", "#1" },
  { "io.popen({})", "#1" }, { "io.popen('true', 'rw')", "#2" }, { "io.popen('true', '')", "#2" },
  { "io.popen('true', {})", "#2" }, { "coroutine.resume()", "#1" }, { "coroutine.resume({})", "#1" },
  { "coroutine.wrap()", "#1" }, { "coroutine.wrap('x')", "#1" }, { "coroutine.close()", "#1" },
  { "coroutine.close({})", "#1" },
})

local prelude = [[
local lunad = require "lunad"
local function f() end
local timer, beat, handle = lunad.after(100, f), lunad.every(100, f), lunad.signal("USR1", f)
local task = lunad.task(lunad.sleep, 100)
local child = lunad.spawn { "cat", stdin = "pipe" }
local mute = lunad.spawn { "sleep", "100" }
local closed = lunad.spawn { "cat", stdin = "pipe" }
closed:close_stdin()
local other = io.stdout
local function check(fn)
  local ok, message = pcall(fn)
  io.stdout:write(ok and "no error" or (tostring(message):gsub("\n", "\\n")), "\n")
end
]]

-- The script of all rows, and the line of each.
local function write_script()
  local _, line = prelude:gsub("\n", "")
  local text = { prelude }
  for _, group in ipairs(groups) do
    for _, row in ipairs(group.rows) do
      line = line + 1
      row.line = line
      text[#text + 1] = ("check(function() %s end)\n"):format(row[1])
    end
  end
  text[#text + 1] = "while not lunad.stats().ready do lunad.sleep(0.001) end lunad.stop()\n"
  return table.concat(text)
end

local script = write_script()

describe("A wrong argument raises, with its name, at the caller's line:", function()
  local result, said = nil, {}

  setup(function()
    local box = support.box()
    result = box:run({ "run", box:write("rows.lua", script) })
    box:close()
    for line in result.out:gmatch("[^\n]*") do
      said[#said + 1] = line
    end
  end)

  it("the script of all rows runs to its end", function()
    assert.equal(0, result.code, result.err)
  end)

  local index = 0
  for _, group in ipairs(groups) do
    describe(group.name, function()
      for _, row in ipairs(group.rows) do
        index = index + 1
        local mine = index
        it(row[1], function()
          local message = said[mine] or "nothing"
          local line, words = message:match("^[^:]*/rows%.lua:(%d+): (.*)$")
          assert.equal(tostring(row.line), line, message)
          assert.truthy(words:find(row[2], 1, true), message)
        end)
      end
    end)
  end
end)

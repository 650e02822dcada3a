local support = require "support"

-- For scripts: start a child, wait for its end, and return what its streams and on_exit brought:
-- { out =, err =, exit =, order = }.
local COLLECT = [[
local function collect(options)
  local got = { out = "", err = "", order = {} }
  for _, stream in ipairs { "stdout", "stderr" } do
    local key = stream:sub(4)
    if options[stream] == nil then
      options[stream] = function(chunk)
        got.order[#got.order + 1] = chunk and key or key .. " end"
        got[key] = got[key] .. (chunk or "")
      end
    end
  end
  options.on_exit = function(exit, child)
    got.order[#got.order + 1] = "exit"
    got.exit, got.child = exit, child
  end
  got.started = truthy(lunad.spawn(options))
  eventually(function() return got.exit end)
  return got
end
local function shell(command, options)
  options = options or {}
  options[1], options[2], options[3] = "sh", "-c", command
  return collect(options)
end
]]

-- For scripts: start a command that has stopped itself, and does nothing until it gets CONT.
local HELD = [[
local function held(command, options)
  options = options or {}
  options[1], options[2], options[3] = "sh", "-c", "kill -STOP $$; exec " .. command
  options.stdin = "pipe"
  local child = truthy(lunad.spawn(options))
  eventually(function()
    local file <close> = io.open(("/proc/%d/stat"):format(child.pid))
    return file:read("a"):find(") T ", 1, true)
  end)
  return child
end
]]

-- For scripts: whether a process is gone.
local GONE = [[
local function gone(pid) return select(3, lunad.kill(pid, 0)) == "ESRCH" end
]]

describe("The command of lunad.spawn", function()
  local box = support.with_box(before_each, after_each)

  it("gets its words as they are, numbers as lua writes them", function()
    box:inside(COLLECT .. [[
      local words = { "", " a  b ", "*", "$HOME", "'\"\\", "\n", "ä\255", "-n" }
      local options = { "sh", "-c", 'for word; do printf "<%s>" "$word"; done', "sh" }
      for _, word in ipairs(words) do options[#options + 1] = word end
      for _, number in ipairs { 1, -2, 3.0, 0.5, math.maxinteger } do options[#options + 1] = number end
      equal("<" .. table.concat(words, "><") .. "><1><-2><3.0><0.5><9223372036854775807>",
        collect(options).out)
    ]])
  end)

  it("can have thousands of words", function()
    box:inside(COLLECT .. [[
      local options = { "sh", "-c", "echo $#", "sh" }
      for i = 1, 5000 do options[#options + 1] = "word" .. i end
      equal("5000\n", collect(options).out)
    ]])
  end)

  it("is found by the child's PATH, which skips files that cannot be run", function()
    for _, dir in ipairs { "one", "two" } do
      assert(support.uv.fs_mkdir(box:path(dir), tonumber("755", 8)))
      box:write(dir .. "/tool", "#!/bin/sh\necho " .. dir)
    end
    assert(support.uv.fs_chmod(box:path("two/tool"), tonumber("755", 8)))
    box:inside(COLLECT .. ([[
      local dir = %q
      local function path(value) return { "tool", env = { PATH = value } } end
      equal("two\n", collect(path(dir .. "/none:" .. dir .. "/one:" .. dir .. "/two:/bin")).out)
      fails("EACCES", lunad.spawn(path(dir .. "/one:" .. dir .. "/none")))
      fails("ENOENT", lunad.spawn(path(dir .. "/none")))
      fails("ENOENT", lunad.spawn { "tool" })
      equal("two\n", collect({ "./tool", cwd = dir .. "/two" }).out)
      equal("two\n", collect({ "tool", cwd = dir, env = { PATH = "two:/bin" } }).out)
      equal(true, collect({ "true", clear_env = true }).exit.ok)
    ]]):format(box.dir))
  end)

  -- Files that cannot be executed, and what says so.
  local REFUSED = [[
  local dir = ...
  local function refused(code, options)
    options.on_exit = function() error("on_exit was called") end
    options.stdout = function() error("stdout was called") end
    fails(code, lunad.spawn(options))
    fails(code, lunad.exec { table.unpack(options) })
  end
  refused("ENOENT", { "/no/such/command" })
  refused("ENOENT", { "no-such-command-anywhere" })
  refused("ENOTDIR", { dir .. "/denied/x" })
  refused("EACCES", { dir .. "/denied" })
  refused("EACCES", { dir })
  refused("ENOEXEC", { dir .. "/nonsense" })
  refused("ENOEXEC", { dir .. "/empty" })
  refused("ENOENT", { dir .. "/interpreter" })
  refused("ENAMETOOLONG", { ("x"):rep(5000) })
  refused("E2BIG", { "true", ("x"):rep(200000) })
  lunad.exec { "true" }
  ]]

  it("that cannot be executed is a returned error with its code, never an exit of 127", function()
    box:write("denied", "#!/bin/sh\n")
    for name, text in pairs { nonsense = "no program\n", interpreter = "#!/no/such\n", empty = "" } do
      assert(support.uv.fs_chmod(box:write(name, text), tonumber("755", 8)))
    end
    box:inside((REFUSED:gsub("%.%.%.", ("%q"):format(box.dir), 1)))
  end)

  it("that cannot be executed is named in the words of the error", function()
    box:inside [[
      local _, message = lunad.spawn { "/no/such/command", "argument" }
      equal("ENOENT: no such file or directory: /no/such/command", message)
      _, message = lunad.spawn { "true", cwd = "/no/such/directory" }
      truthy(message:find("/no/such/directory", 1, true), message)
    ]]
  end)

  it("that cannot be executed leaves nothing behind", function()
    box:inside [[
      lunad.exec { "true" }
      local fds = lunad.stats().fds
      for _ = 1, 100 do
        fails("ENOENT", lunad.spawn { "/no/such", stdin = "pipe", stderr = print })
        fails("EBADF", lunad.spawn { "true", stdin = "pipe", stdout = 999 })
      end
      equal(0, #lunad.stats().children)
      lunad.sleep(0)
      equal(fds, lunad.stats().fds)
    ]]
  end)
end)

describe("The end of a child", function()
  local box = support.with_box(before_each, after_each)

  local EXITS = COLLECT .. [[
  local function is(ok, code, signal, command)
    local exit = shell(command).exit
    equal(ok, exit.ok)
    equal(code, exit.code)
    equal(signal, exit.signal)
    equal("boolean", type(exit.core))
    truthy(exit.seconds >= 0 and exit.seconds < 20)
    equal(false, exit.timed_out)
  end
  ]]

  it("is reported as ok, code or signal, core, seconds and timed_out", function()
    box:inside(EXITS .. [[
      is(true, 0, nil, "exit 0")
      is(false, 1, nil, "exit 1")
      is(false, 255, nil, "exit 255")
      is(false, 127, nil, "exit 127")
      is(false, nil, "TERM", "kill $$")
      is(false, nil, "KILL", "kill -9 $$")
      is(false, nil, "USR1", "kill -USR1 $$")
    ]])
  end)

  it("has the number of seconds that it ran", function()
    box:inside(COLLECT .. [[
      truthy(collect({ "sleep", "0.1" }).exit.seconds >= 0.1)
    ]])
  end)

  it("calls on_exit once, with exit and child, after the last chunk and fn(nil) of both streams", function()
    box:inside(COLLECT .. [[
      for _, command in ipairs { "true", "echo a", "echo a; sleep 0.01; echo b; echo c >&2",
          "exec >&-; sleep 0.01" } do
        local got = shell(command)
        lunad.sleep(0.002)
        local order = table.concat(got.order, " ")
        equal(2, select(2, order:gsub(" end", "")))
        equal(1, select(2, order:gsub("exit", "")))
        truthy(order:find("exit$"), order)
        truthy(not order:find("out end.* out ") and not order:find("err end.* err "), order)
        equal(got.started, got.child)
      end
    ]])
  end)

  it("comes after a callback that still sleeps, and callbacks come one after the other", function()
    box:inside [[
      local inside, order = 0, {}
      local function slow(chunk)
        inside = inside + 1
        equal(1, inside)
        lunad.sleep(0.01)
        inside = inside - 1
        order[#order + 1] = chunk and chunk:gsub("\n", "") or "end"
      end
      lunad.spawn { "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.003; done", stdout = slow,
        on_exit = function() equal(0, inside); order[#order + 1] = "exit" end }
      eventually(function() return order[#order] == "exit" end)
      equal("12345678endexit", table.concat(order))
    ]]
  end)

  it("comes after both streams when both callbacks sleep", function()
    box:inside [[
      local done, exit = {}, nil
      local function slow(name, seconds)
        return function(chunk)
          lunad.sleep(seconds)
          done[#done + 1] = name .. (chunk and "" or " end")
        end
      end
      lunad.spawn { "sh", "-c", "echo x; echo y >&2", stdout = slow("out", 0.02),
        stderr = slow("err", 0.04), on_exit = function() exit = done; done = nil end }
      eventually(function() return exit end)
      table.sort(exit)
      equal("err,err end,out,out end", table.concat(exit, ","))
    ]]
  end)

  it("comes after an error in a callback, and so does further output", function()
    local result = box:inside([[
      eventually(function() return lunad.stats().ready end)
      local chunks, exit = {}, nil
      lunad.spawn { "sh", "-c", "echo a; sleep 0.02; echo b",
        stdout = function(chunk) chunks[#chunks + 1] = chunk or "end"; error("in a callback") end,
        on_exit = function() exit = true; error("in on_exit") end }
      eventually(function() return exit end)
      equal("a\nb\nend", table.concat(chunks))
    ]], { errors = true })
    assert.equal(3, select(2, result.err:gsub("uncaught error in a stdout callback", "")))
    assert.truthy(result.err:find("uncaught error in an on_exit callback: [^\n]*in on_exit"))
  end)

  it("is returned by wait too, to all that wait, and after the end", function()
    box:inside [[
      local child = lunad.spawn { "sh", "-c", "sleep 0.02; exit 4" }
      equal(true, child:running())
      local codes = {}
      for i = 1, 3 do
        lunad.task(function() codes[i] = child:wait().code end)
      end
      equal(4, child:wait().code)
      equal(false, child:running())
      eventually(function() return #codes == 3 end)
      equal("4,4,4", table.concat(codes, ","))
      local exit = child:wait()
      equal(false, exit.ok)
      equal(nil, exit.signal)
      equal("boolean", type(exit.core))
    ]]
  end)

  it("has all of its output, even if others take the loop's time for a second after that", function()
    box:inside [[
      local function hold()
        local ending = lunad.now() + 0.3
        repeat until lunad.now() > ending
      end
      for _ = 1, 8 do
        lunad.spawn { "sh", "-c", "while :; do echo x; sleep 0.01; done", stdout = hold }
      end
      local size, over = 0, false
      lunad.after(0.1, function()
        lunad.spawn { "sh", "-c", "echo begins; sleep 0.2; head -c 59993 /dev/zero",
          stdout = function(chunk) size = size + #(chunk or "") end, on_exit = function() over = true end }
      end)
      eventually(function() return over end)
      equal(60000, size)
      os.exit(0)
    ]]
  end)

  it("waits no longer than a second for a grandchild that holds the streams", function()
    box:inside(COLLECT .. [[
      local start = lunad.now()
      local got = shell("(sleep 0.05; echo late; exec sleep 100) & echo early; exit 5")
      truthy(lunad.now() - start >= 0.99, "the streams were given up early")
      equal(5, got.exit.code)
      equal("early\nlate\n", got.out)
      equal("exit", got.order[#got.order])
      equal(2, select(2, table.concat(got.order, " "):gsub(" end", "")))
      truthy(got.exit.seconds < lunad.now() - start - 0.5, "seconds count the waiting")
    ]])
  end)

  it("comes at once when the streams go elsewhere", function()
    box:inside(COLLECT .. [[
      local got = shell("sleep 100 & exit 0", { stdout = "null", stderr = "null" })
      equal(true, got.exit.ok)
      equal(1, #got.order)
    ]])
  end)

  it("is not missed for any of many children, however short they live", function()
    box:inside [[
      local fds, right, running = lunad.stats().fds, 0, 0
      for i = 1, 300 do
        eventually(function() return running < 50 end)
        running = running + 1
        local function on_exit(exit)
          running = running - 1
          right = right + (exit.code == i % 100 and 1 or 0)
        end
        lunad.spawn { "sh", "-c", "exit " .. i % 100, stderr = "null", on_exit = on_exit }
      end
      eventually(function() return running == 0 end)
      equal(300, right)
      lunad.sleep(0)
      equal(fds, lunad.stats().fds)
    ]]
  end)
end)

describe("The streams of a child:", function()
  local box = support.with_box(before_each, after_each)

  it("stdin is null by default, and by name", function()
    box:inside(COLLECT .. [[
      for _, stdin in ipairs { false, "null" } do
        equal("/dev/null\n", shell("readlink /proc/self/fd/0; cat", { stdin = stdin or nil }).out)
      end
    ]])
  end)

  it("stdin = 'pipe' is written to with child:write", function()
    box:inside [[
      local out, done = "", false
      local child = lunad.spawn { "cat", stdin = "pipe",
        stdout = function(chunk) out = out .. (chunk or "") end, on_exit = function() done = true end }
      equal(true, child:write("one\n"))
      eventually(function() return out == "one\n" end)
      equal(true, child:write("two"))
      equal(true, child:write(3))
      equal(0, select("#", child:close_stdin()))
      eventually(function() return done end)
      equal("one\ntwo3", out)
    ]]
  end)

  it("stdin can be a descriptor", function()
    box:inside(COLLECT .. "equal('from outside', collect({ 'cat', stdin = 0 }).out)",
      { input = "from outside" })
  end)

  it("'log' writes lines to the log, with the source NAME/CHILD[PID], and is the default", function()
    local result = box:inside [[
      local command = "echo one; echo two >&2; printf rest"
      lunad.spawn { "sh", "-c", command }:wait()
      lunad.spawn { "sh", "-c", command, stdout = "log", stderr = "log", name = "named" }:wait()
      lunad.spawn { "/bin/echo", "x" }:wait()
    ]]
    for _, name in ipairs { "sh", "named" } do
      for _, word in ipairs { "one", "two", "rest" } do
        assert.truthy(result.err:find(("Z %%l+ +inside/%s%%[%%d+%%]: %s\n"):format(name, word)), word)
      end
    end
    assert.truthy(result.err:find("inside/echo%[%d+%]: x\n"))
  end)

  it("characters that a name must not have are replaced in the log", function()
    box:write("a b[1]:x", "#!/bin/sh\necho said\n")
    assert(support.uv.fs_chmod(box:path("a b[1]:x"), tonumber("755", 8)))
    local result = box:inside("lunad.spawn { './a b[1]:x' }:wait()")
    assert.truthy(result.err:find(" inside/a_b_1__x%[%d+%]: said\n"), result.err)
  end)

  it("'null' discards the output", function()
    local result = box:inside(COLLECT .. [[
      local got = shell("readlink /proc/self/fd/1; echo x; readlink /proc/self/fd/2 >&2",
        { stdout = "null", stderr = "null" })
      equal("exit", table.concat(got.order))
    ]])
    assert.equal("", result.out)
  end)

  it("'inherit' is the host's own", function()
    local result = box:inside(COLLECT .. [[
      shell("echo to stdout; echo to stderr >&2", { stdout = "inherit", stderr = "inherit" })
    ]])
    assert.equal("to stdout\n", result.out)
    assert.truthy(("\n" .. result.err):find("\nto stderr\n", 1, true))
  end)

  it("a descriptor is that descriptor", function()
    local result = box:inside(COLLECT .. [[
      shell("echo out; echo err >&2", { stdout = 2, stderr = 1 })
    ]])
    assert.equal("err\n", result.out)
    assert.truthy(("\n" .. result.err):find("\nout\n", 1, true))
  end)

  it("a descriptor that is not open is a returned error", function()
    box:inside [[
      for _, stream in ipairs { "stdin", "stdout", "stderr" } do
        fails("EBADF", lunad.spawn { "true", [stream] = 777 })
      end
    ]]
  end)

  it("a function gets chunks, and nil at the end", function()
    box:inside(COLLECT .. [[
      local got = shell("printf out; printf err >&2")
      equal("out", got.out)
      equal("err", got.err)
      local arguments = {}
      shell("printf x", { stdout = function(...) arguments[#arguments + 1] = table.pack(...) end })
      equal(2, #arguments)
      equal(1, arguments[1].n)
      equal("x", arguments[1][1])
      equal(1, arguments[2].n)
      equal(nil, arguments[2][1])
    ]])
  end)

  it("functions may be callable tables", function()
    box:inside [[
      local seen = {}
      local function callable(name)
        return setmetatable({}, { __call = function(_, value) seen[name] = value or seen[name] end })
      end
      lunad.spawn { "sh", "-c", "echo o; echo e >&2", stdout = callable("out"), stderr = callable("err"),
        on_exit = callable("exit") }
      eventually(function() return seen.exit end)
      equal("o\n", seen.out)
      equal("e\n", seen.err)
      equal(true, seen.exit.ok)
    ]]
  end)

  it("stderr = 'stdout' joins them, wherever stdout goes", function()
    local result = box:inside(COLLECT .. [[
      local both = "printf 1; printf 2 >&2; printf 3; readlink /proc/self/fd/1; readlink /proc/self/fd/2 >&2"
      local got = shell(both, { stderr = "stdout" })
      truthy(got.out:find("^123"))
      equal("out end,exit", table.concat(got.order, ",", #got.order - 1))
      shell("echo out; echo err >&2", { stdout = "inherit", stderr = "stdout" })
      shell("echo out; echo err >&2", { stdout = 1, stderr = "stdout" })
      shell("echo to log >&2", { stdout = "log", stderr = "stdout" })
      shell("echo nowhere >&2", { stdout = "null", stderr = "stdout" })
    ]])
    assert.equal("out\nerr\nout\nerr\n", result.out)
    assert.truthy(result.err:find("inside/sh%[%d+%]: to log\n"))
    assert.falsy(result.err:find("nowhere", 1, true))
  end)

  it("output of megabytes comes whole and in order", function()
    box:inside(COLLECT .. [[
      local got = shell("seq 1 300000")
      local expected = 0
      for number in got.out:gmatch("%d+") do expected = expected + 1; equal(expected, tonumber(number)) end
      equal(300000, expected)
    ]])
  end)
end)

describe("The environment of a child:", function()
  local box = support.with_box(before_each, after_each)

  it("cwd is its working directory, else the host's", function()
    box:inside(COLLECT .. [[
      equal("/\n", collect({ "pwd", cwd = "/" }).out)
      equal("/usr\n", collect({ "pwd", cwd = "/usr/bin/.." }).out)
      fails("ENOENT", lunad.spawn { "pwd", cwd = "/no/such" })
      fails("ENOTDIR", lunad.spawn { "pwd", cwd = "/etc/passwd" })
      fails("ENOENT", lunad.spawn { "pwd", cwd = "" })
    ]])
  end)

  it("without cwd it is where the host is", function()
    box:inside(COLLECT .. ("equal(%q, collect({ 'pwd' }).out)"):format(box.dir .. "\n"))
  end)

  it("env adds and replaces", function()
    box:inside(COLLECT .. [[
      local got = shell("echo $KEPT $ADDED $CHANGED; env | grep -c ^CHANGED=",
        { env = { ADDED = "added", CHANGED = "new", NUMBER = 5 } })
      equal("kept added new\n1\n", got.out)
    ]], { env = { KEPT = "kept", CHANGED = "old" } })
  end)

  it("env does not change the host's own environment", function()
    box:inside(COLLECT .. [[
      shell("true", { env = { ADDED = "added" } })
      equal(nil, os.getenv("ADDED"))
      equal("[]\n", shell("echo [$ADDED]").out)
    ]])
  end)

  it("clear_env starts empty", function()
    box:inside(COLLECT .. [[
      equal("", collect({ "env", clear_env = true }).out)
      local out = collect({ "env", clear_env = true, env = { A = "b c", EMPTY = "" } }).out
      truthy(out == "A=b c\nEMPTY=\n" or out == "EMPTY=\nA=b c\n", out)
      truthy(#collect({ "env", clear_env = false }).out > 0)
    ]], { env = { KEPT = "kept" } })
  end)

  it("it leads its own process group, in the host's session", function()
    box:inside(COLLECT .. [[
      local got = shell("cat /proc/$$/stat; cat /proc/$PPID/stat")
      local pid, group, session = got.out:match("^(%d+) %(.-%) %a %d+ (%d+) (%d+)")
      local host, host_group, host_session = got.out:match("\n(%d+) %(.-%) %a %d+ (%d+) (%d+)")
      equal(got.started.pid, tonumber(pid))
      equal(pid, group)
      equal(lunad.pid, tonumber(host))
      truthy(group ~= host_group)
      equal(host_session, session)
    ]])
  end)

  it("it has default dispositions and an empty signal mask, whatever the host was given", function()
    box:write("hostile.lua", [[
      local lunad = require "lunad"
      lunad.signal("USR1", print)
      lunad.signal(50, print)
      lunad.spawn { "cat", "/proc/self/status", stdout = "inherit" }:wait()
      lunad.sleep(0)
      lunad.stop()
    ]])
    local words = { "--ignore-signal", "--block-signal", support.binary, "run", box:path("hostile.lua") }
    local result = box:run(words, { program = "/usr/bin/env" })
    assert.equal(0, result.code, result.err)
    for _, set in ipairs { "SigBlk", "SigIgn", "SigCgt" } do
      assert.equal("0000000000000000", result.out:match(set .. ":%s+(%x+)"), set)
    end
  end)

  it("it inherits no descriptor of the host", function()
    box:inside(COLLECT .. [[
      local file, pipe = io.open("/dev/null"), io.popen("cat", "w")
      local other = lunad.spawn { "cat", stdin = "pipe" }
      local got = collect({ "sh", "-c", "ls /proc/$$/fd", stdin = "pipe" })
      file:close()
      pipe:close()
      other:close_stdin()
      equal("0\n1\n2\n", got.out)
    ]])
  end)

  it("it has the file mode mask of the host", function()
    box:inside(COLLECT .. "equal('0027\\n', shell('umask').out)", { args = { "--umask", "027" } })
  end)

  it("it dies if the host is killed, but not with detach", function()
    local process = box:spawn { "run", "-n", "victim", "-e", [[
      local lunad = require "lunad"
      local child = lunad.spawn { "sleep", "1000" }
      local detached = lunad.spawn { "sleep", "1000", detach = true }
      print(child.pid, detached.pid)
      lunad.sleep(1000)
    ]] }
    box:await(process, "the pids", function() return process.out():find("\n") end)
    local child, detached = process.out():match("(%d+)\t(%d+)")
    child, detached = math.tointeger(tonumber(child)), math.tointeger(tonumber(detached))
    support.kill(process.pid, "sigkill")
    support.wait_for("the end of the child", function() return not support.is_alive(child) end)
    assert.truthy(support.is_alive(detached))
    support.kill(detached, "sigkill")
    box:await(process, "the end of the host", function() return process.code end)
    box:lunad("stop", "victim")
  end)
end)

describe("detach", function()
  local box = support.with_box(before_each, after_each)

  it("gives the child its own session", function()
    box:inside(COLLECT .. [[
      local got = shell("cat /proc/$$/stat", { detach = true })
      local pid, group, session = got.out:match("^(%d+) %(.-%) %a %d+ (%d+) (%d+)")
      equal(pid, group)
      equal(pid, session)
      equal(true, got.exit.ok)
    ]])
  end)

  it("lets the child outlive a stop", function()
    box:start("-n", "host", box:write("host.lua", [[
      local lunad = require "lunad"
      local child = lunad.spawn { "sleep", "1000", detach = true }
      lunad.log.info("detached " .. child.pid)
      lunad.sleep(1000)
    ]]))
    local pid = math.tointeger(tonumber((box:wait_log("host", "detached (%d+)"))))
    box:ok("stop", "host")
    assert.truthy(support.is_alive(pid))
    support.kill(pid, "sigkill")
    support.wait_for("the end of the child", function() return not support.is_alive(pid) end)
  end)

  it("can be killed like any other", function()
    box:inside [[
      local child = lunad.spawn { "sh", "-c", "sleep 1000 & wait", detach = true }
      equal(true, child:kill("KILL"))
      equal("KILL", child:wait().signal)
    ]]
  end)
end)

describe("timeout and kill_after", function()
  local box = support.with_box(before_each, after_each)

  it("send TERM to the group after timeout seconds", function()
    box:inside(GONE .. COLLECT .. [[
      local got = shell("sleep 1000 & echo $!; wait", { timeout = 0.4 })
      equal("TERM", got.exit.signal)
      equal(true, got.exit.timed_out)
      equal(false, got.exit.ok)
      truthy(got.exit.seconds >= 0.4, "it timed out early")
      eventually(function() return gone(tonumber(got.out)) end)
    ]])
  end)

  it("send KILL kill_after seconds later, to the group", function()
    box:inside(GONE .. COLLECT .. [[
      local got = shell("trap '' TERM; sleep 1000 & echo $!; while :; do sleep 0.01; done",
        { timeout = 0.4, kill_after = 0.1 })
      equal("KILL", got.exit.signal)
      equal(true, got.exit.timed_out)
      truthy(got.exit.seconds >= 0.5, "it was killed early")
      eventually(function() return gone(tonumber(got.out)) end)
    ]])
  end)

  it("reach a child that was stopped", function()
    box:inside [[
      local child = lunad.spawn { "sleep", "1000", timeout = 0.1 }
      child:kill("STOP")
      equal("TERM", child:wait().signal)
    ]]
  end)

  it("do nothing to a child that ends in time", function()
    box:inside(COLLECT .. [[
      local got = shell("exit 3", { timeout = 50, kill_after = 0 })
      equal(3, got.exit.code)
      equal(false, got.exit.timed_out)
    ]])
  end)

  it("with kill_after = 0 kill at once", function()
    box:inside(COLLECT .. [[
      local got = shell("trap '' TERM; while :; do sleep 0.01; done", { timeout = 0.4, kill_after = 0 })
      equal("KILL", got.exit.signal)
    ]])
  end)
end)

describe("child:kill", function()
  local box = support.with_box(before_each, after_each)

  it("sends TERM, or another signal, and returns true", function()
    box:inside [[
      for signal, name in pairs { [false] = "TERM", INT = "INT", SIGHUP = "HUP", [9] = "KILL" } do
        local child = lunad.spawn { "sleep", "1000" }
        equal(1, select("#", child:kill(signal or nil)))
        equal(name, child:wait().signal)
      end
      local child = lunad.spawn { "sleep", "1000" }
      equal(true, child:kill(0))
      child:kill()
      child:wait()
    ]]
  end)

  it("reaches the whole process group", function()
    box:inside(GONE .. [[
      local out = ""
      local child = lunad.spawn { "sh", "-c", "sleep 1000 & echo $!; wait",
        stdout = function(chunk) out = out .. (chunk or "") end }
      eventually(function() return out:find("\n") end)
      equal(true, child:kill())
      child:wait()
      eventually(function() return gone(tonumber(out)) end)
    ]])
  end)

  it("after the end sends nothing and returns ESRCH", function()
    box:inside [[
      local child = lunad.spawn { "true" }
      child:wait()
      fails("ESRCH", child:kill())
      fails("ESRCH", child:kill(0))
      fails("ESRCH", child:kill("KILL"))
    ]]
  end)

  it("after the end, while a grandchild holds the streams, returns ESRCH as well", function()
    box:inside [[
      local child = lunad.spawn { "sh", "-c", "sleep 1000 & exit 0" }
      eventually(function() return not child:running() end)
      fails("ESRCH", child:kill())
      equal(true, child:wait().ok)
    ]]
  end)
end)

describe("child:write, flush and close_stdin", function()
  local box = support.with_box(before_each, after_each)

  it("carry every byte, in order, however much and however slow the reader", function()
    box:inside(HELD .. [[
      local out, parts = {}, {}
      local child = held("cat", { stdout = function(chunk) out[#out + 1] = chunk end })
      for i = 1, 400 do
        parts[i] = string.rep(string.char(i % 256), i * 50)
        equal(true, child:write(parts[i]))
      end
      child:close_stdin()
      child:kill("CONT")
      equal(true, child:wait().ok)
      truthy(table.concat(parts) == table.concat(out), "it came back changed")
    ]])
  end)

  it("write takes the empty string", function()
    box:inside [[
      local child = lunad.spawn { "wc", "-c", stdin = "pipe", stdout = function(chunk)
        if chunk then equal(0, tonumber(chunk)) end
      end }
      equal(true, child:write(""))
      equal(true, child:flush())
      child:close_stdin()
      equal(true, child:wait().ok)
    ]]
  end)

  it("flush returns true when all is written, at once if it is", function()
    box:inside(HELD .. [[
      local got = 0
      local child = held("cat", { stdout = function(chunk) got = got + #(chunk or "") end })
      equal(true, child:flush())
      child:write(("x"):rep(1000000))
      lunad.after(0.01, function() child:kill("CONT") end)
      equal(1, select("#", child:flush()))
      truthy(got > 500000, "it was not written yet")
      child:close_stdin()
      equal(true, child:flush())
      equal(true, child:wait().ok)
      equal(1000000, got)
      equal(true, child:flush())
    ]])
  end)

  it("flush wakes all that wait", function()
    box:inside(HELD .. [[
      local done, child = 0, held("cat >/dev/null")
      child:write(("x"):rep(1000000))
      for _ = 1, 3 do lunad.task(function() equal(true, child:flush()); done = done + 1 end) end
      equal(0, done)
      child:kill("CONT")
      eventually(function() return done == 3 end)
      child:close_stdin()
      child:wait()
    ]])
  end)

  it("write to a child that has ended returns EPIPE, and flush returns nil, message and code", function()
    box:inside [[
      local child = lunad.spawn { "true", stdin = "pipe" }
      child:wait()
      fails("EPIPE", child:write("x"))
      fails("EPIPE", child:flush())
    ]]
  end)

  it("to a child that has closed its stdin fail with EPIPE, and do not raise", function()
    box:inside [[
      local closed = false
      local child = lunad.spawn { "sh", "-c", "exec <&-; echo closed; sleep 1000", stdin = "pipe",
        stdout = function() closed = true end }
      eventually(function() return closed end)
      fails("EPIPE", child:write("x"))
      fails("EPIPE", child:write("x"))
      fails("EPIPE", child:flush())
      child:kill()
      child:wait()
    ]]
  end)

  it("flush returns nil, message and code when the child ends before everything is written", function()
    box:inside [[
      local child = lunad.spawn { "sleep", "1000", stdin = "pipe" }
      child:write(("x"):rep(1000000))
      lunad.after(0.02, function() child:kill() end)
      fails("EPIPE", child:flush())
      equal("TERM", child:wait().signal)
    ]]
  end)

  it("write after close_stdin raises, a second close_stdin does nothing", function()
    box:inside [[
      local child = lunad.spawn { "cat", stdin = "pipe" }
      child:close_stdin()
      child:close_stdin()
      raises("close_stdin", child.write, child, "x")
      equal(true, child:wait().ok)
      child:close_stdin()
      raises("close_stdin", child.write, child, "x")
    ]]
  end)

  it("raise where stdin is not a pipe", function()
    box:inside [[
      local child = lunad.spawn { "sleep", "1000" }
      for _, method in ipairs { "write", "flush", "close_stdin" } do
        truthy(raises("pipe", child[method], child, "x"):find(method))
      end
      child:kill()
      child:wait()
    ]]
  end)
end)

describe("child:pause and resume", function()
  local box = support.with_box(before_each, after_each)

  it("hold the output back, and release it", function()
    box:inside [[
      local got, child = 0, nil
      child = lunad.spawn { "head", "-c", "5000000", "/dev/zero", stdout = function(chunk)
        if got == 0 then child:pause() end
        got = got + #(chunk or "")
      end }
      eventually(function() return got > 0 end)
      local first = got
      for _ = 1, 5 do lunad.sleep(0.005) end
      equal(first, got)
      equal(true, child:running())
      equal(0, select("#", child:resume()))
      equal(true, child:wait().ok)
      equal(5000000, got)
    ]]
  end)

  it("lose nothing of a child that ended meanwhile", function()
    box:inside [[
      local out = ""
      local child = lunad.spawn { "sh", "-c", "echo o; echo e >&2; exit 3",
        stdout = function(chunk) out = out .. (chunk or "") end,
        stderr = function(chunk) out = out .. (chunk or "") end }
      child:pause()
      child:pause()
      eventually(function() return not child:running() end)
      lunad.sleep(0.01)
      equal("", out)
      child:resume()
      equal(3, child:wait().code)
      equal(4, #out)
    ]]
  end)

  it("work for output that goes to the log", function()
    local result = box:inside [[
      local child = lunad.spawn { "echo", "held" }
      child:pause()
      eventually(function() return not child:running() end)
      lunad.log.info("before")
      child:resume()
      child:wait()
    ]]
    assert.truthy(result.err:find("before\n[^\n]*held\n"), result.err)
  end)

  it("do nothing after the end, and when called twice", function()
    box:inside [[
      local child = lunad.spawn { "true" }
      child:resume()
      child:pause()
      child:pause()
      child:resume()
      child:resume()
      child:wait()
      child:pause()
      child:resume()
    ]]
  end)

  it("do not undo the holding back while a callback sleeps", function()
    box:inside [[
      local inside, chunks, child = 0, 0, nil
      child = lunad.spawn { "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.002; done",
        stdout = function()
          inside = inside + 1
          equal(1, inside)
          child:pause()
          child:resume()
          lunad.sleep(0.01)
          inside = inside - 1
          chunks = chunks + 1
        end }
      child:wait()
      truthy(chunks >= 2)
    ]]
  end)
end)

describe("At a stop", function()
  local box = support.with_box(before_each, after_each)

  -- Stops a daemon whose script is `text`, once it has logged "up"; returns its log.
  local function stop(text)
    box:start("-n", "host", box:write("host.lua", "local lunad = require 'lunad' " .. text))
    box:wait_log("host", "up")
    local start = support.uv.hrtime()
    box:ok("stop", "host")
    assert.truthy(support.uv.hrtime() - start < 8e9, "the stop took as long as its deadline")
    return box:log("host")
  end

  it("children end", function()
    stop [[
      lunad.spawn { "sleep", "1000" }
      lunad.task(lunad.exec, { "sh", "-c", "sleep 1000 & wait" })
      lunad.log.info("up")
      lunad.sleep(1000)
    ]]
  end)

  it("children that on_exit starts again do not hold it up", function()
    local log = stop [[
      local function start() lunad.spawn { "sleep", "1000", on_exit = function() start() end } end
      start()
      lunad.log.info("up")
    ]]
    assert.falsy(log:find("could not be ended", 1, true))
  end)

  it("commands that a loop runs again do not hold it up", function()
    local log = stop [[
      lunad.log.info("up")
      while true do lunad.exec { "sleep", "1000" } end
    ]]
    assert.falsy(log:find("could not be ended", 1, true))
  end)
end)

describe("A child", function()
  local box = support.with_box(before_each, after_each)

  it("has pid, name and running", function()
    box:inside [[
      local child = lunad.spawn { "/bin/sleep", "1000" }
      equal("integer", math.type(child.pid))
      equal("sleep", child.name)
      equal(true, child:running())
      child:kill()
      child:wait()
      equal(false, child:running())
      equal("integer", math.type(child.pid))
      equal("sleep", child.name)
      equal("x.y-z_1", lunad.spawn { "true", name = "x.y-z_1" }.name)
      equal(nil, child.nothing)
    ]]
  end)

  it("keeps running when its handle is dropped, and its callbacks are called", function()
    box:inside [[
      local weak, out, exit = setmetatable({}, { __mode = "v" }), "", nil
      local function start()
        weak.child = lunad.spawn { "sh", "-c", "sleep 0.03; echo x",
          stdout = function(chunk) out = out .. (chunk or "") end, on_exit = function(e) exit = e end }
      end
      start()
      eventually(function() collectgarbage() return exit end)
      equal("x\n", out)
      lunad.sleep(0)
      collectgarbage()
      collectgarbage()
      equal(nil, weak.child)
    ]]
  end)

  it("keeps the script alive until it has ended", function()
    local result = box:inside "lunad.spawn { 'sh', '-c', 'sleep 0.05; echo ended', stdout = 'inherit' }"
    assert.equal("ended\n", result.out)
  end)

  it("may be started, waited for and killed from the callbacks of another", function()
    box:inside [[
      local order = {}
      lunad.spawn { "echo", "first", stdout = function(chunk)
        if chunk then order[#order + 1] = lunad.exec { "echo", "inner" }.stdout end
      end, on_exit = function()
        local second = lunad.spawn { "sleep", "1000" }
        second:kill("KILL")
        order[#order + 1] = second:wait().signal
      end }
      eventually(function() return #order == 2 end)
      equal("inner\nKILL", table.concat(order))
    ]]
  end)

  it("has a name and a state as text, and a locked metatable", function()
    box:inside [[
      local child = lunad.spawn { "true" }
      truthy(tostring(child):find(child.pid, 1, true))
      child:wait()
      truthy(tostring(child):find("true", 1, true))
      equal("locked", getmetatable(child))
    ]]
  end)
end)

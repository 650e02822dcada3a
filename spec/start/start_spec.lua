-- lunad start: what a daemon is, when it is ready, and how a start fails.

local support = require "support"
local uv = support.uv

-- The fields of /proc/PID/stat after the name.
local function stat(pid)
  local state, ppid, group, session, tty =
    support.read(("/proc/%d/stat"):format(pid)):match("^.*%) (%a) (%d+) (%d+) (%d+) (%-?%d+)")
  return { state = state, ppid = tonumber(ppid), group = tonumber(group), session = tonumber(session),
           tty = tonumber(tty) }
end

-- The parent that an orphan of ours gets: init, or a subreaper.
local function adopter(box)
  local result = box:shell([[
    (while [ -d /proc/$$ ] && ! grep -q '^State:.Z' /proc/$$/status 2>/dev/null; do :; done
     sed -n 's/^PPid:.//p' /proc/$BASHPID/status) &
  ]])
  return tonumber(result.out)
end

describe("lunad start", function()
  local box = support.with_box(before_each, after_each)

  it("says NAME: started (pid N) on stdout, and nothing else", function()
    local result = box:lunad("start", box:idle("x"))
    assert.equal(0, result.code)
    assert.equal("", result.err)
    local pid = result.out:match("^x: started %(pid (%d+)%)\n$")
    assert.equal(box:read("run/x.pid"), pid .. "\n")
    assert.equal(math.tointeger(tonumber(pid)), box:status("x").pid)
  end)

  it("returns when the chunk has returned, not before", function()
    local script = box:write("x.lua", [[
      local lunad = require "lunad"
      print "loading"
      while not io.open(os.getenv "FLAG") do end
      print "loaded"
      lunad.every(60, print)
    ]])
    local process = box:spawn { "start", "--env", "FLAG=" .. box:path "flag", script }
    box:wait_log("x", "x: loading")
    assert.is_falsy(process.is_over())
    box:write("flag", "")
    box:await(process, "the start", process.is_over)
    assert.equal(0, process.code)
    assert.truthy(box:log("x"):find("x: loaded", 1, true))
  end)

  it("returns when the chunk first suspends", function()
    box:start(box:write("x.lua", 'print "before" require("lunad").sleep(600) print "after"'))
    assert.truthy(box:log("x"):find("x: before", 1, true))
    assert.equal("running", box:status("x").state)
  end)

  it("gives the script its arguments", function()
    local script = box:write("x.lua", 'print(arg[0], #arg, ...) require("lunad").every(60, print)')
    box:start(script, "a b", "--umask")
    assert.truthy(box:log("x"):find(box:path("x.lua") .. "\t2\ta b\t--umask", 1, true))
  end)

  it("of a script that finishes at once says so and exits with 0", function()
    for _, text in ipairs { "", "return 5", 'print "done"', "#!/usr/bin/lunad run", "-- nothing" } do
      local result = box:lunad("start", box:write("x.lua", text))
      assert.equal("x: finished\n", result.out, text)
      assert.equal("", result.err, text)
      assert.equal(0, result.code, text)
      assert.same({}, box:left_files())
    end
  end)

  it("refuses - and -e, which are for run", function()
    assert.truthy(box:refused(2, "start", "-"):find("-", 1, true))
    box:refused(2, "start", "-e", "return")
  end)

  it("fails for the script before it checks whether one is running", function()
    box:start(box:idle("x"))
    box:write("x.lua", "x = = 1")
    assert.truthy(box:refused(1, "start", "x.lua"):find("x.lua:1:", 1, true))
    box:idle("x")
    assert.equal(1, box:lunad("start", "--chdir", "missing", "x.lua").code)
    box:refused(4, "start", "x.lua")
  end)

  it("does not run the script if the name is taken", function()
    box:start("--name", "n", box:idle("x"))
    local script = box:write("y.lua", ('io.open(%q, "w"):close()'):format(box:path("flag")))
    box:refused(4, "start", "--name", "n", script)
    assert.is_nil(box:read("flag"))
  end)
end)

describe("A daemon", function()
  local box = support.with_box(before_each, after_each)

  it("belongs to init, leads no session and has no terminal", function()
    local pid = box:start(box:idle("x"))
    local facts = stat(pid)
    assert.equal(adopter(box), facts.ppid)
    assert.not_equal(pid, facts.session)
    assert.not_equal(pid, facts.group)
    assert.equal(0, facts.tty)
    assert.not_equal(stat(uv.os_getpid()).session, facts.session)
    assert.same({ pid }, box:marked())
  end)

  it("shows the title lunad: NAME, and the name of the process begins so", function()
    local name = "a-daemon.with_a-rather-long-name"
    local pid = box:start("--name", name, box:idle("x"))
    local title = support.read(("/proc/%d/cmdline"):format(pid)):gsub("%z+$", "")
    assert.equal("lunad: " .. name, title)
    assert.equal(("lunad: " .. name):sub(1, 15), support.proc_status(pid).Name)
  end)

  it("has stdin from /dev/null, and stdout and stderr in the log", function()
    local pid = box:start(box:idle("x"))
    local function descriptor(n) return uv.fs_readlink(("/proc/%d/fd/%d"):format(pid, n)) end
    assert.equal("/dev/null", descriptor(0))
    assert.equal(box:path("log/x.log"), descriptor(1))
    assert.equal(box:path("log/x.log"), descriptor(2))
  end)

  it("has everything that it prints in the log, however it prints", function()
    box:start(box:write("x.lua", [[
      print("by print") io.write("by write\n") io.stderr:write("by stderr\n")
      os.execute("echo by execute; echo by its stderr >&2")
      require("lunad").every(60, print)
    ]]))
    for _, way in ipairs { "print", "write", "stderr", "execute", "its stderr" } do
      assert.truthy(box:log("x"):find("by " .. way .. "\n", 1, true), way)
    end
  end)

  it("blocks and ignores no signal", function()
    local status = support.proc_status(box:start(box:idle("x")))
    assert.equal(("0"):rep(16), status.SigBlk)
    assert.equal(("0"):rep(16), status.SigIgn)
  end)

  it("leaves nothing when its script finishes later", function()
    local pid = box:start(box:write("x.lua", 'require("lunad").sleep(0.02)'))
    support.wait_for("its end", function() return not support.is_alive(pid) end)
    assert.truthy(box:log("x"):find("finished", 1, true))
    assert.same({}, box:left_files())
  end)
end)

describe("A failed start", function()
  local box = support.with_box(before_each, after_each)

  -- Start the text, which must fail with 1 and leave nothing; what was said on stderr.
  local function fail(text, ...)
    box:write("x.lua", text)
    local words = { "start", ... }
    words[#words + 1] = "x.lua"
    local result = box:run(words)
    assert.equal(1, result.code, result.err)
    assert.equal("", result.out)
    assert.equal("lunad: ", result.err:sub(1, 7))
    assert.same({}, box:left_files())
    assert.same({}, box:marked())
    return result.err
  end

  it("shows file and line of what does not compile, and makes no log", function()
    assert.truthy(fail("local a\nlocal b = = 1"):find("x.lua:2:", 1, true))
    assert.is_nil(uv.fs_stat(box:path("log")))
  end)

  it("shows an error with the traceback, and logs it too", function()
    local err = fail("local function inner() error('boom') end\nlocal function outer() inner() end\nouter()")
    local at = box:path("x.lua")
    assert.equal(1, err:find("lunad: " .. at .. ":1: boom\nstack traceback:\n", 1, true), err)
    assert.truthy(err:find(at .. ":1: in upvalue 'inner'\n\t" .. at .. ":2: in local 'outer'", 1, true), err)
    assert.truthy(err:find(at .. ":3: in main chunk", 1, true), err)
    assert.truthy(box:log("x"):find(":1: boom\n    stack traceback:", 1, true))
  end)

  it("has a message, whatever was raised", function()
    for _, what in ipairs { "nil", "{}", "42", "true", "print", "io.stdout", '""',
                            'setmetatable({}, { __tostring = function() error "no" end })',
                            'setmetatable({}, { __tostring = function() return 1 end })' } do
      local err = fail("error(" .. what .. ")")
      assert.truthy(err:find("^lunad: %S") or err:find("^lunad: \n"), what)
      assert.truthy(err:find("x.lua:1: in main chunk", 1, true), what .. ": " .. err)
    end
    assert.truthy(fail('error(setmetatable({}, { __tostring = function() return "own words" end }))')
      :find("own words", 1, true))
  end)

  it("shows the traceback though the message has bytes of any kind", function()
    local err = fail('error("zero \\0 byte and \\xFF")')
    assert.truthy(err:find("x.lua:1: zero ", 1, true), err)
    assert.truthy(err:find("x.lua:1: in main chunk", 1, true), err)
  end)

  it("shows an error in a module that the script requires", function()
    box:write("broken.lua", "x = = 1")
    assert.truthy(fail('require "broken"'):find("broken.lua:1:", 1, true))
    assert.truthy(fail('require "missing.module"'):find("module 'missing.module' not found", 1, true))
  end)

  it("shows an error of a task or an error deep down", function()
    assert.truthy(fail('local function f() return 1 + f() end f()'):find("stack overflow", 1, true))
    assert.truthy(fail('require("lunad").task(function() error("in task") end)'):find("in task", 1, true))
  end)

  it("is a script that is missing, a directory, not text or not a file", function()
    local function refused(script, words)
      local err = box:refused(1, "start", "--name", "x", script)
      assert.truthy(err:find(words, 1, true), err)
    end
    refused("missing.lua", box:path("missing.lua"))
    refused(".", "directory")
    refused("/dev/zero", "/dev/zero")
    refused(box:write("nul.lua", ("\0"):rep(4096)), "nul.lua:1:")
    refused(box:write("code.lua", string.dump(load("return 1"))), "bytecode")
    refused(box:write("truncated.lua", "\27"), "bytecode")
    assert.is_nil(uv.fs_stat(box:path("run/x.pid")))
  end)

  it("is a script that cannot be read, or waits for a writer", function()
    assert(uv.fs_symlink("nowhere", box:path("dangling.lua")))
    assert.equal(0, box:run({ box:path("fifo.lua") }, { program = "mkfifo" }).code)
    assert.truthy(box:refused(1, "start", "dangling.lua"):find("dangling.lua", 1, true))
    assert.truthy(box:refused(1, "start", "fifo.lua"):find("fifo.lua", 1, true))
  end)

  it("is a script that would run as root and that others may write", function()
    if not support.is_root then return pending("needs root") end
    local script = box:idle("x")
    assert(uv.fs_chown(script, 0, 1)) -- root's own group might write
    for _, mode in ipairs { "664", "646", "666" } do
      assert(uv.fs_chmod(script, tonumber(mode, 8)))
      assert.truthy(box:refused(1, "start", script):find("write", 1, true))
      assert.equal(1, box:lunad("run", script).code)
    end
    assert(uv.fs_chmod(script, tonumber("644", 8)))
    assert(uv.fs_chown(script, 65534, 65534)) -- its owner may
    box:start(script)
  end)

  it("is a stop before ready", function()
    for _, call in ipairs { "lunad.stop()", "lunad.stop(0)", "os.exit()", "os.exit(0)", "os.exit(true)" } do
      local err = fail('local lunad = require "lunad" lunad.every(60, print) ' .. call)
      assert.truthy(err:find("before it was ready", 1, true), call)
    end
  end)

  it("is an os.exit(0) deep in the chunk, after which nothing of it runs", function()
    fail(([[
      pcall(function() os.exit(0) end)
      io.open(%q, "w"):close()
    ]]):format(box:path("flag")))
    assert.is_nil(box:read("flag"))
  end)

  it("is a daemon that is killed before it is ready", function()
    local err = fail('os.execute("kill -KILL $PPID; while :; do :; done")')
    assert.truthy(err:find("died before it was ready", 1, true), err)
    assert.truthy(err:find(box:path("log/x.log"), 1, true), err)
  end)

  it("leaves no process that the script has started", function()
    fail([[
      local lunad = require "lunad"
      lunad.spawn { "sleep", "300" }
      os.execute("setsid sleep 301 & (sleep 302 &)")
      io.popen("sleep 303")
      error("enough")
    ]])
  end)

  it("does not run on_stop functions, because there was no service", function()
    fail('require("lunad").on_stop(function() print "stopping" end) error("boom")')
    assert.is_nil(box:log("x"):find("stopping", 1, true))
  end)

  it("says that the working directory was removed", function()
    local script = box:idle("x")
    local result = box:shell('mkdir gone; cd gone; rmdir ../gone; "$1" start "$2"', { script })
    assert.is_nil(result.err:find("memory", 1, true), result.err)
    assert.truthy(result.code == 0 or result.err:find("No such file", 1, true), result.err)
  end)
end)

describe("The start timeout", function()
  local box = support.with_box(before_each, after_each)

  local function fail(text)
    local result = box:lunad("start", "--wait-ready", "--start-timeout", "0.2", box:write("x.lua", text))
    assert.equal(1, result.code)
    assert.equal("", result.out)
    assert.same({}, box:left_files())
    assert.same({}, box:marked())
    return result.err
  end

  it("ends a start whose chunk is busy, with the traceback of where", function()
    local err = fail("local function spin() while true do end end\nspin()")
    assert.truthy(err:find("^lunad: .*0%.2 s"), err)
    assert.truthy(err:find("x.lua:1: in .*spin.*x.lua:2: in main chunk"), err)
  end)

  it("ends a start whose chunk keeps catching errors", function()
    local err = fail("while true do pcall(function() while true do end end) end")
    assert.truthy(err:find("0.2 s", 1, true), err)
  end)

  it("ends a start that never becomes ready", function()
    assert.truthy(fail('require("lunad").every(60, print)'):find("not ready after 0.2 s", 1, true))
    assert.truthy(fail('require("lunad").sleep(600)'):find("not ready after 0.2 s", 1, true))
  end)

  it("ends a start that is stuck in C, with what that has started", function()
    assert.truthy(fail('os.execute("sleep 301 & exec sleep 300")'):find("not ready after 0.2 s", 1, true))
  end)
end)

describe("--wait-ready", function()
  local box = support.with_box(before_each, after_each)

  it("makes start wait for lunad.ready()", function()
    box:start("--wait-ready", box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.after(0.05, function() print "now" lunad.ready() end)
      lunad.every(60, print)
    ]]))
    assert.truthy(box:log("x"):find("x: now", 1, true))
    assert.is_true(box:status("x").ready)
  end)

  it("shows a daemon that is starting as such", function()
    local starting = box:spawn { "start", "--wait-ready", box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.signal("WINCH", lunad.ready)
    ]]) }
    support.wait_for("a report", function() return box:lunad("status", "--json", "x").code == 0 end)
    assert.equal("starting", box:status("x").state)
    assert.is_false(box:status("x").ready)
    box:ok("signal", "x", "WINCH")
    box:await(starting, "the start", starting.is_over)
    assert.equal(0, starting.code)
  end)

  it("fails if the script ends before it calls lunad.ready()", function()
    local script = box:write("x.lua", 'require("lunad").sleep(0.01)')
    assert.truthy(box:refused(1, "start", "--wait-ready", script):find("lunad.ready()", 1, true))
    assert.equal(1, box:lunad("run", "--wait-ready", script).code)
    assert.same({}, box:left_files())
  end)

  it("fails if a callback or the chunk fails before that", function()
    for _, text in ipairs { 'require("lunad").sleep(0.01) error("boom")',
                            'require("lunad").every(0.01, function() error("boom") end)' } do
      local err = box:refused(1, "start", "--wait-ready", box:write("x.lua", text))
      assert.truthy(err:find("boom\nstack traceback:", 1, true), err)
    end
  end)

  it("fails if the script is stopped before that, from within or without", function()
    local script = box:write("x.lua", 'local l = require "lunad" l.sleep(0.01) l.stop()')
    assert.truthy(box:refused(1, "start", "--wait-ready", script):find("before it was ready", 1, true))
    local starting = box:spawn { "start", "--wait-ready", box:idle("x") }
    support.wait_for("a report", function() return box:lunad("status", "x").code == 0 end)
    box:ok("stop", "x")
    box:await(starting, "the start", starting.is_over)
    assert.equal(1, starting.code)
    assert.truthy(starting.err():find("^lunad: .*before it was ready"), starting.err())
  end)

  it("accepts lunad.ready() in the chunk, finished or not", function()
    local script = box:write("x.lua", 'require("lunad").ready()')
    assert.equal("x: finished\n", box:ok("start", "--wait-ready", script))
    box:start("--wait-ready", box:write("x.lua", 'local l = require "lunad" l.ready() l.every(60, print)'))
  end)
end)

-- "Ready is when the chunk first gives control back": what happens in a callback is after it.
describe("Once the chunk has given control back", function()
  local box = support.with_box(before_each, after_each)

  it("an error in a callback that is due at once does not fail the start", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.after(0, function() error("late") end)
      lunad.every(60, print)
    ]]))
    box:wait_log("x", "late\n    stack traceback:")
    assert.equal("running", box:status("x").state)
  end)

  it("an error in the chunk after its first sleep does not fail the start", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.every(60, print)
      lunad.sleep(0)
      error("late")
    ]]))
    box:wait_log("x", "late\n    stack traceback:")
    assert.equal("running", box:status("x").state)
  end)

  it("a stop in a callback that is due at once does not fail the start", function()
    local result = box:lunad("start", box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.after(0, function() lunad.stop() end)
      lunad.every(60, print)
    ]]))
    assert.equal(0, result.code, result.err)
    support.wait_for("its end", function() return #box:left_files() == 0 end)
  end)

  it("a beat that was missed by a slow chunk does not fail the start", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.every(0.01, function() error("late") end)
      local start = lunad.now()
      while lunad.now() < start + 0.05 do end
    ]]))
    box:wait_log("x", "late\n    stack traceback:")
    assert.equal("running", box:status("x").state)
  end)
end)

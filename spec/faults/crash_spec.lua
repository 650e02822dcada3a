-- A host that crashes writes a report, and everything that is asked about it tells where that is.

local support = require "support"
local uv = support.uv

-- Sanitizers would handle the signals, and cannot look for leaks after a change of user.
local QUIET = "detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:handle_abort=0"
local ENV = { ASAN_OPTIONS = QUIET }

-- A script that crashes by `crasher.CALL`, in a coroutine in a callback.
local NESTED = [[
  local lunad, crasher = require "lunad", require "crasher"
  lunad.log.info("before it", { answer = 42 })
  local function inner()
    crasher.CALL
    return 1
  end
  local function outer()
    return (coroutine.wrap(function() return (inner()) end)())
  end
  lunad.after(0, function() return (outer()) end)
  lunad.every(60, print)
]]

describe("a crash", function()
  local box = support.with_box(before_each, after_each)

  setup(function()
    local built = os.execute(("cc -shared -fPIC -O1 -D_GNU_SOURCE $(pkg-config --cflags lua5.4) "
      .. "-o /tmp/lunad-crasher-%d.so %s/spec/fixtures/crasher.c"):format(uv.os_getpid(), support.root))
    assert.truthy(built)
  end)

  teardown(function() os.remove(("/tmp/lunad-crasher-%d.so"):format(uv.os_getpid())) end)

  before_each(function()
    local library = support.read(("/tmp/lunad-crasher-%d.so"):format(uv.os_getpid()))
    assert(uv.fs_chmod(box:write("crasher.so", library), tonumber("755", 8)))
  end)

  -- Start the script as the daemon "x" with more options; its pid.
  local function start(script, ...)
    local words = { "start", ... }
    words[#words + 1] = box:write("x.lua", script)
    local result = box:run(words, { env = ENV })
    assert.equal(0, result.code, result.err)
    return math.tointeger(tonumber(result.out:match("started %(pid (%d+)%)")))
  end

  -- Start a script that crashes, and wait until the log says that it has; the report.
  local function crash(call, ...)
    local pid = start(NESTED:gsub("CALL", call), ...)
    box:wait_log("x", "was killed by SIG[^\n]*\n")
    box:wait_gone(pid)
    return box:read "log/x.crash"
  end

  -- Check that texts are in the report, in this order.
  local function check_order(report, ...)
    local at = 1
    for _, text in ipairs { ... } do
      local from, to = report:find(text, at, true)
      assert.truthy(from, ("%q is not in its place in\n%s"):format(text, report))
      at = to + 1
    end
  end

  local CASES = {
    { "segv()", "SEGV", "SIGSEGV (11): no memory is mapped (code 1), at 0x10\n" },
    { "jump()", "SEGV", "SIGSEGV (11): no memory is mapped (code 1), at 0x0\n" },
    { "abort()", "ABRT", "SIGABRT (6), raised by the process itself\n" },
    { "bus()", "BUS", "SIGBUS (7): no memory behind the address" },
    { "ill()", "ILL", "SIGILL (4): an illegal" },
    { "overflow()", "SEGV", "the C stack has probably overflowed\n" },
  }
  if uv.os_uname().machine == "x86_64" then -- others do not trap
    CASES[#CASES + 1] = { "fpe()", "FPE", "SIGFPE (8): an integer was divided by 0" }
  end

  for _, case in ipairs(CASES) do
    it(("by %s is reported with its signal, the log, both stacks"):format(case[1]), function()
      local report = crash(case[1])
      local script = box:path "x.lua"
      check_order(report, "Crash of x\n", "signal:", case[3], "generation 1\n", "script:    " .. script,
        "version:   lunad ", "The last lines of the log:\n\n", "x: before it answer=42\n",
        "The C stack", "crasher.so+0x", "The Lua stack of generation 1",
        script .. ":4: in function 'inner'\n", script .. ":8\n", "  in a coroutine that was resumed by\n",
        script .. ":8: in function 'outer'\n", script .. ":10\n")
      local line = ("error lunad: x %%(pid %%d+%%) was killed by SIG%s in %s:4, report in %s\n"):format(
        case[2], support.pattern(script), support.pattern(box:path "log/x.crash"))
      assert.truthy(box:log("x"):find(line), box:log "x")
    end)
  end

  it("is told by status, list, stop and the next start, each with the report", function()
    crash "segv()"
    local told = "was killed by SIGSEGV at %d+%-%d+%-%d+T[%d:]+Z, report in "
      .. support.pattern(box:path "log/x.crash")
    local status = box:lunad("status", "x")
    assert.equal(1, status.code)
    assert.truthy(status.out:find("x: dead, but its pidfile is there.*; it " .. told), status.out)
    local report = support.json.decode(box:lunad("status", "--json", "x").out)
    assert.truthy(report.death:find("^it " .. told .. "$"), report.death)
    assert.truthy(box:ok("list"):find("\nx +%- +dead .* it " .. told), box:ok "list")
    start(support.BEAT)
    assert.truthy(box:wait_log("x", "warn  lunad: the last run of x " .. told .. "\n"))
    box:ok("stop", "x")
    crash "segv()"
    local stopped = box:ok("stop", "x")
    assert.truthy(stopped:find(told), stopped)
    assert.same({}, box:left_files())
  end)

  it("keeps the exit status, and the reports of four earlier ones", function()
    for number = 1, 7 do
      local script = box:write("x.lua", ("lunad = require 'lunad' lunad.log.info('number %d')"):format(number)
        .. "lunad.after(0, function() require('crasher').abort() end) lunad.every(60, print)")
      local result = box:run({ "run", "--log", "log/x.log", script }, { env = ENV })
      assert.equal(6, result.signal)
      assert.truthy(result.err:find("^lunad: x %(pid %d+%) was killed by SIGABRT in %S+x.lua:1, report in "),
        result.err)
    end
    assert.truthy(box:read("log/x.crash"):find("number 7", 1, true))
    assert.truthy(box:read("log/x.crash.4"):find("number 3", 1, true))
    assert.is_nil(box:read "log/x.crash.5")
    assert.equal(tonumber("640", 8), uv.fs_stat(box:path "log/x.crash").mode % 512)
  end)

  it("by a signal from outside names who has sent it, also in a storm of them", function()
    local pid = start(support.BEAT .. "lunad.after(0, function() print 'busy' while true do end end)")
    box:wait_log("x", "busy")
    local storm = 'for i in {1..200}; do kill -SEGV "$2" 2>/dev/null || break; done; echo $$'
    local sent = box:shell(storm, { tostring(pid) })
    box:wait_log("x", "was killed by SIGSEGV in [^\n]*x.lua:1, ")
    box:wait_gone(pid)
    check_order(box:read "log/x.crash", ("SIGSEGV (11), sent by pid %s of user %d\n"):format(
      sent.out:match "%d+", uv.getuid()), "x.lua:1\n")
    assert.is_nil(box:read "log/x.crash.1")
  end)

  it("by a signal from outside that the kernel gives to another thread is that of the process", function()
    local pid = start(support.BEAT .. "lunad.after(0, function() print 'busy' while true do end end)")
    box:wait_log("x", "busy")
    local thread = box:shell('ls /proc/"$2"/task | grep -vx "$2"', { tostring(pid) }).out:match "%d+"
    box:shell('kill -SEGV "$2"', { assert(thread, "there is no second thread") })
    box:wait_log("x", "was killed by SIGSEGV in [^\n]*x.lua:1, ")
    box:wait_gone(pid)
    check_order(box:read "log/x.crash", "SIGSEGV (11), sent by pid ", "x.lua:1\n")
    assert.is_nil(box:read("log/x.crash"):find("not the main one", 1, true))
  end)

  it("of another thread says so, and shows the Lua stack as that of the main thread", function()
    local report = crash "thread()"
    check_order(report, "signal:    SIGSEGV (11)", "thread:    ", "not the main one", "The C stack",
      "crasher.so+0x", "This is the Lua stack of the main thread, where the crash was not.\n",
      "x.lua:4: in function")
    assert.truthy(box:log("x"):find("was killed by SIGSEGV, report in", 1, true))
  end)

  it("of a thread of lunad's own is reported too", function()
    local pid = start(support.BEAT .. "lunad.after(0, require('crasher').signal_threads)")
    box:wait_log("x", "was killed by SIGSEGV, report in ")
    box:wait_gone(pid)
    check_order(box:read "log/x.crash", "signal:    SIGSEGV (11)", "thread:    ", "not the main one",
      "The C stack", "of the main thread, where the crash was not.\n")
  end)

  it("by a bug of lunad's own says what was found to be impossible", function()
    local pipe = assert(io.popen(("nm '%s'"):format(support.binary)))
    local address = pipe:read("a"):match "(%x+) T ld_base_abort\n"
    pipe:close()
    local report = crash(("bug(0x%s)"):format(address))
    check_order(report, "SIGABRT (6), raised by the process itself\nbug:       here.c:7: it rains\n",
      "C stack")
    assert.truthy(box:log("x"):find("lunad: bug: here.c:7: it rains\n", 1, true))
  end)

  it("in a Lua state that is broken is reported as far as it can be read", function()
    local report = crash "break_state()"
    check_order(report, "signal:    SIGSEGV (11)", "before it answer=42\n", "The C stack", "crasher.so+0x",
      "The Lua stack of generation 1", "  (the rest cannot be read)\n")
  end)

  it("is reported in the log if there can be no file, or a directory or link is in its place", function()
    assert(uv.fs_mkdir(box:path "log", tonumber("755", 8)))
    for number = 0, 4 do
      local path = box:path(number == 0 and "log/x.crash" or "log/x.crash." .. number)
      assert(uv.fs_mkdir(path, tonumber("755", 8)))
      box:write(path:sub(#box.dir + 2) .. "/full", "")
    end
    assert.is_nil(crash "segv()")
    check_order(box:log "x", "error lunad: crash of x\n    \n    signal:    SIGSEGV (11)",
      "error lunad: The C stack", "\n      #0 0x", "error lunad: The Lua stack of generation 1",
      "in function 'inner'\n", "was killed by SIGSEGV in ", "x.lua:4\n")
    assert.truthy(box:lunad("status", "x").out:find("was killed by SIGSEGV at [%w:-]+\n"))
  end)

  it("does not follow a link in the place of the report, nor write into what is there", function()
    assert(uv.fs_mkdir(box:path "log", tonumber("755", 8)))
    box:write("precious", "keep")
    assert(uv.fs_symlink(box:path "precious", box:path "log/x.crash"))
    assert(uv.fs_link(box:path "precious", box:path "log/x.crash.1"))
    assert.truthy(crash("segv()"):find("^Crash of x\n"))
    assert.equal("keep", box:read "precious")
    assert.equal("link", uv.fs_lstat(box:path "log/x.crash.1").type)
  end)

  it("is reported in the run directory if the log is not a file", function()
    local pid = start(NESTED:gsub("CALL", "segv()"), "--log", "none")
    box:wait_gone(pid)
    check_order(box:read "run/x.crash", "Crash of x\n", "The last lines of the log:\n\n\n",
      "in function 'inner'")
    assert.truthy(box:lunad("status", "x").out:find("report in " .. box:path "run/x.crash", 1, true))
    box:ok("stop", "x")
    os.remove(box:path "run/x.crash")
  end)

  it("is reported on stderr in the foreground, and shortly on a terminal", function()
    local script = box:write("x.lua", (NESTED:gsub("CALL", "segv()")))
    local result = box:run({ "run", script }, { env = ENV })
    assert.equal(11, result.signal)
    check_order(result.err, "error lunad: crash of x\n", "signal:    SIGSEGV (11)", "version: ",
      "The C stack", "in function 'inner'", "x (pid ", ") was killed by SIGSEGV in " .. script .. ":4\n")
    local short = box:shell('script -qec "$1 run x.lua" /dev/null', {}, { env = ENV }).out
    check_order(short, "crash of x", "signal:    SIGSEGV (11)", "#0 0x", "in function 'inner'",
      "was killed by SIGSEGV")
    assert.is_nil(short:find("version:", 1, true))
    assert.is_nil(box:read "run/x.crash")
    box:ok("stop", "x")
  end)

  it("is one line of JSON a part in a log of that format", function()
    crash("segv()", "--log-format", "json")
    for line in box:log("x"):gmatch("[^\n]+") do
      assert.truthy(support.json.decode(line), line)
    end
    assert.truthy(box:log("x"):find('"level":"error","source":"lunad","pid":%d+,"message":"x %(pid'))
  end)

  it("of a copy of the process, or a child, is not the daemon's", function()
    local pid = start(support.BEAT .. [[
      local crasher = require "crasher"
      crasher.copy "fork" crasher.copy "vfork" crasher.copy "bare"
      local exit = lunad.spawn({ "bash", "-c", "kill -SEGV $$" }):wait()
      lunad.log.info("the child: " .. tostring(exit.signal))
    ]])
    box:wait_log("x", "the child: SEGV")
    assert.equal("running", box:status("x").state)
    assert.equal(pid, box:status("x").pid)
    assert.is_nil(box:log("x"):find("was killed", 1, true))
    assert.is_nil(box:read "log/x.crash")
    box:ok("stop", "x")
  end)

  it("leaves children the default of every signal, and no stack of the host's", function()
    start(support.BEAT .. [[
      lunad.log.info(lunad.exec { "cat", "/proc/self/status" }.stdout)
    ]])
    local ignored, caught = box:wait_log("x", "SigIgn:%s*(%x+)\n%s*SigCgt:%s*(%x+)\n")
    assert.equal(("0"):rep(16), ignored)
    assert.equal(("0"):rep(16), caught)
    box:ok("stop", "x")
  end)

  it("is not hidden by handlers of luv or of libraries", function()
    local report = crash [[handle(0)
      local uv = require "luv"
      for _, name in ipairs { "sigsegv", "sigbus", "sigill", "sigfpe" } do
        assert(not uv.new_signal():start(name, print), name)
      end
      assert(not crasher.handle(11, false) and crasher.handle(8, true))
      lunad.signal("ABRT", function() end)
      assert(uv.new_signal():start("sigabrt", print) == 0)
      crasher.abort()]]
    assert.truthy(report:find("SIGABRT (6), raised by the process itself", 1, true))
  end)

  it("is none if a handler of the script takes an ABRT from outside", function()
    local pid = start(support.BEAT
      .. "lunad.signal('ABRT', function(name) lunad.log.info('got ' .. name) end)")
    assert.equal(0, support.kill(pid, "sigabrt"))
    box:wait_log("x", "x: got ABRT\n")
    assert.equal("running", box:status("x").state)
    assert.equal(0, support.kill(pid, "sigquit"))
    box:wait_log("x", "traceback of all tasks")
    box:ok("stop", "x")
  end)

  it("before the script is ready makes the start fail", function()
    local script = box:write("x.lua", "require('crasher').segv()")
    local result = box:run({ "start", script }, { env = ENV })
    assert.equal(1, result.code)
    assert.truthy(box:read("log/x.crash"):find("x.lua:1: in the main chunk", 1, true))
    box:wait_all_gone()
    box:lunad("stop", "x")
  end)

  it("of a reload names the generation that was loaded", function()
    start(support.BEAT)
    box:write("x.lua", "require('crasher').segv()")
    box:lunad("reload", "x")
    box:wait_log("x", "was killed by SIGSEGV in ")
    check_order(box:read "log/x.crash", "generation 1, and the next one was being loaded\n",
      "The Lua stack of generation 2", "x.lua:1: in the main chunk\n")
    box:ok("stop", "x")
  end)

  it("of a host that is started again is kept for each", function()
    local pid = start(support.BEAT .. ([[
      local file = assert(io.open(%q, "a+"))
      file:write("x"):flush()
      file:seek "set"
      local life = #file:read "a"
      lunad.after(0, life < 3 and require("crasher").segv or function() lunad.log.info "it lives" end)
    ]]):format(box:path "lives"), "--restart", "on-failure")
    box:wait_log("x", "x: it lives\n")
    assert.truthy(box:read("log/x.crash.1"):find(("Crash of x\n.*\ndaemon:    x, pid %d\n"):format(pid)))
    assert.truthy(box:read("log/x.crash"):find("The keeper saw it killed by SIGSEGV", 1, true))
    assert.is_nil(box:read("log/x.crash"):find(("pid %d\n"):format(pid), 1, true))
    box:ok("stop", "x")
  end)

  describe("of a host below a keeper", function()
    local function test(name, body)
      it(name, function()
        if not support.is_root then return pending("needs root") end
        body()
      end)
    end

    test("is written by the keeper, whose log and status tell it", function()
      local report = crash("segv()", "--user", "nobody")
      box:wait_all_gone()
      check_order(report, "Crash of x\n", "SIGSEGV (11)", "before it answer=42\n", "crasher.so+0x",
        "x.lua:4: in function 'inner'\n", "The keeper saw it killed by SIGSEGV")
      local stat = uv.fs_stat(box:path "log/x.crash")
      assert.same({ 0, 65534, tonumber("640", 8) }, { stat.uid, stat.gid, stat.mode % 512 })
      assert.truthy(box:log("x"):find("error lunad: x %(pid %d+%) was killed by SIGSEGV[^\n]*, report in "))
      local told = "was killed by SIGSEGV[^\n]*, report in " .. support.pattern(box:path "log/x.crash")
      assert.truthy(box:lunad("status", "x").out:find(told))
      box:ok("stop", "x")
    end)

    test("is named on the terminal if the daemon was not ready", function()
      local script = box:write("x.lua", "require('crasher').segv()")
      local result = box:run({ "start", "--user", "nobody", script }, { env = ENV })
      assert.equal(1, result.code)
      check_order(result.err, "lunad: x died before it was ready: killed by SIGSEGV",
        ", report in " .. box:path "log/x.crash\n")
      box:wait_all_gone()
    end)

    test("goes to the log if the file cannot be made", function()
      assert(uv.fs_mkdir(box:path "log", tonumber("755", 8)))
      for number = 0, 4 do
        local path = number == 0 and "log/x.crash" or "log/x.crash." .. number
        assert(uv.fs_mkdir(box:path(path), tonumber("755", 8)))
        box:write(path .. "/full", "")
      end
      crash("segv()", "--user", "nobody")
      box:wait_all_gone()
      check_order(box:log "x", "the crash report cannot be written to", "\n    Crash of x\n",
        "in function 'inner'\n", "was killed by SIGSEGV")
      box:ok("stop", "x")
    end)

    test("is written with the rights of the user where that user can change the way to it", function()
      assert(uv.fs_mkdir(box:path "log", tonumber("755", 8)))
      assert(uv.fs_chown(box:path "log", 65534, 65534))
      local report = crash("segv()", "--user", "nobody")
      box:wait_all_gone()
      assert.truthy(report:find("in function 'inner'", 1, true))
      assert.equal(65534, uv.fs_stat(box:path "log/x.crash").uid)
      box:ok("stop", "x")
    end)
  end)
end)

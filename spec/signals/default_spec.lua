local support = require "support"

-- Send a signal to the daemon "s" whose pid is given, and then another one whose default shows that
-- the first has been handled: signals are delivered in the order of their numbers, HUP first.
local function signal_and_probe(box, pid, name)
  support.kill(pid, name)
  support.kill(pid, "sigusr2")
  box:wait_log("s", "lunad: status: s: ")
end

local SLEEPY_STOP = [[
  lunad.on_stop(function(reason)
    print("begin", reason)
    lunad.sleep(60)
    print "end"
  end)
]]

-- A handler that logs what it is called with; at the second call it does `go_on`.
local function handler(name, go_on)
  return ([[
    local calls = 0
    lunad.signal("%s", function(got)
      calls = calls + 1
      print("handler", got, calls)
      if calls == 2 then %s end
    end)
  ]]):format(name, go_on or "")
end

for _, name in ipairs { "sigterm", "sigint" } do
  describe(name:upper(), function()
    local box = support.with_box(before_each, after_each)

    it("stops gracefully", function()
      local pid = box:serve [[
        lunad.on_stop(function(reason) print("begin", reason) lunad.sleep(0.01) print "end" end)
      ]]
      support.kill(pid, name)
      box:wait_gone(pid)
      assert.matches("s: begin\tstop\n.*s: end\n.*lunad: stopped\n$", box:log("s"))
      assert.same({}, box:left_files())
    end)

    it("stops at once when it comes again", function()
      local pid = box:serve(SLEEPY_STOP)
      support.kill(pid, name)
      box:wait_log("s", "begin\tstop")
      assert.equal("stopping", box:status("s").state)
      support.kill(pid, name)
      box:wait_gone(pid)
      assert.not_matches("s: end", box:log("s"))
      assert.same({}, box:left_files())
    end)

    it("stops at once when it comes after the other one", function()
      local pid = box:serve(SLEEPY_STOP)
      support.kill(pid, name == "sigterm" and "sigint" or "sigterm")
      box:wait_log("s", "begin\tstop")
      support.kill(pid, name)
      box:wait_gone(pid)
      assert.not_matches("s: end", box:log("s"))
    end)

    it("kills children that ignore SIGTERM at once when it comes again", function()
      local pid = box:serve(SLEEPY_STOP .. [[lunad.spawn{ "sh", "-c", "trap '' TERM; echo set; sleep 600" }]])
      box:wait_log("s", ": set\n")
      support.kill(pid, name)
      box:wait_log("s", "begin\tstop")
      support.kill(pid, name)
      box:wait_gone(pid)
      assert.same({}, box:marked())
    end)

    it("makes run exit with status 0", function()
      local path = box:write("r.lua", support.BEAT .. "print 'up'")
      local process = box:spawn { "run", path }
      box:await(process, "the script", function() return process.out():find "up" end)
      support.kill(process.pid, name)
      box:await(process, "the end of run", process.is_over)
      assert.equal(0, process.code)
      assert.equal(0, process.signal)
    end)

    it("is replaced by a script's own handler, which may call lunad.stop to stop as usual", function()
      local pid = box:serve(handler(name:sub(4):upper(), "lunad.stop()"))
      support.kill(pid, name)
      box:wait_log("s", "handler\t" .. name:sub(4):upper() .. "\t1")
      assert.equal("running", box:status("s").state)
      support.kill(pid, name)
      box:wait_gone(pid)
      assert.matches("handler\t%u+\t2\n.*lunad: stopped", box:log("s"))
    end)
  end)
end

describe("SIGHUP", function()
  local box = support.with_box(before_each, after_each)

  it("reloads", function()
    local pid = box:serve "print('generation', lunad.generation)"
    support.kill(pid, "sighup")
    box:wait_log("s", "lunad: reloaded: generation 2 in %d+%.%d ms\n")
    assert.matches("s: generation\t2\n", box:log("s"))
    assert.equal(pid, box:status("s").pid)
  end)

  it("reloads with --hup reload", function()
    local pid = box:serve("", "--hup", "reload")
    support.kill(pid, "sighup")
    box:wait_log("s", "reloaded: generation 2")
  end)

  it("does nothing with --hup ignore", function()
    local pid = box:serve("", "--hup", "ignore")
    signal_and_probe(box, pid, "sighup")
    local status = box:status "s"
    assert.equal(1, status.generation)
    assert.equal(0, status.reloads.ok + status.reloads.failed)
  end)

  it("stops with --hup stop", function()
    local pid = box:serve([[lunad.on_stop(function(reason) print("on_stop", reason) end)]], "--hup", "stop")
    support.kill(pid, "sighup")
    box:wait_gone(pid)
    assert.matches("s: on_stop\tstop\n.*lunad: stopped\n$", box:log("s"))
    assert.same({}, box:left_files())
  end)

  it("does not keep lunad reload from reloading, with --hup ignore or stop", function()
    for _, mode in ipairs { "ignore", "stop" } do
      box:serve("", "--hup", mode)
      assert.matches("generation 2", box:ok("reload", "s"))
      box:ok("stop", "s")
    end
  end)

  for _, mode in ipairs { "reload", "ignore", "stop" } do
    it("is replaced by a script's own handler, with --hup " .. mode, function()
      local pid = box:serve(handler("HUP", "lunad.reload()"), "--hup", mode)
      signal_and_probe(box, pid, "sighup")
      assert.equal(1, box:status("s").generation)
      assert.matches("handler\tHUP\t1\n", box:log("s"))
      support.kill(pid, "sighup")
      box:wait_log("s", "handler\tHUP\t2\n.*reloaded: generation 2")
    end)
  end

  it("does not keep lunad reload from reloading, with a handler", function()
    box:serve(handler("HUP"))
    assert.matches("generation 2", box:ok("reload", "s"))
    assert.not_matches("handler", box:log("s"))
  end)

  it("has its default again when the handler stops", function()
    local pid = box:serve [[
      local handle
      handle = lunad.signal("HUP", function() handle:stop() print "handled" end)
    ]]
    support.kill(pid, "sighup")
    box:wait_log("s", "s: handled")
    support.kill(pid, "sighup")
    box:wait_log("s", "reloaded: generation 2")
  end)
end)

describe("the terminal of lunad run", function()
  local box = support.with_box(before_each, after_each)

  -- Run a script on its own terminal: the process that holds the terminal, and the pid.
  local function run_on_terminal(text)
    local path = box:write("t.lua", support.BEAT .. text .. " print('pid', lunad.pid)")
    local command = ("exec %s run --log %s %s"):format(support.binary, box:path("log/t.log"), path)
    local terminal = box:spawn({ "-qec", command, "/dev/null" }, { program = "script", keep_stdin = true })
    box:await(terminal, "the script", function() return terminal.out():find "pid\t%d+" end)
    return terminal, math.tointeger(tonumber(terminal.out():match "pid\t(%d+)"))
  end

  it("stops the script when it goes away", function()
    local terminal, pid = run_on_terminal "lunad.on_stop(function(r) lunad.log.info('on_stop ' .. r) end)"
    support.kill(terminal.pid, "sigkill")
    box:wait_gone(pid)
    assert.matches("t: on_stop stop\n.*lunad: stopped\n$", box:log("t"))
    assert.not_matches("reloaded", box:log("t"))
    assert.same({}, box:left_files())
    box:await(terminal, "the end of script", function() return terminal.code end)
    terminal.stdin:close()
  end)

  it("lets SIGHUP from a process keep its meaning", function()
    local terminal, pid = run_on_terminal ""
    support.kill(pid, "sighup")
    box:wait_log("t", "reloaded: generation 2")
    support.kill(pid, "sigterm")
    box:await(terminal, "the end of script", terminal.is_over)
    terminal.stdin:close()
  end)

  it("stops the script by Ctrl-C", function()
    local terminal, pid = run_on_terminal ""
    terminal.stdin:write "\3"
    box:wait_gone(pid)
    assert.matches("lunad: stopped\n$", box:log("t"))
    box:await(terminal, "the end of script", terminal.is_over)
    terminal.stdin:close()
  end)
end)

describe("SIGUSR1", function()
  local box = support.with_box(before_each, after_each)

  it("reopens the log", function()
    local pid = box:serve "lunad.signal('WINCH', function() print 'after' end)"
    assert(support.uv.fs_rename(box:path "log/s.log", box:path "log/old.log"))
    support.kill(pid, "sigusr1")
    box:wait_log("s", "lunad: log reopened\n")
    support.kill(pid, "sigwinch")
    box:wait_log("s", "s: after\n")
    assert.not_matches("after", box:read "log/old.log")
  end)

  it("is replaced by a script's own handler", function()
    local pid = box:serve(handler "USR1")
    assert(support.uv.fs_rename(box:path "log/s.log", box:path "log/old.log"))
    support.kill(pid, "sigusr1")
    box:wait_log("old", "handler\tUSR1\t1")
    assert.is_nil(box:read "log/s.log")
  end)
end)

describe("SIGUSR2", function()
  local box = support.with_box(before_each, after_each)

  it("writes the status report to the log", function()
    local pid = box:serve "lunad.status 'all is well'"
    support.kill(pid, "sigusr2")
    box:wait_log("s", "info  lunad: status: s: running, pid " .. pid .. ", .*generation 1")
    assert.matches("\n    .*all is well\n", box:log("s"))
    assert.matches("\n    .*timer .*s.lua:1", box:log("s"))
  end)

  it("is replaced by a script's own handler", function()
    local pid = box:serve(handler "USR2")
    support.kill(pid, "sigusr2")
    box:wait_log("s", "handler\tUSR2\t1")
    assert.not_matches("status:", box:log("s"))
  end)
end)

describe("SIGQUIT", function()
  local box = support.with_box(before_each, after_each)

  local SLEEPERS = "local function inner() lunad.sleep(60) end\n" ..
    "local function outer() inner() return 1 end\n" ..
    "lunad.task(outer)\n" ..
    "lunad.signal('WINCH', function() print 'alive' end)\n" ..
    "lunad.sleep(60)"

  it("writes a traceback of everything that is suspended to the log, and keeps running", function()
    local pid = box:serve(SLEEPERS)
    support.kill(pid, "sigquit")
    box:wait_log("s", "traceback")
    for line = 1, 5 do
      local pattern = "\n    .*s%.lua:" .. line .. ": in "
      assert.equal(line == 1 or line == 2 or line == 5, box:log("s"):match(pattern) ~= nil)
    end
    support.kill(pid, "sigwinch")
    box:wait_log("s", "s: alive")
  end)

  it("does nothing else when nothing is suspended", function()
    local pid = box:serve ""
    support.kill(pid, "sigquit")
    box:wait_log("s", "traceback")
    assert.equal("running", box:status("s").state)
  end)

  it("shows coroutines inside of tasks", function()
    local pid = box:serve("local co = coroutine.wrap(function()\n  coroutine.yield()\n end)\n co()\n" ..
      "lunad.task(function()\n lunad.sleep(60)\n end)")
    support.kill(pid, "sigquit")
    box:wait_log("s", "traceback.*s%.lua:6: in ")
  end)

  it("is replaced by a script's own handler", function()
    local pid = box:serve(handler "QUIT")
    support.kill(pid, "sigquit")
    box:wait_log("s", "handler\tQUIT\t1")
    assert.not_matches("traceback", box:log("s"))
  end)
end)

describe("SIGPIPE", function()
  local box = support.with_box(before_each, after_each)

  it("is without effect in the host", function()
    local pid = box:serve ""
    signal_and_probe(box, pid, "sigpipe")
    assert.equal("running", box:status("s").state)
  end)

  it("does not end a host that writes to a pipe without a reader", function()
    box:inside [[
      local pipe = io.popen("exec <&-; echo closed >&2; sleep 0.1", "w")
      local ok, message, code
      eventually(function()
        ok, message, code = pipe:write(("x"):rep(100000))
        return not ok
      end)
      equal(32, code)
      pipe:close()
    ]]
  end)

  it("has its default in children, in those of os.execute and io.popen too", function()
    box:inside [[
      local exit = lunad.exec { "sh", "-c", "kill -PIPE $$; echo survived" }
      equal("PIPE", exit.signal)
      local _, how, number = os.execute("kill -PIPE $$; echo survived")
      equal("signal", how)
      equal(13, number)
      local pipe = io.popen("kill -PIPE $$; echo survived")
      equal("", pipe:read "a")
      equal(13, select(3, pipe:close()))
    ]]
  end)

  it("is replaced by a script's own handler, and without effect again after it", function()
    local pid = box:serve [[
      local handle
      handle = lunad.signal("PIPE", function(name) print("handler", name) handle:stop() end)
    ]]
    support.kill(pid, "sigpipe")
    box:wait_log("s", "handler\tPIPE")
    signal_and_probe(box, pid, "sigpipe")
    assert.equal("running", box:status("s").state)
  end)
end)

describe("signals that cannot have a handler", function()
  local box = support.with_box(before_each, after_each)

  it("are CHLD, with a hint at on_exit", function()
    box:inside [[
      for _, name in ipairs { "CHLD", "SIGCHLD", "chld", 17 } do
        raises("on_exit", lunad.signal, name, print)
      end
    ]]
  end)

  for _, name in ipairs { "KILL", "STOP", "SEGV", "BUS", "FPE", "ILL" } do
    it("are " .. name, function()
      box:inside(("raises('%s', lunad.signal, '%s', print)"):format(name, name) ..
        ("raises('%s', lunad.signal, 'SIG%s', print)"):format(name, name))
    end)
  end
end)

describe("children that the host did not spawn itself", function()
  local box = support.with_box(before_each, after_each)

  local ORPHANS = [[
    local function children() -- zombies too
      local file = io.open(("/proc/self/task/%d/children"):format(lunad.pid))
      local _, count = file:read "a":gsub("%d+", "")
      file:close()
      return count
    end
    -- Each subshell's child outlives it, and is adopted; it ends when the pipe does.
    local child = lunad.spawn { "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do (cat <&3 &) ; done 3<&0",
      stdin = "pipe", stdout = "null" }
    eventually(function() return children() == 10 end)
    child:close_stdin()
    eventually(function() return children() == 0 end)
  ]]

  it("are adopted and reaped", function()
    box:inside(ORPHANS)
  end)

  it("are adopted and reaped by PID 1 of a container", function()
    if not support.is_root then
      return pending "needs root"
    end
    local path = box:write("one.lua", "local lunad, equal, _, _, _, eventually = require('inside')() " ..
      "equal(1, lunad.pid) " .. ORPHANS)
    local result = box:run({ "--pid", "--fork", "--mount-proc", support.binary, "run", "--path",
      support.root .. "/spec/support", path }, { program = "unshare" })
    assert.equal(0, result.code, result.out .. result.err)
  end)

  it("do not disturb the statuses of os.execute and io.popen", function()
    box:inside [[
      for i = 1, 20 do
        lunad.spawn { "sh", "-c", "(exit 9) & (sleep 0.001; exit 8) &", stdout = "null" }
        local _, how, code = os.execute("exit " .. i)
        equal("exit", how)
        equal(i, code)
        local pipe = io.popen("exit " .. i)
        lunad.sleep(0.002)
        equal(i, select(3, pipe:close()))
      end
    ]]
  end)
end)

describe("PID 1 of a container", function()
  local box = support.with_box(before_each, after_each)

  for _, name in ipairs { "TERM", "INT" } do
    it("stops cleanly on SIG" .. name, function()
      if not support.is_root then
        return pending "needs root"
      end
      local path = box:write("one.lua", support.BEAT .. ([[
        lunad.on_stop(function(reason) print("on_stop", reason) end)
        lunad.spawn { "sh", "-c", "kill -%s 1; sleep 600" }
      ]]):format(name))
      local result = box:run({ "--pid", "--fork", "--mount-proc", support.binary, "run", path },
        { program = "unshare" })
      assert.equal(0, result.code)
      assert.matches("on_stop\tstop", result.out)
      assert.matches("lunad: stopped", result.err)
    end)
  end
end)

describe("signals that come before the script is loaded", function()
  local box = support.with_box(before_each, after_each)

  -- Start a script that tells when its chunk runs and waits, without the loop, for permission to continue.
  local function start_held(text)
    local path = box:write("s.lua", ([[
      local lunad = require "lunad"
      io.open("%s/held", "w"):close()
      repeat local go = io.open "%s/go" until go
      lunad.every(1, function() end)
    ]]):format(box.dir, box.dir) .. text)
    local process = box:spawn { "start", path }
    support.wait_for("the chunk", function() return box:read "held" end)
    return process, math.tointeger(tonumber(box:read "run/s.pid"))
  end

  local function go(process)
    box:write("go", "")
    box:await(process, "the end of start", process.is_over)
  end

  it("reach the handlers that the chunk registers", function()
    local process, pid = start_held [[
      for _, name in ipairs { "TERM", "HUP", "USR1", "USR2", "QUIT", "INT", "PIPE" } do
        lunad.signal(name, function(got) print("got " .. got) end)
      end
    ]]
    for _, name in ipairs { "sigterm", "sighup", "sigusr1", "sigusr2", "sigquit", "sigint", "sigpipe" } do
      support.kill(pid, name)
    end
    go(process)
    for _, name in ipairs { "TERM", "HUP", "USR1", "USR2", "QUIT", "INT", "PIPE" } do
      box:wait_log("s", "s: got " .. name .. "\n")
    end
  end)

  it("reload, if it is HUP", function()
    local process, pid = start_held ""
    support.kill(pid, "sighup")
    go(process)
    box:wait_log("s", "reloaded: generation 2")
  end)

  it("stop, if it is TERM", function()
    local process, pid = start_held "lunad.on_stop(function(reason) print('on_stop', reason) end)"
    support.kill(pid, "sigterm")
    go(process)
    box:wait_gone(pid)
    assert.matches("on_stop\tstop", box:log "s")
    assert.same({}, box:left_files())
  end)

  it("are kept from the first instruction of lunad on", function()
    local path = box:write("s.lua", [[
      require "lunad".signal("USR1", function() print "delivered" os.exit(0) end)
    ]])
    local perl = "use POSIX; my $set = POSIX::SigSet->new(SIGUSR1); sigprocmask(SIG_BLOCK, $set);" ..
      "kill 'USR1', $$; exec @ARGV"
    local result = box:run({ "-e", perl, support.binary, "run", path }, { program = "perl" })
    assert.equal("delivered\n", result.out)
  end)
end)

describe("a storm of a signal", function()
  local box = support.with_box(before_each, after_each)

  -- Each of these signals is delivered to the host before kill returns, and the loop is blocked.
  local STORM = [[
    local seen = {}
    for _, name in ipairs { "USR1", "TERM", "HUP" } do
      lunad.signal(name, function() seen[name] = (seen[name] or 0) + 1 end)
    end
    local exited = false
    local child = lunad.spawn { "true", on_exit = function() exited = true end }
    local function is_zombie()
      local file = io.open("/proc/" .. child.pid .. "/stat")
      local stat = file:read "a"
      file:close()
      return stat:find ") Z "
    end
    for _ = 1, 100000 do lunad.kill(lunad.pid, "USR1") end
    lunad.kill(lunad.pid, "HUP")
    lunad.kill(lunad.pid, "TERM")
    repeat until is_zombie()
    for _ = 1, 100000 do lunad.kill(lunad.pid, "USR1") end
    equal(nil, next(seen))
  ]]

  it("hides no other signal, and no child's exit", function()
    box:inside(STORM .. [[
      eventually(function() return exited end)
      equal(1, seen.TERM)
      equal(1, seen.HUP)
      truthy(seen.USR1 >= 1)
      lunad.stop()
    ]])
  end)

  it("is followed by a delivery after the last arrival", function()
    box:inside [[
      local last, sent = nil, 0
      lunad.signal("USR1", function() last = sent end)
      for round = 1, 5 do
        for _ = 1, 20000 do
          sent = sent + 1
          lunad.kill(lunad.pid, "USR1")
        end
        eventually(function() return last == 20000 * round end)
      end
      lunad.stop()
    ]]
  end)

  it("does not hide a TERM from outside, nor the default of a signal", function()
    local pid = box:serve [[
      lunad.signal("USR1", function() end)
      lunad.signal("WINCH", function()
        print "busy"
        local go
        repeat go = io.open(lunad.script .. ".go") until go
      end)
    ]]
    support.kill(pid, "sigwinch")
    box:wait_log("s", "busy")
    for _ = 1, 100000 do
      support.kill(pid, "sigusr1")
    end
    support.kill(pid, "sigterm")
    box:write("s.lua.go", "")
    box:wait_gone(pid)
    assert.matches("lunad: stopped\n$", box:log "s")
  end)
end)

describe("signals", function()
  local box = support.with_box(before_each, after_each)

  it("are delivered in the loop, never inside Lua code that is running", function()
    box:inside [[
      local count = 0
      for _, name in ipairs { "TERM", "INT", "HUP", "USR1", "USR2", "QUIT", "PIPE" } do
        lunad.signal(name, function() count = count + 1 end)
        for _ = 1, 100 do
          lunad.kill(lunad.pid, name)
          equal(0, count)
        end
      end
      eventually(function() return count == 7 end)
      lunad.stop()
    ]]
  end)
end)

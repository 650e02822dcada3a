local support = require "support"

local uv = support.uv

local MANAGER = [[
  $| = 1;
  my $path = shift;
  $path =~ s/^@/\0/;
  my $s = IO::Socket::UNIX->new(Type => Socket::SOCK_DGRAM(), Local => $path) or die "bind: $!";
  print "listening\n";
  while (defined $s->recv(my $text, 65536)) { $text =~ s/\n/ /g; print "$text\n" }
]]

-- Act as a service manager that listens at `name`: a function that waits for a pattern among
-- what it has been told, a message a line, and returns what that has captured; and the process.
local function manage(box, name)
  local process = box:spawn({ "-MIO::Socket::UNIX", "-e", MANAGER, name }, { program = "perl" })
  local function wait(pattern)
    return box:await(process, ("%q told to the manager"):format(pattern), function()
      return process.out():match(pattern)
    end)
  end
  finally(function()
    support.kill(process.pid, "sigkill")
    box:await(process, "the manager's end", process.is_over)
  end)
  wait "listening\n"
  return wait, process
end

-- Start a script as the daemon "s" under a manager: its pid.
local function start(box, text, env, ...)
  local words = { "start", ... }
  words[#words + 1] = box:write("s.lua", support.BEAT .. text)
  local result = box:run(words, { env = env })
  assert.equal(0, result.code, result.err)
  return math.tointeger(tonumber(result.out:match "pid (%d+)"))
end

describe("a service manager", function()
  local box = support.with_box(before_each, after_each)

  -- The environment that tells where the manager listens.
  local function environment(extra)
    local env = { NOTIFY_SOCKET = box:path "notify" }
    for key, value in pairs(extra or {}) do env[key] = value end
    return env
  end

  it("is told READY and MAINPID when the script is ready", function()
    local wait = manage(box, box:path "notify")
    local pid = start(box, "", environment())
    assert.equal(tostring(pid), wait "READY=1[^\n]* MAINPID=(%d+)[^\n]*\n")
  end)

  it("is told READY not before lunad.ready, with --wait-ready", function()
    local wait, manager = manage(box, box:path "notify")
    local path = box:write("s.lua", support.BEAT .. [[
      lunad.spawn { "sleep", "0.01", on_exit = function()
        lunad.signal("USR1", lunad.ready)
        print "not yet"
      end }
    ]])
    local process = box:spawn({ "start", "--wait-ready", path }, { env = environment() })
    box:wait_log("s", "not yet")
    manager.turn()
    assert.not_matches("READY", manager.out())
    support.kill(box:status("s").pid, "sigusr1")
    wait "READY=1"
    box:await(process, "the start", process.is_over)
  end)

  it("is told the same by run, and STOPPING at the end", function()
    local wait = manage(box, box:path "notify")
    local path = box:write("s.lua", support.BEAT)
    local process = box:spawn({ "run", path }, { env = environment() })
    assert.equal(tostring(process.pid), wait "READY=1[^\n]* MAINPID=(%d+)[^\n]*\n")
    box:ok("stop", "s")
    wait "STOPPING=1"
    box:await(process, "the end", process.is_over)
  end)

  it("is told STOPPING before on_stop functions run", function()
    local wait = manage(box, box:path "notify")
    local pid = start(box, "lunad.on_stop(function() print 'begins' lunad.sleep(60) end)", environment())
    support.kill(pid)
    wait "READY=1.*STOPPING=1"
    support.kill(pid)
    box:wait_gone(pid)
  end)

  it("is not told READY of a start that fails", function()
    local wait, manager = manage(box, box:path "notify")
    local path = box:write("s.lua", "error 'x'")
    assert.equal(1, box:run({ "start", path }, { env = environment() }).code)
    start(box, "", environment()) -- another, so that there is something to wait for
    wait "MAINPID"
    assert.equal(1, select(2, manager.out():gsub("READY", "")))
  end)

  it("is told RELOADING with MONOTONIC_USEC, and READY after it", function()
    local wait = manage(box, box:path "notify")
    start(box, "", environment())
    local before = uv.hrtime() // 1000
    box:ok("reload", "s")
    local usec = wait "READY=1.*RELOADING=1 MONOTONIC_USEC=(%d+)\n.*READY=1"
    assert.is_true(before <= math.tointeger(tonumber(usec)))
    assert.is_true(math.tointeger(tonumber(usec)) <= uv.hrtime() // 1000)
  end)

  it("is told READY also after a reload that failed", function()
    local wait = manage(box, box:path "notify")
    start(box, "", environment())
    for i, text in ipairs { "local = 1", "error 'x'", "lunad.stop()" } do
      assert.equal(1, box:reload(text).code)
      wait("READY=1" .. (".*RELOADING=1 MONOTONIC_USEC=%d+\n.*READY=1"):rep(i))
    end
  end)

  it("is told STATUS by lunad.status", function()
    local wait = manage(box, box:path "notify")
    start(box, "lunad.status 'serving 3 clients'", environment())
    wait "STATUS=serving 3 clients"
  end)

  it("is told a STATUS of one line, whatever the script says", function()
    local wait = manage(box, box:path "notify")
    start(box, "lunad.status 'a\\nMAINPID=1'", environment())
    wait [[STATUS=a\x0AMAINPID=1]]
  end)

  it("is told what a new generation says, and keeps what the one before has said", function()
    local wait = manage(box, box:path "notify")
    start(box, "lunad.status 'busy'", environment())
    wait "STATUS=busy"
    box:reload ""
    assert.equal("busy", box:status("s").text)
    box:reload "lunad.status 'idle'"
    wait "STATUS=busy\n.*STATUS=idle"
    assert.equal("idle", box:status("s").text)
  end)

  it("may listen in the abstract namespace", function()
    local name = "@lunad-spec-" .. box.mark
    local wait = manage(box, name)
    start(box, "", { NOTIFY_SOCKET = name })
    wait "READY=1"
  end)

  it("is told the pid of the host, not of the keeper of --user", function()
    if not support.is_root then
      return pending "needs root"
    end
    local wait = manage(box, box:path "notify")
    assert(uv.fs_chmod(box:path "notify", tonumber("666", 8)))
    local pid = start(box, "", environment(), "--user", "65534")
    assert.equal(tostring(pid), wait "READY=1[^\n]* MAINPID=(%d+)[^\n]*\n")
    assert.equal(pid, box:status("s").pid)
  end)

  it("is the host's alone: script and children do not see it", function()
    manage(box, box:path "notify")
    start(box, [[
      for _, name in ipairs { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS" } do
        print(name, os.getenv(name))
      end
      lunad.spawn { "env" }
    ]], environment { WATCHDOG_USEC = "1000000", LISTEN_FDS = "0", LISTEN_PID = "1" })
    box:wait_log("s", "s/env%[%d+%]: PATH=")
    support.wait_for("the end of env", function() return #box:status("s").children == 0 end)
    assert.equal(4, select(2, box:log("s"):gsub("[%u_]+\tnil\n", "")))
    assert.not_matches("NOTIFY_SOCKET=", box:log "s")
    assert.not_matches("WATCHDOG_", (box:log("s"):gsub("WATCHDOG_%u+\tnil", "")))
  end)

  it("that does not exist, or cannot, does no harm", function()
    for _, name in ipairs { "/nonexistent/socket", "", "@", "x", "/" .. ("x"):rep(200),
      "@" .. ("y"):rep(200) } do
      start(box, "", { NOTIFY_SOCKET = name })
      box:ok("reload", "s")
      box:ok("stop", "s")
    end
  end)

  it("that does not listen is not waited for", function()
    local _, manager = manage(box, box:path "notify")
    start(box, "", environment { WATCHDOG_USEC = "2000" })
    support.kill(manager.pid, "sigstop")
    local client = box:connect "s"
    for _ = 1, 300 do
      assert.is_true(client:ask("reload").ok)
    end
    support.kill(manager.pid, "sigcont")
  end)
end)

describe("the watchdog of a service manager", function()
  local box = support.with_box(before_each, after_each)

  it("is fed at half of WATCHDOG_USEC", function()
    local wait = manage(box, box:path "notify")
    local before = uv.hrtime()
    start(box, "", { NOTIFY_SOCKET = box:path "notify", WATCHDOG_USEC = "100000" })
    wait(("WATCHDOG=1\n"):rep(20))
    local seconds = (uv.hrtime() - before) / 1e9
    assert.is_true(seconds > 0.9, "fed too often")
    assert.is_true(seconds < 15, "fed too seldom")
  end)

  it("is not fed without WATCHDOG_USEC, or when it is for another process", function()
    local wait, manager = manage(box, box:path "notify")
    for _, env in ipairs { {}, { WATCHDOG_USEC = "1000", WATCHDOG_PID = "1" }, { WATCHDOG_USEC = "0" },
      { WATCHDOG_USEC = "nonsense" } } do
      env.NOTIFY_SOCKET = box:path "notify"
      start(box, "lunad.after(0.05, function() print 'over' end)", env)
      box:wait_log("s", "over")
      box:ok("stop", "s")
      assert(os.remove(box:path "log/s.log"))
    end
    wait(("STOPPING=1.*"):rep(4))
    assert.not_matches("WATCHDOG", manager.out())
  end)

  it("is fed when WATCHDOG_PID names the process", function()
    local wait = manage(box, box:path "notify")
    local path = box:write("s.lua", support.BEAT)
    local command = 'WATCHDOG_USEC=10000 WATCHDOG_PID=$$ exec "$0" run "$1"'
    local process = box:spawn({ "-c", command, support.binary, path },
      { program = "sh", env = { NOTIFY_SOCKET = box:path "notify" } })
    wait(("WATCHDOG=1\n"):rep(3))
    box:ok("stop", "s")
    box:await(process, "the end", process.is_over)
  end)

  it("is fed by the loop itself: not while a callback holds it", function()
    local wait, manager = manage(box, box:path "notify")
    local pid = start(box, [[
      lunad.signal("USR1", function()
        print "busy"
        repeat local go = io.open(lunad.script .. ".go") until go
      end)
    ]], { NOTIFY_SOCKET = box:path "notify", WATCHDOG_USEC = "2000" })
    wait "WATCHDOG=1"
    support.kill(pid, "sigusr1")
    box:wait_log("s", "busy")
    manager.turn()
    local count = select(2, manager.out():gsub("WATCHDOG", ""))
    uv.sleep(200) -- a hundred and more would come
    manager.turn()
    assert.is_true(select(2, manager.out():gsub("WATCHDOG", "")) <= count + 20)
    box:write("s.lua.go", "")
    wait(("WATCHDOG=1\n"):rep(count + 30))
  end)
end)

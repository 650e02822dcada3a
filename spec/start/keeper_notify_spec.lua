-- A service manager that checks who sends what, as systemd does: it listens to the main process, which is the
-- keeper until it has named another one.

local support = require "support"

local uv = support.uv

local library

local function build_manager()
  library = os.tmpname()
  os.remove(library)
  assert(uv.fs_mkdir(library, tonumber("755", 8)))
  assert(os.execute(("cc -O1 -o %s/manager %s/spec/fixtures/manager.c"):format(library, support.root)))
end

local function remove_manager()
  os.remove(library .. "/manager")
  os.remove(library)
end

describe("A service manager with a keeper in between", function()
  local box = support.with_box(before_each, after_each)
  local manager
  setup(build_manager)
  teardown(remove_manager)

  -- Wait for a pattern among what the manager was told, a message a line.
  local function told(pattern)
    return box:await(manager, ("%q told to the manager"):format(pattern), function()
      return manager.out():match(pattern)
    end)
  end

  -- Start the manager, until the end of the spec.
  local function manage()
    local process = box:spawn({ box:path "notify" }, { program = library .. "/manager" })
    manager = process
    finally(function()
      support.kill(process.pid, "sigkill")
      box:await(process, "the manager's end", process.is_over)
    end)
    told "listening\n"
  end

  -- How often it was told something.
  local function count(pattern)
    return select(2, manager.out():gsub(pattern, ""))
  end

  local function environment(extra)
    local env = { NOTIFY_SOCKET = box:path "notify", ASAN_OPTIONS = "detect_leaks=0" }
    for key, value in pairs(extra or {}) do env[key] = value end
    return env
  end

  -- Start the daemon "s"; its pid and the keeper's.
  local function start(text, env, ...)
    local words = { "start", ... }
    words[#words + 1] = box:write("s.lua", text)
    local result = box:run(words, { env = environment(env) })
    assert.equal(0, result.code, result.err)
    local pid = math.tointeger(tonumber(result.out:match "pid (%d+)"))
    return pid, math.tointeger(tonumber((told "\n(%d+): READY")))
  end

  it("is told READY and MAINPID by the keeper, then the rest by the process itself", function()
    manage()
    local pid, keeper = start(support.BEAT .. "lunad.status 'busy'", nil, "--restart", "on-failure")
    told(("\n%d: READY=1 MAINPID=%d\n.*%d: STATUS=busy\n"):format(keeper, pid, pid))
    box:ok("reload", "s")
    told(("%d: RELOADING=1 MONOTONIC_USEC=%%d+\n.*%d: READY=1\n"):format(pid, pid))
    box:reload "error 'no'"
    told((("%d: RELOADING=1 MONOTONIC_USEC=%%d+\n.*%d: READY=1\n"):format(pid, pid)):rep(2, ".*"))
    box:ok("stop", "s")
    told(("%d: STOPPING=1\n"):format(pid))
    assert.equal(1, count "MAINPID")
    assert.equal(1, count "STOPPING")
  end)

  it("is told by the process that it started, with run too", function()
    manage()
    local process = box:spawn({ "run", "--restart", "always", box:write("s.lua", support.BEAT) },
      { env = environment() })
    local pid = told(("\n%d: READY=1 MAINPID=(%%d+)\n"):format(process.pid))
    assert.not_equal(tostring(process.pid), pid)
    assert.equal(tonumber(pid), box:status("s").pid)
    box:ok("stop", "s")
    box:await(process, "the end", process.is_over)
    told(pid .. ": STOPPING=1\n")
  end)

  it("is told the same of --user", function()
    if not support.is_root then
      return pending "needs root"
    end
    manage()
    local pid, keeper = start(support.BEAT, nil, "--user", "65534")
    told(("\n%d: READY=1 MAINPID=%d\n"):format(keeper, pid))
    box:ok("reload", "s")
    told(("%d: RELOADING=1 MONOTONIC_USEC=%%d+\n.*%d: READY=1\n"):format(pid, pid))
    box:ok("stop", "s")
    told(pid .. ": STOPPING=1\n")
  end)

  it("is told the new MAINPID after each restart, and no STOPPING before the end", function()
    manage()
    local pid, keeper = start(support.BEAT, nil, "--restart", "on-failure")
    for _ = 1, 2 do
      support.kill(pid, "sigkill")
      local next_pid = told(("%d: READY=1 MAINPID=%d.*%d: STATUS=restarting %%(killed by SIGKILL%%)\n"
        .. "%d: READY=1 MAINPID=(%%d+) STATUS=\n"):format(keeper, pid, keeper, keeper))
      pid = math.tointeger(tonumber(next_pid))
    end
    assert.equal(0, count "STOPPING")
    box:ok("stop", "s")
    told(pid .. ": STOPPING=1\n")
    assert.equal(3, count "READY")
  end)

  it("is not told STOPPING by a script that finishes, and is started again", function()
    manage()
    local _, keeper = start("print 'once'", nil, "--restart", "always")
    told((".*READY=1 MAINPID=%d+[^\n]*\n"):rep(5) .. ".*" .. keeper .. ": STOPPING=1\n")
    assert.equal(1, count "STOPPING")
  end)

  it("is not told STOPPING by a later start that fails, and is repeated", function()
    manage()
    local pid, keeper = start(support.BEAT, nil, "--restart", "on-failure")
    box:write("s.lua", "error 'later'")
    support.kill(pid, "sigkill")
    local before = told("^(.-)" .. keeper .. ": STATUS=restarting %(failed to start: [^\n]*later%)\n")
    assert.is_nil(before:find("STOPPING", 1, true), before)
    box:ok("stop", "s")
  end)

  it("is told STOPPING by the keeper when that is stopped in between", function()
    manage()
    local _, keeper = start(support.FAILS, nil, "--restart", "on-failure")
    box:wait_log("s", "restarting in 0.8 s")
    box:ok("stop", "s")
    told(keeper .. ": STOPPING=1\n")
  end)

  it("hears from its watchdog in between too", function()
    manage()
    local _, keeper = start(support.FAILS, { WATCHDOG_USEC = "20000" }, "--restart", "on-failure")
    told((keeper .. ": WATCHDOG=1\n"):rep(3))
    local pid = told(("READY=1 MAINPID=(%d+)[^\n]*\n.*"):rep(5):gsub("%(%%d%+%)", "%%d+", 4))
    told((pid .. ": WATCHDOG=1\n"):rep(3))
    box:ok("stop", "s")
  end)
end)

describe("--notify-fd", function()
  local box = support.with_box(before_each, after_each)

  -- Whether a process has the file NAME of the box open.
  local function has_open(pid, name)
    local scan = uv.fs_scandir(("/proc/%d/fd"):format(pid))
    for number in function() return scan and uv.fs_scandir_next(scan) end do
      if uv.fs_readlink(("/proc/%d/fd/%s"):format(pid, number)) == box:path(name) then
        return true
      end
    end
    return false
  end

  local WAITS = support.BEAT .. [[
    lunad.spawn { "sleep", "600" }
    lunad.signal("USR1", lunad.ready)
    print "loaded"
  ]]

  for _, restart in ipairs { "no", "on-failure" } do
    it("is told once when a daemon is ready, and closed then, with --restart " .. restart, function()
      box:write("s.lua", WAITS)
      local command = 'exec "$0" start --restart $1 --wait-ready --notify-fd 7 s.lua 7>ready'
      local process = box:spawn({ "-c", command, support.binary, restart }, { program = "sh" })
      box:wait_log("s", "loaded\n")
      assert.equal("", box:read "ready")
      local pid = math.tointeger(tonumber(box:read "run/s.pid"))
      local holder = restart == "no" and pid or support.parent_of(pid)
      support.wait_for("the only holder", function() -- the starting process closes it, too
        local holders = {}
        for _, other in ipairs(box:marked()) do
          holders[#holders + 1] = has_open(other, "ready") and other or nil
        end
        return #holders == 1 and holders[1] == holder
      end)
      support.kill(pid, "sigusr1")
      box:await(process, "the start", process.is_over)
      assert.equal("\n", box:read "ready")
      assert.same({ false, false }, { has_open(pid, "ready"), has_open(support.parent_of(pid), "ready") })
      box:write("s.lua", support.BEAT .. "lunad.ready()")
      box:ok("reload", "s")
      box:ok("stop", "s")
      assert.equal("\n", box:read "ready")
    end)
  end

  it("is told by run", function()
    box:write("s.lua", "lunad = require 'lunad' lunad.after(0.01, function() print 'later' end)")
    local result = box:shell('"$1" run --notify-fd 5 s.lua 5>ready')
    assert.same({ 0, "later\n" }, { result.code, result.out })
    assert.equal("\n", box:read "ready")
  end)

  it("is told once by run, not at each restart", function()
    box:write("s.lua", "lunad = require 'lunad' lunad.after(0.01, function() os.exit(1) end)")
    local result = box:shell('"$1" run --restart on-failure --notify-fd 5 s.lua 5>ready')
    assert.equal(1, result.code)
    assert.equal("\n", box:read "ready")
  end)

  it("is not told by a start that fails", function()
    box:write("s.lua", "error 'no'")
    assert.equal(1, box:shell('"$1" start --notify-fd 5 s.lua 5>ready').code)
    assert.equal("", box:read "ready")
  end)

  it("must be an open descriptor above 2 that can be written", function()
    box:idle "s"
    for words, redirection in pairs { ["0"] = "", ["2"] = "", ["9"] = "", ["6"] = "6<s.lua" } do
      for _, verb in ipairs { "run", "start" } do
        local result = box:shell(('"$1" %s --notify-fd %s s.lua %s'):format(verb, words, redirection))
        assert.equal(2, result.code, words .. result.err)
        assert.matches("^lunad: " .. verb .. ": %-%-notify%-fd: \"" .. words .. "\"", result.err)
      end
    end
    assert.same({}, box:left_files())
  end)

  it("whose reader has gone does not stop the start", function()
    box:idle "s"
    local result = box:shell('exec 5> >(true); wait $!; "$1" start --notify-fd 5 s.lua')
    assert.equal(0, result.code, result.err)
    box:wait_log("s", "%-%-notify%-fd 5: it was not told that this is ready: Broken pipe")
    box:ok("stop", "s")
  end)

  it("is of the first start: lunad restart does not write anywhere", function()
    box:idle "s"
    assert.equal(0, box:shell('"$1" start --notify-fd 5 s.lua 5>ready').code)
    assert.equal(0, box:shell('"$1" restart s 5>other').code)
    assert.same({ "\n", "" }, { box:read "ready", box:read "other" })
    box:ok("stop", "s")
  end)
end)

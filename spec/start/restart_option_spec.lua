-- --restart: the keeper starts one process after the other, and is the daemon in between.

local support = require "support"

local uv = support.uv

local WAITS = "exited with status 3, after [%d.]+ s; restarting in 0.8 s\n"

-- Wait until the daemon NAME runs in another process than `before`; its pid.
local function wait_next(box, name, before)
  return support.wait_for("the next start", function()
    local pid = math.tointeger(tonumber(box:read("run/" .. name .. ".pid") or ""))
    if pid and pid ~= before and pid ~= support.parent_of(before) and support.is_alive(pid) then
      local _, count = box:log(name):gsub("started %(pid " .. pid .. "%)", "")
      return count > 0 and pid
    end
  end)
end

-- Kill a process, and wait for the next one.
local function crash(box, pid, signal)
  support.kill(pid, signal or "sigkill")
  return wait_next(box, "s", pid)
end

-- How often the script was started, by its log.
local function starts(box)
  return select(2, box:log("s"):gsub("lunad: started", ""))
end

describe("--restart", function()
  local box = support.with_box(before_each, after_each)

  -- Have the daemon "s" wait for its next start while `check` runs. A busy machine may start it too early;
  -- then try again.
  local function between(check)
    for _ = 1, 15 do
      box:write("s.lua", support.FAILS)
      box:ok("start", "--restart", "on-failure", "s.lua")
      box:wait_log("s", WAITS)
      local results = table.pack(check())
      if starts(box) < 5 or box:log("s"):find "stopped before it was restarted" then
        return table.unpack(results, 1, results.n)
      end
      box:lunad("stop", "s")
      os.remove(box:path "s.lua.count")
      os.remove(box:path "log/s.log")
    end
    error "the machine is too slow"
  end

  -- Run several verbs at once: the result of each, as from box:lunad.
  local function together(...)
    local processes = {}
    for i, words in ipairs { ... } do processes[i] = box:spawn(words) end
    for _, process in ipairs(processes) do
      box:await(process, "the end of a verb", process.is_over)
      process.out, process.err = process.out(), process.err()
    end
    return table.unpack(processes)
  end

  it("on-failure starts again what a signal has killed, as a new daemon", function()
    local pid = box:serve("print('state', lunad.state, lunad.generation)", "--restart", "on-failure")
    local keeper = support.parent_of(pid)
    box:reload "print('state', lunad.state, lunad.generation)"
    local next_pid = crash(box, pid)
    assert.equal(keeper, support.parent_of(next_pid))
    local status = box:status "s"
    assert.same({ next_pid, "running", 1 }, { status.pid, status.state, status.generation })
    assert.same({ 1, "killed by SIGKILL" }, { status.restarts.count, status.restarts.last.message })
    box:wait_log("s", "s %(pid " .. pid .. "%) was killed by SIGKILL, after [%d.]+ s; restarting in 0.1 s\n")
    assert.equal(2, select(2, box:log("s"):gsub("state\tnil\t1\n", "")))
    box:ok("reload", "s")
    box:ok("stop", "s")
    assert.same({}, box:left_files())
  end)

  it("on-failure starts again what has failed, and not what has finished", function()
    local pid = box:serve([[
      lunad.signal("USR1", function() lunad.stop(3) end)
      lunad.signal("USR2", function() os.exit(0) end)
    ]], "--restart", "on-failure")
    local next_pid = crash(box, pid, "sigusr1")
    box:wait_log("s", "exited with status 3, after")
    support.kill(next_pid, "sigusr2")
    box:wait_all_gone()
    assert.equal(2, starts(box))
    assert.same({}, box:left_files())
  end)

  it("always starts again what has finished too", function()
    local pid = box:serve("lunad.signal('USR1', function() lunad.stop() end)", "--restart", "always")
    crash(box, pid, "sigusr1")
    box:wait_log("s", "info  lunad: s %(pid %d+%) finished, after [%d.]+ s; restarting in 0.1 s\n")
    box:ok("stop", "s")
    assert.equal(2, starts(box))
    assert.same({}, box:left_files())
  end)

  it("is given up at the fifth start in ten seconds", function()
    local result = box:lunad("start", "--restart", "always", box:write("s.lua", "print 'once'"))
    assert.equal(0, result.code, result.err)
    box:wait_log("s", "giving up: 5 starts of s within 10 s\n")
    box:wait_all_gone()
    assert.equal(5, select(2, box:log("s"):gsub("once\n", "")))
    for _, delay in ipairs { "0.1", "0.2", "0.4", "0.8" } do
      local words = support.pattern("restarting in " .. delay .. " s\n")
      assert.equal(1, select(2, box:log("s"):gsub(words, "")))
    end
    assert.same({ "s.start" }, box:left_files())
    local status = box:lunad("status", "s")
    assert.equal(3, status.code)
    assert.matches("it was given up after 5 starts within 10 s %(finished%) at 20", status.out)
  end)

  it("is given up by run with status 1", function()
    local result = box:run { "run", "--restart", "on-failure", "-e",
      "lunad = require 'lunad' lunad.after(0.01, function() os.exit(7) end)" }
    assert.equal(1, result.code)
    assert.equal(5, select(2, result.err:gsub("exited with status 7", "")))
    assert.equal(1, select(2, result.err:gsub("giving up: 5 starts", "")))
  end)

  it("does not repeat the first start", function()
    local result = box:lunad("start", "--restart", "always", box:write("s.lua", "print 'once' error 'no'"))
    assert.equal(1, result.code)
    assert.truthy(result.err:find "s.lua:1: no", result.err)
    assert.equal(1, select(2, box:log("s"):gsub("once\n", "")))
    assert.same({}, box:left_files())
  end)

  it("repeats a later start that fails, until the script is mended", function()
    local pid = box:serve("", "--restart", "on-failure")
    box:write("s.lua", "local = 1")
    support.kill(pid, "sigkill")
    box:wait_log("s", "failed to start: [^\n]*s.lua:1: [^\n]*, after [%d.]+ s; restarting in 0.2 s")
    box:write("s.lua", support.BEAT)
    wait_next(box, "s", pid)
    local last = box:status("s").restarts.last
    assert.truthy(last.message:find "^failed to start: .*s.lua:1: ", last.message)
    box:ok("stop", "s")
  end)

  it("kills a later start that cannot end by itself, when its time is over, and repeats it", function()
    local pid = box:serve("", "--restart", "on-failure", "--start-timeout", "0.5")
    box:write("s.lua", "local lunad = require 'lunad' lunad.kill(lunad.pid, 'STOP')")
    support.kill(pid, "sigkill")
    box:wait_log("s", "did not start within 0.5 s: killing it\n")
    box:write("s.lua", support.BEAT)
    box:wait_log("s", "killing it\n[^\n]*was killed by SIGKILL[^\n]*; restarting in 0.2 s\n")
    wait_next(box, "s", pid)
    assert.equal("killed by SIGKILL", box:status("s").restarts.last.message)
    box:ok("stop", "s")
  end)

  for what, stop in pairs {
    ["lunad stop"] = function(_, b) b:ok("stop", "s") end,
    ["SIGTERM"] = function(pid) support.kill(pid) end,
  } do
    it("does not follow a later start that was interrupted by " .. what, function()
      local pid = box:serve("", "--restart", "on-failure")
      box:write("s.lua", "print 'held' while true do pcall(string.rep, 'x') end")
      support.kill(pid, "sigkill")
      box:wait_log("s", "held\n")
      stop(math.tointeger(tonumber(box:read "run/s.pid")), box)
      box:wait_all_gone()
      assert.equal(1, select(2, box:log("s"):gsub("held\n", "")), box:log "s")
      assert.same({}, box:left_files())
    end)
  end

  for what, stop in pairs {
    ["lunad stop"] = function(_, b) b:ok("stop", "s") end,
    ["SIGTERM"] = function(pid) support.kill(pid) end,
    ["SIGINT"] = function(pid) support.kill(pid, "sigint") end,
    ["SIGTERM to the keeper"] = function(pid) support.kill(support.parent_of(pid)) end,
    ["a hang-up with --hup stop"] = function(pid) support.kill(pid, "sighup") end,
  } do
    it("does not follow " .. what, function()
      local pid = box:serve("", "--restart", "always", "--hup", "stop")
      stop(pid, box)
      box:wait_all_gone()
      assert.equal(1, starts(box))
      assert.same({}, box:left_files())
    end)
  end

  it("does not follow a stop on which the script fails, or which it takes into its own hands", function()
    for _, text in ipairs {
      "lunad.signal('TERM', function() lunad.after(0.01, function() lunad.stop(5) end) end)",
      "lunad.on_stop(function() lunad.kill(lunad.pid, 'KILL') end)",
    } do
      local pid = box:serve(text, "--restart", "always")
      support.kill(pid)
      box:wait_all_gone()
      assert.equal(1, starts(box))
      box:lunad("stop", "s")
      os.remove(box:path "log/s.log")
    end
  end)

  it("does not follow a stop that had to kill", function()
    box:serve("lunad.on_stop(function() lunad.sleep(60) end)", "--restart", "always")
    assert.truthy(box:lunad("stop", "--timeout", "0.2", "s").err:find "was killed")
    box:wait_all_gone()
    assert.equal(1, starts(box))
    assert.same({}, box:left_files())
  end)

  it("serves clients that came before the next start", function()
    local path = box:path "u.sock"
    local pid = box:serve(([[
      local uv = require "luv"
      local server = uv.new_pipe()
      server:open(lunad.listen "unix:%s")
      server:listen(8, function()
        local client = uv.new_pipe()
        server:accept(client)
        client:write("pid " .. lunad.pid .. "\n", function() client:close() end)
      end)
    ]]):format(path), "--restart", "on-failure", "--listen", "unix:" .. path)
    local keeper = support.parent_of(pid)
    support.kill(keeper, "sigstop")
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    local client, answer = uv.new_pipe(), ""
    client:connect(path, function(err) assert(not err, err) client:read_start(function(_, chunk)
      answer = answer .. (chunk or "")
    end) end)
    uv.run "nowait"
    support.kill(keeper, "sigcont")
    local next_pid = wait_next(box, "s", pid)
    support.wait_for("an answer", function() uv.run "nowait" return answer == "pid " .. next_pid .. "\n" end)
    client:close()
    box:ok("stop", "s")
    assert.is_nil(uv.fs_lstat(path))
  end)

  it("ends the children of the one before, kept ones too, and leaves detached ones", function()
    local pid = box:serve([[
      if io.open(lunad.script .. ".2") then return end
      io.open(lunad.script .. ".2", "w"):close()
      lunad.spawn { "sleep", "600", name = "kept", keep = true }
      lunad.spawn { "sh", "-c", "setsid sleep 600 & sleep 600" }
      lunad.spawn { "sleep", "600", detach = true, on_exit = print }
      print("children", lunad.stats().children[3].pid)
    ]], "--restart", "on-failure")
    local detached = math.tointeger(tonumber((box:wait_log("s", "children\t(%d+)\n"))))
    support.wait_for("all processes", function() return #box:marked() == 7 end)
    crash(box, pid)
    local left = box:marked()
    table.sort(left)
    assert.equal(3, #left) -- keeper, host, and the detached one
    assert.is_true(support.is_alive(detached))
    support.kill(detached, "sigkill")
    box:ok("stop", "s")
  end)

  it("keeps the name: a second start fails with 4 in between", function()
    local result = between(function() return box:lunad("start", "s.lua") end)
    assert.equal(4, result.code)
    assert.matches("already running: its keeper %(pid %d+%) is about to start it again", result.err)
    box:ok("stop", "s")
  end)

  it("is shown by status and list in between, with status 0", function()
    local status, list, json = between(function()
      return together({ "status", "s" }, { "list" }, { "status", "--json", "s" })
    end)
    local says = "restarting in %d%.%d s %(exited with status 3%)"
    assert.truthy(status.out:find("^s: " .. says), status.out)
    assert.same({ 0, 0, 0 }, { status.code, list.code, json.code })
    assert.truthy(list.out:find("s +%- +" .. says), list.out)
    local report = support.json.decode(json.out)
    assert.same({ "s", "restarting", 3 }, { report.name, report.state, report.restarts.count })
    assert.is_nil(report.pid)
    assert.is_true(report.restarts.due > 0 and report.restarts.due <= 0.8)
    box:wait_log("s", "started.*started.*started.*started.*started")
    assert.truthy(box:ok("list"):find("s.lua; restarts: 4, exited with status 3\n", 1, true))
    box:ok("stop", "s")
  end)

  it("has verbs that answer at once in between", function()
    local reload, reopen, usr2, usr1 = between(function()
      return together({ "reload", "s" }, { "reopen", "s" }, { "signal", "s", "USR2" },
        { "signal", "s", "USR1" })
    end)
    assert.equal(1, reload.code)
    assert.matches("s: not reloaded: restarting in %d.%d s %(exited with status 3%), with the", reload.err)
    assert.same({ 0, "s: log reopened\n" }, { reopen.code, reopen.out })
    assert.equal(1, usr2.code)
    assert.truthy(usr2.err:find "s: restarting in .*: no process is there to get SIGUSR2", usr2.err)
    assert.equal(0, usr1.code)
    box:wait_log("s", "log reopened.*log reopened")
    box:ok("stop", "s")
  end)

  for what, stop in pairs {
    ["lunad stop"] = function(b) return b:ok("stop", "s") end,
    ["lunad signal TERM"] = function(b) return b:ok("signal", "s", "TERM") end,
    ["SIGTERM to the process that the pidfile names"] = function(b)
      support.kill(math.tointeger(tonumber(b:read "run/s.pid")))
    end,
  } do
    it("ends at once in between by " .. what, function()
      between(function()
        stop(box)
        box:wait_all_gone()
      end)
      assert.same({}, box:left_files())
      assert.equal(4, starts(box))
      assert.truthy(box:log("s"):find "stopped before it was restarted\n$")
    end)
  end

  it("can be restarted in between, and is kept by lunad restart", function()
    local result = between(function()
      os.remove(box:path "s.lua.count") -- the count begins again
      return box:lunad("restart", "s")
    end)
    assert.equal(0, result.code, result.err)
    box:wait_log("s", "stopped before it was restarted\n.*status 3")
    box:wait_log("s", ("started.*"):rep(9))
    box:ok("stop", "s")
  end)

  it("makes files again that are removed in between", function()
    between(function()
      os.remove(box:path "run/s.pid")
      os.remove(box:path "run/s.sock")
      box:wait_log("s", "they were made again")
      return box:ok("status", "s")
    end)
    box:wait_log("s", ("started.*"):rep(5))
    local pid = box:status("s").pid
    assert.equal(pid .. "\n", box:read "run/s.pid")
    assert.equal(4, box:lunad("start", "s.lua").code)
    box:ok("stop", "s")
    assert.same({}, box:left_files())
  end)

  it("is not delayed by clients of the control socket that say nothing, or nonsense", function()
    local pid = box:serve("", "--restart", "on-failure")
    local keeper = support.parent_of(pid)
    support.kill(keeper, "sigstop")
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    local clients = {}
    for i = 1, 40 do clients[i] = box:connect "s" end
    clients[40]:send "nonsense\n"
    support.kill(keeper, "sigcont")
    assert.is_false(clients[40]:answer().ok)
    wait_next(box, "s", pid)
    assert.equal("running", box:connect("s"):ask("status").state)
    box:ok("stop", "s")
  end)

  it("logs to the new file after a rotation", function()
    local pid = box:serve("", "--restart", "on-failure")
    assert(os.rename(box:path "log/s.log", box:path "log/s.log.1"))
    box:ok("reopen", "s")
    crash(box, pid)
    assert.truthy(box:log("s"):find "was killed by SIGKILL.*started")
    assert(os.rename(box:path "log/s.log", box:path "log/s.log.2"))
    box:ok("reopen", "s")
    box:wait_log("s", "log reopened")
    box:ok("stop", "s")
    assert.truthy(box:log("s"):find "stopped\n$")
  end)

  it("is of no use when the keeper was killed: the daemon goes on, and stop cleans up", function()
    local pid = box:serve("", "--restart", "always")
    support.kill(support.parent_of(pid), "sigkill")
    box:wait_log("s", "the keeper is gone: no process will restart this or clean up\n")
    assert(os.rename(box:path "log/s.log", box:path "log/s.log.1"))
    box:ok("reopen", "s")
    assert.equal(pid, box:status("s").pid)
    assert.equal(4, box:lunad("start", "s.lua").code)
    box:ok("reload", "s")
    box:ok("stop", "s")
    assert.same({}, box:left_files())
  end)

  it("works for run, with a script from stdin, up to its exit status", function()
    local process = box:spawn({ "run", "--name", "s", "--restart", "on-failure", "-" }, { input =
      "lunad = require 'lunad' lunad.every(60, print) print('pid', lunad.pid)" })
    box:await(process, "the start", function() return process.err():find "started" end)
    local pid = support.wait_for("a ready script", function() -- and the keeper knows that it is
      local status = box:status "s"
      return status.ready and status.pid
    end)
    assert.equal(process.pid, support.parent_of(pid))
    support.kill(pid, "sigkill")
    box:await(process, "the next start", function() return process.out():match "pid\t%d+\npid\t%d+\n" end)
    assert.equal(1, box:status("s").restarts.count)
    box:ok("stop", "s")
    box:await(process, "the end", process.is_over)
    assert.same({ 0, 0 }, { process.code, process.signal })
    assert.same({}, box:left_files())
  end)

  it("stops under run when a terminal interrupts both processes", function()
    local path = box:write("s.lua",
      support.BEAT .. "lunad.on_stop(function() lunad.sleep(0.05) print 'bye' end)")
    local process = box:spawn({ "run", "--restart", "always", path }, { detached = true })
    box:await(process, "the start", function() return process.err():find "started" end)
    assert(uv.kill(-process.pid, "sigint")) -- its group, which is its own
    box:await(process, "the end", process.is_over)
    assert.same({ 0, "bye\n" }, { process.code, process.out() })
    assert.not_matches("again", process.err())
  end)

  it("does not start again what has lost the reader of its stdout", function()
    box:write("s.lua", "lunad = require 'lunad' lunad.every(0.001, function() print 'line' end)")
    local result = box:shell("\"$1\" run --restart always s.lua | head -1; echo ${PIPESTATUS[0]}")
    assert.equal("line\n141\n", result.out)
  end)

  it("gives each process the rights of --user, and no descriptor that can write the pidfile", function()
    if not support.is_root then
      return pending "needs root"
    end
    local env = { ASAN_OPTIONS = "detect_leaks=0" }
    local result = box:run({ "start", "--user", "65534", "--restart", "on-failure",
      box:write("s.lua", support.BEAT) }, { env = env })
    assert.equal(0, result.code, result.err)
    local pid = crash(box, math.tointeger(tonumber(result.out:match "pid (%d+)")))
    assert.equal("65534", support.proc_status(pid).Uid:match "%d+")
    local scan = assert(uv.fs_scandir(("/proc/%d/fd"):format(pid)))
    for number in function() return uv.fs_scandir_next(scan) end do
      if uv.fs_readlink(("/proc/%d/fd/%s"):format(pid, number)) == box:path "run/s.pid" then
        local info = support.read(("/proc/%d/fdinfo/%s"):format(pid, number))
        assert.equal("0", info:match "flags:%s*%d*(%d)\n")
      end
    end
    assert.equal(("s: SIGWINCH sent to pid %d\n"):format(pid), box:ok("signal", "s", "WINCH"))
    box:ok("stop", "s")
    assert.same({}, box:left_files())
  end)
end)

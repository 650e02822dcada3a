-- A service of several processes: --workers.

local support = require "support"
local workers = require "support.workers"

describe("--workers", function()
  local box = support.with_box(before_each, after_each)

  it("runs a master and workers, each with its name, files, title and log lines", function()
    local master = workers.start(box, 3, [[
      print("I am", lunad.worker, lunad.workers, lunad.name, ...)
      io.write("raw from " .. lunad.worker .. "\n")
    ]])
    for worker = 1, 3 do
      local pid, name = workers.pid(box, worker), "s-" .. worker
      assert.equal(master, support.parent_of(pid))
      assert.equal("lunad: " .. name, support.read(("/proc/%d/cmdline"):format(pid)):match "^%Z+")
      local status = box:status(name)
      assert.same({ name, pid, 1, box:path "s.lua" },
        { status.name, status.pid, status.generation, status.script })
      assert.truthy(box:log("s"):find(("Z info  %s: I am\t%d\t3\t%s\n"):format(name, worker, name), 1, true))
      assert.truthy(box:log("s"):find(("\nraw from %d\n"):format(worker), 1, true))
      assert.truthy(box:log("s"):find(("worker %d: started (pid %d)"):format(worker, pid), 1, true))
    end
    assert.equal("s: stopped\n", box:ok("stop", "s"))
    assert.same({}, support.uv.fs_scandir_next(support.uv.fs_scandir(box:path "run")) or {})
    local _, stopped = box:log("s"):gsub("lunad: worker %d: stopped\n", "")
    assert.equal(3, stopped)
  end)

  it("does not take the words of the master itself from a worker", function()
    workers.start(box, 2, [[
      local uv = require "luv"
      local packets = {} -- the sockets of packets, by inode
      for line in io.lines "/proc/net/unix" do
        local inode = line:match "^%S+ %S+ %S+ %S+ 0005 %S+ +(%d+)"
        packets[inode or 0] = true
      end
      lunad.signal("USR1", function()
        local sent = 0
        for name in uv.fs_scandir_next, uv.fs_scandir "/proc/self/fd" do
          local inode = (uv.fs_readlink("/proc/self/fd/" .. name) or ""):match "^socket:%[(%d+)%]$"
          for _, word in ipairs(packets[inode] and { "kill", "restart", "gone", "start" } or {}) do
            local packet = "lunad/1 0 " .. word
            sent = sent + (uv.fs_write(math.tointeger(tonumber(name)), packet) == #packet and 1 or 0)
          end
        end
        print("sent " .. sent)
      end)]])
    local before = { workers.pid(box, 1), workers.pid(box, 2) }
    support.kill(before[2], "sigusr1")
    box:wait_log("s", "s%-2: sent [1-9]")
    box:ok("reload", "s") -- what was sent before is received
    assert.same(before, { workers.pid(box, 1), workers.pid(box, 2) })
    assert.is_nil(box:log("s"):find("restarted", 1, true))
  end)

  it("starts a worker that was killed again, with the code in force and not that on the disk", function()
    box:write("m.lua", "return 'old module'")
    workers.start(box, 2, 'print("runs", require "m")')
    local before = { workers.pid(box, 1), workers.pid(box, 2) }
    box:write("m.lua", "error 'new module'")
    box:write("s.lua", "error 'new script'")
    support.kill(before[2], "sigkill")
    workers.wait_next(box, 2, before[2])
    local _, runs = box:log("s"):gsub("s%-2: runs\told module", "")
    assert.equal(2, runs)
    assert.equal(before[1], workers.pid(box, 1))
    assert.matches("worker 2 was killed by SIGKILL; starting it again in 0.1 s", box:log "s")
  end)

  it("fails to start as a whole when one worker does, in the words of that", function()
    local script = box:write("s.lua", support.BEAT .. "if lunad.worker == 2 then error 'not this one' end")
    local message = box:refused(1, "start", "--workers", "2", script)
    assert.matches("^lunad: worker 2: .*s%.lua:1: not this one", message)
    assert.same({}, support.uv.fs_scandir_next(support.uv.fs_scandir(box:path "run")) or {})
    local run = box:lunad("run", "--workers", "2", script)
    local _, times = run.err:gsub("not this one\n", "")
    assert.same({ 1, 1 }, { run.code, times })
  end)

  it("refuses names that are in use, and counts that are none", function()
    box:start("--name", "s-2", box:idle "other")
    local script = box:idle "s"
    assert.matches("s%-2 is already running", box:refused(4, "start", "--workers", "2", script))
    assert.matches("workers: \"0\"", box:refused(2, "start", "--workers", "0", script))
    assert.matches("workers: \"few\"", box:refused(2, "start", "--workers", "few", script))
    box:ok("stop", "s-2")
    assert.equal("s: started", box:ok("start", "--workers", "auto", script):match "^s: started")
    box:ok("stop", "s")
    assert.equal("s: finished\n", box:ok("start", "--workers", "2", box:write("s.lua", "")))
  end)

  it("gives a script from the command line, or from stdin, to all workers", function()
    local chunk = "print('at', require 'lunad'.worker, ...) "
    local quiet = box:lunad("run", "--workers", "2", "-e", chunk, "x")
    assert.same({ 0, "at\t1\tx\nat\t2\tx\n", "" }, { quiet.code, quiet.out, quiet.err })
    local run = box:run({ "run", "--workers", "2", "-", "y" }, { input = chunk })
    assert.equal("at\t1\ty\nat\t2\ty\n", run.out)
  end)

  it("stops one worker alone, and a reload starts it again", function()
    workers.start(box, 2, "")
    assert.equal("s-2: stopped\n", box:ok("stop", "s-2"))
    box:wait_log("s", "worker 2 was stopped")
    assert.is_nil(box:read "run/s-2.pid")
    assert.equal(1, box:status("s-1").generation)
    box:ok("reload", "s")
    workers.wait_next(box, 2)
    assert.equal(2, box:status("s-1").generation)
  end)

  it("makes removed files of workers again, with a keeper or without", function()
    for _, restart in ipairs { "no", "always" } do
      workers.start(box, 2, "", "--restart", restart)
      for _, kind in ipairs { "pid", "sock" } do
        os.remove(box:path("run/s-2." .. kind))
      end
      support.wait_for("the files of worker 2", function()
        return workers.pid(box, 2) and box:lunad("status", "s-2").code == 0
      end)
      assert.equal("s-2: stopped\n", box:ok("stop", "s-2"))
      box:ok("stop", "s")
    end
  end)

  it("gives up when no worker can be kept alive", function()
    workers.start(box, 2, "lunad.after(0.05, function() os.exit(3) end)")
    box:wait_log("s", "giving up: worker %d has failed 5 times in a row")
    support.wait_for("the end of the master", function() return not box:read "run/s.pid" end)
    assert.matches("worker %d exited with status 3; starting it again in 0.2 s", box:log "s")
  end)

  it("starts again from nothing when the master is killed", function()
    local master = workers.start(box, 2, "")
    local first = workers.pid(box, 1)
    support.kill(master, "sigkill")
    box:wait_gone(master)
    box:wait_gone(first)
    workers.start(box, 2, "", "--restart", "always")
    support.kill(box:status("s").pid, "sigkill")
    box:wait_log("s", "was killed by SIGKILL, after .-; restarting")
    support.wait_for("the next master", function()
      local list = box:lunad("list", "--json")
      local _, running = list.out:gsub('"state": ?"running"', "")
      return running == 3
    end)
  end)

  it("reopens and rotates one log for all", function()
    workers.start(box, 2, [[
      lunad.signal("USR2", function() for _ = 1, 40 do print(("x"):rep(100)) end end)
      lunad.on_stop(function() print("last words") end)
    ]], "--log-max-size", "3K")
    box:ok("signal", "s-1", "USR2")
    box:ok("signal", "s-2", "USR2")
    support.wait_for("two rotations", function() return box:read "log/s.log.2" end)
    support.uv.fs_rename(box:path "log/s.log", box:path "log/moved")
    box:ok("reopen", "s")
    box:wait_log("s", "log reopened")
    box:ok("stop", "s")
    local _, words = (box:log "s"):gsub("s%-%d: last words", "")
    assert.equal(2, words)
  end)

  if support.is_root then
    it("drops the rights of master and workers, and their files stay root's", function()
      box:shell("chmod 755 $2", { box.dir })
      workers.start(box, 2, "print('uid', require 'luv'.getuid())", "--user", "nobody")
      for worker = 1, 2 do
        assert.equal("65534", support.proc_status(workers.pid(box, worker)).Uid:match "^%d+")
        assert.equal(0, support.uv.fs_stat(box:path(("run/s-%d.pid"):format(worker))).uid)
        assert.matches(("s%%-%d: uid\t65534"):format(worker), box:log "s")
      end
      local before = workers.pid(box, 2)
      support.kill(before, "sigkill")
      workers.wait_next(box, 2, before)
      support.uv.fs_rename(box:path "log/s.log", box:path "log/moved")
      box:ok("reopen", "s")
      box:ok("reload", "s")
      box:wait_log("s", "worker 2: reloaded")
    end)
  end
end)

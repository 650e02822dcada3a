-- What processes of a service with workers leave when they are killed.

local support = require "support"
local workers = require "support.workers"

describe("a service with workers", function()
  local box = support.with_box(before_each, after_each)

  it("whose master was killed leaves no process, and files that stop removes", function()
    local master = workers.start(box, 3, "")
    support.kill(master, "sigkill")
    box:wait_all_gone()
    assert.truthy(box:read "run/s-3.pid")
    box:ok("stop", "s")
    assert.same({}, box:left_files())
    workers.start(box, 2, "")
  end)

  it("whose keeper was killed goes on, and stop removes all its files", function()
    local master = workers.start(box, 2, "", "--restart", "always")
    support.kill(support.parent_of(master), "sigkill")
    box:wait_log("s", "the keeper is gone: no process will restart this or clean up\n")
    assert.equal(0, box:reload("").code)
    box:ok("stop", "s")
    assert.same({}, box:left_files())
  end)

  it("keeps the files of another service whose name looks like that of a worker", function()
    local other = box:start(box:idle "s-2")
    local master = workers.start(box, 1, "", "--workers", "1")
    support.kill(master, "sigkill")
    box:wait_gone(master)
    box:ok("stop", "s")
    assert.equal(other, box:status("s-2").pid)
  end)

  it("starts a worker again that is killed before a reload, and again starts while that goes on", function()
    workers.start(box, 2, "lunad.ready()", "--wait-ready")
    local before = workers.pid(box, 1)
    support.kill(before, "sigkill")
    box:wait_log("s", "worker 1 was killed by SIGKILL; starting it again in 0.1 s")
    local result = box:reload("print 'new' lunad.sleep(lunad.worker == 2 and 0.5 or 0) lunad.ready()")
    assert.equal(0, result.code, result.err)
    box:wait_log("s", "s%-1: new")
    support.wait_for("worker 1", function() return box:lunad("status", "s-1").code == 0 end)
  end)

  it("says that a worker cannot start with the code in force, and the next master knows it", function()
    local text = "local file = lunad.worker == 2 and io.open(%q) if file then error 'not here' end"
    text = text:format(box:path "no")
    workers.start(box, 2, text, "--restart", "always")
    box:ok("reload", "--workers", "3", "s")
    box:write("no", "")
    support.kill(workers.pid(box, 2), "sigkill")
    box:wait_log("s", "worker 2 failed to start")
    box:write("s.lua", support.BEAT .. text)
    assert.matches("reloaded, generation 3 in [%d.]+ ms; not yet tried by 1 worker, which had no process",
      box:ok("reload", "s"))
    local since = #box:log "s"
    support.wait_for("a failure of the new code", function()
      return box:log("s"):find("worker 2 failed to start: [^\n]*not here", since)
    end)
    support.wait_for("the reason in the status", function()
      return box:ok("status", "s"):find("s%-2, waiting: it is about to be started again; " ..
        "restarts: %d+ so far; the last time failed to start: [^\n]*not here")
    end)
    support.uv.fs_unlink(box:path "no")
    support.wait_for("worker 2", function() return box:status("s-2").ready end)
    local worker = box:status "s-2"
    assert.same({ 1, 3 }, { worker.generation, worker.service_generation })
    local report = box:ok("status", "s-2")
    assert.matches(", generation 3 %(1 of this process%)\n", report)
    assert.is_nil(report:find("\n  code", 1, true)) -- the disk has the same
    box:write("s.lua", support.BEAT)
    assert.equal(0, box:lunad("reload", "s").code)
    assert.same({ 2, 4 }, { box:status("s-2").generation, box:status("s-2").service_generation })
    since = #box:log "s"
    support.kill(box:status("s").pid, "sigkill")
    support.wait_for("the next master", function()
      return box:log("s"):find("lunad: started", since, true)
    end)
    assert.equal(3, #box:status("s").workers)
    assert.is_true(box:status("s-2").restarts.count >= worker.restarts.count)
    assert.matches("failed to start: [^\n]*not here", box:status("s-2").restarts.last.message)
  end)

  it("has the proved code in the next workers too, when a master is killed after a rollback", function()
    workers.start(box, 2, "print('good', lunad.worker)", "--restart", "always")
    box:write("s.lua", support.BEAT .. "lunad.after(0.01, function() error 'bad' end)")
    box:refused(1, "reload", "--probation", "30", "s")
    for _ = 1, 2 do -- and again, since the disk has the bad code yet
      local since = #box:log "s"
      support.kill(box:status("s").pid, "sigkill")
      support.wait_for("the good code in both", function()
        local log = box:log("s"):sub(since + 1)
        return log:find("s%-1: good\t1") and log:find("s%-2: good\t2") and log:find("lunad: started", 1, true)
      end)
      support.wait_for("the next master", function() return box:lunad("status", "s").code == 0 end)
    end
    assert.equal(0, box:reload("print('new', lunad.worker)").code)
    box:wait_log("s", "s%-2: new\t2")
  end)
end)

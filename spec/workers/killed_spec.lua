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
    assert.matches("a stale pidfile was removed", box:ok("stop", "s"))
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
end)

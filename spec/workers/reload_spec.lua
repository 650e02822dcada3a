-- The reload of a service of several processes is one transaction.

local support = require "support"
local workers = require "support.workers"

describe("a reload of workers", function()
  local box = support.with_box(before_each, after_each)

  local function generations(...)
    local list = {}
    for i, name in ipairs { ... } do
      list[i] = box:status(name).generation
    end
    return list
  end

  it("reloads all of them in place, with the state of each", function()
    workers.start(box, 2, "lunad.on_reload(function() return lunad.worker * 10 end)")
    local before = { workers.pid(box, 1), workers.pid(box, 2) }
    assert.equal(0, box:reload("print('state', lunad.state)").code)
    assert.same(before, { workers.pid(box, 1), workers.pid(box, 2) })
    box:wait_log("s", "s%-1: state\t10")
    box:wait_log("s", "s%-2: state\t20")
    support.wait_for("all commits", function()
      return table.concat(generations("s", "s-1", "s-2"), " ") == "2 2 2"
    end)
    support.kill(box:status("s").pid, "sighup")
    support.wait_for("a reload by a signal", function()
      return table.concat(generations("s", "s-1", "s-2"), " ") == "3 3 3"
    end)
  end)

  it("changes nothing anywhere when one worker refuses", function()
    workers.start(box, 3, "")
    local result = box:reload("print('new', lunad.worker) if lunad.worker == 2 then error 'no' end")
    assert.equal(1, result.code)
    assert.matches("not reloaded, the old code keeps running: worker 2: .*s%.lua:1: no", result.err)
    assert.same({ 1, 1, 1, 1 }, generations("s", "s-1", "s-2", "s-3"))
    assert.matches("s%-1: new\t1.*s%-%d: new", box:log "s")
    support.wait_for("all to be as before", function()
      return box:status("s-1").state == "running" and box:status("s-3").state == "running"
    end)
    local _, errors = box:log("s"):gsub("Z error ", "")
    assert.equal(1, errors)
    result = box:reload("error 'not one'")
    assert.matches("worker 1: .*s%.lua:1: not one", result.err)
    box:write("s.lua", support.BEAT)
    assert.matches("would reload, ready in", box:ok("reload", "--check", "s"))
    assert.same({ 1, 1, 1, 1 }, generations("s", "s-1", "s-2", "s-3"))
    assert.equal(0, box:reload("").code)
  end)

  it("that is a wrong request changes nothing for the next one, the number of workers neither", function()
    workers.start(box, 2, "")
    local client = box:connect "s"
    client:send '{"verb": "reload", "workers": 3, "probation": "x"}\n'
    assert.matches('"probation" must be', client:answer().error)
    assert.equal(0, box:reload("").code)
    assert.equal(2, box:status("s").generation)
    assert.equal(2, #box:status("s").workers)
    assert.same({ 2, 2 }, generations("s-1", "s-2"))
  end)

  it("is refused when a worker fails that was ready, while another one is not", function()
    local ready = "if lunad.worker < 3 or lunad.generation == 1 then lunad.ready() end\n"
    workers.start(box, 3, ready, "--wait-ready")
    local function refuse(fail, why)
      local result = box:reload(("%s lunad.after(0, function() if lunad.worker == 2 then %s end end)"):format(
        ready, fail))
      assert.equal(1, result.code)
      assert.matches("not reloaded, the old code keeps running: worker 2: " .. why, result.err)
      assert.equal(1, box:status("s").generation)
    end
    refuse("error 'late'", "[^\n]*s.lua:%d+: late")
    local pid = workers.pid(box, 2)
    assert.equal(pid, box:status("s-2").pid)
    refuse("lunad.kill(lunad.pid, 'KILL')", "it ")
    workers.wait_next(box, 2, pid)
    assert.same({ 1, 1, 1, 1 }, generations("s", "s-1", "s-2", "s-3"))
  end)

  it("tells workers that are there again what the others have sent while they were loading", function()
    workers.start(box, 2, [[
      lunad.on_message("hello", function(from) print("hello of " .. from) end)
      lunad.broadcast("hello", lunad.worker)
    ]])
    for number = 1, 2 do
      box:ok("reload", "--workers", "3", "s")
      support.wait_for("the messages to worker 3", function()
        local _, count = box:log("s"):gsub("s%-3: hello of", "")
        return count == 2 * number
      end)
      box:ok("reload", "--workers", "2", "s")
      support.wait_for("the end of worker 3", function()
        local _, count = box:log("s"):gsub("worker 3 was stopped", "")
        return count == number
      end)
    end
    assert.is_nil(box:log("s"):find("are dropped", 1, true))
  end)

  it("follows at once upon another one, though a worker has yet to commit that", function()
    workers.start(box, 2, "")
    local slow = [[
      local function block() local till = lunad.now() + 0.05 while lunad.now() < till do end end
      if lunad.worker == 2 then lunad.every(0.01, block) end
    ]]
    for _ = 1, 5 do
      local result = box:reload(slow)
      assert.equal(0, result.code, result.err)
    end
    box:wait_log("s", "worker 2: reloaded: generation 6")
  end)

  it("can be asked for by a worker, and is that of all", function()
    workers.start(box, 2, 'lunad.signal("USR2", function() lunad.reload() end)')
    box:ok("signal", "s-2", "USR2")
    box:wait_log("s", "worker 1: reloaded: generation 2")
    box:wait_log("s", "worker 2: reloaded: generation 2")
  end)

  it("happens once for all when a file changes, with --watch", function()
    box:write("m.lua", "return 1")
    workers.start(box, 2, "print('module', require 'm')", "--watch")
    box:write("m.lua", "return 2")
    box:wait_log("s", "s%-1: module\t2")
    box:wait_log("s", "s%-2: module\t2")
    box:write("m.lua", "return 3")
    box:wait_log("s", "s%-1: module\t3")
    box:wait_log("s", "s%-2: module\t3")
  end)

  it("changes how many workers there are, and every client is answered", function()
    workers.start(box, 2, workers.SERVE .. 'serve("127.0.0.1:0") print("of", lunad.workers)')
    local port = tonumber((box:wait_log("s", "port (%d+)")))
    box:ok("reload", "--workers", "4", "s")
    assert.truthy(workers.pid(box, 4))
    box:wait_log("s", "s%-1: of\t4")
    local counts = workers.count_answers(port, 100)
    assert.same({ true, true, true, true },
      { counts[1] ~= nil, counts[2] ~= nil, counts[3] ~= nil, counts[4] ~= nil })
    box:ok("reload", "--workers", "1", "s")
    workers.count_answers(port, 100)
    support.wait_for("the others to go", function()
      return not (box:read "run/s-2.pid" or box:read "run/s-3.pid" or box:read "run/s-4.pid")
    end)
    assert.same({ 20 }, workers.count_answers(port, 20))
    box:write("c.lua", [[
      return { name = "s", script = "s.lua", workers = 3, probation = 0.05, listen = "127.0.0.1:1" }
    ]])
    for i = 1, 2 do -- while workers that are too many go, the next reload waits
      assert.matches("passed its probation of 0.05 s", box:ok("reload", "-c", "c.lua", "s"))
      assert.equal(3, #box:status("s").workers)
      box:ok("reload", "--workers", "1", "s")
      box:ok("reload", "--workers", "2", "s")
      workers.count_answers(port, 20)
      local _, stopped = box:log("s"):gsub("worker 3 was stopped", "")
      assert.equal(i + 1, stopped)
    end
    assert.matches("it is a worker: how many", box:refused(1, "reload", "--workers", "2", "s-1"))
    box:ok("reload", "-c", "c.lua", "--workers", "1", "--probation", "0", "s") -- the command line wins
    support.wait_for("the others to go", function() return #box:status("s").workers == 1 end)
    box:start("--name", "alone", "s.lua")
    assert.matches("it was started without workers", box:refused(1, "reload", "--workers", "2", "alone"))
    box:ok("reload", "--workers", "1", "alone")
  end)

  it("interrupts the code that holds the loop of one", function()
    box:start("--workers", "2", "--stuck-after", "0.3", box:write("s.lua", support.BEAT .. [[
      if lunad.generation == 1 then
        lunad.after(0, function() while lunad.worker == 2 do end end)
      end]]))
    box:wait_log("s", "worker 2: a timer has held the loop")
    assert.matches("^s: reloaded, generation 2 in ", box:ok("reload", "s"))
    box:wait_log("s", "worker 2: uncaught error in a timer: interrupted by a reload, as it held the loop")
    support.wait_for("all commits", function()
      return table.concat(generations("s", "s-1", "s-2"), " ") == "2 2 2"
    end)
  end)

  it("names the worker that it waits for, and what that is busy with", function()
    assert.equal(0, box:run({ box:path "fifo" }, { program = "mkfifo" }).code)
    box:start("--workers", "2", "--stuck-after", "0.3", "--start-timeout", "2", box:write("s.lua",
      support.BEAT .. [[
      lunad.signal("USR1", function() io.open(arg[1]):close() end)]]), box:path "fifo")
    support.kill(workers.pid(box, 2), "sigusr1")
    box:wait_log("s", "worker 2: a signal handler has held the loop")
    assert.matches("not reloaded yet: it does not answer %(waited [%d.]+ s%): it waits for worker 2\n",
      box:refused(1, "reload", "--timeout", "0.2", "s"))
    assert.matches("the old code keeps running: worker 2: busy in /[^\n]*s%.lua:%d+ for [%d.]+ s\n",
      box:refused(1, "reload", "s"))
    assert.equal(1, box:status("s").generation)
    io.open(box:path "fifo", "w"):close()
    support.wait_for("a reload", function() return box:lunad("reload", "s").code == 0 end)
  end)

  it("is undone in all of them when the code of one fails its probation, or that one is killed", function()
    workers.start(box, 2, "print('good', lunad.worker)")
    local function undo(generation, fail, why)
      box:write("s.lua", support.BEAT .. 'lunad.signal("USR2", function() error "boom" end)')
      local reload = box:spawn({ "reload", "--probation", "100", "s" })
      for _, who in ipairs { "", "worker 1: ", "worker 2: " } do
        box:wait_log("s", ("lunad: %sgeneration %d is on probation"):format(who, generation))
      end
      fail()
      box:await(reload, "the verdict", reload.is_over)
      assert.equal(1, reload.code)
      assert.matches(("rolled back after .-: generation %d has the code of generation %d: worker 2"):format(
        generation + 1, generation - 1) .. why, reload.err())
    end
    undo(2, function() box:ok("signal", "s-2", "USR2") end, ": .*s%.lua:1: boom")
    support.wait_for("all to be as before", function()
      return table.concat(generations("s", "s-1", "s-2"), " ") == "3 3 3"
    end)
    local before = workers.pid(box, 2)
    undo(4, function() support.kill(before, "sigkill") end, " was killed by SIGKILL")
    workers.wait_next(box, 2, before)
    support.wait_for("good code in both", function()
      local _, one = box:log("s"):gsub("s%-1: good", "")
      local _, two = box:log("s"):gsub("s%-2: good", "")
      return one == 3 and two == 3
    end)
  end)

  it("passes its probation in all of them or in none", function()
    workers.start(box, 2, "print('good', lunad.worker)")
    box:write("s.lua", support.BEAT .. [[
      local function fail()
        local till = lunad.now() + 0.5
        while lunad.now() < till do end
        error "at last"
      end
      if lunad.worker == 2 then lunad.after(0.2, fail) end
    ]])
    local message = box:refused(1, "reload", "--probation", "0.3", "s")
    assert.matches("generation 3 has the code of generation 1: worker 2: [^\n]*at last", message)
    support.wait_for("all to be as before", function()
      return table.concat(generations("s", "s-1", "s-2"), " ") == "3 3 3"
    end)
    box:write("s.lua", support.BEAT)
    assert.matches("passed its probation of 0.1 s", box:ok("reload", "--probation", "0.1", "s"))
    box:wait_log("s", "worker 1: generation 4 has passed its probation of 0.1 s")
    box:wait_log("s", "worker 2: generation 4 has passed its probation of 0.1 s")
  end)

  it("brings back workers that only crashed with the old code", function()
    workers.start(box, 2, "if lunad.worker == 2 then lunad.after(0.01, function() os.exit(1) end) end")
    box:wait_log("s", "worker 2 exited with status 1; starting it again in 0.2 s")
    support.wait_for("a reload that worker 2 does not hinder", function()
      return box:reload("print('good', lunad.worker)").code == 0
    end)
    box:wait_log("s", "s%-2: good\t2")
    support.wait_for("worker 2", function()
      return box:lunad("status", "s-2").code == 0
    end)
  end)
end)

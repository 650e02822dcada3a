-- Messages between workers, and the verbs on a service with workers and on one worker.

local support = require "support"

-- Does what eval says, and says which messages came.
local SCRIPT = [[
  local lunad = require "lunad"
  local got = {}
  lunad.on_message("say", function(data, worker) print(("heard %s from %d"):format(data, worker)) end)
  lunad.on_message("n", function(n) got[#got + 1] = type(n) == "table" and n[1] or n end)
  function In_order(count)
    for i = 1, count do if got[i] ~= i then return false, i, got[i] end end
    return #got == count
  end
  lunad.on_reload(function()
    if lunad.worker == 1 then
      for i = 1, 100 do lunad.send(2, "n", 100 * (lunad.generation - 1) + i) end
    end
    return got
  end)
  got = lunad.state or got
  if lunad.generation == 1 then lunad.broadcast("say", "hello") end
]]

describe("workers", function()
  local box = support.with_box(before_each, after_each)

  local function eval(name, chunk)
    return (box:ok("eval", name, chunk):gsub("\n$", ""))
  end

  it("send each other messages", function()
    box:start("--workers", "3", box:write("w.lua", SCRIPT))
    for worker = 1, 3 do
      for other = 1, 3 do
        if other ~= worker then
          box:wait_log("w", ("w%%-%d: heard hello from %d"):format(other, worker))
        end
      end
    end
    assert.equal("2\t3", eval("w-2", "return lunad.worker, lunad.workers"))
    assert.equal("true", eval("w-2", "lunad.send(3, 'say', 'only 3')"))
    assert.equal("true", eval("w-2", "lunad.send(2, 'say', 'myself')"))
    box:wait_log("w", "w%-3: heard only 3 from 2")
    box:wait_log("w", "w%-2: heard myself from 2")
    assert.matches("a worker from 1 to 3", eval("w-1", "return select(2, pcall(lunad.send, 4, 'say', 1))"))
    local _, count = box:log("w"):gsub("heard", "")
    assert.equal(8, count)
  end)

  it("get what was sent to them in the order it was sent, over reloads and crashes", function()
    box:start("--workers", "2", box:write("w.lua", SCRIPT))
    for _ = 1, 3 do
      box:ok("reload", "w") -- worker 1 sends 100 in its on_reload function, while worker 2 hands on its own
    end
    support.wait_for("300 messages", function() return eval("w-2", "In_order(300)") == "true" end)
    local pid = box:status("w-2").pid
    support.kill(pid, "sigstop")
    assert.equal("true", eval("w-1", "for i = 1, 3000 do assert(lunad.send(2, 'n', i)) end return true"))
    support.kill(pid, "sigkill")
    support.wait_for("the next process", function()
      local status = box:lunad("status", "--json", "w-2")
      return status.code == 0 and status.out:find('"ready": true', 1, true) and box:status("w-2").pid ~= pid
    end)
    support.wait_for("3000 messages", function() return eval("w-2", "In_order(3000)") == "true" end)
    assert.same({ 3000, 0, 0 }, { box:status("w-2").messages.received, box:status("w-2").messages.lost,
      box:status("w-1").messages.waiting })
  end)

  it("refuse to send to one that does not keep up", function()
    box:start("--workers", "2", box:write("w.lua", SCRIPT))
    local pid = box:status("w-2").pid
    support.kill(pid, "sigstop")
    local count = tonumber(eval("w-1", [[
      local i, bytes, ok, err, code = 0, ("x"):rep(20000), true
      while ok do
        ok, err, code = lunad.send(2, "n", { i + 1, bytes })
        i = i + (ok and 1 or 0)
      end
      assert(code == "EAGAIN", code)
      assert(err:find("worker 2 does not keep up, too much waits for it", 1, true), err)
      ok, err, code = lunad.broadcast("n", ("x"):rep(30000))
      assert(not ok and code == "EAGAIN", err)
      return i]]))
    assert.is_true(count > 800)
    assert.equal(2, box:status("w-1").messages.refused)
    support.kill(pid, "sigcont")
    for wanted = count, count + 1 do
      support.wait_for("all messages", function()
        return eval("w-2", ("In_order(%d)"):format(wanted)) == "true"
      end)
      assert.equal("true", eval("w-1", ("lunad.send(2, 'n', %d)"):format(wanted + 1)))
    end
  end)
end)

describe("a service with workers", function()
  local box = support.with_box(before_each, after_each)

  -- The workers of a report: "NAME STATE", in their order.
  local function states(status)
    local list = {}
    for i, worker in ipairs(status.workers) do
      list[i] = worker.name .. " " .. worker.state
    end
    return table.concat(list, ", ")
  end

  local function pid_of(name)
    return box:status(name).pid
  end

  it("is shown as one, and its workers too", function()
    box:start("--workers", "3", box:write("w.lua", [[
      local lunad = require "lunad"
      lunad.every(60, print)
      lunad.status("text of " .. lunad.worker)
      lunad.metrics.counter("jobs", "Jobs.", { "worker" }):inc(lunad.worker, "x")
      if lunad.worker == 2 then lunad.after(0, function() error "wrong" end) end
      lunad.signal("WINCH", function() print("winch in " .. lunad.worker) end)
    ]]))
    box:wait_log("w", "wrong")
    local status = box:status "w"
    assert.equal("w-1 running, w-2 running, w-3 running", states(status))
    assert.same({ 1, 3, 3, "text of 1" },
      { status.errors.count, #status.timers, status.totals.timers, status.text })
    local rss = 0
    for i, worker in ipairs(status.workers) do
      assert.same({ i, i, pid_of("w-" .. i) }, { worker.worker, status.timers[i].worker, worker.pid })
      rss = rss + worker.memory.rss
    end
    assert.is_true(status.memory.rss > rss)
    local text = box:ok("status", "w")
    assert.matches("w: running, pid %d+.*worker    w%-1, running, pid %d+, up .-, errors: 0\n", text)
    assert.matches("worker    w%-2, running, .-, errors: 1\n", text)
    assert.matches("text of 3", box:ok("status", "w-3"))
    local _, rows = box:ok("list"):gsub("\nw%S* +%d+  running", "")
    assert.equal(4, rows)
    local metrics = box:ok("metrics", "w")
    for _, line in ipairs { 'lunad_up{daemon="w"} 1', 'lunad_up{daemon="w",worker="2"} 1',
      'jobs_total{daemon="w",worker="3",script_worker="x"} 3' } do
      assert.truthy(metrics:find("\n" .. line .. "\n", 1, true), line)
    end
    assert.matches("^w: SIGUSR2 [^\n]*\nw%-1: SIGUSR2 [^\n]*\nw%-2:[^\n]*\nw%-3:[^\n]*\n$",
      box:ok("signal", "w", "USR2"))
    assert.matches("^w%-1: SIGWINCH [^\n]*\nw%-2:[^\n]*\nw%-3:[^\n]*\n$", box:ok("signal", "w", "WINCH"))
    box:wait_log("w", "winch in 3")
    local heaps = support.json.decode(box:ok("heap", "--json", "w"))
    assert.same({ "w-1", "w-2", "w-3" }, { heaps[1].name, heaps[2].name, heaps[3].name })
    assert.matches("w%-3: %d+ KiB of Lua", box:ok("heap", "w"))
    assert.equal("w: stopped\n", box:ok("stop", "--all"))
  end)

  it("is shown with its restarts, files of --state, addresses, and what differs on the disk", function()
    local script = [[
      local lunad = require "lunad"
      lunad.keep("x", { lunad.worker })
      lunad.on_reload(function() return lunad.worker end)
      local server = require "luv".new_tcp()
      server:open(lunad.listen "127.0.0.1:0")
      server:listen(8, print)
    ]]
    local file = box:path "state"
    box:start("--workers", "2", "--state", file, box:write("w.lua", script))
    assert.equal(box:path "w.lua" .. "\tfalse", ("%s\t%s"):format(box:status "w".script,
      box:status "w".code.disk_differs))
    assert.equal(1, #box:status "w".listeners)
    assert.matches("\n  listener  127.0.0.1:0\n", box:ok("status", "w"))
    box:ok("reload", "w")
    support.wait_for("both files", function() return box:read "state" and box:read "state.2" end)
    local saved = support.wait_for("both saves", function()
      local state = box:status("w").state_file
      return state.size == #box:read "state" + #box:read "state.2" and state
    end)
    assert.same({ file, nil }, { saved.file, support.json.null ~= saved.error and saved.error or nil })
    local pid = pid_of "w-2"
    support.kill(pid, "sigkill")
    support.wait_for("the next process", function()
      local status = box:lunad("status", "--json", "w-2")
      return status.code == 0 and status.out:find('"ready": true', 1, true) and pid_of "w-2" ~= pid
    end)
    local restarts = box:status("w-2").restarts
    assert.same({ 1, "killed by SIGKILL" }, { restarts.count, restarts.last.message })
    assert.equal(0, box:status("w-1").restarts.count)
    assert.matches("\n  worker    w%-2, [^\n]*, restarts: 1\n", box:ok("status", "w"))
    assert.matches("error lunad: worker 2 was killed by SIGKILL; starting it again in 0.1 s\n", box:log "w")
    box:write("w.lua", script .. "-- other")
    assert.same({ true, box:path "w.lua" }, { box:status("w").code.disk_differs, box:status("w").code.file })
    assert.matches("\n  code      [^\n]*disk differs: [^\n]*w.lua\n", box:ok("status", "w"))
  end)

  it("says at its start which file of --state was damaged", function()
    local script = box:write("w.lua", support.BEAT .. "lunad.keep('x', { 1 })")
    box:start("--workers", "2", "--state", box:path "state", script)
    box:ok("stop", "w")
    box:write("state.2", box:read "state.2":sub(1, -9))
    local started = box:lunad("start", "--workers", "2", "--state", box:path "state", script)
    assert.equal(0, started.code)
    assert.matches("^lunad: w: worker 2: [^\n]*state.2: it is damaged: [^\n]*; it is kept as ", started.err)
  end)

  it("runs what eval and profile say in each worker", function()
    box:start("--workers", "2", box:write("w.lua", support.BEAT .. [[
      function Spin(seconds)
        local stop = lunad.now() + seconds
        while lunad.now() < stop do end
      end
      lunad.every(0.01, function() Spin(0.005) end)
    ]]))
    assert.equal("w-1: 1\t2\nw-2: 2\t2\n", box:ok("eval", "w", "lunad.worker, lunad.workers"))
    assert.equal("w-1: a\nw-1: b\nw-2: a\nw-2: b\n", box:ok("eval", "w", "print 'a\\nb'"))
    assert.equal("", box:ok("eval", "w", "local nothing"))
    local failed = box:lunad("eval", "w", "if lunad.worker == 2 then error 'no' end return 5")
    assert.same({ 1, "w-1: 5\n" }, { failed.code, failed.out })
    assert.matches("lunad: w%-2: eval:1: no", failed.err)
    local repl = box:run({ "repl", "w" }, { input = "lunad.name\n" })
    assert.same({ 0, "w-1\n" }, { repl.code, repl.out })
    local profile = box:ok("profile", "w", "0.3")
    assert.matches("Spin", profile)
    local seen = {}
    for stack in profile:gmatch "([^\n]*) %d+\n" do
      assert(not seen[stack], stack)
      seen[stack] = true
    end
  end)

  it("has one worker stopped and restarted without the others", function()
    box:start("--workers", "2", box:write("w.lua", support.BEAT))
    local master, one, two = pid_of "w", pid_of "w-1", pid_of "w-2"
    assert.matches("^w%-2: started %(pid %d+%)\n$", box:ok("restart", "w-2"))
    local next_two = pid_of "w-2"
    assert.are_not.equal(two, next_two)
    assert.same({ master, one }, { pid_of "w", pid_of "w-1" })
    assert.equal("w-1: stopped\n", box:ok("stop", "w-1"))
    assert.equal("w-1 stopped, w-2 running", states(box:status "w"))
    assert.equal("w-2: 2\n", box:ok("eval", "w", "lunad.worker"))
    assert.matches("ESRCH", box:ok("eval", "w-2", "lunad.send(1, 'x', 1)"))
    assert.equal(3, box:lunad("status", "w-1").code)
    assert.matches("^w%-1: started", box:ok("restart", "w-1"))
    assert.equal("w-1 running, w-2 running", states(box:status "w"))
    assert.equal("true\n", box:ok("eval", "w-2", "lunad.send(1, 'x', 1)"))
    assert.same({ master, next_two }, { pid_of "w", pid_of "w-2" })
    assert.matches("w%-7: not restarted: w: there is no such worker", box:refused(1, "restart", "w-7"))
  end)
end)

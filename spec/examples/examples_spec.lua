-- The examples do what their comments say, from any working directory and without arguments.

local support = require "support"

local function example(name)
  return ("%s/examples/%s.lua"):format(support.root, name)
end

-- Start an example as a daemon from the box; its pid.
local function start(box, name)
  return box:start(example(name))
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

-- Stop a daemon; fails if a process of it is left.
local function stop_clean(box, name)
  local pid = box:status(name).pid
  assert.equal(name .. ": stopped\n", box:ok("stop", name))
  box:wait_gone(pid)
  assert.same({}, box:marked())
  assert.same({}, box:left_files())
  assert.not_matches("Z error ", box:log(name))
end

describe("Every example", function()
  local box = support.with_box(before_each, after_each)

  it("compiles, and says in its first lines how it is run", function()
    local scan = assert(support.uv.fs_scandir(support.root .. "/examples"))
    local seen, readme = 0, support.read(support.root .. "/README.md")
    for name in function() return support.uv.fs_scandir_next(scan) end do
      if name:find "%.lua$" then
        seen = seen + 1
        box:ok("check", support.root .. "/examples/" .. name)
        assert.truthy(readme:find("(examples/" .. name .. ")", 1, true), name .. " is not in README.md")
        local text = support.read(support.root .. "/examples/" .. name)
        assert.matches("^%-%- ", text)
        local command = "\n%-%-   lunad %a+ [^\n]*examples/" .. name:gsub("%p", "%%%0")
        assert.matches(command, text:sub(1, 1000))
      end
    end
    assert.is_true(seen >= 7)
  end)

  it("that has specs passes them", function()
    local out = box:ok("test", support.root .. "/examples/spec")
    assert.matches("4 successes / 0 failures / 0 errors", out)
  end)
end)

describe("examples/heartbeat.lua", function()
  local box = support.with_box(before_each, after_each)

  -- The count of the last beat in the log, once it is above `least`.
  local function beat_after(least)
    return support.wait_for("a beat after " .. least, function()
      local last = box:log("heartbeat"):match ".*heartbeat: beat count=(%d+)\n"
      return last and tonumber(last) > least and tonumber(last)
    end)
  end

  it("becomes a daemon that beats, and shows it in logs and status", function()
    start(box, "heartbeat")
    beat_after(1)
    assert.matches("info  heartbeat: beat count=1\n", box:ok("logs", "-n", "100", "heartbeat"))
    assert.matches("beat %d+", box:status("heartbeat").text)
    assert.equal("/", support.uv.fs_readlink(("/proc/%d/cwd"):format(box:status("heartbeat").pid)))
    stop_clean(box, "heartbeat")
    assert.matches("last beat count=%d+ reason=stop\n", box:log "heartbeat")
  end)

  it("beats twice a second, or as HEARTBEAT_INTERVAL says", function()
    start(box, "heartbeat")
    assert.equal(0.5, box:status("heartbeat").timers[1].interval)
    box:ok("stop", "heartbeat")
    box:start("--env", "HEARTBEAT_INTERVAL=0.01", example "heartbeat")
    assert.equal(0.01, box:status("heartbeat").timers[1].interval)
  end)

  it("continues counting after reloads", function()
    local pid = box:start("--env", "HEARTBEAT_INTERVAL=0.01", example "heartbeat")
    for _ = 1, 5 do
      local before = beat_after(3)
      box:ok("reload", "heartbeat")
      beat_after(before)
    end
    local numbers, status = {}, box:status "heartbeat"
    for number in box:log("heartbeat"):gmatch "heartbeat: beat count=(%d+)\n" do
      numbers[#numbers + 1] = tonumber(number)
    end
    for i, number in ipairs(numbers) do assert.equal(i, number) end
    assert.same({ pid, 6 }, { status.pid, status.generation })
    assert.equal(5, count(box:log "heartbeat", "last beat count=%d+ reason=reload\n"))
    stop_clean(box, "heartbeat")
  end)

  it("is replaced by its edited file at a reload, and keeps running when that is broken", function()
    local path = box:write("heartbeat.lua", support.read(example "heartbeat"))
    box:start("--env", "HEARTBEAT_INTERVAL=0.01", path)
    box:write("heartbeat.lua", support.read(path):gsub('"beat"', '"thump"'))
    box:ok("reload", "heartbeat")
    box:wait_log("heartbeat", "heartbeat: thump count=%d+\n")
    box:write("heartbeat.lua", "local = nothing")
    box:refused(1, "reload", "heartbeat")
    box:wait_log("heartbeat", "refused.*thump count=%d+\n")
  end)
end)

describe("examples/counter.lua", function()
  local box = support.with_box(before_each, after_each)

  local function send(times)
    for _ = 1, times do
      local function counted() return count(box:log "counter", " counted count=") end
      local before = counted()
      box:ok("signal", "counter", "USR1")
      support.wait_for("the counting", function() return counted() > before end)
    end
  end

  it("counts USR1, and shows it", function()
    start(box, "counter")
    assert.equal("counted 0, generation 1", box:status("counter").text)
    send(2)
    assert.equal("counted 2, generation 1", box:status("counter").text)
    assert.matches("counted 2, generation 1", box:ok("status", "counter"))
    stop_clean(box, "counter")
  end)

  it("continues from where it was after a reload", function()
    local pid = start(box, "counter")
    for generation = 2, 6 do
      send(3)
      box:ok("reload", "counter")
      assert.equal(("counted %d, generation %d"):format(3 * (generation - 1), generation),
        box:status("counter").text)
    end
    assert.equal(pid, box:status("counter").pid)
    stop_clean(box, "counter")
  end)

  it("refuses a reload when a function or file is in its state, and keeps running", function()
    local path = box:write("counter.lua", support.read(example "counter"):gsub("history = {}",
      "history = {{}, { file = io.stdout }}"))
    box:start(path)
    assert.matches("state%.history%[2%]%.file is a userdata", box:refused(1, "reload", "counter"))
    send(1)
    assert.equal("counted 1, generation 1", box:status("counter").text)
  end)
end)

describe("examples/supervisor.lua", function()
  local box = support.with_box(before_each, after_each)

  -- The pids of the three workers by name, once `wanted(pids)`.
  local function workers(wanted)
    return support.wait_for("three workers", function()
      local pids, number = {}, 0
      for _, child in ipairs(box:status("supervisor").children) do
        pids[child.name] = child.state == "running" and child.pid or nil
      end
      for _ in pairs(pids) do number = number + 1 end
      return number == 3 and (not wanted or wanted(pids)) and pids
    end)
  end

  local function wait_hellos(pids)
    for name, pid in pairs(pids) do
      box:wait_log("supervisor", ("info  supervisor/%s%%[%d%%]: hello\n"):format(name:gsub("%-", "%%-"), pid))
    end
  end

  it("runs three workers whose lines in the log say which worker, and its pid", function()
    start(box, "supervisor")
    local pids = workers()
    wait_hellos(pids)
    assert.truthy(pids["worker-1"] and pids["worker-2"] and pids["worker-3"])
    stop_clean(box, "supervisor")
    assert.equal(3, count(box:log "supervisor", "%]: goodbye\n"))
  end)

  it("restarts a worker that was killed", function()
    start(box, "supervisor")
    local before = workers()
    support.kill(before["worker-2"], "sigkill")
    local after = workers(function(pids) return pids["worker-2"] ~= before["worker-2"] end)
    wait_hellos(after)
    assert.equal(before["worker-1"], after["worker-1"])
    assert.equal(before["worker-3"], after["worker-3"])
    stop_clean(box, "supervisor")
  end)

  it("restarts them one after the other on USR2", function()
    start(box, "supervisor")
    local before = workers()
    wait_hellos(before)
    box:ok("signal", "supervisor", "USR2")
    local after = workers(function(pids)
      return pids["worker-1"] ~= before["worker-1"] and pids["worker-2"] ~= before["worker-2"] and
        pids["worker-3"] ~= before["worker-3"]
    end)
    wait_hellos(after)
    box:wait_log("supervisor", "all workers were restarted\n")
    assert.equal(3, count(box:log "supervisor", "%]: goodbye\n"))
    stop_clean(box, "supervisor")
  end)

  it("does not restart the second before the first is ready", function()
    local text = support.read(example "supervisor")
    local hello = ('test -e %s || echo "hello"'):format(box:path "silent")
    box:start(box:write("supervisor.lua", (text:gsub('echo "hello"', hello))))
    local before = workers()
    wait_hellos(before)
    box:write("silent", "")
    box:ok("signal", "supervisor", "USR2")
    local after = workers(function(pids) return pids["worker-1"] ~= before["worker-1"] end)
    assert.matches("worker%-1, pid %d+, running, [%d.]+s, not ready yet", box:ok("status", "supervisor"))
    support.kill(after["worker-1"], "sigkill")
    box:wait_log("supervisor",
      'the restart has stopped error="worker%-1 %(pid %d+%) ended before it was ready: signal KILL"\n')
    assert.same({ before["worker-2"], before["worker-3"] }, { after["worker-2"], after["worker-3"] })
  end)

  it("is loaded again at a reload, which the workers do not notice", function()
    local pid, before = start(box, "supervisor"), workers()
    wait_hellos(before)
    for _ = 1, 3 do box:ok("reload", "supervisor") end
    assert.same(before, workers())
    assert.equal(pid, box:status("supervisor").pid)
    assert.equal(3, count(box:log "supervisor", "%]: hello\n"))
    assert.not_matches("goodbye", box:log "supervisor")
    stop_clean(box, "supervisor")
  end)

  it("replaces the workers at a reload when COMMAND has changed", function()
    local path = box:write("supervisor.lua", support.read(example "supervisor"))
    box:start(path)
    local before = workers()
    wait_hellos(before)
    box:write("supervisor.lua", support.read(path):gsub('echo "hello"', 'echo "good morning"'))
    box:ok("reload", "supervisor")
    for _, pid in pairs(before) do box:wait_gone(pid) end
    for name, pid in pairs(workers()) do
      box:wait_log("supervisor", ("%s%%[%d%%]: good morning\n"):format(name:gsub("%-", "%%-"), pid))
    end
  end)

  it("stops with status 1 when the workers do not stay up", function()
    local text = support.read(example "supervisor"):gsub("local COMMAND = .-%]%]", "local COMMAND = 'exit 3'")
    local path = box:write("supervisor.lua", (text:gsub("backoff = { 0.1, 30 }", "backoff = { 0, 0 }")))
    local result = box:lunad("run", path)
    assert.equal(1, result.code)
    assert.matches("the workers do not stay up: stopping", result.err)
  end)
end)

describe("examples/jobs.lua", function()
  local box = support.with_box(before_each, after_each)

  local REPORTS = {
    'info  jobs: done job="echo a quick one" output="a quick one\\x0A"\n',
    'info  jobs: done job="sh %-c sleep 0%.3; echo slower" output="slower\\x0A"\n',
    'warn  jobs: timed out job="sleep 60" seconds=%d+%.%d+\n',
    'warn  jobs: failed code=3 job="sh %-c echo oops >&2; exit 3" stderr="oops\\x0A"\n',
    'info  jobs: done job=sort output="apple\\x0Afig\\x0Apear\\x0A"\n',
    'error jobs: cannot be run error="ENOENT: [^"]*" job=/no/such/command\n',
    "info  jobs: nothing left to do runner=1\n", "info  jobs: nothing left to do runner=2\n",
    "info  lunad: finished",
  }

  it("runs every job, reports it, and finishes by itself", function()
    local result = box:lunad("run", example "jobs")
    assert.equal(0, result.code, result.err)
    for _, report in ipairs(REPORTS) do
      assert.matches(report, result.err)
    end
    assert.equal(1, count(result.err, "\n[^\n]* error jobs: "))
    assert.same({}, box:marked())
  end)

  it("does so as a daemon, too", function()
    start(box, "jobs")
    box:wait_log("jobs", "lunad: finished")
    assert.matches("cannot be run", box:log "jobs")
    support.wait_for("its end", function() return #box:left_files() == 0 and #box:marked() == 0 end)
  end)

  it("runs two jobs at a time", function()
    box:start(box:write("jobs.lua", (support.read(example "jobs"):gsub("%{ \"echo\", \"a quick one\" %}",
      '{ "sleep", "30", timeout = 1000 }, { "sleep", "31" }, { "sleep", "32" }'))))
    support.wait_for("two jobs", function() return #box:status("jobs").children == 2 end)
    assert.equal(3, #box:marked())
  end)

  it("can be reloaded in the middle: what ran ends, and the jobs are run again", function()
    local pid = start(box, "jobs")
    box:ok("reload", "jobs")
    box:wait_log("jobs", "reloaded.*nothing left to do.*nothing left to do.*finished")
    box:wait_gone(pid)
  end)
end)

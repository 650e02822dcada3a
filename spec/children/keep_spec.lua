-- Children that live through a reload.

local support = require "support"

-- The child "kept" of the daemon "s", from its status.
local function kept(box, name)
  for _, child in ipairs(box:status("s").children) do
    if child.name == (name or "kept") and child.state ~= "waiting" then
      return child
    end
  end
end

-- The number of children in the status, after those that were told to end have ended.
local function wait_children(box, count)
  support.wait_for(count .. " children", function() return #box:status("s").children == count end)
end

local SLEEPER = "child = assert(lunad.spawn { 'sleep', '1000', name = 'kept', keep = true }) "

describe("A kept child", function()
  local box = support.with_box(before_each, after_each)

  it("is the same process after a hundred reloads, and adopted", function()
    box:serve(SLEEPER .. "print('adopted', child.adopted, child.pid)")
    local client, before = box:connect "s", kept(box)
    for _ = 1, 100 do
      assert.is_true(client:ask("reload").ok)
    end
    local after = kept(box)
    assert.equal(before.pid, after.pid)
    assert.is_true(after.keep)
    assert.equal(before.command, after.command)
    assert.equal(101, box:status("s").generation)
    assert.equal(1, #box:status("s").children)
    local log = box:log "s"
    assert.equal(1, select(2, log:gsub("adopted\tfalse\t" .. before.pid, "")))
    assert.equal(100, select(2, log:gsub("adopted\ttrue\t" .. before.pid, "")))
  end)

  it("costs no descriptor at a reload", function()
    box:serve [[
      lunad.spawn { "cat", name = "kept", keep = true, stdin = "pipe", stdout = print, stderr = print }
    ]]
    local client = box:connect "s"
    client:ask "reload"
    local before = client:ask("status").fds
    for _ = 1, 30 do client:ask "reload" end
    assert.equal(before, client:ask("status").fds)
  end)

  it("is stopped when a new generation does not ask for it", function()
    box:serve(SLEEPER)
    local pid = kept(box).pid
    assert.equal(0, box:reload("").code)
    box:wait_gone(pid)
    wait_children(box, 0)
  end)

  it("is stopped by KILL when it ignores TERM", function()
    box:serve [[
      lunad.spawn { "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done", name = "kept",
        keep = true, kill_after = 0.1 }
    ]]
    local pid = kept(box).pid
    box:wait_log("s", "deaf")
    assert.equal(0, box:reload("").code)
    box:wait_gone(pid)
  end)

  it("is replaced when the command line, cwd or env has changed", function()
    local text = "lunad.spawn { 'sh', '-c', 'sleep 1000', name = 'kept', keep = true, %s }"
    box:serve(text:format "")
    local pid = kept(box).pid
    for _, change in ipairs { "'word'", "'other word'", "cwd = '/tmp'", "env = { A = '1' }",
        "env = { A = '2' }", "clear_env = true" } do
      assert.equal(0, box:reload(text:format(change)).code)
      box:wait_gone(pid)
      wait_children(box, 1)
      assert.not_equal(pid, kept(box).pid)
      pid = kept(box).pid
      assert.equal(0, box:reload(text:format(change)).code)
      assert.equal(pid, kept(box).pid, change)
    end
  end)

  it("is replaced when the user has changed", function()
    if not support.is_root then return pending("needs root") end
    local text = "lunad.spawn { 'sleep', '1000', name = 'kept', keep = true, user = %q }"
    box:serve(text:format "nobody")
    local pid = kept(box).pid
    assert.equal(0, box:reload(text:format "nobody").code)
    assert.equal(pid, kept(box).pid)
    assert.equal(0, box:reload(text:format "daemon").code)
    box:wait_gone(pid)
    wait_children(box, 1)
  end)

  it("is kept when only the order of env has changed", function()
    local names = {}
    for i = 1, 40 do names[i] = ("V%d = '%d'"):format(i, i) end
    local text = "lunad.spawn { 'sleep', '1000', name = 'kept', keep = true, env = { %s } }"
    box:serve(text:format(table.concat(names, ", ")))
    local pid = kept(box).pid
    table.sort(names, function(a, b) return a > b end)
    assert.equal(0, box:reload(text:format(table.concat(names, ", "))).code)
    assert.equal(pid, kept(box).pid)
  end)

  it("is not mixed up with another of the same command, nor with one that is not kept", function()
    local text = [[
      for _, name in ipairs { %s } do lunad.spawn { "sleep", "1000", name = name, keep = true } end
      lunad.spawn { "sleep", "1000", name = "a" }
    ]]
    box:serve(text:format "'kept', 'other'")
    local first, second = kept(box).pid, kept(box, "other").pid
    assert.equal(0, box:reload(text:format "'other', 'kept'").code)
    wait_children(box, 3)
    assert.same({ first, second }, { kept(box).pid, kept(box, "other").pid })
  end)

  it("ends with the daemon", function()
    box:serve(SLEEPER)
    box:reload(SLEEPER)
    local pid = kept(box).pid
    box:ok("stop", "s")
    assert.is_false(support.is_alive(pid))
  end)

  it("that has ended before the reload is started again", function()
    box:serve(SLEEPER)
    local pid = kept(box).pid
    support.kill(pid, "sigkill")
    wait_children(box, 0)
    assert.equal(0, box:reload(SLEEPER .. "print('adopted', child.adopted)").code)
    box:wait_log("s", "adopted\tfalse")
    assert.not_equal(pid, kept(box).pid)
  end)

  it("needs a name that no other kept child has", function()
    box:inside [[
      raises("keep", lunad.spawn, { "sleep", "1000", keep = true })
      local child = lunad.spawn { "sleep", "1000", keep = true, name = "x" }
      raises("'x' is in use", lunad.spawn, { "sleep", "1000", keep = true, name = "x" })
      raises("'x' is in use", lunad.spawn, { "true", keep = true, name = "x" })
      equal(false, child.adopted)
      child:kill()
      child:wait()
      lunad.spawn { "true", keep = true, name = "x" }
    ]]
  end)

  it("can be claimed by one child only", function()
    box:serve(SLEEPER)
    box:reload(SLEEPER .. "print(pcall(lunad.spawn, { 'sleep', '1000', name = 'kept', keep = true }))")
    box:wait_log("s", "false\t[^\n]*'kept' is in use")
  end)
end)

describe("The object of a kept child", function()
  local box = support.with_box(before_each, after_each)

  it("that is adopted can be waited for, with the seconds since its start, and killed", function()
    box:serve(SLEEPER)
    local before = kept(box)
    box:reload(SLEEPER .. [[
      lunad.signal("USR1", function()
        print("kill", child:kill("INT"))
        local exit = child:wait()
        print("exit", exit.signal, exit.seconds >= 0.05, child:running())
      end)
    ]])
    support.wait_for("a while to pass", function() return kept(box).seconds > before.seconds + 0.05 end)
    box:ok("signal", "s", "USR1")
    box:wait_log("s", "kill\ttrue.*exit\tINT\ttrue\tfalse")
  end)

  it("of the old generation is closed, and its on_exit is not called", function()
    local function sleeper(which)
      return (SLEEPER:gsub("keep", ("on_exit = function() print '%s on_exit' end, keep"):format(which)))
    end
    box:serve(sleeper "old" .. [[
      lunad.on_stop(function()
        for _, method in ipairs { "kill", "wait" } do print(method, pcall(child[method], child)) end
        print("running", child:running())
      end)
    ]])
    local pid = kept(box).pid
    assert.equal(0, box:reload(sleeper "new").code)
    box:wait_log("s", "kill\tfalse[^\n]*closed.*wait\tfalse[^\n]*closed.*running\tfalse")
    assert.equal(pid, kept(box).pid)
    support.kill(pid, "sigkill")
    box:wait_log("s", "new on_exit")
    assert.not_matches("old on_exit", box:log "s")
  end)

  it("closes its stdin when the new generation is the service, not before", function()
    local text = [[
      local child = lunad.spawn { "cat", name = "kept", keep = true, stdin = "pipe",
        on_exit = function(exit) print("ended in", lunad.generation, exit.code) end }
    ]]
    box:serve(text)
    assert.equal(1, box:reload(text .. "child:close_stdin() error 'x'").code)
    assert.equal(0, box:reload(text .. "child:close_stdin() print(pcall(child.write, child, 'x'))").code)
    box:wait_log("s", "false\t[^\n]*close_stdin.*ended in\t2\t0")
  end)

  it("ends the wait of a task of the old generation", function()
    box:serve(SLEEPER .. "lunad.task(function() print('waited', child:wait()) end)")
    local pid = kept(box).pid
    box:reload(SLEEPER .. "lunad.task(function() print('ended', child:wait().signal) end)")
    support.kill(pid, "sigkill")
    box:wait_log("s", "ended\tKILL")
    assert.not_matches("waited", box:log "s")
  end)

  it("writes to the same stdin, after what the old generation has written", function()
    local text = [[
      local got = ""
      child = lunad.spawn { "sh", "-c", "kill -STOP $$; exec cat", name = "kept", keep = true, stdin = "pipe",
        stdout = function(chunk)
          got = got .. (chunk or "")
          if got:find "end" then print("got", #got, #got:match "^x*") end
        end }
    ]]
    box:serve(text .. "child:write(('x'):rep(1000000))")
    local pid = kept(box).pid
    support.wait_for("the stop of the child", function()
      return (support.read(("/proc/%d/stat"):format(pid)) or ""):find(") T ", 1, true)
    end)
    box:reload(text .. "lunad.after(0, function() child:write('end') child:kill('CONT') end)")
    box:wait_log("s", "got\t1000003\t1000000")
    assert.equal(pid, kept(box).pid)
  end)
end)

describe("The output of a kept child", function()
  local box = support.with_box(before_each, after_each)

  -- A child that counts fast, and whose writes end anywhere.
  local COUNTER = [["awk", "BEGIN { for (;;) { print ++i; for (k = 0; k < 1000; k++); } }",
    name = "kept", keep = true]]

  local TO_FILE = [[
    local file = assert(io.open(lunad.script .. ".out", "a"))
    file:setvbuf "no"
    local function write(chunk) if chunk then file:write(chunk) end end
    local function write_line(line) file:write(line .. "\n") end
  ]]

  -- Fails unless the text counts from 1 to at least `least`; only the last number may be unfinished.
  local function assert_counted(text, least)
    local expected = 0
    for number in text:gmatch "([^\n]*)\n" do
      expected = expected + 1
      if number ~= tostring(expected) then
        local last = text:sub(-20):find("\n" .. number .. "\n$") and tostring(expected):find("^" .. number)
        assert.truthy(last, ("%s is where %d should be"):format(number, expected))
      end
    end
    assert.is_true(expected >= least, expected)
  end

  -- Reload 12 times, every fourth refused, while the child counts in the file; then stop.
  local function reload_often(text, file)
    local size = 0
    local function grow()
      support.wait_for("more output", function() return #(box:read(file) or "") > size end)
      size = #box:read(file)
    end
    box:serve(text)
    local client, pid = box:connect "s", kept(box).pid
    for i = 1, 12 do
      grow()
      box:write("s.lua", support.BEAT .. text .. (i % 4 == 0 and "error 'x'" or ""))
      assert.equal(i % 4 ~= 0, client:ask("reload").ok)
      size = #box:read(file)
    end
    grow()
    assert.equal(pid, kept(box).pid)
    box:ok("stop", "s")
  end

  it("is whole over many reloads when it goes to a function", function()
    reload_often(TO_FILE .. ("lunad.spawn { %s, stdout = write }"):format(COUNTER), "s.lua.out")
    assert_counted(box:read "s.lua.out", 100)
  end)

  it("is whole over many reloads when it goes by lines", function()
    local text = TO_FILE .. "lunad.spawn { %s, stdout = lunad.by_line(write_line) }"
    reload_often(text:format(COUNTER), "s.lua.out")
    assert_counted(box:read "s.lua.out", 100)
  end)

  it("is whole over many reloads when it goes to the log", function()
    reload_often(("lunad.spawn { %s }"):format(COUNTER), "log/s.log")
    local numbers = {}
    for number in box:log("s"):gmatch "s/kept%[%d+%]: (%d+)\n" do numbers[#numbers + 1] = number end
    assert_counted(table.concat(numbers, "\n") .. "\n", 100)
  end)

  it("is whole when the function sleeps, with lines still to be delivered", function()
    local text = TO_FILE .. [[
      lunad.spawn { "sh", "-c", "seq 1 8; sleep 0.01; kill -STOP $$; seq 9 12; sleep 1000", name = "kept",
        keep = true, stdout = lunad.by_line(function(line)
          write_line(line)
          if line == "3" and lunad.generation == 1 then lunad.sleep(1000) end
        end) }
    ]]
    box:serve(text)
    support.wait_for("the third line", function() return box:read("s.lua.out") == "1\n2\n3\n" end)
    assert.equal(0, box:reload(text).code)
    support.wait_for("the eighth line", function() return box:read("s.lua.out"):find("8\n$") end)
    support.wait_for("the end", function()
      support.kill(kept(box).pid, "sigcont")
      return box:read("s.lua.out"):find("12\n$")
    end)
    assert_counted(box:read("s.lua.out"), 12)
  end)

  it("has its unfinished line moved, from function to log and back", function()
    local forms = { "stdout = lunad.by_line(function(line) print('by line: ' .. line) end)",
      "stdout = 'log'" }
    for _, first in ipairs(forms) do
      for _, second in ipairs(forms) do
        local text = "lunad.spawn { 'cat', name = 'kept', keep = true, stdin = 'pipe', %s }"
        box:serve(text:format(first) .. ":write 'first\\nunfin' lunad.log.info 'generation 1'")
        box:wait_log("s", "first\n")
        assert.equal(0, box:reload(text:format(second) .. ":write 'ished\\n'").code)
        box:wait_log("s", second == forms[2] and "s/kept%[%d+%]: unfinished\n" or "by line: unfinished\n")
        assert.not_matches("unfin\n", box:log "s")
        box:ok("stop", "s")
      end
    end
  end)

  it("goes to the old generation until the new one is ready", function()
    local text = [[
      local child = lunad.spawn { "cat", name = "kept", keep = true, stdin = "pipe",
        stdout = lunad.by_line(function(line) print("generation", lunad.generation, line) end) }
    ]]
    box:serve(text .. "lunad.ready()", "--wait-ready")
    box:write("s.lua", support.BEAT .. text .. [[
      child:write "early\n"
      repeat lunad.sleep(0.002) local go = io.open(lunad.script .. ".go") until go
      child:write "late\n"
      lunad.ready()
    ]])
    local process = box:spawn { "reload", "s" }
    box:wait_log("s", "generation\t1\tearly")
    box:write("s.lua.go", "")
    box:await(process, "the verdict", process.is_over)
    assert.equal(0, process.code)
    box:wait_log("s", "generation\t2\tlate")
  end)
end)

describe("A failed reload", function()
  local box = support.with_box(before_each, after_each)

  local ECHO = [[
    local child = lunad.spawn { "cat", name = "kept", keep = true, stdin = "pipe",
      stdout = lunad.by_line(function(line) print("generation", lunad.generation, line) end) }
  ]]

  it("leaves a kept child where it was, with its object and its output", function()
    box:serve(ECHO .. [[
      local round = 0
      lunad.signal("USR1", function() round = round + 1 child:write("round " .. round .. "\n") end)
    ]])
    local pid = kept(box).pid
    for round, fault in ipairs { "local = 1", "error 'x'", "child:pause() error 'x'", "os.exit(1)",
        "child:write 'new\\n' error 'x'", "child:close_stdin() error 'x'", "lunad.stop()",
        "lunad.on_stop(child.kill) error 'x'" } do
      assert.equal(1, box:reload(round > 1 and ECHO .. fault or fault).code)
      box:ok("signal", "s", "USR1")
      box:wait_log("s", "generation\t1\tround " .. round)
      assert.equal(pid, kept(box).pid)
    end
  end)

  it("stops a kept child that it has started itself", function()
    box:serve ""
    assert.equal(1, box:reload(SLEEPER .. "error 'x'").code)
    wait_children(box, 0)
    support.wait_for("the end of its process", function() return #box:marked() == 1 end)
  end)

  it("leaves a kept child when the new script asks for another command under its name", function()
    box:serve(SLEEPER)
    local pid = kept(box).pid
    assert.equal(1, box:reload(SLEEPER:gsub("1000", "2000") .. "error 'x'").code)
    wait_children(box, 1)
    assert.equal(pid, kept(box).pid)
  end)

  it("leaves what it had claimed to the next reload", function()
    box:serve(SLEEPER)
    local pid = kept(box).pid
    for _ = 1, 5 do
      assert.equal(1, box:reload(SLEEPER .. "error 'x'").code)
      assert.equal(0, box:reload(SLEEPER .. "print('adopted', child.adopted)").code)
    end
    assert.equal(pid, kept(box).pid)
    assert.not_matches("adopted\tfalse", box:log "s")
  end)
end)

describe("A kept child that ends during a reload", function()
  local box = support.with_box(before_each, after_each)

  local TEXT = SLEEPER:gsub("keep = true", [[keep = true, on_exit = function(exit)
    print("on_exit in", lunad.generation, exit.signal)
  end]])

  -- Reload a script that claims the child, which is killed before it is ready.
  local function kill_meanwhile(rest)
    box:serve(TEXT .. "lunad.ready()", "--wait-ready")
    box:write("s.lua", support.BEAT .. TEXT .. [[
      print "claimed"
      repeat lunad.sleep(0.002) until not child:running()
    ]] .. rest)
    local process, pid = box:spawn { "reload", "s" }, kept(box).pid
    box:wait_log("s", "claimed")
    support.kill(pid, "sigkill")
    box:await(process, "the verdict", process.is_over)
    return process.code
  end

  it("is told to both generations, once each", function()
    assert.equal(0, kill_meanwhile("print('waited', child:wait().signal) lunad.ready()"))
    local log = box:log "s"
    assert.equal(1, select(2, log:gsub("on_exit in\t1\tKILL", "")))
    assert.equal(1, select(2, log:gsub("on_exit in\t2\tKILL", "")))
    assert.matches("waited\tKILL", log)
    assert.is_nil(kept(box))
  end)

  it("is told to the old one when the reload fails", function()
    assert.equal(1, kill_meanwhile "error 'x'")
    assert.matches("on_exit in\t1\tKILL", box:log "s")
    assert.is_nil(kept(box))
  end)
end)

describe("supervise with keep", function()
  local box = support.with_box(before_each, after_each)

  local WORKERS = [[
    workers = assert(lunad.supervise { "sleep", "1000", name = "w", count = %d, keep = true,
      backoff = { 0.01 } })
    lunad.signal("USR1", function() workers:restart() end)
    lunad.signal("USR2", function() workers:stop() end)
  ]]

  -- The pids of the workers by name, once there are `count` that run.
  local function workers(count)
    return support.wait_for(count .. " workers", function()
      local pids, running = {}, 0
      for _, child in ipairs(box:status("s").children) do
        if child.state == "running" then
          pids[child.name], running = child.pid, running + 1
        end
      end
      return running == count and pids
    end)
  end

  it("keeps every child over reloads, good ones and bad ones", function()
    box:serve(WORKERS:format(3))
    local before = workers(3)
    for i = 1, 12 do
      box:reload(WORKERS:format(3) .. (i % 3 == 0 and "error 'x'" or ""))
    end
    assert.same(before, workers(3))
  end)

  it("restarts them before and after a reload", function()
    box:serve(WORKERS:format(2))
    for _ = 1, 3 do
      local before = workers(2)
      support.kill(before["w-2"], "sigkill")
      support.wait_for("the restart", function() return (workers(2))["w-2"] ~= before["w-2"] end)
      assert.equal(before["w-1"], workers(2)["w-1"])
      assert.equal(0, box:reload(WORKERS:format(2)).code)
    end
  end)

  it("with another count keeps those that are still wanted", function()
    box:serve(WORKERS:format(3))
    local before = workers(3)
    assert.equal(0, box:reload(WORKERS:format(2)).code)
    assert.same({ ["w-1"] = before["w-1"], ["w-2"] = before["w-2"] }, workers(2))
    assert.equal(0, box:reload(WORKERS:format(4)).code)
    local after = workers(4)
    assert.equal(before["w-2"], after["w-2"])
    box:wait_gone(before["w-3"])
  end)

  it("restarts and stops what it has adopted", function()
    box:serve(WORKERS:format(2))
    assert.equal(0, box:reload(WORKERS:format(2)).code)
    local before = workers(2)
    box:ok("signal", "s", "USR1")
    support.wait_for("new workers", function()
      local now = workers(2)
      return now["w-1"] ~= before["w-1"] and now["w-2"] ~= before["w-2"]
    end)
    box:ok("signal", "s", "USR2")
    workers(0)
  end)

  it("that the new script does not ask for ends them", function()
    box:serve(WORKERS:format(3))
    assert.equal(0, box:reload("").code)
    workers(0)
    support.wait_for("the end of their processes", function() return #box:marked() == 1 end)
  end)

  it("has the right number of children after reloads while they die all the time", function()
    local text = WORKERS:gsub('"1000"', '"0.03"'):gsub("backoff = ", "max_restarts = 9999, backoff = ")
    box:serve(text:format(3))
    local client = box:connect "s"
    for i = 1, 30 do
      box:write("s.lua", support.BEAT .. text:format(3) .. (i % 5 == 0 and "error 'x'" or ""))
      assert.equal(i % 5 ~= 0, client:ask("reload").ok)
    end
    assert.equal(0, box:reload(WORKERS:format(3)).code)
    workers(3)
    support.wait_for("the end of the others", function() return #box:marked() == 4 end)
    assert.same({ 0, 3 }, { box:status("s").errors.count, #box:status("s").children })
  end)

  it("keeps the status of a child over a reload that fails", function()
    box:serve(WORKERS:format(1))
    support.kill(workers(1).w, "sigkill")
    support.wait_for("the restart", function() return (kept(box, "w") or {}).restarts == 1 end)
    assert.equal(1, box:reload(WORKERS:format(1) .. "error 'x'").code)
    assert.equal(1, kept(box, "w").restarts)
    assert.equal("KILL", kept(box, "w").last_exit.signal)
  end)

  it("that cannot start all its children ends none of the old generation's", function()
    box:serve(WORKERS:format(2), "--rlimit", "nofile=256")
    local before = workers(2)
    assert.equal(1, box:reload("local files = {} " .. [[
      repeat files[#files + 1] = io.open("/dev/null") or false until not files[#files]
    ]] .. WORKERS:format(3)).code)
    assert.matches("EMFILE", box:log "s")
    assert.equal(0, box:reload(WORKERS:format(2)).code)
    assert.same(before, workers(2))
  end)
end)

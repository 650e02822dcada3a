local support = require "support"

-- Stop the daemon "s"; nothing of it is left.
local function stop(box)
  assert.equal("s: stopped\n", box:ok("stop", "s"))
  assert.same({}, box:left_files())
  assert.same({}, box:marked())
end

describe("on_stop functions", function()
  local box = support.with_box(before_each, after_each)

  local THREE = "for i = 1, 3 do lunad.on_stop(function(...) print('on_stop', i, ...) end) end "

  local function in_reverse(reason, rest)
    assert.matches(("on_stop\t3\t%s\n.*on_stop\t2\t%s\n.*on_stop\t1\t%s\n%s$")
      :format(reason, reason, reason, rest or ".*lunad: stopped\n"), box:log "s")
    assert.equal(3, select(2, box:log("s"):gsub("on_stop\t", "")))
  end

  it("run in reverse order with \"stop\" at lunad stop", function()
    box:serve(THREE)
    stop(box)
    in_reverse "stop"
  end)

  for _, name in ipairs { "sigterm", "sigint" } do
    it("run in reverse order with \"stop\" at " .. name:upper(), function()
      local pid = box:serve(THREE)
      support.kill(pid, name)
      box:wait_gone(pid)
      in_reverse "stop"
    end)
  end

  it("run in reverse order with \"stop\" at lunad.stop", function()
    box:wait_gone(box:serve(THREE .. "lunad.after(0.01, lunad.stop)"))
    in_reverse "stop"
  end)

  it("run in reverse order with \"stop\" at a request over the socket", function()
    local pid = box:serve(THREE)
    assert.is_true(box:connect("s"):ask("stop").ok)
    box:wait_gone(pid)
    in_reverse "stop"
  end)

  it("run in reverse order with \"exit\" when the script has finished", function()
    box:write("s.lua", "local lunad = require 'lunad' " .. THREE)
    box:ok("start", box:path "s.lua")
    in_reverse("exit", "")
  end)

  it("are the last word to timers, while children are still ending", function()
    box:serve [[
      lunad.every(0.001, function() print "tick" end)
      lunad.spawn { "sh", "-c", "trap 'sleep 0.3; exit' TERM; echo ready; while :; do sleep 0.05; done" }
      lunad.on_stop(function() print "last words" end)
    ]]
    box:wait_log("s", "ready\n")
    box:ok("stop", "s")
    assert.is_nil(box:log("s"):match("last words.*tick"))
  end)

  it("may sleep and run commands, one after the other", function()
    box:serve [[
      lunad.on_stop(function() print "last" end)
      lunad.on_stop(function() lunad.sleep(0.05) print(lunad.exec { "echo", "from exec" }.stdout) end)
    ]]
    stop(box)
    assert.matches("s: from exec\n.*s: last\n.*stopped\n$", box:log "s")
  end)

  it("stop no other when one fails, which is logged", function()
    box:serve [[
      lunad.on_stop(function() print "first" end)
      lunad.on_stop(function() error "oops" end)
      lunad.on_stop(function() lunad.sleep(0.01) error {} end)
      lunad.on_stop(function() print "last" end)
    ]]
    stop(box)
    assert.matches("s: last\n.*s: first\n", box:log "s")
    local uncaught = "uncaught error in an on_stop function: [^\n]*"
    assert.matches(uncaught .. "s%.lua:2: oops\n    stack traceback:", box:log "s")
    assert.matches(uncaught .. "table", box:log "s")
  end)

  it("have until --stop-timeout", function()
    box:serve([[
      lunad.on_stop(function() print "never" end)
      lunad.on_stop(function() print "begins" lunad.sleep(60) print "never" end)
    ]], "--stop-timeout", "0.2")
    stop(box)
    assert.matches("begins.*stopped\n$", box:log "s")
    assert.not_matches("never", box:log "s")
  end)

  it("still have the children of the script", function()
    box:serve [[
      local on_line = lunad.by_line(function(line) print("cat says", line) end)
      local cat = lunad.spawn { "cat", stdin = "pipe", stdout = on_line }
      lunad.on_stop(function()
        cat:write "bye\n"
        cat:close_stdin()
        print("cat exits", cat:wait().ok)
      end)
    ]]
    stop(box)
    assert.matches("cat says\tbye\n.*cat exits\ttrue\n.*stopped\n$", box:log "s")
  end)
end)

describe("a stop", function()
  local box = support.with_box(before_each, after_each)

  it("removes socket and pidfile, exits with 0 and says so in the log", function()
    local pid = box:serve ""
    assert.same({ "s.pid", "s.sock", "s.start" }, box:left_files())
    stop(box)
    assert.is_false(support.is_alive(pid))
    assert.matches("lunad: stopping\n.*lunad: stopped\n$", box:log "s")
    local path = box:write("r.lua", support.BEAT .. "lunad.after(0.01, lunad.stop)")
    assert.equal(0, box:lunad("run", path).code)
  end)

  it("is shown in status while it lasts", function()
    local pid = box:serve "lunad.on_stop(function() print 'begins' lunad.sleep(60) end)"
    support.kill(pid)
    box:wait_log("s", "s: begins")
    assert.equal("stopping", box:status("s").state)
    support.kill(pid)
    box:wait_gone(pid)
  end)

  it("is joined by others that are asked for meanwhile, which do not hurry it", function()
    box:serve "lunad.on_stop(function() print 'begins' lunad.sleep(0.3) print 'ends' end)"
    local processes = {}
    for i = 1, 5 do processes[i] = box:spawn { "stop", "s" } end
    for _, process in ipairs(processes) do
      box:await(process, "the end of a stop", process.is_over)
      assert.equal(0, process.code)
    end
    assert.matches("s: begins\n.*s: ends\n", box:log "s")
    assert.same({}, box:left_files())
  end)

  it("answers a reload that is asked for meanwhile", function()
    box:serve "lunad.on_stop(function() print 'begins' lunad.sleep(0.2) end)"
    local process = box:spawn { "stop", "s" }
    box:wait_log("s", "s: begins")
    local result = box:lunad("reload", "s")
    assert.equal(1, result.code)
    assert.matches("stopping", result.err)
    box:await(process, "the stop", process.is_over)
    assert.not_matches("reloaded", box:log "s")
  end)

  it("lets the name be used again at once", function()
    for _ = 1, 5 do
      box:serve ""
      stop(box)
    end
  end)
end)

describe("at a stop, a child", function()
  local box = support.with_box(before_each, after_each)

  local function serve_child(command, extra)
    return box:serve(("lunad.spawn { 'sh', '-c', [[%s]], name = 'c' %s }"):format(command, extra or ""),
      "--stop-timeout", "0.3")
  end

  it("gets SIGTERM, and what it says then is in the log", function()
    serve_child "trap 'echo so long; exit' TERM; echo set; while :; do sleep 0.01; done"
    box:wait_log("s", "s/c%[%d+%]: set\n")
    stop(box)
    assert.matches("stopping\n.*s/c%[%d+%]: so long\n.*stopped\n$", box:log "s")
    assert.not_matches("killing", box:log "s")
  end)

  it("gets SIGTERM once", function()
    serve_child "trap 'echo TERM' TERM; echo set; while :; do sleep 0.01; done"
    box:wait_log("s", ": set\n")
    stop(box)
    assert.equal(1, select(2, box:log("s"):gsub("c%[%d+%]: TERM\n", "")))
  end)

  it("gets SIGKILL at the deadline if it ignores SIGTERM", function()
    serve_child "trap '' TERM; echo set; while :; do sleep 600; done"
    box:wait_log("s", ": set\n")
    stop(box)
    assert.matches("warn  lunad: [^\n]*0%.3 s", box:log "s")
  end)

  local HELD = {
    ["output is paused"] = "child:pause()",
    ["output is paused, and it has said more than a pipe holds"] =
      "start 'yes | head -c 300000' child:pause()",
    ["callback of output sleeps"] = "function on_output(chunk) if chunk then lunad.sleep(600) end end",
    ["callback of the end of output sleeps"] =
      "function on_output(chunk) if not chunk then lunad.sleep(600) end end",
    ["callback of output sleeps while it is paused"] =
      "function on_output(chunk) child:pause() lunad.sleep(600) end",
    ["by_line function sleeps"] = "on_output = lunad.by_line(function() lunad.sleep(600) end)",
    ["stdin is not read"] = "assert(child:write(('x'):rep(1000000)))",
    ["stdin is not read, and a task flushes it"] =
      "child:write(('x'):rep(1000000)) lunad.task(child.flush, child)",
    ["end is waited for by a task, its output paused"] = "lunad.task(child.wait, child) child:pause()",
    ["pipe is held by one that was spawned with detach"] = "keep_pipe()",
    ["name is kept over reloads, its output paused"] = "child:pause()",
  }
  for what, text in pairs(HELD) do
    it("need only be reaped and gone, though its " .. what, function()
      box:serve(([[
        local on_output, child
        local names = coroutine.wrap(function() for i = 1, 9 do coroutine.yield("c" .. i) end end)
        local function start(command)
          child = lunad.spawn { "sh", "-c", command, stdin = "pipe", name = names(), keep = %s,
            stdout = function(chunk) if on_output then on_output(chunk) end end }
        end
        start "echo said; exec sleep 600"
        local function keep_pipe()
          lunad.spawn { "sh", "-c", "echo said; sleep 600 & echo $!", name = "d", stdout = "log",
            env = { LUNAD_DETACHED = "1" } }
        end
        local function set() %s end
        set()
      ]]):format(tostring(what:find("kept", 1, true) ~= nil),
        (text:gsub("function on_output", "on_output = function"))), "--stop-timeout", "60")
      local start = support.uv.hrtime()
      box:ok("stop", "s")
      local seconds = (support.uv.hrtime() - start) / 1e9
      assert.is_true(seconds < 15, seconds .. " s")
      assert.not_matches("could not be ended", box:log "s")
      assert.not_matches("killing", box:log "s")
      for _, left in ipairs(box:marked()) do -- what was detached
        support.kill(left, "sigkill")
        box:wait_gone(left)
      end
      assert.same({}, box:left_files())
    end)
  end

  it("whose output callback sleeps for a moment still has all of its output delivered", function()
    box:serve([[
      lunad.spawn { "sh", "-c",
        "trap 'echo one; sleep 0.1; echo two; exit' TERM; echo set; while :; do sleep 0.01; done",
        stdout = function(chunk) lunad.sleep(0.05) print("got", chunk) end }
    ]], "--stop-timeout", "60")
    box:wait_log("s", "got\tset")
    stop(box)
    assert.matches("got\tone.*got\ttwo.*got\tnil\n", box:log "s")
  end)

  it("whose output is paused ends with a stop before its time", function()
    local pid = box:serve("lunad.spawn { 'sleep', '600' }:pause() " ..
      "lunad.on_stop(function() lunad.sleep(60) end)",
      "--stop-timeout", "600")
    support.kill(pid)
    box:wait_log("s", "stopping\n")
    support.kill(pid)
    box:wait_gone(pid)
    assert.not_matches("could not be ended", box:log "s")
  end)

  it("is ended though it is stopped", function()
    serve_child "echo set; kill -STOP $$; sleep 600"
    box:wait_log("s", ": set\n")
    stop(box)
  end)

  it("is ended though it has changed its session", function()
    serve_child "setsid sleep 600 & echo set; wait"
    box:wait_log("s", ": set\n")
    stop(box)
  end)

  it("is ended though it has changed its session, ignores SIGTERM and its parent is gone", function()
    serve_child "setsid sh -c 'trap \"\" TERM; echo set; while :; do sleep 600; done' &"
    box:wait_log("s", ": set\n")
    support.wait_for("the end of its parent", function() return #box:status("s").children == 0 end)
    stop(box)
  end)

  it("is ended though it has cleared its environment and left group, session and parent", function()
    serve_child "env -i setsid sh -c 'echo pid $$; exec sleep 600' &"
    local pid = math.tointeger(tonumber((box:wait_log("s", "pid (%d+)\n"))))
    stop(box)
    assert.is_false(support.is_alive(pid))
  end)

  it("is ended though it starts another one when it is told to end", function()
    serve_child "trap 'setsid sleep 600 & exit' TERM; echo set; sleep 600 & wait"
    box:wait_log("s", ": set\n")
    stop(box)
  end)

  it("is ended though it forks all the time", function()
    serve_child "echo set; f() { sleep 0.02; (f) & }; f; wait"
    box:wait_log("s", ": set\n")
    stop(box)
  end)

  it("of os.execute or io.popen is ended too", function()
    box:serve [[
      os.execute "sleep 600 & setsid sleep 600 &"
      pipe = io.popen "sleep 600"
    ]]
    stop(box)
  end)

  it("that on_stop has started is ended too", function()
    box:serve "lunad.on_stop(function() lunad.spawn { 'sleep', '600' } end)"
    stop(box)
  end)

  for what, command in pairs {
    ["itself"] = "echo pid $$; exec sleep 600",
    ["and what it has started"] = "sh -c 'echo pid $$; exec sleep 600' & wait",
    ["and what it has started, whatever group and session that is in"] =
      "setsid sh -c 'echo pid $$; exec sleep 600' & wait",
    ["and what it has started, though it is gone itself"] = "setsid sh -c 'echo pid $$; exec sleep 600' &",
  } do
    it("that was spawned with detach outlives the daemon, " .. what, function()
      serve_child(command, ", detach = true, stdout = 'inherit'")
      local pid = math.tointeger(tonumber((box:wait_log("s", "pid (%d+)\n"))))
      box:ok("stop", "s")
      assert.is_true(support.is_alive(pid))
      for _, left in ipairs(box:marked()) do
        support.kill(left, "sigkill")
        box:wait_gone(left)
      end
    end)
  end

  it("that a task runs one after the other causes no error", function()
    box:serve "lunad.task(function() while true do lunad.exec { 'sleep', '600' } end end) print 'set'"
    box:wait_log("s", "s: set\n")
    stop(box)
    assert.falsy(box:log("s"):find("uncaught", 1, true), box:log "s")
  end)

  it("that is supervised is not restarted, and causes no error", function()
    box:serve "lunad.supervise { 'sh', '-c', 'echo set; exec sleep 600', count = 2 }"
    box:wait_log("s", "s/sh%-1%[%d+%]: set\n")
    box:wait_log("s", "s/sh%-2%[%d+%]: set\n")
    stop(box)
    assert.falsy(box:log("s"):find("uncaught", 1, true), box:log "s")
  end)

  it("is ended with the keeper of --user too", function()
    if not support.is_root then
      return pending "needs root"
    end
    box:serve("lunad.spawn { 'sh', '-c', 'trap \"\" TERM; echo set; while :; do sleep 600; done' }",
      "--user", "65534", "--stop-timeout", "0.2")
    box:wait_log("s", ": set\n")
    stop(box)
  end)
end)

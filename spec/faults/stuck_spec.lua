-- Callbacks that do not end: how they are reported, interrupted, and ended.
local support = require "support"

-- A C function that takes for ever: a pattern with very many ways to fail.
local FOR_EVER = 'string.find(("a"):rep(60), (".-"):rep(30) .. "b")'

-- Serve a script whose timer does `text` at once, and wait until it does; returns the pid.
local function serve_stuck(box, text, ...)
  local pid = box:serve(("lunad.after(0, function() print 'begins' %s end)"):format(text), ...)
  box:wait_log("s", "s: begins")
  return pid
end

local function assert_stopped(box, pid)
  box:wait_gone(pid)
  assert.matches("lunad: stopped\n", box:log "s")
  assert.same({}, box:left_files())
end

describe("a callback that holds the loop", function()
  local box = support.with_box(before_each, after_each)

  it("is logged with its place and traceback, again while it lasts, and is no error", function()
    box:serve([[
      local function inner() repeat until io.open(lunad.script .. ".go") end
      lunad.after(0, function()
        inner() -- line 3
        print "over"
      end)
    ]], "--stuck-after", "0.2")
    local line = "warn  lunad: a timer has held the loop for %d%.%d s at /[^\n]*/s.lua:1\n"
    box:wait_log("s", line .. ".*s.lua:1: in upvalue 'inner'\n" ..
      ".*s.lua:3: in function <.*/s.lua:2>\n.*" .. line)
    box:write("s.lua.go", "")
    box:wait_log("s", "s: over")
    assert.equal(0, box:status("s").errors.count)
  end)

  it("is logged with the coroutine that runs, and then with what has resumed it", function()
    serve_stuck(box, [[
      local co = coroutine.wrap(function()
        while true do end
      end)
      co()
    ]], "--stuck-after", "0.2")
    box:wait_log("s", "for %d%.%d s at /[^\n]*s.lua:2\n    stack traceback:\n" ..
      "%s+/[^\n]*s.lua:2: in function[^\n]*\n" ..
      "%s+%(a coroutine that was resumed by%)\n.*s.lua:4: in function")
  end)

  it("is logged with the line that has called a C function", function()
    serve_stuck(box, "local x = 1\n" .. FOR_EVER, "--stuck-after", "0.2", "--stop-timeout", "0.5")
    box:wait_log("s", "a timer has held the loop for %d%.%d s, in a C function that was called at " ..
      "/[^\n]*s.lua:2\n.*%[C%]: in f[^\n]* 'find'\n")
  end)

  it("is logged also if it is a callback of luv, or the chunk itself", function()
    box:serve([[
      local luv = require "luv"
      luv.new_timer():start(0, 0, function() repeat until io.open(lunad.script .. ".go") end)
    ]], "--stuck-after", "0.2")
    box:wait_log("s", "a luv callback has held the loop for .* at /[^\n]*/s.lua:2\n")
    box:write("s.lua.go", "")
    local result = box:lunad("run", "--stuck-after", "0.2", "-e",
      "local t = os.time() + 1 repeat until os.time() > t")
    assert.matches("warn  lunad: the script has held the loop for [%d.]+ s at %(command line%):1\n",
      result.err)
  end)

  it("keeps a hook that the script has set", function()
    serve_stuck(box, [[
      local lines = 0
      debug.sethook(function() lines = lines + 1 end, "l")
      while not io.open(lunad.script .. ".go") do
        lines = lines + 1
      end
      local before = lines
      local x = 1
      debug.sethook()
      print("lines", lines > before)
    ]], "--stuck-after", "0.1")
    box:wait_log("s", "has held the loop")
    box:write("s.lua.go", "")
    box:wait_log("s", "lines\ttrue")
  end)

  it("is not reported with --stuck-after 0, and still interrupted by a stop", function()
    local pid = serve_stuck(box, "while true do end", "--stuck-after", "0")
    support.kill(pid)
    assert_stopped(box, pid)
    assert.matches("uncaught error in a timer: interrupted by a stop", box:log "s")
  end)
end)

describe("Lua code that does not end is interrupted by a stop", function()
  local box = support.with_box(before_each, after_each)

  local BODIES = {
    ["in pcall"] = "while true do pcall(function() while true do end end) end",
    ["in xpcall and its handler"] =
      "while true do xpcall(error, function() while true do pcall(error) end end) end",
    ["in a coroutine"] = [[
      while true do
        pcall(coroutine.wrap(function()
          while true do
            coroutine.resume(coroutine.create(function() while true do pcall(error) end end))
          end
        end))
      end]],
    ["in a finalizer"] = [[
      setmetatable({}, { __gc = function() while true do pcall(function() while true do end end) end end })
      collectgarbage()]],
    ["in the comparison of a sort"] = [[
      while true do
        pcall(table.sort, { 3, 1, 2 }, function() while true do pcall(error) end end)
      end]],
    ["in a sort with a message handler"] = [[
      table.sort({ 3, 1, 2 }, function()
        xpcall(function() while true do end end, function() while true do end end)
        while true do end
      end)]],
    ["in a function of gsub"] = 'string.gsub("x", ".", function() while true do pcall(error) end end)',
    ["in metamethods"] = [[
      local t = setmetatable({}, { __index = function() while true do pcall(error) end end,
        __tostring = function(t) return t.x end })
      while true do pcall(tostring, t) end]],
    ["in the message of an error"] =
      "error(setmetatable({}, { __tostring = function() while true do end end }))",
    ["in what closes a variable"] = [[
      while true do
        pcall(function()
          local x <close> = setmetatable({}, { __close = function() while true do end end })
          error "x"
        end)
      end]],
    ["in what closes the variables of a coroutine"] = [[
      local co = coroutine.create(function()
        local x <close> = setmetatable({}, { __close = function() while true do end end })
        coroutine.yield()
      end)
      coroutine.resume(co)
      while true do coroutine.close(co) end]],
    ["in a reader of load"] = "while true do load(function() while true do end end) end",
    ["in a hook of its own"] = [[
      debug.sethook(function() while true do end end, "l")
      local x = 1
      print(x)]],
    ["in a task of its own"] = "lunad.task(function() while true do pcall(error) end end):wait()",
    ["in a callback of luv"] = [[
      local luv = require "luv"
      luv.new_timer():start(0, 0, function() while true do pcall(error) end end)]],
  }
  for what, body in pairs(BODIES) do
    it(what, function()
      local pid = serve_stuck(box, body, "--stuck-after", "0.2")
      box:wait_log("s", "has held the loop for")
      support.kill(pid)
      assert_stopped(box, pid)
    end)
  end

  it("in the chunk, before it is ready", function()
    local path = box:write("s.lua", "print 'begins' while true do pcall(error) end")
    local process = box:spawn { "run", "--stuck-after", "0.2", path }
    box:await(process, "the chunk", function() return process.out():find "begins" end)
    support.kill(process.pid)
    box:await(process, "the end", process.is_over)
    assert.matches("interrupted by a stop", process.err())
    assert.same({}, box:left_files())
  end)

  for _, where in ipairs { "on_stop", "on_reload" } do
    it("in an " .. where .. " function", function()
      local pid = box:serve(("lunad.%s(function() print 'begins' while true do pcall(error) end end)")
        :format(where), "--stuck-after", "0.3")
      if where == "on_reload" then support.kill(pid, "sighup") else support.kill(pid) end
      box:wait_log("s", "s: begins")
      if where == "on_reload" then support.kill(pid) end
      assert_stopped(box, pid)
      assert.matches("interrupted by a stop", box:log "s")
    end)
  end

  it("in a recursion of protected calls that is very deep", function()
    local pid = serve_stuck(box, [[
      local function dive() return pcall(dive), dive() end
      while true do pcall(dive) end
    ]], "--stuck-after", "0.3")
    box:wait_log("s", "has held the loop")
    assert.equal(0, box:lunad("reload", "s").code)
    box:wait_log("s", "s: begins.*s: begins")
    support.kill(pid)
    assert_stopped(box, pid)
  end)

  it("in finalizers when its state is closed", function()
    local pid = box:serve([[
      for i = 1, 3 do setmetatable({}, { __gc = function() while true do pcall(error) end end }) end
    ]], "--stuck-after", "0.2")
    support.kill(pid)
    assert_stopped(box, pid)
    assert.matches("a finalizer %(__gc%) was ended: interrupted", box:log "s")
  end)

  it("1 s after it was asked for, even if --stuck-after is longer", function()
    local pid = serve_stuck(box, "while true do pcall(error) end", "--stuck-after", "600")
    support.kill(pid)
    assert_stopped(box, pid)
    assert.matches("a timer has held the loop for [^\n]* at /[^\n]*s.lua:1\n.*" ..
      "uncaught error in a timer: interrupted by a stop", box:log "s")
  end)

  it("by lunad stop too, which says what it was busy with", function()
    local pid = serve_stuck(box, "while true do pcall(error) end", "--stuck-after", "600")
    local result = box:lunad("stop", "s")
    assert.equal("s: stopped\n", result.out)
    assert.matches("^lunad: s: it is busy in /.*/s.lua:1 for %d[%d.]* s; stopping it\n$", result.err)
    assert_stopped(box, pid)
  end)

  it("but a short callback is not", function()
    support.wait_for("a callback that the machine lets be short", function()
      os.remove(box:path "log/s.log")
      local pid = serve_stuck(box, [[
        local luv = require "luv"
        local t = luv.hrtime() + 15e7
        repeat until luv.hrtime() > t
        print "whole"
      ]])
      support.kill(pid)
      assert_stopped(box, pid)
      local log = box:log "s"
      return log:find("s: whole\n", 1, true) and not log:find("interrupted", 1, true)
    end)
  end)

  it("and what comes after it gets a time of its own", function()
    local pid = box:serve([[
      lunad.on_stop(function() print "goodbye" end)
      for i = 1, 3 do lunad.after(0, function() print("begins", i) while true do pcall(error) end end) end
    ]], "--stuck-after", "0.2")
    box:wait_log("s", "begins\t1")
    support.kill(pid)
    assert_stopped(box, pid)
    assert.matches("s: goodbye\n", box:log "s")
  end)
end)

describe("a reload of a stuck script", function()
  local box = support.with_box(before_each, after_each)

  it("interrupts it, and loads the new code", function()
    local pid = serve_stuck(box, "while true do pcall(error) end", "--stuck-after", "0.3")
    local result = box:reload "print 'new'"
    assert.equal(0, result.code, result.err)
    assert.equal(pid, box:status("s").pid)
    assert.equal(1, box:status("s").errors.count)
    box:wait_log("s", "uncaught error in a timer: interrupted by a reload.*reloaded: generation 2")
  end)

  it("is the same by SIGHUP, but not if SIGHUP is ignored", function()
    local pid = serve_stuck(box, "while lunad.generation == 1 do pcall(error) end", "--stuck-after", "0.2")
    support.kill(pid, "sighup")
    box:wait_log("s", "reloaded: generation 2")
    box:ok("stop", "s")
    os.remove(box:path "log/s.log") -- what follows waits for lines of the second daemon
    pid = serve_stuck(box, "repeat until io.open(lunad.script .. '.go') print 'whole'",
      "--stuck-after", "0.2", "--hup", "ignore")
    support.kill(pid, "sighup")
    box:wait_log("s", "has held the loop.*has held the loop")
    box:write("s.lua.go", "")
    box:wait_log("s", "whole")
  end)

  it("that runs a C function is refused after --start-timeout", function()
    local pid = serve_stuck(box, FOR_EVER, "--stuck-after", "0.2", "--start-timeout", "0.5",
      "--stop-timeout", "0.5")
    local result = box:lunad("reload", "s")
    assert.equal(1, result.code)
    assert.matches("^lunad: s: not reloaded, the old code keeps running: busy in /.*/s.lua:1 for %d",
      result.err)
    support.kill(pid, "sighup")
    box:wait_log("s", "reload refused[^\n]*: busy in .*reload refused[^\n]*: busy in ")
  end)
end)

describe("a signal that a stuck script handles", function()
  local box = support.with_box(before_each, after_each)

  for _, name in ipairs { "TERM", "HUP" } do
    it("interrupts it, and is handled then, if it is " .. name, function()
      local pid = box:serve(([[
        lunad.signal("%s", function() print "handled" end)
        lunad.after(0, function() print "begins" while true do pcall(error) end end)
      ]]):format(name), "--stuck-after", "0.3")
      box:wait_log("s", "s: begins")
      support.kill(pid, "sig" .. name:lower())
      box:wait_log("s", "interrupted by a .*s: handled\n")
      assert.equal("running", box:status("s").state)
    end)
  end
end)

describe("a C function that does not return", function()
  local box = support.with_box(before_each, after_each)

  it("is ended by the host itself, with children and files, if a signal asked for the stop", function()
    local pid = box:serve([[
      local child = lunad.spawn { "sleep", "300" }
      lunad.after(0, function() print("begins", child.pid) ]] .. FOR_EVER .. " end)",
      "--stuck-after", "0.2", "--stop-timeout", "0.5")
    local child = math.tointeger(tonumber(box:wait_log("s", "begins\t(%d+)")))
    support.kill(pid)
    box:wait_gone(pid)
    assert.matches("asked to stop, but a C function that was called at /[^\n]*/s.lua:2 has been running",
      box:log "s")
    assert.matches("did not stop within 0.5 s: killing it; it is busy in /[^\n]*s.lua:2\n", box:log "s")
    box:wait_gone(child)
    assert.same({}, box:left_files())
    assert.equal(3, box:lunad("status", "s").code)
  end)

  it("is ended at once if a second signal asks for the stop", function()
    local pid = serve_stuck(box, FOR_EVER, "--stuck-after", "0.2", "--stop-timeout", "600")
    support.kill(pid)
    box:wait_log("s", "asked to stop, but a C function")
    support.kill(pid)
    box:wait_gone(pid)
    assert.matches("was asked to stop again: killing it; it is busy in /[^\n]*s.lua:1\n", box:log "s")
    assert.same({}, box:left_files())
  end)

  it("is ended by lunad stop", function()
    local pid = serve_stuck(box, FOR_EVER, "--stuck-after", "0.2")
    box:wait_log("s", "has held the loop")
    local result = box:lunad("stop", "--timeout", "0.5", "s")
    assert.equal(0, result.code)
    assert.matches("it is busy in /.*/s.lua:1 for .*it did not stop within 0.5 s and was killed\n$",
      result.err)
    assert.matches("a C function that was called at /[^\n]*/s.lua:1", box:log "s")
    assert.is_false(support.is_alive(pid))
    assert.same({}, box:left_files())
  end)

  it("is ended by the keeper", function()
    if not support.is_root then return pending "needs root" end
    local pid = serve_stuck(box, FOR_EVER, "--stuck-after", "0.2", "--stop-timeout", "0.2",
      "--user", "65534")
    local keeper = support.parent_of(pid)
    support.kill(keeper)
    box:wait_gone(pid)
    box:wait_gone(keeper)
    assert.matches("a C function that was called at /[^\n]*/s.lua:1", box:log "s")
    assert.matches("did not stop within 0.2 s: killing it", box:log "s")
    assert.same({}, box:left_files())
  end)

  it("is not followed by another host of --restart, if a signal asked for the stop", function()
    local pid = serve_stuck(box, FOR_EVER, "--stuck-after", "0.2", "--stop-timeout", "0.2",
      "--restart", "always")
    support.kill(pid)
    box:wait_gone(pid)
    support.wait_for("the end of the keeper", function() return box:lunad("status", "s").code == 3 end)
    assert.not_matches("restarting", box:log "s")
    assert.same({}, box:left_files())
  end)

  it("in a thread of luv does not hold up a stop", function()
    local pid = box:serve([[
      local luv = require "luv"
      luv.new_thread(function() while true do end end)
      luv.queue_work(luv.new_work(function() while true do end end, print))
      print "begins"
    ]], "--stop-timeout", "0.5")
    box:wait_log("s", "s: begins")
    support.kill(pid)
    box:wait_gone(pid)
    assert.same({}, box:left_files())
  end)
end)

describe("a daemon whose script is stuck", function()
  local box = support.with_box(before_each, after_each)

  it("answers status, list and reopen at once, and reopens its log when that ends", function()
    local pid = serve_stuck(box, "repeat until io.open(lunad.script .. '.go')", "--stuck-after", "0.2")
    box:wait_log("s", "has held the loop")
    local report = box:status "s"
    assert.same({ "s", pid, "running" }, { report.name, report.pid, report.state })
    assert.matches("^busy in /.*/s.lua:1 for [%d.]+ s$", report.error)
    assert.matches("^/.*/s.lua:1$", report.busy.where)
    assert.is_true(report.busy.seconds > 0.1)
    assert.matches("^s: running, pid " .. pid .. ", but busy in /.*/s.lua:1 for ", box:ok("status", "s"))
    assert.matches("busy in /.*/s.lua:1 for ", box:ok "list")
    assert.matches("busy in /.*/s.lua:1 for ", box:refused(1, "reopen", "s"))
    box:write("s.lua.go", "")
    box:wait_log("s", "lunad: log reopened")
    assert.is_nil(box:status("s").error)
  end)

  it("answers clients that were connected before, and keeps them", function()
    box:serve([[
      lunad.signal("USR1", function() print "begins" repeat until io.open(lunad.script .. ".go") end)
    ]], "--stuck-after", "0.2")
    local client = box:connect "s"
    assert.is_nil(client:ask("status").error)
    support.kill(box:status("s").pid, "sigusr1")
    box:wait_log("s", "has held the loop")
    local answer = client:ask "status"
    assert.matches("^busy in /.*/s.lua:1 for ", answer.error)
    assert.is_true(answer.ok)
    box:write("s.lua.go", "")
    support.wait_for("the end", function() return client:ask("status").error == nil end)
    client:close()
  end)

  it("is not disturbed by many clients that are silent, slow or loud", function()
    local pid = serve_stuck(box, "repeat until io.open(lunad.script .. '.go')", "--stuck-after", "0.2")
    box:wait_log("s", "has held the loop")
    local clients = {}
    for i = 1, 300 do
      local client = box:connect "s"
      clients[i] = client
      if i % 3 == 0 then client:send '{"verb": "sta' end
      if i % 3 == 1 then client:send(("x"):rep(5000)) end
    end
    for _ = 1, 3 do
      assert.equal(pid, box:status("s").busy and box:status("s").pid)
    end
    box:write("s.lua.go", "")
    support.wait_for("the end", function() return box:status("s").error == nil end)
    for _, client in ipairs(clients) do client:close() end
  end)

  it("says in its log that no thread can watch the script, where none can be made", function()
    if not support.is_root then return pending "needs root" end
    local pid = box:serve("", "--user", "65534", "--rlimit", "nproc=1")
    box:wait_log("s", "no thread watches the loop: ")
    assert.equal(pid, box:status("s").pid)
  end)

  it("sends no ping to a watchdog", function()
    local socket = box:path "notify"
    local manager = box:spawn({ "-u", "-c", ([[
import socket, os
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(%q); print("bound")
while True: print(s.recv(4096).decode().replace("\n", " "))
]]):format(socket) }, { program = "python3" })
    box:await(manager, "the manager", function() return manager.out():find "bound" end)
    local path = box:write("s.lua", [[
      local lunad = require "lunad"
      lunad.every(60, print)
      lunad.signal("USR1", function() print "begins" repeat until io.open(lunad.script .. ".go") end)
    ]])
    local result = box:run({ "start", "--stuck-after", "0.2", path },
      { env = { NOTIFY_SOCKET = socket, WATCHDOG_USEC = "200000" } })
    assert.equal(0, result.code, result.err)
    box:await(manager, "pings", function() return manager.out():find "WATCHDOG=1.*WATCHDOG=1" end)
    support.kill(box:status("s").pid, "sigusr1")
    box:wait_log("s", ("has held the loop.*"):rep(3))
    manager.turn()
    local before = select(2, manager.out():gsub("WATCHDOG", ""))
    box:wait_log("s", ("has held the loop.*"):rep(4))
    manager.turn()
    assert.equal(before, (select(2, manager.out():gsub("WATCHDOG", ""))))
    box:write("s.lua.go", "")
    box:await(manager, "a ping", function()
      return select(2, manager.out():gsub("WATCHDOG", "")) > before
    end)
    support.kill(manager.pid)
    box:await(manager, "its end", manager.is_over)
  end)
end)

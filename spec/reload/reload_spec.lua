local support = require "support"

local BUSY = " while true do pcall(function() while true do end end) end "

-- How often a pattern is in a text.
local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

describe("a reload that succeeds", function()
  local box = support.with_box(before_each, after_each)

  it("swaps in the edited script, in the same process", function()
    local pid = box:serve "print 'first'"
    local result = box:reload "print('second', lunad.generation, lunad.pid)"
    assert.equal(0, result.code)
    assert.matches("^s: reloaded, generation 2 in %d+%.%d ms\n$", result.out)
    assert.matches("s: second\t2\t" .. pid .. "\n", box:log "s")
    assert.matches("info  lunad: reloaded: generation 2 in %d+%.%d ms\n", box:log "s")
    assert.equal(2, box:status("s").generation)
  end)

  it("is shown in status", function()
    box:serve ""
    local before = box:status("s").reloads
    assert.same({ ok = 0, failed = 0 }, before)
    box:ok("reload", "s")
    local reloads = box:status("s").reloads
    assert.equal(1, reloads.ok)
    assert.equal(0, reloads.failed)
    assert.is_true(reloads.last.ok)
    assert.is_nil(reloads.last.error)
    assert.is_true(reloads.last.ms >= 0 and math.abs(reloads.last.time - os.time()) < 60)
  end)

  it("gives a fresh Lua state: globals and modules are read again", function()
    box:write("mod.lua", "return 'old module'")
    box:serve "print(require 'mod', leak) leak = 1"
    box:write("mod.lua", "return 'new module'")
    box:ok("reload", "s")
    assert.matches("s: old module\tnil\n.*s: new module\tnil\n", box:log "s")
  end)

  it("works on run, and on a script without a file", function()
    for _, words in ipairs { { "run", "-n", "s", "-e", support.BEAT }, { "run", "-n", "s", "-" } } do
      local process = box:spawn(words, { input = support.BEAT })
      box:await(process, "the start", function() return process.err():find "started" end)
      assert.matches("generation 2", box:ok("reload", "s"))
      box:ok("stop", "s")
      box:await(process, "the end", process.is_over)
    end
  end)

  it("hands over what on_reload returns, and nil without it", function()
    box:serve "print('state', lunad.state)"
    box:reload "print('state', lunad.state) lunad.on_reload(function() return 'kept', 'dropped' end)"
    box:ok("reload", "s")
    assert.equal(2, count(box:log "s", "s: state\tnil\n"))
    assert.equal(1, count(box:log "s", "s: state\tkept\n"))
  end)

  it("calls only the latest on_reload function, which may suspend", function()
    box:serve [[
      lunad.on_reload(function() print "earlier" end)
      lunad.on_reload(function() lunad.sleep(0.01) return lunad.exec { "echo", "later" }.stdout end)
      print("state", lunad.state)
    ]]
    box:ok("reload", "s")
    assert.matches("s: state\tlater", box:log "s")
    assert.not_matches("earlier", box:log "s")
  end)

  it("runs the old one's on_stop functions once, in reverse order, after the commit", function()
    box:serve [[
      for i = 1, 3 do
        lunad.on_stop(function(reason) print("on_stop", lunad.generation, i, reason) end)
      end
    ]]
    box:reload ""
    box:reload ""
    assert.matches("reloaded: generation 2.*on_stop\t1\t3\treload\n.*on_stop\t1\t2\treload\n" ..
      ".*on_stop\t1\t1\treload\n.*reloaded: generation 3", box:log "s")
    assert.equal(3, count(box:log "s", "on_stop"))
  end)

  it("lets on_stop functions sleep meanwhile, and one that fails stops no other", function()
    box:serve [[
      lunad.on_stop(function() print "last" end)
      lunad.on_stop(function() error "oops" end)
      lunad.on_stop(function() lunad.sleep(0.1) print "slept" end)
    ]]
    assert.equal(0, box:reload("lunad.every(0.01, function() print 'tick' end)").code)
    box:wait_log("s", "s: tick.*s: slept\n.*s: last\n")
    box:wait_log("s", "uncaught error in an on_stop function: [^\n]*oops\n")
    assert.equal(1, box:status("s").errors.count)
  end)

  it("gives up on_stop functions that take longer than --stop-timeout", function()
    box:serve("lunad.on_stop(function() lunad.sleep(60) print 'never' end)" ..
      "lunad.spawn { 'sleep', '600' }", "--stop-timeout", "0.1")
    local child = box:status("s").children[1].pid
    box:reload "lunad.every(0.01, function() end)"
    box:wait_gone(child)
    assert.not_matches("never", box:log "s")
  end)

  it("closes the old one's timers and signal handlers", function()
    local pid = box:serve [[
      lunad.every(0.005, function() print(lunad.generation .. " ticks") end)
      lunad.signal("USR1", function() print(lunad.generation .. " got it") end)
    ]]
    box:ok("reload", "s")
    support.kill(pid, "sigusr1")
    box:wait_log("s", "2 got it.*2 ticks.*2 ticks")
    assert.not_matches("reloaded: .*1 ticks", box:log "s")
    assert.not_matches("1 got it", box:log "s")
    assert.equal(2, #box:status("s").timers)
    assert.same({ { name = "USR1", count = 1 } }, box:status("s").signals)
  end)

  it("gives signals that only the old one had a handler for their default again", function()
    local pid = box:serve "lunad.signal('TERM', function() print 'handled' end)"
    box:reload ""
    support.kill(pid, "sigterm")
    box:wait_gone(pid)
    assert.not_matches("handled", box:log "s")
  end)

  it("ends the old one's children by SIGTERM, but not detached ones", function()
    box:serve [[
      lunad.spawn { "sleep", "600", name = "plain" }
      lunad.spawn { "sleep", "600", name = "detached", detach = true }
    ]]
    local pids = {}
    for _, child in ipairs(box:status("s").children) do pids[child.name] = child.pid end
    box:reload ""
    box:wait_gone(pids.plain)
    assert.is_true(support.is_alive(pids.detached))
    support.kill(pids.detached)
    box:wait_gone(pids.detached)
  end)

  it("ends the old one's children by SIGKILL if they ignore SIGTERM", function()
    box:serve "lunad.spawn { 'sh', '-c', 'trap \"\" TERM; echo set; while :; do sleep 600; done' }"
    box:wait_log("s", ": set\n")
    local child = box:status("s").children[1].pid
    box:reload ""
    box:wait_gone(child)
  end)

  it("takes no longer than the chunk to give control back, though the old one's on_stop sleeps", function()
    box:serve "lunad.on_stop(function() lunad.sleep(60) end)"
    assert.equal(0, box:reload("").code)
    assert.equal("running", box:status("s").state)
    box:lunad("stop", "--timeout", "0.5", "s") -- which kills it, or the end of the test would wait for it
  end)

  it("completes its on_stop functions when a stop comes", function()
    box:serve "lunad.on_stop(function(reason) lunad.sleep(0.2) print('ended', reason) end)"
    box:reload ""
    box:ok("stop", "s")
    assert.matches("ended\treload", box:log "s")
  end)

  it("takes a script that begins with a timer which fires at once, or does nothing else", function()
    box:serve ""
    box:write("s.lua", "local l = require 'lunad' l.after(0, function() l.every(60, print) end)")
    assert.matches("generation 2", box:ok("reload", "s"))
    box:write("s.lua", "local l = require 'lunad' local function f() l.after(0, f) end f()")
    assert.matches("generation 3", box:ok("reload", "s"))
    box:write("s.lua", "local l = require 'lunad' l.after(0.5, function() l.after(60, print) end)")
    assert.matches("generation 4", box:ok("reload", "s"))
  end)

  it("needs ready from the new script too, with --wait-ready", function()
    local pid = box:serve("lunad.ready() lunad.signal('USR1', function() print 'old' end)", "--wait-ready")
    box:write("s.lua", support.BEAT .. [[
      lunad.signal("USR1", function() print "new" end)
      repeat lunad.sleep(0.005) local go = io.open(lunad.script .. ".go") until go
      lunad.ready()
    ]])
    local process = box:spawn { "reload", "s" }
    support.wait_for("the reload", function() return box:status("s").state == "reloading" end)
    support.kill(pid, "sigusr1")
    box:wait_log("s", "s: old")
    assert.equal(1, box:status("s").generation)
    box:write("s.lua.go", "")
    box:await(process, "the verdict", process.is_over)
    assert.equal(0, process.code)
    support.kill(pid, "sigusr1")
    box:wait_log("s", "s: new")
    assert.equal(1, count(box:log "s", "s: old") + 0)
  end)
end)

describe("a reload", function()
  local box = support.with_box(before_each, after_each)

  local OLD = "lunad.signal('USR1', function() print 'old one here' end) "

  -- The script of a service whose second generation does `text`.
  local function second(text)
    return OLD .. "if lunad.generation > 1 then " .. text .. " end "
  end

  -- Nothing has changed: the old generation is the service, and the next reload works.
  local function old_one_goes_on(pid, pattern)
    local status = box:status "s"
    assert.equal("running", status.state)
    assert.equal(1, status.generation)
    assert.equal(0, status.reloads.ok)
    assert.equal(1, status.reloads.failed)
    assert.is_false(status.reloads.last.ok)
    assert.matches(pattern, status.reloads.last.error)
    support.kill(pid, "sigusr1")
    box:wait_log("s", "s: old one here")
    assert.matches("generation 2", box:reload("").out)
  end

  -- Reload with a script; it is refused with a message that matches, on the terminal and in the log.
  local function refused(pid, text, pattern)
    local result = box:reload(text)
    assert.equal(1, result.code)
    assert.equal("", result.out)
    assert.matches("^lunad: s: .*" .. pattern, result.err)
    assert.matches("error lunad: reload refused.*" .. pattern:gsub("\n", "\n%%s*"), box:log "s")
    old_one_goes_on(pid, pattern)
  end

  it("is refused for a syntax error, naming file and line, before anything is touched", function()
    local pid = box:serve(OLD .. "lunad.on_reload(function() print 'asked' end)")
    refused(pid, "\n\nlocal = 1", "s%.lua:3: ")
    assert.equal(1, count(box:log "s", "s: asked")) -- by the good reload at the end
  end)

  it("is refused for a chunk that raises, with its traceback", function()
    refused(box:serve(OLD), "local function deep() error 'oops' end\ndeep()",
      "s%.lua:1: oops\nstack traceback:.*s%.lua:2: in ")
    assert.equal(1, count(box:log "s", "stack traceback"))
  end)

  it("is refused for a module that does not load", function()
    box:write("mod.lua", "error 'bad module'")
    refused(box:serve(OLD), "require 'mod'", "mod%.lua:1: bad module")
  end)

  it("is refused for bytecode", function()
    local pid = box:serve(OLD)
    box:write("s.lua", string.dump(function() end))
    assert.equal(1, box:lunad("reload", "s").code)
    old_one_goes_on(pid, "bytecode")
  end)

  it("is refused for a script that is gone", function()
    local pid = box:serve(OLD)
    assert(os.remove(box:path "s.lua"))
    assert.matches("s%.lua: there is no such script", box:lunad("reload", "s").err)
    old_one_goes_on(pid, "no such script")
  end)

  it("is refused for a script that others may write, as root", function()
    if not support.is_root then
      return pending "needs root"
    end
    local pid = box:serve(OLD)
    assert(support.uv.fs_chmod(box:path "s.lua", tonumber("666", 8)))
    assert.equal(1, box:lunad("reload", "s").code)
    assert(support.uv.fs_chmod(box:path "s.lua", tonumber("644", 8)))
    old_one_goes_on(pid, "s%.lua")
  end)

  it("is refused for an on_reload function that raises, with its traceback", function()
    local text = OLD .. "lunad.on_reload(function()\n error 'not now' end)"
    local pid = box:serve(text)
    local result = box:lunad("reload", "s")
    assert.equal(1, result.code)
    assert.matches("s%.lua:2: not now\nstack traceback:.*s%.lua:2: in ", result.err)
    assert.matches("reload refused.*s%.lua:2: not now", box:log "s")
    assert.equal(0, box:status("s").errors.count)
    support.kill(pid, "sigusr1")
    box:wait_log("s", "s: old one here")
    assert.equal(1, box:status("s").generation)
  end)

  it("is refused for a state that cannot be copied, naming its path", function()
    local pid = box:serve(OLD .. [[
      lunad.on_reload(function() return { conn = { socket = io.stdout } } end)
    ]])
    local result = box:lunad("reload", "s")
    assert.equal(1, result.code)
    assert.matches("state%.conn%.socket", result.err)
    assert.matches("reload refused.*state%.conn%.socket", box:log "s")
    support.kill(pid, "sigusr1")
    box:wait_log("s", "s: old one here")
    assert.equal(1, box:status("s").generation)
  end)

  it("is refused for a script that calls lunad.stop or os.exit before it is ready", function()
    for _, text in ipairs { "lunad.stop()", "os.exit(0)", "os.exit(3)", "pcall(os.exit)" } do
      local pid = box:serve(OLD)
      refused(pid, second(text .. " print 'new one'"), "before it was ready")
      box:ok("stop", "s")
    end
  end)

  it("is refused for a script that ends before lunad.ready, with --wait-ready", function()
    local pid = box:serve(OLD .. "lunad.ready()", "--wait-ready")
    local result = box:lunad("reload", "s")
    assert.equal(0, result.code)
    box:write("s.lua", "print 'no ready'")
    result = box:lunad("reload", "s")
    assert.equal(1, result.code)
    assert.matches("ready", result.err)
    support.kill(pid, "sigusr1")
    box:wait_log("s", "s: old one here")
  end)

  local NOTHING = {
    ["is empty"] = "",
    ["is cut short after a comment"] = "-- a servi",
    ["only returns a value"] = "return 1",
    ["has stopped its timer"] = "require('lunad').after(60, print):stop()",
    ["has slept already, and its timers have fired"] =
      "local l = require 'lunad' l.after(0, print) l.after(0.05, l.ready)",
    ["makes a timer that fires at once"] = "require('lunad').after(0, print)",
    ["makes timers that fire one after the other, at once"] =
      "local l = require 'lunad' l.after(0, l.after, 0.001, l.after, 0, print)",
    ["has stopped its signal handler"] = "require('lunad').signal('USR2', print):stop()",
    ["only registers an on_stop function"] = "require('lunad').on_stop(print)",
    ["only opens a socket"] = "require('lunad').listen '127.0.0.1:0'",
    ["has luv handles that keep nothing alive"] =
      "local t = require('luv').new_timer() t:start(9, 9, print) t:unref()",
    ["has finished its task"] = "require('lunad').task(print, 1):wait()",
  }
  for what, text in pairs(NOTHING) do
    it("is refused for a script that has nothing to wait for: it " .. what, function()
      local waits = text:find("ready", 1, true)
      local pid = box:serve(OLD .. "lunad.ready()", table.unpack(waits and { "--wait-ready" } or {}))
      box:write("s.lua", text)
      local result = box:lunad("reload", "s")
      assert.equal(1, result.code)
      assert.matches("^lunad: s: not reloaded.*nothing to wait for", result.err)
      assert.matches("error lunad: reload refused.*nothing to wait for", box:log "s")
      local status = box:status "s"
      assert.equal(1, status.generation)
      assert.equal(1, status.reloads.failed)
      assert.same({}, status.listeners)
      support.kill(pid, "sigusr1")
      box:wait_log("s", "s: old one here")
      box:write("s.lua", support.BEAT .. "lunad.ready()")
      assert.matches("generation 2", box:ok("reload", "s"))
    end)
  end

  it("is refused for an emptied script at SIGHUP and lunad.reload too", function()
    local pid = box:serve(OLD .. "lunad.signal('USR2', lunad.reload)")
    box:write("s.lua", "")
    for i, signal in ipairs { "sighup", "sigusr2" } do
      support.kill(pid, signal)
      box:wait_log("s", ("reload refused[^\n]*nothing to wait for.*"):rep(i))
    end
    assert.equal(1, box:status("s").generation)
  end)

  it("is refused for a script that calls ready, and has nothing to wait for", function()
    box:serve(OLD .. "lunad.ready()", "--wait-ready")
    box:write("s.lua", "require('lunad').ready()")
    assert.matches("nothing to wait for", box:lunad("reload", "s").err)
    box:write("s.lua", "local l = require('lunad') l.ready() l.stop()")
    assert.matches("before it was ready", box:lunad("reload", "s").err)
    box:write("s.lua", "local l = require('lunad') l.ready() os.exit(0)")
    assert.matches("before it was ready", box:lunad("reload", "s").err)
    assert.equal(1, box:status("s").generation)
  end)

  it("is refused for a callback that fails before lunad.ready, with --wait-ready", function()
    box:serve(OLD .. "lunad.ready()", "--wait-ready")
    local result = box:reload "lunad.after(0.01, function() error 'oops' end) lunad.sleep(60)"
    assert.equal(1, result.code)
    assert.matches("s%.lua:1: oops\nstack traceback:", result.err)
  end)

  it("that fails stops no service with --on-error exit", function()
    local pid = box:serve(OLD, "--on-error", "exit")
    refused(pid, "error 'oops'", "oops")
  end)

  local SLOW = {
    ["computes"] = BUSY,
    ["sleeps"] = "lunad.sleep(60)",
    ["computes after it has slept"] = "lunad.sleep(0.01)" .. BUSY,
    ["computes in a timer"] = "lunad.after(0.01, function()" .. BUSY .. "end)",
    ["computes in a coroutine"] = "coroutine.wrap(function()" .. BUSY .. "end)()",
  }
  for what, text in pairs(SLOW) do
    it("is refused for a script that is not ready in time because it " .. what, function()
      local pid = box:serve(OLD .. "lunad.ready()", "--wait-ready", "--start-timeout", "0.5")
      local result = box:reload(text)
      assert.equal(1, result.code)
      assert.matches("0%.5 s", result.err)
      support.kill(pid, "sigusr1")
      box:wait_log("s", "s: old one here")
      assert.equal(1, box:status("s").generation)
    end)

    it("is refused for an on_reload function that takes too long because it " .. what, function()
      if what:find "timer" then
        text = "lunad.task(function() lunad.sleep(0.01) end):wait()" .. BUSY
      end
      local pid = box:serve(OLD .. "lunad.on_reload(function()" .. text .. "end)", "--start-timeout", "0.5")
      local result = box:lunad("reload", "s")
      assert.equal(1, result.code)
      assert.matches("0%.5 s", result.err)
      support.kill(pid, "sigusr1")
      box:wait_log("s", "s: old one here")
      assert.equal(1, box:status("s").generation)
    end)
  end

  local AGAIN = { -- each of which leaves an interrupted coroutine behind
    ["computes"] = BUSY,
    ["catches the error"] = "while true do pcall(function()" .. BUSY .. "end) end",
    ["computes below a C function"] = "; ('x'):gsub('x', function()" .. BUSY .. "end)",
    ["catches the error below a C function"] =
      "while true do pcall(string.gsub, 'x', 'x', function() while true do pcall(function()" ..
      BUSY .. "end) end end) end",
    ["has its own hook"] = "debug.sethook(function() end, 'crl', 1)" .. BUSY,
    ["computes to close a variable"] =
      "local v <close> = setmetatable({}, { __close = function()" .. BUSY .. "end })" .. BUSY,
    ["computes to close many"] = "local meta = { __close = function()" .. BUSY .. "end } " ..
      ("local v <close> = setmetatable({}, meta) "):rep(3) .. "error 'words'",
    ["computes in a coroutine that closes a variable"] = "coroutine.wrap(function() " ..
      "local v <close> = setmetatable({}, { __close = function()" .. BUSY .. "end })" .. BUSY .. "end)()",
  }
  for what, text in pairs(AGAIN) do
    it("interrupts an on_reload function again and again that " .. what, function()
      local pid = box:serve(OLD .. "lunad.on_reload(function()" .. text .. " end)", "--start-timeout", "0.3")
      for _ = 1, 2 do
        local result = box:lunad("reload", "s")
        assert.equal(1, result.code)
        assert.truthy(result.err:find "0%.3 s" or result.err:find "words", result.err)
      end
      support.kill(pid, "sigusr1")
      box:wait_log("s", "s: old one here")
      assert.equal(1, box:status("s").generation)
    end)

    it("interrupts a new script again and again that " .. what, function()
      box:serve(OLD, "--start-timeout", "0.3")
      for _ = 1, 2 do
        local result = box:reload(text)
        assert.equal(1, result.code)
        assert.truthy(result.err:find "0%.3 s" or result.err:find "words", result.err)
      end
      assert.equal(1, box:status("s").generation)
    end)
  end

  it("is refused for a state whose copying takes longer than --start-timeout", function()
    local pid = box:serve(OLD .. [[
      local big = {}
      lunad.after(0, function()
        for i = 1, 1.5e6 do big[i] = { i, tostring(i) } end
        print "built"
      end)
      lunad.on_reload(function() return big end)
    ]], "--start-timeout", "0.3")
    box:wait_log("s", "built")
    local result = box:lunad("reload", "s")
    assert.equal(1, result.code)
    assert.matches("state.*0%.3 s", result.err)
    support.kill(pid, "sigusr1")
    box:wait_log("s", "s: old one here")
    assert.equal(1, box:status("s").generation)
  end)

  it("interrupts an on_reload function that takes too long, and ignores its result later", function()
    box:serve([[
      local calls = 0
      lunad.on_reload(function()
        calls = calls + 1
        local call = calls
        lunad.sleep(call == 1 and 60 or 0.05)
        print("call ends", call)
        return call
      end)
      print("state", lunad.state)
    ]], "--start-timeout", "0.5")
    assert.equal(1, box:lunad("reload", "s").code)
    assert.equal(0, box:lunad("reload", "s").code)
    assert.matches("s: state\t2\n", box:log "s")
    assert.not_matches("call ends\t1", box:log "s")
  end)
end)

describe("what a failed generation has made", function()
  local box = support.with_box(before_each, after_each)

  local MAKE = [[
    lunad.every(0.001, function() print "stray tick" end)
    lunad.task(function() while true do lunad.sleep(0.001) print "stray task" end end)
    lunad.signal("USR1", function() print "stray signal" end)
    lunad.signal("TERM", function() print "stray signal" end)
    lunad.on_stop(function() print "stray on_stop" end)
    lunad.spawn { "sleep", "600", name = "plain" }
    lunad.spawn { "sh", "-c", "echo pid $$; sleep 600 & wait", name = "parent" }
    io.popen("sleep 600")
    error "after all"
  ]]

  it("is undone: timers, tasks, signal handlers, children", function()
    local pid = box:serve [[
      lunad.signal("USR1", function() print "old signal" end)
      lunad.every(0.01, function() print "old tick" end)
    ]]
    local before = box:status("s")
    assert.equal(1, box:reload(MAKE).code)
    support.wait_for("the end of its children", function() return #box:marked() == 1 end)
    support.kill(pid, "sigusr1")
    box:wait_log("s", "reload refused.*old signal.*old tick.*old tick")
    assert.not_matches("stray", box:log "s")
    local after = box:status("s")
    assert.same({}, after.children)
    assert.same({ { name = "USR1", count = 1 } }, after.signals)
    assert.equal(#before.timers, #after.timers)
    assert.equal(before.fds, after.fds)
  end)

  it("leaves signals their default", function()
    local pid = box:serve ""
    assert.equal(1, box:reload(MAKE).code)
    support.kill(pid, "sigterm")
    box:wait_gone(pid)
    assert.not_matches("stray", box:log "s")
  end)

  it("is undone though its children ignore SIGTERM", function()
    box:serve("lunad.ready()", "--wait-ready")
    assert.equal(1, box:reload([[
      lunad.spawn { "sh", "-c", "trap '' TERM; echo; while :; do sleep 600; done",
        stdout = function() error "now" end }
      lunad.sleep(60)
    ]]).code)
    support.wait_for("the end of its children", function() return #box:marked() == 1 end)
  end)

  it("is undone though its children have changed their session", function()
    box:serve("lunad.ready()", "--wait-ready")
    assert.equal(1, box:reload([[
      lunad.spawn { "sh", "-c", "setsid sh -c 'echo; exec sleep 600' & wait",
        stdout = function() error "now" end }
      lunad.sleep(60)
    ]]).code)
    support.wait_for("the end of its children", function() return #box:marked() == 1 end)
  end)
end)

describe("the beat of the old generation", function()
  local box = support.with_box(before_each, after_each)

  local INTERVAL = 0.05

  local TICKS = ([[
    local file = assert(io.open(lunad.script .. ".ticks", "w"))
    local start = lunad.now()
    local timer
    timer = lunad.every(%g, function()
      file:write(("%%.9f %%d\n"):format(lunad.now() - start, timer:missed()))
      file:flush()
    end)
  ]]):format(INTERVAL)

  local function ticks()
    local list = {}
    for due, missed in (box:read "s.lua.ticks"):gmatch "(%S+) (%d+)\n" do
      list[#list + 1] = { time = tonumber(due), missed = math.tointeger(tonumber(missed)) }
    end
    return list
  end

  local BROKEN = {
    "local = 1", "error 'x'", "lunad.stop()", "os.exit(1)", "require 'nothing'",
    "lunad.spawn { 'sleep', '600' } lunad.every(0.01, print) error 'x'",
    "lunad.signal('USR1', print) error {}",
  }

  it("is untouched by 20 reloads that fail: no tick lost or doubled", function()
    box:serve(TICKS)
    for i = 1, 20 do
      assert.equal(1, box:reload(BROKEN[i % #BROKEN + 1]).code)
    end
    local seen = #ticks()
    support.wait_for("more ticks", function() return #ticks() >= seen + 10 end)
    local least = math.huge
    for number, tick in ipairs(ticks()) do
      local beat = number + tick.missed -- each is told once, or counted as missed
      assert.is_true(tick.time >= beat * INTERVAL, "a tick is early")
      assert.equal(beat, math.floor(tick.time / INTERVAL))
      least = number > seen and math.min(least, tick.time - beat * INTERVAL) or least
    end
    assert.is_true(least < INTERVAL / 2, "the beat has moved")
  end)

  it("continues while a reload waits, called by the old generation alone", function()
    box:serve(TICKS .. "lunad.on_reload(function() lunad.sleep(0.3) end)")
    local before = #ticks()
    box:reload "error 'x'"
    assert.is_true(#ticks() >= before + 2)
  end)
end)

describe("requests for reloads", function()
  local box = support.with_box(before_each, after_each)

  -- A service whose on_reload takes until there is a file "go".
  local HELD = [[
    print("generation " .. lunad.generation)
    lunad.on_reload(function()
      print "asked"
      repeat lunad.sleep(0.002) local go = io.open(lunad.script .. ".go") until go
    end)
  ]]

  local function begin_held()
    box:serve(HELD)
    local process = box:spawn { "reload", "s" }
    box:wait_log("s", "s: asked")
    assert.equal("reloading", box:status("s").state)
    return process
  end

  it("that come during a reload are joined into one that follows", function()
    local process, clients = begin_held(), {}
    for i = 1, 6 do
      clients[i] = box:connect "s"
      clients[i]:send '{"verb": "reload"}\n'
    end
    box:lunad("signal", "s", "HUP")
    assert.equal("reloading", box:status("s").state) -- it has read what was sent before
    box:write("s.lua.go", "")
    box:await(process, "the verdict", process.is_over)
    assert.equal(0, process.code)
    assert.matches("generation 2", process.out())
    for _, client in ipairs(clients) do
      assert.equal(3, client:answer().generation)
    end
    assert.equal(3, box:status("s").generation)
    assert.equal(2, count(box:log "s", "lunad: reloaded"))
  end)

  it("all get the verdict of their own reload", function()
    local process, clients = begin_held(), {}
    box:write("s.lua", "error 'broken meanwhile'")
    for i = 1, 3 do
      clients[i] = box:connect "s"
      clients[i]:send '{"verb": "reload"}\n'
    end
    assert.equal("reloading", box:status("s").state) -- it has read what was sent before
    box:write("s.lua.go", "")
    box:await(process, "the verdict", process.is_over)
    assert.equal(0, process.code)
    assert.matches("generation 2", process.out())
    for _, client in ipairs(clients) do assert.matches("broken meanwhile", client:answer().error) end
  end)

  it("from the script return at once", function()
    box:serve "if lunad.generation < 3 then lunad.reload() print('asked', lunad.generation) end"
    box:wait_log("s", "s: asked\t1\n.*reloaded: generation 2.*reloaded: generation 3")
    assert.equal(3, box:status("s").generation)
  end)

  it("before the script is ready follow when it is", function()
    local path = box:write("s.lua", support.BEAT .. [[
      repeat lunad.sleep(0.005) local go = io.open(lunad.script .. ".go") until go
      lunad.ready()
    ]])
    local start = box:spawn { "start", "--wait-ready", path }
    support.wait_for("the socket", function() return box:lunad("status", "s").out:find "starting" end)
    local reload = box:spawn { "reload", "s" }
    box:write("s.lua.go", "")
    box:await(start, "the start", start.is_over)
    box:await(reload, "the reload", reload.is_over)
    assert.equal(0, reload.code)
    assert.matches("generation 2", reload.out())
  end)

  it("are not lost: the last edit before the last SIGHUP is in effect", function()
    local pid = box:serve ""
    for i = 1, 30 do
      box:write("s.lua.new", support.BEAT .. "print 'edit " .. i .. "'")
      assert(os.rename(box:path "s.lua.new", box:path "s.lua"))
      support.kill(pid, "sighup")
    end
    box:wait_log("s", "s: edit 30\n")
  end)

  for what, text in pairs {
    ["that sleeps"] = "lunad.every(0.01, function() end)",
    ["that is busy for a while"] = "lunad.signal('USR1', function() print 'busy' " ..
      "local t = os.clock() while os.clock() - t < 1 do end end)",
  } do
    it("are all answered correctly, a hundred at a time, by a service " .. what, function()
      local pid = box:serve(text)
      support.kill(pid, "sigusr1")
      local clients, generations = {}, 0
      for i = 1, 100 do
        clients[i] = box:connect "s"
        clients[i]:send '{"verb": "reload"}\n'
      end
      for _, client in ipairs(clients) do
        local answer = client:answer()
        assert.is_true(answer.ok)
        generations = math.max(generations, answer.generation)
      end
      assert.equal(generations, box:status("s").generation)
    end)
  end

  it("are all answered correctly when the script is broken", function()
    box:serve ""
    box:write("s.lua", "error 'oops'")
    local processes = {}
    for i = 1, 20 do processes[i] = box:spawn { "reload", "s" } end
    for _, process in ipairs(processes) do
      box:await(process, "the verdict", process.is_over)
      assert.equal(1, process.code)
      assert.matches("oops", process.err())
    end
    assert.equal(1, box:status("s").generation)
  end)
end)

describe("SIGTERM during a reload", function()
  local box = support.with_box(before_each, after_each)

  local function term_wins(pid, process)
    support.kill(pid, "sigterm")
    box:await(process, "the verdict", process.is_over)
    box:wait_gone(pid)
    assert.equal(1, process.code)
    assert.matches("on_stop\t1\tstop\n.*lunad: stopped\n$", box:log "s")
    assert.equal(1, count(box:log "s", "on_stop\t"))
    assert.not_matches("reloaded", box:log "s")
    assert.same({}, box:marked())
    assert.same({}, box:left_files())
  end

  it("wins over it while on_reload runs", function()
    local pid = box:serve [[
      lunad.on_stop(function(reason) print("on_stop", lunad.generation, reason) end)
      lunad.on_reload(function() print "asked" lunad.sleep(60) end)
    ]]
    local process = box:spawn { "reload", "s" }
    box:wait_log("s", "s: asked")
    term_wins(pid, process)
  end)

  it("wins over it while the new script is not ready, and ends what that has made", function()
    local text = [[
      lunad.on_stop(function(reason) print("on_stop", lunad.generation, reason) end)
      if lunad.generation == 1 then return lunad.ready() end
      lunad.spawn { "sleep", "600" }
      print "loading"
      lunad.sleep(60)
    ]]
    local pid = box:serve(text, "--wait-ready")
    local process = box:spawn { "reload", "s" }
    box:wait_log("s", "s: loading")
    term_wins(pid, process)
  end)

  it("wins over it when both come at once", function()
    local pid = box:serve [[
      lunad.on_stop(function(reason) print("on_stop", lunad.generation, reason) end)
      lunad.signal("USR1", function()
        print "busy"
        repeat local go = io.open(lunad.script .. ".go") until go
      end)
    ]]
    support.kill(pid, "sigusr1")
    box:wait_log("s", "busy")
    support.kill(pid, "sighup")
    support.kill(pid, "sigterm")
    box:write("s.lua.go", "")
    box:wait_gone(pid)
    assert.matches("on_stop\t1\tstop", box:log "s")
    assert.not_matches("reloaded", box:log "s")
  end)

  it("is not needed: lunad.stop in on_reload is not lost either", function()
    local pid = box:serve "lunad.on_reload(function() lunad.stop() end)"
    box:lunad("reload", "s")
    box:wait_gone(pid)
    assert.same({}, box:left_files())
  end)
end)

describe("200 reloads in a row, a third of them failing,", function()
  local box = support.with_box(before_each, after_each)

  local GOOD = [[
    local state = lunad.state or { count = 0, list = {} }
    state.count = state.count + 1
    lunad.on_reload(function() return state end)
    lunad.on_stop(function() end)
    for i = 1, 20 do lunad.after(60 + i, print, i) end
    lunad.signal("USR1", print)
    lunad.task(function() lunad.sleep(60) end)
    lunad.status("count " .. state.count)
  ]]

  -- Reload N times, and then return the state of the service, when what was closed is gone.
  local function reload_often(client, times)
    for i = 1, times do
      box:write("s.lua", support.BEAT .. GOOD .. (i % 3 == 0 and "error 'x'" or ""))
      assert.equal(i % 3 ~= 0, client:ask("reload").ok)
    end
    return client:ask "status"
  end

  it("let neither descriptors nor memory grow", function()
    local pid = box:serve(GOOD)
    local client = box:connect "s"
    local before = reload_often(client, 60)
    local after = reload_often(client, 201)
    assert.equal(pid, after.pid)
    assert.equal(1 + 40 + 134, after.generation)
    assert.equal("count 175", after.text)
    assert.equal(20 + 67, after.reloads.failed)
    assert.equal(before.fds, after.fds)
    if not support.is_sanitized() then -- its freed memory stays for a while
      assert.is_true(after.memory.rss - before.memory.rss < 512 * 1024)
      assert.is_true(after.memory.lua < before.memory.lua * 1.5)
    end
  end)

  it("leave no process behind when each has a child", function()
    box:serve "lunad.spawn { 'sleep', '600' } "
    for i = 1, 15 do
      box:reload("lunad.spawn { 'sleep', '600' }" .. (i % 3 == 0 and "error 'x'" or ""))
    end
    support.wait_for("the end of the others", function() return #box:marked() == 2 end)
    assert.equal(1, #box:status("s").children)
  end)
end)

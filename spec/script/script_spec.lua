local support = require "support"

-- A loop that never returns; only an interruption ends it.
local BUSY = " while true do pcall(function() while true do end end) end "

local function run(box, text, ...)
  local words = { "run", ... }
  words[#words + 1] = box:write("s.lua", text)
  return box:run(words)
end

describe("the chunk", function()
  local box = support.with_box(before_each, after_each)

  it("gets ... and arg like under lua", function()
    local path = box:write("s.lua", [[
      print(select("#", ...), ...)
      print(#arg, arg[0], arg[1], arg[2], arg[3])
      print(arg[-1] ~= nil, _G.arg == arg)
    ]])
    local result = box:lunad("run", path, "one", "", "--three")
    assert.equal(("3\tone\t\t--three\n3\t%s\tone\t\t--three\ntrue\ttrue\n"):format(path), result.out)
  end)

  it("gets its arguments in a daemon and in every generation", function()
    box:start(box:write("s.lua", support.BEAT .. "print(lunad.generation, ...)"), "a", "b")
    box:ok("reload", "s")
    box:wait_log("s", "s: 1\ta\tb\n.*s: 2\ta\tb\n")
  end)

  it("may sleep: a loop that sleeps is a whole service", function()
    local pid = box:start(box:write("s.lua", [[
      local lunad = require "lunad"
      while true do print "tick" lunad.sleep(0.01) end
    ]]))
    box:wait_log("s", "s: tick\n.*s: tick\n.*s: tick\n")
    assert.equal("running", box:status("s").state)
    box:ok("stop", "s")
    assert.is_false(support.is_alive(pid))
  end)

  it("knows name, script and mode", function()
    local pid = box:serve "print(lunad.name, lunad.pid, lunad.script, lunad.mode, lunad.generation)"
    box:wait_log("s", ("s: s\t%d\t%s\tdaemon\t1\n"):format(pid, box:path "s.lua"):gsub("%-", "%%-"))
    local result = run(box, "local l = require 'lunad' print(l.mode, l.name, type(l.version))", "-n", "other")
    assert.equal("foreground\tother\tstring\n", result.out)
  end)

  it("is text: bytecode is refused", function()
    local path = box:write("s.lua", string.dump(function() return 1 end))
    for _, verb in ipairs { "run", "start" } do
      local result = box:lunad(verb, path)
      assert.equal(1, result.code)
      assert.matches("bytecode", result.err)
    end
  end)

  for _, mode in ipairs { "664", "646", "666" } do
    it("is refused for root if other users may write it: " .. mode, function()
      if not support.is_root then
        return pending "needs root"
      end
      local path = box:write("s.lua", "print 'ran'")
      assert(support.uv.fs_chown(path, 0, 1))
      assert(support.uv.fs_chmod(path, tonumber(mode, 8)))
      local result = box:lunad("run", path)
      assert.equal(1, result.code)
      assert.equal("", result.out)
      assert.matches("s%.lua", result.err)
    end)
  end

  it("is run by root if root's own group may write it", function()
    if not support.is_root then
      return pending "needs root"
    end
    local path = box:write("s.lua", "print 'ran'")
    assert(support.uv.fs_chmod(path, tonumber("664", 8)))
    assert.equal("ran\n", box:lunad("run", path).out)
    assert(support.uv.fs_chown(path, 65534, 0))
    assert.equal("ran\n", box:lunad("run", path).out)
    box:serve ""
    assert(support.uv.fs_chown(path, 0, 1))
    assert(support.uv.fs_chmod(path, tonumber("664", 8)))
    assert.matches("its group may write", box:refused(1, "reload", "s"))
  end)

  it("is refused for root if it belongs to another user", function()
    if not support.is_root then
      return pending "needs root"
    end
    local path = box:write("s.lua", "print 'ran'")
    assert(support.uv.fs_chown(path, 65534, 65534))
    -- its owner may write it: that is said to be all right
    assert.equal("ran\n", box:lunad("run", path).out)
  end)
end)

describe("ready", function()
  local box = support.with_box(before_each, after_each)

  -- Begin a start that waits, and return it when the control socket answers.
  local function start_waiting(text)
    local path = box:write("s.lua", support.BEAT .. text)
    local process = box:spawn { "start", "--wait-ready", path }
    support.wait_for("the socket", function()
      return box:lunad("status", "s").out:find "starting"
    end)
    return process
  end

  it("is when the chunk returns", function()
    box:serve "print 'returned'"
    assert.matches("returned.*started", box:log "s")
    assert.is_true(box:status("s").ready)
  end)

  it("is when the chunk first yields", function()
    box:serve "print 'before' lunad.sleep(60) print 'after'"
    assert.is_true(box:status("s").ready)
    assert.not_matches("after", box:log "s")
  end)

  it("is not when a task of the chunk yields", function()
    local begun = box:serve "lunad.task(function() lunad.sleep(60) end) print 'went on'"
    assert.truthy(begun)
    assert.matches("went on.*started", box:log "s")
  end)

  it("is with --wait-ready when the script calls lunad.ready", function()
    local process = start_waiting [[
      lunad.signal("USR1", function() print "calling" lunad.ready() end)
    ]]
    local status = box:status "s"
    assert.equal("starting", status.state)
    assert.is_false(status.ready)
    process.turn()
    assert.is_nil(process.code)
    support.kill(status.pid, "sigusr1")
    box:await(process, "the end of start", process.is_over)
    assert.matches("^s: started %(pid " .. status.pid .. "%)\n$", process.out())
    assert.is_true(box:status("s").ready)
  end)

  it("is with --wait-ready also when the chunk calls it after sleeping, or at once", function()
    box:serve("lunad.ready()", "--wait-ready")
    box:ok("stop", "s")
    box:serve("lunad.sleep(0.01) lunad.ready() print 'called'", "--wait-ready")
    assert.matches("called.*started", box:log "s")
  end)

  it("is before any callback, even one that is due at once", function()
    box:serve "lunad.after(0, error, 'too late to fail the start')"
    box:wait_log("s", "too late to fail the start")
    assert.equal(3, run(box, "local lunad = require 'lunad' lunad.after(0, lunad.stop, 3)", "-n", "b").code)
    assert.equal(4, run(box, "local lunad = require 'lunad' lunad.after(0, os.exit, 4)", "-n", "b").code)
  end)

  it("is not undone by a second call, which does nothing", function()
    box:serve("lunad.ready() lunad.ready() lunad.after(0, lunad.ready)", "--wait-ready")
    assert.equal("running", box:status("s").state)
  end)

  it("is not delayed or disturbed by lunad.ready without --wait-ready", function()
    box:serve "lunad.ready()"
    assert.equal("running", box:status("s").state)
  end)
end)

describe("a script that does not become ready", function()
  local box = support.with_box(before_each, after_each)

  -- Every start fails with status 1, a message that matches, and nothing left.
  local function fails(text, pattern, ...)
    local path = box:write("s.lua", 'local lunad = require "lunad" ' .. text)
    for _, verb in ipairs { "start", "run" } do
      local words = { verb, ... }
      words[#words + 1] = path
      local result = box:run(words)
      assert.equal(1, result.code)
      assert.matches(pattern, result.err)
      assert.not_matches("started", result.out)
      assert.same({}, box:left_files())
      assert.same({}, box:marked())
    end
  end

  it("fails with the traceback of its error", function()
    fails("local function f() error 'oops' end f()", "s%.lua:1: oops\n.*stack traceback:.*s%.lua:1: in ")
  end)

  it("fails when a callback fails before it, under --wait-ready", function()
    fails("lunad.after(0.01, function() error 'oops' end) lunad.sleep(60)", "s%.lua:1: oops", "--wait-ready")
  end)

  it("fails when it ends before lunad.ready, under --wait-ready", function()
    fails("", "ready", "--wait-ready")
    fails("lunad.sleep(0.01)", "ready", "--wait-ready")
  end)

  -- A start fails with status 1; in the foreground the script's own status counts, without a message.
  local function ends_itself(status, text, ...)
    local path = box:write("s.lua", 'local lunad = require "lunad" ' .. text)
    local words = { "start", ... }
    words[#words + 1] = path
    assert.matches("asked to stop before it was ready", box:refused(1, table.unpack(words)))
    words[1] = "run"
    local result = box:run(words)
    assert.equal(status, result.code)
    assert.not_matches("lunad: [^%d]", result.err)
    assert.same({}, box:left_files())
    assert.same({}, box:marked())
  end

  it("fails to start when it calls lunad.stop", function()
    ends_itself(0, "lunad.stop() lunad.every(1, print)")
    ends_itself(5, "lunad.every(1, print) lunad.sleep(0.01) lunad.stop(5)", "--wait-ready")
  end)

  it("fails to start when it calls os.exit, whatever the status", function()
    ends_itself(0, "os.exit(0)")
    ends_itself(3, "os.exit(3)")
    ends_itself(0, "lunad.after(0.01, os.exit) lunad.every(1, print)", "--wait-ready")
  end)

  it("fails when the time is up and it sleeps", function()
    fails("lunad.sleep(60)", "ready.*0%.2 s", "--wait-ready", "--start-timeout", "0.2")
  end)

  it("fails when the time is up and it computes, with the place where it does", function()
    fails(BUSY, "0%.2 s.*stack traceback:.*s%.lua:1: in ", "--start-timeout", "0.2")
  end)

  it("fails when the time is up and it computes after it has slept", function()
    fails("lunad.sleep(0.01)" .. BUSY, "0%.2 s", "--wait-ready", "--start-timeout", "0.2")
  end)

  it("fails when the time is up and it computes in a timer", function()
    fails("lunad.after(0.01, function()" .. BUSY .. "end)", "0%.2 s", "--wait-ready",
      "--start-timeout", "0.2")
  end)

  it("ends its children, also those that ignore SIGTERM", function()
    fails([[
      lunad.spawn { "sh", "-c", "trap '' TERM; echo; exec setsid sleep 600",
        stdout = function() error "x" end }
      lunad.sleep(60)
    ]], "x", "--wait-ready", "--stop-timeout", "0.1")
  end)
end)

describe("a script with nothing left", function()
  local box = support.with_box(before_each, after_each)

  it("finishes: status 0, said and logged, with nothing left", function()
    local path = box:write("s.lua", "print 'done'")
    assert.equal("s: finished\n", box:ok("start", path))
    assert.matches("s: done\n.*finished", box:log "s")
    assert.same({}, box:left_files())
    local result = box:lunad("run", path)
    assert.same({ 0, "done\n", "" }, { result.code, result.out, result.err })
  end)

  it("has told its on_stop functions \"exit\"", function()
    local result = run(box, "require 'lunad'.on_stop(print)")
    assert.equal("exit\n", result.out)
  end)

  local LAST = {
    ["timer fires"] = "lunad.after(0.02, function() print 'last' end)",
    ["timer is stopped"] = "local n, t = 0 t = lunad.every(0.005, function() n = n + 1 " ..
      "if n == 3 then t:stop() print 'last' end end)",
    ["sleep of the chunk ends"] = "lunad.sleep(0.02) print 'last'",
    ["task ends"] = "lunad.task(function() lunad.sleep(0.02) print 'last' end)",
    ["child exits"] = "lunad.spawn { 'sleep', '0.02', on_exit = function() print 'last' end }",
    ["signal handle is stopped"] = "local h h = lunad.signal('USR1', function() print 'last' " ..
      "h:stop() end) lunad.kill(lunad.pid, 'USR1')",
  }
  for what, text in pairs(LAST) do
    it("ends when its last " .. what, function()
      local result = run(box, "local lunad = require 'lunad' " .. text)
      assert.equal("last\n", result.out)
      assert.equal(0, result.code)
    end)
  end

  it("stays alive by a signal handler alone", function()
    local pid = box:start(box:write("s.lua", [[
      require "lunad".signal("USR1", function() print "still" end)
    ]]))
    support.kill(pid, "sigusr1")
    box:wait_log("s", "still")
  end)

  it("does not stay alive by life functions alone", function()
    local result = run(box, [[
      local lunad = require "lunad"
      lunad.on_stop(function() end) lunad.on_reload(print) lunad.on_error(print)
      lunad.status "x"
      lunad.ready()
    ]])
    assert.equal(0, result.code)
  end)
end)

describe("os.exit", function()
  local box = support.with_box(before_each, after_each)

  local function status_of(text)
    return run(box, "local lunad = require 'lunad' lunad.every(1, print) " .. text).code
  end

  it("ends with its status", function()
    assert.equal(0, status_of "lunad.after(0.01, os.exit)")
    assert.equal(7, status_of "lunad.after(0.01, os.exit, 7)")
    assert.equal(0, status_of "lunad.after(0.01, os.exit, true)")
    assert.equal(1, status_of "lunad.after(0.01, os.exit, false)")
    assert.equal(9, status_of "lunad.after(0.01, function() os.exit(9, true) end)")
  end)

  it("skips on_stop, and still cleans up", function()
    local result = run(box, [[
      local lunad = require "lunad"
      lunad.on_stop(print)
      lunad.spawn { "sh", "-c", "trap '' TERM; echo set; sleep 600",
        stdout = function() os.exit(5) end }
    ]])
    assert.equal(5, result.code)
    assert.equal("", result.out)
    assert.same({}, box:left_files())
    assert.same({}, box:marked())
  end)

  it("cannot be caught by pcall, coroutines or tasks", function()
    local result = run(box, [[
      local lunad = require "lunad"
      lunad.every(1, print)
      lunad.after(0.01, function()
        lunad.task(function()
          coroutine.wrap(function()
            while true do pcall(pcall, os.exit, 6) print "kept" end
          end)()
          print "kept"
        end)
        print "kept"
      end)
    ]])
    assert.equal(6, result.code)
    assert.equal("", result.out)
  end)

  it("closes <close> variables on its way", function()
    local result = run(box, [[
      local lunad = require "lunad"
      lunad.after(0.01, function()
        local guard <close> = setmetatable({}, { __close = function() print "closed" end })
        os.exit(4)
      end)
    ]])
    assert.equal("closed\n", result.out)
    assert.equal(4, result.code)
  end)

  it("is the end: nothing of the script runs after it", function()
    local result = run(box, [[
      local lunad = require "lunad"
      local pool = {}
      for i = 1, 5 do pool[i] = function() print(i) os.exit(i) end end
      for i = 1, 5 do lunad.after(0.01, pool[i]) end
    ]])
    assert.equal("1\n", result.out)
    assert.equal(1, result.code)
  end)

  it("is not an error", function()
    local path = box:write("s.lua", "local l = require 'lunad' l.on_error(print) l.after(0.01, os.exit, 3)")
    local result = box:lunad("run", path)
    assert.not_matches("error", result.err)
    assert.equal("", result.out)
  end)
end)

describe("lunad.stop", function()
  local box = support.with_box(before_each, after_each)

  it("returns at once, and stops with its status", function()
    local result = run(box, [[
      local lunad = require "lunad"
      lunad.on_stop(print)
      lunad.after(0.01, function() lunad.stop(9) print "returned" end)
    ]])
    assert.equal("returned\nstop\n", result.out)
    assert.equal(9, result.code)
  end)

  it("stops with status 0 without one", function()
    assert.equal(0, run(box, "local l = require 'lunad' l.after(0.01, l.stop) l.every(1, print)").code)
  end)

  it("refuses what is not an exit status", function()
    box:inside [[
      for _, bad in ipairs { -1, 256, 1.5, "x", {}, true } do
        raises("#1", lunad.stop, bad)
      end
    ]]
  end)
end)

describe("lunad.status", function()
  local box = support.with_box(before_each, after_each)

  it("shows its text in status, in words and in JSON, the latest one", function()
    box:serve "lunad.status 'early' lunad.status 'serving 3 clients'"
    assert.equal("serving 3 clients", box:status("s").text)
    assert.matches("serving 3 clients", box:ok("status", "s"))
    assert.not_matches("early", box:ok("status", "s"))
  end)

  it("shows null before there is one", function()
    box:serve ""
    assert.is_nil(box:status("s").text)
    assert.matches('"text": null', box:ok("status", "--json", "s"))
  end)

  it("cannot control the terminal", function()
    box:serve [[lunad.status "a\27[31mb\nc\255\u{9b}31m"]]
    assert.equal("a\27[31mb\nc\u{FFFD}\u{9b}31m", box:status("s").text)
    local words = box:ok("status", "s")
    assert.matches("running", words)
    assert.not_matches("[\27\255]", words)
    assert.not_matches("\u{9b}", words)
  end)

  it("may have any byte in its text", function()
    box:serve [[lunad.status "a\0b"]]
    assert.equal("a\0b", box:status("s").text)
    assert.matches("a[^b]*b", box:ok("status", "s"))
  end)

  it("is kept over a reload until the new code says another", function()
    box:serve "if lunad.generation ~= 2 then lunad.status(lunad.generation .. '') end"
    assert.equal("1", box:status("s").text)
    box:ok("reload", "s")
    assert.equal("1", box:status("s").text)
    box:ok("reload", "s")
    assert.equal("3", box:status("s").text)
  end)
end)

describe("uncaught errors", function()
  local box = support.with_box(before_each, after_each)

  it("in a callback are logged with their traceback, and the service keeps running", function()
    box:serve [[
      local function inner() error "boom" end
      lunad.after(0.01, function() inner() end)
    ]]
    box:wait_log("s", "error lunad: uncaught error in a timer: .-s%.lua:1: boom\n" ..
      "    stack traceback:\n.*s%.lua:1: in .*s%.lua:2: in ")
    local status = box:status "s"
    assert.equal("running", status.state)
    assert.equal(1, status.errors.count)
    assert.matches("s%.lua:1: boom$", status.errors.last.message)
    assert.is_true(math.abs(status.errors.last.time - os.time()) < 60)
  end)

  local VALUES = {
    ["nil"] = { "nil", "nil" },
    ["a table"] = { "{}", "table" },
    ["a number"] = { "42", "42" },
    ["false"] = { "false", "boolean" },
    ["a function"] = { "print", "function" },
    ["an object with __tostring"] = { "setmetatable({}, { __tostring = function() return 'as text' end })",
      "as text" },
    ["an object whose __tostring raises"] = { "setmetatable({}, { __tostring = function() error 'no' end })",
      "table" },
    ["an object whose __tostring returns no string"] = { "setmetatable({}, { __tostring = function() end })",
      "table" },
    ["an object whose __tostring suspends"] = {
      "setmetatable({}, { __tostring = function() require 'lunad'.sleep(1) end })", "table" },
  }
  for what, value in pairs(VALUES) do
    it("give a usable message when the error is " .. what, function()
      box:serve(("lunad.on_error(function(m, t) print(type(m), type(t)) end)\n" ..
        "lunad.after(0.01, function() error(%s) end)"):format(value[1]))
      box:wait_log("s", "uncaught error in a timer: [^\n]*" .. value[2] .. "[^\n]*\n" ..
        "    stack traceback:\n.*s%.lua:2: in ")
      box:wait_log("s", "s: string\tstring")
      assert.equal(1, box:status("s").errors.count)
    end)
  end

  it("cannot forge a line of the log", function()
    box:serve [[
      lunad.after(0.01, error, "x\n2026-01-01T00:00:00.000Z info  lunad: stopped\27[2J", 0)
    ]]
    box:wait_log("s", "uncaught error in a timer: x\n    2026%-01%-01T00:00:00.000Z info  lunad: stopped" ..
      "\\x1B%[2J\n")
  end)

  it("are logged whole, whatever bytes they have", function()
    box:serve "lunad.on_error(function(m) print(#m) end)\nlunad.after(0.01, function() error('a\\0b', 0) end)"
    box:wait_log("s", "s: 3\n")
    assert.matches("uncaught error in a timer: a\\x00b\n    stack traceback:.*s%.lua:2", box:log "s")
    assert.equal("a\0b", box:status("s").errors.last.message)
  end)

  it("end the service with --on-error exit: status 1, gracefully", function()
    local result = run(box, [[
      local lunad = require "lunad"
      lunad.on_stop(function() lunad.sleep(0.01) print "on_stop ended" end)
      lunad.every(1, print)
      lunad.after(0.01, error, "boom")
    ]], "--on-error", "exit")
    assert.equal(1, result.code)
    assert.equal("on_stop ended\n", result.out)
    assert.matches("boom.*stopped", result.err)
    assert.same({}, box:left_files())
  end)

  for what, text in pairs {
    ["a signal handler"] = "lunad.signal('USR1', error) lunad.kill(lunad.pid, 'USR1')",
    ["a task"] = "lunad.task(function() lunad.sleep(0.01) error 'x' end)",
    ["an on_exit callback"] = "lunad.spawn { 'true', on_exit = function() error 'x' end }",
    ["an output callback"] = "lunad.spawn { 'echo', stdout = function() error 'x' end }",
    ["the chunk, after ready"] = "lunad.sleep(0.01) error 'x'",
  } do
    it("end the service with --on-error exit in " .. what, function()
      local result = run(box, support.BEAT .. text, "--on-error", "exit")
      assert.equal(1, result.code)
    end)
  end

  it("end no service with --on-error continue", function()
    box:serve("lunad.sleep(0.01) error 'boom'", "--on-error", "continue")
    box:wait_log("s", "boom")
    assert.equal("running", box:status("s").state)
  end)
end)

describe("lunad.on_error", function()
  local box = support.with_box(before_each, after_each)

  it("sees message and traceback of uncaught errors, besides the log", function()
    box:serve [[
      lunad.on_error(function(message, trace, ...)
        print("seen", message, trace:match "stack traceback:\n" ~= nil, select("#", ...))
      end)
      lunad.after(0.01, function() error "boom" end)
    ]]
    box:wait_log("s", "s: seen\t[^\t]*s%.lua:4: boom\ttrue\t0\n")
    assert.matches("uncaught error in a timer: .-s%.lua:4: boom\n", box:log "s")
  end)

  it("holds one function: a later call replaces it", function()
    box:serve [[
      lunad.on_error(function() print "first" end)
      lunad.on_error(setmetatable({}, { __call = function(_, m) print("second", m) end }))
      lunad.after(0.01, error, "boom")
    ]]
    box:wait_log("s", "s: second\tboom")
    assert.not_matches("s: first", box:log "s")
  end)

  it("does not see its own errors, which are logged", function()
    box:serve [[
      local count = 0
      lunad.on_error(function(m) count = count + 1 error("again " .. count, 0) end)
      lunad.after(0.01, error, "one")
      lunad.after(0.02, error, "two")
      lunad.after(0.04, function() print "over" end)
    ]]
    box:wait_log("s", "one.*again 1.*two.*again 2.*over")
    assert.not_matches("again 3", box:log "s")
    assert.equal(4, box:status("s").errors.count)
  end)

  it("sees the errors that come while it sleeps", function()
    box:serve [[
      lunad.on_error(function(m) print("seen " .. m) lunad.sleep(0.05) end)
      for i = 1, 4 do lunad.after(0.01, error, "error " .. i) end
      lunad.after(0.1, function() print "over" end)
    ]]
    box:wait_log("s", "s: over")
    for i = 1, 4 do
      assert.matches("s: seen error " .. i, box:log "s")
    end
  end)

  it("may stop the service", function()
    local result = run(box, "local l = require 'lunad' l.on_error(function() l.stop(3) end) " ..
      "l.every(1, print) l.after(0.01, error, 'x')")
    assert.equal(3, result.code)
  end)
end)

describe("a function of the life of a script that replaces another", function()
  local box = support.with_box(before_each, after_each)

  for _, name in ipairs { "on_reload", "on_error" } do
    it("is reported in the log, with both places: " .. name, function()
      box:write("mod.lua", ("require('lunad').%s(print)\n"):format(name))
      box:serve(("lunad.%s(function() end)\n\nrequire 'mod'\nlunad.%s(type)"):format(name, name))
      local function replaces(new, old)
        box:wait_log("s", "warn  lunad: lunad%." .. name .. " at [^\n]*" .. new ..
          " replaces the function that lunad%." .. name .. " at [^\n]*" .. old .. " was given\n")
      end
      replaces("mod%.lua:1", "s%.lua:1")
      replaces("s%.lua:4", "mod%.lua:1")
    end)

    it("is not reported if it is the same one, or another generation's: " .. name, function()
      box:serve(("lunad.%s(print) lunad.%s(print)"):format(name, name))
      box:ok("reload", "s")
      assert.not_matches("replaces", box:log "s")
    end)
  end
end)

describe("a life function", function()
  local box = support.with_box(before_each, after_each)

  local BAD = [[
    for _, name in ipairs { "on_reload", "on_stop", "on_error" } do
      for _, bad in ipairs { 1, "x", {}, true } do
        raises("#1", lunad[name], bad)
      end
      raises("#1", lunad[name])
      raises("#1", lunad[name], nil)
    end
    for _, bad in ipairs { {}, true, print } do raises("#1", lunad.status, bad) end
    raises("#1", lunad.status)
  ]]

  it("raises for a wrong argument, naming it", function()
    box:inside(BAD)
  end)

  it("raises at the caller's line", function()
    box:inside [[
      for _, name in ipairs { "on_reload", "on_stop", "on_error", "status" } do
        local line = debug.getinfo(1, "l").currentline + 1
        local _, message = pcall(function() lunad[name](nil) end)
        truthy(message:find("inside.lua:" .. line .. ": ", 1, true), message)
      end
    ]]
  end)

  it("takes a callable table for a function", function()
    local result = run(box, [[
      require "lunad".on_stop(setmetatable({}, { __call = function(_, reason) print(reason) end }))
    ]])
    assert.equal("exit\n", result.out)
  end)
end)

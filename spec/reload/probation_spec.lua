-- Probation: new code that fails soon after a reload is undone, from memory, with its state.

local support = require "support"

-- Good code: it counts, and says with which count it was loaded.
local GOOD = [[
  local part = require "part"
  local count = lunad.state or 0
  lunad.every(0.01, function() count = count + 1 end)
  lunad.on_reload(function(...) lunad.log.info("asked " .. select("#", ...)) return count end)
  lunad.log.info(("good generation=%d part=%s count=%d"):format(lunad.generation, part, count))
]]

-- New code that gives 1000 at a rollback, after which GOOD says so.
local GIVES = [[ lunad.on_reload(function(why) return why == "rollback" and 1000 or nil end) ]]

describe("a reload on probation", function()
  local box = support.with_box(before_each, after_each)

  before_each(function()
    box:write("part.lua", "return 'one'")
    box:serve(GOOD)
  end)

  local function reload(text, seconds)
    box:write("s.lua", support.BEAT .. text)
    return box:lunad("reload", "--probation", seconds or "30", "s")
  end

  -- Reload with code that must fail its probation: the message, and the count of the code that comes back.
  local function fails(text, generation)
    local result = reload(text)
    assert.equal(1, result.code)
    assert.equal("", result.out)
    local after, now, good, why = result.err:match(
      "^lunad: s: rolled back after ([%d.]+) s: generation (%d+) has the code of generation (%d+): (.*)\n$")
    assert.is_truthy(after, result.err)
    assert.is_true(tonumber(now) == tonumber(good) + 2)
    assert.equal(generation, tonumber(now))
    local part, count = box:wait_log("s", ("good generation=%d part=(%%a+) count=(%%d+)"):format(now))
    assert.equal("one", part)
    return why, tonumber(count)
  end

  it("passes when nothing happens, and the command waits for that", function()
    local result = reload(GOOD, "0.2")
    assert.equal(0, result.code)
    assert.matches("^s: reloaded, generation 2 in %d+%.%d ms; passed its probation of 0.2 s\n$", result.out)
    assert.matches("generation 2 is on probation for 0.2 s\n.*generation 2 has passed its probation of 0.2 s",
      box:log "s")
    assert.equal(1, box:status("s").reloads.ok)
    assert.matches("asked 0", box:log "s")
    -- Afterwards an error is only an error.
    reload(GOOD .. "lunad.after(0.2, function() error 'late' end)", "0.1")
    box:wait_log("s", "uncaught error")
    assert.equal(3, box:status("s").generation)
  end)

  it("that is refused keeps no copy of the state", function()
    local function memory() return tonumber(support.proc_status(box:status("s").pid).VmRSS:match "%d+") end
    local large = [[
      local state = {}
      for i = 1, 64 do state[i] = ("x"):rep(1000000) .. i end
      lunad.on_reload(function() return state end)
    ]]
    assert.equal(0, reload(large, "0").code)
    local before = memory()
    for _ = 1, 2 do
      assert.equal(1, reload("error 'no'").code)
    end
    assert.is_true(support.is_sanitized() or memory() - before < 32000)
  end)

  it("is undone by an error, an exit or stop with a status, a heap, or when nothing is left", function()
    local pid = box:status("s").pid
    local why, count = fails(GIVES .. "lunad.after(0.01, function() error 'broken' end)", 3)
    assert.matches("/s%.lua:1: broken$", why)
    assert.equal(1000, count)
    -- After os.exit nothing is asked; the state is the one that the good code had given.
    why, count = fails(GIVES .. "lunad.after(0, os.exit, 3)", 5)
    assert.equal("it asked to exit with status 3", why)
    assert.is_true(count >= 1000)
    why = fails("lunad.after(0, lunad.stop, 4)", 7)
    assert.equal("it asked to stop with status 4", why)
    why = fails([[ local t = {} lunad.every(0.001, function() t[#t + 1] = ("x"):rep(4e6) .. #t end) ]], 9)
    assert.matches("^its heap has %d+ MB, that of the code before had %d+ KB$", why)
    box:write("s.lua", "local lunad = require 'lunad' lunad.after(0.05, print)")
    assert.matches("nothing of the script is left to wait for",
      box:refused(1, "reload", "--probation", "9", "s"))
    local status = box:status "s"
    assert.same({ 11, pid, "running" }, { status.generation, status.pid, status.state })
    assert.same({ 0, 5, 5 }, { status.reloads.ok, status.reloads.failed, status.code.rolled_back })
    assert.is_false(status.reloads.last.ok)
    assert.matches("^rolled back after", status.reloads.last.error)
    assert.matches("reloads   0 ok, 0 refused, 5 undone; the last .* was undone: rolled back after",
      box:ok("status", "s"))
  end)

  it("goes back with the state of the good code if the failed one has none that it can load with", function()
    local _, count = fails("lunad.on_reload(function() error 'no state' end) lunad.after(0, error, 'x')", 3)
    assert.matches("generation 2 gives none: its on_reload function failed: .*no state", box:log "s")
    local again
    _, again = fails("lunad.on_reload(function() return print end) lunad.after(0, error, 'x')", 5)
    assert.is_true(again >= count)
    assert.matches("its state cannot be handed on: state is a function", box:log "s")
    -- The state of the failed code breaks the good code: it is loaded once more, with its own.
    _, again = fails("lunad.on_reload(function() return 'text' end) lunad.after(0, error, 'x')", 7)
    assert.is_true(again >= count)
    assert.matches("generation 6 gives none: [^\n]*number expected, got string", box:log "s")
  end)

  it("goes back to the modules too, whatever the disk has by then", function()
    box:write("part.lua", "return 'two'")
    local script = box:path "s.lua"
    local why = fails("local part = require 'part' lunad.after(0.01, function() error(part) end)", 3)
    assert.matches("two$", why)
    -- The status says so, until the disk has the same code again.
    local function says(pattern, differs, file)
      local code = box:status("s").code
      assert.same({ 1, true, differs, file },
        { code.generation, code.from_memory, code.disk_differs, code.file })
      assert.matches("\n  code      that of generation 1, from memory; " .. pattern .. "\n",
        box:ok("status", "s"))
    end
    says("disk differs: [^\n]*/%a+%.lua", true, script)
    box:write("s.lua", support.BEAT .. GOOD)
    says("disk differs: [^\n]*/part%.lua", true, box:path "part.lua")
    box:write("part.lua", "return 'one'")
    says("the disk has the same", false)
    assert(os.remove(box:path "part.lua"))
    assert(os.remove(script))
    says("disk differs: [^\n]*/part%.lua", true, box:path "part.lua")
    assert.matches("there is no such script", box:refused(1, "reload", "s"))
    box:write("part.lua", "this is not Lua")
    fails("package.loaded.part = true lunad.after(0, error, 'x')", 5)
  end)

  it("compares noisy code with noisy code", function()
    local noise = "lunad.every(0.02, error, 'noise')"
    local result = reload(GOOD .. noise, "0")
    assert.equal(0, result.code)
    support.wait_for("noise", function() return box:status("s").errors.count > 50 end)
    -- As noisy as the code before in a span that it had as a whole.
    assert.equal(0, reload(GOOD .. "lunad.every(0.1, error, 'less noise')", "0.5").code)
    local why = select(1, fails(GOOD .. "lunad.every(0.001, error, 'more noise')", 5))
    assert.matches("^more noise %(%d+ uncaught errors; the code before had %d+ in as long a time%)$", why)
  end)

  it("keeps the code that was proved, if bad code follows bad code", function()
    box:write("s.lua", support.BEAT .. "lunad.after(1000, error, 'first')")
    local first = box:spawn { "reload", "--probation", "30", "s" }
    box:wait_log("s", "generation 2 is on probation")
    box:write("s.lua", support.BEAT .. GIVES .. "lunad.after(0.05, error, 'second')")
    local result = box:lunad("reload", "s") -- on probation too, as the code before it is
    assert.equal(1, result.code)
    local verdict = "rolled back after %d+%.%d s: generation 4 has the code of generation 1: second"
    assert.matches(verdict, result.err)
    box:await(first, "the first answer", first.is_over)
    assert.equal(1, first.code)
    assert.matches(verdict, first.err())
    box:wait_log("s", "good generation=4 part=one count=1000")
    -- A reload that is refused meanwhile changes nothing, and one without probation is the last word.
    box:write("s.lua", support.BEAT .. "lunad.after(1000, error, 'third')")
    first = box:spawn { "reload", "--probation", "30", "s" }
    box:wait_log("s", "generation 5 is on probation")
    box:write("s.lua", "error 'refused'")
    assert.matches("the old code keeps running", box:refused(1, "reload", "s"))
    box:write("s.lua", support.BEAT .. "lunad.after(0.05, error, 'fourth')")
    box:ok("reload", "--probation", "0", "s")
    box:await(first, "the first answer", first.is_over)
    assert.matches("generation 6 replaced it before its probation was over", first.err())
    box:wait_log("s", "uncaught error.*fourth")
    assert.equal(6, box:status("s").generation)
  end)

  it("loses to a stop, asked for by a person or by the script", function()
    box:write("s.lua",
      support.BEAT .. "lunad.on_stop(function(why) lunad.log.info('on_stop ' .. why) end)")
    local waiting = box:spawn { "reload", "--probation", "30", "s" }
    box:wait_log("s", "generation 2 is on probation")
    local report = box:status "s"
    assert.same({ 30, 1 }, { report.probation.seconds, report.probation.good })
    assert.matches("\n  probation %d+%.%d of 30 s left, then generation 1 is forgotten\n",
      box:ok("status", "s"))
    box:ok("stop", "s")
    box:await(waiting, "the answer", waiting.is_over)
    assert.same({ 1, "lunad: s: not reloaded: the daemon is stopping, before the probation was over\n" },
      { waiting.code, waiting.err() })
    assert.matches("on_stop stop\n.*stopped\n$", box:log "s")
    assert.falsy(box:log("s"):find("rolled back", 1, true))
  end)
end)

describe("code on probation", function()
  local box = support.with_box(before_each, after_each)

  it("that fails during a reload or a check is undone first, and those follow", function()
    box:serve("lunad.ready()", "--wait-ready")
    box:write("s.lua",
      support.BEAT .. "lunad.ready() lunad.signal('USR2', function() error 'told to fail' end)")
    local first = box:spawn { "reload", "--probation", "30", "s" }
    box:wait_log("s", "generation 2 is on probation")
    local gate = box:path "gate" -- the next code becomes ready when this is there
    box:write("s.lua", support.BEAT .. ([[
      lunad.log.info "loading"
      lunad.every(0.01, function() if io.open(%q) then lunad.ready() end end)
    ]]):format(gate))
    local second = box:spawn { "reload", "--probation", "0", "s" }
    box:wait_log("s", "loading")
    box:ok("signal", "s", "USR2")
    box:wait_log("s", "reload put off: the code that runs has failed its probation, and is undone first\n"
      .. ".*rolled back after .*: generation 3 has the code of generation 1: .*told to fail.*loading")
    box:await(first, "the first answer", first.is_over)
    assert.equal(1, first.code)
    assert.falsy(second.is_over())
    box:write("gate", "")
    box:await(second, "the second answer", second.is_over)
    assert.same({ 0, 4 }, { second.code, box:status("s").generation })
  end)
end)

describe("--probation", function()
  local box = support.with_box(before_each, after_each)

  it("puts the code of every reload on probation, also one by SIGHUP", function()
    local pid = box:serve("lunad.on_reload(print)", "--probation", "30", "--on-error", "exit")
    box:write("s.lua", support.BEAT .. "lunad.after(0.01, error, 'broken')")
    support.kill(pid, "sighup")
    box:wait_log("s", "rolled back after %d.%d s: generation 3 has the code of generation 1: broken\n")
    local result = box:lunad("reload", "s")
    assert.equal(1, result.code)
    assert.matches("rolled back", result.err)
    assert.equal(pid, box:status("s").pid)
  end)

  it("undoes code that holds the loop", function()
    box:serve("", "--probation", "30", "--stuck-after", "0.3")
    box:write("s.lua", support.BEAT .. "lunad.after(0, function()\nwhile true do end end)")
    assert.matches("/s%.lua:1: a callback held the loop longer than 0%.3 s %(%-%-stuck%-after%)\n$",
      box:refused(1, "reload", "s"))
    assert.equal(3, box:status("s").generation)
  end)

  it("is a time", function()
    assert.matches('%-%-probation: "soon" is not a time in seconds',
      box:refused(2, "reload", "--probation", "soon", "s"))
    box:serve ""
    for _, value in ipairs { -1, "1", true, 1e300 } do
      local client = box:connect "s"
      client:send(support.json.encode { verb = "reload", probation = value } .. "\n")
      assert.matches('"probation" must be a number of seconds', client:answer().error)
    end
  end)
end)

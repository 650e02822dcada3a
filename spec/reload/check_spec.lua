-- lunad reload --check: the new code is run until it is ready, and discarded.

local support = require "support"

-- A service with something of each kind that a reload hands on.
local OLD = [[
  local state = lunad.state or { count = 0 }
  local kept = lunad.keep("kept", { count = 0 })
  assert(lunad.listen("unix:" .. lunad.script:gsub("s%.lua$", "old.sock")))
  lunad.every(0.02, function() state.count = state.count + 1  kept.count = state.count end)
  lunad.spawn { "sleep", "600", name = "kept", keep = true }
  lunad.on_reload(function() lunad.log.info "asked" return state end)
  lunad.on_stop(function(reason) lunad.log.info("on_stop " .. reason) end)
]]

-- What new code adds to it.
local NEW = OLD .. [[
  assert(lunad.listen("unix:" .. lunad.script:gsub("s%.lua$", "new.sock")))
  local child = lunad.spawn { "sleep", "600", name = "new" }
  lunad.every(0.01, function() lunad.log.info "beat of the new code" end)
  kept.count, lunad.state.kept = "changed", kept.count
  lunad.log.info(
    ("new code child=%d state=%d kept=%s"):format(child.pid, state.count, type(lunad.state.kept)))
]]

describe("lunad reload --check", function()
  local box = support.with_box(before_each, after_each)

  local function write(text)
    box:write("s.lua", support.BEAT .. text)
  end

  it("runs the new code until it is ready, and leaves nothing of it", function()
    local pid = box:serve(OLD)
    local before = box:status "s"
    write(NEW)
    assert.matches("^s: would reload, ready in %d+%.%d ms; generation 1 keeps running\n$",
      box:ok("reload", "--check", "s"))
    local child, state = box:wait_log("s", "new code child=(%d+) state=(%d+)")
    box:wait_gone(math.tointeger(tonumber(child)))
    assert.is_nil(support.uv.fs_stat(box:path "new.sock"))
    local after = box:status "s"
    assert.equal(pid, after.pid)
    assert.equal(1, after.generation)
    assert.equal("running", after.state)
    assert.same({ ok = 0, failed = 0 }, after.reloads)
    assert.equal(before.children[1].pid, after.children[1].pid)
    assert.equal(#before.children, #after.children)
    assert.equal(#before.timers, #after.timers)
    assert.same(before.listeners, after.listeners)
    assert.equal(before.fds, after.fds)
    assert.falsy(box:log("s"):find("on_stop", 1, true))
    -- The old code goes on: the next reload finds what it has counted, and what it keeps.
    support.wait_for("the old code's timer", function()
      return box:status("s").timers[2].runs > before.timers[2].runs + 2
    end)
    box:ok("reload", "s")
    local later, kept = box:wait_log("s",
      "new code child=%d+ state=(%d+) kept=(%l+)\n[^\n]*reloaded: generation 2")
    assert.equal("number", kept)
    assert.is_true(tonumber(later) >= tonumber(state))
    assert.equal(before.children[1].pid, box:status("s").children[1].pid)
  end)

  it("says why a reload would be refused, with exit status 1", function()
    box:serve(OLD)
    for text, message in pairs {
      ["x ="] = "s%.lua:1: ", [NEW .. " error 'no database'"] = "s%.lua:%d+: no database\n",
      [OLD .. " lunad.stop()"] = "the script asked to stop before it was ready",
    } do
      write(text)
      local result = box:lunad("reload", "--check", "s")
      assert.equal(1, result.code)
      assert.matches("^lunad: s: would not reload, the old code keeps running: ", result.err)
      assert.matches(message, result.err)
    end
    assert.matches("warn  lunad: reload checked: it would be refused, generation 1 keeps running: ",
      box:log "s")
    assert.same({ ok = 0, failed = 0 }, box:status("s").reloads)
    write(OLD .. " lunad.on_reload(function() return print end)")
    box:ok("reload", "s")
    assert.matches("its state cannot be handed on", box:refused(1, "reload", "--check", "s"))
    assert.equal(2, box:status("s").generation)
  end)

  it("is a request of the control socket, and loses none that comes meanwhile", function()
    box:serve ""
    write "lunad.sleep(0.2) lunad.log.info 'loaded'"
    local checking, reloading, wrong = box:connect "s", box:connect "s", box:connect "s"
    wrong:send '{"verb":"reload","check":"yes"}\n'
    assert.equal('"check" must be true or false', wrong:answer().error)
    checking:send '{"verb":"reload","check":true}\n'
    reloading:send '{"verb":"reload","check":false}\n'
    local verdict = checking:answer()
    assert.is_true(verdict.ok and verdict.check)
    assert.equal("number", type(verdict.ms))
    local answer = reloading:answer()
    assert.is_nil(answer.check)
    assert.equal(2, answer.generation)
    assert.equal(3, box:lunad("reload", "--check", "t").code)
  end)
end)

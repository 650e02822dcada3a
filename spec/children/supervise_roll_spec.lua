-- supervisor:restart: against a fake clock and fake children, and then with real ones.

local support = require "support"
local World = require "support.world"

local new_world, patient = World.new, World.patient

describe("supervisor:restart", function()
  local world
  before_each(function() world = new_world() end)

  -- The children that were told to end and still live.
  local function told()
    local list = {}
    for _, child in ipairs(world:alive()) do
      list[#list + 1] = child.told and child.pid or nil
    end
    return list
  end

  it("ends the children one after the other: the next when the last, started again, is ready", function()
    local supervisor = world.supervise { "cmd", count = 3 }
    local call = world:restart(supervisor)
    for i = 1, 3 do
      assert.same({ i }, told())
      world:pass(50)
      assert.same({ i }, told())
      world:exit(world.children[i], 0)
      assert.equal(3, #world:alive())
      world:pass(0.49)
      assert.same({}, told())
      assert.is_nil(call.over)
      world:pass(0.02)
    end
    assert.same({}, told())
    assert.equal(6, #world.children)
    assert.same({ true, true }, { call.over, call.ok })
  end)

  it("does not wait for the back-off, and does not count as a failure", function()
    local supervisor = world.supervise { "cmd", max_restarts = 0, restart = "never" }
    for i = 1, 20 do
      local call = world:restart(supervisor)
      world:exit(world.children[i], i % 2)
      assert.equal(i + 1, #world.children)
      world:pass(0.5)
      assert.is_true(call.ok)
    end
    assert.same({}, world.delays)
    assert.same({}, world.errors)
    assert.same({}, world.ends)
  end)

  it("starts at once what waits, and what has ended", function()
    local supervisor = world.supervise(patient { "cmd", count = 2, restart = "on-failure", backoff = { 50 } })
    world:exit(world.children[1], 1)
    world:exit(world.children[2], 0)
    local call = world:restart(supervisor)
    assert.equal(1, #world:alive())
    world:pass(0.5)
    assert.equal(2, #world:alive())
    world:pass(0.5)
    assert.is_true(call.ok)
    world:pass(1000)
    assert.equal(4, #world.children)
  end)

  it("is joined by calls that come before it has started a child", function()
    local supervisor = world.supervise { "cmd", count = 2 }
    local calls = {}
    for i = 1, 5 do calls[i] = world:restart(supervisor) end
    for i = 1, 2 do
      assert.same({ i }, told())
      world:exit(world.children[i], 0)
      world:pass(0.5)
    end
    for i = 1, 5 do assert.is_true(calls[i].ok) end
    world:pass(1000)
    assert.same({}, told())
    assert.equal(4, #world.children)
  end)

  it("is followed by one more for all calls that come later", function()
    local supervisor = world.supervise { "cmd", count = 2 }
    local first, later = world:restart(supervisor), {}
    world:exit(world.children[1], 0)
    for i = 1, 5 do later[i] = world:restart(supervisor) end
    world:pass(0.5)
    world:exit(world.children[2], 0)
    world:pass(0.5)
    assert.is_true(first.ok)
    for i = 3, 4 do
      assert.same({ i }, told())
      assert.is_nil(later[1].over)
      world:exit(world.children[i], 0)
      world:pass(0.5)
    end
    for i = 1, 5 do assert.is_true(later[i].ok) end
    world:pass(1000)
    assert.same({}, told())
    assert.equal(6, #world.children)
  end)

  it("continues when another child ends by itself meanwhile", function()
    local supervisor = world.supervise(patient { "cmd", count = 3, backoff = { 5 } })
    local call = world:restart(supervisor)
    world:exit(world.children[2], 1) -- its turn is yet to come
    world:exit(world.children[1], 0)
    world:pass(0.5) -- it is started
    world:pass(0.5)
    assert.same({ 3 }, told())
    world:exit(world.children[3], 0)
    assert.equal(3, #world:alive())
    world:pass(1000)
    assert.is_true(call.ok)
    assert.equal(6, #world.children)
  end)

  it("stops at a child that ends before it is ready, which stays supervised", function()
    local supervisor = world.supervise { "cmd", count = 3, name = "web" }
    local call = world:restart(supervisor)
    world:exit(world.children[1], 0)
    world:pass(0.5)
    world:exit(world.children[2], 0)
    world:pass(0.4)
    world:exit(world.children[5], 7)
    assert.same({ true, "web-2 (pid 5) ended before it was ready: code 7" }, { call.over, call.err })
    assert.is_nil(call.ok)
    local _, message, fields = table.unpack(world.ends[1])
    assert.same({ "the rolling restart has stopped", call.err, 1, 3 },
      { message, fields.error, fields.done, fields.of })
    world:pass(0.1) -- its back-off
    assert.equal(3, #world:alive())
    world:pass(1000)
    assert.is_nil(world.children[3].told)
    assert.equal(6, #world.children)
  end)

  it("stops at a child that is not ready in time, which is left running", function()
    local supervisor = world.supervise { "cmd", count = 2, ready = "notify", ready_timeout = 7 }
    local call = world:restart(supervisor)
    world:exit(world.children[1], 0)
    world:pass(6.9)
    assert.is_nil(call.over)
    world:pass(0.2)
    assert.equal("cmd-1 (pid 3) was not ready within 7 s", call.err)
    world:pass(1000)
    assert.is_nil(world.children[2].told)
    assert.is_true(world.children[3].alive)
    assert.is_nil(world.children[3].told)
  end)

  it("stops at a child that cannot be started, and tries it again with its back-off", function()
    local supervisor = world.supervise(patient { "cmd", count = 2 })
    local call = world:restart(supervisor)
    world.refusal = "ENOENT"
    world:exit(world.children[1], 0)
    assert.equal("cmd-1 could not be started: ENOENT: refused", call.err)
    assert.same({ "ENOENT: refused", 0.1 }, { world.errors[1][2].error, world.errors[1][2].delay })
    world.refusal = nil
    world:pass(0.1)
    assert.equal(2, #world:alive())
    assert.is_nil(world.children[2].told)
  end)

  it("that failed can be followed by another", function()
    local supervisor = world.supervise(patient { "cmd", count = 2 })
    local first = world:restart(supervisor)
    world:exit(world.children[1], 0)
    local second = world:restart(supervisor)
    world.refusal = "EAGAIN"
    world:exit(world:last(), 1)
    assert.matches("ended before it was ready", first.err)
    world.refusal = nil
    world:pass(0) -- the second starts the first child at once, and waits for it
    assert.equal(2, #world:alive())
    world:pass(0.5)
    assert.same({ 2 }, told())
    world:exit(world.children[2], 0)
    world:pass(0.5)
    assert.is_true(second.ok)
    assert.equal(5, #world.children)
  end)

  it("goes no further when all who wait for it were cancelled, and leaves no child away", function()
    local supervisor = world.supervise { "cmd", count = 3 }
    local calls = { world:restart(supervisor), world:restart(supervisor) }
    coroutine.close(calls[1].co)
    world:exit(world.children[1], 0)
    world:pass(0.5)
    assert.same({ 2 }, told())
    coroutine.close(calls[2].co)
    world:exit(world.children[2], 0)
    world:pass(1000)
    assert.same({}, told())
    assert.equal(3, #world:alive())
    assert.is_nil(world.children[3].told)
    assert.is_nil(calls[2].over)
  end)

  it("waits until a child is this generation's", function()
    local supervisor = world.supervise { "cmd" }
    world.children[1].claimed = true
    world:restart(supervisor)
    world:pass(1)
    assert.is_nil(world.children[1].told)
    world.children[1].claimed = false
    world:pass(0.1)
    assert.same({ 1 }, told())
  end)

  it("does not continue when the supervisor has given up", function()
    local given_up = 0
    local supervisor = world.supervise { "cmd", count = 3, max_restarts = 0, on_give_up = function()
      given_up, world.refusal = given_up + 1, nil
    end }
    local call = world:restart(supervisor)
    world.refusal = "EAGAIN"
    world:exit(world.children[1], 0)
    assert.equal("cmd-1 could not be started: EAGAIN: refused", call.err)
    world:exit(world.children[2], "TERM")
    world:exit(world.children[3], "TERM")
    world:pass(1000)
    assert.equal(3, #world.children)
    assert.equal(1, given_up)
  end)

  it("ends when another child makes the supervisor give up", function()
    local supervisor = world.supervise { "cmd", count = 2, max_restarts = 0 }
    local call = world:restart(supervisor)
    world:exit(world.children[2], 1)
    assert.same({ true, "the supervisor has given up" }, { call.over, call.err })
  end)

  it("after the stop raises", function()
    local supervisor = world.supervise { "cmd" }
    supervisor:stop()
    assert.has_error(function() supervisor:restart() end,
      "raised: supervisor:restart: this supervisor has stopped")
    assert.has_error(function() supervisor.restart {} end)
    assert.has_error(function() supervisor.stop(nil) end)
    assert.has_error(function() supervisor.children(1) end)
  end)
end)

describe("A rolling restart", function()
  local box = support.with_box(before_each, after_each)

  it("has at most one child down, and returns true when all are ready", function()
    box:inside [[
      local command = "trap 'sleep 0.02; exit 0' TERM; sleep 1000 & wait"
      local supervisor = lunad.supervise { "sh", "-c", command, count = 4, max_restarts = 0, ready = 0.02 }
      local function pids()
        local list = {}
        for i, child in ipairs(supervisor:children()) do list[i] = child:running() and child.pid or nil end
        return list
      end
      local known, ok = {}, nil
      for _, pid in ipairs(pids()) do known[pid] = true end
      lunad.task(function() ok = supervisor:restart() end)
      eventually(function()
        truthy(#pids() >= 3, "more than one is away")
        return ok
      end)
      for _, pid in ipairs(pids()) do truthy(not known[pid]) end
      supervisor:stop()
    ]]
  end)

  it("ends a child that ignores TERM by KILL", function()
    box:inside [[
      local up = 0
      local supervisor = lunad.supervise { "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done",
        kill_after = 0.05, ready = "^up$", stdout = function(chunk) up = up + (chunk and 1 or 0) end }
      eventually(function() return up == 1 end)
      truthy(supervisor:restart())
      equal(2, up)
      supervisor:stop()
    ]]
  end)

  it("waits for what each child says, and stops at the first that does not", function()
    box:write("mode", "good")
    local result = box:inside [[
      local command = "test $LUNAD_INSTANCE = 2 && test -e bad && exit 3; echo up; exec sleep 1000"
      local supervisor = lunad.supervise { "sh", "-c", command, name = "w", count = 3, ready = "^up$",
        stdout = "null", backoff = { 0.01, 0.01 }, max_restarts = 1e6 }
      equal(true, supervisor:restart())
      local before = supervisor:children()
      io.open("bad", "w"):close()
      local ok, err = supervisor:restart()
      equal(nil, ok)
      truthy(err:match "^w%-2 %(pid %d+%) ended before it was ready: code 3$", err)
      local now = supervisor:children()
      truthy(now[1].pid ~= before[1].pid)
      equal(before[3].pid, now[#now].pid)
      os.remove "bad"
      eventually(function() return #supervisor:children() == 3 end)
      equal(true, supervisor:restart())
      truthy(supervisor:children()[3].pid ~= before[3].pid)
      lunad.stop()
    ]]
    assert.matches('warn  inside: the rolling restart has stopped done=1 error="w%-2 .* code 3" of=3',
      result.err)
  end)

  it("raises outside a task, and after a stop", function()
    box:inside [[
      local supervisor = lunad.supervise { "sleep", "1000" }
      local message = raises("task", coroutine.wrap(function() supervisor:restart() end))
      truthy(message:match "supervisor:restart", message)
      supervisor:stop()
      raises("has stopped", supervisor.restart, supervisor)
    ]]
  end)

  it("stops with the task that waits for it, and leaves no child away", function()
    box:inside [[
      local supervisor = lunad.supervise { "sleep", "1000", count = 2, ready = "never", stdout = "null" }
      local before = supervisor:children()
      fails("ETIMEDOUT", lunad.timeout(0.05, supervisor.restart, supervisor))
      eventually(function()
        local now = supervisor:children()
        return #now == 2 and now[1].pid ~= before[1].pid
      end)
      lunad.sleep(0.02)
      equal(before[2].pid, supervisor:children()[2].pid)
      supervisor:stop()
    ]]
  end)

  it("returns to those who wait for it when the supervisor is stopped", function()
    box:inside [[
      local supervisor = lunad.supervise { "sleep", "1000", count = 2 }
      local results = {}
      for i = 1, 2 do
        lunad.task(function() results[i] = { supervisor:restart() } end)
      end
      supervisor:stop()
      eventually(function() return results[1] and results[2] end)
      for i = 1, 2 do equal("the supervisor was stopped", results[i][2]) end
    ]]
  end)

  it("asked for by new code begins when that is the service, and touches nothing if it is refused", function()
    local script = [[
      local supervisor = lunad.supervise { "sleep", "1000", name = "w", keep = true, ready = 0 }
      if lunad.generation > 1 then
        lunad.task(function()
          supervisor:restart()
          lunad.status "restarted"
        end)
        lunad.sleep(0.1)
        %s
      end
      lunad.ready()
    ]]
    box:serve(script:format "", "--wait-ready")
    local pid = box:status("s").children[1].pid
    local refused = box:reload(script:format "error 'broken'")
    assert.equal(1, refused.code)
    assert.matches("broken", refused.err)
    assert.equal(pid, box:status("s").children[1].pid)
    assert.equal(0, box:reload(script:format "").code)
    support.wait_for("the restart", function() return box:status("s").text == "restarted" end)
    local children = box:status("s").children
    assert.equal(1, #children)
    assert.not_equal(pid, children[1].pid)
    assert.is_true(children[1].ready)
  end)
end)

-- lunad.supervise: its policy against a fake clock and fake children, and then with real ones.

local support = require "support"
local World = require "support.world"

local new_world, patient = World.new, World.patient

describe("A supervisor", function()
  local world
  before_each(function() world = new_world() end)

  local function names()
    local list = {}
    for i, child in ipairs(world:alive()) do list[i] = child.name or "-" end
    return table.concat(list, " ")
  end

  it("starts count children at once, one by default", function()
    assert.equal(1, #world.supervise({ "a" }):children())
    assert.equal(3, #world.supervise({ "a", count = 3 }):children())
    assert.equal(4, #world:alive())
  end)

  it("names one child as asked, and several with a number after the name", function()
    world.supervise { "/bin/cmd", name = "one" }
    world.supervise { "/bin/cmd" }
    world.supervise { "/bin/cmd", name = "many", count = 2 }
    world.supervise { "/bin/a b", count = 2 }
    assert.equal("one cmd many-1 many-2 a_b-1 a_b-2", names())
  end)

  it("passes on the options of spawn and no other, and gives each of several its number", function()
    local options = { "cmd", "x", count = 2, env = { A = "1" }, cwd = "/tmp", stdout = "null", keep = false,
      restart = "never", backoff = { 1 }, max_restarts = 1, within = 1, on_give_up = print, on_exit = print }
    world.supervise(options)
    for i, child in ipairs(world.children) do
      local got = child.options
      assert.same({ A = "1", LUNAD_INSTANCE = tostring(i) }, got.env)
      assert.same({ "cmd", "x", "/tmp", "null", false }, { got[1], got[2], got.cwd, got.stdout, got.keep })
      for _, own in ipairs { "count", "restart", "backoff", "max_restarts", "within", "on_give_up" } do
        assert.is_nil(got[own], own)
      end
    end
    assert.same({ A = "1" }, options.env)
    assert.equal(print, options.on_exit)
  end)

  it("returns the error of the system, and leaves no child running", function()
    local spawn = world.spawn
    world.spawn = function(self, options)
      self.refusal = #self.children == 2 and "EAGAIN" or nil
      return spawn(self, options)
    end
    local supervisor, message, code = world.supervise { "cmd", count = 3 }
    assert.same({ nil, "EAGAIN: refused", "EAGAIN" }, { supervisor, message, code })
    for _, child in ipairs(world:alive()) do
      assert.truthy(child.told)
      world:exit(child, "TERM")
    end
    world:pass(1000)
    assert.equal(2, #world.children)
  end)

  it("calls on_exit at every exit", function()
    local exits = {}
    world.supervise(patient { "cmd", on_exit = function(exit, child)
      exits[#exits + 1] = exit.code or exit.signal
      assert.equal(world.children[#exits], child)
    end })
    for _, how in ipairs { 0, 3, "KILL" } do
      world:cycle(how)
    end
    assert.same({ 0, 3, "KILL" }, exits)
  end)

  it("knows its children", function()
    local supervisor = world.supervise(patient { "cmd", count = 3 })
    assert.same(world.children, supervisor:children())
    world:exit(world.children[2], 1)
    assert.same({ world.children[1], world.children[3] }, supervisor:children())
    world:pass(0.1)
    assert.same({ world.children[1], world.children[4], world.children[3] }, supervisor:children())
  end)

  it("refuses bad values, naming the option", function()
    local wrong = {
      count = { 0, -1, 1.5, "2", true }, restart = { "sometimes", true, 1 },
      backoff = { 1, {}, { -1 }, { 2, 1 }, { "a", 1 }, { 0 / 0, 1 }, { 1, 1 / 0 } },
      max_restarts = { -1, 1.5, "5" }, within = { 0, -1, "10", 0 / 0, true }, on_give_up = { 1, true, {} },
      on_exit = { 1, "x", {} },
    }
    for option, values in pairs(wrong) do
      for _, value in ipairs(values) do
        local ok, message = pcall(world.supervise, { "cmd", [option] = value })
        assert.is_false(ok)
        assert.matches("raised: option '" .. option .. "'", message)
      end
    end
    assert.has_error(function() world.supervise() end)
    assert.has_error(function() world.supervise "cmd" end)
    assert.equal(0, #world.children)
  end)
end)

describe("restart =", function()
  local world
  before_each(function() world = new_world() end)

  -- Whether a child that ends so is started again.
  local function is_restarted(policy, how)
    local count = #world.children
    world.supervise(patient { "cmd", restart = policy })
    world:exit(world:last(), how)
    world:pass(1000)
    return #world.children == count + 2
  end

  it("'always', the default, means after every exit", function()
    for _, how in ipairs { 0, 1, 255, "TERM", "KILL" } do
      assert.is_true(is_restarted("always", how))
      assert.is_true(is_restarted(nil, how))
    end
  end)

  it("'on-failure' means after a status that is not 0, or a signal", function()
    assert.is_false(is_restarted("on-failure", 0))
    for _, how in ipairs { 1, 255, "TERM", "KILL" } do
      assert.is_true(is_restarted("on-failure", how))
    end
  end)

  it("'never' means never", function()
    for _, how in ipairs { 0, 1, "TERM" } do
      assert.is_false(is_restarted("never", how))
    end
  end)

  it("applies to the child that ended, and no other", function()
    local supervisor = world.supervise { "cmd", count = 2, restart = "on-failure" }
    world:exit(world.children[1], 0)
    world:exit(world.children[2], 1)
    world:pass(1000)
    assert.same({ world.children[3] }, supervisor:children())
  end)
end)

describe("The back-off of a supervisor", function()
  local world
  before_each(function() world = new_world() end)

  it("doubles from 0.1 s to 30 s", function()
    world.supervise(patient { "cmd" })
    for _, delay in ipairs { 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30 } do
      assert.equal(delay, world:cycle(1))
    end
  end)

  it("has the limits that it is given, also after a thousand failures", function()
    world.supervise(patient { "cmd", backoff = { 1, 5 }, max_restarts = 3000 })
    for _, delay in ipairs { 1, 2, 4, 5, 5 } do
      assert.equal(delay, world:cycle(1))
    end
    for _ = 1, 1100 do
      assert.equal(5, world:cycle(1))
    end
  end)

  it("can be constant, or zero", function()
    world.supervise(patient { "cmd", backoff = { 2 } })
    assert.same({ 2, 2, 2 }, { world:cycle(1), world:cycle(1), world:cycle(1) })
    world.supervise(patient { "cmd", backoff = { 0, 0 } })
    assert.same({ 0, 0, 0 }, { world:cycle(1), world:cycle(1), world:cycle(1) })
  end)

  it("is reset after a child that has lived 10 s, and not before", function()
    world.supervise(patient { "cmd" })
    assert.same({ 0.1, 0.2, 0.4 }, { world:cycle(1), world:cycle(1), world:cycle(1) })
    assert.equal(0.8, world:cycle(1, 9.9))
    assert.equal(0.1, world:cycle(1, 10))
    assert.equal(0.2, world:cycle(1))
  end)

  it("is kept for each child", function()
    world.supervise(patient { "cmd", count = 2 })
    world:exit(world.children[1], 1)
    world:pass(0.1)
    world:exit(world.children[3], 1)
    world:exit(world.children[2], 1)
    assert.same({ 0.1, 0.2, 0.1 }, world.delays)
  end)

  it("applies when memory has run out, too", function()
    world.supervise(patient { "cmd" })
    local spawn = world.spawn
    world.spawn = function(self)
      table.remove(self.delays)
      error("not enough memory", 0)
    end
    world:exit(world:last(), 1)
    world:pass(0.1 + 0.19)
    assert.equal("not enough memory", world.errors[1][2].error)
    world.spawn = spawn
    world:pass(0.02)
    assert.equal(1, #world:alive())
  end)

  it("applies to a command that cannot be started again, which is logged", function()
    world.supervise(patient { "cmd" })
    world.refusal = "ENOENT"
    world:exit(world:last(), 1)
    world:pass(0.1 + 0.2 + 0.4 - 0.01)
    assert.same({ 0.1, 0.2, 0.4 }, world.delays)
    assert.equal(2, #world.errors)
    assert.equal("ENOENT: refused", world.errors[1][2].error)
    world.refusal = nil
    world:pass(0.01)
    assert.equal(1, #world:alive())
  end)
end)

describe("The intensity limit of a supervisor", function()
  local world, given_up
  before_each(function()
    world, given_up = new_world(), {}
  end)

  local function on_give_up(...)
    given_up[#given_up + 1] = { ... }
  end

  it("is five restarts within 10 s: the child that would need the sixth is given up", function()
    local supervisor = world.supervise { "cmd", backoff = { 0, 0 }, on_give_up = on_give_up }
    for _ = 1, 5 do
      world:cycle(3)
    end
    assert.equal(0, #given_up)
    world:exit(world:last(), 4)
    assert.equal(1, #given_up)
    assert.equal(supervisor, given_up[1][1])
    assert.equal(4, given_up[1][2].code)
    world:pass(1000)
    assert.equal(6, #world.children)
    assert.equal(1, #given_up)
  end)

  it("does not count older restarts", function()
    world.supervise { "cmd", backoff = { 0, 0 }, on_give_up = on_give_up }
    for _ = 1, 30 do
      world:cycle(1, 2.1) -- at most five in any 10 s
    end
    assert.equal(0, #given_up)
  end)

  it("is set by intensity and period", function()
    world.supervise { "cmd", backoff = { 0, 0 }, max_restarts = 2, within = 100, on_give_up = on_give_up }
    world:cycle(1, 45)
    world:cycle(1, 45)
    world:pass(9)
    world:exit(world:last(), 1)
    assert.equal(1, #given_up)
  end)

  it("of 0 gives up at the first exit that calls for a restart", function()
    world.supervise { "cmd", max_restarts = 0, restart = "on-failure", on_give_up = on_give_up }
    world:exit(world:last(), 0)
    assert.equal(0, #given_up)
    world.supervise { "cmd", max_restarts = 0, restart = "on-failure", on_give_up = on_give_up }
    world:exit(world:last(), 1)
    assert.equal(1, #given_up)
  end)

  it("counts the restarts of all children together", function()
    world.supervise { "cmd", count = 3, backoff = { 0, 0 }, on_give_up = on_give_up }
    for i = 1, 5 do
      world:exit(world.children[i], 1)
      world:pass(0)
    end
    assert.equal(0, #given_up)
    world:exit(world.children[6], 1)
    assert.equal(1, #given_up)
  end)

  it("ends the other children, starts none again, and is logged", function()
    local supervisor = world.supervise { "cmd", count = 3, max_restarts = 1, backoff = { 5, 5 } }
    world:exit(world.children[1], 1) -- this one waits
    world:exit(world.children[2], 1)
    assert.truthy(world.children[3].told)
    world:exit(world.children[3], "TERM")
    world:pass(1000)
    assert.equal(3, #world.children)
    assert.same({}, supervisor:children())
    assert.matches("gives up", world.errors[#world.errors][1])
  end)

  it("counts commands that cannot be started, too", function()
    world.supervise { "cmd", on_give_up = on_give_up, backoff = { 0, 0 } }
    world.refusal = "EAGAIN"
    world:exit(world:last(), 1)
    world:pass(1)
    assert.equal(1, #given_up)
    assert.matches("EAGAIN", given_up[1][2].error)
    assert.is_false(given_up[1][2].ok)
  end)

  it("may be answered by another supervisor", function()
    world.supervise { "cmd", max_restarts = 0, on_give_up = function() world.supervise { "other" } end }
    world:exit(world:last(), 1)
    assert.equal("other", world:last().options[1])
    assert.is_true(world:last().alive)
  end)
end)

describe("The end of a supervised child", function()
  local world
  before_each(function() world = new_world() end)

  it("is logged with its exit and the delay, unless it was asked for", function()
    local supervisor = world.supervise(patient { "cmd", name = "web" })
    world:exit(world:last(), 3)
    local level, _, fields = table.unpack(world.ends[1])
    assert.same({ "web", 1, "code 3", 0.1 }, { fields.name, fields.pid, fields.exit, fields.delay })
    assert.equal("warn", level)
    world:pass(0.1)
    world:restart(supervisor)
    world:exit(world:last(), "TERM")
    supervisor:stop()
    world:exit(world:last(), "TERM")
    assert.equal(1, #world.ends)
  end)

  it("delays the next start until what was left behind has ended or is killed", function()
    world.supervise(patient { "cmd", kill_after = 2 })
    world:last().strays = 1
    world:exit(world:last(), 0)
    assert.equal("TERM", world.strays[1].signal)
    world:pass(1.9)
    assert.equal(1, #world.children)
    world:pass(0.2)
    assert.equal(2, #world.children)
    assert.equal(0, world.children[1].strays)
  end)

  it("leaves alone what was left by one that is not started again", function()
    world.supervise { "cmd", restart = "on-failure" }
    world:last().strays = 1
    world:exit(world:last(), 0)
    world:pass(100)
    assert.equal(1, world:last().strays)
    assert.matches("in the background", world.ends[2][2])
  end)

  it("that makes the supervisor give up ends what was left behind, too", function()
    world.supervise { "cmd", max_restarts = 0, name = "web" }
    world:last().strays = 1
    world:exit(world:last(), 0)
    world:pass(10)
    assert.equal(0, world:last().strays)
    assert.is_true(world.gave_up)
    assert.same({ "web", "code 0" }, { world.errors[1][2].name, world.errors[1][2].exit })
  end)
end)

describe("supervisor:stop", function()
  local world
  before_each(function() world = new_world() end)

  it("ends every child, and starts none again", function()
    local supervisor = world.supervise(patient { "cmd", count = 3 })
    supervisor:stop()
    for _, child in ipairs(world.children) do
      assert.truthy(child.told)
      world:exit(child, "TERM")
    end
    world:pass(1000)
    assert.equal(3, #world.children)
    assert.same({}, supervisor:children())
  end)

  it("releases what is only claimed, and does not end it", function()
    local supervisor = world.supervise(patient { "cmd", count = 2 })
    world.children[1].claimed = true
    supervisor:stop()
    assert.is_true(world.children[1].given_up)
    assert.is_nil(world.children[1].told)
    assert.truthy(world.children[2].told)
    assert.same({ world.children[2] }, supervisor:children())
  end)

  it("forgets what waits to be started again", function()
    local supervisor = world.supervise(patient { "cmd" })
    world:exit(world:last(), 1)
    supervisor:stop()
    world:pass(1000)
    assert.equal(1, #world.children)
    assert.same({}, (world.core.walk_waiting()(9)))
  end)

  it("twice does nothing, and ends a rolling restart", function()
    local supervisor = world.supervise(patient { "cmd", count = 2 })
    local call = world:restart(supervisor)
    supervisor:stop()
    supervisor:stop()
    assert.same({ "the supervisor was stopped", true }, { call.err, call.over })
    world:exit(world.children[1], "TERM")
    world:exit(world.children[2], "TERM")
    world:pass(1000)
    assert.equal(2, #world.children)
  end)
end)

describe("The end of the script", function()
  local world
  before_each(function() world = new_world() end)

  -- What is started once the script is over would raise.
  local function finish()
    world.over = true
    world.core.spawn, world.core.after = error, error
  end

  it("does not restart a child", function()
    local exits = 0
    world.supervise(patient { "cmd", count = 2, on_exit = function() exits = exits + 1 end })
    finish()
    world:exit(world.children[1], "TERM")
    world:exit(world.children[2], 1)
    assert.equal(2, exits)
    assert.same({}, world.errors)
  end)

  it("ends a rolling restart, and forgets what waits", function()
    local supervisor = world.supervise(patient { "cmd", count = 2 })
    world:exit(world.children[2], 1)
    local call = world:restart(supervisor)
    finish()
    world:exit(world.children[1], 0)
    assert.same({ "the script is about to end", true }, { call.err, call.over })
    world:pass(1000)
    assert.same({}, world:alive())
  end)
end)

describe("The status of a supervisor", function()
  local world
  before_each(function() world = new_world() end)

  it("has the restarts of each child, and how it ended last", function()
    world.supervise(patient { "cmd", count = 2 })
    assert.same({ restarts = 0 }, world.notes[world.children[1]])
    world:exit(world.children[1], 1)
    world:pass(0.1)
    assert.same({ restarts = 1, last = world.children[1] }, world.notes[world.children[3]])
    world:exit(world.children[3], 1)
    world:pass(0.2)
    assert.equal(2, world.notes[world.children[4]].restarts)
    assert.equal(0, world.notes[world.children[2]].restarts)
  end)

  it("has what waits to be started again", function()
    world.supervise(patient { "cmd", "word", name = "x", keep = true })
    assert.same({}, (world.core.walk_waiting()(9)))
    world:exit(world:last(), 1)
    assert.same({ { name = "x", command = "cmd word", restarts = 0, keep = true, last = world:last() } },
      (world.core.walk_waiting()(9)))
    assert.equal(1, world.core.count_waiting())
    world:pass(0.1)
    assert.same({}, (world.core.walk_waiting()(9)))
    assert.equal(0, world.core.count_waiting())
  end)

  it("has what waits in several walks, each looked at in pieces", function()
    world.supervise(patient { "a", count = 3 })
    world.supervise(patient { "b", count = 2 })
    for _, child in ipairs { table.unpack(world.children) } do world:exit(child, 1) end
    local walk, names, pieces = world.core.walk_waiting(), {}, 0
    repeat
      local list, more = walk(2)
      for _, item in ipairs(list) do names[#names + 1] = item.command end
      pieces = pieces + 1
    until not more
    table.sort(names)
    assert.same({ "a", "a", "a", "b", "b" }, names)
    assert.is_true(pieces > 3)
    assert.equal(5, world.core.count_waiting())
  end)
end)

describe("lunad.supervise", function()
  local box = support.with_box(before_each, after_each)

  it("starts a child again that was killed, and one that finishes", function()
    box:inside [[
      local exits = {}
      local function on_exit(exit, child) exits[#exits + 1] = exit.signal .. " " .. child.pid end
      local supervisor = lunad.supervise { "sleep", "1000", backoff = { 0.01 }, on_exit = on_exit }
      local pids = {}
      for i, signal in ipairs { "KILL", "TERM", "USR1" } do
        eventually(function() return supervisor:children()[1] end)
        local child = supervisor:children()[1]
        pids[i] = child.pid
        child:kill(signal)
        eventually(function() return exits[i] == signal .. " " .. pids[i] end)
      end
      truthy(pids[1] ~= pids[2] and pids[2] ~= pids[3])
      supervisor:stop()
    ]]
  end)

  it("gives each of several children its number", function()
    local result = box:inside [[
      lunad.supervise { "sh", "-c", "echo number $LUNAD_INSTANCE", count = 3, name = "w", restart = "never" }
    ]]
    for i = 1, 3 do
      assert.matches(("inside/w%%-%d%%[%%d+%%]: number %d\n"):format(i, i), result.err)
    end
  end)

  it("waits for longer and longer, at least 0.05, 0.1 and 0.2 s", function()
    box:inside [[
      local times, start = {}, lunad.now()
      local function note(chunk) times[#times + 1] = chunk and lunad.now() - start end
      local supervisor = lunad.supervise { "sh", "-c", "echo", backoff = { 0.05, 0.2 }, stdout = note }
      eventually(function() return #times == 5 end)
      supervisor:stop()
      local least = { 0, 0.05, 0.15, 0.35, 0.55 }
      for i, time in ipairs(least) do truthy(times[i] >= time, i) end
    ]]
  end)

  it("gives up a child that cannot stay up, and the script continues", function()
    local result = box:inside [[
      local starts, given_up = 0, nil
      local supervisor
      supervisor = lunad.supervise { "sh", "-c", "echo x; exit 7", backoff = { 0, 0 }, max_restarts = 3,
        stdout = function(chunk) starts = starts + (chunk and 1 or 0) end,
        on_give_up = function(which, exit)
          equal(supervisor, which)
          given_up = exit
          lunad.sleep(0.01)
        end }
      eventually(function() return given_up end)
      equal(7, given_up.code)
      equal(4, starts)
      equal(0, #supervisor:children())
      lunad.stop()
    ]]
    assert.matches('error inside: supervisor gives up command=sh exit="code 7" name=sh restarts=3 within=10',
      result.err)
  end)

  it("ends with status 1 a script of which nothing is left when it has given up", function()
    local result = box:run { "run", "-n", "s", "-e", [[
      require "lunad".supervise { "sh", "-c", "exit 3", name = "web", backoff = { 0, 0 }, max_restarts = 1 }
    ]] }
    assert.equal(1, result.code)
    assert.matches("finished: a supervisor has given up", result.err)
  end)

  it("logs each end with name, pid, exit and delay", function()
    local result = box:run { "run", "-n", "s", "-e", [[
      require "lunad".supervise { "sh", "-c", "echo pid $$; kill -9 $$", name = "web",
        backoff = { 0.01, 0.01 }, max_restarts = 1,
        stdout = function(chunk) if chunk then io.write(chunk) end end }
    ]] }
    local first, second = result.out:match("pid (%d+)\npid (%d+)\n")
    local exit = 'exit="signal KILL" name=web pid='
    assert.matches("warn  s: supervised child ended, it is started again delay=0.01 " .. exit .. first .. " ",
      result.err)
    assert.matches("warn  s: supervised child ended " .. exit .. second .. " ", result.err)
  end)

  it("shows one that waits for its next start without a pid, and does not show its timer", function()
    box:serve [[
      lunad.supervise { "false", name = "web", backoff = { 60, 60 } }
    ]]
    support.wait_for("the child to wait", function()
      local child = box:status("s").children[1]
      return child and child.state == "waiting"
    end)
    assert.equal(1, #box:status("s").timers) -- that of the spec
    local text = box:ok("status", "s")
    assert.matches("child     web, waiting to be started again: false", text)
    assert.is_nil(text:find("supervise.lua", 1, true))
    assert.is_nil(text:find("pid 0", 1, true))
  end)

  -- Supervise a command of the shell that leaves a process behind, whose pid it writes to a file
  -- "left"; it must be started three times, and what was left before must be gone then. Returns the log.
  local function leave_behind(command)
    local result = box:run { "run", "-n", "s", "-e", ([[
      require "lunad".supervise { "sh", "-c",
        "grep State:.[^ZX] /proc/$(cat left)/status && touch doubled; echo x >>starts; " .. %q,
        name = "bg", backoff = { 0, 0 }, max_restarts = 2, stderr = "null", kill_after = 0.1 }
    ]]):format(command) }
    assert.equal("x\nx\nx\n", box:read "starts")
    assert.is_nil(box:read "doubled")
    assert.is_false(support.is_alive(math.tointeger(tonumber(box:read "left"))))
    return result.err
  end

  it("warns of a command that puts itself in the background, and leaves no copy per restart", function()
    local err = leave_behind "setsid sleep 1000 >/dev/null & echo $! >left"
    local _, count = err:gsub("has put itself in the background: have the command stay in the foreground", "")
    assert.equal(3, count)
    assert.matches("name=bg pid=%d+ processes=1", err)
  end)

  it("ends what was left, even if it ignores SIGTERM, before the next start", function()
    leave_behind "trap '' TERM; setsid sleep 1000 >/dev/null & echo $! >left"
  end)

  it("ends what a crash has left", function()
    local err = leave_behind "sleep 1000 >/dev/null & echo $! >left; kill -9 $$"
    assert.matches("has left processes behind; what it left is ended", err)
  end)

  it("recognizes what has overwritten its environment for a title", function()
    assert(os.execute(("cc -O1 -o %s %s/spec/fixtures/titled.c"):format(box:path "titled", support.root)))
    local err = leave_behind "./titled >left"
    assert.matches("has put itself in the background", err)
  end)

  it("leaves the processes of others alone", function()
    local result = box:run { "run", "-n", "s", "-e", [[
      local lunad = require "lunad"
      os.execute("setsid sleep 1000 >/dev/null 2>&1 & echo $! >other")
      local pid = math.tointeger(tonumber(io.open("other"):read("a")))
      lunad.supervise { "true", backoff = { 0, 0 }, max_restarts = 3, on_give_up = function()
        lunad.sleep(0.1)
        print(lunad.kill(pid, 0))
        lunad.stop()
      end }
      lunad.sleep(1000)
    ]] }
    assert.equal("true\n", result.out)
  end)

  it("returns the error of the system", function()
    box:inside [[
      fails("ENOENT", lunad.supervise { "/no/such/command", count = 3 })
      fails("ENOENT", lunad.supervise { "true", cwd = "/no/such" })
      equal(0, #lunad.stats().children)
      raises("keep", lunad.supervise, { "true", keep = true })
      raises("nice", lunad.supervise, { "true", nice = "x" })
    ]]
  end)

  it("lets the script finish when nothing is left to do", function()
    local result = box:inside [[
      lunad.supervise { "sh", "-c", "exit 0", restart = "on-failure", count = 2 }
      lunad.supervise { "sh", "-c", "exit 1", restart = "never" }
    ]]
    assert.matches("finished", result.err)
  end)

  it("keeps its children running when its handle is dropped", function()
    box:inside [[
      local starts = 0
      lunad.supervise { "sh", "-c", "echo x", backoff = { 0, 0 }, max_restarts = 1e6,
        stdout = function(chunk) starts = starts + (chunk and 1 or 0) collectgarbage() end }
      eventually(function() collectgarbage() return starts == 6 end)
      lunad.stop()
    ]]
  end)

  it("is stopped with the host, and starts nothing again then", function()
    box:serve "lunad.supervise { 'sleep', '1000', count = 3, backoff = { 0, 0 } }"
    box:ok("stop", "s")
    assert.not_matches("Z error ", box:log "s")
  end)

  it("is replaced at a reload", function()
    box:serve "lunad.supervise { 'sleep', '1000', name = 'old', count = 2 }"
    assert.equal(0, box:reload("lunad.supervise { 'sleep', '1000', name = 'new' }").code)
    support.wait_for("the end of the old ones", function() return #box:status("s").children == 1 end)
    assert.equal("new", box:status("s").children[1].name)
    support.wait_for("the end of their processes", function() return #box:marked() == 2 end)
  end)
end)

describe("The status of a daemon with a supervisor", function()
  local box = support.with_box(before_each, after_each)

  local function child_of(name)
    for _, child in ipairs(box:status("s").children) do
      if child.name == name then return child end
    end
  end

  it("shows name, command, state, restarts and last_exit of each child", function()
    box:serve "lunad.supervise { 'sleep', '1000', name = 'w', count = 2, backoff = { 0.01 } }"
    local first = child_of "w-1"
    assert.equal("sleep 1000", first.command)
    assert.equal("running", first.state)
    assert.equal(0, first.restarts)
    assert.equal(support.json.null, first.last_exit or support.json.null)
    support.kill(first.pid, "sigkill")
    local again = support.wait_for("the restart", function()
      local child = child_of "w-1"
      return child and child.restarts == 1 and child
    end)
    assert.not_equal(first.pid, again.pid)
    assert.equal("running", again.state)
    assert.equal("KILL", again.last_exit.signal)
    assert.is_false(again.last_exit.ok)
    assert.equal(0, child_of("w-2").restarts)
  end)

  it("shows what waits to be started again", function()
    box:serve "lunad.supervise { 'sh', '-c', 'exit 5', name = 'w', backoff = { 1000, 1000 } }"
    local waiting = support.wait_for("the exit", function()
      local child = child_of "w"
      return child and child.state == "waiting" and child
    end)
    assert.is_nil(waiting.pid)
    assert.equal(5, waiting.last_exit.code)
    assert.equal(0, waiting.restarts)
    assert.equal("sh -c exit 5", waiting.command)
    assert.matches("waiting", box:ok("status", "s"))
  end)
end)

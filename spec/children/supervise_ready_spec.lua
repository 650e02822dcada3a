-- lunad.supervise: when a child is ready, against a fake clock and fake children, and then with real ones.

local support = require "support"
local World = require "support.world"

describe("A supervised child", function()
  local world
  before_each(function() world = World.new() end)

  it("is ready when it has lived for half a second", function()
    world.supervise { "cmd" }
    world:pass(0.49)
    assert.is_false(world:last().ready)
    world:pass(0.02)
    assert.is_true(world:last().ready)
  end)

  it("is ready when it has lived for `ready` seconds, also none", function()
    world.supervise { "cmd", ready = 3 }
    world:pass(2.9)
    assert.is_false(world:last().ready)
    world:pass(0.2)
    assert.is_true(world:last().ready)
    world.supervise { "cmd", ready = 0 }
    world:pass(0)
    assert.is_true(world:last().ready)
  end)

  it("begins again when it is started again", function()
    world.supervise(World.patient { "cmd" })
    world:pass(0.4)
    world:exit(world:last(), 1)
    world:pass(0.1 + 0.4)
    assert.is_false(world:last().ready)
    world:pass(0.2)
    assert.is_true(world:last().ready)
  end)

  it("with `ready` a pattern is ready when a line has it", function()
    world.supervise { "cmd", ready = "^listening on %d+$" }
    local child = world:last()
    assert.equal("line", child.how)
    child.tell "now listening on 80"
    world:pass(20)
    assert.is_false(child.ready)
    child.tell "listening on 80"
    assert.is_true(child.ready)
    child.tell "more"
  end)

  it("with `ready` \"notify\" is ready when it says so", function()
    world.supervise { "cmd", ready = "notify" }
    assert.equal("notify", world:last().how)
    world:pass(20)
    assert.is_false(world:last().ready)
    world:last().tell()
    assert.is_true(world:last().ready)
  end)

  it("that is not ready within `ready_timeout`, 30 s, is left running, which is logged once", function()
    world.supervise { "cmd", ready = "x", name = "web" }
    world:pass(29.9)
    assert.equal(0, #world.ends)
    world:pass(1000)
    local level, message, fields = table.unpack(world.ends[1])
    assert.same({ "warn", "supervised child is not ready", "web", 1, 30 },
      { level, message, fields.name, fields.pid, fields.seconds })
    assert.equal(1, #world.ends)
    assert.is_nil(world:last().told)
    world:last().tell "x"
    assert.is_true(world:last().ready)
    assert.equal("supervised child is ready", world.ends[2][2])
  end)

  it("of a malformed pattern is never ready, which is logged once", function()
    world.supervise { "cmd", ready = "ready[" }
    world:last().tell "ready or not"
    world:last().tell "ready or not"
    assert.equal(1, #world.errors)
    assert.matches("malformed", world.errors[1][2].error)
    assert.is_false(world:last().ready)
  end)

  it("that another generation saw ready is ready", function()
    local spawn = world.spawn
    world.spawn = function(self, ...)
      local child = spawn(self, ...)
      child.claimed, child.ready = true, true
      return child
    end
    local supervisor = world.supervise { "cmd", ready = "notify", keep = true, name = "x" }
    world:pass(100)
    assert.equal(0, #world.ends)
    assert.equal(1, #supervisor:children())
  end)

  it("says nothing when it is being ended, or after its end", function()
    local supervisor = world.supervise { "cmd", ready = "x" }
    local first = world:last()
    local call = world:restart(supervisor)
    first.tell "x"
    assert.is_false(first.ready)
    world:exit(first, 0)
    first.tell "x"
    assert.is_nil(call.over)
    world:last().tell "x"
    assert.is_true(call.ok)
  end)

  it("has its output searched where lunad reads it, also what is thrown away", function()
    local function sink() end
    world.supervise { "cmd", ready = "x", stdout = "null", stderr = sink }
    local options = world:last().options
    assert.equal("function", type(options.stdout))
    assert.equal(sink, options.stderr)
    world.supervise { "cmd", ready = "x", stdout = 7 }
    assert.equal(7, world:last().options.stdout)
    world.supervise { "cmd", ready = "x", stdout = "inherit", stderr = "null" }
    world.supervise { "cmd", stdout = "null" }
    assert.equal("null", world:last().options.stdout)
    for _, streams in ipairs { { 7, 8 }, { "inherit", "inherit" }, { "inherit", "stdout" } } do
      assert.error_matches(function()
        world.supervise { "cmd", ready = "x", stdout = streams[1], stderr = streams[2] }
      end, "option 'ready': a pattern needs output that lunad reads")
    end
  end)

  it("refuses bad values, naming the option", function()
    local wrong = {
      ready = { -1, 0 / 0, 1 / 0, true, {}, print, "[" }, ready_timeout = { 0, -1, 0 / 0, "x", 1 / 0, true },
    }
    for option, values in pairs(wrong) do
      for _, value in ipairs(values) do
        local ok, message = pcall(world.supervise, { "cmd", [option] = value })
        assert.is_false(ok)
        assert.matches("raised: option '" .. option .. "'", message)
      end
    end
    assert.error_matches(function()
      world.supervise { "cmd", ready = "notify", env = { NOTIFY_SOCKET = "/x" } }
    end, "option 'env': NOTIFY_SOCKET is set by the option 'ready'")
    assert.equal(0, #world.children)
  end)
end)

describe("A child that is ready by a line", function()
  local box = support.with_box(before_each, after_each)

  -- Supervise a command of the shell until it is ready: what the log, and a callback for stdout, got.
  local function until_ready(command, options)
    local result = box:inside(([[
      local got = {}
      local function take(chunk) got[#got + 1] = chunk end
      local supervisor = lunad.supervise { "sh", "-c", %q, name = "w", %s }
      eventually(function() return lunad.stats().children[1].ready end)
      supervisor:stop()
      eventually(function() return #supervisor:children() == 0 end)
      io.write(table.concat(got))
    ]]):format(command, options))
    return result.err, result.out
  end

  it("is found in the log's output, of both streams, which is logged as ever", function()
    local log = until_ready("echo one; echo 'is up' >&2; echo two; exec sleep 1000", "ready = 'is up'")
    assert.matches("info  inside/w%[%d+%]: one\n", log)
    assert.matches("warn  inside/w%[%d+%]: is up\n", log)
    assert.matches("info  inside/w%[%d+%]: two\n", log)
  end)

  it("is found in what goes to a function, which gets all of it", function()
    local _, out = until_ready("printf 'a\nre'; sleep 0.02; printf 'ady\nb'; exec sleep 1000",
      "ready = '^ready$', stdout = take")
    assert.equal("a\nready\nb", out)
  end)

  it("is found in what nobody wants", function()
    local log = until_ready("echo x; echo ready; exec sleep 1000", "ready = '^ready$', stdout = 'null'")
    assert.not_matches(": x\n", log)
  end)

  it("is found in a last line without an end", function()
    until_ready("printf ready; exec sleep 1000 >/dev/null", "ready = '^ready$', stdout = take")
  end)

  it("is found in stderr that is joined to stdout", function()
    until_ready("echo ready >&2; exec sleep 1000", "ready = '^ready$', stdout = 'null', stderr = 'stdout'")
  end)

  it("is found after many lines, and the rest is not searched", function()
    until_ready("seq 20000; echo ready; seq 20000; exec sleep 1000", "ready = '^ready$', stdout = take")
  end)

  it("is not ready before, which the status shows", function()
    box:serve [[
      lunad.supervise { "sleep", "1000", name = "w", ready = "ready" }
      lunad.supervise { "sleep", "1000", name = "alive", ready = 1000 }
      lunad.spawn { "sleep", "1000", name = "alone" }
    ]]
    local function ready(name)
      for _, child in ipairs(box:status("s").children) do
        if child.name == name then return child.ready end
      end
    end
    assert.is_false(ready "w")
    assert.is_false(ready "alive")
    assert.equal(support.json.null, ready "alone" or support.json.null)
    assert.matches("child     w, pid %d+, running, [%d.]+s, not ready yet: sleep", box:ok("status", "s"))
  end)

  it("stays ready over a reload, and one that is not becomes it after the reload", function()
    local script = ([[
      local command = "printf 'is '; while ! test -e go; do sleep 0.01; done; echo up; exec sleep 1000"
      lunad.supervise { "sh", "-c", command, name = "w", keep = true, ready = "^is up$", cwd = %q }
      lunad.supervise { "sh", "-c", "echo is up; exec sleep 1000", name = "v", keep = true, ready = "is up" }
    ]]):format(box.dir)
    local function states()
      local list = {}
      for _, child in ipairs(box:status("s").children) do list[child.name] = child.ready end
      return list.w, list.v
    end
    box:serve(script)
    support.wait_for("v", function() return select(2, states()) end)
    assert.equal(0, box:reload(script).code)
    assert.same({ false, true }, { states() })
    box:write("go", "")
    support.wait_for("w", function() return (states()) end)
    assert.equal(0, box:reload(script).code)
    assert.same({ true, true }, { states() })
  end)
end)

describe("A child that is ready by sd_notify", function()
  local box = support.with_box(before_each, after_each)

  before_each(function()
    assert(os.execute(("cc -O1 -o %s %s/spec/fixtures/notifier.c"):format(box:path "notifier", support.root)))
  end)

  it("says so itself, or by a process that it has started", function()
    box:inside [[
      local function check(command)
        local supervisor = lunad.supervise { "sh", "-c", command .. "; exec sleep 1000", ready = "notify" }
        eventually(function() return lunad.stats().children[1].ready end)
        equal(true, supervisor:restart())
        supervisor:stop()
        eventually(function() return #supervisor:children() == 0 end)
      end
      check "./notifier -b READY=1"
      check "sh -c './notifier -b STATUS=up READY=1; true'"
      check "./notifier -b 'STATUS=x\nREADY=1\nMAINPID=1\n'"
      check "./notifier -b -n 30 STATUS=busy READY=1; ./notifier STATUS=done"
    ]]
  end)

  it("is not ready by anything else that it says", function()
    box:inside [[
      local sent = 0
      local words = "READY=0 READY=11 xREADY=1 ' READY=1' READY=1x ready=1 '' '\n' STATUS=READY=1 " ..
        "\"$(printf '%4200d\nREADY=1' 1)\""
      local command = "./notifier -b " .. words .. " && echo sent; exec sleep 1000"
      local supervisor = lunad.supervise { "sh", "-c", command,
        ready = "notify", stdout = function(chunk) sent = sent + (chunk and 1 or 0) end, ready_timeout = 0.3 }
      eventually(function() return sent == 1 end)
      equal(false, lunad.stats().children[1].ready)
      local ok, err = supervisor:restart()
      equal(nil, ok)
      truthy(err:find "was not ready within 0.3 s", err)
      supervisor:stop()
    ]]
  end)

  it("is not ready by what another process says, of another child or of none", function()
    local result = box:inside [[
      local address
      local function take(chunk) address = chunk and chunk:match "%S+" or address end
      local supervisor = lunad.supervise { "sh", "-c", "echo $NOTIFY_SOCKET; exec sleep 1000", name = "w",
        ready = "notify", stdout = take }
      eventually(function() return address end)
      truthy(lunad.exec { "./notifier", "-b", "-a", address, "READY=1" }.ok)
      local command = "./notifier -b -n 40 -a " .. address .. " READY=1 && echo sent"
      local other = lunad.supervise { "sh", "-c", command, name = "v", restart = "never",
        stdout = function(chunk) io.write(chunk or "") end }
      eventually(function() return #other:children() == 0 end)
      equal(false, lunad.stats().children[1].ready)
      supervisor:stop()
      eventually(function() return #supervisor:children() == 0 end)
      -- The socket is closed with the child.
      equal("refused\n", lunad.exec { "./notifier", "-a", address, "READY=1" }.stdout)
    ]]
    assert.equal("sent\n", result.out)
  end)

  it("may be a lunad", function()
    box:write("worker.lua", "require('lunad').sleep(1000)")
    box:inside(([[
      local supervisor = lunad.supervise { %q, "run", "worker.lua", count = 2, ready = "notify" }
      equal(true, supervisor:restart())
      lunad.stop()
    ]]):format(support.binary))
  end)

  it("may be another user's", function()
    if not support.is_root then
      pending "needs root"
      return
    end
    box:inside [[
      local supervisor = lunad.supervise { "sh", "-c", "./notifier -b READY=1; exec sleep 1000",
        ready = "notify", user = "nobody" }
      eventually(function() return lunad.stats().children[1].ready end)
      supervisor:stop()
    ]]
  end)

  it("keeps its socket over a reload", function()
    local script = ([[
      local command = "while ! test -e go; do sleep 0.01; done; ./notifier -b READY=1; exec sleep 1000"
      lunad.supervise { "sh", "-c", command, name = "w", keep = true, ready = "notify", cwd = %q }
    ]]):format(box.dir)
    box:serve(script)
    local pid = box:status("s").children[1].pid
    assert.equal(0, box:reload(script).code)
    assert.is_false(box:status("s").children[1].ready)
    box:write("go", "")
    support.wait_for("the child", function() return box:status("s").children[1].ready end)
    assert.equal(0, box:reload(script).code)
    local child = box:status("s").children[1]
    assert.same({ pid, true }, { child.pid, child.ready })
  end)

  it("is replaced at a reload only if it was started without a socket that is asked for now", function()
    local function script(ready)
      return ([[lunad.supervise { "sh", "-c", "echo up >&2; exec sleep 1000", name = "w", keep = true, %s }
        ]]):format(ready)
    end
    local function child()
      return support.wait_for("one child", function()
        local children = box:status("s").children
        return #children == 1 and children[1]
      end)
    end
    box:serve(script "ready = 1000")
    local pid = child().pid
    local function reload(ready)
      assert.equal(0, box:reload(script(ready)).code)
      local same = child().pid == pid
      pid = child().pid
      return same
    end
    assert.is_true(reload "ready = 'up'")
    assert.is_false(child().ready)
    assert.is_true(reload "ready = 0.01")
    support.wait_for("the child to be ready", function() return child().ready end)
    assert.is_false(reload "ready = 'notify'")
    assert.is_false(child().ready)
    assert.is_true(reload "ready = 'notify'")
    assert.is_true(reload "ready = 'up'")
    assert.is_false(child().ready)
    assert.is_true(reload "ready = 'notify'")
  end)

  it("leaves no descriptor and no socket behind, whether it could be started or not", function()
    box:inside [[
      local function sockets()
        local file <close> = io.open "/proc/net/unix"
        return select(2, file:read "a":gsub("@lunad%-" .. lunad.pid .. "%-", ""))
      end
      local function count()
        local total = 0
        local list = lunad.exec { "ls", "/proc/" .. lunad.pid .. "/fd" }.stdout
        for _ in list:gmatch "%d+" do total = total + 1 end
        return total
      end
      lunad.sleep(0.01) -- what the start has opened is closed
      fails("ENOENT", lunad.supervise { "/no/such", ready = "notify" })
      local before = count()
      for _ = 1, 10 do
        fails("ENOENT", lunad.supervise { "/no/such", ready = "notify" })
        local supervisor = lunad.supervise { "sleep", "1000", ready = "notify", count = 2 }
        truthy(sockets() >= 2)
        supervisor:stop()
        eventually(function() return #supervisor:children() == 0 end)
      end
      eventually(function() return sockets() == 0 and count() <= before end)
    ]]
  end)
end)

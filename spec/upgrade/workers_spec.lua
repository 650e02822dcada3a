-- lunad upgrade of a service with workers: they go on one after the other, and their master last.

local support = require "support"
local net = require "support.net"
local workers = require "support.workers"

-- The same program of another version.
local NEXT = support.binary .. "-next"

-- A service with a counter in each worker that is handed on, which answers over TCP, and with a kept child in
-- the first. FLAW runs when the script is loaded.
local SERVICE = [[
  local lunad, net = require "lunad", require "lunad.net"
  local state = lunad.state or { count = 0, got = 0 }
  lunad.on_reload(function() return state end)
  FLAW
  net.serve(arg[1], function(stream)
    for line in stream:lines() do
      state.count = state.count + 1
      stream:write(("%s by %d of %s at %d\n"):format(line, lunad.worker, lunad.version, state.count))
    end
  end)
  lunad.on_message("n", function(data) state.got = state.got + data end)
  lunad.on_message("note", function(data, worker) print("note " .. data .. " of " .. worker) end)
  lunad.signal("USR1", function()
    for i = 1, 200 do lunad.broadcast("n", 1) lunad.send(lunad.worker, "n", 1) end
  end)
  lunad.signal("USR2", function() print("got " .. state.got) end)
  lunad.on_stop(function(reason) lunad.send("next", "note", reason) end)
  if lunad.worker == 1 then lunad.spawn { "/bin/sleep", "1000", name = "sleep", keep = true } end
]]

describe("lunad upgrade of workers", function()
  local box = support.with_box(before_each, after_each)
  local port

  -- Start the service with COUNT workers.
  local function start(count, options, env)
    port = net.free_port()
    box:write("s.lua", (SERVICE:gsub("FLAW", "")))
    local words = { "start", "--workers", tostring(count) }
    table.move(options or {}, 1, #(options or {}), #words + 1, words)
    words[#words + 1] = box:path "s.lua"
    words[#words + 1] = "127.0.0.1:" .. port
    local result = box:run(words, { env = env })
    assert.same({ 0, "" }, { result.code, result.err })
    return box:status("s").pid
  end

  -- The pids of workers.
  local function pids(count)
    local list = {}
    for worker = 1, count do
      list[worker] = workers.pid(box, worker)
    end
    return list
  end

  -- Have a program take the service over.
  local function upgrade(program, name)
    return box:run({ "upgrade", name or "s" }, { program = program })
  end

  -- Ask once; returns the number of the worker, its version and its count.
  local function ask()
    local client = net.connect(port)
    client:send "x\n"
    local worker, version, count = client:wait "^x by (%d+) of (%S+) at (%d+)\n"
    client:close()
    return tonumber(worker), version, tonumber(count)
  end

  -- Ask until each of COUNT workers has answered; returns their versions, and the counts, by worker.
  local function ask_all(count)
    local versions, counts, known = {}, {}, 0
    support.wait_for("an answer of each worker", function()
      local worker, version, number = ask()
      known = known + (versions[worker] and 0 or 1)
      versions[worker], counts[worker] = version, number
      return known == count
    end)
    return versions, counts
  end

  it("has all go on in the same processes, with what was sent and who is connected", function()
    local master = start(3)
    local before = pids(3)
    local child = box:status("s-1").children[1].pid
    local client = net.connect(port)
    client:send "a\n"
    client:wait "a by %d of [%d.]+ at 1\n"
    local old = ask_all(3)
    for round, program in ipairs { NEXT, support.binary } do
      support.kill(before[2], "sigstop") -- what is sent to it waits
      for worker = 1, 3 do
        support.kill(before[worker], "sigusr1")
      end
      local upgrading = box:spawn({ "upgrade", "s" }, { program = program })
      upgrading.turn()
      support.kill(before[2], "sigcont")
      while not upgrading.is_over() do
        ask()
        upgrading.turn()
      end
      assert.same({ 0, "" }, { upgrading.code, upgrading.err() })
      assert.same({ master, before, child, round + 1 }, { box:status("s").pid, pids(3),
        box:status("s-1").children[1].pid, box:status("s").generation })
      local versions = ask_all(3)
      for worker = 1, 3 do
        assert.equal(round == 2, versions[worker] == old[worker])
        box:wait_log("s", ("note reload of %d"):format(worker))
      end
    end
    local _, masters = box:log("s"):gsub(
      "lunad: upgraded: lunad [^\n]*generation %d in [%d.]+ ms %(was lunad [^;\n]*%)\n", "")
    local _, all = box:log("s"):gsub("lunad: worker %d: upgraded: lunad", "")
    assert.same({ 2, 6 }, { masters, all })
    client:send "b\n"
    client:wait "b by %d of [%d.]+ at %d+\n"
    client:close()
    -- 200 of each of two others and 200 of its own, two times.
    support.wait_for("all that was sent", function()
      for worker = 1, 3 do
        support.kill(before[worker], "sigusr2")
      end
      local _, times = box:log("s"):gsub("s%-%d: got 1200\n", "")
      return times >= 3
    end)
    assert.same({ 0, 0, 0 }, { box:status("s-1").errors.count, box:status("s-2").errors.count,
      box:status("s-3").errors.count })
    -- What follows an upgrade is as ever.
    support.kill(before[3], "sigkill")
    workers.wait_next(box, 3, before[3])
    local function generations(name)
      local status = box:status(name)
      return { status.generation, status.service_generation }
    end
    assert.same({ { 3, 3 }, { 1, 3 } }, { generations "s-1", generations "s-3" })
    assert.equal(0, box:lunad("reload", "s").code)
    support.wait_for("all commits", function()
      return generations("s-1")[1] == 4 and generations("s-3")[1] == 2
    end)
    assert.same({ { 4, 4 }, { 2, 4 } }, { generations "s-1", generations "s-3" })
    assert.matches("a worker goes on as another program together with its master",
      upgrade(NEXT, "s-2").err)
    box:ok("stop", "s")
    box:wait_gone(child)
    assert.is_nil((support.uv.fs_scandir_next(support.uv.fs_scandir(box:path "run"))))
  end)

  it("changes nothing when one worker refuses", function()
    local master = start(3)
    local before = pids(3)
    local old = ask_all(3)
    box:write("s.lua", (SERVICE:gsub("FLAW", "if lunad.worker == 3 then error 'not this one' end")))
    local result = upgrade(NEXT)
    assert.equal(1, result.code)
    assert.matches("^lunad: s: not upgraded, the old program keeps running: worker 3: .*s%.lua:%d+: not this",
      result.err)
    assert.same({ master, before, 1 }, { box:status("s").pid, pids(3), box:status("s").generation })
    local versions, counts = ask_all(3)
    assert.same(old, versions)
    for worker = 1, 3 do
      assert.is_true(counts[worker] > 1)
    end
    assert.matches("lunad: upgrade refused, lunad [%d.]+ keeps running: worker 3: ", box:log "s")
    -- A worker that crashes is made of the code in force, and refuses nothing then.
    support.kill(before[3], "sigkill")
    workers.wait_next(box, 3, before[3])
    box:write("s.lua", "x = ")
    assert.matches("s%.lua:1: unexpected symbol near <eof>", upgrade(NEXT).err)
    box:write("s.lua", (SERVICE:gsub("FLAW", "lunad.sleep(0.2)")))
    -- One that crashes meanwhile becomes the program as well.
    local upgrading = box:spawn({ "upgrade", "s" }, { program = NEXT })
    box:await(upgrading, "the first worker", function()
      return box:log("s"):find "worker 1: upgraded: lunad 0.2.0%-next"
    end)
    support.kill(before[1], "sigkill")
    box:await(upgrading, "the verdict", upgrading.is_over)
    assert.same({ 0, "" }, { upgrading.code, upgrading.err() })
    for _, version in ipairs((ask_all(3))) do
      assert.equal("0.2.0-next", version)
    end
    assert.equal(master, box:status("s").pid)
  end)

  it("is refused when a worker does not hear of it, which is named; a reload follows", function()
    box:start("--workers", "2", "--stuck-after", "0.3", box:write("s.lua", support.BEAT .. [[
      if lunad.generation == 1 then
        lunad.after(0, function() while lunad.worker == 2 do end end)
      end]]))
    local before = pids(2)
    box:wait_log("s", "worker 2: a timer has held the loop")
    for _ = 1, 2 do
      assert.matches("the old program keeps running: worker 2: busy in /[^\n]*s%.lua:%d+ for [%d.]+ s\n",
        upgrade(NEXT).err)
    end
    assert.equal(1, box:status("s").generation)
    box:ok("reload", "s")
    support.kill(before[2], "sigstop")
    for _, verb in ipairs { "upgrade", "reload" } do
      assert.matches('worker 2: it is stopped by a signal %("lunad signal s%-2 CONT" lets it go on%)\n',
        box:refused(1, verb, "s"))
    end
    box:ok("signal", "s-2", "CONT")
    local result = upgrade(NEXT)
    assert.same({ 0, "" }, { result.code, result.err })
    assert.same({ before, 3 }, { pids(2), box:status("s").generation })
  end)

  local on_plain_build = support.is_sanitized() and pending or it

  on_plain_build("goes back with all workers when the master fails", function()
    local library = box:path "loop_crash.so"
    assert(os.execute(("cc -O1 -w -shared -fPIC -D_GNU_SOURCE -o %s %s/spec/fixtures/loop_crash.c"):format(
      library, support.root)))
    local master = start(2, nil, { LD_PRELOAD = library })
    local before, old = pids(2), (ask_all(2))
    local result = upgrade(NEXT)
    assert.equal(1, result.code)
    assert.matches("the new program crashed %(SIGSEGV%)", result.err)
    assert.same({ master, before, 2 }, { box:status("s").pid, pids(2), box:status("s").generation })
    assert.same(old, (ask_all(2)))
    assert.equal(0, box:lunad("reload", "s").code)
    support.kill(before[2], "sigkill")
    workers.wait_next(box, 2, before[2])
  end)

  if support.is_root then
    it("works below a keeper, for a user with fewer rights", function()
      box:shell("chmod 755 $2", { box.dir })
      local master = start(2, { "--user", "nobody", "--restart", "always" })
      local before, keeper = pids(2), support.parent_of(master)
      for _, program in ipairs { NEXT, support.binary } do
        local result = upgrade(program)
        assert.same({ 0, "" }, { result.code, result.err })
      end
      assert.same({ keeper, before, 3 }, { support.parent_of(master), pids(2), box:status("s").generation })
      assert.equal("65534", support.proc_status(before[2]).Uid:match "^%d+")
      support.kill(before[2], "sigkill")
      workers.wait_next(box, 2, before[2])
      assert.equal(0, box:lunad("reload", "s").code)
      support.kill(master, "sigkill")
      support.wait_for("the next master", function()
        local _, running = box:lunad("list", "--json").out:gsub('"state": ?"running"', "")
        return box:status("s").pid ~= master and running == 3
      end)
    end)
  end
end)

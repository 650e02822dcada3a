-- lunad upgrade: a service goes on as another program, in the same process.

local support = require "support"
local net = require "support.net"

local uv = support.uv

-- The same program of another version.
local NEXT = support.binary .. "-next"

-- A service with a counter that it hands on, a kept child that echoes lines, and a socket.
local SERVICE = [[
  local lunad = require "lunad"
  local net = require "lunad.net"
  local state = lunad.state or { count = 0 }
  local kept = lunad.keep("kept", { loads = 0 })
  kept.loads = kept.loads + 1
  lunad.on_reload(function() return state end)
  net.serve("unix:" .. arg[0]:gsub("lua$", "sock"), function(stream)
    for line in stream:lines() do
      state.count = state.count + 1
      stream:write(("%s %d %d %d\n"):format(line, lunad.generation, state.count, kept.loads))
    end
  end)
  local cat = lunad.spawn { "/bin/cat", name = "cat", keep = true, stdin = "pipe",
    stdout = lunad.by_line(function(line) print("cat: " .. line) end) }
  lunad.signal("USR1", function() cat:write("generation " .. lunad.generation .. "\n") end)
  print("loaded by " .. lunad.version)
]]

describe("lunad upgrade", function()
  local box = support.with_box(before_each, after_each)

  -- Have a program take the daemon over; its answer.
  local function upgrade(program, name)
    return box:run({ "upgrade", name or "s" }, { program = program })
  end

  -- Ask a daemon to become any program; the answer of the daemon.
  local function ask(program)
    local facts = assert(uv.fs_stat(program))
    local client = box:connect "s"
    client:send(support.json.encode { verb = "upgrade", program = program, device = facts.dev,
      inode = facts.ino } .. "\n")
    local answer = client:answer()
    client:close()
    return answer
  end

  it("has the service go on in the same process, there and back", function()
    local pid = box:start(box:write("s.lua", SERVICE))
    local status = box:status "s"
    local child = status.children[1].pid
    local before = net.connect(box:path "s.sock")
    before:send "a\n"
    before:wait "a 1 1 1\n"
    local result = upgrade(NEXT)
    assert.matches("^s: upgraded, lunad 0.2.0%-next %(was [%d.]+%), generation 2 in [%d.]+ ms\n$", result.out)
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("lunad: upgraded: lunad 0.2.0%-next, generation 2 in [%d.]+ ms", box:log "s")
    local after = box:status "s"
    assert.same({ pid, 2, child, "running" },
      { after.pid, after.generation, after.children[1].pid, after.state })
    assert.same({ status.listeners[1].address, #status.listeners },
      { after.listeners[1].address, #after.listeners })
    -- The client that was connected is served to its end by what it was connected to.
    before:send "b\n"
    before:wait "b 1 2 1\n"
    before:close()
    local client = net.connect(box:path "s.sock")
    client:send "c\n"
    client:wait "c 2 2 2\n"
    support.kill(pid, "sigusr1")
    box:wait_log("s", "cat: generation 2\n")
    assert.equal(0, upgrade(support.binary).code)
    support.kill(pid, "sigusr1")
    box:wait_log("s", "cat: generation 3\n")
    assert.same({ pid, 3, child }, { box:status("s").pid, box:status("s").generation,
      box:status("s").children[1].pid })
    client:close()
    box:ok("stop", "s")
    box:wait_gone(child)
  end)

  it("refuses what is no lunad that could take over, and changes nothing", function()
    local pid = box:start(box:write("s.lua", SERVICE))
    local before = box:status "s"
    local function program(name, text)
      local path = box:write(name, text)
      assert(uv.fs_chmod(path, tonumber("755", 8)))
      return path
    end
    local said = program("said", "#!/bin/sh\necho 'lunad: can take over 0'\n")
    local copy = box:path "copy"
    assert(uv.fs_copyfile(support.binary, copy))
    assert(uv.fs_chmod(copy, tonumber("4755", 8)))
    local cases = {
      { "/bin/true", "it is not a lunad that knows how" },
      { "/bin/false", "its trial exited with status 1" },
      { program("old", "#!/bin/sh\nexit 2\n"), "it is an older lunad, or another program, and "
        .. "does not know how: its trial exited with status 2" },
      { said, "cannot take over" },
      { program("text", "no program"), "cannot be tried: Exec format error" },
      { box:write("plain", "x"), "cannot be tried: Permission denied" },
      { copy, "it would have other rights" },
      { box:path "", "it is not a file" },
    }
    for _, case in ipairs(cases) do
      local answer = ask(case[1])
      assert.is_false(answer.ok, case[1])
      assert.truthy(answer.error:find(case[2], 1, true), answer.error)
    end
    local client = box:connect "s"
    client:send(support.json.encode { verb = "upgrade", program = NEXT, device = 1, inode = 1 }
      .. "\n")
    assert.matches("it is not the program that has asked", client:answer().error)
    client:send(support.json.encode { verb = "upgrade" } .. "\n")
    assert.matches('an upgrade needs the "program"', client:answer().error)
    client:close()
    local after = box:status "s"
    assert.same({ pid, 1, before.children[1].pid }, { after.pid, after.generation, after.children[1].pid })
    assert.equal(before.fds, after.fds)
    assert.matches("upgrade refused, lunad [%d.]+ keeps running: ", box:log "s")
  end)

  -- What the disk has when a program takes over, and what is said of it. The code that ran is needed again:
  -- its module is not on the disk any more.
  local BAD = {
    { "x = ", "s.lua:1: unexpected symbol near <eof>", trial = true },
    { 'error "boom"', "s.lua:1: boom" },
    { "os.exit(0)", "the script asked to stop before it was ready" },
    { 'require("lunad").stop()', "the script asked to stop before it was ready" },
    { "", "the script has nothing to wait for" },
    { 'require "m"', "module 'm' not found" },
    { 'local l = require "lunad" l.spawn { "/bin/sleep", "1000" } error "after a child"', "after a child" },
    { 'require("crasher").segv()', "the new program crashed (SIGSEGV)" },
    { 'require("crasher").abort()', "the new program crashed (SIGABRT)" },
    { 'require("crasher").thread()', "the new program crashed (SIGSEGV)" },
    { 'require("crasher").overflow()', "the new program crashed (SIGSEGV)" },
  }

  it("goes on with what was counted", function()
    box:start(box:write("s.lua", support.BEAT))
    box:write("s.lua", "x =")
    box:refused(1, "reload", "s")
    box:write("s.lua", support.BEAT .. "lunad.after(0, error, 'once')")
    box:refused(1, "reload", "--probation", "30", "s")
    local before = box:status "s"
    assert.equal(0, upgrade(NEXT).code)
    local after = box:status "s"
    assert.same({ before.reloads, before.errors.count, before.errors.last, before.code.rolled_back },
      { after.reloads, after.errors.count, after.errors.last, after.code.rolled_back })
    assert.matches("\n  reloads   0 ok, 1 refused, 1 undone; the last ", box:ok("status", "s"))
  end)

  it("goes back when the new program is not ready in time, whatever it does", function()
    local pid = box:start("--start-timeout", "1", box:write("s.lua", SERVICE))
    local child = box:status("s").children[1].pid
    for generation, code in ipairs { "while true do end", "(('x'):rep(1e6)):find('.-.-.-.-.-y')" } do
      box:write("s.lua", code)
      local err = upgrade(NEXT).err -- the timer may be faster than the interruption
      assert.truthy(err:find "the script took longer than 1 s" or err:find "was not ready in time", err)
      local status = box:status "s"
      assert.same({ pid, generation + 1, child }, { status.pid, status.generation, status.children[1].pid })
    end
  end)

  it("goes back to the old program and its code when the new one fails", function()
    local crasher = box:path "crasher.so"
    assert(os.execute(("cc -O1 -w -shared -fPIC -D_GNU_SOURCE $(pkg-config --cflags lua5.4) -o %s "
      .. "%s/spec/fixtures/crasher.c"):format(crasher, support.root)))
    local code = SERVICE .. ' assert(require("m") == 7)'
    local script = box:write("s.lua", code)
    box:write("m.lua", "return 7")
    local pid = box:start(script)
    assert(os.remove(box:path "m.lua"))
    local child, generation = box:status("s").children[1].pid, 1
    for _, case in ipairs(BAD) do
      box:write("s.lua", case[1])
      local result = upgrade(NEXT)
      assert.same({ 1, "" }, { result.code, result.out })
      assert.matches("^lunad: s: not upgraded, the old program keeps running: ", result.err)
      assert.truthy(result.err:find(case[2], 1, true), result.err)
      generation = generation + (case.trial and 0 or 1)
      local status = box:status "s"
      assert.same({ pid, generation, child, 1, "running" },
        { status.pid, status.generation, status.children[1].pid, #status.children, status.state })
      local client = net.connect(box:path "s.sock")
      client:send "x\n"
      client:wait("x " .. generation .. " %d+ " .. generation .. "\n")
      client:close()
    end
    support.kill(pid, "sigusr1")
    box:wait_log("s", "cat: generation " .. generation .. "\n")
    box:wait_log("s", "upgrade refused, lunad [%d.]+ keeps running, as generation 2: .*s.lua:1: boom")
    box:write("s.lua", SERVICE)
    assert.equal(0, upgrade(NEXT).code)
    assert.same({ pid, generation + 1, child }, { box:status("s").pid, box:status("s").generation,
      box:status("s").children[1].pid })
  end)

  it("ends what a failed program has started, and leaves the signals of scripts alone", function()
    local crasher = box:path "crasher.so"
    assert(os.execute(("cc -O1 -w -shared -fPIC -D_GNU_SOURCE $(pkg-config --cflags lua5.4) -o %s "
      .. "%s/spec/fixtures/crasher.c"):format(crasher, support.root)))
    local code = 'require("lunad").signal("VTALRM", function() print "alarm" end)'
    local pid = box:start(box:write("s.lua", code))
    box:write("s.lua", 'require("lunad").spawn { "/bin/sleep", "1000" } require("crasher").segv()')
    assert.matches("the new program crashed", upgrade(NEXT).err)
    local children = ("/proc/%d/task/%d/children"):format(pid, pid)
    support.wait_for("its end", function() return support.read(children) == "" end)
    box:write("s.lua", code)
    assert.equal(0, upgrade(NEXT).code)
    support.kill(pid, "sigvtalrm") -- by which the way back was timed
    box:wait_log("s", "s: alarm\n")
    assert.same({ pid, "running" }, { box:status("s").pid, box:status("s").state })
  end)

  it("loses no client, no line, no byte and no signal under load", function()
    local pid = box:start(box:write("s.lua", [[
      local lunad, net = require "lunad", require "lunad.net"
      local state = lunad.state or { lines = 0, torn = 0, signals = 0, bytes = 0 }
      lunad.on_reload(function() return state end)
      net.serve("unix:" .. arg[0]:gsub("lua$", "sock"), function(stream)
        stream:write(stream:read "line" .. "!\n")
      end)
      local counter = "i=0; while :; do i=$((i+1)); printf 'a%s' $i; printf 'b\n'; sleep 0.002; done"
      lunad.spawn { "/bin/sh", "-c", counter, name = "lines", keep = true,
        stdout = lunad.by_line(function(line)
          state.lines = state.lines + 1
          if line ~= ("a%db"):format(state.lines) then state.torn = state.torn + 1 end
        end) }
      local sink = lunad.spawn { "/bin/sh", "-c", "kill -STOP $$; cat >" .. arg[0] .. ".bytes", name = "sink",
        keep = true, stdin = "pipe" }
      if lunad.generation == 1 then sink:write(("0123456789"):rep(100000)) end
      lunad.signal("USR2", function() state.signals = state.signals + 1 end)
    ]]))
    local sent = 0
    for round = 1, 6 do
      local upgrading = box:spawn({ "upgrade", "s" }, { program = round % 2 == 1 and NEXT or support.binary })
      while not upgrading.is_over() do
        assert.equal("x!\n", (net.ask(box:path "s.sock", "x\n")))
        upgrading.turn()
      end
      assert.equal(0, upgrading.code, upgrading.err())
      support.kill(pid, "sigusr2")
      sent = sent + 1
      support.wait_for("the signal", function() return box:status("s").signals[1].count > 0 end)
    end
    local status = box:status "s"
    assert.same({ pid, 7, 0 }, { status.pid, status.generation, status.errors.count })
    for _, child in ipairs(status.children) do
      if child.name == "sink" then
        support.kill(child.pid, "sigcont")
      end
    end
    support.wait_for("all bytes", function() return #(box:read "s.lua.bytes" or "") == 1000000 end)
    box:write("s.lua", support.BEAT
      .. 'local s = lunad.state print(s.torn, s.signals, s.lines > 0, lunad.generation)')
    assert.equal(0, upgrade(NEXT).code)
    box:wait_log("s", "s: 0\t" .. sent .. "\ttrue\t8")
  end)

  it("goes on with clients of the control socket, and gives way to a stop", function()
    box:start(box:write("s.lua", SERVICE))
    local half, waiting = box:connect "s", box:connect "s"
    half:send '{"verb": '
    waiting:send '{"verb": "eval", "chunk": "require(\\"lunad\\").sleep(60)"}\n'
    support.wait_for("the chunk", function() return #box:status("s").tasks > 0 end)
    assert.equal(0, upgrade(NEXT).code)
    half:send '"status"}\n'
    assert.equal(2, half:answer().generation)
    assert.matches("went on as another program", waiting:answer().error)
    -- A program that does not even end its trial.
    local path = box:path "slow"
    local code = "int pause(void); int main(void) { return pause(); }"
    assert(os.execute(("echo '%s' | cc -x c -o %s -"):format(code, path)))
    local facts = assert(uv.fs_stat(path))
    waiting:send(support.json.encode { verb = "upgrade", program = path, device = facts.dev,
      inode = facts.ino } .. "\n")
    assert.matches("an upgrade is under way", upgrade(support.binary).err)
    box:ok("stop", "s")
    assert.equal("the daemon is stopping", waiting:answer().error)
  end)

  it("goes on with the code in force while the disk has undone code, and awaits no probation", function()
    box:serve('print("good", lunad.generation)', "--stop-timeout", "1")
    box:write("s.lua", support.BEAT .. "lunad.after(0.01, function() error 'bad' end)")
    assert.equal(1, box:lunad("reload", "--probation", "30", "s").code)
    for generation = 4, 5 do
      assert.equal(0, upgrade(generation == 4 and NEXT or support.binary).code)
      box:wait_log("s", "s: good\t" .. generation)
    end
    box:write("s.lua", support.BEAT .. "print 'mended'")
    local reload = box:spawn { "reload", "--probation", "2", "s" }
    box:wait_log("s", "mended")
    assert.matches("the code is on probation: ask again when that is over", upgrade(NEXT).err)
    box:await(reload, "the verdict", reload.is_over)
    assert.equal(0, upgrade(NEXT).code)
  end)

  it("keeps connections that wait to be taken, and the file of --state", function()
    box:serve([[
      local state = lunad.state or { loads = 0 }
      state.loads = state.loads + 1
      lunad.on_reload(function() return state end)
      require("lunad.net").serve("unix:" .. arg[0]:gsub("lua$", "sock"), function(stream)
        assert(stream:hand_on "client")
        lunad.sleep(1000)
      end)
    ]], "--state", box:path "s.state")
    local client = net.connect(box:path "s.sock")
    client:send "half "
    support.wait_for("the client", function() return box:status("s").tasks[1] end)
    local keeps = "local s = lunad.state s.loads = s.loads + 1 lunad.on_reload(function() return s end) "
    assert.equal(0, box:reload(keeps).code) -- it takes none
    box:write("s.lua", support.BEAT .. keeps .. [[
      local stream = require("lunad.net").taken "client"
      lunad.task(function() stream:write(stream:read "line" .. " at " .. s.loads) stream:close() end)
    ]])
    local before = box:status("s").state_file.time
    assert.equal(0, upgrade(NEXT).code)
    client:send "whole\n"
    client:wait "^half whole at 3$"
    client:close()
    support.wait_for("the state", function()
      local saved = box:status("s").state_file
      return saved.time and saved.time ~= before and not saved.error
    end)
    support.kill(box:status("s").pid, "sigkill")
    box:write("s.lua", support.BEAT .. "print('loads', lunad.state.loads)")
    support.wait_for("the next start", function() return box:lunad("start", "--state", box:path "s.state",
      box:path "s.lua").code == 0 end)
    box:wait_log("s", "loads\t3")
  end)

  it("hands on no state that cannot be", function()
    box:serve 'lunad.on_reload(function() return { f = print } end)'
    local result = upgrade(NEXT)
    assert.equal(1, result.code)
    assert.matches("its state cannot be handed on: state.f is a function", result.err)
    assert.same({ 1, "running" }, { box:status("s").generation, box:status("s").state })
  end)

  local as_root = support.is_root and it or pending

  as_root("works below a keeper, for a user with fewer rights and a chunk in the foreground", function()
    local pid = box:start("--user", "nobody", "--restart", "on-failure", box:idle "s")
    local keeper = support.parent_of(pid)
    for round = 2, 3 do
      local result = upgrade(round == 2 and NEXT or support.binary)
      assert.same({ 0, "" }, { result.code, result.err })
      local status = support.proc_status(pid)
      assert.same({ keeper, round }, { support.parent_of(pid), box:status("s").generation })
      assert.matches("^65534%s+65534", status.Uid)
    end
    support.kill(pid, "sigkill")
    box:wait_log("s", "restarting in 0.1 s")
    support.wait_for("the next host", function()
      local status = box:lunad("status", "--json", "s")
      return status.code == 0 and status.out:find '"state": "running"' and box:status("s").pid ~= pid
    end)
    local run = box:spawn { "run", "--name", "e", "-e",
      'require("lunad").every(60, print) print(...)', "word" }
    box:await(run, "the chunk", function() return run.out():find "word" end)
    assert.equal(0, upgrade(NEXT, "e").code)
    box:await(run, "the chunk again", function() return run.out() == "word\nword\n" end)
    box:ok("stop", "e")
  end)
end)

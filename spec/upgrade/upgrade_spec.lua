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
    client:send(support.json.encode { verb = "upgrade", program = NEXT, device = 1, inode = 1 } .. "\n")
    assert.matches("it is not the program that has asked", client:answer().error)
    client:send(support.json.encode { verb = "upgrade" } .. "\n")
    assert.matches('an upgrade needs the "program"', client:answer().error)
    client:close()
    local after = box:status "s"
    assert.same({ pid, 1, before.children[1].pid }, { after.pid, after.generation, after.children[1].pid })
    assert.equal(before.fds, after.fds)
    assert.matches("upgrade refused, lunad [%d.]+ keeps running: ", box:log "s")
  end)

  -- What the disk has when a program takes over, and what is said of it. The code that ran is needed again: its
  -- module is not on the disk any more.
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
    { "while true do end", "interrupted: the script took longer than 1 s" },
    { "(('x'):rep(1e6)):find('.-.-.-.-.-y')", "the new program was not ready in time" },
  }

  it("goes back to the old program and its code when the new one fails", function()
    local crasher = box:path "crasher.so"
    assert(os.execute(("cc -O1 -w -shared -fPIC -D_GNU_SOURCE $(pkg-config --cflags lua5.4) -o %s "
      .. "%s/spec/fixtures/crasher.c"):format(crasher, support.root)))
    local code = SERVICE .. ' assert(require("m") == 7)'
    local script = box:write("s.lua", code)
    box:write("m.lua", "return 7")
    local pid = box:start("--start-timeout", "1", script)
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
end)

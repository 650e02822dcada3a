local net = require "support.net"
local support = require "support"
local uv = support.uv

local SANITIZED = support.is_sanitized()

describe("luv as a guest", function()
  local box = support.with_box(before_each, after_each)

  it("is the installed one, in coroutines and modules too", function()
    box:write("module.lua", "return require 'luv'")
    box:inside [[
      local uv = require "luv"
      equal(uv, require "module")
      equal(uv, coroutine.wrap(function() return require "luv" end)())
      truthy(uv.version_string():find "^%d+%.%d+")
    ]]
  end)

  it("reads and closes directories, by functions and by methods", function()
    box:inside [[
      local uv = require "luv"
      local dir = assert(uv.fs_opendir("/"))
      truthy(#uv.fs_readdir(dir) == 1)
      equal(true, uv.fs_closedir(dir))
      dir = assert(uv.fs_opendir("/", nil, 5))
      truthy(#dir:readdir() > 1)
      local closed
      dir:closedir(function(err, ok) closed = not err and ok end)
      eventually(function() return closed end)
    ]]
  end)

  it("serves TCP", function()
    box:inside [[
      local uv = require "luv"
      local server, got = uv.new_tcp(), {}
      server:bind("127.0.0.1", 0)
      server:listen(8, function(err)
        equal(nil, err)
        local peer = uv.new_tcp()
        server:accept(peer)
        peer:read_start(function(_, chunk)
          if chunk then peer:write(chunk:upper()) else peer:close() server:close() end
        end)
      end)
      local client = uv.new_tcp()
      client:connect("127.0.0.1", server:getsockname().port, function(err)
        equal(nil, err)
        client:read_start(function(_, chunk)
          got[#got + 1] = chunk
          if chunk then client:close() end
        end)
        client:write "hello"
      end)
      eventually(function() return server:is_closing() end)
      equal("HELLO", table.concat(got))
    ]]
  end)

  it("resolves names", function()
    box:inside [[
      local uv, address = require "luv", nil
      uv.getaddrinfo("localhost", nil, { family = "inet" }, function(err, list)
        equal(nil, err)
        address = list[1].addr
      end)
      eventually(function() return address end)
      equal("127.0.0.1", address)
    ]]
  end)

  it("reads and writes files", function()
    box:inside(([[
      local uv, text = require "luv", nil
      uv.fs_open("%s", "w+", 420, function(err, fd)
        equal(nil, err)
        uv.fs_write(fd, "some text", 0, function()
          uv.fs_read(fd, 100, 5, function(_, data)
            text = data
            uv.fs_close(fd)
          end)
        end)
      end)
      eventually(function() return text end)
      equal("text", text)
      fails("ENOENT", uv.fs_stat "/nonexistent")
    ]]):format(box:path "file"))
  end)

  it("has timers, idle, check, prepare and async handles", function()
    box:inside [[
      local uv, calls = require "luv", {}
      for _, name in ipairs { "idle", "check", "prepare" } do
        local handle = uv["new_" .. name]()
        handle:start(function() calls[name] = true handle:close() end)
      end
      local timer = uv.new_timer()
      timer:start(1, 1, function()
        calls.timer = (calls.timer or 0) + 1
        if calls.timer == 3 then timer:close() end
      end)
      local async
      async = uv.new_async(function(value) calls.async = value async:close() end)
      async:send "sent"
      eventually(function()
        return calls.idle and calls.check and calls.prepare and calls.timer == 3 and calls.async
      end)
      equal("sent", calls.async)
    ]]
  end)

  it("has the time in callbacks of lunad: its timers are not early", function()
    box:inside [[
      local uv = require "luv"
      local late = {}
      local function arm(who)
        local timer, start = uv.new_timer(), lunad.now()
        timer:start(100, 0, function() late[#late + 1] = { who, lunad.now() - start } timer:close() end)
      end
      lunad.after(0.3, arm, "a timer")
      lunad.task(function() lunad.sleep(0.31) arm "a task" end)
      lunad.spawn { "sh", "-c", "sleep 0.4; echo x", on_exit = function() arm "a child's end" end,
        stdout = function(chunk) if chunk then arm "its output" end end }
      lunad.signal("USR1", function() arm "a signal" end)
      lunad.spawn { "sh", "-c", "sleep 0.3; kill -USR1 $0", tostring(lunad.pid) }
      eventually(function() return #late == 5 end)
      for _, entry in ipairs(late) do
        truthy(entry[2] >= 0.098, "armed by " .. entry[1] .. ", fired after " .. entry[2] .. " s")
      end
      lunad.stop()
    ]]
  end)

  it("runs work in threads", function()
    box:inside [[
      local uv, result = require "luv", nil
      uv.new_work(function(n) return n * n end, function(square) result = square end):queue(12)
      eventually(function() return result end)
      equal(144, result)
    ]]
  end)

  it("runs children of its own, which it reaps itself", function()
    box:inside [[
      local uv, status = require "luv", nil
      local child
      child = uv.spawn("sh", { args = { "-c", "exit 3" } }, function(code) status = code child:close() end)
      eventually(function() return status end)
      equal(3, status)
      equal(4, lunad.exec { "sh", "-c", "exit 4" }.code)
    ]]
  end)

  for _, name in ipairs { "run", "stop", "loop_close" } do
    it("refuses uv." .. name .. ", saying why", function()
      box:inside(([[
        local uv = require "luv"
        local message = raises("lunad runs the loop", function() uv.%s() end)
        truthy(message:find("inside.lua:2:", 1, true), message)
        truthy(message:find("uv.%s", 1, true), message)
        local fired
        uv.new_timer():start(0, 0, function() fired = true uv.walk(function(h) h:close() end) end)
        eventually(function() return fired end)
      ]]):format(name, name))
    end)
  end

  it("sees its own handles only", function()
    box:inside [[
      local uv, count = require "luv", 0
      lunad.every(1, print):stop()
      lunad.spawn { "sleep", "0.01" }
      equal(false, uv.loop_alive())
      uv.walk(function() count = count + 1 end)
      equal(0, count)
      local timer = uv.new_timer()
      timer:start(1000, 0, print)
      equal(true, uv.loop_alive())
      uv.walk(function(handle) count = count + 1 handle:close() end)
      equal(1, count)
    ]]
  end)

  it("keeps the script alive while it has something to do, and not longer", function()
    local result = box:inside [[
      local uv = require "luv"
      uv.new_timer():start(5, 0, function()
        print "timer"
        uv.fs_stat("/", function() print "stat" end)
      end)
      uv.new_idle() -- never started
    ]]
    assert.equal("timer\nstat\n", result.out)
  end)
end)

describe("a callback of luv", function()
  local box = support.with_box(before_each, after_each)

  local FAILING = [[
    local uv = require "luv"
    local function fail() error "oops" end
    local timer = uv.new_timer()
    timer:start(0, 0, function() timer:close() fail() end)
  ]]

  it("that fails is logged with its traceback, and counted", function()
    box:serve(FAILING)
    box:wait_log("s", "uncaught error in a luv callback: [^\n]*s.lua:2: oops\n%s+stack traceback:.*'fail'")
    local errors = box:status("s").errors
    assert.equal(1, errors.count)
    assert.matches("s%.lua:2: oops$", errors.last.message)
  end)

  it("that fails is shown to on_error", function()
    box:serve([[
      lunad.on_error(function(message, trace)
        lunad.log.info("seen", { message = message, traced = tostring(trace:find "stack traceback" ~= nil) })
      end)
    ]] .. FAILING)
    box:wait_log("s", 'seen message="[^"]*oops" traced=true')
  end)

  it("that fails ends the daemon with --on-error exit", function()
    local result = box:run { "run", "--on-error", "exit", box:write("s.lua", support.BEAT .. FAILING) }
    assert.equal(1, result.code)
    assert.matches("s.lua:2: oops", result.err)
  end)

  it("that fails leaves the others their turn", function()
    box:inside([[
      local uv, ticks = require "luv", 0
      local timer = uv.new_timer()
      timer:start(0, 1, function()
        ticks = ticks + 1
        if ticks == 5 then timer:close() end
        error("tick " .. ticks)
      end)
      eventually(function() return ticks == 5 end)
      equal(5, lunad.stats().errors.count)
    ]], { errors = true })
  end)

  it("may fail with any value", function()
    local result = box:inside([[
      local uv, calls = require "luv", 0
      local errors = { nil, {}, 42, setmetatable({}, { __tostring = function() error "worse" end }) }
      for i = 1, 4 do
        uv.new_timer():start(0, 0, function() calls = calls + 1 error(errors[i]) end)
      end
      eventually(function() return calls == 4 end)
      equal(4, lunad.stats().errors.count)
      uv.walk(function(handle) handle:close() end)
    ]], { errors = true })
    assert.matches("42", result.err)
  end)

  it("may sleep, wait, and run commands, while the others continue", function()
    box:inside [[
      local uv, order = require "luv", {}
      local timer = uv.new_timer()
      timer:start(0, 0, function()
        order[#order + 1] = "begin"
        lunad.sleep(0.02)
        order[#order + 1] = lunad.exec { "echo", "command" }.stdout
        order[#order + 1] = lunad.task(function() lunad.sleep(0.001) return "task" end):wait()
        timer:close()
      end)
      local other = uv.new_timer()
      other:start(2, 0, function() order[#order + 1] = "other" other:close() end)
      eventually(function() return timer:is_closing() end)
      equal("begin other command\n task", table.concat(order, " "))
    ]]
  end)

  it("shows as a task while it sleeps, and keeps the script alive", function()
    local result = box:inside [[
      local uv = require "luv"
      local timer = uv.new_timer()
      timer:start(0, 0, function()
        timer:close()
        lunad.sleep(0.03)
        print(#lunad.stats().tasks)
      end)
    ]]
    assert.equal("1\n", result.out)
  end)

  it("may call os.exit, lunad.stop and lunad.reload", function()
    local result = box:run { "run", "-e", [[
      require "luv".new_timer():start(0, 0, function() os.exit(7) end)
    ]] }
    assert.equal(7, result.code)
    result = box:run { "run", "-e", [[
      require "luv".new_timer():start(0, 0, function() require "lunad".stop(6) end)
    ]] }
    assert.equal(6, result.code)
    box:serve [[
      local timer = require "luv".new_timer()
      if lunad.generation == 1 then timer:start(0, 0, lunad.reload) end
    ]]
    box:wait_log("s", "reloaded: generation 2")
  end)
end)

describe("timers, tasks and luv", function()
  local box = support.with_box(before_each, after_each)

  it("interleave fairly under load: none starves", function()
    box:inside [[
      local uv, counts, done = require "luv", { timer = 0, task = 0, luv = 0, tcp = 0, idle = 0 }, false
      local function again() counts.timer = counts.timer + 1 if not done then lunad.after(0, again) end end
      again()
      lunad.task(function() while not done do counts.task = counts.task + 1 lunad.sleep(0) end end)
      local timer = uv.new_timer()
      timer:start(0, 1, function() counts.luv = counts.luv + 1 end)
      local idle = uv.new_idle()
      idle:start(function() counts.idle = counts.idle + 1 end)
      local pair = uv.socketpair(nil, nil, { nonblock = true }, { nonblock = true })
      local one, two = uv.new_tcp(), uv.new_tcp()
      one:open(pair[1]) two:open(pair[2])
      for _, side in ipairs { one, two } do
        side:read_start(function(_, chunk)
          if chunk then counts.tcp = counts.tcp + 1 side:write(chunk) end
        end)
      end
      one:write "ball"
      eventually(function()
        for _, count in pairs(counts) do if count < 100 then return false end end
        return true
      end)
      done = true
      for _, handle in ipairs { timer, idle, one, two } do handle:close() end
    ]]
  end)

  it("are all served while one of them is busy without end", function()
    box:inside [[
      local uv, beats = require "luv", 0
      local idle = uv.new_idle()
      idle:start(function() local start = lunad.now() while lunad.now() - start < 0.0005 do end end)
      local beat = lunad.every(0.005, function() beats = beats + 1 end)
      eventually(function() return beats >= 20 end)
      idle:close()
      beat:stop()
    ]]
  end)

  for what, text in pairs {
    ["no handles"] = "",
    ["handles that wait"] = [[
      uv.new_timer():start(3600000, 0, print)
      local server = uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(1, print)
    ]],
    ["handles that keep nothing alive"] = [[
      local timer, server = uv.new_timer(), uv.new_tcp()
      timer:start(3600000, 0, print)
      server:bind("127.0.0.1", 0)
      server:listen(1, print)
      timer:unref()
      server:unref()
    ]],
  } do
    it("do not wake the loop needlessly when luv has " .. what, function()
      local pid = box:serve("local uv = require 'luv' local n = 0 " .. text ..
        " lunad.every(0.2, function() n = n + 1 print('beat ' .. n) end)")
      local function turns()
        local status = support.read(("/proc/%d/status"):format(pid))
        return tonumber(status:match "\nvoluntary_ctxt_switches:%s+(%d+)") +
          tonumber(status:match "\nnonvoluntary_ctxt_switches:%s+(%d+)")
      end
      local before = turns()
      box:wait_log("s", "beat 5")
      assert.is_true(turns() - before < 60, "it woke up " .. turns() - before .. " times")
      local stat = support.read(("/proc/%d/stat"):format(pid)):match "%) (.*)"
      local user, system = stat:match(("%S+ "):rep(11) .. "(%d+) (%d+)")
      assert.is_true(tonumber(user) + tonumber(system) < 40, "it has used the processor")
    end)
  end

  it("are served though they keep nothing alive, while something else does", function()
    box:inside [[
      local uv, fired, connected = require "luv", false, false
      local timer = uv.new_timer()
      timer:start(5, 0, function() fired = true end)
      timer:unref()
      local server, client = uv.new_tcp(), uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(1, function() connected = true end)
      server:unref()
      equal(false, uv.loop_alive())
      eventually(function() return fired end)
      client:connect("127.0.0.1", server:getsockname().port, function() client:close() end)
      client:unref()
      eventually(function() return connected end)
    ]]
  end)

  it("of a new generation are served at once, though nothing else wakes the loop", function()
    local script = box:write("s.lua", "local lunad = require 'lunad' " .. net.SERVE .. "serve '127.0.0.1:0'")
    local pid = box:start(script)
    local port = net.port(box, "s")
    for generation = 2, 4 do
      support.kill(pid, "sighup")
      box:wait_log("s", "reloaded: generation " .. generation)
      assert.equal(("generation %d\n"):format(generation), (net.ask(port)))
    end
  end)

  it("that on_stop has made are served at once, though nothing else wakes the loop", function()
    local script = box:write("s.lua", "local lunad = require 'lunad' " .. [[
      local uv = require "luv"
      uv.new_timer():start(3600000, 0, print)
      lunad.on_stop(function()
        local done
        uv.new_timer():start(5, 0, function() done:cancel() end)
        done = lunad.task(function() lunad.sleep(60) end)
        done:wait()
        lunad.log.info "on_stop is done"
      end)
    ]])
    support.kill(box:start(script), "sighup")
    box:wait_log("s", "on_stop is done")
  end)
end)

describe("what a generation has of luv", function()
  local box = support.with_box(before_each, after_each)

  local MANY = [[
    local uv = require "luv"
    for _ = 1, 3 do
      uv.new_timer():start(1, 1, function() end)
      uv.new_idle()
      uv.new_async(print)
      uv.new_signal():start("sigwinch", print)
      uv.new_fs_event():start("/tmp", {}, print)
      local udp = uv.new_udp()
      udp:bind("127.0.0.1", 0)
      udp:recv_start(print)
      local server = uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(8, print)
    end
    uv.fs_stat("/", function() end)
  ]]

  local function fds() return box:status("s").fds end

  it("closes with it", function()
    box:serve(MANY)
    local before = fds()
    for _ = 1, 10 do box:ok("reload", "s") end
    support.wait_for("the same descriptors", function() return fds() == before end)
    assert.same({}, box:status("s").retiring)
  end)

  it("is undone if the new generation fails", function()
    box:serve "require 'luv'"
    local before = fds()
    for _ = 1, 5 do assert.equal(1, box:reload(MANY .. "error 'x'").code) end
    support.wait_for("the same descriptors", function() return fds() == before end)
    assert.same({}, box:status("s").retiring)
  end)

  it("ends with the daemon, also children of luv", function()
    box:serve "require('luv').spawn('sleep', { args = { '600' } }, print)"
    assert.equal(2, #box:marked())
    box:ok("stop", "s")
    support.wait_for("the end of the child", function() return #box:marked() == 0 end)
  end)

  it("may be a callback that sleeps, which ends with it", function()
    box:serve [[
      local uv = require "luv"
      local timer = uv.new_timer()
      timer:start(0, 0, function()
        local witness <close> = setmetatable({}, { __close = function() lunad.log.info "closed" end })
        print("sleeps " .. lunad.generation)
        lunad.sleep(60)
        print "woken"
      end)
    ]]
    for generation = 1, 3 do
      box:wait_log("s", "sleeps " .. generation .. "\n")
      box:ok("reload", "s")
      box:wait_log("s", ("closed.*"):rep(generation))
    end
    assert.not_matches("woken", box:log "s")
    assert.equal(0, box:status("s").errors.count)
  end)

  it("may be a connection, which is served to its end by the old code", function()
    box:serve(net.ECHO .. "serve '127.0.0.1:0'")
    local port = net.port(box, "s")
    local old = net.connect(port):send "one"
    old:wait "1:one"
    box:ok("reload", "s")
    local new = net.connect(port):send "two"
    new:wait "2:two"
    old:send("three"):wait "1:three"
    local retiring = box:status("s").retiring
    assert.equal(1, #retiring)
    assert.equal(1, retiring[1].generation)
    assert.is_true(retiring[1].handles >= 1)
    old:finish():wait_end()
    support.wait_for("the end of generation 1", function() return #box:status("s").retiring == 0 end)
    new:send("four"):wait "2:four"
    new:close()
  end)

  it("may be connections of many generations at once", function()
    box:serve(net.ECHO .. "serve '127.0.0.1:0'")
    local port, clients = net.port(box, "s"), {}
    for i = 1, 5 do
      clients[i] = net.connect(port):send "a"
      clients[i]:wait(i .. ":a")
      box:ok("reload", "s")
    end
    assert.equal(5, #box:status("s").retiring)
    for i = 1, 5 do clients[i]:send("b"):wait(i .. ":b") end
    for i = 5, 1, -1 do clients[i]:finish():wait_end() end
    support.wait_for("the end of the old", function() return #box:status("s").retiring == 0 end)
  end)

  it("is given up after --stop-timeout", function()
    box:serve(net.ECHO .. "serve '127.0.0.1:0'", "--stop-timeout", "0.3")
    local client = net.connect(net.port(box, "s")):send "one"
    client:wait "1:one"
    box:ok("reload", "s")
    client:wait_end()
    support.wait_for("the end of generation 1", function() return #box:status("s").retiring == 0 end)
  end)

  it("may be finished by on_stop, while the new generation serves", function()
    box:serve(net.ECHO .. [[
      serve '127.0.0.1:0'
      lunad.on_stop(function(reason)
        repeat lunad.sleep(0.002) local go = io.open(lunad.script .. ".go") until go
        for client in pairs(clients) do
          client:write("bye for " .. reason)
          client:shutdown(function() client:close() end)
        end
      end)
    ]])
    local client = net.connect(net.port(box, "s")):send "one"
    client:wait "1:one"
    box:ok("reload", "s")
    assert.is_true(box:status("s").retiring[1].stopping)
    local other = net.connect(net.port(box, "s")):send "two"
    other:wait "2:two"
    box:write("s.lua.go", "")
    client:wait "bye for reload"
    other:close()
  end)
end)

describe("requests of luv that are in flight at a reload", function()
  local box = support.with_box(before_each, after_each)

  -- Four reads of a pipe in which nothing comes fill the threads; a name, a file and work wait for
  -- them. The state tells when it is closed.
  local HELD = [[
    local uv = require "luv"
    if lunad.generation == 1 then
      for _ = 1, 4 do
        local fd = assert(uv.fs_open(lunad.script .. ".pipe", "r+", 0))
        uv.fs_read(fd, 1, -1, function() print "old read" end)
      end
      uv.getaddrinfo("localhost", nil, {}, function() print "old name" end)
      uv.fs_stat("/", function() print "old stat" end)
      uv.new_work(function() return 1 end, function() print "old work" end):queue()
      witness = setmetatable({}, { __gc = function() lunad.log.info "old state closed" end })
    else
      lunad.signal("USR1", function() print("new one here") end)
    end
  ]]

  local function begin()
    assert(os.execute("mkfifo " .. box:path "s.lua.pipe"))
    return box:serve(HELD)
  end

  local function release()
    box:write("s.lua.pipe", "1234")
  end

  it("do not delay the new generation, and end when they are done", function()
    local pid = begin()
    box:ok("reload", "s")
    support.kill(pid, "sigusr1")
    box:wait_log("s", "new one here")
    assert.not_matches("old state closed", box:log "s")
    release()
    box:wait_log("s", "old state closed")
    assert.not_matches(": old [rnsw]", (box:log("s"):gsub("old state", "")))
  end)

  it("may be those of many generations", function()
    begin()
    for _ = 1, 5 do
      box:write("s.lua", support.BEAT .. HELD:gsub("lunad.generation == 1", "lunad.generation < 6"))
      box:ok("reload", "s")
    end
    box:write("s.lua.pipe", ("x"):rep(64))
    box:wait_log("s", ("old state closed.*"):rep(5))
  end)

  it("do not hold a generation that fails either", function()
    local pid = box:serve "lunad.signal('USR1', function() print 'still here' end)"
    assert(os.execute("mkfifo " .. box:path "s.lua.pipe"))
    assert.equal(1, box:reload(HELD:gsub("lunad.generation == 1", "true") .. "error 'x'").code)
    support.kill(pid, "sigusr1")
    box:wait_log("s", "still here")
    release()
    box:wait_log("s", "old state closed")
  end)

  it("do not hold up a stop for longer than --stop-timeout", function()
    assert(os.execute("mkfifo " .. box:path "s.lua.pipe"))
    local listen = ("assert(lunad.listen 'unix:%s')"):format(box:path "u.sock")
    local pid = box:serve(listen .. HELD, "--stop-timeout", "0.5")
    support.kill(pid, "sigterm")
    box:wait_gone(pid)
    assert.same({}, box:left_files())
    assert.is_nil(uv.fs_lstat(box:path "u.sock"))
  end)
end)

describe("many reloads of a script with luv", function()
  local box = support.with_box(before_each, after_each)

  it("do not leak", function()
    box:serve [[
      local uv = require "luv"
      uv.new_timer():start(1, 1, function() end)
      uv.new_work(function() end, function() end):queue()
      uv.getaddrinfo("localhost", nil, {}, function() end)
      uv.fs_open(lunad.script, "r", 0, function(_, fd)
        uv.fs_read(fd, 10, 0, function() uv.fs_close(fd) end)
      end)
    ]]
    local client = box:connect "s"
    local times = SANITIZED and 60 or 1100
    for _ = 1, times do assert.is_true(client:ask("reload").ok) end
    local status = client:ask "status"
    assert.equal(times + 1, status.generation)
    assert.equal(times, status.reloads.ok)
    assert.equal(0, status.errors.count)
  end)
end)

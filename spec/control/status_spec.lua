local support = require "support"

local uv = support.uv

local KEYS = {
  name = "string", pid = "number", script = "string", mode = "string", state = "string", ready = "boolean",
  uptime = "number", generation = "number", reloads = "table", errors = "table", memory = "table",
  loop = "table", timers = "table", signals = "table", children = "table", tasks = "table", log = "table",
  fds = "number",
}

-- The only element of a list in the report that satisfies a condition.
local function one(list, condition)
  local found
  for _, item in ipairs(list) do
    if condition(item) then
      assert(not found, "more than one")
      found = item
    end
  end
  return assert(found, "none")
end

local function at_line(line)
  return function(item)
    return item.where:match ":(%d+)$" == tostring(line)
  end
end

describe("the status report", function()
  local box = support.with_box(before_each, after_each)

  it("has every key, with its type", function()
    box:serve "lunad.status 'text'"
    local status = box:status "s"
    for key, kind in pairs(KEYS) do
      assert.equal(kind, type(status[key]), key)
    end
    assert.equal("text", status.text)
  end)

  it("has null for what is missing", function()
    box:serve ""
    local text = box:ok("status", "--json", "s"):gsub("%s+", "")
    for _, pair in ipairs { '"text":null', '"limit":null', '"last":null', '"signals":%[%]', '"tasks":%[%]',
      '"children":%[%]' } do
      assert.matches(pair, text)
    end
  end)

  it("tells name, pid and script", function()
    local pid = box:serve("", "-n", "other")
    local status = box:status "other"
    assert.same({ "other", pid, box:path "s.lua", "daemon", "running", true, 1 }, { status.name, status.pid,
      status.script, status.mode, status.state, status.ready, status.generation })
    assert.is_true(support.is_alive(status.pid))
    box:ok("reload", "other")
    assert.equal(2, box:status("other").generation)
  end)

  it("is the same for run as for start", function()
    local process = box:spawn { "run", box:write("s.lua", support.BEAT) }
    support.wait_for("the service", function() return box:lunad("status", "s").code == 0 end)
    local status = box:status "s"
    assert.equal("foreground", status.mode)
    assert.equal(process.pid, status.pid)
    assert.equal("stderr", status.log.file)
    box:ok("stop", "s")
    box:await(process, "the end", process.is_over)
  end)

  it("tells how long it is up", function()
    local before = uv.hrtime()
    box:serve ""
    local first = box:status("s").uptime
    local second = support.wait_for("time to pass", function()
      local uptime = box:status("s").uptime
      return uptime > first and uptime
    end)
    assert.is_true(first >= 0 and second <= (uv.hrtime() - before) / 1e9)
  end)

  it("tells in words whether it runs, and its pid", function()
    local pid = box:serve "lunad.status 'three clients'\nlunad.task(function() lunad.sleep(60) end)"
    local text = box:ok("status", "s")
    for _, part in ipairs { "^s: running, pid " .. pid .. ",", "three clients", "s%.lua", "s%.lua:1",
      "s%.lua:2", "s%.log" } do
      assert.matches(part, text)
    end
  end)

  it("tells of one that dies while it is asked that it is dead", function()
    -- Holds its loop until a client asks, then dies without an answer.
    local text = [[
      lunad.after(0, function()
        local asked
        repeat
          asked = 0
          for line in io.lines "/proc/net/unix" do
            asked = asked + (line:find("/s.sock", 1, true) and line:find(BOX, 1, true) and 1 or 0)
          end
        until asked > 1
        lunad.kill(lunad.pid, "KILL")
      end)
    ]]
    text = text:gsub("BOX", ("%q"):format(box:path("run")))
    box:serve(text)
    local result = box:lunad("status", "s")
    assert.matches("^s: dead, but its pidfile is there", result.out)
    assert.equal(1, result.code)
    box:ok("stop", "s")
    box:serve(text)
    result = box:lunad("status", "--json", "s")
    assert.equal("dead", support.json.decode(result.out).state)
    assert.equal(1, result.code)
    box:ok("stop", "s")
    box:serve(text)
    assert.matches("\ns +%- +dead +%- ", box:ok "list")
    box:ok("stop", "s")
  end)

  it("is an array for several names", function()
    box:serve("", "-n", "a")
    box:serve("", "-n", "b")
    local list = assert(support.json.decode(box:ok("status", "--json", "a", "b")))
    assert.equal(2, #list)
    assert.same({ "a", "b" }, { list[1].name, list[2].name })
  end)

  it("is what lunad.stats returns", function()
    box:inside [[
      lunad.task(function() lunad.sleep(0.001) end)
      local stats = lunad.stats()
      equal(lunad.pid, stats.pid)
      equal(lunad.name, stats.name)
      equal("foreground", stats.mode)
      equal("integer", math.type(stats.generation))
      equal("float", math.type(stats.uptime))
      equal(nil, stats.text)
      equal(1, #stats.tasks)
      truthy(stats.memory.lua > 0 and #stats.timers == 0 and stats.fds > 0)
    ]]
  end)
end)

describe("the report on timers", function()
  local box = support.with_box(before_each, after_each)

  it("has where, kind, interval, due, runs, missed and errors", function()
    box:serve "\nlunad.after(60, function() end)\nlunad.every(0.01, function() end)"
    local after = one(box:status("s").timers, at_line(2))
    assert.equal(box:path "s.lua" .. ":2", after.where)
    assert.equal("after", after.kind)
    assert.is_nil(after.interval)
    assert.is_true(after.due > 30 and after.due <= 60)
    assert.same({ 0, 0, 0 }, { after.runs, after.missed, after.errors })
    local every = one(box:status("s").timers, at_line(3))
    assert.equal("every", every.kind)
    assert.equal(0.01, every.interval)
    assert.is_true(every.due >= 0 and every.due <= 0.01)
  end)

  it("counts runs", function()
    box:serve "\nlocal n = 0 lunad.every(0.005, function() n = n + 1 print('run ' .. n .. '.') end)"
    box:wait_log("s", "run 10%.")
    local reported = one(box:status("s").timers, at_line(2)).runs
    local logged = select(2, box:log("s"):gsub("run %d+%.", ""))
    assert.is_true(reported >= 10 and reported <= logged)
  end)

  it("counts missed beats", function()
    local pid = box:serve [[
      lunad.every(0.01, function() end)
      lunad.signal("USR1", function()
        local t = lunad.now() while lunad.now() - t < 0.1 do end
        print "was busy"
      end)
    ]]
    support.kill(pid, "sigusr1")
    box:wait_log("s", "was busy")
    support.wait_for("missed beats", function()
      return one(box:status("s").timers, function(timer) return timer.interval == 0.01 end).missed >= 8
    end)
  end)

  it("counts errors", function()
    box:serve "\nlocal n = 0 lunad.every(0.005, function() n = n + 1 if n <= 3 then error 'x' end end)"
    support.wait_for("runs", function() return one(box:status("s").timers, at_line(2)).runs > 3 end)
    assert.equal(3, one(box:status("s").timers, at_line(2)).errors)
    assert.equal(3, box:status("s").errors.count)
  end)

  it("names the line of the function also when it has arguments", function()
    box:serve "local function named(a)\n return a end\nlunad.after(60, named, 1, 2)"
    one(box:status("s").timers, function(timer)
      return timer.kind == "after" and at_line(1)(timer)
    end)
  end)

  it("has only those that are armed", function()
    box:serve [[
      lunad.after(60, print):stop()
      lunad.after(0.01, function() print "fired" end)
    ]]
    box:wait_log("s", "fired")
    assert.equal(1, #box:status("s").timers)
  end)
end)

describe("the report on signals", function()
  local box = support.with_box(before_each, after_each)

  it("has the name of each that has a handler, and its deliveries", function()
    local pid = box:serve [[
      lunad.signal("USR1", function() print "got USR1" end)
      lunad.signal("SIGUSR2", function() end)
      lunad.signal("HUP", function() end):stop()
    ]]
    for i = 1, 3 do
      support.kill(pid, "sigusr1")
      box:wait_log("s", ("got USR1.*"):rep(i))
    end
    assert.same({ { name = "USR1", count = 3 }, { name = "USR2", count = 0 } }, box:status("s").signals)
  end)
end)

describe("the report on children", function()
  local box = support.with_box(before_each, after_each)

  it("has name, pid, command, state, seconds, restarts, keep and last_exit", function()
    box:serve "lunad.spawn { 'sleep', '600', name = 'sleeper' }"
    local child = one(box:status("s").children, function(item) return item.name == "sleeper" end)
    assert.equal("sleep 600", child.command)
    assert.equal("running", child.state)
    assert.is_true(support.is_alive(child.pid))
    assert.is_true(child.seconds >= 0 and child.seconds < 600)
    assert.equal(0, child.restarts)
    assert.is_false(child.keep)
    assert.is_nil(child.last_exit)
  end)

  it("has only those that have not finished", function()
    box:serve "lunad.spawn { 'true', on_exit = function() print 'exited' end }"
    box:wait_log("s", "exited")
    support.wait_for("no children", function() return #box:status("s").children == 0 end)
  end)

  it("can have any byte in a command", function()
    box:serve [[lunad.spawn { "sh", "-c", "sleep 600", "\xFF\n\27[31m \"x\"" }]]
    local command = box:status("s").children[1].command
    assert.equal("sh -c sleep 600 \u{FFFD}\n\27[31m \"x\"", command)
    assert.not_matches("\27", box:ok("status", "s"))
  end)
end)

describe("the report on tasks", function()
  local box = support.with_box(before_each, after_each)

  it("has where each is suspended, and in what", function()
    box:serve("local sleeper = lunad.task(function()\n lunad.sleep(60)\n end)\n" ..
      "lunad.task(function()\n sleeper:wait()\n end)\n" ..
      "lunad.task(function()\n lunad.exec { 'sleep', '600' }\n end)\n" ..
      "lunad.sleep(60)")
    local tasks = box:status("s").tasks
    assert.equal(4, #tasks)
    assert.equal("sleep", one(tasks, at_line(2)).state)
    assert.equal("wait", one(tasks, at_line(5)).state)
    assert.is_truthy(one(tasks, at_line(8)).state)
    assert.equal("sleep", one(tasks, at_line(10)).state)
    assert.equal(box:path "s.lua" .. ":2", one(tasks, at_line(2)).where)
  end)

  it("has only those that have not ended", function()
    box:serve "lunad.task(function() lunad.sleep(0.01) print 'ended' end) lunad.task(function() end)"
    box:wait_log("s", "ended")
    assert.same({}, box:status("s").tasks)
  end)
end)

describe("the report on errors", function()
  local box = support.with_box(before_each, after_each)

  it("counts them, and has message and time of the last", function()
    local pid = box:serve "local n = 0\nlunad.signal('USR1', function() n = n + 1\n error('error ' .. n) end)"
    assert.equal(0, box:status("s").errors.count)
    for i = 1, 3 do
      support.kill(pid, "sigusr1")
      box:wait_log("s", "error " .. i)
    end
    local errors = box:status("s").errors
    assert.equal(3, errors.count)
    assert.matches("s%.lua:3: error 3$", errors.last.message)
    assert.is_true(math.abs(os.time() - errors.last.time) < 60)
  end)

  it("continues counting over reloads", function()
    box:serve "lunad.after(0.01, error, 'x')"
    support.wait_for("an error", function() return box:status("s").errors.count == 1 end)
    box:ok("reload", "s")
    support.wait_for("another error", function() return box:status("s").errors.count == 2 end)
  end)

  it("has invalid UTF-8 replaced", function()
    box:serve [[lunad.after(0.01, error, "bad \xFF byte")]]
    support.wait_for("the error", function() return box:status("s").errors.count == 1 end)
    assert.equal("bad \u{FFFD} byte", box:status("s").errors.last.message)
  end)
end)

describe("the report on resources", function()
  local box = support.with_box(before_each, after_each)

  it("has the bytes of the Lua heap and of the process", function()
    local pid = box:serve "big = ('x'):rep(10000000)"
    local memory = box:status("s").memory
    assert.is_true(memory.lua > 10000000 and memory.lua < 11000000)
    local resident = tonumber(support.proc_status(pid).VmRSS:match "%d+") * 1024
    assert.is_true(math.abs(memory.rss - resident) < 2 * 1024 * 1024)
  end)

  it("has the number of descriptors", function()
    local pid = box:serve "files = {} for i = 1, 10 do files[i] = io.open('/dev/null') end"
    local client = box:connect "s" -- so that nothing comes or goes between the two
    local told = client:ask("status").fds
    assert.equal(support.count_fds(pid), told)
    assert.is_true(told > 10)
  end)

  it("has the lag of the loop", function()
    local pid = box:serve [[
      lunad.every(0.002, function() end)
      lunad.signal("USR1", function()
        local t = lunad.now() while lunad.now() - t < 0.2 do end
        print "was busy"
      end)
    ]]
    support.kill(pid, "sigusr1")
    box:wait_log("s", "was busy")
    local loop = support.wait_for("the lag", function()
      local got = box:status("s").loop
      return got.lag_max_ms >= 150 and got
    end)
    assert.is_true(loop.lag_p50_ms >= 0 and loop.lag_p50_ms <= loop.lag_p99_ms)
    assert.is_true(loop.lag_p99_ms <= loop.lag_max_ms * 1.5)
  end)

  it("has file and level of the log, and no line dropped", function()
    box:serve("", "--log-level", "debug")
    assert.same({ file = box:path "log/s.log", level = "debug", dropped = 0 }, box:status("s").log)
  end)

  it("is \"none\" without a log", function()
    box:serve("", "--log", "none")
    assert.equal("none", box:status("s").log.file)
  end)
end)

describe("the status of a task that a timer has begun", function()
  local box = support.with_box(before_each, after_each)

  it("has the name that the timer had then", function()
    box:serve [[
      function name(word) timer:name(word .. " of " .. tostring({})) end
      timer = lunad.every(0.01, function() lunad.sleep(1000) end)
      name "first"
    ]]
    support.wait_for("the task", function() return #box:status("s").tasks == 1 end)
    box:ok("eval", "s", "name 'second' collectgarbage() for i = 1, 10000 do local s = 'x' .. i end")
    local names = {}
    for _, timer in ipairs(box:status("s").timers) do
      names[#names + 1] = timer.name
    end
    assert.matches("^second of ", table.concat(names, " "))
    assert.matches("^first of ", box:status("s").tasks[1].name)
    box:ok("eval", "s", "timer:stop() collectgarbage()")
    assert.matches("^first of ", box:status("s").tasks[1].name)
  end)
end)

describe("the status of a service with odd names", function()
  local box = support.with_box(before_each, after_each)

  for what, dir in pairs {
    ["spaces and quotes"] = "a \"b\" 'c' \\d", ["a newline and ESC"] = "a\nb\27[31m",
    ["UTF-8"] = "\u{e9}\u{1f600}", ["bytes that are no UTF-8"] = "a\xFFb",
  } do
    it("is shown: a script's path with " .. what, function()
      assert(uv.fs_mkdir(box:path(dir), tonumber("755", 8)))
      local path = box:write(dir .. "/s.lua", support.BEAT .. "\nlunad.task(function() lunad.sleep(60) end)")
      box:start("--log", box:path(dir .. "/s.log"), path)
      local status = box:status "s"
      assert.equal(path:gsub("\xFF", "\u{FFFD}"), status.script)
      assert.equal(path:gsub("\xFF", "\u{FFFD}") .. ":1", status.timers[1].where)
      assert.equal(path:gsub("\xFF", "\u{FFFD}") .. ":2", status.tasks[1].where)
      assert.equal(box:path(dir .. "/s.log"):gsub("\xFF", "\u{FFFD}"), status.log.file)
      assert.not_matches("\27", box:ok("status", "s"))
    end)
  end
end)

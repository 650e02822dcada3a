-- --memory-limit: what a script meets that asks for more, and what works all the same.

local support = require "support"
local net = require "support.net"

local MB = 1024 * 1024

-- Begins a script: `hog()` asks for memory until there is none; `fill()` keeps all that there is, in
-- pieces down to the smallest.
local BOMBS = [[
  local function hog()
    local list = {}
    while true do list[#list + 1] = ("x"):rep(1000) .. #list end
  end
  local function fill()
    local size = 1 << 20
    while size >= 32 do
      local ok = pcall(function()
        while true do kept = { kept, ("x"):rep(size) } end
      end)
      size = size // 2
    end
  end
]]

local REACHED = "not enough memory %(the Lua heap has reached its %-%-memory%-limit of "
local LIMIT = "--memory-limit"

describe("--memory-limit", function()
  local box = support.with_box(before_each, after_each)

  -- Start the daemon "s" with a limit, of 4 MB unless another one is given.
  local function serve(text, limit)
    return box:serve(BOMBS .. text, LIMIT, limit or "4M")
  end

  it("is null in the status without the option, else the number of bytes", function()
    box:serve ""
    assert.is_nil(box:status("s").memory.limit)
    assert.matches('"limit":%s*null', box:ok("status", "--json", "s"))
    box:ok("stop", "s")
    serve ""
    local memory = box:status("s").memory
    assert.equal(4 * MB, memory.limit)
    assert.is_true(memory.lua > 0 and memory.lua < memory.limit)
    assert.matches("memory    %d+ KiB Lua of 4.0 MiB, ", box:ok("status", "s"))
  end)

  for _, value in ipairs { "0", "-1", "x", "1T", "" } do
    it(("does not take %q"):format(value), function()
      local result = box:lunad("start", LIMIT, value, box:idle "s")
      assert.equal(2, result.code)
      assert.truthy(result.err:find(('--memory-limit: "%s" is not a size above 0'):format(value), 1, true))
    end)
  end

  for name, bomb in pairs {
    ["a table that grows"] = "local t = {} for i = 1, 1e9 do t[i] = i end",
    ["a string that doubles"] = "local s = 'x' while true do s = s .. s end",
    ["one huge string"] = "string.rep('x', 1 << 40)",
    ["a string of more than the limit"] = "string.rep('x', 5 << 20)",
    ["many small objects"] = "hog()",
    ["coroutines"] = "local t = {} while true do t[#t + 1] = coroutine.wrap(print) end",
    ["tasks"] = "while true do assert(lunad.task(lunad.sleep, 1000)) end",
    ["timers"] = "while true do lunad.after(1000, function() end) end",
    ["a table of arguments"] = "local t = {} for i = 1, 2e5 do t[i] = i end print(table.unpack(t))",
  } do
    it("makes an error that the script can catch, of " .. name, function()
      serve(([[
        local function bomb() %s end
        local spare = ("x"):rep(10000) -- a bomb may leave too little for the rest
        lunad.task(function()
          local ok, message = pcall(bomb)
          spare = nil
          print("caught", ok, message)
          collectgarbage()
          print("more", pcall(string.rep, "x", 10))
        end)
        lunad.status "goes on"
      ]]):format(bomb), name:find "^t[ai][sm]" and "1M") -- or the status report is long
      local message = box:wait_log("s", "caught\tfalse\t([^\n]*)\n")
      assert.truthy(message == "not enough memory" or message:find("too large", 1, true) or
        message:find("too many", 1, true) or message:find("not enough memory", 1, true), message)
      box:wait_log("s", "more\ttrue\txxxxxxxxxx\n")
      assert.equal("goes on", box:status("s").text)
      local memory = box:status("s").memory
      assert.is_true(memory.lua <= memory.limit)
      box:ok("stop", "s")
    end)
  end

  it("says in an uncaught error that it was the limit, and where, each time", function()
    serve [[
      local count = 0
      lunad.on_error(function(message) count = count + 1 lunad.status(count .. " " .. message) end)
      lunad.every(0.2, hog) -- between them the status is told
    ]]
    box:wait_log("s", "uncaught error in a timer: " .. REACHED .. "4 MB%)\n    stack traceback:\n" ..
      "[^\n]*s%.lua:3: in ")
    support.wait_for("more errors", function()
      return (box:status("s").text or ""):match "^[2-9] not enough"
    end)
    local status = box:status "s"
    assert.is_true(status.errors.count >= 2 and status.timers[2].errors >= 1)
    local pid = status.pid
    support.kill(pid, "sigterm")
    box:wait_gone(pid)
    assert.matches("lunad: stopped\n$", box:log "s")
  end)

  it("lets a start fail that needs more, with the place", function()
    box:write("s.lua", support.BEAT .. BOMBS .. "hog()")
    local result = box:lunad("start", LIMIT, "2M", box:path "s.lua")
    assert.equal(1, result.code)
    assert.matches(REACHED .. "2 MB%)\n", result.err)
    assert.matches("s%.lua:3: in ", result.err)
    assert.is_nil(box:read "run/s.pid")
  end)

  it("lets a start fail where not even an empty script fits, or it cannot be compiled", function()
    local result = box:lunad("start", LIMIT, "10K", box:idle "s")
    assert.equal(1, result.code)
    assert.matches(REACHED .. "10 KB%)", result.err)
    box:write("s.lua", "local x = {" .. ("'%06d',"):rep(100000):gsub("%%06d", "abcdef") .. "}")
    result = box:lunad("start", LIMIT, "200K", box:path "s.lua")
    assert.equal(1, result.code)
    assert.matches(REACHED .. "200 KB%)", result.err)
  end)

  describe("leaves a script that has used up all", function()
    it("its timers, tracebacks, status, on_stop functions, and the end", function()
      serve [[
        local beats = 0
        lunad.every(0.01, function() beats = beats + 1 if beats == 20 then error("beat 20") end end)
        lunad.task(function()
          local closed <close> = setmetatable({}, { __close = function() io.write("closed\n") end })
          lunad.sleep(1000)
        end)
        lunad.on_stop(function(reason) lunad.sleep(0.01) lunad.log.info("last words: " .. reason) end)
        lunad.after(0.01, fill)
      ]]
      box:wait_log("s", "uncaught error in a timer: [^\n]*s%.lua:%d+: beat 20\n    stack traceback:\n" ..
        "[^\n]*'error'")
      local memory = box:status("s").memory
      assert.is_true(memory.lua > 3.5 * MB and memory.lua <= 4 * MB, memory.lua)
      assert.matches("timer     every 0.01 s .-s%.lua:%d+\n", box:ok("status", "s"))
      box:ok("stop", "s")
      assert.matches("s: last words: stop\n", box:log "s")
      assert.matches("\nclosed\n.*lunad: stopped\n$", box:log "s")
    end)

    it("signals, and the ends of children", function()
      serve [[
        lunad.signal("USR1", function(name) io.write("got ", name, "\n") end)
        local child = lunad.spawn { "sleep", "1000", on_exit = function(exit)
          io.write("ended by ", exit.signal, "\n")
        end }
        lunad.after(0.01, function() fill() io.write("full\n") end)
        lunad.signal("USR2", function() child:kill() end)
      ]]
      box:wait_log("s", "full\n")
      box:ok("signal", "s", "USR1")
      box:wait_log("s", "got USR1\n")
      box:ok("signal", "s", "USR2")
      box:wait_log("s", "ended by TERM\n")
      box:ok("stop", "s")
    end)

    it("its supervisors", function()
      serve [[
        lunad.supervise { "sleep", "1000", name = "kid", backoff = { 0.01, 0.01 }, max_restarts = 100,
          on_exit = function() hog() end }
        lunad.after(0.01, function() fill() io.write("full\n") end)
      ]]
      box:wait_log("s", "full\n")
      for restarts = 1, 5 do
        local child = support.wait_for("child " .. restarts, function()
          local found = box:status("s").children[1]
          return found and found.restarts == restarts - 1 and found.state == "running" and found
        end)
        support.kill(child.pid, "sigkill")
      end
      support.wait_for("the sixth child", function()
        local found = box:status("s").children[1]
        return found and found.restarts == 5 and found.state == "running"
      end)
      box:wait_log("s", "uncaught error in an on_exit callback: not enough memory")
      box:ok("stop", "s")
    end)

    it("its servers, which serve again when there is memory", function()
      serve [[
        local server = require "lunad.net".serve("127.0.0.1:0", function(stream) stream:write "hello" end)
        print("at " .. server:address())
        lunad.after(0.01, function() fill() io.write("full\n") end)
        lunad.signal("USR1", function() kept = nil collectgarbage() io.write("free\n") end)
      ]]
      local port = tonumber((box:wait_log("s", "at 127%.0%.0%.1:(%d+)\n")))
      box:wait_log("s", "full\n")
      local clients = {}
      for i = 1, 5 do clients[i] = net.connect(port):wait_connected() end
      box:wait_log("s", "not enough memory")
      box:ok("signal", "s", "USR1")
      box:wait_log("s", "free\n")
      net.connect(port):wait "hello"
      for _, client in ipairs(clients) do client:close() end
      box:ok("stop", "s")
    end)

    it("its web server, which closes connections for which there is no memory", function()
      serve [[
        local server = require "lunad.http".serve("127.0.0.1:0", function() return 200, "hello" end)
        print("at " .. server:address())
        lunad.after(0.01, function() fill() io.write("full\n") end)
        lunad.signal("USR1", function() kept = nil collectgarbage() io.write("free\n") end)
      ]]
      local port = tonumber((box:wait_log("s", "at 127%.0%.0%.1:(%d+)\n")))
      box:wait_log("s", "full\n")
      local client = net.connect(port):wait_connected()
      client:send "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
      client:wait_end()
      box:ok("signal", "s", "USR1")
      box:wait_log("s", "free\n")
      client = net.connect(port)
      client:send "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
      client:wait "hello"
      box:ok("stop", "s")
    end)

    it("its reload, with the state", function()
      serve [[
        lunad.on_reload(function() return { generation = lunad.generation, list = { 1, 2, 3 } } end)
        if lunad.state then print("state", lunad.state.generation, #lunad.state.list) end
        lunad.after(0.01, function() fill() io.write("full\n") end)
      ]]
      box:wait_log("s", "full\n")
      box:ok("reload", "s")
      box:wait_log("s", "s: state\t1\t3\n")
      box:wait_log("s", "full\n.*full\n")
      box:ok("reload", "s")
      box:wait_log("s", "s: state\t2\t3\n")
    end)
  end)

  it("is each generation's own: a state of most of it moves over, twice", function()
    serve [[
      local data = lunad.state or { ("x"):rep(1200000), ("y"):rep(1200000) }
      lunad.on_reload(function() return data end)
      print("data", #data[1] + #data[2])
    ]]
    box:ok("reload", "s")
    box:ok("reload", "s")
    assert.equal(3, select(2, box:log("s"):gsub("data\t2400000\n", "")))
    assert.equal(3, box:status("s").generation)
  end)

  describe("refuses a reload", function()
    before_each(function()
      serve [[
        lunad.on_reload(function() return MODE == "state" and hog() or { x = 1 } end)
        lunad.signal("USR1", function() MODE = "state" end)
      ]]
    end)

    -- Reload, which must be refused with the reason; the old generation keeps running.
    local function refused(text, reason)
      local before = box:status("s").memory.lua
      local result = box:reload(BOMBS .. text)
      assert.equal(1, result.code)
      assert.matches(reason, result.err)
      local status = box:status "s"
      assert.same({ 1, "running" }, { status.generation, status.state })
      assert.is_true(status.memory.lua < before + 100000, "the count is the old generation's own")
      assert.equal(4 * MB, status.memory.limit)
    end

    it("whose on_reload function needs more", function()
      box:ok("signal", "s", "USR1")
      support.wait_for("the signal", function() return box:status("s").signals[1].count == 1 end)
      refused("", "its on_reload function failed: " .. REACHED .. "4 MB%)")
    end)

    it("whose new chunk needs more", function()
      refused("hog()", REACHED .. "4 MB%)")
    end)

    it("whose new chunk catches it, and needs more later", function()
      refused("pcall(hog) lunad.task(function() lunad.sleep(0) end) fill() hog()", "not enough memory")
    end)
  end)

  it("does not keep a stop from its end: on_stop, __close and __gc functions that need more", function()
    serve [[
      for _ = 1, 10 do setmetatable({}, { __gc = hog }) end
      lunad.task(function() local _ <close> = setmetatable({}, { __close = hog }) lunad.sleep(1000) end)
      lunad.on_stop(function() io.write("the last\n") end)
      lunad.on_stop(hog)
      lunad.on_stop(function() hog() end)
    ]]
    box:ok("stop", "s")
    local _, count = box:log("s"):gsub("uncaught error in an on_stop function: not enough memory", "")
    assert.equal(2, count)
    assert.matches("\nthe last\n.*lunad: stopped\n$", box:log "s")
  end)

  it("holds for by_line functions, output callbacks and luv's callbacks", function()
    serve [[
      local uv = require "luv"
      lunad.spawn { "sh", "-c", "echo one; echo two; sleep 1000", stdout = lunad.by_line(function(line)
        io.write("line ", line, "\n")
        hog()
      end) }
      lunad.spawn { "echo", "three", stdout = function(chunk) if chunk then hog() end end }
      local timer = uv.new_timer()
      timer:start(1, 0, hog)
      uv.new_async(hog):send()
    ]]
    for _, what in ipairs { "a by_line function", "a stdout callback", "a luv callback" } do
      box:wait_log("s", "uncaught error in " .. what .. ": not enough memory")
    end
    box:wait_log("s", "line one\n.*line two\n")
    box:ok("stop", "s")
  end)

  it("lets coroutines that cannot be resumed say so, also without any memory", function()
    serve([[
      local dead, running, slots = coroutine.create(print), nil, {}
      coroutine.resume(dead)
      for i = 1, 30000 do slots[i] = false end
      local function fill_slots()
        for i = 1, #slots do slots[i] = tostring(i) end
      end
      local function resume_running()
        return coroutine.resume(running)
      end
      running = coroutine.create(function()
        local filled, full = pcall(fill_slots)
        local a, b = coroutine.resume(dead)
        local c, d = resume_running()
        slots = nil
        print("said", filled, full, a, b, c, d)
      end)
      coroutine.resume(running)
      lunad.status "lives"
    ]], "1M")
    box:wait_log("s", "said\tfalse\tnot enough memory\tfalse\tcannot resume dead coroutine\t"
      .. "false\tcannot resume non%-suspended coroutine\n")
  end)

  it("stops a bomb that catches its errors", function()
    local pid = serve "lunad.task(function() while true do pcall(hog) lunad.sleep(0) end end)"
    support.wait_for("its memory", function() return box:status("s").memory.lua > 100000 end)
    support.kill(pid, "sigterm")
    box:wait_gone(pid)
    assert.matches("lunad: stopped\n$", box:log "s")
  end)
end)

local support = require "support"

-- For scripts: send oneself a signal and wait until `condition` holds.
local SEND = [[
local function send(name, condition)
  equal(true, lunad.kill(lunad.pid, name))
  eventually(condition)
end
]]

describe("lunad.signal", function()
  local box = support.with_box(before_each, after_each)

  it("calls fn with the name without SIG, from the loop", function()
    box:inside(SEND .. [[
      local got
      local handle = lunad.signal("USR1", function(...) got = table.pack(...) end)
      lunad.kill(lunad.pid, "USR1")
      equal(nil, got)
      eventually(function() return got end)
      equal(1, got.n)
      equal("USR1", got[1])
      handle:stop()
    ]])
  end)

  it("takes names with and without SIG, in any case, and numbers", function()
    box:inside(SEND .. [[
      for _, name in ipairs { "USR2", "SIGUSR2", "usr2", "sigusr2", 12, "12" } do
        local got
        local handle = lunad.signal(name, function(given) got = given end)
        send(12, function() return got end)
        equal("USR2", got)
        handle:stop()
      end
    ]])
  end)

  it("takes every signal that can be caught", function()
    box:inside(SEND .. [[
      local names = "HUP INT QUIT TRAP ABRT USR1 USR2 PIPE ALRM TERM CONT TSTP TTIN TTOU URG XCPU XFSZ " ..
        "VTALRM PROF WINCH POLL PWR SYS"
      for name in names:gmatch("%a%w*") do
        local got
        local handle = lunad.signal(name, function(given) got = given end)
        send(name, function() return got end)
        equal(name, got)
        handle:stop()
      end
    ]])
  end)

  it("takes both names of a signal that has two", function()
    box:inside [[
      for _, name in ipairs { "POLL", "IO", "SIGIO" } do
        local ok, handle = pcall(lunad.signal, name, print)
        truthy(ok, handle)
        handle:stop()
      end
    ]]
  end)

  it("gives the name that it was asked for by, and the usual one for a number", function()
    box:inside(SEND .. [[
      local function told(asked)
        local got
        local handle = lunad.signal(asked, function(name) got = name end)
        send(asked, function() return got end)
        handle:stop()
        return got
      end
      for _, name in ipairs { "IO", "POLL", "IOT", "ABRT", "USR1", "RTMIN+3", "RTMAX-2" } do
        equal(name, told(name))
        equal(name, told("sig" .. name:lower()))
      end
      equal("IO", told(29))
      equal("ABRT", told(6))
      equal("RTMIN+1", told(35))
    ]])
  end)

  it("gives two handlers of one signal each the name that it was asked for by", function()
    box:inside(SEND .. [[
      local got = {}
      lunad.signal("IO", function(name) got[1] = name end)
      lunad.signal("POLL", function(name) got[2] = name end)
      send("IO", function() return got[2] end)
      equal("IO", got[1])
      equal("POLL", got[2])
      equal("IO", lunad.stats().signals[1].name)
      os.exit(0)
    ]])
  end)

  it("takes real-time signals by number", function()
    box:inside(SEND .. [[
      for number = 34, 64 do
        local got
        local handle = lunad.signal(number, function(given) got = given end)
        send(number, function() return got end)
        truthy(not got:find("^SIG"), got)
        handle:stop()
      end
    ]])
  end)

  it("gives real-time signals a name that can be used for them", function()
    box:inside(SEND .. [[
      local got, again
      local first = lunad.signal(40, function(name) got = name end)
      send(40, function() return got end)
      first:stop()
      local ok, second = pcall(lunad.signal, got, function(name) again = name end)
      truthy(ok, second)
      send(got, function() return again end)
      equal(got, again)
      second:stop()
    ]])
  end)

  it("runs several handlers of one signal in order of registration", function()
    box:inside(SEND .. [[
      local order, handles = {}, {}
      for i = 1, 10 do
        handles[i] = lunad.signal("USR1", function() order[#order + 1] = i end)
      end
      handles[4]:stop()
      handles[11] = lunad.signal("USR1", function() order[#order + 1] = 11 end)
      send("USR1", function() return #order == 10 end)
      equal("1,2,3,5,6,7,8,9,10,11", table.concat(order, ","))
      for i = 1, 11 do handles[i]:stop() end
    ]])
  end)

  it("runs the rest of the handlers after an error in one", function()
    local result = box:inside(SEND .. [[
      eventually(function() return lunad.stats().ready end)
      local called = false
      local first = lunad.signal("USR1", function() error("broken") end)
      local second = lunad.signal("USR1", function() called = true end)
      send("USR1", function() return called end)
      equal(1, lunad.stats().errors.count)
      first:stop()
      second:stop()
    ]], { errors = true })
    assert.truthy(result.err:find("uncaught error in a signal handler: [^\n]*broken\n"))
  end)

  it("takes a callable table", function()
    box:inside(SEND .. [[
      local got
      local handle = lunad.signal("USR1", setmetatable({}, { __call = function(_, name) got = name end }))
      send("USR1", function() return got end)
      equal("USR1", got)
      handle:stop()
    ]])
  end)

  it("lets its handler sleep, while further signals are delivered", function()
    box:inside(SEND .. [[
      local begun, done = 0, 0
      local handle = lunad.signal("USR1", function()
        begun = begun + 1
        lunad.sleep(0.02)
        done = done + 1
      end)
      send("USR1", function() return begun == 1 end)
      send("USR1", function() return begun == 2 end)
      eventually(function() return done == 2 end)
      handle:stop()
    ]])
  end)

  it("never calls inside Lua code that runs", function()
    box:inside(SEND .. [[
      local inside, broken, count = false, false, 0
      local handle = lunad.signal("USR1", function() broken = broken or inside; count = count + 1 end)
      inside = true
      for i = 1, 200000 do
        if i % 1000 == 0 then lunad.kill(lunad.pid, "USR1") end
      end
      inside = false
      eventually(function() return count > 0 end)
      equal(false, broken)
      handle:stop()
    ]])
  end)

  it("delivers at least once after the last of a storm, and loses no other signal", function()
    box:inside(SEND .. [[
      local usr1, usr2, exit = 0, 0, nil
      local first = lunad.signal("USR1", function() usr1 = usr1 + 1 end)
      local second = lunad.signal("USR2", function() usr2 = usr2 + 1 end)
      lunad.spawn { "true", on_exit = function(e) exit = e end }
      for _ = 1, 20000 do lunad.kill(lunad.pid, "USR1") end
      lunad.kill(lunad.pid, "USR2")
      equal(0, usr1)
      eventually(function() return usr1 > 0 and usr2 == 1 and exit end)
      first:stop()
      second:stop()
    ]])
  end)

  it("keeps a handler whose handle is dropped", function()
    box:inside(SEND .. [[
      local count = 0
      lunad.signal("USR1", function() count = count + 1 end)
      for i = 1, 3 do
        collectgarbage()
        collectgarbage()
        send("USR1", function() return count == i end)
      end
      eventually(function() return lunad.stats().ready end)
      lunad.stop()
    ]])
  end)

  it("keeps the script alive until it is stopped", function()
    local result = box:inside [[
      local handle = lunad.signal("USR1", print)
      lunad.after(0.02, function() handle:stop() end)
    ]]
    assert.truthy(result.err:find("finished", 1, true))
  end)

  it("refuses CHLD, and says to use on_exit", function()
    box:inside [[
      for _, name in ipairs { "CHLD", "SIGCHLD", "chld", 17 } do
        raises("on_exit", lunad.signal, name, print)
      end
    ]]
  end)

  it("refuses what cannot be caught, or means a crash", function()
    box:inside [[
      for _, name in ipairs { "KILL", "STOP", "SEGV", "BUS", "FPE", "ILL" } do
        raises(name, lunad.signal, name, print)
        raises(name, lunad.signal, "SIG" .. name, print)
      end
    ]]
  end)

  it("leaves nothing behind when it refuses", function()
    local result = box:inside [[
      pcall(lunad.signal, "KILL", print)
      pcall(lunad.signal, "USR1")
      pcall(lunad.signal, "USR1", "x")
      equal(0, #lunad.stats().signals)
    ]]
    assert.equal("", result.err) -- it has finished at once
  end)

  it("is listed in the status, with how often it was delivered", function()
    box:inside(SEND .. [[
      local count = 0
      local handle = lunad.signal("SIGUSR1", function() count = count + 1 end)
      for i = 1, 3 do send("USR1", function() return count == i end) end
      local signals = lunad.stats().signals
      equal(1, #signals)
      equal("USR1", signals[1].name)
      equal(3, signals[1].count)
      handle:stop()
      equal(0, #lunad.stats().signals)
    ]])
  end)
end)

describe("handle:stop", function()
  local box = support.with_box(before_each, after_each)

  it("ends the calls, returns nothing, and does nothing the second time", function()
    box:inside(SEND .. [[
      local first, second = 0, 0
      local handle = lunad.signal("USR1", function() first = first + 1 end)
      local other = lunad.signal("USR1", function() second = second + 1 end)
      equal(0, select("#", handle:stop()))
      handle:stop()
      send("USR1", function() return second == 1 end)
      equal(0, first)
      other:stop()
    ]])
  end)

  it("restores the default of the signal", function()
    local result = box:run { "run", "-e", [[
      local lunad = require "lunad"
      local handle = lunad.signal("TERM", print)
      lunad.after(0.01, function() handle:stop() lunad.kill(lunad.pid, "TERM") end)
      lunad.after(100, print)
    ]] }
    assert.equal(0, result.code)
    assert.equal("", result.out)
  end)

  it("restores the default of a signal without a meaning for lunad as well", function()
    local result = box:run { "run", "-n", "default", "-e", [[
      local lunad = require "lunad"
      lunad.signal("ALRM", print):stop()
      lunad.after(0.01, function() lunad.kill(lunad.pid, "ALRM") end)
      lunad.after(100, print)
    ]] }
    assert.equal(14, result.signal)
    box:lunad("stop", "default")
  end)

  it("works from inside the handler", function()
    box:inside(SEND .. [[
      local first, second, handle = 0, 0, nil
      handle = lunad.signal("USR1", function() first = first + 1; handle:stop() end)
      local other = lunad.signal("USR1", function() second = second + 1 end)
      send("USR1", function() return second == 1 end)
      send("USR1", function() return second == 2 end)
      equal(1, first)
      other:stop()
    ]])
  end)

  it("from another handler takes effect at once, and no other handler is left out", function()
    box:inside(SEND .. [[
      local order, handles = {}, {}
      local function add(i, fn)
        handles[i] = lunad.signal("USR1", function() order[#order + 1] = i; if fn then fn() end end)
      end
      add(1)
      add(2, function() handles[1]:stop(); handles[2]:stop(); handles[3]:stop() end)
      add(3)
      add(4)
      add(5)
      send("USR1", function() return order[#order] == 5 end)
      equal("1,2,4,5", table.concat(order, ","))
      handles[4]:stop()
      handles[5]:stop()
    ]])
  end)

  it("of several that came before loses none that comes after", function()
    box:inside(SEND .. [[
      local called, first, second, seen = false, nil, nil, false
      first = lunad.signal("USR1", function() end)
      second = lunad.signal("USR1", function() first:stop(); second:stop(); seen = true end)
      local third = lunad.signal("USR1", function() called = true end)
      send("USR1", function() return seen end)
      equal(true, called)
      third:stop()
    ]])
  end)
end)

describe("lunad.kill", function()
  local box = support.with_box(before_each, after_each)

  it("sends a signal and returns true", function()
    box:inside [[
      local exit
      local child = lunad.spawn { "sleep", "100", on_exit = function(e) exit = e end }
      equal(1, select("#", lunad.kill(child.pid, "KILL")))
      eventually(function() return exit end)
      equal("KILL", exit.signal)
    ]]
  end)

  it("takes names, names with SIG, numbers, and 0 to ask", function()
    box:inside [[
      for _, name in ipairs { "TERM", "SIGTERM", "sigterm", 15 } do
        local child = lunad.spawn { "sleep", "100" }
        equal(true, lunad.kill(child.pid, 0))
        equal(true, lunad.kill(child.pid, name))
        equal("TERM", child:wait().signal)
      end
    ]]
  end)

  it("returns ESRCH for a process that does not exist", function()
    box:inside [[
      local child = lunad.spawn { "true" }
      child:wait()
      fails("ESRCH", lunad.kill(child.pid, "TERM"))
      local _, message = lunad.kill(child.pid, 0)
      equal(("ESRCH: no such process: kill %d"):format(child.pid), message)
    ]]
  end)

  it("returns EPERM for a process that may not be signalled", function()
    local nobody = support.is_root and 65534 or nil
    for _, dir in ipairs(nobody and { "run", "log" } or {}) do
      assert(support.uv.fs_mkdir(box:path(dir), tonumber("700", 8)))
      assert(support.uv.fs_chown(box:path(dir), nobody, nobody))
    end
    box:inside("fails('EPERM', lunad.kill(1, 0))", { uid = nobody, gid = nobody })
  end)

  it("takes a negative pid for a group, as kill(2) does", function()
    box:inside [[
      local lines, exit = 0, nil
      local child = lunad.spawn { "sh", "-c", "sleep 100 & echo up; wait",
        stdout = function(chunk) lines = lines + (chunk and 1 or 0) end, on_exit = function(e) exit = e end }
      eventually(function() return lines == 1 end)
      equal(true, lunad.kill(-child.pid, "KILL"))
      eventually(function() return exit end)
      eventually(function() return select(3, lunad.kill(-child.pid, 0)) == "ESRCH" end)
    ]]
  end)

  it("takes 0 for the group of the host itself, as kill(2) does", function()
    box:inside([[
      local got = 0
      local handle = lunad.signal("USR1", function() got = got + 1 end)
      equal(true, lunad.kill(0, "USR1"))
      eventually(function() return got == 1 end)
      handle:stop()
    ]], { detached = true }) -- its own session: no other process is in the group
  end)
end)

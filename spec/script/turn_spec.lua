-- What takes long is cut into turns of the loop: signals, requests and I/O are served between.

local support = require "support"

-- For scripts: `slow()` is a call that takes long. The first one sends a signal, whose handler must come
-- before many more of them.
local SLOW = [[
local calls, heard = 0, nil
local function busy(seconds)
  local start = lunad.now()
  while lunad.now() - start < seconds do end
end
local function slow()
  calls = calls + 1
  if calls == 1 then lunad.kill(lunad.pid, "USR1") end
  busy(0.02)
end
lunad.signal("USR1", function() heard = calls end)
local function is_heard_soon()
  eventually(function() return heard end)
  truthy(heard <= 8, heard .. " calls before the signal")
  lunad.stop()
end
]]

describe("A turn of the loop", function()
  local box = support.with_box(before_each, after_each)

  for what, text in pairs {
    ["a beat whose function takes longer than the beat"] = [[
      lunad.every(0.005, slow)
    ]],
    ["a beat that is always due"] = [[
      lunad.every(1e-6, slow)
    ]],
    ["a chain of timers without delay"] = [[
      local function link() slow() lunad.after(0, link) end
      lunad.after(0, link)
    ]],
    ["a task that sleeps 0 s again and again"] = [[
      lunad.task(function() while true do lunad.sleep(0) slow() end end)
    ]],
    ["many timers that are due at once"] = [[
      for _ = 1, 40 do lunad.after(0.01, slow) end
      busy(0.02)
    ]],
    ["many beats that are due at once"] = [[
      for _ = 1, 40 do lunad.every(0.01, slow) end
      busy(0.02)
    ]],
    ["many tasks that have slept"] = [[
      for _ = 1, 40 do lunad.task(function() lunad.sleep(0.01) slow() end) end
      busy(0.02)
    ]],
    ["many tasks that have waited for the same one"] = [[
      local first = lunad.task(function() lunad.sleep(0.01) end)
      for _ = 1, 40 do lunad.task(function() first:wait() slow() end) end
    ]],
    ["tasks that wake each other"] = [[
      local function wait_for(task) task:wait() slow() return true end
      local last = lunad.task(function() lunad.sleep(0.01) end)
      for _ = 1, 40 do last = lunad.task(wait_for, last) end
    ]],
    ["a storm of another signal"] = [[
      lunad.signal("USR2", function() slow() lunad.kill(lunad.pid, "USR2") end)
      lunad.kill(lunad.pid, "USR2")
    ]],
    ["a storm of a signal of a lower number"] = [[
      lunad.signal("HUP", function() slow() lunad.kill(lunad.pid, "HUP") end)
      lunad.kill(lunad.pid, "HUP")
    ]],
    ["the output of many children"] = [[
      for _ = 1, 30 do lunad.spawn { "yes", stdout = function(chunk) if chunk then slow() end end } end
      busy(0.1)
    ]],
    ["many lines of a child"] = [[
      lunad.spawn { "seq", "100", stdout = lunad.by_line(slow) }
    ]],
    ["many children that have ended"] = [[
      for _ = 1, 40 do lunad.spawn { "true", on_exit = slow } end
      busy(0.5)
    ]],
  } do
    it("is not delayed by " .. what, function()
      box:inside(SLOW .. text .. "is_heard_soon()")
    end)
  end

  it("is not delayed by a signal whose handler sends it again", function()
    box:inside(SLOW .. [[
      local fired
      lunad.signal("USR2", function() calls = calls + 1 busy(0.02) lunad.kill(lunad.pid, "USR2") end)
      lunad.kill(lunad.pid, "USR2")
      lunad.after(0.01, function() fired = calls end)
      eventually(function() return fired end)
      truthy(fired <= 8, fired .. " calls before the timer")
      lunad.stop()
    ]])
  end)

  it("serves a status and a stop while the function of a beat takes longer than the beat", function()
    box:write("s.lua", [[
      local lunad = require "lunad"
      lunad.on_stop(function() print "on_stop ran" end)
      lunad.every(0.1, function()
        local start = lunad.now()
        while lunad.now() - start < 0.15 do end
      end)
    ]])
    box:start(box:path "s.lua")
    box:ok("status", "s")
    box:ok("stop", "s")
    assert.truthy(box:log("s"):find("on_stop ran", 1, true))
  end)

  it("gives each of many slow children its share", function()
    box:inside(SLOW .. [[
      local chunks, served = {}, 0
      for i = 1, 5 do
        lunad.spawn { "yes", stdout = function(chunk)
          if chunk then busy(0.01) chunks[i] = (chunks[i] or 0) + 1 served = served + 1 end
        end }
      end
      eventually(function() return served >= 50 end)
      for i = 1, 5 do truthy((chunks[i] or 0) >= 5, "child " .. i .. ": " .. (chunks[i] or 0)) end
      lunad.stop()
    ]])
  end)

  it("loses no line between the turns, and keeps their order", function()
    box:inside [[
      local lines, exit = {}, nil
      lunad.spawn { "seq", "3000", stdout = lunad.by_line(function(line)
        lines[#lines + 1] = line
        local start = lunad.now()
        while lunad.now() - start < 1e-4 do end
      end), on_exit = function(how) exit = { how.ok, #lines } end }
      eventually(function() return exit end)
      equal(true, exit[1])
      equal(3000, exit[2])
      for i = 1, 3000 do equal(tostring(i), lines[i]) end
    ]]
  end)

  it("fires all that are due, in their order, over many turns", function()
    box:inside(SLOW .. [[
      local order = {}
      for i = 1, 30 do lunad.after(0.01, function() order[#order + 1] = i busy(0.003) end) end
      busy(0.02)
      lunad.after(0, function() order[#order + 1] = 31 end)
      eventually(function() return #order == 31 end)
      for i = 1, 31 do equal(i, order[i]) end
      lunad.stop()
    ]])
  end)

  it("lets what waits for its turn be stopped", function()
    box:inside(SLOW .. [[
      local timers, fired = {}, {}
      for i = 1, 10 do
        timers[i] = lunad.after(0.01, function()
          fired[#fired + 1] = i
          busy(0.02)
          if i == 2 then timers[4]:stop() timers[5]:again(0.001) timers[1]:again(0) end
        end)
      end
      busy(0.02)
      eventually(function() return #fired >= 10 end)
      local seen = {}
      for _, i in ipairs(fired) do seen[i] = (seen[i] or 0) + 1 end
      equal(2, seen[1])
      equal(nil, seen[4])
      equal(1, seen[5])
      lunad.stop()
    ]])
  end)

  it("handles a stop before the rest of what is due", function()
    local result = box:inside(SLOW .. [[
      for i = 1, 10 do
        lunad.after(0.01, function() print(i) if i == 3 then os.exit(0) end end)
      end
      busy(0.02)
    ]])
    assert.equal("1\n2\n3\n", result.out)
  end)
end)

-- Timers that are due at the same time are called by one task, one after the other. A script cannot tell.
local support = require "support"

-- For scripts: call `fn` with 1 to `count`, from timers that are all due at once, and wait for the last.
local DUE = [[
local function all_due(count, fn)
  local called = 0
  for i = 1, count do
    lunad.after(0, function()
      called = called + 1
      fn(i)
    end)
  end
  local start = lunad.now()
  while lunad.now() - start < 0.002 do end
  eventually(function() return called == count end)
end
]]

describe("Timers that are due at once", function()
  local box = support.with_box(before_each, after_each)

  it("each have a coroutine of their own, if they ask for it", function()
    box:inside(DUE .. [[
      local seen, count = {}, 0
      all_due(100, function(i)
        if i % 3 ~= 1 then
          local co, is_main = coroutine.running()
          equal(true, is_main)
          equal(nil, seen[co])
          seen[co] = true
          equal(false, pcall(coroutine.close, co))
        end
      end)
      for co in pairs(seen) do
        count = count + 1
        equal("dead", coroutine.status(co))
      end
      equal(66, count)
    ]])
  end)

  it("do not see each other's hooks", function()
    box:inside(DUE .. [[
      local events = 0
      all_due(30, function(i)
        equal(nil, debug.gethook())
        if i % 2 == 0 then debug.sethook(function() events = events + 1 end, "crl", 1) end
      end)
      truthy(events > 0)
      events = 0
      all_due(30, function() end)
      equal(0, events)
    ]])
  end)

  it("are all called, in their order, though some fail and some sleep", function()
    local result = box:inside(DUE .. [[
      local order, slept, closed = {}, 0, 0
      all_due(100, function(i)
        local _ <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
        order[i] = #order + 1
        if i % 7 == 0 then error("failed " .. i) end
        if i % 11 == 0 then error({}) end
        if i % 5 == 0 then
          pcall(function() lunad.sleep(0.001) error "caught" end)
          slept = slept + 1
        end
      end)
      eventually(function() return closed == 100 end)
      for i = 1, 100 do equal(i, order[i]) end
      equal(22, lunad.stats().errors.count)
      equal(17, slept)
    ]], { errors = true })
    local trace = result.err:match "failed 7\n(.-)\n%d%d%d%d%-"
    assert.truthy(trace and trace:find "in function <[^\n]*>$", trace)
  end)

  it("stop each other, and arm each other again", function()
    box:inside [[
      local timers, calls = {}, {}
      for i = 1, 60 do
        timers[i] = lunad.after(0.001, function()
          calls[i] = (calls[i] or 0) + 1
          if i % 2 == 1 then timers[i + 1]:stop() end
          if i % 10 == 5 then timers[i + 2]:again(0.005) end -- so it does not stop the next
          if i % 10 == 1 then timers[i]:again(0.005) timers[i]:stop() end
          if i % 10 == 3 and calls[i] < 3 then timers[i]:again(0) end
        end)
        timers[i]:name("timer " .. i)
      end
      local start = lunad.now()
      while lunad.now() - start < 0.003 do end
      eventually(function() return #lunad.stats().timers == 0 end)
      for i = 1, 60 do
        equal(({ [3] = 3, [8] = 1 })[i % 10] or i % 2 == 1 and 1 or nil, calls[i])
        equal(false, timers[i]:active())
      end
    ]]
  end)

  it("wait for the tasks that the one before has woken", function()
    box:inside(DUE .. [[
      local order, channel = {}, lunad.channel(1)
      lunad.task(function()
        for value in channel:each() do order[#order + 1] = "got " .. value end
      end)
      all_due(3, function(i)
        order[#order + 1] = "put " .. i
        channel:put(i)
      end)
      channel:close()
      equal("put 1 got 1 put 2 got 2 put 3 got 3", table.concat(order, " "))
    ]])
  end)

  it("may collect what was called before, and its finalizers may arm others", function()
    box:inside(DUE .. [[
      local weak, ended = setmetatable({}, { __mode = "v" }), 0
      for i = 1, 30 do
        weak[i] = function()
          setmetatable({}, { __gc = function() lunad.after(0, function() ended = ended + 1 end) end })
          collectgarbage()
        end
        lunad.after(0, weak[i])
      end
      all_due(1, function() end)
      eventually(function() return ended == 30 end)
      collectgarbage()
      equal(nil, next(weak))
    ]])
  end)

  it("are not called after os.exit, and their caller cannot be called", function()
    local result = box:inside(DUE .. [[
      all_due(2, function()
        local caller = debug.getinfo(3, "f")
        if caller then equal(false, (pcall(caller.func))) end
      end)
      all_due(10, function(i)
        if i == 5 then os.exit(0) end
        truthy(i < 5)
        print("call " .. i)
      end)
    ]])
    assert.equal("call 1\ncall 2\ncall 3\ncall 4\n", result.out)
  end)
end)

-- lunad.channel and lunad.semaphore.

local support = require "support"

describe("lunad.channel", function()
  local box = support.with_box(before_each, after_each)

  it("without a capacity hands each value from task to task", function()
    box:inside [[
      local ch, put = lunad.channel(), 0
      lunad.task(function() for i = 1, 100 do equal(true, ch:put(i)) put = i end ch:close() end)
      local got = 0
      for value in ch:each() do
        got = got + 1
        equal(got, value)
        truthy(put <= got, "put before it was taken")
      end
      equal(100, got)
    ]]
  end)

  it("with a capacity holds that many values", function()
    box:inside [[
      local ch = lunad.channel(2)
      equal(true, ch:put "a")
      equal(true, ch:put(false))
      equal(2, #ch)
      fails("ETIMEDOUT", ch:put("c", 0.01))
      truthy(select(2, ch:put("c", 0)):find "nothing was taken within 0 s")
      local writer = lunad.task(function() return ch:put "d" end)
      equal("a", ch:get())
      equal(true, writer:wait())
      equal(false, ch:get())
      equal("d", ch:get())
      fails("ETIMEDOUT", ch:get(0.01))
      equal(0, #ch)
    ]]
  end)

  it("serves tasks in the order they came, and a value is never lost or given twice", function()
    box:inside [[
      local ch, order = lunad.channel(), {}
      local readers = {}
      for i = 1, 3 do
        readers[i] = lunad.task(function()
          local value = ch:get()
          order[#order + 1] = i .. value
        end)
      end
      for _, v in ipairs { "a", "b", "c" } do ch:put(v) end
      for i = 1, 3 do readers[i]:wait() end
      equal("1a,2b,3c", table.concat(order, ","))
      local late
      local first = lunad.task(function() return ch:get() end)
      lunad.task(function() ch:put "for the first" late = lunad.task(function() return ch:get(0.05) end) end)
      equal("for the first", first:wait())
      fails("ETIMEDOUT", late:wait())
    ]]
  end)

  it("gives a value back that its reader was cancelled before it could take", function()
    box:inside [[
      local ch = lunad.channel(1)
      local reader = lunad.task(function() ch:get() error "it was cancelled" end)
      lunad.task(function() ch:put "precious" reader:cancel() end)
      equal("precious", ch:get(1))
      reader = lunad.task(function() ch:get() end)
      reader:cancel()
      equal(true, ch:put "next")
      equal("next", ch:get())
      local writer = lunad.task(function() ch:put(1) ch:put "never" end)
      writer:cancel()
      equal(1, ch:get())
      fails("ETIMEDOUT", ch:get(0.01))
    ]]
  end)

  it("without a capacity has none after a value came back either", function()
    box:inside [[
      local ch, is_put = lunad.channel(), false
      local reader = lunad.task(function() ch:get() end)
      lunad.task(function() ch:put(1) reader:cancel() end)
      lunad.sleep(0)
      lunad.task(function() ch:put(2) is_put = true end)
      equal(1, ch:get(5))
      lunad.sleep(0)
      equal(false, is_put)
      equal(0, #ch)
      equal(2, ch:get(5))
    ]]
  end)

  it("keeps the timeouts of a generation that was replaced", function()
    box:serve [[
      local ch = lunad.channel()
      lunad.task(function() lunad.exec { "sleep", "60" } end)
      lunad.task(function() print("gave up", select(3, ch:get(1))) lunad.stop() end)
      lunad.every(60, print)
    ]]
    assert.equal(0, box:reload("lunad.every(60, print)").code)
    box:wait_log("s", "gave up\tETIMEDOUT")
  end)

  it("that is closed gives what it has, and then says so", function()
    box:inside [[
      local ch = lunad.channel(2)
      ch:put(1)
      ch:put(2)
      local writer = lunad.task(function() return ch:put(3) end)
      ch:close()
      ch:close()
      fails("EPIPE", writer:wait())
      fails("EPIPE", ch:put(4))
      equal(1, ch:get())
      equal(2, ch:get())
      fails("EPIPE", ch:get())
      ch = lunad.channel()
      local reader = lunad.task(function() return ch:get() end)
      ch:close()
      fails("EPIPE", reader:wait())
    ]]
  end)

  it("does not grow with waits that time out", function()
    box:inside [[
      local ch = lunad.channel()
      local function round() for _ = 1, 2000 do ch:get(0) end collectgarbage() collectgarbage() end
      round()
      local before = collectgarbage "count"
      round()
      truthy(collectgarbage "count" - before < 64, "it grows")
      equal(0, #lunad.stats().timers)
    ]]
  end)

  it("refuses what makes no sense", function()
    box:inside [[
      raises("whole number of values", function() lunad.channel(-1) end)
      raises("whole number of values", function() lunad.channel(1.5) end)
      local ch = lunad.channel()
      raises("a value expected", function() ch:put(nil) end)
      raises("seconds from 0", function() ch:get(-1) end)
      raises("lunad.channel expected", function() ch.get({}) end)
      raises("cannot suspend here", function() coroutine.wrap(function() ch:get() end)() end)
    ]]
  end)
end)

describe("lunad.semaphore", function()
  local box = support.with_box(before_each, after_each)

  it("lets in so many at once, in the order they came", function()
    box:inside [[
      local sem, inside, most, order, tasks = lunad.semaphore(2), 0, 0, {}, {}
      for i = 1, 10 do
        tasks[i] = lunad.task(function()
          local held <close> = sem:acquire()
          order[#order + 1] = i
          inside = inside + 1
          most = math.max(most, inside)
          lunad.sleep(0.001)
          inside = inside - 1
        end)
      end
      for i = 1, 10 do tasks[i]:wait() end
      equal(2, most)
      equal("1,2,3,4,5,6,7,8,9,10", table.concat(order, ","))
    ]]
  end)

  it("is released once, also by an error and by cancelling", function()
    box:inside [[
      local sem = lunad.semaphore(1)
      local held = sem:acquire()
      fails("ETIMEDOUT", sem:acquire(0.01))
      held:release()
      held:release()
      pcall(function() local held <close> = sem:acquire() error "x" end)
      local task = lunad.task(function() local held <close> = sem:acquire() lunad.sleep(60) end)
      local next_one = lunad.task(function() sem:acquire() error "it was cancelled" end)
      lunad.task(function() task:cancel() next_one:cancel() end)
      local again = sem:acquire(1)
      fails("ETIMEDOUT", sem:acquire(0))
      truthy(select(2, sem:acquire(0)):find "no place was free within 0 s")
      again:release()
      raises("at least 1", function() lunad.semaphore(0) end)
      raises("lunad.semaphore expected", function() sem.acquire {} end)
    ]]
  end)
end)

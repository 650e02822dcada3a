-- lunad.send, lunad.broadcast and lunad.on_message without other workers: to the script itself, and to
-- the next generation.

local support = require "support"

describe("a message", function()
  local box = support.with_box(before_each, after_each)

  it("comes from the loop, as a copy, in its order", function()
    box:inside [[
      local got = {}
      lunad.on_message("n", function(data, worker)
        got[#got + 1] = data
        equal(1, worker)
      end)
      local shared = { "x" }
      local sent = { 1, 2.5, "a\0b", false, shared, again = shared }
      sent.self = sent
      equal(true, lunad.send(1, "n", sent))
      equal(true, lunad.send(1, "n", nil))
      for i = 1, 1000 do equal(true, lunad.send(1, "n", i)) end
      equal(0, #got)
      sent[1], shared[1] = "changed", "changed"
      lunad.on_message("end", function() got.ended = true end)
      lunad.send(1, "end", "")
      eventually(function() return got.ended end)
      equal(1, got[1][1]) equal(2.5, got[1][2]) equal("a\0b", got[1][3]) equal(false, got[1][4])
      equal("x", got[1].again[1]) equal(got[1][5], got[1].again) equal(got[1], got[1].self)
      for i = 1, 1000 do equal(i, got[i + 1]) end -- nil was not counted by #
      os.exit(0)
    ]]
  end)

  it("has a topic, a worker and plain data", function()
    box:inside [[
      raises("bad argument #1 to 'send' (a worker from 1 to 1, or \"next\", expected)", lunad.send, 2, "a", 1)
      raises("a worker from 1", lunad.send, 0, "a", 1)
      raises("a worker from 1", lunad.send, 1.5, "a", 1)
      raises("a worker from 1", lunad.send, "1", "a", 1)
      raises("a worker from 1", lunad.send, nil, "a", 1)
      raises("a topic of 1 to 255 bytes expected", lunad.send, 1, "", 1)
      raises("a topic of 1 to 255 bytes expected", lunad.broadcast, ("x"):rep(256), 1)
      raises("string expected", lunad.send, 1, {}, 1)
      raises("data.list[2].x is a function", lunad.send, 1, "a", { list = { 1, { x = print } } })
      raises("data is a function", lunad.broadcast, "a", print)
      raises("function expected", lunad.on_message, "a", 1)
      raises("string expected", lunad.on_message, nil, print)
      fails("EMSGSIZE", lunad.send(1, "a", ("x"):rep(8 * 1024 * 1024)))
      fails("ESRCH", lunad.send("next", "a", 1))
      equal(true, lunad.broadcast("a", 1)) -- to no worker
      os.exit(0)
    ]]
  end)

  it("is refused when too much waits, and taken again later", function()
    box:inside [[
      local count, sent, bytes = 0, 0, ("x"):rep(1000000)
      lunad.sleep(0) -- what the chunk sends before is kept until it is ready
      lunad.on_message("large", function(data) count = count + #data end)
      local ok, err, code
      repeat
        ok, err, code = lunad.send(1, "large", bytes)
        if ok then sent = sent + 1 end
      until not ok
      fails("EAGAIN", ok, err, code)
      truthy(err:find("worker 1 does not keep up", 1, true), err)
      equal(16, sent)
      eventually(function() return count == 16 * 1000000 end)
      equal(true, lunad.send(1, "large", bytes))
      eventually(function() return count == 17 * 1000000 end)
      local messages = lunad.stats().messages
      equal(17, messages.sent) equal(17, messages.received)
      equal(1, messages.refused) equal(0, messages.waiting)
      os.exit(0)
    ]]
  end)

  it("calls one function for its topic, which may sleep and fail", function()
    local result = box:inside([[
      local got, other = {}, 0
      lunad.on_message("a", function(data)
        if data == 2 then error("no twos") end
        lunad.sleep(data == 1 and 0.05 or 0)
        got[#got + 1] = data
      end)
      for i = 1, 3 do lunad.send(1, "a", i) end
      eventually(function() return #got == 2 end)
      equal(3, got[1]) equal(1, got[2]) -- the first slept, and held back no other
      lunad.on_message("a", function() other = other + 1 end)
      lunad.send(1, "a", 4)
      eventually(function() return other == 1 end)
      lunad.on_message("a", nil)
      for i = 1, 2 do lunad.send(1, "a", i) end
      lunad.send(1, "b", 1)
      eventually(function() return lunad.stats().messages.unheard == 3 end)
      equal(2, #got) equal(1, other)
      os.exit(0)
    ]], { errors = true })
    assert.matches("uncaught error in a message function: [^\n]*inside.lua:%d+: no twos", result.err)
    assert.matches("lunad.on_message at %S+:10 replaces the function for 'a' that ", result.err)
    assert.matches("that lunad.on_message at %S+:2 was given", result.err)
    local _, dropped = result.err:gsub("is dropped, as lunad.on_message was not called for its topic: ", "")
    assert.equal(2, dropped)
  end)

  it("waits while 1,000 calls have not ended", function()
    box:inside [[
      local running, most, go = 0, 0, lunad.channel()
      lunad.on_message("a", function()
        running = running + 1
        most = math.max(most, running)
        go:get()
        running = running - 1
      end)
      for i = 1, 1500 do lunad.send(1, "a", i) end
      eventually(function() return running == 1000 end)
      equal(500, lunad.stats().messages.waiting)
      for i = 1, 1500 do go:put(true) end
      eventually(function() return running == 0 end)
      equal(1000, most)
      equal(0, lunad.stats().messages.waiting)
      os.exit(0)
    ]]
  end)
end)

describe("a message and a reload", function()
  local box = support.with_box(before_each, after_each)

  -- Says what it has got, and hands that on. More comes while the state is on its way, and after it.
  local SCRIPT = [[
    local lunad = require "lunad"
    local state = lunad.state or { got = {} }
    lunad.on_message("n", function(n)
      state.got[#state.got + 1] = n
      lunad.status(table.concat(state.got, " "))
    end)
    lunad.on_message("old", function(n) print(("old: from %d to %d"):format(n, lunad.generation)) end)
    lunad.on_message("new", function(n) print(("new: from %d to %d"):format(n, lunad.generation)) end)
    lunad.on_reload(function()
      for i = 1, 3 do lunad.send(1, "n", 10 * lunad.generation + i) end
      lunad.after(0, function() for i = 4, 6 do lunad.send(1, "n", 10 * lunad.generation + i) end end)
      return state
    end)
    lunad.on_stop(function(reason)
      local ok, _, code = lunad.send("next", "old", lunad.generation)
      print("next:", reason, ok, code)
      print(select(2, pcall(lunad.on_message, "n", print)))
    end)
    lunad.every(60, print)
    lunad.send(1, "new", lunad.generation)
    lunad.sleep(0.05) -- and then it is ready, or fails
  ]]

  it("misses no generation, and a refused one has sent nothing", function()
    local path = box:write("s.lua", SCRIPT .. "lunad.ready()")
    box:start("--wait-ready", path)
    box:wait_log("s", "new: from 1 to 1")
    box:write("s.lua", SCRIPT .. "error 'no'")
    box:refused(1, "reload", "s")
    support.wait_for("what came meanwhile", function() return box:status("s").text == "11 12 13 14 15 16" end)
    box:write("s.lua", SCRIPT .. "lunad.ready()")
    box:ok("reload", "s")
    box:wait_log("s", "new: from 2 to 2")
    box:wait_log("s", "old: from 1 to 2")
    support.wait_for("what came meanwhile", function()
      return box:status("s").text == "11 12 13 14 15 16 11 12 13 14 15 16"
    end)
    box:ok("stop", "s")
    local log = box:log("s")
    assert.matches("next:\treload\ttrue\tnil", log)
    assert.matches("next:\tstop\tnil\tESRCH", log)
    assert.matches("on_message: [^\n]*another one has taken its place", log)
    local _, count = log:gsub("new: from", "")
    assert.equal(2, count) -- none of the one that failed
  end)
end)

-- Messages between workers, and the verbs on a service with workers and on one worker.

local support = require "support"

-- Does what eval says, and says which messages came.
local SCRIPT = [[
  local lunad = require "lunad"
  local got = {}
  lunad.on_message("say", function(data, worker) print(("heard %s from %d"):format(data, worker)) end)
  lunad.on_message("n", function(n) got[#got + 1] = n end)
  function In_order(count)
    for i = 1, count do if got[i] ~= i then return false, i, got[i] end end
    return #got == count
  end
  lunad.on_reload(function()
    if lunad.worker == 1 then
      for i = 1, 100 do lunad.send(2, "n", 100 * (lunad.generation - 1) + i) end
    end
    return got
  end)
  got = lunad.state or got
  if lunad.generation == 1 then lunad.broadcast("say", "hello") end
]]

describe("workers", function()
  local box = support.with_box(before_each, after_each)

  local function eval(name, chunk)
    return (box:ok("eval", name, chunk):gsub("\n$", ""))
  end

  it("send each other messages", function()
    box:start("--workers", "3", box:write("w.lua", SCRIPT))
    for worker = 1, 3 do
      for other = 1, 3 do
        if other ~= worker then
          box:wait_log("w", ("w%%-%d: heard hello from %d"):format(other, worker))
        end
      end
    end
    assert.equal("2\t3", eval("w-2", "return lunad.worker, lunad.workers"))
    assert.equal("true", eval("w-2", "lunad.send(3, 'say', 'only 3')"))
    assert.equal("true", eval("w-2", "lunad.send(2, 'say', 'myself')"))
    box:wait_log("w", "w%-3: heard only 3 from 2")
    box:wait_log("w", "w%-2: heard myself from 2")
    assert.matches("a worker from 1 to 3", eval("w-1", "return select(2, pcall(lunad.send, 4, 'say', 1))"))
    local _, count = box:log("w"):gsub("heard", "")
    assert.equal(8, count)
  end)

  it("get what was sent to them in the order it was sent, over reloads and crashes", function()
    box:start("--workers", "2", box:write("w.lua", SCRIPT))
    for _ = 1, 3 do
      box:ok("reload", "w") -- worker 1 sends 100 in its on_reload function, while worker 2 hands on its own
    end
    support.wait_for("300 messages", function() return eval("w-2", "In_order(300)") == "true" end)
    local pid = box:status("w-2").pid
    support.kill(pid, "sigstop")
    assert.equal("true", eval("w-1", "for i = 1, 3000 do assert(lunad.send(2, 'n', i)) end return true"))
    support.kill(pid, "sigkill")
    support.wait_for("the next process", function()
      local status = box:lunad("status", "--json", "w-2")
      return status.code == 0 and status.out:find('"ready": true', 1, true) and box:status("w-2").pid ~= pid
    end)
    support.wait_for("3000 messages", function() return eval("w-2", "In_order(3000)") == "true" end)
    assert.same({ 3000, 0, 0 }, { box:status("w-2").messages.received, box:status("w-2").messages.lost,
      box:status("w-1").messages.waiting })
  end)

  it("refuse to send to one that does not keep up", function()
    box:start("--workers", "2", box:write("w.lua", SCRIPT))
    local pid = box:status("w-2").pid
    support.kill(pid, "sigstop")
    local count = tonumber(eval("w-1", [[
      local i, ok, err, code = 0, true
      while ok do
        ok, err, code = lunad.send(2, "n", i + 1)
        i = i + (ok and 1 or 0)
      end
      assert(code == "EAGAIN", code)
      assert(err:find("worker 2 does not keep up, too much waits for it", 1, true), err)
      ok, err, code = lunad.broadcast("n", ("x"):rep(100))
      assert(not ok and code == "EAGAIN", err)
      return i]]))
    assert.is_true(count > 10000)
    assert.equal(2, box:status("w-1").messages.refused)
    support.kill(pid, "sigcont")
    for wanted = count, count + 1 do
      support.wait_for("all messages", function()
        return eval("w-2", ("In_order(%d)"):format(wanted)) == "true"
      end)
      assert.equal("true", eval("w-1", ("lunad.send(2, 'n', %d)"):format(wanted + 1)))
    end
  end)
end)

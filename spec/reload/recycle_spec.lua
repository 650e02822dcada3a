-- --recycle-every and --recycle-memory: a service that reloads itself.

local support = require "support"

-- The times of the lines of the log that have a text in them, in seconds.
local function times_of(log, text)
  local times = {}
  for date, rest in log:gmatch("(%d+%-%d+%-%d+T%d+:%d+:%d+)([.%d]+)Z [^\n]*" .. text) do
    local year, month, day, hour, min, sec = date:match "(%d+)%-(%d+)%-(%d+)T(%d+):(%d+):(%d+)"
    times[#times + 1] = rest +
      os.time { year = year, month = month, day = day, hour = hour, min = min, sec = sec }
  end
  return times
end

local STATE = [[
  local state = lunad.state or { generations = {} }
  state.generations[#state.generations + 1] = lunad.generation
  lunad.on_reload(function() return state end)
  print("generations", table.concat(state.generations, " "))
]]

describe("--recycle-every", function()
  local box = support.with_box(before_each, after_each)

  it("reloads when the code has that age, again and again, and keeps the state", function()
    local pid = box:serve(STATE, "--recycle-every", "0.3")
    box:wait_log("s", "s: generations\t1 2 3\n")
    assert.equal(pid, box:status("s").pid)
    local log = box:log "s"
    assert.matches("started.-recycling: 0%.[3-9] s old\n.-reloaded: generation 2", log)
    assert.is_true(times_of(log, "recycling")[1] - times_of(log, "started")[1] > 0.29)
    box:ok("stop", "s")
    assert.matches("lunad: stopped\n$", box:log "s")
  end)

  it("keeps kept children and listening sockets", function()
    box:serve([[
      local child = lunad.spawn { "sleep", "1000", name = "kid", keep = true }
      lunad.listen("unix:]] .. box:path "listen" .. [[")
      print("child", lunad.generation, child.pid)
    ]], "--recycle-every", "0.3")
    local first = box:wait_log("s", "child\t1\t(%d+)\n")
    assert.equal(first, (box:wait_log("s", "child\t2\t(%d+)\n")))
    assert.truthy(box:read "listen" == nil and support.uv.fs_stat(box:path "listen"))
  end)

  it("begins again with every reload", function()
    box:serve("if lunad.generation == 1 then lunad.after(0.5, lunad.reload) end", "--recycle-every", "1.5")
    box:wait_log("s", "reloaded: generation 3")
    local log = box:log "s"
    if not log:match("^.-generation 2"):find "recycling" then -- else the machine was too slow
      assert.is_true(times_of(log, "recycling")[1] - times_of(log, "generation 2")[1] > 1.49)
    end
  end)

  it("is tried again at the next interval when it was refused", function()
    box:serve("", "--recycle-every", "0.3")
    box:write("s.lua", "this is not Lua")
    box:wait_log("s", "refused.*refused.*refused")
    local log = box:log "s"
    local tries = times_of(log, "recycling: [%d.]+ s old\n")
    assert.is_true(#tries >= 3)
    for i = 2, #tries do
      assert.is_true(tries[i] - tries[i - 1] > 0.28)
    end
    box:idle "s"
    box:wait_log("s", "reloaded: generation 2")
  end)

  it("joins a reload that is under way", function()
    box:serve("lunad.on_reload(function() lunad.sleep(1) return 1 end)", "--recycle-every", "0.6")
    support.wait_for("a reload", function() return box:status("s").state == "reloading" end)
    box:ok("reload", "s")
    box:wait_log("s", "reloaded: generation 3")
    local _, count = box:log("s"):match("^.-reloaded"):gsub("recycling", "")
    assert.equal(1, count)
  end)

  it("does nothing before the start is over, or during a stop", function()
    box:serve([[
      lunad.sleep(0)
      lunad.on_stop(function() lunad.sleep(1.3) end)
      lunad.after(0, lunad.stop)
    ]], "--recycle-every", "1")
    box:wait_log("s", "lunad: stopped\n")
    assert.not_matches("recycling", box:log "s")
    box:write("slow.lua", "local lunad = require 'lunad' lunad.after(0.7, lunad.ready)")
    box:ok("start", "--wait-ready", "--recycle-every", "0.5", box:path "slow.lua")
    assert.not_matches("recycling.*\n[^\n]*started", box:log "slow")
  end)
end)

describe("--recycle-memory", function()
  local box = support.with_box(before_each, after_each)

  it("reloads when the heap has that size after a collection, and says so", function()
    box:serve(STATE .. [[
      list = {}
      if lunad.generation == 1 then
        lunad.after(0.01, function()
          for i = 1, 50 do list[i] = ("x"):rep(100000) .. i end
        end)
      end
    ]], "--recycle-memory", "4M")
    box:wait_log("s", "s: generations\t1 2\n")
    assert.matches("recycling: the heap has [45]%.?[0-9]? MB after a collection, " ..
      "%-%-recycle%-memory is 4 MB\n", box:log "s")
    assert.is_true(box:status("s").memory.lua < 1e6)
  end)

  it("does not count garbage", function()
    box:serve([[
      local made = 0
      lunad.every(0.001, function()
        made = made + #("x"):rep(400000)
        if made > 4e7 then lunad.status "much" end
      end)
      collectgarbage("setpause", 1000)
    ]], "--recycle-memory", "4M")
    support.wait_for("much garbage", function() return box:status("s").text == "much" end)
    assert.not_matches("recycling", box:log "s")
    assert.equal(1, box:status("s").generation)
  end)

  it("is not tried more often than once a minute, however large the heap stays", function()
    box:serve([[
      list = {}
      for i = 1, 50 do list[i] = ("x"):rep(100000) .. i end
      print("generation", lunad.generation)
      lunad.every(0.01, function() lunad.status(tostring(lunad.now())) end)
    ]], "--recycle-memory", "1M")
    box:wait_log("s", "generation\t2\n")
    local first = tonumber(box:status("s").text)
    support.wait_for("half a second", function()
      return tonumber(box:status("s").text or 0) > (first or 0) + 0.5
    end)
    assert.equal(2, box:status("s").generation)
  end)

  it("works in a script that has used up its --memory-limit", function()
    box:serve(STATE .. [[
      if lunad.generation == 1 then
        lunad.after(0.01, function()
          list = {}
          while pcall(function() list[#list + 1] = ("x"):rep(10000) .. #list end) do end
        end)
      end
    ]], "--recycle-memory", "3M", "--memory-limit", "4M")
    box:wait_log("s", "s: generations\t1 2\n")
  end)
end)

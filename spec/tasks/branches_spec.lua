-- lunad.timeout, lunad.all and lunad.any.

local support = require "support"

-- For scripts: a function that says how it ends: "NAME closed" when it is cancelled.
local BRANCH = [[
  local ends = {}
  local function branch(name, seconds, result)
    return function()
      local mark <close> = setmetatable({}, { __close = function() ends[#ends + 1] = name .. " closed" end })
      lunad.sleep(seconds)
      if result == "fail" then error(name .. " fails") end
      return result
    end
  end
  local function ended() table.sort(ends) return table.concat(ends, ",") end
]]

describe("lunad.timeout", function()
  local box = support.with_box(before_each, after_each)

  it("returns the results of the function", function()
    box:inside [[
      local function echo(...) lunad.sleep(0) return ... end
      equal("1 nil 3", ("%s %s %s"):format(lunad.timeout(60, echo, 1, nil, 3)))
      equal(0, select("#", lunad.timeout(60, function() end)))
      equal(nil, (lunad.timeout(60, function() return nil, "own" end)))
      equal("own", select(2, lunad.timeout(60, function() return nil, "own" end)))
      equal(0, #lunad.stats().timers)
    ]]
  end)

  it("cancels the function when its time is up", function()
    box:inside(BRANCH .. [[
      fails("ETIMEDOUT", lunad.timeout(0.01, branch("a", 60)))
      equal("a closed", ended())
      fails("ETIMEDOUT", lunad.timeout(0, branch("b", 60)))
      fails("ETIMEDOUT", lunad.timeout(60, lunad.timeout, 0.01, branch("c", 60)))
      equal("a closed,b closed,c closed", ended())
    ]])
  end)

  it("lets an error of the function out", function()
    local result = box:inside([[
      local ok, err = pcall(lunad.timeout, 60, function() error({ 7 }) end)
      equal(7, err[1])
      ok, err = pcall(lunad.timeout, 60, function() lunad.sleep(0) error "oops" end)
      equal(false, ok)
      truthy(err:find("oops", 1, true))
    ]], { errors = true })
    assert.falsy(result.err:find("uncaught", 1, true), result.err)
  end)

  it("tells of a failure around the function, and not of a time that is not up", function()
    box:inside [[
      xpcall = function() lunad.sleep(0) error "not enough memory" end
      local ok, err = pcall(lunad.timeout, 60, print)
      equal(false, ok)
      truthy(err:find "not enough memory", err)
    ]]
  end)

  it("that is cancelled cancels the function", function()
    box:inside(BRANCH .. [[
      local task = lunad.task(lunad.timeout, 60, branch("a", 60))
      task:cancel()
      equal("a closed", ended())
    ]])
  end)

  it("refuses wrong arguments before it calls anything", function()
    box:inside [[
      local called
      local function fn() called = true end
      raises("seconds from 0", function() lunad.timeout(-1, fn) end)
      raises("bad argument #1", function() lunad.timeout(nil, fn) end)
      raises("function expected", function() lunad.timeout(1, 2) end)
      raises("cannot suspend here", function() coroutine.wrap(function() lunad.timeout(1, fn) end)() end)
      equal(nil, called)
    ]]
  end)
end)

describe("lunad.all", function()
  local box = support.with_box(before_each, after_each)

  it("returns the results of all, in their order", function()
    box:inside(BRANCH .. [[
      local results = lunad.all { branch("a", 0.02, 1), branch("b", 0, false), function() return 3 end,
        function() end }
      equal("1 false 3 nil", ("%s %s %s %s"):format(results[1], results[2], results[3], results[4]))
      equal(4, results.n)
      equal(0, lunad.all({}).n)
    ]])
  end)

  it("ends the others at the first failure, and names the branch that failed", function()
    local result = box:inside(BRANCH .. [[
      local results, err, trace = lunad.all { branch("a", 60), branch("b", 0.01, "fail"), branch("c", 60) }
      equal(nil, results)
      truthy(err:find("b fails", 1, true), err)
      truthy(trace:find("^branch 2 %(.*inside%.lua:%d+%)\nstack traceback:\n"), trace)
      equal("a closed,b closed,c closed", ended())
      local other
      results, err = lunad.all { function() error({ 7 }) end, function() other = true end }
      equal(7, err[1])
      equal(nil, other)
    ]], { errors = true })
    assert.falsy(result.err:find("uncaught", 1, true), result.err)
  end)

  it("that is cancelled ends all", function()
    box:inside(BRANCH .. [[
      local task = lunad.task(lunad.all, { branch("a", 60), branch("b", 60) })
      task:cancel()
      equal("a closed,b closed", ended())
      raises("table expected", function() lunad.all(1) end)
      raises("function expected", function() lunad.all { 1 } end)
    ]])
  end)

  it("takes a thousand branches, and leaves none", function()
    box:inside [[
      local list = {}
      for i = 1, 1000 do list[i] = function() lunad.sleep(i % 7 / 1000) return i end end
      local results = lunad.all(list)
      for i = 1, 1000 do equal(i, results[i]) end
      equal(1, #lunad.stats().tasks)
    ]]
  end)
end)

describe("A branch that is stuck", function()
  local box = support.with_box(before_each, after_each)

  for _, name in ipairs { "all", "any" } do
    it("and is interrupted has failed, for lunad." .. name, function()
      box:serve(([[lunad.task(function()
        print("ends", lunad.%s { function() lunad.sleep(0.01) print "begins" while true do end end })
      end)]]):format(name), "--stuck-after", "0.3")
      box:wait_log("s", "s: begins")
      assert.equal(1, box:reload("while = 1").code)
      box:wait_log("s", "ends\tnil\t[^\n]*interrupted")
    end)
  end
end)

describe("lunad.any", function()
  local box = support.with_box(before_each, after_each)

  it("returns the first that succeeds, and ends the others", function()
    box:inside(BRANCH .. [[
      local function third() lunad.sleep(0.05) return 1, 2 end
      local index, a, b = lunad.any { branch("a", 60), branch("b", 0, "fail"), third }
      equal(3, index)
      equal(3, a + b)
      equal("a closed,b closed", ended())
      equal(1, (lunad.any { function() return end, branch("c", 60) }))
    ]])
  end)

  it("returns the first error and every traceback if all fail", function()
    box:inside(BRANCH .. [[
      local index, err, trace = lunad.any { branch("a", 0.05, "fail"), branch("b", 0, "fail") }
      equal(nil, index)
      truthy(err:find("b fails", 1, true), err)
      truthy(trace:find("branch 2 .*branch 1 "), trace)
      equal("no function was given", select(2, lunad.any {}))
    ]])
  end)

  it("ends if branches fail with nil, or the list grows meanwhile", function()
    box:inside [[
      local function fail() error(nil) end
      local failed = lunad.task(function() return lunad.any { fail, fail } end)
      equal(0, select("#", failed:wait(0.5)) - 3)
      equal(false, failed:running())
      local list
      list = { function() list[2] = fail error "once" end }
      local task = lunad.task(lunad.any, list)
      truthy(select(2, task:wait(5)):find "once")
      list = { function() list[2] = nil return 1 end, function() return 2 end }
      equal(2, lunad.all(list)[2])
    ]]
  end)
end)

describe("The traceback of an error that lunad.timeout passes on", function()
  local box = support.with_box(before_each, after_each)

  it("names the function and shows where in it the error was", function()
    box:serve [[
      local function deep() error "here" end
      local function work() lunad.sleep(0) deep() end
      lunad.task(function() lunad.sleep(0) lunad.timeout(60, work) end)
      lunad.task(function() lunad.sleep(0) local ok = pcall(lunad.timeout, 60, work) work() end)
      lunad.task(function()
        local _, _, trace = lunad.all { function() lunad.timeout(60, work) end }
        print((trace:gsub("%s+", " ")))
        _, _, trace = lunad.all { work }
        print("plain " .. (trace:gsub("%s+", " ")))
      end)
    ]]
    box:wait_log("s", "plain [^\n]*\n")
    local log = box:log "s"
    local all, plain = log:match "(branch 1 [^\n]*)\n", log:match "plain (branch 1 [^\n]*)\n"
    assert.matches("branch %([^ ]*s.lua:%d+%) stack traceback: .*'deep'", all)
    assert.not_matches("branch %(", plain)
    local first = log:match "uncaught error in a task: (.-)\n%d%d%d%d%-"
    assert.matches("here\n.*\n%s+branch %([^ ]*s.lua:%d+%)\n.*'deep'", first)
  end)
end)

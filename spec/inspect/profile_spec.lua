local support = require "support"

-- What spends its time in `heavy` and in string.rep, in a ratio that is far from even.
local BURNER = [[
  local lunad = require "lunad"
  local function spin(seconds) local t = os.clock() + seconds repeat until os.clock() > t end
  function heavy() spin(0.02) end
  function light() spin(0.002) end
  local function copy() for _ = 1, 4 do local _ = ("x"):rep(1000000) end end
  lunad.every(0.1, function() heavy() light() copy() end):name "beat;\n<&>"
  lunad.task(function() while true do lunad.sleep(0.02) coroutine.wrap(function() spin(0.004) end)() end end)
]]

-- The samples of the stacks that have a pattern.
local function samples(folded, pattern)
  local sum = 0
  for stack, count in folded:gmatch "([^\n]+) (%d+)\n" do
    sum = sum + (stack:find(pattern) and tonumber(count) or 0)
  end
  return sum
end

describe("lunad profile", function()
  local box = support.with_box(before_each, after_each)

  it("shows where the time goes, over a reload, with C functions and what runs", function()
    box:start(box:write("b.lua", BURNER))
    local folded = ""
    support.wait_for("enough samples", function() -- the machine may have other work
      local profile = box:spawn { "profile", "b", "1" }
      box:ok("reload", "b")
      box:await(profile, "the end", profile.is_over)
      assert.equal(0, profile.code)
      folded = folded .. profile.out()
      return samples(folded, "heavy") > 25 and samples(folded, "^task;.*spin") > 0
        and samples(folded, "rep %[C%]") > 0
    end, 60)
    local heavy = samples(folded, "heavy [^;]+b%.lua:3;spin [^;]+b%.lua:2")
    assert.is_true(heavy > samples(folded, "light .*spin"), folded)
    assert.is_true(heavy >= samples(folded, "heavy") - 2, folded)
    assert.is_true(samples(folded, "^timer beat__<&>;.*copy [^;]+b%.lua:5;rep %[C%]") > 0, folded)
  end)

  it("does not show what calls the timers as a function of the script", function()
    box:start(box:write("c.lua", [[
      local lunad = require "lunad"
      for _ = 1, 20000 do lunad.every(0.01, function() end) end
    ]]))
    local folded = box:ok("profile", "c", "0.5")
    assert.is_true(samples(folded, "^timer") > 0, folded)
    assert.not_matches("? [C]", folded, 1, true)
  end)

  it("writes a graph that is XML whatever the names are", function()
    box:start(box:write("b.lua", BURNER))
    local file = box:path "out.svg"
    local said = box:ok("profile", "--svg", file, "b", "0.5")
    assert.matches("^b: %d+ samples in [%d.]+ s, in .*out%.svg\n$", said)
    local svg = support.read(file)
    assert.truthy(svg:find("beat__&#60;&#38;&#62;", 1, true))
    assert.truthy(svg:find("heavy", 1, true))
    assert.is_nil(svg:gsub("http://www.w3.org/2000/svg", ""):find "https?:")
    local depth, at = 0, svg:gsub("<!%[CDATA%[.-%]%]>", ""):gsub("<%?.-%?>", "")
    for slash, _, empty in at:gmatch "<(/?)([%a]+)[^<>]-(/?)>" do
      depth = depth + (slash == "/" and -1 or empty == "/" and 0 or 1)
      assert.is_true(depth >= 0)
    end
    assert.equal(0, depth)
    assert.matches("&#38;", svg)
    assert.is_nil(at:gsub("&#%d+;", ""):find "&")
  end)

  it("ends with its client, and refuses what is no time", function()
    box:start(box:write("b.lua", BURNER))
    local client = box:connect "b"
    client:send '{"verb": "profile", "seconds": 600}\n'
    client:listen()
    local other = box:connect "b"
    support.wait_for("the refusal", function()
      if client.lines[client.taken + 1] then -- the other one's was being made
        client:answer()
        client:send '{"verb": "profile", "seconds": 600}\n'
      end
      other:send '{"verb": "profile", "seconds": 0.001}\n'
      local answer = other:answer()
      return not answer.ok and answer.error:find "another profile"
    end)
    client:close()
    support.wait_for("the end of the profile", function()
      other:send '{"verb": "profile", "seconds": 0.001}\n'
      return other:answer().ok
    end)
    for _, word in ipairs { "0", "x", "4000" } do
      assert.matches("is not a time in seconds", box:refused(2, "profile", "b", word))
    end
    other:send '{"verb": "profile", "seconds": "x"}\n'
    assert.matches("\"seconds\" of profile", other:answer().error)
    assert.equal(3, box:lunad("profile", "nothing").code)
    box:refused(1, "profile", "--svg", box:path "no/such/file", "b", "0.1")
  end)

  it("leaves the hooks of the script, and code that is interrupted, as they are", function()
    box:start(box:write("h.lua", [[
      local lunad = require "lunad"
      local lines = 0
      local function hook() lines = lines + 1 end
      lunad.every(0.01, function()
        debug.sethook(hook, "l")
        local t = os.clock() + 0.03
        repeat until os.clock() > t
        assert(debug.gethook() == hook)
        debug.sethook()
      end)
      lunad.signal("USR2", function() while true do end end)
    ]]))
    local folded = box:ok("profile", "h", "1")
    assert.is_true(samples(folded, "^timer;") > 0, folded)
    assert.equal(0, box:status("h").errors.count)
    support.wait_for("samples of an eval", function() -- which may have begun before the profile
      local profile = box:spawn { "profile", "h", "5" }
      local loops = box:lunad("eval", "--timeout", "1", "h", "while true do end")
      assert.equal(1, loops.code)
      assert.matches("interrupted", loops.err)
      box:await(profile, "the end", profile.is_over)
      return samples(profile.out(), "^eval;") > 0
    end)
    assert.equal("2", box:ok("eval", "h", "1 + 1"):match "%d+")
  end)
end)

describe("lunad heap", function()
  local box = support.with_box(before_each, after_each)

  it("shows what the heap holds by type and by path, and the daemon goes on", function()
    local module = box:write("store.lua", "return { list = {} }")
    box:start(box:write("h.lua", [[
      local lunad = require "lunad"
      local store = require "store"
      local cache = {}
      for i = 1, 2000 do cache[i] = { ("c"):rep(100) .. i } end
      for i = 1, 1000 do store.list["key " .. i] = { ("s"):rep(100) .. i } end
      users = { big = ("b"):rep(1000000), [cache] = true, ["a b"] = { ("q"):rep(200000) } }
      weak = { __mode = "k", __gc = function() print "collected" end }
      setmetatable({ [{}] = ("w"):rep(300000) }, weak)
      setmetatable(users, { __index = function() error "called" end, __pairs = error })
      local n = 0
      lunad.every(0.01, function() n = n + 1 cache[1][2] = n end)
      lunad.task(function() local mine = { ("t"):rep(150000) } lunad.sleep(1000) print(mine) end)
    ]]))
    assert.truthy(module)
    local before = tonumber(box:ok("eval", "h", "lunad.stats().timers[1].runs"))
    local text = box:ok("heap", "h")
    for _, part in ipairs { "users %(table%)", "users%.big %(string%)", "users%[\"a b\"%]", "> mine",
      "require \"store\"%.list", "table +%d", "string +[%d,]+ +%d" } do
      assert.matches(part, text)
    end
    local report = support.json.decode(box:ok("heap", "--json", "h"))
    assert.is_true(report.complete)
    local sum = 0
    for _, item in ipairs(report.types) do
      sum = sum + item.bytes
    end
    assert.is_true(sum > 1500000 and sum < report.lua * 1.1, sum .. " of " .. report.lua)
    support.wait_for("beats", function()
      return tonumber(box:ok("eval", "h", "lunad.stats().timers[1].runs")) > before
    end)
    assert.equal(0, box:status("h").errors.count)
    assert.is_nil(box:log("h"):find "collected")
    assert.same({}, box:status("h").children)
  end)

  it("leaves no process when its client goes, or the daemon stops", function()
    local pid = box:start(box:write("h.lua", [[
      local lunad = require "lunad"
      list = {}
      for i = 1, 400000 do list[i] = { i } end
      lunad.every(0.01, function() end)
    ]]))
    local client = box:connect "h"
    client:send '{"verb": "heap"}\n'
    local other = box:connect "h"
    other:send '{"verb": "heap"}\n'
    local answer = other:answer()
    assert.is_true(answer.ok or answer.error:find "under way" ~= nil)
    client:close()
    local children = ("/proc/%d/task/%d/children"):format(pid, pid)
    support.wait_for("no copy", function() return support.read(children) == "" end)
    other:send '{"verb": "heap"}\n'
    box:ok("stop", "h") -- the box looks for what is left
  end)
end)

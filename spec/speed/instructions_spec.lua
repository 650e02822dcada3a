-- The guard against getting slower: the hot paths take as many instructions as spec/speed/instructions says.

local instructions = require "support.instructions"
local support = require "support"

describe("the instructions of the hot paths", function()
  local box = support.with_box(before_each, after_each)

  it("are not more than spec/speed/instructions says", function()
    local recorded = instructions.load()
    local obstacle = instructions.obstacle(support.binary, recorded)
    if obstacle then return pending(obstacle) end
    local counts = assert(instructions.count(support.binary, box.dir))
    local worse, cheaper = instructions.judge(instructions.compare(recorded, counts))
    if cheaper then
      print("\n" .. cheaper)
    end
    assert(not worse, worse)
  end)
end)

describe("a comparison of instructions", function()
  local recorded = { { "arm", 1000 }, { "cancel", 1000 }, { "again", 1000 } }

  -- What is said of new counts.
  local function judge(...)
    local counts = {}
    for i, count in ipairs { ... } do
      counts[i] = { recorded[i][1], count }
    end
    return instructions.judge(instructions.compare(recorded, counts))
  end

  it("allows a little growth, and says nothing of a little gain", function()
    assert.same({}, { judge(1050, 1000, 910) })
  end)

  it("names what has grown by more than 5 %, and how to accept it", function()
    local worse, cheaper = judge(1051, 1000, 1000)
    assert.truthy(worse:find("arm +1000 %-> +1051  %+5.1 %%\n"))
    assert.truthy(worse:find("scripts/instructions --accept", 1, true))
    assert.falsy(worse:find "cancel")
    assert.is_nil(cheaper)
  end)

  it("names what has become much cheaper", function()
    local worse, cheaper = judge(1000, 899, 1000)
    assert.is_nil(worse)
    assert.truthy(cheaper:find("cancel +1000 %-> +899  %-10.1 %%"))
  end)

  it("fails for a row that is gone", function()
    assert.truthy(judge(1000, 1000):find("again +1000 %-> +%-"))
  end)
end)

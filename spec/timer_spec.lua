local support = require "support"

describe("Lua", function()
  it("is 5.4 in the specs", function()
    assert.equal("Lua 5.4", _VERSION)
  end)
end)

describe("lunad.after", function()
  local box = support.with_box(before_each, after_each)

  it("calls once, from the loop, with its arguments", function()
    box:inside [[
      local calls = {}
      lunad.after(0.01, function(...) calls[#calls + 1] = table.pack(...) end, 1, nil, "x")
      equal(0, #calls)
      lunad.sleep(0.05)
      equal(1, #calls)
      equal(3, calls[1].n)
      equal(1, calls[1][1])
      equal("x", calls[1][3])
    ]]
  end)

  it("never fires early", function()
    box:inside [[
      for _ = 1, 20 do
        local start, fired = lunad.now(), nil
        lunad.after(0.003, function() fired = lunad.now() end)
        eventually(function() return fired end)
        truthy(fired - start >= 0.003, "it fired early")
      end
    ]]
  end)
end)

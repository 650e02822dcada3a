local support = require "support"

-- What scripts/suites does with whole suites, which are fetched then.
describe("busted inside lunad", function()
  local box = support.with_box(before_each, after_each)

  local function busted(text)
    return box:run({ "run", "/usr/bin/busted", "-o", "plainTerminal", box:write("x_spec.lua", text) })
  end

  it("passes what passes, and its specs can use lunad", function()
    local result = busted [[
      local lunad = require "lunad"
      describe("a service", function()
        it("sleeps", function() lunad.sleep(0.01) assert.equal("foreground", lunad.mode) end)
        it("waits for a task", function() assert.equal(7, lunad.task(function() return 7 end):wait()) end)
      end)
    ]]
    assert.equal(0, result.code, result.out .. result.err)
    assert.truthy(result.out:find("2 successes / 0 failures / 0 errors", 1, true), result.out)
  end)

  it("tells a failure and an error by its output and its exit status", function()
    local result = busted [[
      it("fails", function() assert.equal(1, 2) end)
      it("raises", function() error("no") end)
      it("passes", function() end)
    ]]
    assert.equal(1, result.code)
    assert.truthy(result.out:find("1 success / 1 failure / 1 error", 1, true), result.out)
  end)
end)

-- A state of very many tables: how long it takes to save, and how long the service stands still for it.

local support = require "support"
local stress = require "support.stress"

describe("A daemon with a very large state", function()
  local box = support.with_box(before_each, after_each)

  local SERVICE = [[
    local lunad = require "lunad"
    local state = lunad.state or {}
    for i = #state + 1, tonumber(arg[1]) do
      state[i] = { id = i, name = "user" .. i, ok = i % 2 == 0 }
    end
    local sum = 0
    for _, user in ipairs(state) do sum = sum + user.id + #user.name + (user.ok and 1 or 0) end
    local last, worst = lunad.now(), 0
    lunad.every(0.002, function()
      local now = lunad.now()
      worst, last = math.max(worst, now - last), now
    end)
    lunad.on_reload(function() return state end)
    function _G.result() return ("%d %d"):format(#state, sum) end
    function _G.worst() return worst * 1000 end
  ]]

  it("saves it while it serves, and has it again", function()
    local count = stress.size(20000, 1000000)
    local words = { "start", "--state", box:path "s.state", "--state-every", stress.size("0.1", "3"),
      "--stop-timeout", "60", box:write("s.lua", SERVICE), tostring(count) }
    box:ok(table.unpack(words))
    local result = box:ok("eval", "s", "result()")
    local saved = support.wait_for("the state to be saved", function()
      local report = box:status("s").state_file
      return report.time and report
    end)
    local worst = tonumber(box:ok("eval", "s", "worst()"))
    assert.is_true(saved.held_ms < saved.ms)
    box:ok("stop", "s")
    box:ok(table.unpack(words))
    assert.equal(result, box:ok("eval", "s", "result()"))
    stress.note("%d tables, %.1f MB: saved in %.0f ms, held for %.1f ms, the worst beat %.1f ms late", count,
      saved.size / 1e6, saved.ms, saved.held_ms, worst)
  end)
end)

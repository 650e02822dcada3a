-- Specs of NAME.lua: lunad test

local test = require "lunad.test"

describe("NAME", function()
  local clock, service

  -- The clock stands still until it is moved, and the command is not really run. Both end with the spec.
  before_each(function()
    clock = test.clock(os.time { year = 2026, month = 1, day = 5, hour = 3, min = 0, sec = 30 })
    service = test.service("NAME.lua", {
      fake = { uptime = { stdout = " 10:11:12 up 3 days\n" } },
    })
  end)

  it("counts a beat every minute", function()
    clock:advance(10 * 60)
    assert.equal(10, #service:log "^beat$")
    assert.equal("10:11:12 up 3 days", service:log("^beat$")[1].uptime)
  end)

  it("goes on counting after a reload", function()
    clock:advance(120)
    assert(service:reload())
    clock:advance(60)
    assert.equal("3 beats", service:status().text)
  end)

  it("begins again at night", function()
    clock:advance(35 * 60)
    service:signal "USR1"
    local entry = test.eventually(function()
      return service:log("^beats so far$")[1]
    end)
    assert.equal(6, entry.beats) -- from 03:30:30 to 03:35:30
  end)
end)

-- Requests to a service of lunad.http that is reloaded all the time, with good code and with bad: each gets
-- its whole answer.

local requests = require "support.requests"
local support = require "support"
local stress = require "support.stress"

local SECONDS = stress.size(6, 300)
local CLIENTS = 8

local SERVICE = requests.SERVICE

-- What a service is that is refused, in several ways.
local BROKEN = {
  SERVICE .. " error 'this version is broken'",
  SERVICE .. " local function",
  "lunad.exit_now()",
  "lunad.stop()",
  SERVICE .. " lunad.task(function() os.exit(3) end)",
}

describe("a service under load", function()
  local box = support.with_box(before_each, after_each)

  it("answers every request, whatever is loaded meanwhile", function()
    box:serve(SERVICE)
    local address = box:wait_log("s", "serves (%S+)")
    local client = box:write("client.lua", requests.CLIENT)
    local load = box:spawn { "run", client, address, tostring(CLIENTS) }
    local deadline = support.uv.hrtime() + SECONDS * 1e9
    local good, bad = 0, 0
    repeat
      load.turn()
      assert.is_nil(load.code, load.err())
      if math.random(3) == 1 then
        local result = box:reload(BROKEN[math.random(#BROKEN)])
        assert.equal(1, result.code, result.err)
        bad = bad + 1
      else
        local result = box:reload(SERVICE)
        assert.equal(0, result.code, result.err)
        good = good + 1
      end
    until support.uv.hrtime() > deadline
    support.kill(load.pid, "sigterm")
    box:await(load, "the end of the clients", load.is_over, 60)
    local asked, failed = requests.read(load.out())
    stress.note("%s requests over %d reloads and %d that were refused, %s failed", asked, good, bad, failed)
    assert.equal(0, failed, load.out() .. load.err())
    assert.truthy(asked > SECONDS * 20, asked)
    assert.equal(0, #box:status("s").errors.places)
  end)
end)

-- lunad stop: gracefully, then by SIGKILL, with nothing left behind.

local support = require "support"
local uv = support.uv

describe("lunad stop", function()
  local box = support.with_box(before_each, after_each)

  local function assert_nothing_left()
    assert.same({}, box:left_files())
    support.wait_for("the end of all processes", function() return #box:marked() == 0 end, 15)
  end

  it("says NAME: stopped, exits with 0 and leaves nothing", function()
    box:start(box:idle("x"))
    local result = box:lunad("stop", "x")
    assert.equal("x: stopped\n", result.out)
    assert.equal("", result.err)
    assert.equal(0, result.code)
    assert_nothing_left()
    assert.equal(3, box:lunad("status", "x").code)
  end)

  it("lets the script stop gracefully, and returns when that is done", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.every(60, print)
      lunad.on_stop(function(reason) lunad.sleep(0.1) print("reason " .. reason) end)
    ]]))
    box:ok("stop", "x")
    assert.truthy(box:log("x"):find("x: reason stop\n", 1, true))
    assert.truthy(box:log("x"):find("lunad: stopped\n", 1, true))
  end)

  it("ends what the script has started", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.spawn { "sh", "-c", "setsid sleep 300 & sleep 301" }
      io.popen("exec sleep 302")
      os.execute("setsid sleep 303 &")
    ]]))
    support.wait_for("the children", function() return #box:marked() >= 6 end)
    box:ok("stop", "x")
    assert_nothing_left()
  end)

  it("kills when its --timeout is up, says so, and exits with 0", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.every(60, print)
      lunad.on_stop(function() print "stopping" lunad.sleep(600) end)
      lunad.spawn { "sh", "-c", "trap '' TERM; sleep 300; sleep 301" }
    ]]))
    local result = box:lunad("stop", "--timeout", "0.2", "x")
    assert.equal(0, result.code)
    assert.truthy(result.err:find("^lunad: x: .*0%.2 s.*killed"), result.err)
    assert.equal("x: stopped\n", result.out)
    assert.truthy(box:log("x"):find("x: stopping", 1, true))
    assert_nothing_left()
  end)

  it("takes --timeout after the NAME, too", function()
    box:start(box:write("x.lua", 'require("lunad").on_stop(function() require("lunad").sleep(600) end)' ..
      ' require("lunad").every(60, print)'))
    assert.equal(0, box:lunad("stop", "x", "--timeout=0.1").code)
    assert_nothing_left()
  end)

  it("waits the daemon's own --stop-timeout by default", function()
    box:start("--stop-timeout", "0.3", box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.every(60, print)
      lunad.spawn { "sh", "-c", "trap '' TERM; while :; do sleep 1; done" }
      lunad.on_stop(function() print "stopping" lunad.sleep(600) end)
    ]]))
    local begun = uv.hrtime()
    local result = box:lunad("stop", "x")
    assert.equal(0, result.code)
    assert.equal("", result.err) -- the daemon kept to its time by itself
    assert.truthy((uv.hrtime() - begun) / 1e9 >= 0.3)
    assert_nothing_left()
  end)

  it("kills a daemon that does not even answer", function()
    local pid = box:start(box:idle("x"))
    support.kill(pid, "sigstop")
    local result = box:lunad("stop", "--timeout", "0.1", "x")
    assert.equal(0, result.code)
    assert.truthy(result.err:find("killed", 1, true))
    assert_nothing_left()
  end)

  it("kills a daemon whose script is busy for ever, with its children", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.spawn { "sleep", "300" }
      lunad.after(0.001, function() print "busy" os.execute("sleep 301 & exec sleep 302") end)
    ]]))
    box:wait_log("x", "x: busy")
    assert.equal(0, box:lunad("stop", "--timeout", "0.1", "x").code)
    assert_nothing_left()
  end)

  it("joins stops that are asked for at once", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.every(60, print)
      lunad.on_stop(function() lunad.sleep(0.3) print "done in peace" end)
    ]]))
    local stops = {}
    for i = 1, 8 do stops[i] = box:spawn { "stop", "x" } end
    for _, stop in ipairs(stops) do
      box:await(stop, "a stop", stop.is_over)
      assert.equal(0, stop.code)
      assert.equal("", stop.err())
    end
    assert.truthy(box:log("x"):find("done in peace", 1, true))
    assert.is_nil(box:log("x"):find("asked to stop again", 1, true))
    assert_nothing_left()
  end)

  it("works without the socket, and clears what is left of it", function()
    box:start(box:idle("x"))
    assert(uv.fs_unlink(box:path("run/x.sock")))
    assert.equal("x: stopped\n", box:ok("stop", "x"))
    assert_nothing_left()
  end)

  it("exits with 0 whatever exit status the script asked for", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.every(60, print)
      lunad.on_stop(function() error("in on_stop") end)
    ]]))
    assert.equal("x: stopped\n", box:ok("stop", "x"))
    assert.truthy(box:log("x"):find("in on_stop", 1, true))
  end)

  it("of a daemon that stops by itself at the same time does not fail", function()
    for _ = 1, 5 do
      box:start(box:write("x.lua", 'require("lunad").sleep(0.01)'))
      assert.equal(0, box:lunad("stop", "x").code)
      assert_nothing_left()
    end
  end)

  it("leaves a new daemon of the same name alone", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.every(60, print)
      lunad.on_stop(function() lunad.sleep(0.2) end)
    ]]))
    local stop = box:spawn { "stop", "x" }
    support.wait_for("a start", function() return box:lunad("start", "x.lua").code == 0 end)
    box:await(stop, "the stop", stop.is_over)
    assert.equal(0, stop.code)
    assert.equal("running", box:status("x").state)
  end)
end)

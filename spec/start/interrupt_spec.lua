-- A start that is interrupted leaves nothing.

local support = require "support"
local uv = require "luv"

local SIGNALS = { "sigint", "sighup", "sigterm" }

-- What was killed may take a moment to die, but files must be gone at once.
local function assert_nothing_left(box, what)
  assert.same({}, box:left_files(), what)
  support.wait_for("the end of all processes", function() return #box:marked() == 0 end, 15)
end

describe("An interrupted start", function()
  local box = support.with_box(before_each, after_each)

  -- Start the text, interrupt it when its log says "loading", and check that nothing is left.
  local function interrupt(signal, text, ...)
    local words = { "start", "--wait-ready", ... }
    words[#words + 1] = box:write("x.lua", 'print "loading" ' .. text)
    local process = box:spawn(words)
    box:wait_log("x", "loading")
    support.kill(process.pid, signal)
    box:await(process, "the end of the start", process.is_over)
    assert.equal("", process.out(), signal)
    assert.truthy(process.code ~= 0 or process.signal ~= 0, signal)
    assert_nothing_left(box, signal)
    os.remove(box:path("log/x.log"))
    return process
  end

  it("says so, and exits with 1", function()
    for _, signal in ipairs(SIGNALS) do
      local process = interrupt(signal, 'require("lunad").sleep(600)')
      assert.equal(1, process.code, signal)
      assert.truthy(process.err():find("^lunad: x: .*cancel"), process.err())
    end
  end)

  it("is cancelled though the chunk is busy", function()
    for _, signal in ipairs(SIGNALS) do
      interrupt(signal, "while true do pcall(function() while true do end end) end")
    end
  end)

  it("is cancelled though the chunk is in a call of C", function()
    for _, signal in ipairs(SIGNALS) do
      interrupt(signal, 'os.execute("sleep 300 & exec sleep 301")')
    end
    interrupt("sigterm", 'string.rep("a", 60):find(("a*"):rep(60) .. "b")')
    interrupt("sigterm", 'io.popen("exec sleep 300"):read("a")')
  end)

  it("ends what the script has started, in whatever group or session", function()
    interrupt("sigint", [[
      local lunad = require "lunad"
      lunad.spawn { "sh", "-c", "trap '' TERM; setsid sleep 300 & sleep 301" }
      io.popen("(setsid sleep 302 &) ; exec sleep 303")
      lunad.sleep(600)
    ]])
  end)

  it("is cancelled with --user as well", function()
    if not support.is_root then return pending("needs root") end
    for round = 1, 12 do
      interrupt(SIGNALS[round % 3 + 1], 'require("lunad").sleep(600)', "--user", "nobody")
    end
    interrupt("sigint", 'os.execute("sleep 300 & exec sleep 301")', "--user", "nobody")
  end)

  it("leaves alone what its shell had started before exec", function()
    box:write("x.lua", 'print "loading" require("lunad").sleep(600)')
    local line = 'sleep 300 & echo $!; exec "$0" start --wait-ready x.lua'
    local process = box:spawn({ "-c", line, support.binary }, { program = "sh" })
    box:wait_log("x", "loading")
    support.kill(process.pid, "sigterm")
    box:await(process, "the end of the start", function() return process.code end)
    local bystander = math.tointeger(tonumber(process.out()))
    assert.is_true(support.is_alive(bystander))
    support.kill(bystander, "sigkill")
    box:await(process, "the end of the bystander", process.is_over)
    assert.truthy(process.err():find("^lunad: x: .*cancel"), process.err())
    assert_nothing_left(box)
  end)

  it("is cancelled beside such a child, however early", function()
    box:write("x.lua", 'require("lunad").sleep(600)')
    local line = 'sleep 300 & echo $!; exec "$0" start --wait-ready x.lua'
    for round = 0, 24 do
      local process = box:spawn({ "-c", line, support.binary }, { program = "sh" })
      box:await(process, "the start", function() return #process.out() > 0 end)
      local deadline = uv.hrtime() + round * 500000
      while uv.hrtime() < deadline do process.turn() end
      support.kill(process.pid, "sigterm")
      box:await(process, "the end of the start", function() return process.code end)
      support.kill(math.tointeger(tonumber(process.out())), "sigkill")
      box:await(process, "the end of the bystander", process.is_over)
      assert_nothing_left(box)
    end
  end)

  it("is cancelled by Ctrl-C on its terminal", function()
    box:write("x.lua", 'print "loading" os.execute("sleep 300")')
    local line = support.binary .. " start x.lua"
    local process = box:spawn({ "-qec", line, "/dev/null" }, { program = "script", keep_stdin = true })
    box:wait_log("x", "loading")
    process.stdin:write("\3")
    box:await(process, "the end", function() return process.code end)
    process.stdin:close()
    box:await(process, "the end of the terminal", process.is_over)
    assert.truthy(process.code ~= 0)
    assert_nothing_left(box)
  end)

  it("is cancelled when its terminal hangs up", function()
    box:write("x.lua", 'print "loading" os.execute("sleep 300")')
    local line = support.binary .. " start x.lua"
    local process = box:spawn({ "-qec", line, "/dev/null" }, { program = "script", keep_stdin = true })
    box:wait_log("x", "loading")
    support.kill(process.pid, "sigkill")
    process.stdin:close()
    box:await(process, "the end of the terminal", process.is_over)
    support.wait_for("an end without a rest", function()
      return #box:left_files() == 0 and #box:marked() == 0
    end)
  end)

  it("leaves alone a daemon that already runs", function()
    local pid = box:start(box:idle("x"))
    local process = box:spawn { "start", "x.lua" }
    support.kill(process.pid, "sigterm")
    box:await(process, "the end of the start", process.is_over)
    assert.equal(pid, box:status("x").pid)
  end)

  it("is cancelled when it is part of a restart", function()
    box:start("--wait-ready", "--env", "FLAG=" .. box:path("flag"), box:write("x.lua", [[
      local lunad = require "lunad"
      if io.open(os.getenv "FLAG") then print "again" lunad.sleep(600) end
      lunad.ready()
      lunad.every(60, print)
    ]]))
    box:write("flag", "")
    local process = box:spawn { "restart", "x" }
    box:wait_log("x", "x: again")
    support.kill(process.pid, "sigterm")
    box:await(process, "the end of the restart", process.is_over, 3)
    assert_nothing_left(box)
  end)

  it("is cancelled at whatever moment the signal comes", function()
    box:write("x.lua", 'require("lunad").sleep(600)')
    for round = 1, 40 do
      local process = box:spawn { "start", "--wait-ready", "x.lua" }
      local go = support.uv.hrtime() + round * 0.2e6
      while support.uv.hrtime() < go do end
      support.kill(process.pid, SIGNALS[round % 3 + 1])
      box:await(process, "the end of the start", process.is_over)
      assert_nothing_left(box, "round " .. round)
    end
  end)

  it("is cancelled though the signal came before there was a daemon", function()
    box:write("x.lua", 'require("lunad").sleep(600)')
    for _ = 1, 20 do -- the signal waits, blocked, until lunad looks for it
      local result = box:shell('kill -TERM $$; exec "$1" start --wait-ready x.lua', {},
        { through = { "env", "--block-signal=TERM" } })
      assert.truthy(result.code ~= 0)
      assert_nothing_left(box)
    end
  end)
end)

describe("A start whose daemon is told to stop", function()
  local box = support.with_box(before_each, after_each)

  it("fails and leaves nothing, by TERM, INT or lunad stop", function()
    for _, words in ipairs { { "signal", "x", "TERM" }, { "signal", "x", "INT" }, { "stop", "x" } } do
      box:write("x.lua", 'print "loading" require("lunad").sleep(600)')
      local process = box:spawn { "start", "--wait-ready", "x.lua" }
      box:wait_log("x", "loading")
      assert.equal(0, box:lunad(table.unpack(words)).code)
      box:await(process, "the end of the start", process.is_over)
      assert.equal(1, process.code)
      assert.truthy(process.err():find("^lunad: "), process.err())
      assert.same({}, box:left_files())
      assert.truthy(os.remove(box:path("log/x.log")))
    end
  end)

  it("fails and leaves nothing when it is killed", function()
    box:write("x.lua", 'print "loading" require("lunad").spawn { "sleep", "300" } os.execute("sleep 301")')
    local process = box:spawn { "start", "x.lua" }
    support.wait_for("starter, daemon and children", function() return #box:marked() == 5 end)
    assert.equal(0, box:lunad("signal", "x", "KILL").code)
    box:await(process, "the end of the start", process.is_over)
    assert.equal(1, process.code)
    assert.truthy(process.err():find("^lunad: x: .*died"), process.err())
    assert.same({}, box:left_files())
    support.wait_for("the end of its children", function() return #box:marked() == 0 end, 15)
  end)
end)

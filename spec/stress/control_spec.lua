-- 2,000 clients of the control socket that behave badly, while a person uses it.

local support = require "support"
local stress = require "support.stress"

local uv = support.uv

local SECONDS = stress.size(4, 60)
local KINDS = { silent = 1000, slow = 400, shouting = 100, passing = 500 }
local FDS = 12 -- by how many descriptors a daemon may differ from what it had

describe("A daemon with 2,000 control clients", function()
  local box = support.with_box(before_each, after_each)
  local crowds

  before_each(function() crowds = {} end)

  -- Let a crowd of clients come.
  local function come(kind, count)
    crowds[#crowds + 1] = box:spawn({ support.root .. "/spec/fixtures/crowd.lua", box:path "run/s.sock", kind,
      tostring(count) }, { program = "lua5.4" })
  end

  -- Let all of them go.
  local function go()
    for _, crowd in ipairs(crowds) do
      support.kill(crowd.pid, "sigkill")
      box:await(crowd, "the end of a crowd", function() return crowd.code or crowd.signal end)
    end
    crowds = {}
  end

  local BEAT = [[
    local runs, beat = 0, nil
    beat = lunad.every(0.01, function()
      runs = runs + 1
      lunad.status(("%d of %d beats"):format(runs, runs + beat:missed()))
    end)
  ]]

  it("keeps its beat, answers a person in time, reloads, and has its descriptors back", function()
    local pid = box:serve(BEAT)
    local fds = support.count_fds(pid)
    for kind, count in pairs(KINDS) do
      come(kind, count)
    end
    local worst, asked, reloads = 0, 0, 0
    local ending = uv.hrtime() + SECONDS * 1e9
    repeat
      local before = uv.hrtime()
      local result = box:lunad("status", "s")
      worst, asked = math.max(worst, uv.hrtime() - before), asked + 1
      assert.equal(0, result.code)
      assert.matches("^s: running, pid %d+, up", result.out)
      if asked % 5 == 0 then
        box:ok("reload", "s")
        reloads = reloads + 1
      end
      uv.sleep(200)
    until uv.hrtime() > ending and reloads > 0
    local text = support.wait_for("a beat", function() return box:status("s").text end)
    local runs, beats = text:match "(%d+) of (%d+)"
    stress.note("status: %d times, %.0f ms at most; %d reloads; since the last %s of %s beats", asked,
      worst / 1e6, reloads, runs, beats)
    assert.is_true(tonumber(runs) > 0)
    go()
    support.wait_for("the descriptors", function() return support.count_fds(pid) <= fds + FDS end)
    assert.is_true(support.count_fds(pid) >= fds - FDS)
  end)

  it("spends no time on those that are silent", function()
    local pid = box:serve ""
    come("silent", 2000)
    support.wait_for("them to be connected", function() return support.count_fds(pid) > 120 end)
    local least, spent = math.huge, nil
    support.wait_for("a quiet second", function()
      local before = support.cpu_of(pid)
      uv.sleep(1000)
      spent = support.cpu_of(pid) - before
      least = math.min(least, spent)
      return spent < 0.2
    end)
    go()
    stress.note("2,000 silent clients cost %.0f ms of a second", least * 1000)
  end)
end)

describe("A daemon whose timers take all the time", function()
  local box = support.with_box(before_each, after_each)

  it("still answers, and hears its children", function()
    box:serve [[
      lunad.every(0.001, function()
        local ending = lunad.now() + 0.02
        repeat until lunad.now() > ending
      end)
      lunad.spawn { "sh", "-c", "while :; do echo said; sleep 0.1; done" }
    ]]
    for _ = 1, 3 do
      assert.is_nil(box:status("s").error)
    end
    box:wait_log("s", "said\n.*said\n")
  end)
end)

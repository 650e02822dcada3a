-- lunad logs: the end of a daemon's log, and what follows.

local support = require "support"
local uv = support.uv

-- Lines "line FIRST" to "line LAST".
local function lines(first, last)
  local list = {}
  for i = first, last do
    list[#list + 1] = "line " .. i .. "\n"
  end
  return table.concat(list)
end

describe("lunad logs", function()
  local box = support.with_box(before_each, after_each)

  before_each(function() uv.fs_mkdir(box:path("log"), tonumber("755", 8)) end)

  it("shows the last 10 lines, also of a stopped daemon", function()
    box:write("log/x.log", lines(1, 30))
    assert.equal(lines(21, 30), box:ok("logs", "x"))
    assert.equal(lines(21, 30), box:ok("logs", "any/where/x.lua"))
  end)

  it("shows as many lines as -n says", function()
    box:write("log/x.log", lines(1, 30))
    assert.equal(lines(28, 30), box:ok("logs", "-n", "3", "x"))
    assert.equal(lines(28, 30), box:ok("logs", "x", "-n3"))
    assert.equal(lines(30, 30), box:ok("logs", "--lines=1", "x"))
    assert.equal(lines(1, 30), box:ok("logs", "-n", "30", "x"))
    assert.equal(lines(1, 30), box:ok("logs", "-n", "1000", "x"))
    assert.equal("", box:ok("logs", "-n", "0", "x"))
  end)

  it("refuses what is no count, naming option and value", function()
    for _, value in ipairs { "", "-1", "x", "1.5", "1K", " 2", "99999999999999999999" } do
      local err = box:refused(2, "logs", "-n", value, "x")
      assert.truthy(err:find("--lines", 1, true) or err:find("-n", 1, true), err)
      assert.truthy(err:find('"' .. value .. '"', 1, true), err)
    end
  end)

  it("counts a last line without its end, and empty lines", function()
    box:write("log/x.log", "a\nb\nunfinished")
    assert.equal("unfinished", box:ok("logs", "-n", "1", "x"))
    assert.equal("b\nunfinished", box:ok("logs", "-n", "2", "x"))
    box:write("log/x.log", ("\n"):rep(40000))
    assert.equal(("\n"):rep(10), box:ok("logs", "x"))
    box:write("log/x.log", "")
    assert.equal("", box:ok("logs", "x"))
  end)

  it("shows lines longer than any block, and bytes as they are", function()
    local long = ("x"):rep(50000) .. "\0\xFF\n"
    box:write("log/x.log", long:rep(5))
    assert.equal(long:rep(2), box:ok("logs", "-n", "2", "x"))
    assert.equal(long:rep(5), box:ok("logs", "x"))
  end)

  it("shows the log of a running daemon, wherever that is", function()
    box:start("--log", "own.log", box:write("x.lua", 'print "here" require("lunad").every(60, print)'))
    assert.truthy(box:ok("logs", "x"):find("x: here\n", 1, true))
  end)

  it("fails with 1 where there is no log file", function()
    assert.truthy(box:refused(1, "logs", "x"):find("x.log", 1, true))
    assert.equal(1, box:lunad("logs", "-f", "x").code)
    box:start("--log", "none", box:idle("x"))
    assert.truthy(box:refused(1, "logs", "x"):find("none", 1, true))
  end)
end)

describe("lunad logs -f", function()
  local box = support.with_box(before_each, after_each)

  before_each(function()
    uv.fs_mkdir(box:path("log"), tonumber("755", 8))
    box:write("log/x.log", lines(1, 3))
  end)

  local function append(text)
    local file = assert(io.open(box:path("log/x.log"), "ab"))
    file:write(text)
    file:close()
  end

  local function follow(...)
    local process = box:spawn { "logs", "-f", ... }
    return process, function(expected)
      box:await(process, ("%q to be shown"):format(expected), function() return process.out() == expected end)
    end
  end

  local function interrupt(process)
    support.kill(process.pid, "sigint")
    box:await(process, "the end", process.is_over)
    assert.equal("", process.err())
  end

  it("goes on with what is written, until Ctrl-C", function()
    local process, shows = follow("-n", "1", "x")
    shows("line 3\n")
    append("line 4\nhalf")
    shows("line 3\nline 4\nhalf")
    append(" a line\n")
    shows("line 3\nline 4\nhalf a line\n")
    interrupt(process)
  end)

  it("shows only what is new with -n 0", function()
    local process = follow("x", "-n", "0")
    support.wait_for("a new line to be shown", function()
      append("new\n")
      process.turn()
      return process.out():find("^new\n")
    end)
    assert.is_nil(process.out():find("line", 1, true))
    interrupt(process)
  end)

  -- Start a daemon that prints "winch" for a signal, and follow its log.
  local function follow_winch()
    box:start(box:write("x.lua", 'require("lunad").signal("WINCH", function() print "winch" end)'))
    local process = follow("-n", "0", "x")
    support.wait_for("a first line", function()
      box:ok("signal", "x", "WINCH")
      process.turn()
      return process.out():find("winch", 1, true)
    end)
    return process
  end

  it("follows a daemon over a rotation", function()
    local process = follow_winch()
    assert(uv.fs_rename(box:path("log/x.log"), box:path("log/x.log.1")))
    box:ok("signal", "x", "USR2")
    support.wait_for("a last line in the old file", function()
      return box:read("log/x.log.1"):find("status: x", 1, true)
    end)
    box:ok("reopen", "x")
    box:ok("signal", "x", "WINCH")
    box:await(process, "all lines", function()
      return process.out():find("status: x.*log reopened.*winch")
    end)
    interrupt(process)
  end)

  it("begins again in a file that was cut", function()
    local process, shows = follow("-n", "1", "x")
    shows("line 3\n")
    box:write("log/x.log", "")
    append("new\n")
    shows("line 3\nnew\n")
    interrupt(process)
  end)

  it("ends when nobody reads any more", function()
    local result = box:shell('"$1" logs -f x | head -n 1')
    assert.equal("line 1\n", result.out)
  end)
end)

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

  it("refuses what is not a count, naming option and value", function()
    for _, value in ipairs { "", "-1", "x", "1.5", "1K", " 2", "99999999999999999999" } do
      local err = box:refused(2, "logs", "-n", value, "x")
      assert.truthy(err:find("--lines", 1, true) or err:find("-n", 1, true), err)
      assert.truthy(err:find('"' .. value .. '"', 1, true), err)
    end
  end)

  it("counts a last line without a newline, and empty lines", function()
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

  it("refuses at once what is not a regular file, saying what it is", function()
    local made = {
      FIFO = function(path) assert.equal(0, box:run({ path }, { program = "mkfifo" }).code) end,
      directory = function(path) assert(uv.fs_mkdir(path, tonumber("755", 8))) end,
      ["symbolic link"] = function(path) assert(uv.fs_symlink(box:write("target", "x\n"), path)) end,
      socket = function(path)
        local pipe = uv.new_pipe()
        assert(pipe:bind(path))
        finally(function() pipe:close() uv.run "nowait" end)
      end,
    }
    for kind, make in pairs(made) do
      make(box:path("log/" .. kind .. ".log"))
      assert(uv.fs_rename(box:path("log/" .. kind .. ".log"), box:path("log/y.log")))
      for _, words in ipairs { { "logs", "y" }, { "logs", "-f", "-n", "0", "y" } } do
        local err = box:refused(1, table.unpack(words))
        assert.matches("log/y%.log: a " .. kind .. ", not a regular file\n$", err)
      end
      assert(os.remove(box:path("log/y.log")))
    end
  end)

  it("refuses a device that a daemon logs to", function()
    box:start("--log", "/dev/full", box:idle("x"))
    local err = box:refused(1, "logs", "x")
    assert.equal("lunad: x: its log /dev/full: a device, not a regular file\n", err)
  end)

  it("takes nothing out of a FIFO, and does not disturb its writer", function()
    local result = box:shell([[
      mkfifo log/y.log || exit 9
      echo kept >log/y.log & writer=$!
      "$1" logs y; echo "status $?"
      timeout 5 head -n 1 log/y.log
      wait $writer; echo "writer $?"; rm log/y.log
    ]])
    assert.equal("status 1\nkept\nwriter 0\n", result.out)
  end)

  it("ends though the log grows faster than it is read", function()
    box:write("log/x.log", lines(1, 3))
    local result = box:shell([[
      sleep 60 & holder=$!
      (while :; do echo more; done) >>log/x.log & writer=$!
      "$1" logs -n 100000 x | { sleep 0.3; cat >shown; }; echo "status ${PIPESTATUS[0]}"
      kill $writer $holder
    ]])
    assert.equal("status 0\n", result.out)
    assert.truthy(box:read("shown"):find("^line 1\nline 2\nline 3\n"))
  end)

  it("says that its output cannot be written", function()
    box:write("log/x.log", lines(1, 3))
    local result = box:shell('"$1" logs x >/dev/full')
    assert.equal(1, result.code)
    assert.equal("lunad: x: writing its log to stdout: No space left on device\n", result.err)
  end)

  it("fails with 1 where there is no log file", function()
    assert.truthy(box:refused(1, "logs", "x"):find("x.log", 1, true))
    assert.equal(1, box:lunad("logs", "-f", "x").code)
    box:start("--log", "none", box:idle("x"))
    assert.truthy(box:refused(1, "logs", "x"):find("none", 1, true))
  end)
end)

describe("lunad logs, of the rotated files too,", function()
  local box = support.with_box(before_each, after_each)

  before_each(function() uv.fs_mkdir(box:path("log"), tonumber("755", 8)) end)

  it("shows as many lines as are asked for", function()
    box:write("log/x.log.2", lines(1, 10))
    box:write("log/x.log.1", lines(11, 20))
    box:write("log/x.log", lines(21, 23))
    assert.equal(lines(14, 23), box:ok("logs", "x"))
    assert.equal(lines(22, 23), box:ok("logs", "-n2", "x"))
    assert.equal(lines(21, 23), box:ok("logs", "-n3", "x"))
    assert.equal(lines(20, 23), box:ok("logs", "-n4", "x"))
    assert.equal(lines(1, 23), box:ok("logs", "-n100", "x"))
    box:write("log/x.log", "")
    assert.equal(lines(20, 20), box:ok("logs", "-n1", "x"))
    assert(os.remove(box:path("log/x.log")))
    assert.equal(lines(20, 20), box:ok("logs", "-n1", "x"))
  end)

  it("reads no numbered file that is not a regular one", function()
    box:write("log/x.log", lines(1, 2))
    assert.equal(0, box:run({ box:path("log/x.log.1") }, { program = "mkfifo" }).code)
    assert(uv.fs_symlink(box:write("secret", "secret\n"), box:path("log/x.log.2")))
    assert.equal(lines(1, 2), box:ok("logs", "x"))
  end)
end)

describe("lunad logs", function()
  local box = support.with_box(before_each, after_each)

  local LOG = table.concat({
    "2026-01-01T10:00:00.000Z info  x: one",
    "raw",
    "2026-01-01T11:00:00.000Z error x: two",
    "    further",
    "2026-01-01T12:00:00.500Z warn  x: three",
    '{"time":"2026-01-01T13:00:00.000Z","level":"error","source":"x","pid":1,"message":"four"}',
    "2026-01-01T14:00:00.000Z debug x: five",
  }, "\n") .. "\n"

  local function shown(pattern)
    local list = {}
    for line in LOG:gmatch "[^\n]+\n" do
      list[#list + 1] = line:find(pattern) and line or nil
    end
    return table.concat(list)
  end

  before_each(function()
    uv.fs_mkdir(box:path("log"), tonumber("755", 8))
    box:write("log/x.log", LOG)
  end)

  it("shows what has a level or a higher one, with its further lines", function()
    local ERRORS = "two\n    further\n"
    assert.equal(LOG, box:ok("logs", "--level", "debug", "x"))
    assert.equal((LOG:gsub("[^\n]+five\n", "")), box:ok("logs", "--level", "info", "x"))
    local errors = box:ok("logs", "--level", "error", "x")
    assert.truthy(errors:find(ERRORS, 1, true))
    assert.equal(3, select(2, errors:gsub("\n", "")))
    assert.equal(shown "four", box:ok("logs", "--level=error", "-n1", "x"))
  end)

  it("shows what was logged since a time, all of it unless -n says how much", function()
    for _, since in ipairs { "2026-01-01T12:00", "2026-01-01 12:00:00Z", "2026-01-01T12:00:00.500" } do
      assert.equal(shown "three" .. shown "four" .. shown "five", box:ok("logs", "--since", since, "x"))
    end
    assert.equal(shown "four" .. shown "five", box:ok("logs", "--since", "2026-01-01T12:00:00.501Z", "x"))
    assert.equal(LOG, box:ok("logs", "--since", "2026-01-01", "x"))
    assert.equal(shown "five", box:ok("logs", "--since", "2026-01-01", "-n1", "x"))
    assert.equal("", box:ok("logs", "--since", "2026-01-02", "x"))
    assert.equal("", box:ok("logs", "--since", "1", "x"))
    local now = os.date("!%Y-%m-%dT%H:%M:%S.000Z info  x: now\n")
    box:write("log/x.log", LOG .. now)
    for _, since in ipairs { "600", "600s", "10m", "1.5h", "2d" } do
      assert.truthy(box:ok("logs", "--since", since, "x"):find(now, 1, true), since)
    end
  end)

  it("refuses what is no time or level", function()
    for _, since in ipairs { "", "x", "-1", "1w", "2026-13-01", "2026-02-30", "2026-01-01T25:00",
                             "2026-01-01T10", "2026-01-01T10:00:00+1", "1e3" } do
      local err = box:refused(2, "logs", "--since", since, "x")
      assert.truthy(err:find('--since: "' .. since .. '"', 1, true), err)
    end
    assert.truthy(box:refused(2, "logs", "--level", "loud", "x"):find("debug|info|warn|error", 1, true))
  end)

  it("prints objects, with the fields that a line in text ends with", function()
    box:serve [==[
      lunad.log.info("tick", { count = 3, ratio = 0.5, ok = true, word = "x", two = "two words" })
      lunad.log.error("failed\nagain",
        { code = 7, trace = debug.traceback("oops"), time = "own", esc = "a\1\"\\" })
      lunad.log.info("a=b message with x=1 inside")
      io.write "raw\n"
    ]==]
    local found = {}
    for line in box:ok("logs", "--json", "-n100", "s"):gmatch "[^\n]+" do
      local object = assert(support.json.decode(line), line)
      found[object.message] = object
    end
    local tick = found.tick
    assert.same({ "info", "s", 3, 0.5, true, "x", "two words" },
      { tick.level, tick.source, tick.count, tick.ratio, tick.ok, tick.word, tick.two })
    assert.truthy(tick.time:find "^%d%d%d%d%-.*Z$")
    local failed = found["failed\nagain"]
    assert.same({ "error", 7, "own", 'a\1"\\' }, { failed.level, failed.code, failed.time_, failed.esc })
    assert.truthy(failed.trace:find("^oops\nstack traceback:\n\t"), failed.trace)
    assert.truthy(found["a=b message with x=1 inside"])
    assert.is_true(found.raw.raw)
  end)

  it("prints objects of whatever the file has", function()
    box:write("log/x.log", table.concat {
      "2026-01-01T10:00:00.000Z info  x: m\n    k=\n        v\n    \n    \n     x\n    other=\n        w\n",
      "2026-01-01T10:00:00.000Z info  \n", "2026-01-01T10:00:00.000Z info  x:\n",
      "\n", "    \n", "{\n", "\0\255\n",
      "2026-01-01T10:00:00.000Z info  x: a=\"\\ b=\"\\x4 c=\"\\\" d=\n",
      "2026-01-01T10:00:00.000Z info  x: many", (" k=1"):rep(8000), " k=2\n",
      "torn" })
    local count, last = 0, nil
    for line in box:ok("logs", "--json", "-n100", "x"):gmatch "[^\n]+" do
      local object = assert(support.json.decode(line), line)
      last = object.message == "many" and object or last
      count = count + 1
    end
    assert.equal(10, count)
    assert.same({ 1, 1, 2 }, { last.k, last.k_, last["k" .. ("_"):rep(64)] })
  end)

  it("has a traceback in a field in lines that can be read", function()
    box:serve "lunad.log.error('failed', { code = 7, trace = debug.traceback('oops') })"
    local block = "    trace=\n        oops\n        stack traceback:\n        \t"
    assert.matches("s: failed code=7\n" .. block, box:log "s")
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

  it("shows what is written, until Ctrl-C", function()
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

  it("shows every line once and in order, however fast the log is rotated", function()
    local writer = [[
      local lunad = require "lunad"
      local line, timer = 0, nil
      timer = lunad.every(0.001, function()
        for _ = 1, 20 do
          line = line + 1
          print("number " .. line .. " .")
        end
        if line == 20000 then timer:stop() end
      end)
      lunad.every(60, print)
    ]]
    box:write("log/x.log", "begin\n")
    local process, shows = follow("x")
    shows("begin\n")
    box:start("--log-max-size", "2K", "--log-keep", "900", box:write("x.lua", writer))
    box:await(process, "the last line", function()
      return process.out():find("number 20000 .\n", 1, true)
    end, 60)
    local expected = 0
    for number in process.out():gmatch "x: number (%d+) %.\n" do
      expected = expected + 1
      assert.equal(expected, tonumber(number))
    end
    assert.equal(20000, expected)
    interrupt(process)
  end)

  it("follows the events that are asked for", function()
    append("2026-01-01T10:00:00.000Z warn  x: zero\n")
    local process, shows = follow("-n", "1", "--level", "warn", "x")
    shows("2026-01-01T10:00:00.000Z warn  x: zero\n")
    append("2026-01-01T10:00:00.000Z info  x: one\n2026-01-01T10:00:00.000Z warn  x: t")
    append("wo\n    further\nraw\n")
    shows("2026-01-01T10:00:00.000Z warn  x: zero\n2026-01-01T10:00:00.000Z warn  x: two\n    further\n")
    interrupt(process)
  end)

  it("starts again in a file that was truncated", function()
    local process, shows = follow("-n", "1", "x")
    shows("line 3\n")
    box:write("log/x.log", "")
    append("new\n")
    shows("line 3\nnew\n")
    interrupt(process)
  end)

  it("does not open what cannot be a log, and waits for a file that can", function()
    local process, shows = follow("-n", "1", "x")
    shows("line 3\n")
    local old = assert(io.open(box:path("log/x.log"), "ab"))
    for _, make in ipairs { { "mkfifo", "log/new" }, { "ln", "-s", "/dev/zero", "log/new" },
                            { "mkdir", "log/new" } } do
      box:run({ table.unpack(make, 2) }, { program = make[1] })
      assert.equal(0, box:run({ "-Tf", "log/x.log", "away" .. make[1] }, { program = "mv" }).code)
      assert.equal(0, box:run({ "-T", "log/new", "log/x.log" }, { program = "mv" }).code)
      old:write(make[1], "\n")
      old:flush()
      box:await(process, "a line by the old file", function()
        return process.out():find(make[1] .. "\n", 1, true)
      end)
    end
    assert(uv.fs_rmdir(box:path("log/x.log")))
    old:write("last\n")
    old:close()
    append("new\n")
    shows("line 3\nmkfifo\nln\nmkdir\nlast\nnew\n")
    interrupt(process)
  end)

  it("follows a file that is removed, made again and truncated", function()
    local process, shows = follow("-n", "1", "x")
    shows("line 3\n")
    assert(os.remove(box:path("log/x.log")))
    append("again\n")
    shows("line 3\nagain\n")
    box:write("log/x.log", "cut\n")
    shows("line 3\nagain\ncut\n")
    append("\0\255 bytes\n" .. ("x"):rep(200000) .. "\n")
    shows("line 3\nagain\ncut\n\0\255 bytes\n" .. ("x"):rep(200000) .. "\n")
    interrupt(process)
  end)

  it("does not spin when its terminal is gone", function()
    local result = box:shell([[
      mkfifo in; sleep 60 <>in & holder=$!
      script -qefc "echo \$\$ >pid; exec \"$1\" logs -f x" /dev/null >/dev/null 2>&1 <in & terminal=$!
      for i in $(seq 1000); do [ -s pid ] && break; sleep 0.01; done
      trap '' HUP
      kill -9 $terminal; wait $terminal 2>/dev/null
      for i in $(seq 1000); do kill -0 $(cat pid) 2>/dev/null || break; sleep 0.01; done
      kill -0 $(cat pid) 2>/dev/null && echo lives
      kill $holder
    ]])
    assert.equal("", result.out)
  end)

  it("ends when its output is not read any longer", function()
    local result = box:shell('"$1" logs -f x | head -n 1')
    assert.equal("line 1\n", result.out)
  end)
end)

-- lunad status on a terminal: colour, and --watch.

local support = require "support"

local TERMINAL = support.with_terminal(setup, teardown)

describe("lunad status on a terminal", function()
  local box = support.with_box(before_each, after_each)

  -- Run words of a shell on a terminal, with stty before and after them.
  local function on_terminal(words, env)
    local stty = '; stty -a | tr -d "\n"; echo; '
    local command = "trap : INT" .. stty .. words .. '; echo "code $?"' .. stty .. "echo END"
    env = env or {}
    env.LUNAD, env.TERM = support.binary, env.TERM or "xterm"
    return box:spawn({ "sh", "-c", command }, { program = TERMINAL, env = env, keep_stdin = true })
  end

  local function wait(process, pattern)
    box:await(process, pattern, function() return process.out():find(pattern) end)
  end

  local function close(process)
    process.stdin:shutdown(function() process.stdin:close() end)
    box:await(process, "the end", process.is_over)
  end

  -- Both times that stty has shown how the terminal is set are alike.
  local function assert_restored(process)
    local before, after = process.out():match "(speed[^\n]+)\n.*(speed[^\n]+)\n"
    assert.equal(before, after)
  end

  it("has colour, and none with NO_COLOR or on a dumb one", function()
    box:serve "lunad.every(60, print)"
    for _, case in ipairs { { {}, true }, { { NO_COLOR = "1" }, false }, { { TERM = "dumb" }, false } } do
      local process = on_terminal('"$LUNAD" status s; "$LUNAD" list', case[1])
      wait(process, "END")
      assert.matches("running", process.out())
      assert.equal(case[2], process.out():find("\27[", 1, true) ~= nil)
      close(process)
    end
    assert.not_matches("\27", box:ok "list")
    assert.equal(box:ok "list":gsub("%d+%.%ds", ""), box:ok "status":gsub("%d+%.%ds", ""))
  end)

  it("is shown again by --watch until q, and the terminal is as it was", function()
    box:serve "local n = 0 lunad.every(0.05, function() n = n + 1 lunad.status('beat ' .. n) end)"
    local process = on_terminal '"$LUNAD" status --watch s'
    wait(process, "\27%[%?1049h.*beat (%d+)")
    local first = process.out():match "beat (%d+)"
    box:await(process, "another beat", function()
      return process.out():match ".*beat (%d+)" ~= first
    end)
    box:ok("stop", "s")
    wait(process, "not running")
    process.stdin:write "q"
    wait(process, "\27%[%?1049l.*code 0.*END")
    assert_restored(process)
    close(process)
  end)

  it("is ended by Ctrl-C, shows the list without a name, and needs a terminal", function()
    box:serve ""
    local process = on_terminal '"$LUNAD" status --watch'
    wait(process, "NAME.*running")
    process.stdin:write "\3"
    wait(process, "\27%[%?1049l.*END")
    assert_restored(process)
    close(process)
    assert.matches("needs a terminal", box:refused(2, "status", "--watch", "s"))
    assert.matches("exclude", box:refused(2, "status", "--watch", "--json", "s"))
  end)
end)

describe("the status for people", function()
  local box = support.with_box(before_each, after_each)

  it("names timers and tasks, and says when cron comes next and what a task waits for", function()
    local path = box:write("n.lua", [[
      local lunad = require "lunad"
      local net = require "lunad.net"
      local function poll() end
      local beat = lunad.every(36000, poll)
      assert(beat:name() == nil and beat:name "the beat" == beat and beat:name() == "the beat")
      local once = lunad.after(0.01, function() end):name "once"
      lunad.every(300, poll)
      lunad.cron("0 3 * * *", function() end)
      local M = {}
      M.napper = function() lunad.sleep(3000) end
      lunad.task(M.napper)
      local task = lunad.task(function() lunad.exec { "/bin/sleep", "600" } end):name "backup"
      assert(task:name() == "backup")
      assert(not pcall(task.name, task, "") and not pcall(beat.name, beat, 5))
      assert(not pcall(beat.name, beat, ("x"):rep(101)))
      lunad.task(function() for _ in lunad.channel():each() do end end):name "worker"
      local server = net.serve("unix:" .. arg[1], function(stream) stream:read(10) end)
      lunad.task(function() net.connect("unix:" .. arg[1]):read() end)
      lunad.task(function() for _ in net.connect("unix:" .. arg[1]):lines() do end end):name "liner"
      lunad.after(0.05, function()
        once:again(500)
        assert(once:name() == "once")
        print "armed"
      end)
    ]])
    box:start(path, box:path "n.peer", "two words")
    box:wait_log("n", "armed")
    local text = box:ok("status", "n")
    for _, part in ipairs { "timer +every 36000 s +the beat +in %d+ h %d+ min +0 runs",
      "every 300 s +poll +in [45] min",
      "after +once +in 8 min", "cron 0 3 %* %* %* +%d+%-%d%d%-%d%d 03:00:00, in [%d hmins]+0 runs",
      "task +M%.napper +sleep, [45]%d min to go", "task +backup +exec sleep, [%d.]+ s",
      "read of unix:%S+n%.peer, ", "task +worker +each, [%d.]+ s",
      "task +liner +lines of unix:%S+n%.peer, [%d.]+ s",
      "n%.lua %S+n%.peer \"two words\" %(daemon%)",
      "handles +pipe %d" } do
      assert.matches(part, text)
    end
    local status = box:status "n"
    assert.same({ box:path "n.peer", "two words" }, status.args)
    assert.is_true(status.handles.pipe >= 2)
  end)

  it("keeps text and last error over a reload, and stays small with very many timers", function()
    box:serve "lunad.status 'said before' lunad.after(0, error, 'an error')"
    support.wait_for("the error", function() return box:status("s").errors.count == 1 end)
    box:reload "for i = 1, 10000 do lunad.after(600 + i, function() end) end"
    local text = box:ok("status", "s")
    assert.matches("status +said before\n", text)
    assert.matches("errors +1; the last %d+%-%d%d%-%d%d %d%d:%d%d:%d%d: .*an error", text)
    assert.matches("timer +and 900%d more", text)
    assert.is_true(#text < 200000)
  end)
end)

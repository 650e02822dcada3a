-- What a daemon must not inherit from the process that starts it, however hostile.

local support = require "support"
local uv = support.uv

-- The files that the descriptors of a process refer to.
local function descriptors(pid)
  local found = {}
  local scan = assert(uv.fs_scandir(("/proc/%d/fd"):format(pid)))
  local name = uv.fs_scandir_next(scan)
  while name do
    found[tonumber(name)] = uv.fs_readlink(("/proc/%d/fd/%s"):format(pid, name))
    name = uv.fs_scandir_next(scan)
  end
  return found
end

describe("Leaked descriptors", function()
  local box = support.with_box(before_each, after_each)
  local LEAK = 'exec 3<leak 7>>leak 99<leak 250<leak; exec 4< <(:); exec "$@"'

  it("are closed by start", function()
    box:write("leak", "")
    assert.equal(0, box:shell(LEAK:gsub("%$@", '$1" start "$2'), { box:idle("x") }).code)
    local found = descriptors(box:status("x").pid)
    for number, target in pairs(found) do
      assert.not_equal(box:path("leak"), target, number)
      assert.is_true(number < 40, number .. " is " .. target)
    end
  end)

  it("do not reach the children of a script, under start or run", function()
    box:write("leak", "")
    box:write("x.lua", 'os.execute("ls -l /proc/self/fd | sed -n s/.*://p") require("lunad").sleep(0.01)')
    for _, verb in ipairs { "start", "run" } do
      local words = { verb, "--log", "x.log", "x.lua" }
      local result = box:shell("shift 0; " .. LEAK, words)
      assert.equal(0, result.code, result.err)
      assert.is_nil((result.out .. box:read("x.log")):find("/leak", 1, true), verb)
      support.wait_for("its end", function() return #box:left_files() == 0 end)
    end
  end)
end)

describe("Closed standard descriptors", function()
  local box = support.with_box(before_each, after_each)

  it("are never used for lunad's files", function()
    for _, closing in ipairs { "<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-" } do
      assert.equal(0, box:shell('"$1" start "$2" ' .. closing, { box:idle("x") }).code, closing)
      local found = descriptors(box:status("x").pid)
      assert.equal("/dev/null", found[0], closing)
      assert.equal(box:path("log/x.log"), found[1], closing)
      assert.equal(box:path("log/x.log"), found[2], closing)
      box:ok("stop", "x")
    end
  end)

  it("do not disturb the message of a failing start", function()
    box:write("x.lua", 'error("boom")')
    local result = box:shell('"$1" start x.lua <&- >&-')
    assert.equal(1, result.code)
    assert.truthy(result.err:find("^lunad: .*boom"))
    result = box:shell('"$1" start x.lua 2>&-')
    assert.equal(1, result.code)
    assert.equal("", result.out)
  end)
end)

describe("Signals", function()
  local box = support.with_box(before_each, after_each)

  -- Run lunad with every signal blocked and ignored, real-time ones as well.
  local function hostile(...)
    return box:run({ "--block-signal", "--ignore-signal", support.binary, ... }, { program = "env" })
  end

  it("that were blocked or ignored are not so in the daemon", function()
    assert.equal(0, hostile("start", box:idle("x")).code)
    local status = support.proc_status(box:status("x").pid)
    assert.equal(("0"):rep(16), status.SigBlk)
    -- Sanitizers need the signals of crashes.
    local crashes = support.is_sanitized() and 1 << 3 | 1 << 6 | 1 << 7 | 1 << 10 or 0
    assert.equal(0, tonumber(status.SigIgn, 16) & ~crashes)
  end)

  it("that were blocked or ignored work: HUP, TERM and CHLD", function()
    hostile("start", box:write("x.lua", [[
      local lunad = require "lunad"
      print("execute", os.execute("exit 3"))
      lunad.spawn { "true", on_exit = function(exit) print("child", exit.ok) end }
      lunad.every(60, print)
    ]]))
    assert.truthy(box:log("x"):find("execute\tnil\texit\t3\n", 1, true))
    box:wait_log("x", "child\ttrue\n")
    local pid = box:status("x").pid
    box:ok("signal", "x", "HUP")
    box:wait_log("x", "reloaded: generation 2")
    support.kill(pid, "sigterm")
    support.wait_for("its end", function() return not support.is_alive(pid) end)
  end)

  it("that were blocked or ignored are not so under run, nor in a child", function()
    local show = 'grep -E "Sig(Blk|Ign)" /proc/self/status'
    local result = hostile("run", "--log", "none", "-e", ("os.execute(%q)"):format(show))
    local none = ("0"):rep(16)
    assert.equal(("SigBlk:\t%s\nSigIgn:\t%s\n"):format(none, none), result.out)
  end)

  it("to the starter's process group after the start do not reach the daemon", function()
    local result = box:shell([[
      set -m
      ("$1" start "$2"; trap "" HUP INT TERM; kill -HUP 0; kill -INT 0; kill -TERM 0) &
      wait; "$1" status x
    ]], { box:idle("x") })
    assert.equal(0, result.code, result.err)
    assert.equal(1, box:status("x").generation)
  end)

  it("that are ignored do not confuse restart and stop", function()
    assert.equal(0, hostile("start", box:idle("x")).code)
    local result = hostile("restart", "x")
    assert.truthy(result.out:find("^x: started"))
    assert.equal(0, result.code)
    assert.equal(0, hostile("stop", "x").code)
  end)
end)

describe("The environment of a service manager", function()
  local box = support.with_box(before_each, after_each)
  local NAMES = { "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "LISTEN_X",
                  "WATCHDOG_USEC", "WATCHDOG_PID", "WATCHDOG_X" }

  it("does not reach the script, nor its children, by start or run", function()
    local env = { KEPT = "1" }
    for _, name in ipairs(NAMES) do env[name] = "7" end
    box:write("x.lua", 'os.execute("env") print(os.getenv("KEPT")) require("lunad").sleep(0.01)')
    local out = box:run({ "run", "x.lua" }, { env = env }).out
    assert.equal(0, box:run({ "start", "x.lua" }, { env = env }).code)
    for _, text in ipairs { out, box:log("x") } do
      assert.truthy(text:find("KEPT=1", 1, true))
      for _, name in ipairs(NAMES) do
        assert.is_nil(text:find("\n" .. name .. "=", 1, true), name)
      end
    end
    support.wait_for("its end", function() return #box:left_files() == 0 end)
  end)

  it("does not reach a script that is restarted either", function()
    box:run({ "start", box:idle("x") }, { env = { NOTIFY_SOCKET = "/none", LISTEN_FDS = "1" } })
    box:write("x.lua", 'os.execute("env") require("lunad").every(60, print)')
    box:ok("restart", "x")
    assert.is_nil(box:log("x"):find("\nNOTIFY_SOCKET=", 1, true))
    assert.is_nil(box:log("x"):find("\nLISTEN_FDS=", 1, true))
  end)
end)

describe("A terminal", function()
  local box = support.with_box(before_each, after_each)

  -- Run a command line on its own terminal, which hangs up when that ends.
  local function on_terminal(line)
    local process = box:spawn({ "-qec", line, "/dev/null" }, { program = "script", keep_stdin = true })
    box:await(process, "the end of the terminal", process.is_over)
    process.stdin:close()
    return process
  end

  it("that goes away leaves a daemon running that continues to print", function()
    local script = box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.signal("WINCH", function()
        for i = 1, 3 do print("line " .. i) io.write("raw\n") io.stderr:write("error\n") end
        print "printed"
      end)
    ]])
    local process = on_terminal(("%s start %s"):format(support.binary, script))
    assert.equal(0, process.code, process.out())
    box:ok("signal", "x", "WINCH")
    box:wait_log("x", "x: printed")
    assert.equal(0, box:lunad("status", "x").code)
  end)

  it("is not had by a daemon, which cannot get one", function()
    local script = box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.signal("WINCH", function()
        local tty = assert(io.open(os.getenv("SPEC_TTY"), "r+"))
        print("controlling terminal", io.open("/dev/tty"))
        tty:close()
      end)
    ]])
    local line = "SPEC_TTY=$(tty) %s start %s && %s signal x WINCH && " ..
      "until grep -q controlling log/x.log; do sleep 0.01; done"
    local process = on_terminal(line:format(support.binary, script, support.binary))
    assert.equal(0, process.code, process.out())
    assert.truthy(box:log("x"):find("controlling terminal\tnil", 1, true))
  end)
end)

describe("Other properties of the launcher", function()
  local box = support.with_box(before_each, after_each)

  it("such as a limit of descriptors, a nice value and an empty environment do no harm", function()
    local result = box:shell([[
      ulimit -Sn 30; exec env -i LUNAD_RUN_DIR="$PWD/run" LUNAD_LOG_DIR="$PWD/log" nice "$1" start "$2"
    ]], { box:idle("x") })
    assert.equal(0, result.code, result.err)
    assert.equal(0, box:lunad("status", "x").code)
    box:ok("stop", "x")
  end)

  it("such as a pipe for stdout that is never read do no harm", function()
    box:shell('"$1" start "$2" | :', { box:idle("x") })
    support.wait_for("the daemon", function() return box:lunad("status", "x").code == 0 end)
    assert.equal("running", box:status("x").state)
  end)
end)

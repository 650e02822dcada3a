-- lunad run on a terminal that goes away, and output that is not read.

local support = require "support"

local TERMINAL = support.with_terminal(setup, teardown)

-- What a spec runs in a shell: lunad run, with the log in a file that outlives the terminal.
local RUN = '"$LUNAD" run --log "$LOG" '

describe("lunad run on a terminal", function()
  local box = support.with_box(before_each, after_each)

  local function log()
    return box:read "terminal.log" or ""
  end

  local function wait_log(pattern)
    support.wait_for(pattern .. " in the log", function() return log():find(pattern) end)
  end

  -- The pid of a daemon that is ready. Before that there is only the pidfile, which may be empty.
  local function running(name)
    local result = box:lunad("status", "--json", name)
    local report = result.code == 0 and support.json.decode(result.out)
    return report and report.ready and report.pid
  end

  -- Run words on a terminal, until the script "s" runs; the process that holds the terminal, and the pid.
  local function begin(words, typed)
    box:write("s.lua", support.BEAT .. 'print("up")')
    local env = { LUNAD = support.binary, LOG = box:path "terminal.log", HISTFILE = "", PS1 = "$ ", ENV = "" }
    local process = box:spawn(words, { program = TERMINAL, env = env, keep_stdin = true })
    if typed then
      process.stdin:write(typed)
    end
    box:await(process, "the script to run", function() return running "s" end)
    return process, running "s"
  end

  -- Close the terminal, and wait until the script, and its keeper if there is one, have ended by that.
  local function close(process, pid, keeper)
    process.stdin:shutdown(function() process.stdin:close() end)
    box:await(process, "the terminal to be closed", process.is_over)
    box:wait_gone(pid)
    box:wait_gone(keeper or pid)
    assert.same({}, box:left_files())
  end

  local function is_generation(number)
    support.wait_for("generation " .. number, function() return box:status("s").generation == number end)
  end

  it("stops when the terminal is closed, with --restart too", function()
    local process, pid = begin { "sh", "-c", RUN .. "--restart always s.lua" }
    close(process, pid, support.parent_of(pid))
    assert.equal(1, select(2, log():gsub("lunad: started", "")))
  end)

  it("leaves Ctrl-C to the script's handler, with --restart too", function()
    local process, pid = begin { "sh", "-c", RUN .. "--restart always s.lua" }
    box:reload "lunad.signal('INT', function() print 'handled' end)"
    process.stdin:write "\3"
    box:await(process, "the handler", function() return process.out():find "handled" end)
    assert.equal(pid, box:status("s").pid)
    close(process, pid, support.parent_of(pid))
  end)

  it("stops when the terminal is closed, by itself or below a shell, whatever --hup says", function()
    for _, words in ipairs {
      { support.binary, "run", "--log", box:path "terminal.log", "s.lua" },
      { "bash", "-c", RUN .. "s.lua; true" },
      { "sh", "-c", RUN .. "--hup ignore s.lua; true" },
      { "bash", "-c", RUN .. "--hup stop s.lua; true" },
      { "bash", "--norc", "-ic", RUN .. "s.lua; true" },
      { "sh", "-c", "trap 'kill -HUP $pid; exit' HUP; " .. RUN .. "s.lua <&0 & pid=$!; wait $pid" },
    } do
      local process, pid = begin(words)
      close(process, pid)
      assert.matches("the terminal has gone", log())
      os.remove(box:path "terminal.log")
    end
  end)

  it("stops as a job of an interactive shell, in the foreground and the background", function()
    for _, tail in ipairs { "\n", " &\n" } do
      close(begin({ "bash", "--norc", "-i" }, RUN .. "s.lua" .. tail))
      assert.matches("the terminal has gone", log())
      os.remove(box:path "terminal.log")
    end
  end)

  it("stops though the shell passes the signal on before the terminal goes", function()
    local process, pid = begin { "bash", "-c", RUN .. "s.lua & kill -STOP $$; true" }
    support.kill(pid, "sighup")
    is_generation(2)
    close(process, pid)
  end)

  it("reloads by a HUP while the terminal is there", function()
    local process, pid = begin { "bash", "-c", RUN .. "s.lua; true" }
    support.kill(pid, "sighup")
    is_generation(2)
    box:ok("signal", "s", "HUP")
    is_generation(3)
    close(process, pid)
  end)

  it("keeps running under nohup when the terminal is closed, and at every HUP", function()
    local process, pid = begin { "bash", "-c", "nohup " .. RUN .. "s.lua; true" }
    local ignored = tonumber(support.proc_status(pid).SigIgn, 16)
    assert.equal(1, ignored & 1)
    process.stdin:shutdown(function() process.stdin:close() end)
    box:await(process, "the terminal to be closed", process.is_over)
    support.kill(pid, "sighup")
    assert.equal(1, box:status("s").generation)
    assert.matches("generation 2", box:ok("reload", "s"))
    box:ok("stop", "s")
  end)

  it("gives a HUP to the script's own handler, under nohup too", function()
    local process = box:shell([[
      trap '' HUP
      "$1" run -n s -e '
        local lunad = require "lunad"
        lunad.signal("HUP", function(name) print("got", name) lunad.stop() end)
        lunad.kill(lunad.pid, "HUP")
      ']])
    assert.equal("got\tHUP\n", process.out)
  end)

  it("reloads by a HUP without a terminal, whoever sends it", function()
    local script = box:idle "idle"
    local process = box:spawn({ support.binary, "run", "--log", box:path "terminal.log", script },
      { program = "setsid" })
    support.kill(support.wait_for("the script to run", function() return running "idle" end), "sighup")
    support.wait_for("generation 2", function() return box:status("idle").generation == 2 end)
    box:ok("stop", "idle")
    box:await(process, "the end", process.is_over)
  end)

  it("stops in tmux when its server ends", function()
    if not os.execute("tmux -V >/dev/null 2>&1") then return pending("needs tmux") end
    box:write("s.lua", support.BEAT)
    local socket = box:path "tmux"
    local command = ("%s run --log %s s.lua"):format(support.binary, box:path "terminal.log")
    local result = box:run({ "-S", socket, "-f", "/dev/null", "new-session", "-d", "bash --norc" },
      { program = "tmux" })
    assert.equal(0, result.code, result.err)
    box:run({ "-S", socket, "send-keys", command, "Enter" }, { program = "tmux" })
    local pid = support.wait_for("the script to run", function() return running "s" end)
    box:run({ "-S", socket, "kill-server" }, { program = "tmux" })
    box:wait_gone(pid)
    wait_log "the terminal has gone"
  end)
end)

describe("lunad run whose stdout has no reader", function()
  local box = support.with_box(before_each, after_each)

  -- Run a chunk with its output to a reader of one line; the line, the status of run, and its stderr.
  local function piped(chunk)
    local result = box:shell([[
      set -o pipefail
      "$1" run -n s -e "$2" | { read line; echo "$line"; }
      echo "${PIPESTATUS[0]}"
    ]], { chunk })
    local line, status = result.out:match("^(.-)\n(%d+)\n$")
    assert.same({}, box:left_files())
    return line, status, (result.err:gsub("^%S+ info  lunad: started %(pid %d+%), generation 1\n", ""))
  end

  it("ends as by SIGPIPE, in silence", function()
    for _, chunk in ipairs {
      'require("lunad").every(0.01, print, "x")',
      'require("lunad").every(0.01, function() io.write("x\\n") end)',
      'while true do print("x") end',
      'while true do io.write("x\\n") end',
      'while true do pcall(print, "x") end',
      'while true do print("x") require("lunad").sleep(0.001) end',
      'require("lunad").after(0.01, function() while true do print("x") end end)',
    } do
      assert.same({ "x", "141", "" }, { piped(chunk) }, chunk)
    end
  end)

  it("runs the on_stop functions of a script that comes back to the loop", function()
    local _, status, err = piped [[
      local lunad = require "lunad"
      lunad.every(0.01, print, "x")
      lunad.on_stop(function(reason) io.stderr:write(reason) end)
    ]]
    assert.same({ "141", "stop" }, { status, err })
  end)

  it("keeps running when another pipe breaks, and in a daemon", function()
    local result = box:inside [[
      local uv = require "luv"
      local pipe = uv.pipe()
      uv.fs_close(pipe.read)
      truthy(not uv.fs_write(pipe.write, "x"))
      lunad.sleep(0.02)
      print "here"
    ]]
    assert.equal("here\n", result.out)
  end)

  it("ends where the signal was ignored when it was called, too", function()
    local result = box:shell([[
      trap '' PIPE
      "$1" run -n s -e 'while true do print("x") end' | { read line; echo "$line"; }
      echo "${PIPESTATUS[0]}"
    ]])
    assert.equal("x\n141\n", result.out)
  end)

  it("leaves the signal to a handler of the script", function()
    local _, status = piped [[
      local lunad = require "lunad"
      lunad.every(0.01, print, "x")
      lunad.signal("PIPE", function() lunad.stop(7) end)
    ]]
    assert.equal("7", status)
  end)
end)

describe("What lunad run prints", function()
  local box = support.with_box(before_each, after_each)

  it("is nothing of a script that finishes at once", function()
    for _, chunk in ipairs { "local x", 'print("")', 'require("lunad").stop()' } do
      local result = box:run { "run", "-n", "s", "-e", chunk }
      assert.same({ 0, "" }, { result.code, result.err })
    end
  end)

  it("is an error once, early or late, in the log or on stderr", function()
    local function count(text)
      return select(2, text:gsub("boom", ""))
    end
    for _, chunk in ipairs { "error 'boom'", 'require("lunad").sleep(0.01) error "boom"' } do
      local script = box:write("s.lua", "local function f() " .. chunk .. " end f()\n")
      local result = box:run { "run", script }
      assert.equal(1, result.code)
      assert.equal(1, count(result.err), result.err)
      assert.matches("stack traceback:", result.err)
      box:run { "run", "--log", box:path "once.log", script }
      assert.equal(1, count(box:read "once.log"))
      os.remove(box:path "once.log")
    end
    local refused = box:refused(1, "run", "-e", "x = = 1")
    assert.equal(1, select(2, refused:gsub("unexpected symbol", "")))
  end)
end)

describe("What a shell started before it became lunad run", function()
  local box = support.with_box(before_each, after_each)

  it("outlives it, and what the script starts does not", function()
    local result = box:shell([[
      sleep 1000 >/dev/null 2>&1 & echo $!
      exec "$1" run -e 'os.execute("sleep 1000 >/dev/null 2>&1 & echo $!")'
    ]])
    local before, own = result.out:match("(%d+)\n(%d+)\n")
    before, own = math.tointeger(tonumber(before)), math.tointeger(tonumber(own))
    assert.is_true(support.is_alive(before))
    assert.is_false(support.is_alive(own))
    support.kill(before, "sigkill")
    box:wait_gone(before)
  end)
end)

describe("A stream in the place of a file", function()
  local box = support.with_box(before_each, after_each)

  it("is taken as the log of run", function()
    local result = box:shell([[
      "$1" run --log /dev/stdout -e 'require("lunad").log.warn "one"'
      "$1" run --log /dev/stderr -e 'require("lunad").log.warn "two"' 2>&1
      "$1" run --log /dev/fd/5 -e 'require("lunad").log.warn "three"' 5>&1
      "$1" run --log >(sed s/^/sub:/) -e 'require("lunad").log.warn "four"' | cat
    ]])
    local line = "%S+Z warn  %S+ "
    assert.matches("^" .. line .. "one\n" .. line .. "two\n" .. line .. "three\nsub:" .. line .. "four\n$",
      result.out)
  end)

  it("is taken as the script of run, and of check", function()
    local result = box:shell [[
      "$1" run <(echo 'print(arg[0], ...)') a b
      echo 'print(arg[0], ...)' | "$1" run /dev/stdin a
      echo 'print(arg[0], ...)' >file; "$1" run /dev/fd/7 a 7<file
      echo 'x = = 1' | "$1" check - 2>&1
      "$1" run <(echo 'x = = 1') 2>&1
    ]]
    assert.matches("^/dev/fd/%d+\ta\tb\nstdin\ta\n/dev/fd/7\ta\n" ..
      "lunad: stdin:1: .*\nlunad: /dev/fd/%d+:1: .*\n$", result.out)
  end)

  it("is refused with a reason where it cannot be", function()
    local path = box:idle "s"
    for _, log in ipairs { "/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/2" } do
      assert.matches("is for run", box:refused(2, "start", "--log", log, path))
    end
    assert.matches("/dev/fd/77: Bad file descriptor", box:refused(1, "run", "--log", "/dev/fd/77", path))
    local result = box:shell('"$1" run --log /dev/stdin "$2" </dev/null', { path })
    assert.matches("not open for writing", result.err)
    assert.matches("must be a file", box:refused(2, "start", "/dev/stdin"))
    assert.matches("/dev/fd/77: Bad file descriptor", box:refused(1, "run", "/dev/fd/77"))
    assert(os.execute("mkfifo " .. box:path "fifo"))
    assert.matches("lunad run %-", box:refused(1, "run", box:path "fifo"))
  end)
end)

describe("A first word that is not a verb", function()
  local box = support.with_box(before_each, after_each)

  local function says(meant, ...)
    local err = box:refused(2, ...)
    assert.truthy(err:find(meant, 1, true), err)
  end

  it("is answered with what was probably meant", function()
    says('"lunad run x.lua"', "x.lua")
    says('"lunad start ./x"', "./x", "arg")
    says('"lunad start"', "strat")
    says('"lunad start"', "Start", "x")
    says('"lunad status"', "statsu")
    says('"lunad reload"', "relod", "x")
    says('"lunad restart"', "restrat")
    says('"lunad list"', "lst")
    says('"lunad logs"', "log", "x")
    says('"lunad stop"', "stpo")
    says("lunad run -n", "-n", "x")
    says("env -S lunad run --log none", "run --log none", "x")
  end)

  it("is answered with the help where it resembles no verb", function()
    for _, word in ipairs { "frobnicate", "x", "", ("x"):rep(5000) } do
      says("lunad --help", word)
    end
  end)
end)

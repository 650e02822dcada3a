-- The pidfile: a number for people, and a lock that says whether the daemon runs.

local support = require "support"
local uv = support.uv

-- An unrelated process; ended with the box.
local function stranger(box)
  return box:spawn({ "300" }, { program = "sleep" })
end

-- A script that takes long: to be ready until there is the file FLAG, to stop for ever.
local SLOW = [[
  local lunad = require "lunad"
  lunad.on_stop(function() print "stopping" lunad.sleep(600) end)
  print "loading"
  while not io.open(os.getenv "FLAG") do lunad.sleep(0.01) end
  lunad.ready()
  lunad.every(60, print)
]]

-- Every verb with every bad content of the pidfile $2; prints what goes wrong.
local NONSENSE = [[
  mkdir run
  for text in 1 0 -1 -2 "" garbage "1 1" 99999999999999999999 2147483648 +1 0x1 " 1"; do
    for words in "status x:1" "signal x TERM:3" "signal x KILL:3" "reload x:3" "restart x:3" "stop x:0"; do
      printf '%s\n' "$text" >run/x.pid
      "$1" ${words%:*} >out 2>&1; status=$?
      [ $status = ${words#*:} ] || echo "'$text' ${words%:*}: exit status $status: $(cat out)"
    done
    printf '%s\n' "$text" >run/x.pid
    "$1" start "$2" >out && "$1" stop x >out || echo "'$text': cannot be started"
  done
  echo survived
]]

local function finish(box, process)
  support.kill(process.pid, "sigkill")
  box:await(process, "the end of the stranger", process.is_over)
end

describe("The pidfile", function()
  local box = support.with_box(before_each, after_each)

  -- Leave the files of a daemon that was killed.
  local function leave_stale(name)
    local pid = box:start(box:idle(name))
    support.kill(pid, "sigkill")
    support.wait_for("its end", function() return box:lunad("status", name).code == 1 end)
    return pid
  end

  it("has the pid and a newline, and is removed at the end", function()
    local pid = box:start(box:idle("x"))
    assert.equal(pid .. "\n", box:read("run/x.pid"))
    box:ok("stop", "x")
    assert.is_nil(box:read("run/x.pid"))
  end)

  it("is locked: a second start exits with 4 and says so", function()
    local pid = box:start(box:idle("x"))
    local err = box:refused(4, "start", "x.lua")
    assert.equal(("lunad: x is already running (pid %d)\n"):format(pid), err)
    assert.equal(pid .. "\n", box:read("run/x.pid"))
    assert.equal(0, box:lunad("status", "x").code)
  end)

  it("is locked while the script is not ready", function()
    box:write("x.lua", SLOW)
    local words = { "start", "--wait-ready", "--env", "FLAG=" .. box:path("flag"), "x.lua" }
    local starting = box:spawn(words)
    box:wait_log("x", "x: loading")
    box:refused(4, "start", "x.lua")
    box:write("flag", "")
    box:await(starting, "the start", starting.is_over)
    assert.equal(0, starting.code)
    box:ok("stop", "--timeout", "0.1", "x")
  end)

  it("is locked while the script stops", function()
    box:write("flag", "")
    box:start("--env", "FLAG=" .. box:path("flag"), box:write("x.lua", SLOW))
    local stopping = box:spawn { "stop", "--timeout", "0.5", "x" }
    box:wait_log("x", "x: stopping")
    box:refused(4, "start", "x.lua")
    box:await(stopping, "the stop", stopping.is_over)
  end)

  -- Start forty at once; returns the count of each exit status.
  local function start_forty(script)
    local starts, codes = {}, {}
    for i = 1, 40 do
      starts[i] = box:spawn { "start", script }
    end
    for _, start in ipairs(starts) do
      box:await(start, "a start", start.is_over)
      codes[start.code] = (codes[start.code] or 0) + 1
    end
    return codes
  end

  it("lets exactly one of forty simultaneous starts win; the rest exit with 4", function()
    assert.same({ [0] = 1, [4] = 39 }, start_forty(box:idle("x")))
    assert.equal(box:status("x").pid .. "\n", box:read("run/x.pid"))
    assert.equal(1, #box:marked())
  end)

  it("lets exactly one of forty replace the files of a dead daemon", function()
    leave_stale("x")
    assert.same({ [0] = 1, [4] = 39 }, start_forty("x.lua"))
    assert.equal(1, #box:marked())
  end)

  it("of a dead daemon does not prevent a start", function()
    leave_stale("x")
    box:start("x.lua")
    assert.equal(0, box:lunad("status", "x").code)
  end)

  it("of a dead daemon is cleared by stop, with the socket", function()
    leave_stale("x")
    assert.same({ "x.pid", "x.sock", "x.start" }, box:left_files())
    local result = box:lunad("stop", "x")
    assert.equal(0, result.code)
    assert.truthy(result.out:find("^x: not running"))
    assert.same({}, box:left_files())
  end)

  it("of a dead daemon that names an unrelated process does it no harm", function()
    leave_stale("x")
    local other = stranger(box)
    for _, words in ipairs { { "status" }, { "reload" }, { "restart" }, { "reopen" }, { "stop" } } do
      box:write("run/x.pid", other.pid .. "\n")
      box:lunad(words[1], "x")
    end
    box:write("run/x.pid", other.pid .. "\n")
    assert.equal(3, box:lunad("signal", "x", "KILL").code)
    assert.equal(1, box:lunad("status", "x").code)
    box:start("x.lua")
    box:ok("stop", "x")
    assert.is_true(support.is_alive(other.pid))
    finish(box, other)
  end)

  it("that is locked but names an unrelated process does it no harm", function()
    local pid = box:start(box:idle("x"))
    local other = stranger(box)
    box:write("run/x.pid", other.pid .. "\n") -- the same file, so still locked
    for _, signal in ipairs { "TERM", "KILL", "STOP" } do
      assert.equal(1, box:lunad("signal", "x", signal).code)
    end
    support.kill(pid, "sigstop") -- or it would make its socket again
    assert(uv.fs_rename(box:path("run/x.sock"), box:path("x.sock")))
    assert.equal(1, box:lunad("stop", "--timeout", "0.1", "x").code)
    assert(uv.fs_rename(box:path("x.sock"), box:path("run/x.sock")))
    support.kill(pid, "sigcont")
    assert.is_true(support.is_alive(other.pid))
    assert.is_true(support.is_alive(pid))
    box:ok("stop", "x")
    finish(box, other)
  end)

  it("with any other content does no harm either", function()
    if not support.is_root then return pending("needs root") end
    local namespaces = { "unshare", "--pid", "--fork", "--mount-proc" }
    local result = box:shell(NONSENSE, { box:idle("x") }, { through = namespaces })
    assert.equal("survived\n", result.out)
    assert.equal(0, result.code)
  end)

  it("is not opened through a link, neither for writing nor for reading", function()
    box:write("target", "kept\n")
    assert(uv.fs_mkdir(box:path("run"), tonumber("755", 8)))
    assert(uv.fs_symlink(box:path("target"), box:path("run/x.pid")))
    local script = box:idle("x")
    for _, words in ipairs { { "start", script }, { "run", script }, { "status", "x" }, { "stop", "x" },
                             { "signal", "x", "TERM" } } do
      local err = box:refused(1, table.unpack(words))
      assert.truthy(err:find("symbolic link", 1, true), err)
    end
    assert.equal("kept\n", box:read("target"))
    assert(uv.fs_unlink(box:path("run/x.pid")))
  end)

  it("is not made through a dangling link", function()
    assert(uv.fs_mkdir(box:path("run"), tonumber("755", 8)))
    assert(uv.fs_symlink(box:path("target"), box:path("run/x.pid")))
    box:refused(1, "start", box:idle("x"))
    assert.is_nil(box:read("target"))
    assert(uv.fs_unlink(box:path("run/x.pid")))
  end)

  it("that is not a file is refused without waiting", function()
    local script = box:idle("x")
    assert(uv.fs_mkdir(box:path("run"), tonumber("755", 8)))
    assert.equal(0, box:run({ box:path("run/x.pid") }, { program = "mkfifo" }).code)
    for _, words in ipairs { { "start", script }, { "status", "x" }, { "stop", "x" } } do
      box:refused(1, table.unpack(words))
    end
    assert(uv.fs_unlink(box:path("run/x.pid")))
    assert(uv.fs_mkdir(box:path("run/x.pid"), tonumber("755", 8)))
    box:refused(1, "start", script)
    assert(uv.fs_rmdir(box:path("run/x.pid")))
  end)

  it("is not held by what the script has started", function()
    local pid = box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      assert(lunad.spawn { "sleep", "300", detach = true })
    ]]))
    support.kill(pid, "sigkill")
    support.wait_for("the lock to be free", function() return box:lunad("status", "x").code == 1 end)
    for _, left in ipairs(box:marked()) do
      support.kill(left, "sigkill")
    end
  end)
end)

-- Holds a reader's lock, as every process that may read the file can, until its stdin ends.
local READER = [[
  use Fcntl;
  open(my $file, "<", $ARGV[0]) or die $!;
  my $lock = pack("s s x4 q q i x4", F_RDLCK, 0, 0, 0, 0);
  fcntl($file, F_SETLK, $lock) or die $!;
  $| = 1;
  print "locked\n";
  <STDIN>;
]]

describe("A process that may only read the pidfile", function()
  local box = support.with_box(before_each, after_each)
  local reader

  -- Leave the pidfile of a dead daemon, locked by an ordinary user.
  local function leave_locked()
    support.kill(box:start(box:idle("x")), "sigkill")
    support.wait_for("its end", function() return box:lunad("status", "x").code == 1 end)
    reader = box:spawn({ "-e", READER, box:path("run/x.pid") },
      { program = "perl", uid = 65534, gid = 65534, keep_stdin = true })
    box:await(reader, "the reader's lock", function() return reader.out() == "locked\n" end)
  end

  local function release()
    reader.stdin:close()
    box:await(reader, "the reader's end", reader.is_over)
  end

  it("cannot keep a daemon from being started", function()
    if not support.is_root then return pending("needs root") end
    leave_locked()
    local result = box:lunad("start", "x.lua")
    release()
    assert.equal(0, result.code, result.err)
  end)

  it("cannot keep the files of a dead daemon from being removed", function()
    if not support.is_root then return pending("needs root") end
    leave_locked()
    local result = box:lunad("stop", "x")
    local left = box:left_files()
    release()
    assert.equal(0, result.code)
    assert.same({}, left)
  end)
end)

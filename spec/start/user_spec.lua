-- --user: dropping privileges for good, with a keeper that stays behind.

local support = require "support"
local uv = support.uv

-- Sanitizers cannot look for leaks after a change of user.
local ENV = { ASAN_OPTIONS = "detect_leaks=0" }

local function root_it(describe_it, name, test)
  describe_it(name, function()
    if not support.is_root then return pending("needs root") end
    test()
  end)
end

-- The real, effective, saved and file system ids in a line of /proc/PID/status.
local function ids(line)
  local list = {}
  for id in line:gmatch("%d+") do
    list[#list + 1] = tonumber(id)
  end
  return list
end

describe("--user", function()
  local box = support.with_box(before_each, after_each)
  local function test(name, body) root_it(it, name, body) end

  -- Start an idle daemon (or the text) as a user; its pid.
  local function start_as(user, text, ...)
    local script = text and box:write("x.lua", text) or box:idle("x")
    local words = { "start", "--user", user, ... }
    words[#words + 1] = script
    local result = box:run(words, { env = ENV })
    assert.equal(0, result.code, result.err)
    return math.tointeger(tonumber(result.out:match("started %(pid (%d+)%)")))
  end

  -- Wait until no process is left, and no file but, after a crash, the record of it.
  local function wait_until_gone(rest)
    support.wait_for("an end without a rest", function()
      return table.concat(box:left_files(), " ") == (rest or "") and #box:marked() == 0
    end)
  end

  test("drops every uid and gid, and all capabilities", function()
    local status = support.proc_status(start_as("nobody"))
    assert.same({ 65534, 65534, 65534, 65534 }, ids(status.Uid))
    assert.same({ 65534, 65534, 65534, 65534 }, ids(status.Gid))
    assert.same({ 65534 }, ids(status.Groups))
    for _, set in ipairs { "CapPrm", "CapEff", "CapInh", "CapAmb" } do
      assert.equal(("0"):rep(16), status[set], set)
    end
  end)

  test("takes names and numbers, and a group", function()
    local cases = { ["nobody:daemon"] = { 65534, 1 }, ["daemon"] = { 1, 1 }, ["65534:1"] = { 65534, 1 },
                    ["1"] = { 1, 1 }, ["54321:54322"] = { 54321, 54322 } }
    for user, expected in pairs(cases) do
      local status = support.proc_status(start_as(user))
      assert.same(expected, { ids(status.Uid)[1], ids(status.Gid)[1] }, user)
      box:ok("stop", "x")
    end
  end)

  test("takes the supplementary groups of the user, and none of root's", function()
    box:write("group", "root:x:0:\na:x:71001:nobody\nb:x:71002:root,nobody\nc:x:71003:root\n")
    local result = box:shell([[
      mount --bind group /etc/group && "$1" start --user nobody "$2" && id -G nobody
    ]], { box:idle("x") }, { through = { "unshare", "--mount" }, env = ENV })
    assert.equal(0, result.code, result.err)
    local groups = ids(support.proc_status(box:status("x").pid).Groups)
    table.sort(groups)
    assert.same({ 65534, 71001, 71002 }, groups)
  end)

  test("cannot be undone by the script", function()
    start_as("nobody", [[
      print("shadow", io.open("/etc/shadow"))
      os.execute("id -u; id -G; echo x >/etc/lunad-was-here || echo refused")
      require("lunad").every(60, print)
    ]])
    local log = box:log("x")
    assert.truthy(log:find("shadow\tnil\t/etc/shadow: Permission denied", 1, true), log)
    assert.truthy(log:find("\n65534\n65534\n", 1, true), log)
    assert.truthy(log:find("refused", 1, true), log)
  end)

  test("sets HOME, USER and LOGNAME, unless --env does", function()
    local show = 'print(os.getenv "HOME", os.getenv "USER", os.getenv "LOGNAME") ' ..
      'require("lunad").every(60, print)'
    start_as("daemon", show)
    assert.truthy(box:log("x"):find("x: /usr/sbin\tdaemon\tdaemon\n", 1, true), box:log("x"))
    box:ok("stop", "x")
    start_as("daemon", show, "--env", "HOME=/own", "--clear-env")
    assert.truthy(box:log("x"):find("x: /own\tdaemon\tdaemon\n", 1, true), box:log("x"))
  end)

  test("does not leave root's USER and LOGNAME to a number without a name", function()
    box:write("x.lua", 'print(os.getenv "USER", os.getenv "LOGNAME") require("lunad").every(60, print)')
    local result = box:run({ "start", "--user", "54321:54321", "x.lua" }, {
      env = { USER = "root", LOGNAME = "root", ASAN_OPTIONS = ENV.ASAN_OPTIONS },
    })
    assert.equal(0, result.code)
    assert.is_nil(box:log("x"):find("root", 1, true), box:log("x"))
  end)

  test("is fatal where root could be regained", function()
    local words = { "--securebits", "+no_setuid_fixup", support.binary, "start" }
    table.move({ "--user", "nobody", box:idle("x") }, 1, 3, 5, words)
    local result = box:run(words, { program = "setpriv" })
    assert.equal(1, result.code)
    assert.truthy(result.err:find("^lunad: %-%-user nobody: .*regained"), result.err)
    assert.same({}, box:left_files())
  end)

  test("works for run as well", function()
    local words = { "run", "--log", "none", "--user", "nobody", "-e", 'os.execute("id -u")' }
    local result = box:run(words, { env = ENV })
    assert.equal("65534\n", result.out)
    assert.equal(0, result.code)
    assert.same({}, box:left_files())
  end)

  test("fails with 1 for a user or group that is unknown, naming it", function()
    local script = box:idle("x")
    for _, user in ipairs { "no-such-user", "nobody:no-such-group", "-1", "99999999999", "54321" } do
      local err = box:refused(1, "start", "--user", user, script)
      assert.truthy(err:find("--user", 1, true), err)
      assert.truthy(err:find(user:match("[^:]*$"), 1, true), err)
    end
    assert.same({}, box:left_files())
  end)

  test("is refused to other users than root, unless they name themselves", function()
    assert(uv.fs_copyfile(support.binary, box:path("lunad")))
    assert(uv.fs_mkdir(box:path("home"), tonumber("777", 8)))
    assert(uv.fs_chmod(box:path("home"), tonumber("777", 8)))
    local env = { LUNAD_RUN_DIR = box:path("home/run"), LUNAD_LOG_DIR = box:path("home/log") }
    local options = { program = box:path("lunad"), uid = 65534, gid = 65534, env = env }
    local result = box:run({ "start", "--user", "daemon", box:idle("x") }, options)
    assert.equal(1, result.code)
    assert.truthy(result.err:find("^lunad: .*not permitted"), result.err)
    assert.equal(0, box:run({ "start", "--user", "nobody", "x.lua" }, options).code)
    assert.equal(0, box:run({ "stop", "x" }, options).code)
    assert.is_nil(uv.fs_scandir_next(uv.fs_scandir(box:path("home/run"))))
  end)

  test("fails with 1 if the user may not read the script, and leaves nothing", function()
    assert(uv.fs_chmod(box:idle("x"), tonumber("600", 8)))
    local err = box:refused(1, "start", "--user", "nobody", "x.lua")
    assert.truthy(err:find("x.lua: Permission denied", 1, true), err)
    assert.same({}, box:left_files())
    assert.same({}, box:marked())
  end)

  test("shows an error of the script with its traceback, and leaves nothing", function()
    local err = box:refused(1, "start", "--user", "nobody", box:write("x.lua", "error('boom')"))
    assert.truthy(err:find("x.lua:1: boom\nstack traceback:", 1, true), err)
    assert.equal("x: finished\n", box:ok("start", "--user", "nobody", box:write("x.lua", "")))
    assert.same({}, box:left_files())
    assert.same({}, box:marked())
  end)

  test("lets a script run that others may write: it does not run as root", function()
    assert(uv.fs_chmod(box:idle("x"), tonumber("666", 8)))
    box:ok("start", "--user", "nobody", "x.lua")
    assert.equal(1, box:lunad("run", "--name", "y", "--user", "root", "x.lua").code)
  end)

  test("leaves the pidfile and the socket to the starter", function()
    local pid = start_as("nobody")
    for _, file in ipairs { "run/x.pid", "run/x.sock", "run", "log/x.log" } do
      assert.equal(0, uv.fs_stat(box:path(file)).uid, file)
    end
    assert.equal(pid .. "\n", box:read("run/x.pid"))
    assert.equal(pid, box:status("x").pid)
  end)

  test("leaves a keeper with the starter's rights, which is the host's parent", function()
    local pid = start_as("nobody")
    local keeper = support.proc_status(support.parent_of(pid))
    assert.same({ 0, 0, 0, 0 }, ids(keeper.Uid))
    assert.same(2, #box:marked())
    assert.equal("lunad: x", (support.read(("/proc/%d/cmdline"):format(pid)):gsub("%z+$", "")))
    assert.equal(("0"):rep(16), keeper.SigBlk)
    assert.not_equal(uv.os_getpid(), tonumber(keeper.PPid))
  end)

  test("needs no keeper where it is not given", function()
    box:start(box:idle("x"))
    assert.equal(1, #box:marked())
  end)

  test("has no leaked descriptor, nor any of root's but its own", function()
    box:write("leak", "")
    local script = 'exec 7<leak; "$1" start --user nobody "$2"'
    assert.equal(0, box:shell(script, { box:idle("x") }, { env = ENV }).code)
    for _, pid in ipairs(box:marked()) do
      local scan = assert(uv.fs_scandir(("/proc/%d/fd"):format(pid)))
      local name = uv.fs_scandir_next(scan)
      while name do
        assert.not_equal(box:path("leak"), uv.fs_readlink(("/proc/%d/fd/%s"):format(pid, name)))
        name = uv.fs_scandir_next(scan)
      end
    end
  end)

  test("leaves the log readable by the user, and reopenable", function()
    start_as("daemon", [[
      local lunad = require "lunad"
      lunad.signal("WINCH", function() print("reads", (io.open(os.getenv("LOG")):read("l"))) end)
    ]], "--env", "LOG=" .. box:path("log/x.log"))
    assert(uv.fs_rename(box:path("log/x.log"), box:path("log/x.log.1")))
    box:ok("reopen", "x")
    box:ok("signal", "x", "WINCH")
    box:wait_log("x", "reads\t.*log reopened")
    local stat = uv.fs_stat(box:path("log/x.log"))
    assert.equal("640", ("%o"):format(stat.mode & 4095))
    assert.same({ 0, 1 }, { stat.uid, stat.gid })
  end)

  test("leaves the log reopenable by USR1, in a directory that is closed to the user", function()
    assert(uv.fs_mkdir(box:path("closed"), tonumber("700", 8)))
    start_as("nobody", nil, "--log", box:path("closed/x.log"))
    assert(uv.fs_rename(box:path("closed/x.log"), box:path("closed/x.log.1")))
    box:ok("signal", "x", "USR1")
    support.wait_for("the new log", function()
      return (box:read("closed/x.log") or ""):find("log reopened", 1, true)
    end)
  end)

  test("leaves nothing after a stop", function()
    local pid = start_as("nobody")
    local keeper = support.parent_of(pid)
    assert.equal("x: stopped\n", box:ok("stop", "x"))
    assert.same({}, box:left_files())
    support.wait_for("both ends", function()
      return not support.is_alive(pid) and not support.is_alive(keeper)
    end)
  end)

  test("leaves nothing after the script has finished", function()
    local pid = start_as("nobody", 'require("lunad").sleep(0.05)')
    wait_until_gone()
    assert.is_false(support.is_alive(pid))
  end)

  test("leaves nothing after the host was killed, children included", function()
    local pid = start_as("nobody", [[
      local lunad = require "lunad"
      lunad.spawn { "sh", "-c", "setsid sleep 300 & sleep 301" }
      io.popen("exec sleep 302")
    ]])
    support.wait_for("the children", function() return #box:marked() >= 5 end)
    support.kill(pid, "sigkill")
    wait_until_gone("x.start")
    assert.truthy(box:log("x"):find("killed by SIGKILL", 1, true))
    local status = box:lunad("status", "x")
    assert.equal(3, status.code)
    assert.truthy(status.out:find("was killed by SIGKILL at %d+%-%d+%-%d+T"), status.out)
    assert.truthy(box:ok("list"):find("x .*dead.*was killed by SIGKILL at"))
  end)

  test("passes on what the keeper is told: TERM stops, HUP reloads", function()
    local pid = start_as("nobody")
    local keeper = support.parent_of(pid)
    support.kill(keeper, "sighup")
    box:wait_log("x", "reloaded: generation 2")
    support.kill(keeper, "sigterm")
    wait_until_gone()
    assert.truthy(box:log("x"):find("lunad: stopped", 1, true))
  end)

  test("keeps running when its keeper was killed, and stop still cleans up", function()
    local pid = start_as("nobody")
    local keeper = support.parent_of(pid)
    support.kill(keeper, "sigkill")
    box:wait_log("x", "keeper is gone")
    assert.equal(pid, box:status("x").pid)
    assert.equal("x: stopped\n", box:ok("stop", "x"))
    assert.same({}, box:left_files())
  end)

  test("is kept by restart", function()
    start_as("daemon:nogroup")
    local result = box:run({ "restart", "x" }, { env = ENV })
    assert.equal(0, result.code, result.err)
    local status = support.proc_status(box:status("x").pid)
    assert.same({ 1, 65534 }, { ids(status.Uid)[1], ids(status.Gid)[1] })
    assert.equal(2, #box:marked())
  end)

  test("lets the lock outlive a crash of the host until the keeper has cleaned up", function()
    local pid = start_as("nobody")
    local keeper = support.parent_of(pid)
    support.kill(keeper, "sigstop")
    support.kill(pid, "sigkill")
    local again = box:lunad("start", "--user", "nobody", "x.lua")
    support.kill(keeper, "sigcont")
    assert.equal(4, again.code, again.err)
    wait_until_gone("x.start")
    box:run({ "start", "--user", "nobody", "x.lua" }, { env = ENV })
    assert.equal(0, box:lunad("status", "x").code)
  end)
end)

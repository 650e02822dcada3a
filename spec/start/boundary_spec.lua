-- The privilege boundary: what a script that runs as another user can reach, and what it cannot.

local support = require "support"
local net = require "support.net"
local uv = support.uv

local ENV = { ASAN_OPTIONS = "detect_leaks=0" }
local NOBODY = 65534

-- Whether `lunad status` finds the daemon "s" running, as this process.
local function answers(box, pid)
  return box:lunad("status", "s").out:find("pid " .. pid, 1, true)
end

-- The descriptors of a process: number -> { target, flags (as open has them) }.
local function descriptors(pid)
  local found = {}
  local scan = assert(uv.fs_scandir(("/proc/%d/fd"):format(pid)))
  local name = uv.fs_scandir_next(scan)
  while name do
    local info = support.read(("/proc/%d/fdinfo/%s"):format(pid, name)) or ""
    found[tonumber(name)] = {
      target = uv.fs_readlink(("/proc/%d/fd/%s"):format(pid, name)) or "",
      flags = tonumber(info:match("flags:%s*(%d+)") or "0", 8),
    }
    name = uv.fs_scandir_next(scan)
  end
  return found
end

-- Build a C module that lets a script do anything to its channel.
local library

local function build_library()
  library = os.tmpname()
  os.remove(library)
  assert(uv.fs_mkdir(library, tonumber("755", 8)))
  assert(os.execute(([[cc -shared -fPIC -O1 -D_GNU_SOURCE $(pkg-config --cflags lua5.4) -o %s/attack.so \
    %s/spec/fixtures/attack.c]]):format(library, support.root)))
end

local function remove_library()
  os.remove(library .. "/attack.so")
  os.remove(library)
end

describe("A dropped script", function()
  local box = support.with_box(before_each, after_each)
  setup(build_library)
  teardown(remove_library)

  local function test(name, body)
    it(name, function()
      if not support.is_root then return pending("needs root") end
      body()
    end)
  end

  -- Start `text` as nobody; its pid and the keeper's.
  local function start(text, ...)
    local words = { "start", "--user", "nobody", "--cpath", library .. "/?.so", ... }
    words[#words + 1] = box:write("s.lua", support.BEAT .. (text or ""))
    local result = box:run(words, { env = ENV })
    assert.equal(0, result.code, result.err)
    local pid = math.tointeger(tonumber(result.out:match("started %(pid (%d+)%)")))
    return pid, support.parent_of(pid)
  end

  local function make_dir(name, mode, uid)
    assert(uv.fs_mkdir(box:path(name), tonumber(mode, 8)))
    assert(uv.fs_chmod(box:path(name), tonumber(mode, 8)))
    assert(uv.fs_chown(box:path(name), uid, uid))
    return box:path(name)
  end

  local function exists(path)
    return uv.fs_lstat(path) ~= nil
  end

  test("holds no descriptor that can write the pidfile, nor any of the run directory", function()
    local pid = start()
    local seen
    for number, fd in pairs(descriptors(pid)) do
      assert.not_equal(box:path("run"), fd.target, number)
      if fd.target == box:path("run/s.pid") then
        assert.equal(0, fd.flags & 3, "it is read-only")
        seen = true
      end
      assert.is_nil(fd.target:find("inotify", 1, true))
    end
    assert.is_true(seen)
  end)

  test("cannot be inspected by other processes of its user", function()
    local pid = start()
    assert.equal(0, uv.fs_stat(("/proc/%d/environ"):format(pid)).uid) -- it is not dumpable
  end)

  test("has one channel, to the keeper, while it loads", function()
    start('print("channels", #require("attack").channels())')
    box:wait_log("s", "channels\t1\n")
  end)

  test("cannot change the pidfile, whatever it does to its descriptors", function()
    local pid = start [[
      local uv = require "luv"
      for fd = 3, 60 do
        if (uv.fs_readlink("/proc/self/fd/" .. fd) or ""):find("s.pid", 1, true) then
          print("written", (uv.fs_write(fd, "1\n", 0)))
        end
      end
    ]]
    box:wait_log("s", "written\tnil\n")
    assert.equal(pid .. "\n", box:read("run/s.pid"))
  end)

  test("cannot choose what a restart runs: the starter's record does", function()
    start [[
      local uv = require "luv"
      for fd = 3, 60 do -- be the one that answers on the control socket
        local pipe = uv.new_pipe()
        if pipe:open(fd) and (pipe:getsockname() or ""):find("s.sock", 1, true) then
          pipe:listen(8, function()
            local client = uv.new_pipe()
            pipe:accept(client)
            client:read_start(function(_, chunk)
              if chunk then
                print("asked", chunk)
                client:write('{"ok": true, "words": ["lunad", "run", "-e", "x"], "uid": 0, "script": "/x"}\n')
              end
            end)
          end)
          print "deaf"
        end
      end
    ]]
    local record = support.read(box:path("run/s.start"))
    assert.equal("600", ("%o"):format(uv.fs_stat(box:path("run/s.start")).mode & 4095))
    assert.equal(0, uv.fs_stat(box:path("run/s.start")).uid)
    local result = box:run({ "restart", "s" }, { env = ENV })
    assert.equal(0, result.code, result.err)
    assert.equal(record, support.read(box:path("run/s.start")))
    assert.truthy(support.proc_status(box:read("run/s.pid"):match("%d+")).Uid:find("^65534\t65534"))
  end)

  test("cannot make the keeper deaf with malformed packets", function()
    local _, keeper = start [[
      local attack = require "attack"
      local channel = attack.channels()[1]
      math.randomseed(7)
      local function junk(size)
        local bytes = {}
        for i = 1, size do bytes[i] = string.char(math.random(0, 255)) end
        return table.concat(bytes)
      end
      local fixed = { "", "\0", "o", "lunad/1", "lunad/1 ", "lunad/1 1", "lunad/1 1 ", "lunad/1  open-log",
        "lunad/2 1 open-log", "lunad/1 -1 open-log", "lunad/1 99999999999999999999 open-log",
        "lunad/1 1 OPEN-LOG", "lunad/1 1 open-log /etc/x", "lunad/1 1 open-log\n",
        "lunad/1 1 " .. ("a"):rep(60000), "lunad/1 1 stop" }
      for _, packet in ipairs(fixed) do
        for _, count in ipairs { 0, 1, 3, 20 } do attack.send(channel, packet, count) end
      end
      for i = 1, 2000 do
        local text = i % 2 == 0 and junk(i % 97) or "lunad/1 " .. junk(i % 50)
        attack.send(channel, text, i % 5)
      end
      print "sent"
    ]]
    box:wait_log("s", "sent")
    assert(uv.fs_rename(box:path("log/s.log"), box:path("log/s.log.1")))
    box:ok("reopen", "s")
    assert.truthy(box:log("s"):find("log reopened", 1, true))
    for number in pairs(descriptors(keeper)) do
      assert.is_true(number < 20, "a descriptor that was sent stayed open: " .. number)
    end
    support.kill(keeper, "sigterm")
    support.wait_for("its end", function() return #box:left_files() == 0 end)
  end)

  test("is refused everything but the log by the keeper, whatever it sends", function()
    local secret = make_dir("secret", "700", 0)
    start(([[
      local attack = require "attack"
      local channel = attack.channels()[1]
      for _, request in ipairs { "listen unix:%s/a", "remove unix:%s/b", "open /etc/shadow", "exec /bin/sh",
                                 "open-log %s/c", "rotate-log" } do
        attack.send(channel, "lunad/1 7 " .. request)
        print("answer", (attack.receive(channel, 2000)))
      end
    ]]):format(secret, secret, secret))
    support.wait_for("the answers", function()
      local _, count = box:log("s"):gsub("answer\tlunad/1 7 error 1\n", "")
      return count == 6
    end)
    assert.is_nil(uv.fs_scandir_next(uv.fs_scandir(secret)))
  end)

  test("cannot push old log files out by asking for rotations", function()
    local attack = [[
      local attack = require "attack"
      local channel = attack.channels()[1]
      local opened = 0
      for i = 1, 20 do
        attack.send(channel, "lunad/1 7 rotate-log")
        local answer = attack.receive(channel, 2000)
        opened = opened + (answer:find("^lunad/1 7 ok") and 1 or 0)
      end
      print("opened", opened)
    ]]
    start(attack, "--log-max-size", "1M", "--log-keep", "2")
    box:wait_log("s", "opened\t20\n")
    assert.is_nil(uv.fs_stat(box:path("log/s.log.1")))
  end)

  test("gets no answer of an earlier request for a later one", function()
    start [[
      local attack = require "attack"
      attack.send(attack.channels()[1], "lunad/1 999999 listen")
    ]]
    assert(uv.fs_rename(box:path("log/s.log"), box:path("log/s.log.1")))
    box:ok("reopen", "s")
    assert.truthy(box:log("s"):find("log reopened", 1, true))
  end)

  test("that closes its channel is still stopped through the keeper", function()
    local pid, keeper = start [[
      local attack = require "attack"
      lunad.signal("USR2", function() attack.close(attack.channels()[1]) end)
    ]]
    box:ok("signal", "s", "USR2")
    support.wait_for("the channel to be closed", function()
      local count = 0
      for _, fd in pairs(descriptors(keeper)) do
        count = count + (fd.target:find("^socket:") and 1 or 0)
      end
      return count <= 1 -- the claim
    end)
    support.kill(keeper, "sigterm")
    support.wait_for("its end", function() return not support.is_alive(pid) and #box:left_files() == 0 end)
  end)

  test("that floods the keeper and ignores it is killed when the time for a stop is over", function()
    local pid, keeper = start([[
      local attack = require "attack"
      local channel = attack.channels()[1]
      lunad.signal("TERM", function() end)
      lunad.after(0.05, function()
        print "flooding"
        while true do attack.send(channel, "lunad/1 5 nonsense") end
      end)
    ]], "--stop-timeout", "0.1")
    box:wait_log("s", "flooding")
    support.kill(keeper, "sigterm")
    support.wait_for("its end", function()
      return not support.is_alive(pid) and not support.is_alive(keeper)
    end, 20)
    assert.truthy(box:log("s"):find("did not stop within 0.1 s: killing it", 1, true))
    assert.same({}, box:left_files())
  end)

  test("cannot have its log opened elsewhere by changing its path", function()
    local mine = make_dir("mine", "755", NOBODY)
    local secret = make_dir("secret", "755", 0)
    make_dir("mine/logs", "755", NOBODY)
    start(nil, "--log", mine .. "/logs/s.log")
    assert.equal(NOBODY, uv.fs_stat(mine .. "/logs/s.log").uid) -- it was made with the user's rights
    assert(uv.fs_rename(mine .. "/logs", mine .. "/old"))
    assert(uv.fs_symlink(secret, mine .. "/logs"))
    assert(uv.fs_unlink(mine .. "/old/s.log"))
    box:ok("reopen", "s")
    assert.is_false(exists(secret .. "/s.log"))
    assert.truthy(support.read(mine .. "/old/s.log"):find("log reopened", 1, true))
  end)

  test("cannot have its log made through a link that it has put there before the start", function()
    local mine = make_dir("mine", "755", NOBODY)
    local secret = make_dir("secret", "755", 0)
    assert(uv.fs_symlink(secret, mine .. "/logs"))
    assert(uv.fs_lchown(mine .. "/logs", NOBODY, NOBODY))
    local err = box:refused(1, "start", "--user", "nobody", "--log", mine .. "/logs/s.log", box:idle("s"))
    assert.truthy(err:find("Permission denied (it is opened as nobody", 1, true), err)
    assert.is_false(exists(secret .. "/s.log"))
    assert.same({}, box:left_files())
  end)

  test("cannot have a file appended to by a hard link in a folder that it may write", function()
    local shared = make_dir("shared", "1777", 0)
    support.write(box:path("precious"), "precious\n")
    local linked = uv.fs_link(box:path("precious"), shared .. "/s.log")
    if not linked then return pending("links are denied here") end
    box:refused(1, "start", "--user", "nobody", "--log", shared .. "/s.log", box:idle("s"))
    assert.equal("precious\n", box:read("precious"))
  end)

  test("cannot have a socket made through a link in its folder", function()
    local mine = make_dir("mine", "755", NOBODY)
    local secret = make_dir("secret", "755", 0)
    assert(uv.fs_symlink(secret, mine .. "/here"))
    assert(uv.fs_lchown(mine .. "/here", NOBODY, NOBODY))
    box:refused(1, "start", "--user", "nobody", "--listen", "unix:" .. mine .. "/here/u.sock", box:idle("s"))
    assert.is_false(exists(secret .. "/u.sock"))
    box:run({ "start", "--user", "nobody", "--listen", "unix:" .. mine .. "/u.sock", "s.lua" }, { env = ENV })
    assert.equal(NOBODY, uv.fs_stat(mine .. "/u.sock").uid)
    box:ok("stop", "s")
    assert.is_false(exists(mine .. "/u.sock"))
  end)

  test("cannot have a file removed at the end by exchanging the folder of its socket", function()
    local mine = make_dir("mine", "755", NOBODY)
    make_dir("mine/sub", "755", NOBODY)
    local secret = make_dir("secret", "755", 0)
    support.write(secret .. "/u.sock", "precious")
    start(nil, "--listen", "unix:" .. mine .. "/sub/u.sock")
    assert(uv.fs_rename(mine .. "/sub", mine .. "/old"))
    assert(uv.fs_symlink(secret, mine .. "/sub"))
    box:ok("stop", "s")
    assert.equal("precious", support.read(secret .. "/u.sock"))
  end)

  test("cannot have its log made through another user's link in a sticky directory", function()
    local shared = make_dir("shared", "1777", 0)
    local secret = make_dir("secret", "755", 0)
    assert(uv.fs_symlink(secret, shared .. "/logs"))
    assert(uv.fs_lchown(shared .. "/logs", 1, 1))
    box:refused(1, "start", "--user", "nobody", "--log", shared .. "/logs/s.log", box:idle("s"))
    assert.is_false(exists(secret .. "/s.log"))
  end)

  test("cannot get into a directory that it may not enter, by a link in the path of --chdir", function()
    local mine = make_dir("mine", "755", NOBODY)
    local secret = make_dir("secret", "700", 0)
    assert(uv.fs_mkdir(secret .. "/sub", tonumber("755", 8)))
    assert(uv.fs_symlink(secret .. "/sub", mine .. "/work"))
    assert(uv.fs_lchown(mine .. "/work", NOBODY, NOBODY))
    local err = box:refused(1, "start", "--user", "nobody", "--chdir", mine .. "/work", box:idle("s"))
    assert.truthy(err:find("--chdir .*: Permission denied"), err)
    box:ok("start", "--user", "nobody", "--chdir", secret .. "/sub", "s.lua") -- not the user's
  end)

  test("cannot have the files of its run directory made elsewhere", function()
    local mine = make_dir("mine", "755", NOBODY)
    local err = box:refused(1, "start", "--user", "nobody", "--run-dir", mine .. "/run", box:idle("s"))
    assert.truthy(err:find("user nobody can change the way to it", 1, true), err)
    assert.is_false(exists(mine .. "/run"))
  end)

  test("cannot keep the starter waiting by reporting without end", function()
    local result = box:run({ "start", "--user", "nobody", "--wait-ready", "--stop-timeout", "0", "--cpath",
      library .. "/?.so", box:write("s.lua", [[
        local attack = require "attack"
        local channel = attack.channels()[1]
        while true do attack.send(channel, "lunad/1 0 failed no reason") end
      ]]) }, { env = ENV, seconds = 30 })
    assert.equal(1, result.code)
    assert.equal("lunad: no reason\n", result.err)
    assert.same({}, box:left_files())
  end)

  -- Have the script answer on the control socket itself, and do nothing else.
  local function start_answering(answer, endless)
    start(([[
      lunad.after(0.05, function()
        print "answering"
        require("attack").serve(%q, %s)
      end)
    ]]):format(answer, endless), "--stop-timeout", "0.1")
    box:wait_log("s", "answering")
  end

  test("cannot fill the memory of a client by an answer without end", function()
    start_answering(("x"):rep(1 << 16), true)
    local limit = support.is_sanitized() and "" or "ulimit -v 300000; " -- sanitizers map terabytes
    local result = box:shell(limit .. "exec $1 reload s", {}, { env = ENV })
    assert.equal(1, result.code)
    assert.truthy(result.err:find("its answer has no end", 1, true), result.err)
  end)

  test("cannot make root read a file other than its log", function()
    local secret = support.write(box:path("secret"), "precious\n")
    start_answering(('{"ok": true, "log": {"file": "%s"}}\n'):format(secret), false)
    local out = box:ok("logs", "s")
    assert.is_nil(out:find("precious", 1, true), out)
  end)

  test("has no session keyring of root's", function()
    local serials = {}
    for i = 1, 2 do
      start 'print("session", require("attack").session())'
      serials[i] = box:wait_log("s", "session\t(%d+)\n")
      box:ok("stop", "s")
      os.remove(box:path("log/s.log"))
    end
    assert.not_equal(serials[1], serials[2])
  end)

  test("gets no new rights under --no-new-privs", function()
    local pid = start(nil, "--no-new-privs")
    assert.equal("1", support.read(("/proc/%d/status"):format(pid)):match("NoNewPrivs:%s*(%d)"))
    box:ok("stop", "s")
    pid = start()
    assert.equal("0", support.read(("/proc/%d/status"):format(pid)):match("NoNewPrivs:%s*(%d)"))
  end)

  test("is stopped, and started once, after its keeper was killed", function()
    local pid, keeper = start()
    support.kill(keeper, "sigkill")
    box:wait_log("s", "keeper is gone")
    assert.equal(4, box:lunad("start", "--user", "nobody", "s.lua").code)
    assert.equal(pid, box:status("s").pid)
    box:ok("stop", "s")
    assert.is_false(support.is_alive(pid))
  end)
end)

describe("The record of how a daemon was started", function()
  local box = support.with_box(before_each, after_each)

  it("belongs to the starter alone, and is removed at a stop", function()
    box:start(box:idle("s"))
    local stat = uv.fs_stat(box:path("run/s.start"))
    assert.equal("600", ("%o"):format(stat.mode & 4095))
    box:ok("stop", "s")
    assert.same({}, box:left_files())
  end)

  it("is used only if no other user could have written it", function()
    local pid = box:start(box:idle("s"))
    local path = box:path("run/s.start")
    local good = support.read(path)
    -- Replace the record by `text` at once; the daemon would make a missing one again.
    local function put(text, mode)
      local draft = support.write(box:path("draft"), text)
      assert(uv.fs_chmod(draft, tonumber(mode or "600", 8)))
      assert(os.rename(draft, path))
    end
    local others, damaged = "others could have written it", "damaged"
    local cases = {
      { function() put(good, "620") end, others },
      { function() assert(uv.fs_link(path, box:path("other"))) end, others },
      { function()
        assert(uv.fs_symlink(support.write(box:path("moved"), good), box:path("draft")))
        assert(os.rename(box:path("draft"), path))
      end, others },
      { function() put("{") end, damaged },
      { function() put('{"format": 2}') end, damaged },
      { function() put('{"format": 1, "words": "x", "environment": []}') end, damaged },
    }
    for i, case in ipairs(cases) do
      put(good)
      case[1]()
      local err = box:refused(1, "restart", "s")
      assert.truthy(err:find("s.start", 1, true) and err:find(case[2], 1, true), i .. ": " .. err)
      assert.equal(pid, box:status("s").pid)
    end
  end)

  it("tells root's restart which user had started it, by its owner", function()
    if not support.is_root then return pending("needs root") end
    assert(uv.fs_copyfile(support.binary, box:path("lunad")))
    for _, dir in ipairs { "run", "log" } do
      assert(uv.fs_mkdir(box:path(dir), tonumber("700", 8)))
      assert(uv.fs_chown(box:path(dir), NOBODY, NOBODY))
    end
    local as_nobody = { program = box:path("lunad"), uid = NOBODY, gid = NOBODY }
    assert.equal(0, box:run({ "start", box:idle("s") }, as_nobody).code)
    -- The user writes a record that makes root run something else.
    local evil = box:write("evil.lua", "io.open('" .. box:path("owned") .. "', 'w')")
    local record = support.read(box:path("run/s.start")):gsub('"script":"[^"]*"', '"script":"' .. evil .. '"')
    record = record:gsub('"words":%b[]', '"words":["lunad","start","--name","s","' .. evil .. '"],"uid":0')
    support.write(box:path("run/s.start"), record)
    box:run({ "restart", "s" }, { program = box:path("lunad") })
    local made = uv.fs_stat(box:path("owned"))
    assert.is_true(made == nil or made.uid == NOBODY)
  end)
end)

describe("Root in the run directory of another user", function()
  local box = support.with_box(before_each, after_each)
  local theirs, as_nobody

  local function test(name, body)
    it(name, function()
      if not support.is_root then return pending("needs root") end
      assert(uv.fs_copyfile(support.binary, box:path("lunad")))
      theirs = box:path("theirs")
      assert(uv.fs_mkdir(theirs, tonumber("755", 8)))
      assert(uv.fs_chown(theirs, NOBODY, NOBODY))
      as_nobody = { program = box:path("lunad"), uid = NOBODY, gid = NOBODY }
      body()
    end)
  end

  local function start_theirs()
    local words = { "start", "--run-dir", theirs, "--log", theirs .. "/s.log", box:idle("s") }
    local result = box:run(words, as_nobody)
    assert.equal(0, result.code, result.err)
    return math.tointeger(tonumber(result.out:match("%(pid (%d+)%)")))
  end

  test("truncates no file that has a second name there", function()
    local precious = support.write(box:path("precious"), "precious")
    assert(uv.fs_link(precious, theirs .. "/s.pid"))
    box:lunad("stop", "--run-dir", theirs, "s")
    assert(uv.fs_chown(precious, NOBODY, NOBODY)) -- one that even is of the right user
    box:lunad("stop", "--run-dir", theirs, "s")
    assert.equal("precious", support.read(precious))
  end)

  test("asks no other daemon, to whose socket a link was put there", function()
    local other = box:start(box:idle("other"))
    local pid = start_theirs()
    support.kill(pid, "sigstop") -- so that it does not put its socket back
    assert(uv.fs_unlink(theirs .. "/s.sock"))
    assert(uv.fs_symlink(box:path("run/other.sock"), theirs .. "/s.sock"))
    local err = box:refused(1, "reload", "--run-dir", theirs, "s")
    assert.truthy(err:find("not of the user whose run directory this is", 1, true), err)
    box:lunad("stop", "--timeout", "0.1", "--run-dir", theirs, "s")
    assert.equal(1, box:status("other").generation)
    assert.is_true(support.is_alive(other))
    box.wait_gone(box, pid)
  end)

  test("stops no other daemon, whose pidfile has a second name there", function()
    local other = box:start(box:idle("other"))
    assert(uv.fs_link(box:path("run/other.pid"), theirs .. "/s.pid"))
    box:refused(1, "stop", "--timeout", "0", "--run-dir", theirs, "s")
    assert.is_true(support.is_alive(other))
  end)

  test("restarts nothing on its own terminal that the user ran in the foreground", function()
    local run = box:spawn({ "run", "--run-dir", theirs, box:idle("s") }, as_nobody)
    support.wait_for("its record", function() return uv.fs_stat(theirs .. "/s.sock") end)
    local err = box:refused(1, "restart", "--run-dir", theirs, "s")
    assert.truthy(err:find("another user runs it in the foreground", 1, true), err)
    assert.is_nil(run.code)
    support.kill(run.pid, "sigterm")
    box:await(run, "its end", run.is_over)
  end)
end)

describe("The files of a daemon", function()
  local box = support.with_box(before_each, after_each)

  local function hide(name)
    assert(uv.fs_unlink(box:path("run/" .. name)))
  end

  for _, user in ipairs { false, "nobody" } do
    local with = user and " with --user" or ""
    local function start()
      local words = { "start", box:idle("s") }
      if user then
        table.move({ "--user", user }, 1, 2, 2, words)
        words[4] = "s.lua"
      end
      local result = box:run(words, { env = ENV })
      assert.equal(0, result.code, result.err)
      return math.tointeger(tonumber(box:read("run/s.pid"):match("%d+")))
    end

    it("are made again when they are removed" .. with, function()
      if user and not support.is_root then return pending("needs root") end
      local pid = start()
      for _, names in ipairs { { "s.pid" }, { "s.sock" }, { "s.start" }, { "s.sock", "s.pid", "s.start" } } do
        for _, name in ipairs(names) do hide(name) end
        support.wait_for("its files", function() return #box:left_files() == 3 end)
        support.wait_for("an answer", function() return answers(box, pid) end)
      end
      assert.truthy(box:log("s"):find("files of this daemon were removed from .*: they were made again"))
      assert.equal(4, box:lunad("start", "s.lua").code)
      box:ok("stop", "s")
      assert.same({}, box:left_files())
    end)

    it("are made again when the run directory was removed" .. with, function()
      if user and not support.is_root then return pending("needs root") end
      local pid = start()
      assert.equal(0, box:shell("mv run gone && rm -r gone").code)
      support.wait_for("an answer", function() return answers(box, pid) end)
      assert.equal(4, box:lunad("start", "s.lua").code)
      box:ok("reload", "s")
      box:ok("stop", "s")
      assert.same({}, box:left_files())
    end)
  end

  it("can be removed under a daemon that cannot notice it, and no second one starts", function()
    local pid = box:start(box:idle("s"))
    support.kill(pid, "sigstop")
    assert.equal(0, box:shell("rm -r run").code)
    local err = box:refused(4, "start", "s.lua")
    assert.truthy(err:find("already running, and its pidfile was removed from", 1, true), err)
    support.kill(pid, "sigcont")
    support.wait_for("an answer", function() return answers(box, pid) end)
    assert.equal(1, #box:marked())
  end)

  it("are left alone if they are another daemon's socket at the same path", function()
    local path = box:path("u.sock")
    box:start("--listen", "unix:" .. path, box:idle("a"))
    assert(uv.fs_unlink(path))
    box:start("--listen", "unix:" .. path, box:idle("b"))
    box:ok("stop", "a")
    assert.truthy(uv.fs_lstat(path))
    box:ok("stop", "b")
    assert.is_nil(uv.fs_lstat(path))
  end)

  it("do not include a Unix socket after a start that was cancelled or took too long", function()
    local path, other = box:path("u.sock"), box:path("v.sock")
    local text = ("local lunad = require 'lunad' lunad.listen 'unix:%s' while true do end"):format(path)
    box:refused(1, "start", "--wait-ready", "--start-timeout", "0.2", "--listen", "unix:" .. other,
      box:write("s.lua", "lunad = require 'lunad' " .. text))
    assert.is_nil(uv.fs_lstat(path))
    assert.is_nil(uv.fs_lstat(other))
    local start = box:spawn { "start", "--listen", "unix:" .. other, "s.lua" }
    support.wait_for("the sockets", function() return uv.fs_lstat(path) and uv.fs_lstat(other) end)
    support.kill(start.pid, "sigint")
    box:await(start, "its end", start.is_over)
    assert.truthy(start.err():find("start cancelled", 1, true))
    assert.is_nil(uv.fs_lstat(path))
    assert.is_nil(uv.fs_lstat(other))
    assert.same({}, box:left_files())
  end)

  it("do not include a Unix socket after a stop that had to kill", function()
    local path = box:path("u.sock")
    box:serve(("lunad.listen 'unix:%s' lunad.on_stop(function() while true do end end)"):format(path))
    box:lunad("stop", "--timeout", "0.2", "s")
    assert.is_nil(uv.fs_lstat(path))
    assert.same({}, box:left_files())
  end)
end)

describe("lunad stop", function()
  local box = support.with_box(before_each, after_each)

  it("gives a daemon that cannot be interrupted the time that its start named", function()
    box:serve([[
      lunad.on_stop(function() print "stopped in peace" end)
      lunad.signal("USR2", function()
        print "busy"
        os.execute "sleep 4"
      end)
    ]], "--stop-timeout", "30")
    box:ok("signal", "s", "USR2")
    box:wait_log("s", "busy")
    local result = box:lunad("stop", "s")
    assert.equal("s: stopped\n", result.out)
    assert.matches("^lunad: s: it is busy in /.*/s.lua:4 for [^\n]*; stopping it\n$", result.err)
    assert.truthy(box:log("s"):find("stopped in peace", 1, true))
  end)

  it("is one stop for a daemon whose loop is too busy to answer at once", function()
    box:serve([[
      local uv = require "luv"
      lunad.on_stop(function() lunad.sleep(0.5) print "stopped in peace" end)
      lunad.signal("USR2", function()
        print "busy"
        for _ = 1, 10 do
          uv.new_timer():start(0, 1, function()
            local till = uv.hrtime() + 1e8
            while uv.hrtime() < till do end
          end)
        end
      end)
    ]], "--stop-timeout", "40")
    box:ok("signal", "s", "USR2")
    box:wait_log("s", "busy")
    assert.equal("s: stopped\n", box:ok("stop", "s"))
    assert.truthy(box:log("s"):find("stopped in peace", 1, true))
    assert.is_nil(box:log("s"):find("asked to stop again", 1, true))
  end)

  it("kills a daemon that is stuck when its own time is over, and not later", function()
    box:serve([[
      lunad.signal("USR2", function() print "stuck" while true do end end)
    ]], "--stop-timeout", "0.2")
    box:ok("signal", "s", "USR2")
    box:wait_log("s", "stuck")
    local before = uv.hrtime()
    local result = box:lunad("stop", "s")
    assert.equal(0, result.code)
    assert.is_true(uv.hrtime() - before < 6e9)
  end)

  it("may be asked for by many at once, and all succeed", function()
    box:serve("lunad.on_stop(function() lunad.sleep(0.3) end)")
    local stops = {}
    for i = 1, 6 do
      stops[i] = box:spawn { "stop", "s" }
    end
    for _, stop in ipairs(stops) do
      box:await(stop, "its end", stop.is_over)
      assert.equal(0, stop.code, stop.err())
    end
  end)
end)

describe("The binary", function()
  it("is position independent, with read-only relocations, stack protector and checked functions", function()
    if support.binary:find("sanitize", 1, true) then return pending("sanitizers check otherwise") end
    local pipe = assert(io.popen(("readelf -hldW --dyn-syms %s"):format(support.binary)))
    local text = pipe:read("a")
    pipe:close()
    assert.truthy(text:find("Type:%s+DYN"), "it is not position independent")
    assert.truthy(text:find("GNU_RELRO", 1, true))
    assert.truthy(text:find("BIND_NOW", 1, true) or text:find("Flags: NOW", 1, true))
    assert.truthy(text:find("GNU_STACK[^\n]* RW "), "its stack is executable")
    assert.truthy(text:find("__stack_chk_fail", 1, true))
    assert.truthy(text:find("_chk@", 1, true))
  end)
end)

describe("A port below 1024", function()
  local box = support.with_box(before_each, after_each)

  it("that --listen names is available to a dropped script over reloads", function()
    if not support.is_root then return pending("needs root") end
    local port = net.free_low_port()
    box:serve(("print('fd', lunad.listen '127.0.0.1:%d')"):format(port), "--user", "nobody",
      "--listen", "127.0.0.1:" .. port)
    box:ok("reload", "s")
    local _, count = box:log("s"):gsub("fd\t%d+\n", "")
    assert.equal(2, count)
  end)
end)

-- The run directory: where it is, how it is made, and when it is refused.

local support = require "support"
local uv = support.uv

local NOBODY = 65534

local function mode(path)
  return ("%o"):format(assert(uv.fs_stat(path)).mode & 4095)
end

-- Make a directory with exactly this mode.
local function make_dir(path, octal)
  assert(uv.fs_mkdir(path, tonumber("755", 8)))
  assert(uv.fs_chmod(path, tonumber(octal, 8)))
  return path
end

-- Options for running a copy of the binary as an ordinary user whose home is in the box.
local function as_nobody(box, env)
  assert(uv.fs_copyfile(support.binary, box:path("lunad")))
  assert(uv.fs_chown(make_dir(box:path("home"), "755"), NOBODY, NOBODY))
  env = env or {}
  env.HOME = box:path("home")
  return { program = box:path("lunad"), uid = NOBODY, gid = NOBODY, env = env }
end

describe("The run directory", function()
  local box = support.with_box(before_each, after_each)

  it("holds NAME.pid and NAME.sock, and nothing else", function()
    box:start(box:idle("x"))
    assert.same({ "x.pid", "x.sock", "x.start" }, box:left_files())
    box:ok("stop", "x")
    assert.same({}, box:left_files())
  end)

  it("is that of --run-dir, else of LUNAD_RUN_DIR", function()
    box:ok("start", "--run-dir", box:path("a"), box:idle("x"))
    assert.truthy(box:read("a/x.sock") == nil and box:read("a/x.pid"))
    assert.is_nil(uv.fs_stat(box:path("run")))
    box:ok("stop", "--run-dir", box:path("a"), "x")
    box:ok("start", "x.lua")
    assert.truthy(box:read("run/x.pid"))
  end)

  it("may be given relative to the caller's directory", function()
    box:ok("start", "--run-dir", "a/b/", box:idle("x"))
    assert.truthy(box:read("a/b/x.pid"))
    assert.equal(0, box:lunad("status", "--run-dir", "./a/b", "x").code)
    local env = { LUNAD_RUN_DIR = "a/b" }
    assert.equal("x: stopped\n", box:run({ "stop", "x" }, { env = env }).out)
  end)

  it("is made 0755 for root, with those above it, whatever the umask", function()
    if not support.is_root then return pending("needs root") end
    for _, mask in ipairs { "000", "777" } do
      local dir = box:path("made" .. mask)
      local script = 'umask $2; "$1" start --run-dir "$3/run" "$4" && "$1" stop --run-dir "$3/run" x'
      assert.equal(0, box:shell(script, { mask, dir, box:idle("x") }).code)
      assert.equal("755", mode(dir))
      assert.equal("755", mode(dir .. "/run"))
    end
  end)

  it("is made 0700 for other users, whatever the umask", function()
    if not support.is_root then return pending("needs root") end
    local env = { LUNAD_RUN_DIR = box:path("home/run"), LUNAD_LOG_DIR = box:path("home/log") }
    local options = as_nobody(box, env)
    assert.equal(0, box:run({ "start", box:idle("x") }, options).code)
    assert.equal("700", mode(box:path("home/run")))
    assert.equal(NOBODY, uv.fs_stat(box:path("home/run")).uid)
    assert.equal(0, box:run({ "stop", "x" }, options).code)
  end)

  it("is /run/lunad for root by default", function()
    if not support.is_root then return pending("needs root") end
    local result = box:shell([[
      mount -t tmpfs none /run && mount -t tmpfs none /var/log || exit 1
      unset LUNAD_RUN_DIR LUNAD_LOG_DIR
      "$1" start "$2" && stat -c %a /run/lunad && ls /run/lunad && ls /var/log/lunad && "$1" stop x
    ]], { box:idle("x") }, { through = { "unshare", "--mount" } })
    assert.equal(0, result.code, result.err)
    local expected = "^x: started[^\n]*\n755\nx.pid\nx.sock\nx.start\nx.log\nx: stopped\n$"
    assert.truthy(result.out:find(expected), result.out)
  end)
end)

describe("The run directory of an ordinary user", function()
  local box = support.with_box(before_each, after_each)

  -- A uid without an entry in the user database, of this process alone: specs may run beside others.
  local STRANGER = 60000 + math.tointeger(uv.os_getpid()) % 4000
  local FALLBACK = "/tmp/lunad-" .. STRANGER

  -- Options for running a copy of the binary as a user who has `home` (or none), and `env`.
  local function as_stranger(home, env)
    if not uv.fs_stat(box:path("lunad")) then
      assert(uv.fs_copyfile(support.binary, box:path("lunad")))
      assert(uv.fs_chown(make_dir(box:path("home"), "755"), STRANGER, STRANGER))
    end
    local all = { LUNAD_RUN_DIR = false, XDG_RUNTIME_DIR = false, XDG_STATE_HOME = false, HOME = home,
      LUNAD_LOG_DIR = box:path("home/log"), ASAN_OPTIONS = "detect_leaks=0" }
    for key, value in pairs(env or {}) do all[key] = value end
    return { program = box:path("lunad"), uid = STRANGER, gid = STRANGER, env = all }
  end

  -- A start makes `dir` with mode 0700, and a stop with `later`, other options, finds it there.
  local function assert_in(dir, options, later)
    local started = box:run({ "start", box:idle("x") }, options)
    local stat = uv.fs_stat(dir)
    local stopped = box:run({ "stop", "x" }, later or options)
    uv.fs_rmdir(FALLBACK)
    assert.equal(0, started.code, started.err)
    assert.equal("x: stopped\n", stopped.out, stopped.err)
    assert.truthy(stat, dir)
    assert.equal(tonumber("700", 8), stat.mode & 4095)
  end

  if not support.is_root then
    return it("needs root", function() pending("needs root") end)
  end

  it("is the same in a session, under cron and after a logout", function()
    local home = box:path("home")
    local session = as_stranger(home, { XDG_RUNTIME_DIR = box:path("home") })
    assert_in(home .. "/.local/state/lunad/run", session, as_stranger(home))
    assert.is_nil(uv.fs_stat(box:path("home/lunad")))
  end)

  it("is in XDG_STATE_HOME", function()
    local home = box:path("home")
    assert_in(home .. "/s/lunad/run", as_stranger(home, { XDG_STATE_HOME = home .. "/s" }))
    assert_in(home .. "/t/lunad/run", as_stranger(false, { XDG_STATE_HOME = home .. "/t/" }))
  end)

  it("is not in a relative XDG_STATE_HOME, and neither is the log", function()
    local options = as_stranger(box:path("home"), { XDG_STATE_HOME = "home/s", LUNAD_LOG_DIR = false })
    assert_in(box:path("home/.local/state/lunad/run"), options)
    assert.truthy(box:read("home/.local/state/lunad/x.log"))
    assert.is_nil(uv.fs_stat(box:path("home/s")))
  end)

  for what, home in pairs { ["unset"] = false, ["empty"] = "", ["relative"] = "home",
                            ["a file"] = "/etc/passwd",
                            ["not there"] = "/nonexistent/home", ["not writable"] = "/usr" } do
    it("is /tmp/lunad-UID where HOME is " .. what, function()
      assert_in(FALLBACK, as_stranger(home))
    end)
  end

  it("is /tmp/lunad-UID also where HOME may be entered, but not written to", function()
    local options = as_stranger(box:path("theirs"))
    make_dir(box:path("theirs"), "755")
    assert_in(FALLBACK, options)
  end)

  it("stays where it is when the home becomes one that cannot be written to", function()
    local options = as_stranger(box:path("home"))
    assert.equal(0, box:run({ "start", box:idle("x") }, options).code)
    assert(uv.fs_chown(box:path("home"), 0, 0))
    assert.equal("x: stopped\n", box:run({ "stop", "x" }, options).out)
  end)

  it("is refused, also for looking, where /tmp/lunad-UID is another's, a link or a file", function()
    local options = as_stranger(false)
    local refused = {
      ["another user %(nobody%)"] = function()
        assert(uv.fs_chown(make_dir(FALLBACK, "755"), NOBODY, NOBODY))
      end,
      ["symbolic link"] = function() assert(uv.fs_symlink(box:path("home"), FALLBACK)) end,
      ["Not a directory"] = function() support.write(FALLBACK, "") end,
    }
    for words, make in pairs(refused) do
      make()
      local results = {}
      for _, verb in ipairs { "start", "status", "stop" } do
        results[verb] = box:run({ verb, verb == "start" and box:idle("x") or "x" }, options)
      end
      if not uv.fs_rmdir(FALLBACK) then uv.fs_unlink(FALLBACK) end
      for verb, result in pairs(results) do
        assert.equal(1, result.code, verb)
        assert.matches("^lunad: run directory " .. FALLBACK:gsub("%-", "%%-") .. ": .*" .. words, result.err)
      end
    end
    assert.is_nil(uv.fs_stat(box:path("home/x.pid")))
  end)

  it("is named in the error when there is no place for a log, with a hint at --log", function()
    local options = as_stranger("/nonexistent", { LUNAD_LOG_DIR = false })
    local result = box:run({ "start", box:idle("x") }, options)
    uv.fs_rmdir(FALLBACK)
    assert.equal(1, result.code)
    local path = support.pattern("/nonexistent/.local/state/lunad/x.log")
    assert.matches("^lunad: log " .. path .. ": Permission denied .*%-%-log", result.err)
  end)
end)

describe("Relative directories", function()
  local box = support.with_box(before_each, after_each)

  it("of the environment are absolute for the script and for what it starts", function()
    box:write("x.lua", [[
      require("lunad").every(60, print)
      print(os.getenv "LUNAD_RUN_DIR", os.getenv "LUNAD_LOG_DIR")
      print(require("lunad").exec { arg[1], "list" }.stdout)
    ]])
    local env = { LUNAD_RUN_DIR = "a/run", LUNAD_LOG_DIR = "./a//log" }
    assert.equal(0, box:run({ "start", "x.lua", support.binary }, { env = env }).code)
    local log = support.wait_for("the list", function()
      local text = box:read("a/log/x.log")
      return text:find("\n    x +%d+ +running") and text
    end)
    assert.truthy(log:find(box:path("a/run") .. "\t" .. box:path("a//log") .. "\n", 1, true), log)
    assert.equal("x: stopped\n", box:run({ "stop", "x" }, { env = env }).out)
  end)

  it("are relative to the caller's directory, whatever --chdir says", function()
    box:ok("start", "--run-dir", "a/../b", "--log", "own.log", "--chdir", "/usr", box:idle("x"))
    assert.truthy(box:read("b/x.pid") and box:read("own.log"))
    box:ok("stop", "--run-dir", box:path("b"), "x")
  end)
end)

describe("A caller whose directory was removed", function()
  local box = support.with_box(before_each, after_each)

  -- Run lunad in a directory that has been removed.
  local function run_lost(...)
    return box:shell([[d=$2; shift; mkdir gone && cd gone && rmdir ../gone && exec "$BINARY" "${@:2}"]],
      { "-", ... }, { env = { BINARY = support.binary } })
  end

  it("can start, run, query and stop what does not need it", function()
    local result = run_lost("start", box:idle("x"))
    assert.matches("^x: started", result.out, result.err)
    assert.equal(0, run_lost("status", "x").code)
    assert.equal(0, run_lost("logs", "x").code)
    assert.equal(0, run_lost("restart", "x").code)
    assert.equal("x: stopped\n", run_lost("stop", "x").out)
    assert.equal("ran\n", run_lost("run", box:write("y.lua", "print 'ran'")).out)
    assert.equal("ran\n", run_lost("run", "-e", "print 'ran'").out)
  end)

  it("is told why what needs it is refused", function()
    local script = box:idle("x")
    for _, words in ipairs { { "start", "x.lua" }, { "start", "--log", "x.log", script },
                             { "start", "--run-dir", "run", script }, { "run", "--path", "p", script },
                             { "status", "--run-dir", "run", "x" } } do
      local result = run_lost(table.unpack(words))
      assert.equal(1, result.code)
      assert.matches("^lunad: .*working directory has been removed\n$", result.err)
    end
  end)
end)

describe("A run directory", function()
  local box = support.with_box(before_each, after_each)

  -- `start` and `run` refuse the directory with 1, naming it, and make nothing in it.
  local function assert_refused(dir, words)
    local script = box:idle("x")
    for _, verb in ipairs { "start", "run" } do
      local err = box:refused(1, verb, "--run-dir", dir, script)
      assert.truthy(err:find(dir, 1, true), err)
      assert.truthy(err:find(words), err)
    end
  end

  local function assert_empty(dir)
    assert.is_nil(uv.fs_scandir_next(uv.fs_scandir(dir)))
  end

  it("that is a symbolic link is refused, by every verb", function()
    make_dir(box:path("real"), "755")
    assert(uv.fs_symlink("real", box:path("link")))
    assert_refused(box:path("link"), "symbolic link")
    for _, words in ipairs { { "status", "x" }, { "stop", "x" }, { "list" }, { "reload", "x" } } do
      local err = box:refused(1, words[1], "--run-dir", "link", words[2])
      assert.truthy(err:find("symbolic link", 1, true), err)
      assert.equal(1, box:lunad(words[1], "--run-dir", "link/", words[2]).code)
    end
    assert_empty(box:path("real"))
  end)

  it("that is a link to nothing is refused, and nothing is made", function()
    assert(uv.fs_symlink("nothing", box:path("link")))
    assert_refused(box:path("link"), "symbolic link")
    assert.is_nil(uv.fs_stat(box:path("nothing")))
  end)

  it("that group or others may write to is refused", function()
    for _, octal in ipairs { "775", "757", "777", "1777" } do
      local dir = make_dir(box:path("d" .. octal), octal)
      assert_refused(dir, "write")
      assert_empty(dir)
    end
  end)

  it("that belongs to another user is refused, also for root", function()
    if not support.is_root then return pending("needs root") end
    local dir = make_dir(box:path("theirs"), "755")
    assert(uv.fs_chown(dir, NOBODY, NOBODY))
    assert_refused(dir, "another user")
    assert_empty(dir)
  end)

  it("that belongs to root is refused for other users", function()
    if not support.is_root then return pending("needs root") end
    local options = as_nobody(box, { LUNAD_LOG_DIR = box:path("home") })
    local dir = make_dir(box:path("roots"), "755")
    local result = box:run({ "start", "--run-dir", dir, box:idle("x") }, options)
    assert.equal(1, result.code)
    assert.truthy(result.err:find("^lunad: .*another user"), result.err)
  end)

  it("that is not a directory, or cannot be made, is refused", function()
    box:write("file", "")
    assert_refused(box:path("file"), "irectory")
    assert_refused(box:path("file/below"), "irectory")
    assert_refused("/proc/none/such", "No such file")
  end)

  it("too long for a socket is refused, naming the limit", function()
    local dir = box:path(("d"):rep(100))
    assert_refused(dir, "107 bytes")
    assert.is_nil(uv.fs_stat(dir))
    assert.equal(3, box:lunad("status", "--run-dir", dir, "x").code)
  end)

  it("that just fits a socket works", function()
    local dir = box.dir .. "/" .. ("d"):rep(107 - #box.dir - #"//x.sock")
    box:ok("start", "--run-dir", dir, box:idle("x"))
    assert.truthy(box:ok("status", "--run-dir", dir, "x"):find("running", 1, true))
    box:ok("stop", "--run-dir", dir, "x")
    assert_refused(dir .. "d", "107 bytes")
  end)

  it("on a full disk is refused, and nothing is left", function()
    if not support.is_root then return pending("needs root") end
    make_dir(box:path("small"), "755")
    local result = box:shell([[
      mount -t tmpfs -o size=16k none small && mkdir small/run && cd small || exit 9
      head -c 1M /dev/zero >fill 2>/dev/null
      "$1" start --run-dir run "$2"; echo "exit status $?"; ls run
    ]], { box:idle("x") }, { through = { "unshare", "--mount" } })
    assert.equal("exit status 1\n", result.out)
    assert.truthy(result.err:find("^lunad: .*No space left"), result.err)
  end)

  it("on a disk without room for another file is refused, and nothing is left", function()
    if not support.is_root then return pending("needs root") end
    make_dir(box:path("small"), "755")
    local result = box:shell([[
      mount -t tmpfs -o nr_inodes=3 none small && mkdir small/run && cd small || exit 9
      "$1" start --run-dir run "$2"; echo "exit status $?"; ls run; : >run/is-there-room
    ]], { box:idle("x") }, { through = { "unshare", "--mount" } })
    assert.equal("exit status 1\n", result.out)
    assert.truthy(result.err:find("^lunad: .*x%.start: No space left"), result.err)
  end)
end)

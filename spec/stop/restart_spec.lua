-- lunad restart: stop, then start as it was started.

local support = require "support"
local uv = support.uv

-- Prints what it was started with.
local SHOW = [[
  local lunad = require "lunad"
  print("A=" .. tostring(os.getenv("A")), "B=" .. tostring(os.getenv("B")), lunad.name, ...)
  lunad.every(60, print)
]]

describe("lunad restart", function()
  local box = support.with_box(before_each, after_each)

  -- The last line that SHOW has printed.
  local function shown(name)
    return box:log(name):match("^.*(A=[^\n]*)")
  end

  it("makes a new process, and says so as start does", function()
    local old = box:start(box:idle("x"))
    local result = box:lunad("restart", "x")
    assert.equal(0, result.code)
    assert.equal("", result.err)
    local new = math.tointeger(tonumber(result.out:match("^x: started %(pid (%d+)%)\n$")))
    assert.not_equal(old, new)
    assert.equal(new, box:status("x").pid)
    assert.equal(1, box:status("x").generation)
    support.wait_for("the old one's end", function() return not support.is_alive(old) end)
  end)

  it("stops gracefully, then runs the script as it is now", function()
    box:start(box:write("x.lua", [[
      require("lunad").on_stop(function(reason) print("old ends by " .. reason) end)
      require("lunad").every(60, print)
    ]]))
    box:write("x.lua", 'print "new begins" require("lunad").every(60, print)')
    box:ok("restart", "x")
    assert.truthy(box:log("x"):find("old ends by stop.*lunad: stopped.*new begins"))
  end)

  it("keeps options and arguments", function()
    box:start("--name", "n", "--umask", "027", "--chdir", "..", "--env", "A=x y", "--log-format", "json",
      "--stop-timeout", "3.5", box:write("x.lua", SHOW), "a b", "", "*", "it's", "--name")
    box:ok("restart", "n")
    local pid = box:status("n").pid
    local _, count = box:log("n"):gsub("A=x y\\tB=nil\\tn\\ta b\\t\\t%*\\tit's\\t%-%-name\"", "")
    assert.equal(2, count, box:log("n"))
    assert.equal("0027", support.proc_status(pid).Umask)
    assert.equal(uv.fs_realpath(box:path("..")), uv.fs_readlink("/proc/" .. pid .. "/cwd"))
  end)

  it("keeps the environment it had, not that of the restart", function()
    box:write("x.lua", SHOW)
    box:run({ "start", "x.lua" }, { env = { A = "first\nsecond", B = "" } })
    box:run({ "restart", "x" }, { env = { A = "other", B = "other" } })
    local _, count = box:log("x"):gsub("A=first\n    second\tB=\tx\n", "")
    assert.equal(2, count, box:log("x"))
  end)

  it("keeps the working directory that relative paths mean", function()
    assert(uv.fs_mkdir(box:path("sub"), tonumber("755", 8)))
    box:write("sub/x.lua", SHOW)
    local env = { LUNAD_RUN_DIR = "../run", LUNAD_LOG_DIR = "../log" }
    box:run({ "start", "--log", "own.log", "x.lua" }, { cwd = box:path("sub"), env = env })
    local result = box:run({ "restart", "x" }, { cwd = "/" })
    assert.equal(0, result.code, result.err)
    local _, count = box:read("sub/own.log"):gsub("A=nil", "")
    assert.equal(2, count)
  end)

  it("keeps arguments and environment byte by byte", function()
    box:write("x.lua", SHOW)
    box:run({ "start", "x.lua", "caf\xE9 \xF0" }, { env = { A = "\xFF\x01", B = "\xC3" } })
    local before = shown("x")
    box:ok("restart", "x")
    assert.equal(before, shown("x"))
  end)

  it("works where the script's folder is not UTF-8", function()
    assert(uv.fs_mkdir(box:path("caf\xE9"), tonumber("755", 8)))
    local script = box:write("caf\xE9/x.lua", SHOW)
    box:start(script)
    assert.truthy(box:ok("status", "x"):find("generation 1", 1, true))
    box:ok("restart", "x")
  end)

  it("keeps the title lunad: NAME, however short its own command line", function()
    box:start("--name", "a-name-of-some-length", box:idle("x"))
    assert.equal(0, box:shell('exec -a l "$1" restart x.lua').code)
    local pid = box:status("a-name-of-some-length").pid
    local title = support.read(("/proc/%d/cmdline"):format(pid)):gsub("%z+$", "")
    assert.equal("lunad: a-name-of-some-length", title)
  end)

  it("can be repeated", function()
    box:start(box:write("x.lua", SHOW), "arg")
    for _ = 1, 3 do box:ok("restart", "x") end
    local _, count = box:log("x"):gsub("x\targ\n", "")
    assert.equal(4, count)
    assert.equal(1, #box:marked())
  end)

  it("is refused before anything is stopped if the script does not compile", function()
    local pid = box:start(box:idle("x"))
    box:write("x.lua", "\nx = = 1")
    local err = box:refused(1, "restart", "x")
    assert.truthy(err:find("x.lua:2:", 1, true), err)
    assert.equal(pid, box:status("x").pid)
    assert.is_nil(box:log("x"):find("stopping", 1, true))
  end)

  it("is refused in the same way if the script is gone, or is not text", function()
    local pid = box:start(box:idle("x"))
    box:write("x.lua", string.dump(load("return 1")))
    assert.truthy(box:refused(1, "restart", "x"):find("bytecode", 1, true))
    assert(os.remove(box:path("x.lua")))
    assert.truthy(box:refused(1, "restart", "x"):find("x.lua", 1, true))
    assert.equal(pid, box:status("x").pid)
  end)

  it("is refused in the same way if other users may now write the script of root", function()
    if not support.is_root then return pending("needs root") end
    local pid = box:start(box:idle("x"))
    assert(uv.fs_chmod(box:path("x.lua"), tonumber("666", 8)))
    box:refused(1, "restart", "x")
    assert.equal(0, box:lunad("status", "x").code)
    assert.equal(pid, box:status("x").pid)
  end)

  describe("is refused before anything is stopped if", function()
    -- What the start needs: options, how it is broken, what the refusal names, and whether only root can try.
    local CASES = {
      ["the directory it was started from is gone"] = {
        break_it = function() os.remove(box:path("here")) end,
        names = "the directory it was started from: .*here",
      },
      ["--chdir is gone"] = {
        options = { "--chdir", "there" }, break_it = function() os.remove(box:path("there")) end,
        names = "--chdir .*there: No such file",
      },
      ["the log cannot be opened"] = {
        options = { "--log", "x.log" },
        break_it = function()
          os.remove(box:path("x.log"))
          assert(uv.fs_mkdir(box:path("x.log"), tonumber("755", 8)))
        end,
        names = "log .*x%.log: Is a directory",
      },
      ["the log has become a link"] = {
        options = { "--log", "x.log" },
        break_it = function()
          os.remove(box:path("x.log"))
          assert(uv.fs_symlink(box:path("elsewhere"), box:path("x.log")))
        end,
        names = "log .*x%.log: it is a symbolic link",
      },
      ["the run directory has become unsafe"] = {
        break_it = function() assert(uv.fs_chmod(box:path("run"), tonumber("777", 8))) end,
        mend = function() assert(uv.fs_chmod(box:path("run"), tonumber("755", 8))) end,
        names = "run directory .*others may write",
      },
      ["the user can no longer read the script"] = {
        options = { "--user", "nobody" }, root = true,
        break_it = function() assert(uv.fs_chmod(box:path("x.lua"), tonumber("600", 8))) end,
        names = "x%.lua: Permission denied",
      },
      ["the user can no longer enter the working directory"] = {
        options = { "--user", "nobody", "--chdir", "there" }, root = true,
        break_it = function() assert(uv.fs_chmod(box:path("there"), tonumber("700", 8))) end,
        names = "x%.lua: Permission denied", moves = true,
      },
    }
    for what, case in pairs(CASES) do
      it(what, function()
        if case.root and not support.is_root then return pending("needs root") end
        for _, dir in ipairs { "here", "there" } do
          assert(uv.fs_mkdir(box:path(dir), tonumber("755", 8)))
        end
        local words = { "start" }
        for _, word in ipairs(case.options or {}) do
          local is_path = word == "there" or word == "x.log"
          words[#words + 1] = is_path and box:path(word) or word
        end
        words[#words + 1] = box:idle("x")
        if case.moves then -- into the directory that will be closed
          assert(uv.fs_rename(box:path("x.lua"), box:path("there/x.lua")))
          words[#words] = box:path("there/x.lua")
        end
        local started = box:run(words, { cwd = box:path("here"), env = { ASAN_OPTIONS = "detect_leaks=0" } })
        assert.equal(0, started.code, started.err)
        local pid = tonumber(box:read("run/x.pid"))
        case.break_it()
        local result = box:run({ "restart", "x" }, { cwd = "/" })
        assert.equal(1, result.code, result.out)
        assert.truthy(result.err:find(case.names), result.err)
        assert.truthy(result.err:find("x: not restarted: it keeps running as it is\n", 1, true), result.err)
        if case.mend then case.mend() end
        assert.is_true(support.is_alive(pid))
        assert.equal(pid, box:status("x").pid)
      end)
    end
  end)

  it("shows what fails at the start that follows, and leaves what the next restart needs", function()
    box:start(box:idle("x"), "arg")
    box:write("x.lua", 'error("boom")')
    local err = box:refused(1, "restart", "x")
    assert.truthy(err:find("x.lua:1: boom\nstack traceback:", 1, true), err)
    assert.truthy(err:find("\nlunad: x: it was stopped, and not started again (when", 1, true), err)
    assert.same({ "x.start" }, box:left_files())
    local status = box:lunad("status", "x")
    assert.equal(3, status.code)
    assert.truthy(status.out:find("it was stopped by a restart whose start failed at 20", 1, true))
    box:write("x.lua", SHOW)
    box:ok("restart", "x")
    assert.truthy(shown("x"):find("\targ$"))
    box:ok("stop", "x")
    assert.same({}, box:left_files())
  end)

  it("of a daemon that has crashed starts it as it was started", function()
    local pid = box:start("--umask", "027", box:write("x.lua", SHOW), "arg")
    support.kill(pid, "sigkill")
    support.wait_for("its end", function() return box:lunad("status", "x").code == 1 end)
    box:ok("restart", "x")
    local new = box:status("x").pid
    assert.equal("0027", support.proc_status(new).Umask)
    assert.truthy(shown("x"):find("\targ$"))
    assert.truthy(box:log("x"):find("the last run of x died", 1, true))
  end)

  it("of an unknown daemon exits with 3 and says why", function()
    local err = box:refused(3, "restart", "x")
    assert.truthy(err:find("^lunad: x: not running.*started"), err)
  end)

  it("of a service in the foreground runs it in the foreground", function()
    local first = box:spawn { "run", box:idle("x") }
    support.wait_for("it to run", function() return box:lunad("status", "x").code == 0 end)
    local second = box:spawn { "restart", "x" }
    box:await(first, "its end", first.is_over)
    support.wait_for("it to run again", function() return box:lunad("status", "x").code == 0 end)
    assert.equal("foreground", box:status("x").mode)
    box:ok("stop", "x")
    box:await(second, "its end", second.is_over)
    assert.equal(0, second.code)
  end)

  it("by root runs it as the user who had started it", function()
    if not support.is_root then return pending("needs root") end
    assert(uv.fs_copyfile(support.binary, box:path("lunad")))
    for _, dir in ipairs { "run", "log" } do
      assert(uv.fs_mkdir(box:path(dir), tonumber("700", 8)))
      assert(uv.fs_chown(box:path(dir), 65534, 65534))
    end
    local as_nobody = { program = box:path("lunad"), uid = 65534, gid = 65534 }
    assert.equal(0, box:run({ "start", box:idle("x") }, as_nobody).code)
    local result = box:run({ "restart", "x" }, { program = box:path("lunad") })
    assert.equal(0, result.code, result.err)
    assert.truthy(support.proc_status(box:status("x").pid).Uid:find("^65534\t65534"))
  end)
end)

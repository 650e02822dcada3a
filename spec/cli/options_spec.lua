-- The options of run and start: bad values are refused, good ones do what they say.

local support = require "support"

local SECONDS = { "", "x", "-1", "1s", "1e3", "0x10", "nan", "inf", " 1", "1 ", "1,5", ".", "1.2.3" }

-- Values that are refused, by option.
local BAD = {
  ["--name"] = { "", "a/b", ".a", "-a", "a b", ("x"):rep(65) },
  ["--user"] = { "" },
  ["--chdir"] = { "" },
  ["--umask"] = { "", "8", "19", "-1", "0x12", "1777", "27 ", "rwx", "u=rwx" },
  ["--env"] = { "", "KEY", "=VALUE", "=" },
  ["--run-dir"] = { "" },
  ["--log"] = { "" },
  ["--log-level"] = { "", "loud", "INFO!", "0", "debug|info" },
  ["--log-format"] = { "", "xml", "JSON2", "text|json" },
  ["--rlimit"] = {
    "", "nofile", "nofile=", "=5", "bogus=5", "nofile=x", "nofile=-1", "nofile=5:4", "nofile=1:2:3",
    "nofile=1:", "nofile=:2", "nofile=1.5", "nofile = 5", "nofile=99999999999999999999",
    "nofile=unlimited:5", "nofile=1T",
  },
  ["--memory-limit"] = { "", "0", "0K", "-1", "x", "1.5M", "1T", "M", "64 M", "99999999999999999999" },
  ["--recycle-every"] = { "0", "0.0", table.unpack(SECONDS) },
  ["--recycle-memory"] = { "", "0", "x", "-5M", "1.5G" },
  ["--start-timeout"] = { "0", "0.0", table.unpack(SECONDS) },
  ["--stop-timeout"] = SECONDS,
  ["--on-error"] = { "", "stop", "Continue", "continue|exit" },
  ["--hup"] = { "", "restart", "reload ", "reload|ignore" },
  ["--restart"] = { "", "yes", "on_failure", "no|always", "on-failure " },
  ["--notify-fd"] = { "", "0", "1", "2", "-1", "x", "3x", "1.5", "99", "99999999999" },
  ["--path"] = { "" },
  ["--cpath"] = { "" },
}

describe("A bad value", function()
  local box = support.with_box(before_each, after_each)

  local function refuse(verb, option)
    local script = box:idle("x")
    for _, value in ipairs(BAD[option]) do
      local result = box:lunad(verb, option, value, script)
      local case = ("%s %s %q"):format(verb, option, value)
      assert.equal(2, result.code, case)
      assert.equal("", result.out, case)
      assert.truthy(result.err:find("lunad: .*" .. option:gsub("%-", "%%-")), case)
      assert.truthy(result.err:find('"' .. value .. '"', 1, true), case)
    end
    assert.same({}, box:left_files())
  end

  for option in pairs(BAD) do
    it("of " .. option .. " is refused with 2, naming option and value", function()
      refuse("start", option)
      refuse("run", option)
    end)
  end

  it("of --timeout is refused by stop", function()
    for _, value in ipairs(SECONDS) do
      local err = box:refused(2, "stop", "--timeout", value, "x")
      assert.truthy(err:find("--timeout", 1, true), err)
      assert.truthy(err:find('"' .. value .. '"', 1, true), err)
    end
  end)

  it("of --user is refused though only a part of it is missing", function()
    for _, value in ipairs { ":", ":daemon", "daemon:" } do
      local err = box:refused(2, "start", "--user", value, box:idle("x"))
      assert.truthy(err:find('--user: "' .. value .. '"', 1, true), err)
    end
  end)

  it("stderr of --log is refused by start alone", function()
    local err = box:refused(2, "start", "--log", "stderr", box:idle("x"))
    assert.truthy(err:find("--log", 1, true))
    assert.truthy(err:find('"stderr"', 1, true))
    assert.equal(0, box:lunad("run", "--log", "stderr", "-e", "return").code)
  end)
end)

-- What a script run with the options prints.
local function printed(box, options, text, ...)
  local words = { "run", "--log", "none" }
  table.move(options, 1, #options, #words + 1, words)
  table.move({ box:write("printed.lua", text), ... }, 1, 1 + select("#", ...), #words + 1, words)
  local result = box:run(words)
  if result.code ~= 0 then
    error(result.err, 2)
  end
  return result.out
end

describe("Options", function()
  local box = support.with_box(before_each, after_each)

  it("end at the script; what follows belongs to the script", function()
    assert.equal("--name\ty\n", printed(box, {}, "print(...)", "--name", "y"))
  end)

  it("may be written with = or a space, and the last one wins", function()
    local text = 'print(require("lunad").name)'
    assert.equal("a\n", printed(box, { "--name=a" }, text))
    assert.equal("b\n", printed(box, { "--name", "a", "--name=b" }, text))
    assert.equal("b\n", printed(box, { "-n", "a", "-n", "b" }, text))
  end)
end)

describe("--chdir", function()
  local box = support.with_box(before_each, after_each)

  local function directory(pid)
    return support.uv.fs_readlink("/proc/" .. pid .. "/cwd")
  end

  it("is / for start unless given", function()
    assert.equal("/", directory(box:start(box:idle("x"))))
  end)

  it("changes to a directory, relative to the caller's", function()
    assert(support.uv.fs_mkdir(box:path("sub"), tonumber("755", 8)))
    assert.equal(box:path("sub"), directory(box:start("--chdir", "sub", box:idle("x"))))
    assert.equal(box.dir, directory(box:start("--chdir", box.dir, box:idle("y"))))
    local text = 'print(io.popen("pwd"):read("l"))'
    assert.equal(box:path("sub") .. "\n", printed(box, { "--chdir", "sub" }, text))
    assert.equal(box.dir .. "\n", printed(box, {}, text))
  end)

  it("fails with 1 when that is not possible, and leaves nothing", function()
    local script = box:idle("x")
    for _, dir in ipairs { "missing", "x.lua" } do
      local err = box:refused(1, "start", "--chdir", dir, script)
      assert.truthy(err:find(dir, 1, true), err)
      assert.equal(1, box:lunad("run", "--chdir", dir, script).code)
    end
    assert.same({}, box:left_files())
  end)

  it("does not change what other paths mean", function()
    assert(support.uv.fs_mkdir(box:path("sub"), tonumber("755", 8)))
    box:write("module.lua", "return 5")
    box:write("x.lua", [[print(require "module") require("lunad").every(60, print)]])
    box:ok("start", "--chdir", "sub", "--path", ".", "--log", "here.log", "--run-dir", "dir", "x.lua")
    assert.truthy(box:read("here.log"):find("x: 5", 1, true))
    assert.truthy(box:read("dir/x.pid"))
    assert.truthy(box:ok("reload", "--run-dir", "dir", "x"):find("generation 2", 1, true))
    box:ok("stop", "--run-dir", "dir", "x")
  end)
end)

describe("--umask", function()
  local box = support.with_box(before_each, after_each)

  local function mask(pid)
    return support.proc_status(pid).Umask
  end

  it("is 022, whatever the caller's is", function()
    for _, callers in ipairs { "000", "777", "077" } do
      assert.equal(0, box:shell('umask $2; "$1" start "$3"', { callers, box:idle("x") }).code)
      assert.equal("0022", mask(box:status("x").pid), callers)
      box:ok("stop", "x")
    end
  end)

  it("is 022 under run as well", function()
    local result = box:shell('umask 777; "$1" run --log none -e "os.execute[[umask]]"')
    assert.equal("0022\n", result.out)
  end)

  it("is an octal mask", function()
    for given, expected in pairs { ["027"] = "0027", ["0"] = "0000", ["0077"] = "0077", ["777"] = "0777" } do
      assert.equal(expected, mask(box:start("--umask", given, box:idle("x"))), given)
      box:ok("stop", "x")
    end
  end)

  it("does not touch the modes of lunad's own files", function()
    for _, given in ipairs { "0", "777" } do
      box:start("--umask", given, box:idle("x"))
      local function mode(name) return ("%o"):format(support.uv.fs_stat(box:path(name)).mode & 4095) end
      assert.equal("640", mode("log/x.log"))
      assert.equal("644", mode("run/x.pid"))
      assert.equal("600", mode("run/x.sock"))
      box:ok("stop", "x")
      assert(support.uv.fs_unlink(box:path("log/x.log")))
    end
  end)
end)

describe("The environment", function()
  local box = support.with_box(before_each, after_each)
  local SHOW = 'print(os.getenv "A", os.getenv "B", (io.popen("echo $A-$B"):read("l")))'

  it("is inherited", function()
    box:write("x.lua", SHOW)
    local result = box:run({ "run", "--log", "none", "x.lua" }, { env = { A = "1", B = "x y" } })
    assert.equal("1\tx y\t1-x y\n", result.out)
  end)

  it("gets the variables of --env, for the script and its children", function()
    assert.equal("1\t2=3\t1-2=3\n", printed(box, { "--env", "A=1", "--env=B=2=3" }, SHOW))
    assert.equal("\t2\t-2\n", printed(box, { "--env", "A=", "--env", "B=1", "--env", "B=2" }, SHOW))
  end)

  it("is replaced by --env", function()
    box:write("x.lua", SHOW)
    local result = box:run({ "run", "--log", "none", "--env", "A=new", "x.lua" }, { env = { A = "old" } })
    assert.equal("new\tnil\tnew-\n", result.out)
  end)

  it("is empty with --clear-env, except for --env, in any order", function()
    box:write("x.lua", 'print((io.popen("/usr/bin/env"):read("a"):gsub("PWD=[^\\n]*\\n", "")))')
    for _, options in ipairs { { "--clear-env", "--env", "A=1" }, { "--env", "A=1", "--clear-env" } } do
      local out = box:run({ "run", "--log", "none", options[1], options[2], options[3], "x.lua" },
        { env = { B = "x" } }).out
      assert.is_nil(out:find("B=", 1, true), out)
      assert.is_nil(out:find("HOME=", 1, true), out)
      assert.truthy(("\n" .. out):find("\nA=1\n", 1, true), out)
    end
  end)
end)

describe("--log", function()
  local box = support.with_box(before_each, after_each)

  local function descriptor(pid, number)
    return support.uv.fs_readlink(("/proc/%d/fd/%d"):format(pid, number))
  end

  it("names a file, relative to the caller's directory", function()
    local pid = box:start("--log", "sub/own.log", box:idle("x"))
    assert.truthy(box:read("sub/own.log"):find("started", 1, true))
    assert.equal(box:path("sub/own.log"), descriptor(pid, 1))
    assert.equal(box:path("sub/own.log"), box:status("x").log.file)
    assert.is_nil(support.uv.fs_stat(box:path("log")))
  end)

  it("names a file for run as well", function()
    local result = box:run { "run", "--log", "own.log", "-e", 'require("lunad").log.info("logged")' }
    assert.equal("", result.err)
    assert.truthy(box:read("own.log"):find(": logged\n", 1, true))
  end)

  it("sends descriptors 1 and 2 to /dev/null with none and syslog", function()
    for _, sink in ipairs { "none", "syslog" } do
      local pid = box:start("--log", sink, box:idle("x"))
      assert.equal("/dev/null", descriptor(pid, 1), sink)
      assert.equal("/dev/null", descriptor(pid, 2), sink)
      assert.equal(sink, box:status("x").log.file)
      box:ok("stop", "x")
      assert.is_nil(support.uv.fs_stat(box:path("log")))
    end
  end)
end)

describe("--log-level", function()
  local box = support.with_box(before_each, after_each)

  it("is the least level that is written", function()
    box:write("x.lua", [[
      local log = require("lunad").log
      for _, level in ipairs { "debug", "info", "warn", "error" } do log[level]("mark") end
    ]])
    local expected = { debug = 4, info = 3, warn = 2, error = 1 }
    for level, count in pairs(expected) do
      local err = box:lunad("run", "--log-level", level, "x.lua").err
      assert.equal(count, select(2, err:gsub(" x: mark\n", "")), level)
    end
    assert.equal(3, select(2, box:lunad("run", "x.lua").err:gsub(" x: mark\n", "")))
  end)
end)

describe("--log-format", function()
  local box = support.with_box(before_each, after_each)

  it("is text, or one JSON object a line", function()
    local script = box:write("x.lua", 'require("lunad").log.warn("a \\"b\\"", { n = 1 })')
    assert.truthy(box:lunad("run", "--log-format", "text", script).err:find(' warn  x: a "b" n=1\n', 1, true))
    for line in box:lunad("run", "--log-format", "json", script).err:gmatch("[^\n]+") do
      local entry = assert(support.json.decode(line), line)
      assert.truthy(entry.level == "info" or entry.message == 'a "b"' and entry.n == 1, line)
    end
  end)
end)

describe("--rlimit", function()
  local box = support.with_box(before_each, after_each)

  local function limits(pid, name)
    local text = support.read("/proc/" .. pid .. "/limits")
    return text:match("\n" .. name .. " +(%w+) +(%w+)")
  end

  it("sets soft and hard limits", function()
    local pid = box:start("--rlimit", "nofile=100:200", "--rlimit=core=0", "--rlimit", "FSIZE=2G:3G",
      "--rlimit", "memlock=4K", box:idle("x"))
    assert.same({ "100", "200" }, { limits(pid, "Max open files") })
    assert.same({ "0", "0" }, { limits(pid, "Max core file size") })
    assert.same({ "2147483648", "3221225472" }, { limits(pid, "Max file size") })
    assert.same({ "4096", "4096" }, { limits(pid, "Max locked memory") })
  end)

  it("reaches the script's children, and the last of one name wins", function()
    local options = { "--rlimit", "nofile=90", "--rlimit", "nofile=80:120" }
    local out = printed(box, options, 'os.execute("ulimit -Sn; ulimit -Hn")')
    assert.equal("80\n120\n", out)
  end)

  it("fails with 1 when the system refuses, naming it, and leaves nothing", function()
    local err = box:refused(1, "start", "--rlimit", "nofile=unlimited", box:idle("x"))
    assert.truthy(err:find("--rlimit nofile=unlimited", 1, true), err)
    assert.same({}, box:left_files())
  end)

  it("so low that nothing can be opened fails the start, and leaves nothing", function()
    for _, count in ipairs { "0", "3", "7", "12" } do
      box:refused(1, "start", "--rlimit", "nofile=" .. count, box:idle("x"))
      assert.same({}, box:left_files(), count)
    end
  end)

  it("of a file's size does not let the log stop the daemon", function()
    box:start("--rlimit", "fsize=4K", box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.every(0.002, function() lunad.log.info(("x"):rep(500)) end)
    ]]))
    support.wait_for("dropped lines", function() return box:status("x").log.dropped > 3 end)
    assert.equal(0, box:lunad("status", "x").code)
  end)
end)

describe("--on-error", function()
  local box = support.with_box(before_each, after_each)
  local SCRIPT = [[
    local lunad = require "lunad"
    local n = 0
    lunad.every(0.1, function() n = n + 1; print("beat " .. n); error("boom") end)
    lunad.on_stop(function(reason) print("reason " .. reason) end)
  ]]

  it("is continue by default: the script keeps running after an uncaught error", function()
    for _, options in ipairs { { "start" }, { "start", "--on-error", "continue" } } do
      options[#options + 1] = box:write("x.lua", SCRIPT)
      box:ok(table.unpack(options))
      box:wait_log("x", "beat 3")
      box:ok("stop", "x")
      assert.truthy(box:log("x"):find("boom\n    stack traceback:", 1, true))
      assert.truthy(os.remove(box:path("log/x.log")))
    end
  end)

  it("stops gracefully with exit: with status 1, and nothing is left", function()
    local process = box:spawn { "run", "--on-error", "exit", box:write("x.lua", SCRIPT) }
    box:await(process, "the end", process.is_over)
    assert.equal(1, process.code)
    assert.equal("beat 1\nreason stop\n", process.out())
    assert.truthy(process.err():find("boom", 1, true))
    assert.same({}, box:left_files())
  end)
end)

describe("--hup", function()
  local box = support.with_box(before_each, after_each)

  it("reloads by default", function()
    box:start(box:idle("x"))
    box:ok("signal", "x", "HUP")
    box:wait_log("x", "reloaded: generation 2")
    box:ok("stop", "x")
    box:start("--hup", "reload", "x.lua")
    box:ok("signal", "x", "HUP")
    support.wait_for("generation 2", function() return box:status("x").generation == 2 end)
  end)

  it("does nothing with ignore, but lunad reload still works", function()
    box:start("--hup", "ignore", box:idle("x"))
    box:ok("signal", "x", "HUP")
    box:ok("signal", "x", "USR1")
    box:wait_log("x", "log reopened")
    assert.equal(1, box:status("x").generation)
    assert.truthy(box:ok("reload", "x"):find("generation 2", 1, true))
  end)

  it("stops with stop", function()
    local pid = box:start("--hup", "stop", box:idle("x"))
    box:ok("signal", "x", "HUP")
    support.wait_for("the end", function() return not support.is_alive(pid) end)
    assert.truthy(box:log("x"):find("lunad: stopped", 1, true))
    assert.same({}, box:left_files())
  end)

  it("does not apply to a script that has its own handler", function()
    box:start("--hup", "stop", box:write("x.lua", [[
      require("lunad").signal("HUP", function() print "mine" end)
    ]]))
    box:ok("signal", "x", "HUP")
    box:wait_log("x", "x: mine")
    assert.equal(1, box:status("x").generation)
  end)
end)

describe("--path", function()
  local box = support.with_box(before_each, after_each)

  local function module(name, text)
    local dir = box:path(name:match("^(.*)/"))
    support.uv.fs_mkdir(dir, tonumber("755", 8))
    box:write(name, text)
    return dir
  end

  it("is the script's own folder by default, whatever the directory", function()
    module("sub/near.lua", "return 'near'")
    box:write("sub/x.lua", 'print(require "near") require("lunad").every(60, print)')
    box:start("sub/x.lua")
    assert.truthy(box:log("x"):find("x: near", 1, true))
  end)

  it("is searched before everything else", function()
    local first, second = module("a/m.lua", "return 'a'"), module("b/m.lua", "return 'b'")
    box:write("m.lua", "return 'own'")
    assert.equal("a\n", printed(box, { "--path", first .. ";" .. second }, 'print((require "m"))'))
    assert.equal("b\n", printed(box, { "--path", second .. ";" .. first }, 'print((require "m"))'))
    assert.equal("own\n", printed(box, {}, 'print((require "m"))'))
  end)

  it("takes templates, and finds init.lua in a directory", function()
    module("t/m.module", "return 'template'")
    assert.equal("template\n", printed(box, { "--path", "t/?.module" }, 'print((require "m"))'))
    support.uv.fs_mkdir(box:path("u"), tonumber("755", 8))
    module("u/deep/init.lua", "return 'init'")
    assert.equal("init\n", printed(box, { "--path", "u" }, 'print((require "deep"))'))
  end)

  it("and --cpath come first in package.path and package.cpath, made absolute", function()
    local text = "print(package.path) print(package.cpath)"
    local path, cpath = printed(box, { "--path", "p", "--cpath", "c;d/?.x" }, text):match("^(.-)\n(.-)\n$")
    local here = box.dir
    assert.equal(1, path:find(here .. "/p/?.lua;" .. here .. "/p/?/init.lua;", 1, true))
    assert.equal(1, cpath:find(here .. "/c/?.so;" .. here .. "/d/?.x;", 1, true))
    assert.truthy(path:find("/usr/share/lua/5.4/?.lua", 1, true))
  end)
end)

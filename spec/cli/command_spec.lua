-- The command line as a whole: verbs, help, usage errors and exit statuses.

local support = require "support"

local SERVICE = [[listen name user chdir umask env clear-env log log-level log-format
  log-max-size log-keep rlimit memory-limit
  recycle-every recycle-memory start-timeout stop-timeout wait-ready watch notify-fd no-new-privs on-error
  stuck-after slow hup restart path cpath probation state state-every workers]]

-- The options of each verb, besides those of all.
local VERBS = {
  run = SERVICE .. " config", start = SERVICE .. " config all",
  stop = "timeout config all", reload = "timeout check probation workers config all",
  restart = "config all", upgrade = "timeout config all", status = "json full config all watch",
  list = "json", logs = "follow lines since level json", reopen = "timeout config all",
  signal = "", check = "config path cpath", eval = "timeout", repl = "", completion = "",
  profile = "svg", heap = "json",
  new = "", test = "filter output", metrics = "listen",
  unit = SERVICE .. " config for socket after",
}

local function each_verb(fn)
  for verb, options in pairs(VERBS) do
    fn(verb, options)
  end
end

local function sorted_words(text)
  local words = {}
  for word in text:gmatch("[%w-]+") do
    words[#words + 1] = word
  end
  table.sort(words)
  return table.concat(words, " ")
end

-- The long options that a help text lists.
local function listed_options(help)
  local names = {}
  for name in help:gmatch("\n +%-?%a?,? *%-%-([%a-]+)") do
    names[#names + 1] = name
  end
  return table.concat(names, " ")
end

describe("lunad --help", function()
  local box = support.with_box(before_each, after_each)

  it("names every verb on stdout", function()
    local help = box:ok("--help")
    each_verb(function(verb)
      assert.truthy(help:find("lunad " .. verb .. " ", 1, true), verb)
    end)
  end)

  it("fails if what was asked for cannot be written", function()
    box:start(box:idle("x"))
    for _, words in ipairs { "--help", "stop --help", "list", "status x", "list --json",
      "status --json x", "eval x 1", "eval x 'print(1)'" } do
      local result = box:shell('"$1" ' .. words .. " >/dev/full")
      assert.equal(1, result.code, words)
      assert.equal("lunad: stdout: No space left on device\n", result.err, words)
    end
  end)

  it("names no verb that does not work", function()
    local help = box:ok("--help")
    for verb in help:gmatch("\n  lunad (%a+)") do
      assert.truthy(VERBS[verb], verb)
    end
  end)

  it("names each option of a verb, and no other", function()
    each_verb(function(verb, options)
      local help = box:ok(verb, "--help")
      local expected = sorted_words(options .. " run-dir version help")
      assert.equal(expected, sorted_words(listed_options(help)), verb)
    end)
  end)

  it("names the short options", function()
    assert.truthy(box:ok("run", "--help"):find("\n +%-e "))
    assert.truthy(box:ok("start", "--help"):find("-n, --name", 1, true))
    assert.truthy(box:ok("logs", "--help"):find("-f, --follow", 1, true))
    assert.truthy(box:ok("logs", "--help"):find("-n, --lines", 1, true))
  end)

  it("wins over missing arguments", function()
    for _, verb in ipairs { "start", "stop", "signal", "check" } do
      local result = box:lunad(verb, "--help")
      assert.equal(0, result.code)
      assert.equal("", result.err)
    end
  end)
end)

describe("lunad --version", function()
  local box = support.with_box(before_each, after_each)

  it("shows the version, also after each verb", function()
    local version = box:ok("--version")
    assert.truthy(version:match("^lunad %d+%.%d+"))
    each_verb(function(verb)
      assert.equal(version, box:ok(verb, "--version"), verb)
    end)
  end)

  it("is what scripts read as lunad.version", function()
    local result = box:run { "run", "--log", "none", "-e", 'print("lunad " .. require("lunad").version)' }
    assert.equal(box:ok("--version"), result.out)
  end)
end)

describe("A usage error", function()
  local box = support.with_box(before_each, after_each)

  local function refused(...)
    local result = box:lunad(...)
    local words = table.concat({ ... }, " ")
    assert.equal(2, result.code, words)
    assert.equal("", result.out, words)
    return result.err
  end

  it("is a command line without a verb, or with an unknown one", function()
    assert.truthy(refused():find("lunad", 1, true))
    assert.truthy(refused("bogus"):find('lunad: .*bogus'))
    assert.truthy(refused("--bogus"):find('lunad: .*%-%-bogus'))
    assert.truthy(refused(""):find("lunad: ", 1, true))
  end)

  it("is an unknown option, and names it", function()
    each_verb(function(verb)
      assert.truthy(refused(verb, "--bogus", "x"):find("^lunad: .*%-%-bogus"), verb)
      assert.truthy(refused(verb, "-Z", "x"):find("^lunad: .*%-Z"), verb)
    end)
  end)

  it("is an option of another verb", function()
    assert.truthy(refused("stop", "--wait-ready", "x"):find("--wait-ready", 1, true))
    assert.truthy(refused("start", "--json", "x.lua"):find("--json", 1, true))
    assert.truthy(refused("start", "-e", "print(1)"):find("-e", 1, true))
    assert.truthy(refused("list", "-f"):find("-f", 1, true))
  end)

  it("is a missing operand", function()
    each_verb(function(verb)
      if not ({ list = true, repl = true, status = true, test = true, metrics = true })[verb] then
        assert.truthy(refused(verb):find("^lunad: "), verb)
      end
    end)
    assert.truthy(refused("signal", "name"):find("^lunad: "))
  end)

  it("is an operand too many", function()
    assert.truthy(refused("list", "x"):find("^lunad: "))
    assert.truthy(refused("check", "x.lua", "y.lua"):find("^lunad: "))
    assert.truthy(refused("logs", "x", "y"):find("^lunad: "))
    assert.truthy(refused("signal", "x", "TERM", "y"):find("^lunad: "))
  end)

  it("is a value that is missing, or one where none belongs", function()
    assert.truthy(refused("start", "--umask"):find("--umask", 1, true))
    assert.truthy(refused("start", "-n"):find("-n", 1, true))
    assert.truthy(refused("status", "--json=yes", "x"):find("--json", 1, true))
  end)

  it("touches nothing", function()
    refused("start", "--umask", "999", box:idle("idle"))
    assert.is_nil(support.uv.fs_stat(box:path("run")))
    assert.is_nil(support.uv.fs_stat(box:path("log")))
  end)
end)

describe("A verb about a daemon that does not run", function()
  local box = support.with_box(before_each, after_each)

  local NOT_RUNNING = "x: not running (looked in %s, which does not exist)\n"

  it("exits with 3 and says so", function()
    for _, words in ipairs { { "reload", "x" }, { "restart", "x" }, { "reopen", "x" },
                             { "signal", "x", "TERM" } } do
      local err = box:refused(3, table.unpack(words))
      assert.matches("^lunad: x: not running [^\n]*looked in " .. support.pattern(box:path("run")), err)
    end
  end)

  it("exits with 0 if it is stop, and says so on stdout", function()
    local result = box:lunad("stop", "x")
    assert.equal(0, result.code)
    assert.equal(NOT_RUNNING:format(box:path("run")), result.out)
    assert.equal("", result.err)
  end)

  it("exits with 3 if it is status, and says so on stdout", function()
    local result = box:lunad("status", "x")
    assert.equal(3, result.code)
    assert.equal(NOT_RUNNING:format(box:path("run")), result.out)
    assert.equal("", result.err)
  end)

  it("names the run directory, however that was chosen", function()
    local dir = support.pattern(box:path("other"))
    assert(support.uv.fs_mkdir(box:path("other"), tonumber("700", 8)))
    for _, words in ipairs { { "status", "x" }, { "stop", "x" }, { "list" }, { "stop", "./x.lua" },
                             { "reload", "x" } } do
      local by_option = box:lunad(words[1], "--run-dir", "./other/", words[2])
      local by_variable = box:run(words, { env = { LUNAD_RUN_DIR = "other" } })
      for _, result in ipairs { by_option, by_variable } do
        assert.matches(" running %(looked in " .. dir .. "%)\n$", result.out .. result.err)
      end
    end
    local result = box:lunad("status", "--json", "--run-dir", "other", "x")
    assert.equal(box:path("other"), support.json.decode(result.out).run_dir)
  end)
end)

describe("Of several NAMEs", function()
  local box = support.with_box(before_each, after_each)

  before_each(function() box:start(box:idle("one")) end)

  it("each is served, and the exit status is the worst", function()
    local result = box:lunad("status", "none", "one")
    assert.equal(3, result.code)
    assert.truthy(result.out:find("none: not running", 1, true))
    assert.truthy(result.out:find("one: running, pid %d+"))
  end)

  it("one that is not a name makes it 2, and the others are served", function()
    local result = box:lunad("reopen", "one", "-x", "--", "a b")
    assert.equal(2, result.code)
    result = box:lunad("reopen", "a b", "one")
    assert.equal(2, result.code)
    assert.truthy(result.out:find("one: ", 1, true))
  end)

  it("all can be stopped, running or not", function()
    box:start(box:idle("two"))
    local out = box:ok("stop", "one", "none", "two")
    assert.matches("^one: stopped\nnone: not running [^\n]+\ntwo: stopped\n$", out)
    assert.same({}, box:left_files())
  end)

  it("reload and restart serve each and return the worst", function()
    for _, verb in ipairs { "reload", "restart" } do
      local result = box:lunad(verb, "none", "one")
      assert.equal(3, result.code, verb)
      assert.truthy(result.out:find("^one: "), verb)
      assert.truthy(result.err:find("^lunad: none: "), verb)
    end
  end)
end)

describe("--run-dir", function()
  local box = support.with_box(before_each, after_each)

  it("is taken by every verb", function()
    box:start("--run-dir", "other", box:idle("idle"))
    for _, words in ipairs { { "status", "idle" }, { "reload", "idle" }, { "reopen", "idle" },
                             { "restart", "idle" }, { "signal", "idle", "USR2" }, { "logs", "idle" } } do
      table.insert(words, 2, "--run-dir")
      table.insert(words, 3, "other")
      box:ok(table.unpack(words))
    end
    assert.truthy(box:ok("list", "--run-dir", "other"):find("idle", 1, true))
    box:ok("check", "--run-dir", "other", box:path("idle.lua"))
    assert.matches("^no daemon is running [^\n]+\n$", box:ok("list"))
    assert.equal("idle: stopped\n", box:ok("stop", "--run-dir", "other", "idle"))
  end)
end)

describe("lunad check", function()
  local box = support.with_box(before_each, after_each)

  it("exits with 0 for a script that compiles, and does not run it", function()
    local flag = box:path("flag")
    local script = box:write("x.lua", ('io.open(%q, "w"):close()\n'):format(flag))
    local result = box:lunad("check", script)
    assert.equal(0, result.code)
    assert.equal("", result.err)
    assert.is_nil(support.read(flag))
  end)

  it("says file and line of what does not compile", function()
    box:write("x.lua", "local a = 1\nlocal b = = 2\n")
    assert.truthy(box:refused(1, "check", "x.lua"):find("x%.lua:2: "))
  end)

  it("allows a first line with #, and counts it", function()
    box:write("x.lua", "#!/usr/bin/lunad run\nreturn 1\n")
    box:ok("check", "x.lua")
    box:write("x.lua", "#!/usr/bin/lunad run\nreturn return\n")
    assert.truthy(box:refused(1, "check", "x.lua"):find("x%.lua:2: "))
  end)

  it("refuses what is not a script", function()
    box:write("code.lua", string.dump(load("return 1")))
    box:write("nul.lua", ("\0"):rep(64))
    assert.truthy(box:refused(1, "check", "missing.lua"):find("missing.lua", 1, true))
    assert.truthy(box:refused(1, "check", box.dir):find("directory", 1, true))
    assert.truthy(box:refused(1, "check", "code.lua"):find("bytecode", 1, true))
    assert.truthy(box:refused(1, "check", "nul.lua"):find("nul.lua:1:", 1, true))
  end)
end)

describe("lunad signal", function()
  local box = support.with_box(before_each, after_each)

  local function listen_for(names)
    box:start(box:write("x.lua", ([[
      local lunad = require "lunad"
      for name in ("%s"):gmatch("%%S+") do
        lunad.signal(tonumber(name) or name, function() lunad.log.info("got " .. name) end)
      end
    ]]):format(names)))
  end

  it("takes a name with or without SIG, and a number", function()
    listen_for("USR1 USR2 WINCH 12")
    box:ok("signal", "x", "USR1")
    box:wait_log("x", "got USR1")
    box:ok("signal", "x", "SIGUSR2")
    box:wait_log("x", "got USR2")
    box:ok("signal", "x", tostring(28))
    box:wait_log("x", "got WINCH")
  end)

  it("takes any signal by name", function()
    listen_for("USR1")
    for _, name in ipairs { "CONT", "SIGCONT", "URG", "WINCH", "CHLD" } do
      assert.equal(0, box:lunad("signal", "x", name).code, name)
    end
    assert.truthy(box:ok("status", "x"):find("running", 1, true))
  end)

  it("takes a real-time signal by name", function()
    listen_for("35 64")
    box:ok("signal", "x", "RTMIN+1")
    box:wait_log("x", "got 35")
    box:ok("signal", "x", "SIGRTMAX")
    box:wait_log("x", "got 64")
  end)

  it("takes every name that kill -l gives a signal", function()
    listen_for("29")
    box:ok("signal", "x", "IO")
    box:wait_log("x", "got 29")
    box:ok("signal", "x", "CLD")
  end)

  it("refuses what is not a signal with 2, before looking for the daemon", function()
    for _, word in ipairs { "BOGUS", "SIG", "", "0", "65", "TERM ", "1x", "SIGSIGTERM" } do
      local err = box:refused(2, "signal", "x", word)
      assert.truthy(err:find('"' .. word .. '"', 1, true), err)
    end
  end)

  it("refuses what is not a signal with 2 though there is a daemon, and does no harm", function()
    listen_for("USR1")
    box:refused(2, "signal", "x", "-9")
    box:refused(2, "signal", "x", "32x")
    assert.truthy(box:ok("status", "x"):find("running", 1, true))
  end)

  it("ends a daemon by KILL", function()
    local pid = box:start(box:idle("idle"))
    box:ok("signal", "idle", "KILL")
    support.wait_for("the end", function() return not support.is_alive(pid) end)
    assert.equal(1, box:lunad("status", "idle").code)
  end)
end)

describe("lunad reopen", function()
  local box = support.with_box(before_each, after_each)

  it("reopens a rotated log file", function()
    box:start(box:write("x.lua", [[
      local lunad = require "lunad"
      lunad.signal("WINCH", function() print "after" end)
    ]]))
    assert(support.uv.fs_rename(box:path("log/x.log"), box:path("log/x.log.1")))
    box:ok("reopen", "x")
    box:ok("signal", "x", "WINCH")
    box:wait_log("x", "after")
    assert.is_nil(box:read("log/x.log.1"):find("after", 1, true))
  end)

  it("fails with 1 when the file cannot be opened, and the old one stays in use", function()
    box:start(box:idle("x"))
    assert(support.uv.fs_rename(box:path("log/x.log"), box:path("log/x.log.1")))
    assert(support.uv.fs_mkdir(box:path("log/x.log"), tonumber("755", 8)))
    assert.truthy(box:refused(1, "reopen", "x"):find("directory", 1, true))
    assert.truthy(box:read("log/x.log.1"):find("cannot be reopened", 1, true))
  end)
end)

describe("What is shown on a terminal", function()
  local box = support.with_box(before_each, after_each)

  local ODD = "a\nfake 1 running\27[2J\r\u{9b}31m\127b"
  local SHOWN = [[a\x0Afake 1 running\x1B[2J\x0D\x9B31m\x7Fb]]

  it("has a row for each daemon, whatever its script is called", function()
    assert(support.uv.fs_mkdir(box:path(ODD), tonumber("755", 8)))
    box:start("--name", "x", box:idle(ODD .. "/x"))
    local out = box:ok("list")
    assert.matches("\nx +%d+  running +1  [^\n]+\n$", out)
    assert.equal(2, select(2, out:gsub("\n", "")))
    assert.truthy(out:find("/" .. SHOWN .. "/x.lua\n", 1, true), out)
    assert.truthy(box:ok("status", "x"):find("/" .. SHOWN .. "/x.lua (daemon)\n", 1, true))
    assert.equal(box:path(ODD .. "/x.lua"), box:status("x").script)
    assert.equal("x: stopped\n", box:ok("stop", ODD .. "/x.lua"))
  end)

  it("is one line for each message, whatever is in an argument", function()
    for _, words in ipairs { { "status", ODD }, { "status", ODD .. "/x.lua" }, { "stop", ODD .. ".lua" },
                             { "start", ODD .. ".lua" }, { "run", "--name", ODD, "x.lua" }, { "reload", ODD },
                             { "check", ODD }, { "signal", "x", ODD }, { ODD }, { "logs", "-n", ODD, "x" },
                             { "list", "--run-dir", ODD .. "/x", "y" }, { "start", "--" .. ODD, "x.lua" },
                             { "start", "--user", ODD, box:idle("x") },
                             { "start", "--log", "/dev/null/" .. ODD, "x.lua" },
                             { "start", "--chdir", ODD, "x.lua" }, { "start", "--env", ODD, "x.lua" } } do
      local result = box:lunad(table.unpack(words))
      local text = result.out .. result.err
      assert.is_true(result.code > 0 or words[1] == "stop", words[1])
      assert.not_matches("[%z\1-\8\11-\31\127]", text)
      assert.not_matches("\u{9b}", text)
      assert.not_matches("\nfake", text)
    end
  end)

  it("has what a script says only in its place", function()
    box:start(box:write("x.lua", ([[
      local lunad = require "lunad"
      lunad.status(%q)
      lunad.spawn { "sleep", %q .. "/../60", name = "c" }
      lunad.every(60, print)
      lunad.after(0, function() error(%q) end)
      lunad.on_reload(function() error(%q) end)
    ]]):format(ODD, ODD, ODD, ODD)))
    box:wait_log("x", "uncaught error")
    box:lunad("reload", "x")
    for _, result in ipairs { box:lunad("status", "x"), box:lunad("reload", "x"), box:lunad("list") } do
      local text = result.out .. result.err
      assert.not_matches("[%z\1-\8\11-\31\127]", text)
      assert.not_matches("\nfake", text)
    end
    assert.truthy(box:ok("status", "x"):find("status    " .. SHOWN .. "\n", 1, true))
  end)
end)

describe("A verb without memory", function()
  local box = support.with_box(before_each, after_each)

  it("says so, or its usual message, after its name", function()
    if support.is_sanitized() then return pending("the sanitizer has an allocator of its own") end
    local library = box:path("famine.so")
    assert(os.execute(("cc -shared -fPIC -O1 -o %s %s/spec/fixtures/famine.c"):format(library, support.root)))
    box:write("bad.lua", "x =")
    for _, words in ipairs { { "check", "bad.lua" }, { "run", "bad.lua" }, { "start", "bad.lua" },
                             { "stop", "-x" }, { "reload", "none" }, { "no-verb" } } do
      for count = 0, 20 do
        local result = box:run(words, { env = { LD_PRELOAD = library, FAMINE = tostring(count) } })
        assert.matches("^lunad: [^\n]+\n", result.err, words[1] .. count)
        assert.is_true(result.code >= 1 and result.code <= 3)
        assert.equal(0, result.signal)
      end
    end
  end)
end)

describe("lunad list", function()
  local box = support.with_box(before_each, after_each)

  it("is empty when no daemon runs, and makes no directory", function()
    assert.matches("^no daemon is running %(looked in [^\n]+/run, which does not exist%)\n$", box:ok("list"))
    assert.equal("[]\n", box:ok("list", "--json"))
    assert.is_nil(support.uv.fs_stat(box:path("run")))
  end)

  it("shows every daemon of the run directory, and those of run as well", function()
    local a, b = box:start(box:idle("a")), box:start(box:idle("b"))
    local foreground = box:spawn { "run", box:idle("c") }
    support.wait_for("c", function() return box:lunad("status", "c").code == 0 end)
    local list = box:ok("list")
    assert.truthy(list:find("\na +" .. a .. " +running"))
    assert.truthy(list:find("\nb +" .. b .. " +running"))
    assert.truthy(list:find("\nc +" .. foreground.pid .. " +running"))
    box:ok("stop", "c")
    box:await(foreground, "the end of run", foreground.is_over)
  end)

  it("is an array of objects with --json", function()
    local pid = box:start(box:idle("a"))
    local list = support.json.decode(box:ok("list", "--json"))
    assert.equal(1, #list)
    assert.equal("a", list[1].name)
    assert.equal(pid, list[1].pid)
    assert.equal(box:path("a.lua"), list[1].script)
    assert.truthy(list[1].uptime >= 0)
  end)

  it("shows what has died as dead, until it is stopped", function()
    local pid = box:start(box:idle("a"))
    box:start(box:idle("b"))
    support.kill(pid, "sigkill")
    support.wait_for("the end", function() return box:lunad("status", "a").code == 1 end)
    assert.truthy(box:ok("list"):find("\na +%- +dead .*it died"))
    local list = support.json.decode(box:ok("list", "--json"))
    assert.equal(2, #list)
    assert.equal("dead", list[1].state)
    assert.is_nil(list[1].pid)
    box:ok("stop", "a")
    assert.is_nil(box:ok("list"):find("\na "))
  end)
end)

describe("lunad status", function()
  local box = support.with_box(before_each, after_each)

  it("shows running and the pid, and exits with 0", function()
    local pid = box:start(box:idle("a"))
    local result = box:lunad("status", "a")
    assert.equal(0, result.code)
    assert.equal("", result.err)
    assert.truthy(result.out:find("running", 1, true))
    assert.truthy(result.out:find("pid " .. pid .. "%f[%D]"))
  end)

  it("exits with 1 for one that is dead but has left its pidfile", function()
    local pid = box:start(box:idle("a"))
    support.kill(pid, "sigkill")
    support.wait_for("the end", function() return not support.is_alive(pid) end)
    local result = box:lunad("status", "a")
    assert.equal(1, result.code)
    assert.truthy(result.out:find("a: dead", 1, true))
    assert.is_nil(result.out:find("running", 1, true))
  end)

  it("is one object for one NAME with --json, and an array for several", function()
    local pid = box:start(box:idle("a"))
    assert.equal(pid, support.json.decode(box:ok("status", "--json", "a")).pid)
    local result = box:lunad("status", "--json", "a", "b")
    local list = support.json.decode(result.out)
    assert.equal(3, result.code)
    assert.equal(pid, list[1].pid)
    assert.equal("b", list[2].name)
    assert.is_nil(list[2].pid)
  end)

  it("answers for one whose script is busy", function()
    local pid = box:start(box:write("busy.lua", [[
      local lunad = require "lunad"
      lunad.after(0.01, function()
        local go = lunad.now() + 2.5
        print "busy"
        while lunad.now() < go do end
      end)
      lunad.every(60, print)
    ]]))
    box:wait_log("busy", "busy: busy")
    local out = box:ok("status", "busy")
    assert.truthy(out:find("running, pid " .. pid, 1, true), out)
    assert.matches("but busy in [^\n]*busy%.lua:5 for %d", out)
  end)
end)

describe("Another user's daemon", function()
  local box = support.with_box(before_each, after_each)

  local function as_nobody(...)
    return box:run({ ... }, { program = box:path("lunad"), uid = 65534, gid = 65534 })
  end

  it("is refused with 1 and a reason, and never called not running", function()
    if not support.is_root then return pending("needs root") end
    assert(support.uv.fs_copyfile(support.binary, box:path("lunad")))
    box:start(box:idle("a"))
    for _, words in ipairs { { "status", "a" }, { "stop", "a" }, { "reload", "a" }, { "restart", "a" },
                             { "reopen", "a" }, { "signal", "a", "TERM" } } do
      local result = as_nobody(table.unpack(words))
      assert.equal(1, result.code, words[1])
      assert.truthy(result.err:find("^lunad: a: .*another user"), words[1])
      assert.is_nil((result.err .. result.out):find("not running", 1, true), words[1])
    end
    assert.equal(0, box:lunad("status", "a").code)
  end)

  it("is refused in the same way when its run directory cannot be entered", function()
    if not support.is_root then return pending("needs root") end
    assert(support.uv.fs_copyfile(support.binary, box:path("lunad")))
    box:start(box:idle("a"))
    assert(support.uv.fs_chmod(box:path("run"), tonumber("700", 8)))
    local result = as_nobody("status", "a")
    assert.equal(1, result.code)
    assert.truthy(result.err:find("denied", 1, true))
  end)
end)

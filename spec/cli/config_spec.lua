-- Configs: Lua files that return options, and describe services.

local support = require "support"

-- What a script says about itself: arguments, environment, limits, mask, directories.
local TELL = [[
  local lunad = require "lunad"
  local umask = io.popen("umask"):read()
  lunad.log.info(("args=%s env=%s/%s umask=%s mode=%s"):format(table.concat({ ... }, ","), os.getenv "A",
    os.getenv "B", umask, lunad.mode))
  lunad.every(60, function() end)
]]

describe("--config", function()
  local box = support.with_box(before_each, after_each)

  local function refused(text, words, code)
    box:write("c.lua", text)
    return box:refused(code or 2, table.unpack(words or { "start", "-c", "c.lua", "tell.lua" }))
  end

  it("gives options by their long names, paths relative to the file; the command line wins", function()
    support.uv.fs_mkdir(box:path "etc", tonumber("755", 8))
    box:write("etc/tell.lua", TELL)
    box:write("etc/c.lua", [[return { name = "app", script = "tell.lua", run_dir = "../state",
      log = "./app.log", args = { "a b", 2 }, env = { A = "config", B = 3 }, umask = "027",
      rlimit = { nofile = "200:300" }, stop_timeout = 2.5, memory_limit = "64M", wait_ready = false,
      log_level = "debug", restart = "no", listen = "unix:app.sock" }]])
    local out = box:ok("start", "--env", "A=line", "--stop-timeout", "3", "--config", "etc/c.lua")
    assert.matches("^app: started %(pid %d+%)\n$", out)
    assert.matches("args=a b,2 env=line/3 umask=0027 mode=daemon\n", box:read "etc/app.log")
    local status = support.json.decode(box:ok("status", "--json", "--config", "etc/c.lua"))[1]
    assert.equal(box:path "etc/tell.lua", support.uv.fs_realpath(status.script))
    assert.equal(64 << 20, status.memory.limit)
    assert.equal("debug", status.log.level)
    assert.matches("Max open files%s+200%s+300 ", support.read(("/proc/%d/limits"):format(status.pid)))
    assert.truthy(support.uv.fs_stat(box:path "state/app.pid"))
    assert.truthy(support.uv.fs_stat(box:path "etc/app.sock"))
    assert.equal("app: stopped\n", box:ok("stop", "-c", "etc/c.lua", "app"))
    assert.is_nil(support.uv.fs_stat(box:path "etc/app.sock"))
  end)

  it("is remembered: a service that was killed is restarted as it was", function()
    box:write("tell.lua", TELL)
    box:write("c.lua", 'return { args = { "one" }, env = { A = "first", B = "" }, name = "app" }')
    local pid = box:start("-c", "c.lua", "--name", "own", "tell.lua")
    box:wait_log("own", "args=one env=first/ ")
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    box:write("c.lua", "return { this = 'is gone' }")
    box:ok("restart", "own")
    local restarted = select(2, box:log("own"):gsub("args=one env=first/ ", ""))
    assert.equal(2, restarted)
    box:write("c.lua", 'return { name = "own", script = "tell.lua", args = { "two" }, env = { A = 1 } }')
    box:ok("restart", "-c", "c.lua", "own")
    box:wait_log("own", "args=two env=1/nil ")
  end)

  it("works with run, with a piece of Lua, and in a folder", function()
    support.uv.fs_mkdir(box:path "conf", tonumber("755", 8))
    box:write("conf/a.lua", 'return { script = "../tell.lua", name = "a", args = { "of a" } }')
    box:write("conf/b.lua", 'return { services = { b = { script = "../tell.lua", after = "a" } } }')
    box:write("conf/README", "no config")
    box:write("tell.lua", TELL)
    local first = box:run { "run", "-c", "conf/a.lua", "-e", "print(...)" }
    assert.equal(0, first.code)
    assert.matches("^of a\n", first.out)
    local out = box:ok("start", "-c", "conf", "--all")
    assert.matches("^a: started %(pid %d+%)\nb: started %(pid %d+%)\n$", out)
    assert.equal("b: stopped\na: stopped\n", box:ok("stop", "-c", "conf", "--all"))
    box:write("conf/c.lua", 'return { script = "../tell.lua", name = "a" }')
    assert.matches("conf/c.lua: the service a is in .*conf/a.lua too\n$",
      box:refused(2, "start", "-c", "conf", "--all"))
    box:write("conf/c.lua", 'return { name = "c" }')
    assert.matches("conf/c.lua: it has no script\n$", box:refused(2, "start", "-c", "conf", "--all"))
  end)

  it("names file, key and what was meant", function()
    box:write("tell.lua", TELL)
    for _, row in ipairs {
      { "stop_timeuot = 5", "c.lua: stop_timeuot: there is no such option; did you mean stop_timeout%?\n$" },
      { '["run-dir"] = "x"', "c.lua: run%-dir: there is no such option; did you mean run_dir%?\n$" },
      { "servics = {}", "c.lua: servics: there is no such option; did you mean services%?\n$" },
      { "5", "c.lua: %[1%]: there is no such option\n$" },
      { 'stop_timeout = "soon"', 'c.lua: stop_timeout: "soon" is not a time in seconds, such as 2.5\n$' },
      { "chdir = {}", "c.lua: chdir: it must be a path, not a table\n$" },
      { "umask = 27",
        "c.lua: umask: it must be an octal mask such as 027, written as a text, not the number 27\n$" },
      { "wait_ready = 1", "c.lua: wait_ready: it must be true or false, not 1\n$" },
      { 'hup = "relaod"',
        'c.lua: hup: "relaod" is not one of reload|ignore|stop\n$' },
      { 'env = { "A=B" }', "c.lua: env: it must be a table of variables, but has the key 1\n$" },
      { 'env = { ["A=B"] = "C" }',
        "c.lua: env.A=B: it cannot be the name of a variable\n$" },
      { 'rlimit = { nofiel = "1" }',
        "c.lua: rlimit.nofiel: there is no such limit; did you mean nofile%?\n$" },
      { 'rlimit = { core = "x" }',
        'c.lua: rlimit.core: "x" is not SOFT%[:HARD%], such as "256:512"\n$' },
      { 'args = { 1, {} }', "c.lua: args%[2%]: it must be a text, not a table\n$" },
      { 'listen = "80"', 'c.lua: listen: "80" is not 127.0.0.1:8080' },
      { 'args = { "a\\0b" }', "c.lua: args%[1%]: a text with a zero byte\n$" },
      { 'after = "x"', 'c.lua: after: there is no service "x"\n$' },
    } do
      assert.matches("^lunad: start: %-%-config: /.*/" .. row[2], refused("return { " .. row[1] .. " }"))
    end
  end)

  it("is refused when it is missing or fails, and reaches nothing outside", function()
    box:write("tell.lua", TELL)
    for text, message in pairs {
      ["return {"] = "c.lua:1: unexpected symbol", ["error 'why'"] = "c.lua:1: why\n$",
      ["error {}"] = "c.lua: it failed with a table\n$",
      ["return require 'x'"] = "global 'require'%); configs have no require\n$",
      ["return io.open 'x'"] = "global 'io'", ["return os.execute 'x'"] = "field 'execute'",
      ["return load 'x'"] = "global 'load'", ["return ('x'):rep(1 << 28)"] = "c.lua: not enough memory\n$",
    } do
      assert.matches(message, refused(text, nil, 1))
    end
    assert.matches("c.lua: it must return a table of options, not 5\n$", refused("return 5"))
    assert.matches("nix.lua: there is no such file\n$", box:refused(1, "start", "-c", "nix.lua", "tell.lua"))
    assert.matches("there is no script", refused("return {}", { "start", "-c", "c.lua" }))
    assert.matches("it is neither a file nor a folder", box:refused(1, "start", "-c", "/dev/null", "x.lua"))
    support.uv.fs_mkdir(box:path "empty", tonumber("755", 8))
    assert.matches("/empty: no config ", box:refused(1, "start", "-c", "empty"))
    if support.is_root then
      support.uv.fs_chmod(box:path "c.lua", tonumber("666", 8))
      assert.matches("everyone may write to it", box:refused(1, "start", "-c", "c.lua", "tell.lua"))
      support.uv.fs_mkdir(box:path "open", tonumber("755", 8))
      support.uv.fs_chmod(box:path "open", tonumber("777", 8))
      box:write("open/c.lua", "return {}")
      assert.matches("/open: .*everyone may write to it", box:refused(1, "start", "-c", "open", "--all"))
    end
  end)
end)

describe("the services of a config", function()
  local box = support.with_box(before_each, after_each)

  local SET = [[return { env = { A = "common", B = "common" }, run_dir = "state", services = {
    web = { script = "tell.lua", env = { B = "web" }, args = { "w" } },
    jobs = { script = "%s", after = { "web" } },
    mail = { script = "tell.lua", after = "jobs" },
    alone = { script = "tell.lua" },
  } }]]

  before_each(function()
    box:write("tell.lua", TELL)
    box:write("bad.lua", "error 'no database'")
    box:write("c.lua", SET:format "tell.lua")
  end)

  local function set(verb, ...)
    return box:lunad(verb, "--config", "c.lua", ...)
  end

  -- The names in the lines of an output, in order.
  local function names(out)
    return (out:gsub("([%w]+): [^\n]*\n", "%1 "))
  end

  it("are started in the order of after, shown as a set, and stopped in reverse", function()
    local start = set("start", "--all")
    assert.equal(0, start.code, start.err)
    assert.equal("alone web jobs mail ", names(start.out))
    assert.truthy(box:log("web"):find("args=w env=common/web ", 1, true))
    assert.truthy(box:log("mail"):find("args= env=common/common ", 1, true))
    assert.equal("jobs ", names(set("stop", "jobs").out))
    local status = set("status", "--json")
    assert.equal(3, status.code)
    local shown = {}
    for _, report in ipairs(support.json.decode(status.out)) do
      shown[#shown + 1] = report.name .. " " .. report.state
    end
    assert.same({ "alone running", "web running", "jobs not running", "mail running" }, shown)
    assert.equal(0, set("status", "web", "mail").code)
    assert.equal("mail: reloaded", set("reload", "mail").out:match "^mail: reloaded")
    assert.equal(3, set("reload", "--all").code)
    local again = set("start", "--all")
    assert.equal(4, again.code)
    assert.equal("jobs ", names(again.out))
    local restart = set("restart", "--all")
    assert.equal(0, restart.code, restart.err)
    assert.equal("alone web jobs mail ", names(restart.out))
    assert.equal("alone web jobs mail ", names(set("reopen", "--all").out))
    assert.equal("mail jobs web alone ", names(set("stop", "--all").out))
    assert.equal(0, set("stop", "--all").code)
  end)

  it("are not started after one that fails, and that is said", function()
    box:write("c.lua", SET:format "bad.lua")
    local start = set("start", "--all")
    assert.equal(1, start.code)
    assert.equal("alone web ", names(start.out))
    assert.matches("bad.lua:1: no database\n", start.err)
    assert.matches("\nlunad: jobs: not started\nlunad: mail: not started, because it comes after jobs, "
      .. "which does not run\n$", start.err)
    box:write("bad.lua", "error(")
    assert.matches("restart: nothing was stopped\n$", set("restart", "--all").err)
    assert.equal(0, set("status", "web", "alone").code)
    set("stop", "--all")
  end)

  it("are named, and a wrong name or order is an error of usage", function()
    assert.matches("c.lua: name its services %(alone, web, jobs, mail%), or give %-%-all\n$",
      box:refused(2, "start", "-c", "c.lua"))
    assert.matches('c.lua: it describes no service "wbe" %(alone, web, jobs, mail%)\n$',
      box:refused(2, "start", "-c", "c.lua", "web", "wbe"))
    assert.matches("run is for one service", box:refused(2, "run", "-c", "c.lua", "web", "jobs"))
    assert.matches("%-%-name is for one service",
      box:refused(2, "start", "--name", "x", "-c", "c.lua", "--all"))
    assert.matches("%-%-all takes the place of names",
      box:refused(2, "start", "-c", "c.lua", "--all", "web"))
    assert.matches("give %-%-config FILE", box:refused(2, "start", "--all"))
    for services, message in pairs {
      ['a = { script = "x", after = "b" }, b = { script = "x", after = "a" }'] =
        "a.after: a circle: a after b after a",
      ['web = { script = "x" }, jobs = { script = "x", after = "wbe" }'] =
        'jobs.after: there is no service "wbe"; did you mean web?',
      ["web = { scirpt = 'x' }"] = "services.web.scirpt: there is no such option; did you mean script?",
      ["web = {}"] = "services.web: it has no script",
      ["web = 1"] = "services.web: it must be a table of options",
      ["web = { name = 'x' }"] = "services.web.name: its name is web", [""] = "not an empty one",
      ["['a b'] = { script = 'x' }"] = "services.a b: it is not a name",
    } do
      box:write("c.lua", "return { services = { " .. services .. " } }")
      local err = box:refused(2, "start", "-c", "c.lua", "--all")
      assert.truthy(err:find(message, 1, true), err)
    end
  end)
end)

describe("examples/services", function()
  local box = support.with_box(before_each, after_each)

  it("starts, reloads and stops", function()
    local env = { LUNAD_EXAMPLE_PORT = "0" }
    local function all(verb)
      local result = box:run({ verb, "-c", support.root .. "/examples/services/lunad.lua", "--all" },
        { env = env })
      assert.equal(0, result.code, result.err)
      return result.out
    end
    assert.matches("^web: started [^\n]+\nworker: started ", all "start")
    assert.matches("^web: reloaded, [^\n]+\nworker: reloaded, ", all "reload")
    assert.equal(0, box:status("web").errors.count + box:status("worker").errors.count)
    assert.equal("worker: stopped\nweb: stopped\n", all "stop")
  end)
end)

describe("--all", function()
  local box = support.with_box(before_each, after_each)

  it("means every daemon of the run directory, for some verbs also those that have died", function()
    for _, verb in ipairs { "stop", "reload", "restart", "reopen", "status" } do
      assert.matches("^no daemon is running %(looked in ", box:ok(verb, "--all"))
      assert.matches("takes the place of names", box:refused(2, verb, "--all", "x"))
    end
    box:start(box:idle "a")
    local pid = box:start(box:idle "b")
    assert.matches("^a: reloaded, [^\n]+\nb: reloaded, [^\n]+\n$", box:ok("reload", "--all"))
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    assert.equal("a: log reopened\n", box:ok("reopen", "--all"))
    assert.equal(1, box:lunad("status", "--all").code)
    assert.matches("^a: started [^\n]+\nb: started [^\n]+\n$", box:ok("restart", "--all"))
    assert.equal(2, #support.json.decode(box:ok("status", "--all", "--json")))
    assert.equal("a: stopped\nb: stopped\n", box:ok("stop", "--all"))
  end)
end)

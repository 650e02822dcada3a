-- lunad run: a script in the foreground.

local support = require "support"

describe("lunad run", function()
  local box = support.with_box(before_each, after_each)

  -- Begin `run` and wait until it is ready; the process.
  local function begin(name, ...)
    local process = box:spawn { "run", ... }
    box:await(process, name .. " to be ready", function()
      local report = box:lunad("status", "--json", name)
      return report.code == 0 and support.json.decode(report.out).state == "running"
    end)
    return process
  end

  local function finish(process)
    box:await(process, "the end of run", process.is_over)
    return process
  end

  it("runs a script with its arguments, and exits with 0 when it has finished", function()
    local script = box:write("args.lua", 'print(select("#", ...), ...) print(arg[0], arg[1], #arg)\n')
    local result = box:run { "run", "--log", "none", script, "a b", "", "--help", "-n" }
    assert.equal(0, result.code)
    assert.equal(("4\ta b\t\t--help\t-n\n%s\ta b\t4\n"):format(script), result.out)
    assert.equal("", result.err)
  end)

  it("runs a piece of Lua with -e", function()
    local result = box:run { "run", "--log", "none", "-e", "print(#arg, ...)", "x", "y" }
    assert.equal(0, result.code)
    assert.equal("2\tx\ty\n", result.out)
  end)

  it("runs what it reads from stdin with -", function()
    local result = box:run({ "run", "--log", "none", "-", "x" }, { input = "#!first\nprint(#arg, ...)\n" })
    assert.equal(0, result.code)
    assert.equal("1\tx\n", result.out)
  end)

  it("takes an option or a dash after -- for the script", function()
    box:write("-x.lua", "print(...)\n")
    local result = box:run { "run", "--log", "none", "--name", "x", "--", "-x.lua", "--", "-e" }
    assert.equal(0, result.code)
    assert.equal("--\t-e\n", result.out)
  end)

  it("works as the first line of a script", function()
    local script = box:write("tool", "#!" .. support.binary .. " run\nprint(arg[0], ...)\n")
    assert(support.uv.fs_chmod(script, tonumber("755", 8)))
    local result = box:run({ "one", "two words" }, { program = script })
    assert.equal(0, result.code)
    assert.equal(script .. "\tone\ttwo words\n", result.out)
  end)

  it("prints plainly to stdout, and logs to stderr", function()
    local result = box:run { "run", "-e", 'print "said" require("lunad").log.warn "logged"' }
    assert.equal("said\n", result.out)
    assert.truthy(result.err:find(" warn  lunad%-%d+: logged\n"))
  end)

  it("keeps the working directory, its parent and its terminal", function()
    local process = begin("idle", box:idle("idle"))
    assert.equal(box.dir, support.uv.fs_readlink("/proc/" .. process.pid .. "/cwd"))
    assert.equal(("%d"):format(support.uv.os_getpid()), support.proc_status(process.pid).PPid)
    assert.equal("idle: stopped\n", box:ok("stop", "idle"))
    assert.equal(0, finish(process).code)
  end)

  it("says foreground where a daemon says daemon", function()
    local result = box:run { "run", "--log", "none", "-e", 'print(require("lunad").mode)' }
    assert.equal("foreground\n", result.out)
  end)

  it("is called lunad-PID for -e and -", function()
    local text = 'local l = require "lunad" print(l.name == "lunad-" .. l.pid, l.name)'
    local result = box:run { "run", "--log", "none", "-e", text }
    assert.truthy(result.out:find("^true\tlunad%-%d+\n$"))
    result = box:run({ "run", "--log", "none", "-" }, { input = text })
    assert.truthy(result.out:find("^true\tlunad%-%d+\n$"))
  end)

  it("has the title lunad: NAME, however short the command line", function()
    local text = 'print(io.open("/proc/self/cmdline"):read("a"):gsub("%z+$", ""), require("lunad").name)'
    local result = box:shell('exec -a l "$1" run -', {}, { input = text })
    local title, name = result.out:match("^(.-)\t(.-)\n$")
    assert.equal("lunad: " .. tostring(name), title)
  end)

  it("takes name, lock and socket, so that verbs work on it", function()
    local process = begin("idle", box:idle("idle"))
    assert.equal(process.pid .. "\n", box:read("run/idle.pid"))
    assert.same({ "idle.pid", "idle.sock", "idle.start" }, box:left_files())
    assert.truthy(box:refused(4, "run", "idle.lua"):find("already running", 1, true))
    assert.truthy(box:refused(4, "start", "idle.lua"):find("already running", 1, true))
    assert.truthy(box:ok("reload", "idle"):find("generation 2", 1, true))
    box:ok("signal", "idle", "TERM")
    assert.equal(0, finish(process).code)
    assert.same({}, box:left_files())
  end)

  it("stops on Ctrl-C, cleans up and exits with 0", function()
    local process = begin("idle", box:idle("idle"))
    support.kill(process.pid, "sigint")
    assert.equal(0, finish(process).code)
    assert.same({}, box:left_files())
  end)

  it("exits with the status of lunad.stop and os.exit", function()
    local chunk = 'local l = require "lunad" l.after(0.01, function() %s(7) end)'
    for _, name in ipairs { "l.stop", "os.exit" } do
      assert.equal(7, box:run({ "run", "--log", "none", "-e", chunk:format(name) }).code, name)
    end
    assert.same({}, box:left_files())
  end)

  it("fails with 1 and the traceback when the script fails", function()
    local script = box:write("bad.lua", "local function f() error('boom') end\nf()\n")
    local result = box:run { "run", script }
    assert.equal(1, result.code)
    assert.equal("", result.out)
    assert.equal(1, result.err:find("lunad: " .. script .. ":1: boom\nstack traceback:\n", 1, true))
    assert.same({}, box:left_files())
  end)

  it("says what is wrong with a piece of Lua that does not compile", function()
    local result = box:run { "run", "-e", "x = = 1" }
    assert.equal(1, result.code)
    assert.truthy(result.err:find("^lunad: %(command line%):1: "))
    result = box:run({ "run", "-" }, { input = "\nx = = 1" })
    assert.equal(1, result.code)
    assert.truthy(result.err:find("^lunad: stdin:2: "))
  end)

  it("refuses bytecode from -e and -", function()
    local code = string.dump(load("return 1"))
    local result = box:run({ "run", "-" }, { input = code })
    assert.equal(1, result.code)
    assert.truthy(result.err:find("bytecode", 1, true))
    assert.truthy(box:refused(1, "run", "-e", "\27Lua"):find("bytecode", 1, true))
  end)

  it("needs no readable stdin, stdout or stderr", function()
    local script = box:write("x.lua", ('io.open(%q, "w"):close()'):format(box:path("flag")))
    local result = box:shell('"$1" run "$2" <&- >&- 2>&-', { script })
    assert.equal(0, result.code)
    assert.truthy(box:read("flag"))
  end)
end)

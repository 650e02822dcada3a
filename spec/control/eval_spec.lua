local support = require "support"

local json, uv = support.json, support.uv

-- A script with a global counter that grows, and a function that prints.
local SCRIPT = [[
  count, kept = 0, "old"
  lunad.every(0.02, function() count = count + 1 end)
  function say(what) print("says", what) end
]]

describe("eval", function()
  local box = support.with_box(before_each, after_each)

  -- What a chunk prints, and its values.
  local function eval(chunk)
    return box:ok("eval", "s", chunk)
  end

  -- Send a chunk over a new connection, with other members of the request.
  local function ask(chunk, more)
    local client = box:connect "s"
    local request = more or {}
    request.verb, request.chunk = "eval", chunk
    client:send(json.encode(request) .. "\n")
    return client
  end

  -- Wait until the status shows a task in "eval".
  local function wait_suspended()
    support.wait_for("a suspended eval", function()
      for _, task in ipairs(box:status("s").tasks) do
        if task.where:find("^eval:") then return true end
      end
    end)
  end

  -- Wait until the daemon's timers run. What holds the loop is interrupted a moment after its client has
  -- left; until then the daemon says that it is busy.
  local function wait_beat()
    local before
    support.wait_for("a beat", function()
      local now = tonumber((box:lunad("eval", "s", "count").out))
      before = before or now
      return now and now > before
    end)
  end

  it("prints the values of an expression, separated by tabs", function()
    box:serve(SCRIPT)
    assert.equal("2\ta b\tnil\ttrue\t0.5\n", eval "1 + 1, 'a b', nil, true, 1 / 2")
    assert.equal("nil\n", eval "nil")
    assert.equal("nil\n", eval "no_such_global")
    assert.equal("3\n", eval "#{1, 2, 3}")
    assert.equal("8\n", eval "8 -- a comment")
  end)

  it("runs statements, and prints nothing for no value", function()
    box:serve(SCRIPT)
    assert.equal("", eval "local x = 1")
    assert.equal("", eval "")
    assert.equal("", eval "say = say")
    assert.equal("6\n", eval "local sum = 0\nfor i = 1, 3 do sum = sum + i end\nreturn sum")
  end)

  it("has lunad, and shares the globals of the script", function()
    box:serve(SCRIPT .. [[
      lunad.every(0.01, function()
        if given then lunad.log.info("given " .. given) given = nil end
      end)]])
    assert.equal("s\t1\n", eval "lunad.name, lunad.generation")
    assert.equal("old\n", eval "kept")
    assert.equal("", eval "given, mine = 'this', 5")
    box:wait_log("s", "given this")
    assert.equal("5\tnil\n", eval "mine, given")
    assert.equal("true\n", eval "_ENV == _G and rawequal(lunad, require 'lunad')")
  end)

  it("may suspend", function()
    box:serve(SCRIPT)
    assert.equal("done\n", eval "lunad.sleep(0.05) return 'done'")
    assert.equal("true\tout\n\n", eval [[
      local result = lunad.exec { "echo", "out" }
      return result.ok, result.stdout]])
    assert.equal("42\n", eval "lunad.await(function(done) lunad.after(0.01, done, 42) end)")
  end)

  it("gives what print prints to the caller, while it runs", function()
    box:serve(SCRIPT)
    assert.equal("1\ttwo\nsays\tthis\n7\n", eval "print(1, 'two') say 'this' return 7")
    local process = box:spawn { "eval", "s", "print 'first' lunad.sleep(30)" }
    box:await(process, "the first line", function() return process.out() == "first\n" end)
    support.kill(process.pid, "sigint")
    box:await(process, "its end", process.is_over)
    assert.is_nil(box:log("s"):find("first", 1, true))
  end)

  it("gives what is printed to the log when no client waits any more", function()
    box:serve(SCRIPT)
    box:refused(1, "eval", "--timeout", "0.1", "s", "repeat lunad.sleep(0.01) until go print 'later'")
    eval "go = true"
    box:wait_log("s", "s: later")
  end)

  it("tells an error with its traceback, which is none of the service", function()
    local script = "lunad.on_error(function() lunad.log.info 'seen' end) function f() error 'oops' end"
    box:serve(script, "--on-error", "exit")
    local message = box:refused(1, "eval", "s", "local function g() f() end\ng()\nreturn")
    assert.matches("^lunad: s: .*s%.lua:1: oops\nstack traceback:\n", message)
    assert.matches("\n\teval:2: in main chunk\n$", message)
    assert.matches("error object is a table value", box:refused(1, "eval", "s", "error({})"))
    assert.matches("^lunad: s: eval:1: late\n", box:refused(1, "eval", "s", "lunad.sleep(0.01) error 'late'"))
    assert.equal(0, box:status("s").errors.count)
    assert.is_nil(box:log("s"):find("oops", 1, true))
    assert.is_nil(box:log("s"):find("seen", 1, true))
  end)

  it("tells where a chunk does not compile", function()
    box:serve(SCRIPT)
    local message = box:refused(1, "eval", "s", "local a = 1\n\na b")
    assert.equal("lunad: s: eval:3: syntax error near 'b'\n", message)
    assert.matches("^lunad: s: eval:1: .*near <eof>\n$", box:refused(1, "eval", "s", "x ="))
    assert.is_true(ask("if x then"):answer().incomplete)
    assert.is_nil(ask("a b"):answer().incomplete)
  end)

  it("reads a chunk from standard input", function()
    box:serve(SCRIPT)
    local result = box:run({ "eval", "s", "-" }, { input = "#!/usr/bin/lua\nlocal a = 1\nreturn a + 1\n" })
    assert.same({ code = 0, signal = 0, out = "2\n", err = "" }, result)
    result = box:run({ "eval", "s", "-" }, { input = "\n\nerror 'here'" })
    assert.matches("^lunad: s: eval:3: here\n", result.err)
    result = box:run({ "eval", "s", "-" }, { input = "return '\xFF'" })
    assert.equal("lunad: eval: the chunk is not UTF-8 text; write other bytes as \\xNN\n", result.err)
    assert.equal(1, result.code)
  end)

  it("takes a chunk of up to 1 MiB, and refuses a larger one", function()
    box:serve(SCRIPT)
    local function run(size)
      return box:run({ "eval", "s", "-" }, { input = "return #[[" .. ("x"):rep(size) .. "]]" })
    end
    assert.equal("1000000\n", run(1000000).out)
    assert.matches("more than 1 MiB", run(1048570).err)
    assert.matches("more than 1 MiB", run(3000000).err)
    assert.equal("1\n", eval "1")
  end)

  it("prints the many lines of a loop, also those that come before the client has read the others", function()
    box:serve(SCRIPT)
    local lines = {}
    for i = 1, 100000 do lines[i] = i .. "\n" end
    assert.is_true(table.concat(lines) == eval "for i = 1, 100000 do print(i) end")
  end)

  it("is refused with words where it cannot be", function()
    assert.matches("not running", box:refused(3, "eval", "s", "1"))
    assert.equal(2, box:lunad("eval", "s").code)
    assert.equal(2, box:lunad("eval", "s", "1", "2").code)
    assert.equal(2, box:lunad("eval", "--timeout", "x", "s", "1").code)
    box:serve(SCRIPT)
    local client = box:connect "s"
    for _, request in ipairs {
      {}, { chunk = 1 }, { chunk = json.null }, { chunk = "1", timeout = "1" }, { chunk = "1", timeout = -1 },
      { chunk = "1", timeout = 1e300 },
    } do
      request.verb = "eval"
      client:send(json.encode(request) .. "\n")
      local answer = client:answer()
      assert.is_false(answer.ok)
      assert.equal("string", type(answer.error))
    end
  end)

  it("answers over the control socket, once and in order", function()
    box:serve(SCRIPT)
    local client = box:connect "s"
    client:send(json.encode { verb = "eval", chunk = "print 'a' lunad.sleep(0.05) return 1, 'x'" } .. "\n" ..
      json.encode { verb = "eval", chunk = "error 'no'" } .. "\n" .. '{"verb": "status"}\n')
    client:shutdown()
    assert.same({ ok = true, values = { "1", "x" }, output = "a\n" }, client:answer())
    local failed = client:answer()
    assert.is_false(failed.ok)
    assert.equal("", failed.output)
    assert.matches("^eval:1: no\n", failed.error)
    assert.equal("s", client:answer().name)
  end)

  it("keeps a bounded part of what a client does not read", function()
    box:serve(SCRIPT)
    local answer = ask("for _ = 1, 3000 do print(('x'):rep(999)) end return 'end'"):answer()
    assert.same({ "end" }, answer.values)
    assert.is_true(#answer.output < 1100000)
    assert.matches("x\n%.%.%. %(1,95%d,000 more bytes of output were dropped%)\n$", answer.output)
  end)

  it("runs several at once", function()
    box:serve(SCRIPT)
    local clients = {}
    for i = 1, 20 do
      clients[i] = ask("while not go do lunad.sleep(0.01) end return " .. i)
    end
    eval "go = true"
    for i = 1, 20 do
      assert.same({ tostring(i) }, clients[i]:answer().values)
    end
  end)

  it("refuses the one after the 64th that waits", function()
    box:serve(SCRIPT)
    local clients = {}
    for i = 1, 64 do
      clients[i] = ask("while not go do lunad.sleep(0.01) end", { timeout = 1000, interactive = i % 2 == 0 })
    end
    support.wait_for("all of them", function() return #box:status("s").tasks == 64 end)
    assert.matches("too many", box:refused(1, "eval", "s", "1"))
    assert.is_true(box:connect("s"):ask("status").ok)
    for i = 1, 64 do
      clients[i]:close()
    end
    -- Their chunks go on, but those who have gone are not counted.
    support.wait_for("room for one more", function() return box:lunad("eval", "s", "1").code == 0 end)
    assert.equal(64, #box:status("s").tasks)
    eval "go = true"
    support.wait_for("their end", function() return #box:status("s").tasks == 0 end)
  end)

  describe("that is endless", function()
    -- The line that an interruption was for.
    local LOOP = "while true do pcall(function() while true do end end) end"

    it("is interrupted when its time is over", function()
      box:serve(SCRIPT, "--on-error", "exit")
      local message = box:refused(1, "eval", "--timeout", "0.3", "s", "\n" .. LOOP)
      assert.matches("^lunad: s: interrupted, as it held the loop when its %-%-timeout was over\n", message)
      assert.matches("eval:2: in", message)
      wait_beat()
      assert.equal(0, box:status("s").errors.count)
    end)

    it("is interrupted when its client leaves", function()
      box:serve(SCRIPT, "--on-error", "exit", "--stuck-after", "0")
      local process = box:spawn { "eval", "s", "print 'now' " .. LOOP }
      box:await(process, "the loop", function() return process.out() == "now\n" end)
      support.kill(process.pid, "sigkill")
      wait_beat()
      assert.equal(0, box:status("s").errors.count)
    end)

    it("is interrupted after it was suspended, in a task that it has begun, and in __tostring", function()
      box:serve(SCRIPT, "--on-error", "exit")
      for _, chunk in ipairs {
        "lunad.sleep(0.05) " .. LOOP,
        "lunad.task(function() " .. LOOP .. " end)",
        "coroutine.wrap(function() " .. LOOP .. " end)()",
        "return setmetatable({}, { __tostring = function() " .. LOOP .. " end })",
      } do
        local message = box:refused(1, "eval", "--timeout", "1", "s", chunk)
        assert.matches("interrupted, as it held the loop when", message)
      end
      wait_beat()
      assert.equal(0, box:status("s").errors.count)
    end)

    it("is interrupted by a stop", function()
      local pid = box:serve(SCRIPT)
      local process = box:spawn { "eval", "s", "print 'now' " .. LOOP }
      box:await(process, "the loop", function() return process.out() == "now\n" end)
      box:ok("stop", "s")
      box:wait_gone(pid)
      box:await(process, "its end", process.is_over)
      assert.equal(1, process.code)
    end)

    it("holds up no other client for long, which is told", function()
      box:serve(SCRIPT, "--stuck-after", "0.3")
      local client = ask(LOOP)
      box:wait_log("s", "an eval has held the loop for .- at eval:1")
      assert.matches("busy in eval:1 for", box:refused(1, "eval", "s", "1"))
      assert.matches("busy in eval:1 for",
        box:refused(1, "eval", "--timeout", "0.1", "s", "return [[" .. ("x"):rep(1000) .. "]]"))
      client:close()
      wait_beat()
    end)
  end)

  describe("that is suspended", function()
    local WAITS = "repeat lunad.sleep(0.01) until go lunad.log.info 'it went on'"

    it("goes on when its client leaves", function()
      box:serve(SCRIPT)
      local process = box:spawn { "eval", "s", WAITS }
      wait_suspended()
      support.kill(process.pid, "sigkill")
      box:await(process, "its end", process.is_over)
      eval "go = true"
      box:wait_log("s", "it went on")
    end)

    it("goes on when its time is over, which says where it waits", function()
      box:serve(SCRIPT)
      local message = box:refused(1, "eval", "--timeout", "0.2", "s", WAITS)
      assert.matches("^lunad: s: no end after 0%.2 s: it waits in sleep at eval:1, and goes on", message)
      eval "go = true"
      box:wait_log("s", "it went on")
    end)

    it("has the daemon's --start-timeout without --timeout", function()
      box:serve(SCRIPT, "--start-timeout", "1.5")
      assert.matches("no end after 1%.5 s", box:refused(1, "eval", "s", "lunad.sleep(60)"))
      assert.matches("no end after 1%.5 s", ask("lunad.sleep(60)"):answer().error)
    end)

    it("ends with its generation", function()
      box:serve(SCRIPT)
      local client = ask "lunad.sleep(60)"
      wait_suspended()
      box:ok("reload", "s")
      local answer = client:answer()
      assert.is_false(answer.ok)
      assert.matches("ended with generation 1, which a reload has replaced", answer.error)
      assert.equal("2\n", eval "lunad.generation")
    end)

    it("ends with the daemon", function()
      box:serve(SCRIPT)
      local client = ask "print 'before' lunad.sleep(60)"
      wait_suspended()
      box:ok("stop", "s")
      local answer = client:answer()
      assert.is_false(answer.ok)
      assert.equal("before\n", answer.output)
      assert.matches("stopped", answer.error)
    end)
  end)

  it("waits for the end of a reload, and runs in what is the service then", function()
    box:serve("lunad.on_reload(function() while not uv_go() do lunad.sleep(0.01) end end)" ..
      "function uv_go() return io.open(lunad.script .. '.go') end", "--start-timeout", "15")
    local reload = box:spawn { "reload", "s" }
    support.wait_for("a reload", function() return box:status("s").state == "reloading" end)
    local message = box:refused(1, "eval", "--timeout", "0.1", "s", "1")
    assert.matches("not run within 0%.1 s: the daemon is reloading", message)
    local client = ask "lunad.generation"
    box:write("s.lua.go", "")
    assert.same({ "2" }, client:answer().values)
    box:await(reload, "its end", reload.is_over)
  end)

  it("is refused while the daemon starts or stops", function()
    local path = box:write("s.lua", support.BEAT .. [[
      lunad.after(0.01, function()
        while not io.open(lunad.script .. '.go') do lunad.sleep(0.01) end
        lunad.ready()
      end)
      lunad.on_stop(function() lunad.sleep(60) end)]])
    local start = box:spawn { "start", "--wait-ready", "--stop-timeout", "15", path }
    support.wait_for("the socket", function() return uv.fs_stat(box:path "run/s.sock") end)
    assert.matches("the daemon is starting", box:refused(1, "eval", "s", "1"))
    box:write("s.lua.go", "")
    box:await(start, "its end", start.is_over)
    assert.equal("1\n", eval "1")
    local pid = box:status("s").pid
    assert.is_true(box:connect("s"):ask("stop").ok)
    assert.matches("the daemon is stopping", box:refused(1, "eval", "s", "1"))
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    box:ok("stop", "s")
  end)

  it("may reload, stop and exit", function()
    local pid = box:serve(SCRIPT)
    assert.equal("", eval "lunad.reload()")
    box:wait_log("s", "reloaded: generation 2")
    assert.equal("", eval "os.exit(0)")
    box:wait_gone(pid)
    pid = box:serve(SCRIPT)
    assert.equal("", eval "lunad.stop()")
    box:wait_gone(pid)
  end)

  it("respects the memory limit, without harm", function()
    box:serve(SCRIPT, "--memory-limit", "8M")
    assert.matches("not enough memory", box:refused(1, "eval", "s", "('x'):rep(1 << 24)"))
    local message = box:refused(1, "eval", "s", "local t = {} while true do t[#t + 1] = {} end")
    assert.matches("not enough memory", message)
    assert.equal("1\n", eval "1")
    assert.equal(0, box:status("s").errors.count)
  end)

  describe("shows", function()
    it("tables readably", function()
      box:serve(SCRIPT)
      assert.equal('{}\t{1, 2, 3}\t{"a", b = {c = true}, ["d e"] = 1.5, ["end"] = 2}\n',
        eval "{}, {1, 2, 3}, {'a', ['d e'] = 1.5, b = {c = true}, ['end'] = 2}")
      assert.equal("{[-1] = 0, [1.5] = 2, [true] = 3}\n", eval "{[1.5] = 2, [true] = 3, [-1] = 0}")
      assert.equal("{\n  x = \"" .. ("x"):rep(100) .. "\",\n  y = {1}\n}\n",
        eval "{y = {1}, x = ('x'):rep(100)}")
      assert.matches("^function: eval:1\tfunction: 0x%x+ %(C%)\tthread: 0x%x+\n$",
        eval "function() end, next, coroutine.create(next)")
    end)

    it("cycles, depth and many keys within bounds", function()
      box:serve(SCRIPT)
      assert.equal("{a = <cycle>, b = {{}, {}}}\n", eval "local t, u = {}, {} t.a, t.b = t, {u, u} return t")
      assert.equal("{{{{{{{...}}}}}}}\n", eval "local t = {} for _ = 1, 5000 do t = {t} end return t")
      local big = eval "local t = {} for i = 1, 300000 do t[i] = i end return t"
      assert.matches("\n  100,\n  %.%.%. %(299900 more%)\n}\n$", big)
      big = eval "local t = {} for i = 1, 100000 do t['k' .. i] = i end return t"
      assert.matches("\n  %.%.%. %(more than 1900 more%)\n}\n$", big)
      big = eval [[
        local function grow(n)
          local t = {}
          for i = 1, 90 do t[i] = n > 0 and grow(n - 1) or i end
          return t
        end
        return grow(2)]]
      assert.is_true(#big < 400000)
      assert.matches("%.%.%. %(%d+ more%)", big)
      assert.matches("\t%.%.%. %(99800 more%)\n$", eval "table.unpack({}, 1, 100000)")
    end)

    it("long and binary strings as text", function()
      box:serve(SCRIPT)
      assert.equal("a\nb\tc\\xFF\xC3\xA9\n", eval "'a\\nb\\tc\\xFF\\u{E9}'")
      assert.equal('{"\\x00\\xFF\\x1B\\n\\"\xC3\xA9"}\n', eval "{'\\0\\xFF\\27\\n\"\\u{E9}'}")
      assert.equal('{\n  "' .. ("x"):rep(200) .. '"... (5000 bytes)\n}\n', eval "{('x'):rep(5000)}")
      assert.equal('{\n  "x' .. ("\xC3\xA9"):rep(99) .. '"... (1001 bytes)\n}\n',
        eval "{'x' .. ('\\u{E9}'):rep(500)}")
      assert.matches("x%.%.%. %(3000000 bytes%)\n$", eval "('x'):rep(3000000)")
      assert.equal(("\\xFF"):rep(250000) .. "\n", eval "('\\xFF'):rep(250000)")
    end)

    it("what __tostring says, and is not misled by other metamethods", function()
      box:serve(SCRIPT)
      assert.equal("me\t{me}\n",
        eval "local t = setmetatable({}, {__tostring = function() return 'me' end}) return t, {t}")
      assert.matches("^<table: 0x%x+; its __tostring failed: eval:1: no>\n$",
        eval "setmetatable({}, {__tostring = function() error 'no' end})")
      assert.matches("^<table: 0x%x+; its __tostring returned no string>\n$",
        eval "setmetatable({}, {__tostring = function() return 5 end})")
      assert.matches("^<table: 0x%x+; its __tostring failed: .->\n$",
        eval "setmetatable({}, {__tostring = true})")
      assert.equal("{x = 1}\n", eval [[
        setmetatable({x = 1}, {__index = error, __pairs = error, __len = error, __eq = error, __name = 5,
          __metatable = false})]])
      assert.equal("slow\n",
        eval "setmetatable({}, {__tostring = function() lunad.sleep(0.01) return 'slow' end})")
      assert.matches("^A\\x1B%[1m: 0x%x+\n$", eval [[
        local file = io.tmpfile()
        debug.setmetatable(file, {__name = "A\27[1m"})
        return file]])
    end)
  end)

  it("runs with the rights of --user", function()
    if not support.is_root then return pending("needs root") end
    local options = { env = { ASAN_OPTIONS = "detect_leaks=0" } } -- they cannot be found as another user
    local script = box:write("s.lua", support.BEAT)
    assert.equal(0, box:run({ "start", "--user", "nobody", script }, options).code)
    assert.equal("65534\n", eval "require('luv').getuid()")
    assert.matches("^nil\t.*Permission denied", eval "io.open('/etc/shadow')")
    local nobody = { "--reuid", "65534", "--regid", "65534", "--clear-groups", support.binary, "eval",
      "--run-dir", box:path "run", "s", "1" }
    local result = box:run(nobody, { program = "setpriv", env = options.env })
    assert.equal(1, result.code)
    assert.matches("^lunad: s: .*another user", result.err)
    assert.equal("1\n", eval "1")
  end)

  it("shows control bytes escaped on a terminal", function()
    box:serve(SCRIPT)
    local command = ([['%s' eval s "print('p\\27[1m') return 'v\\27]0;x\\7'"]]):format(support.binary)
    local result = box:run({ "-qec", command, "/dev/null" }, { program = "script" })
    assert.equal("p\\x1B[1m\r\nv\\x1B]0;x\\x07\r\n", result.out)
    assert.equal("v\27[1m\n", eval "'v\\27[1m'")
  end)

  it("believes nothing of a daemon that answers wrongly", function()
    local pid = box:serve(SCRIPT)
    support.kill(pid, "sigstop")
    assert(os.remove(box:path "run/s.sock"))
    local reply
    local server = uv.new_pipe()
    assert(server:bind(box:path "run/s.sock"))
    server:listen(8, function()
      local client = uv.new_pipe()
      server:accept(client)
      client:read_start(function(_, chunk)
        if chunk then client:write(reply, function() end) else client:close() end
      end)
    end)
    local wrong = "does not answer as a lunad does"
    for line, words in pairs {
      ["garbage\n"] = wrong, ["[]\n"] = wrong, ["{}\n"] = wrong, ['{"output": 5}\n'] = wrong,
      ['{"ok": true}\n'] = wrong, ['{"ok": true, "values": {"a": 1}}\n'] = wrong,
      ['{"ok": true, "values": [1]}\n'] = wrong, ['{"ok": false}\n'] = "did not say why",
      ['{"ok": false, "error": "a\\u001b[1mb"}\n'] = "a\\x1B[1mb",
      ['{"output": "a"}\n'] = "does not answer",
    } do
      reply = line
      local message = box:refused(1, "eval", "--timeout", "0.2", "s", "1")
      assert.is_truthy(message:find(words, 1, true), line .. message)
    end
    reply = '{"ok": true, "stacks": [["a\\u0000bcdef", 1]]}\n'
    assert.is_truthy(box:refused(1, "profile", "--svg", box:path "out.svg", "s", "0.1"):find(wrong, 1, true))
    server:close()
    uv.run("nowait")
    support.kill(pid, "sigkill")
    support.kill(pid, "sigcont")
    box:wait_gone(pid)
    box:ok("stop", "s")
  end)
end)

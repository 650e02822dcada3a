-- lunad repl: a console in a live daemon, or in a loop of its own, on a real terminal and without one.

local support = require "support"

local json, uv = support.json, support.uv

local TERMINAL = support.with_terminal(setup, teardown)

describe("lunad repl on a terminal", function()
  local box = support.with_box(before_each, after_each)

  local Console = {}
  Console.__index = Console

  -- Open a console, with words for it, on a terminal of its own. It says its exit status at the end.
  local function open(...)
    local words = { "-c", [[trap : INT; "$LUNAD" repl "$@"; echo "status $?"]], "sh", ... }
    table.insert(words, 1, "sh")
    local env = { LUNAD = support.binary, TERM = "xterm", HISTFILE = "" }
    local process = box:spawn(words, { program = TERMINAL, env = env, keep_stdin = true })
    local console = setmetatable({ process = process, seen = 1 }, Console)
    console:see "Ctrl%-D ends%.\r\n> $"
    return console
  end

  -- Wait until what has appeared since the last wait matches; returns it.
  function Console:see(pattern)
    local process = self.process
    local text
    local ok = pcall(support.wait_for, pattern, function()
      process.turn()
      text = process.out():sub(self.seen)
      return text:find(pattern)
    end)
    assert.is_true(ok, ("%q is not in %q"):format(pattern, text))
    self.seen = #process.out() + 1
    return text
  end

  function Console:type(text)
    self.process.stdin:write(text)
  end

  -- Type a line, and wait for what appears before the next prompt.
  function Console:run(line, pattern)
    self:type(line .. "\r")
    return self:see(pattern .. "> $")
  end

  -- End it by Ctrl-D; its exit status.
  function Console:finish()
    self:type "\4"
    local text = self:see "status %d+\r\n"
    box:await(self.process, "the end of the terminal", self.process.is_over)
    return tonumber(text:match "status (%d+)")
  end

  it("shows values, prints, errors and the first words of old Lua", function()
    local console = open()
    console:run("1 + 1, 'a', nil", "\r\n2\ta\tnil\r\n")
    console:run("x = {1, 2}", "\r\n")
    console:run("=x, #x", "\r\n{1, 2}\t2\r\n")
    console:run("print(x[1]) print 'two'", "\r\n1\r\ntwo\r\n")
    console:run("error 'boom'", "\r\neval:1: boom\r\nstack traceback:\r\n.*eval:1: in main chunk\r\n")
    console:run("x = = 1", "\r\neval:1: unexpected symbol near '='\r\n")
    console:run("print '\\27[2J'", "\r\n\\x1B%[2J\r\n")
    console:run("local y = 1", "\r\n%-%- a local variable ends with its input: [^\n]+\r\n")
    console:run("local y = 1", "local y = 1\r\n")
    assert.equal(0, console:finish())
  end)

  it("takes several lines for one chunk, and drops them at Ctrl-C", function()
    local console = open()
    console:run("for i = 1, 2 do", "do\r\n>")
    console:run("print('line', i)", "i%)\r\n>")
    console:run("end", "\r\nline\t1\r\nline\t2\r\n")
    console:run("= [[a", "\r\n>")
    console:run("b]]", "\r\na\r\nb\r\n")
    console:run("f(", "\r\n>")
    for _, text in ipairs { "not this", "nor this" } do
      console:type(text)
      console:see(text .. "$")
      console:type "\3"
      console:see "^\r\n> $"
    end
    console:run("'alive'", "\r\nalive\r\n")
    assert.equal(0, console:finish())
  end)

  it("interrupts what runs, or is suspended, at Ctrl-C", function()
    local console = open()
    console:type "print 'now' while true do pcall(function() while true do end end) end\r"
    console:see "\r\nnow\r\n$"
    console:type "\3"
    console:see "\r\ninterrupted\r\nstack traceback:\r\n.*eval:1: in .*> $"
    console:type "print 'now' local up <close> = setmetatable({}, {__close = print}) lunad.sleep(60)\r"
    console:see "\r\nnow\r\n$"
    console:type "\3"
    console:see "\r\ninterrupted in sleep at eval:1\r\n> $"
    console:run("#lunad.stats().tasks, 'left'", "\r\n0\tleft\r\n")
    assert.equal(0, console:finish())
  end)

  it("lets its loop go on, whose output leaves what is typed whole", function()
    local console = open()
    console:run("function tick() if go then go = nil print 'tick' io.write 'half\\n' end end", "\r\n")
    console:run("t = lunad.every(0.05, tick)", "\r\n")
    console:type "go = true print 'set'\r"
    console:see "\r\nset\r\n.*\r\27%[Jtick\r\n.*half\r\n> $" -- one piece of output, or two
    console:run("lunad.after(0.3, print, 'late') x = 5", "\r\n")
    console:type "return x, 'typed "
    console:see "late\r\n> return x, 'typed $"
    console:run("here'", "\r\n5\ttyped here\r\n")
    console:run("t:stop()", "\r\n")
    console:run("lunad.log.info 'to the log'", "to the log\r\n.*")
    assert.equal(0, console:finish())
  end)

  it("ends with its loop, and that with it", function()
    local console = open()
    console:run("lunad.on_stop(function() io.write 'told\\n' end)", "\r\n")
    console:run("lunad.name, lunad.mode", "\r\nrepl\tforeground\r\n")
    assert.matches("no daemon is running", box:ok "list")
    console:type "\4"
    console:see "told\r\nstatus 0\r\n"
    console = open()
    console:type "os.exit(5)\r"
    console:see "status 5\r\n"
    console = open()
    console:run("lunad.pid", "\r\n%d+\r\n")
    console.process.stdin:shutdown(function() console.process.stdin:close() end) -- the terminal goes
    box:await(console.process, "the end of the terminal", console.process.is_over)
    box:wait_all_gone()
  end)

  it("completes globals, fields and methods, and calls nothing of the script for it", function()
    box:serve [[
      called = false
      local function trap() called = true return {} end
      local meta = { __index = trap, __pairs = trap, __len = trap }
      app = setmetatable({ first = 1, furtive = 2, log = {} }, meta)
      object = setmetatable({}, { __index = { method = print, member = 1 } })
    ]]
    local console = open "s"
    console:type "app.fir\t"
    console:see "app.fir[^\n]*st$"
    console:run(", 'x'", "\r\n1\tx\r\n")
    console:type "=app.f\t"
    console:see "app.f\r\nfirst +furtive *\r\n.*=app.f$"
    console:type "\3"
    console:see "> $"
    console:type "object:m\t"
    console:see "object:m[^\n]*ethod$"
    console:type "\3"
    console:see "> $"
    console:type "x = ('x'):up\t"
    console:see "up[^\n]*per$"
    console:type "\3"
    console:see "> $"
    console:type "luna\t.aft\t"
    console:see "luna[^\n]*d[^\n]*aft[^\n]*er$"
    console:type "\3"
    console:see "> $"
    console:type "app.none.\t\t1"
    console:see "app%.none%.[^\n]*1$"
    console:type "\3"
    console:see "> $"
    console:run("called", "\r\nfalse\r\n")
    assert.equal(0, console:finish())
  end)

  it("is in the live script, and stays when that is started again", function()
    box:serve "n = 1"
    local console = open "s"
    console:run("n, lunad.name", "\r\n1\ts\r\n")
    console:run("n = 7 print 'for you'", "\r\nfor you\r\n")
    assert.equal("7\n", box:ok("eval", "s", "n"))
    assert.is_nil(box:log("s"):find("for you", 1, true))
    box:ok("stop", "s")
    console:run("n", "\r\nlunad: s: not running [^\n]+\n")
    box:serve "n = 2"
    console:run("n", "\r\n2\r\n")
    assert.equal(0, console:finish())
  end)

  it("keeps its history in a file of this user alone", function()
    local console = open()
    console:run("'remembered'", "\r\nremembered\r\n")
    assert.equal(0, console:finish())
    assert.equal("'remembered'\n", box:read "state/repl_history")
    assert.equal(tonumber("100600", 8), uv.fs_stat(box:path "state/repl_history").mode)
    console = open()
    console:type "\27[A\r"
    console:see "\r\nremembered\r\n> $"
    assert.equal(0, console:finish())
    assert(uv.fs_rename(box:path "state/repl_history", box:path "target"))
    assert(uv.fs_symlink(box:path "target", box:path "state/repl_history"))
    local env = { LUNAD = support.binary }
    local process = box:spawn({ "sh", "-c", '"$LUNAD" repl' },
      { program = TERMINAL, env = env, keep_stdin = true })
    box:await(process, "a message", function()
      return process.out():find "no history is kept: [^\n]*repl_history: it is a symbolic link\r\n.*\r\n> $"
    end)
    process.stdin:write "'lost'\r\4"
    box:await(process, "its end", process.is_over)
    assert.equal("'remembered'\n", box:read "target")
  end)
end)

describe("lunad repl without a terminal", function()
  local box = support.with_box(before_each, after_each)

  local function run(input, ...)
    return box:run({ "repl", ... }, { input = input })
  end

  it("runs the lines of stdin, and fails if one of them does", function()
    local result = run "1 + 1\nfor i = 1, 2 do\n  print(i)\nend\n\n= lunad.name\nlunad.sleep(0.01) return 'x'"
    assert.same({ code = 0, signal = 0, out = "2\n1\n2\nrepl\nx\n", err = "" }, result)
    result = run "error 'no'\n2\n"
    assert.equal(1, result.code)
    assert.equal("2\n", result.out)
    assert.matches("^lunad: eval:1: no\nstack traceback:\n", result.err)
    result = run "1\nif x then\n"
    assert.equal(1, result.code)
    assert.equal("1\n", result.out)
    assert.matches("^lunad: eval:1: .*near <eof>\n$", result.err)
    assert.equal(0, run("").code)
  end)

  it("ends with the status of its loop, and shows what that prints", function()
    assert.equal(3, run("os.exit(3)\n1\n").code)
    assert.equal(4, run("lunad.stop(4)\n").code)
    assert.equal(137, run("lunad.kill(lunad.pid, 'KILL') lunad.sleep(10)\n").code)
    local result = run [[lunad.sleep(0.01) io.write 'out' io.stderr:write 'err']]
    assert.same({ code = 0, signal = 0, out = "out", err = "err" }, result)
  end)

  it("runs in a daemon, or says that there is none", function()
    box:serve "n = 3"
    assert.equal("3\n", run("n\n", "s").out)
    assert.equal("3\n", run("n\n", "s.lua").out)
    box:ok("stop", "s")
    local result = run("n\n", "s")
    assert.equal(3, result.code)
    assert.matches("^lunad: s: not running ", result.err)
    assert.equal(2, run("", "a", "b").code)
    assert.equal(2, run("", "--json").code)
  end)
end)

describe("An interactive eval", function()
  local box = support.with_box(before_each, after_each)

  local function ask(chunk)
    local client = box:connect "s"
    client:send(json.encode { verb = "eval", chunk = chunk, interactive = true, timeout = 60 } .. "\n")
    return client
  end

  local function wait_suspended()
    support.wait_for("a suspended eval", function() return #box:status("s").tasks == 1 end)
  end

  it("is interrupted when its client says that it sends nothing more", function()
    box:serve "n = 1"
    local client = ask "lunad.sleep(60)"
    wait_suspended()
    client:shutdown()
    assert.same({ ok = false, error = "interrupted in sleep at eval:1", output = "" }, client:answer())
    client = ask "while true do end"
    client:shutdown()
    assert.matches("^interrupted", client:answer().error)
    client = ask "local line = ('x'):rep(1000) for i = 1, 1000 do print(line) end lunad.sleep(60)"
    wait_suspended()
    client:shutdown() -- its answer does not fit into the socket
    local answer = client:answer()
    assert.matches("^interrupted", answer.error)
    assert.equal(1001000, #answer.output)
    assert.equal("1\n", box:ok("eval", "s", "n"))
    assert.equal(0, box:status("s").errors.count)
  end)

  it("goes on when its client leaves", function()
    box:serve "n = 1"
    local client = ask "repeat lunad.sleep(0.01) until go lunad.log.info 'went on'"
    wait_suspended()
    client:close()
    box:ok("eval", "s", "go = true")
    box:wait_log("s", "s: went on")
  end)
end)

local support = require "support"

local uv = support.uv

describe("a daemon that does not answer", function()
  local box = support.with_box(before_each, after_each)

  -- The result of a command, and the seconds it took.
  local function timed(...)
    local begun = uv.hrtime()
    local result = box:lunad(...)
    return result, (uv.hrtime() - begun) / 1e9
  end

  -- Commands that need an answer, with their exit status and how long they may take.
  local function each_verb(check)
    check(1, "reload", "s")
    check(1, "reopen", "s")
    check(0, "status", "s")
    check(0, "status", "--json", "s")
    check(0, "list")
  end

  it("because it is stopped is reported so at once, by every verb", function()
    local pid = box:serve ""
    support.kill(pid, "sigstop")
    each_verb(function(code, ...)
      local result, seconds = timed(...)
      local told = table.concat({ ..., result.out, result.err }, " ")
      assert.equal(code, result.code, told)
      assert.matches("stopped by a signal", result.out .. result.err)
      assert.is_true(seconds < 10, told)
    end)
    assert.matches("^s: running, pid " .. pid .. ", but it does not answer", box:ok("status", "s"))
    assert.is_true(support.is_alive(pid))
    box:ok("signal", "s", "CONT")
    assert.is_nil(box:status("s").error)
  end)

  it("because it is stopped is reported in all lines of a list, without waiting for each", function()
    local pids = {}
    for i = 1, 8 do
      pids[i] = box:start("-n", "d" .. i, box:idle("d"))
      support.kill(pids[i], "sigstop")
    end
    local result, seconds = timed "list"
    assert.equal(0, result.code)
    assert.equal(8, select(2, result.out:gsub("stopped by a signal", "")))
    assert.is_true(seconds < 12, seconds .. " s")
    for i = 1, 8 do support.kill(pids[i], "sigcont") end
  end)

  it("because it is stopped does not delay the search for a script's path", function()
    local pid = box:start("-n", "a", box:idle "a")
    local path = box:idle "b"
    box:start("-n", "z", path)
    support.kill(pid, "sigstop")
    assert.matches("^z: running", box:ok("status", path))
    support.kill(pid, "sigcont")
  end)

  local BUSY = {
    ["computes"] = "while not io.open(lunad.script .. '.go') do end",
    ["waits in a blocking call"] =
      "os.execute('while ! [ -e ' .. lunad.script .. '.go ]; do sleep 0.1; done')",
  }
  for what, text in pairs(BUSY) do
    it("because it " .. what .. " is reported so when --timeout is over", function()
      local pid = box:serve(("lunad.after(0, function() print 'busy' %s end)"):format(text))
      box:wait_log("s", "s: busy")
      for _, verb in ipairs { "reload", "reopen" } do
        local result, seconds = timed(verb, "--timeout", "0.2", "s")
        assert.equal(1, result.code)
        assert.matches("^lunad: s: .*busy in /.*/s.lua:1 for %d", result.err)
        assert.is_true(seconds < 5)
      end
      local result = timed("status", "s")
      assert.equal(0, result.code)
      assert.matches("^s: running, pid " .. pid .. ", but busy in /.*/s.lua:1 for %d", result.out)
      box:write("s.lua.go", "")
      support.wait_for("its end", function() return box:status("s").error == nil end)
    end)
  end

  it("in time, but later, is waited for until its own limit", function()
    box:serve([[
      lunad.on_reload(function() lunad.sleep(0.5) end)
      if lunad.generation > 1 then lunad.sleep(0.5) lunad.ready() else lunad.ready() end
    ]], "--wait-ready", "--start-timeout", "1")
    assert.equal(0, box:lunad("reload", "s").code)
  end)

  it("a reload within --timeout may still do it, and has not refused it", function()
    box:serve "lunad.on_reload(function() lunad.sleep(1) end)"
    local result = box:lunad("reload", "--timeout", "0.1", "s")
    assert.equal(1, result.code)
    assert.matches("^lunad: s: not reloaded yet: it does not answer %(waited 0%.1 s%)", result.err)
    box:wait_log("s", "reloaded: generation 2")
    box:ok("reload", "--timeout", "30", "s")
  end)

  it("is a usage error for a bad --timeout", function()
    for _, verb in ipairs { "reload", "reopen" } do
      for _, value in ipairs { "soon", "-1", "" } do
        assert.matches("%-%-timeout", box:refused(2, verb, "--timeout", value, "s"))
      end
    end
  end)

  -- Put a server of our own in the place of its control socket; returns what closes it.
  local function pretend(on_client)
    local path = box:path "run/s.sock"
    assert(os.remove(path))
    local server, clients = uv.new_pipe(), {}
    assert(server:bind(path))
    server:listen(16, function()
      local client = uv.new_pipe()
      clients[#clients + 1] = client
      server:accept(client)
      client:read_start(function() end)
      on_client(client)
    end)
    return function()
      server:close()
      for _, client in ipairs(clients) do
        if not client:is_closing() then client:close() end
      end
      uv.run "nowait"
      os.remove(path)
    end
  end

  local STRANGERS = {
    ["sends nothing"] = function() end,
    ["sends without end"] = function(client)
      local function speak()
        client:write(("x"):rep(100000), function(err)
          if not err and not client:is_closing() then speak() end
        end)
      end
      speak()
    end,
    ["closes the connection"] = function(client) client:close() end,
    ["sends what is not JSON"] = function(client) client:write "hello\n" end,
    ["sends what is not an object"] = function(client) client:write "[1]\n[2]\n" end,
    ["sends half a line"] = function(client) client:write '{"ok": tr' end,
  }
  for what, on_client in pairs(STRANGERS) do
    it("because its socket is another server's, which " .. what, function()
      local pid = box:serve ""
      support.kill(pid, "sigstop") -- or it would make its socket again
      local close = pretend(on_client)
      for _, words in ipairs {
        { 0, "status", "s" }, { 1, "reload", "--timeout", "0.3", "s" },
      } do
        local code = table.remove(words, 1)
        local process = box:spawn(words)
        box:await(process, "the end of " .. words[1], process.is_over, 15)
        assert.equal(code, process.code, process.err())
        assert.equal(0, process.signal)
      end
      close()
      support.kill(pid)
      support.kill(pid, "sigcont")
      box:wait_gone(pid)
    end)
  end
end)

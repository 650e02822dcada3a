-- What a rollback gives back to good code, and what is in force while the disk has other code.

local support = require "support"

-- Good code: a kept child that repeats what it is told, and a listening socket.
local GOOD = [[
  local uv = require "luv"
  local path = lunad.script:gsub("s%.lua$", "s.sock")
  local server = uv.new_pipe()
  server:open(assert(lunad.listen("unix:" .. path)))
  server:listen(9, function()
    local client = uv.new_pipe()
    server:accept(client)
    client:write("good", function() client:close() end)
  end)
  local said = lunad.by_line(function(line) lunad.log.info("child said " .. line) end)
  local child = lunad.spawn { "cat", name = "cat", keep = true, stdin = "pipe", stdout = said }
  child:write("part" .. lunad.generation)
  lunad.on_reload(function() child:write " of" child:flush() return 1 end)
  if lunad.generation > 1 then child:write " a line\n" end
  lunad.log.info(("good generation=%d child=%d %s"):format(lunad.generation, child.pid,
    child.adopted and "adopted" or "new"))
]]

describe("a rollback", function()
  local box = support.with_box(before_each, after_each)

  local function begin(text)
    box:write("s.lua", support.BEAT .. text)
    local waiting = box:spawn { "reload", "--probation", "30", "s" }
    return waiting
  end

  it("gives kept children and listening sockets back that the failed code did not ask for", function()
    box:serve(GOOD)
    local pid = math.tointeger(tonumber(box:wait_log("s", "good generation=1 child=(%d+) new")))
    local waiting = begin [[
      lunad.spawn { "cat", "-u", name = "cat", keep = true, stdin = "pipe" }
      lunad.signal("USR2", function() error "told to fail" end)
    ]]
    box:wait_log("s", "generation 2 is on probation")
    local report = box:status "s"
    assert.same({ 1, true }, { #report.listeners, report.listeners[1].held })
    local states = {}
    for _, child in ipairs(report.children) do
      states[child.pid == pid and "old" or "new"] = child.state
    end
    assert.same({ old = "held", new = "running" }, states)
    assert.matches("\n  listener  unix:[^\n]+, held\n", box:ok("status", "s") .. "\n")
    -- A client waits in the queue of the socket, and is served when the good code is back.
    local client, answer = support.uv.new_pipe(), nil
    client:connect(box:path "s.sock", function(err)
      assert(not err, err)
      client:read_start(function(_, chunk) answer = answer or chunk end)
    end)
    box:ok("signal", "s", "USR2")
    box:await(waiting, "the verdict", waiting.is_over)
    assert.matches("generation 3 has the code of generation 1: .*told to fail", waiting.err())
    support.wait_for("the answer", function() support.uv.run "nowait" return answer end)
    assert.equal("good", answer)
    client:close()
    box:wait_log("s", ("good generation=3 child=%d adopted"):format(pid))
    box:wait_log("s", "child said part1 ofpart3 a line\n") -- one line, by three generations
    support.wait_for("the end of the other child", function() return #box:status("s").children == 1 end)
    report = box:status "s"
    assert.same({ pid, "running", false },
      { report.children[1].pid, report.children[1].state, report.listeners[1].held })
  end)

  it("leaves what was held to its end when the new code passes, or the daemon stops", function()
    box:serve(GOOD)
    local pid = math.tointeger(tonumber(box:wait_log("s", "child=(%d+) new")))
    box:write("s.lua", support.BEAT)
    box:ok("reload", "--probation", "0.2", "s")
    box:wait_gone(pid)
    assert.same({}, box:status("s").listeners)
    assert.is_nil(support.uv.fs_stat(box:path "s.sock"))
    box:write("s.lua", support.BEAT .. GOOD)
    box:ok("reload", "s")
    pid = math.tointeger(tonumber(box:wait_log("s", "generation=3 child=(%d+) new")))
    local waiting = begin ""
    box:wait_log("s", "generation 4 is on probation")
    box:ok("stop", "s")
    box:wait_gone(pid)
    box:await(waiting, "the answer", waiting.is_over)
  end)

  it("refuses no client, under load", function()
    local good = [[
      local http = require "lunad.http"
      local count = lunad.state or 0
      http.serve("unix:" .. lunad.script:gsub("s%.lua$", "s.sock"), function()
        count = count + 1
        FAILS
        return 200, tostring(count)
      end)
      lunad.on_reload(function() return count end)
    ]]
    box:serve((good:gsub("FAILS", "")))
    local served, last = 0, 0
    -- One request on a connection of its own; it must be answered.
    local function ask()
      local client, answer, ended = support.uv.new_pipe(), "", false
      client:connect(box:path "s.sock", function(err)
        assert(not err, err)
        client:write "GET / HTTP/1.0\r\n\r\n"
        client:read_start(function(_, chunk)
          answer, ended = answer .. (chunk or ""), not chunk
        end)
      end)
      support.wait_for("an answer", function() support.uv.run "nowait" return ended end)
      client:close()
      assert.matches("^HTTP/1.%d 200 .*\r\n\r\n%d+$", answer)
      local count = tonumber(answer:match "%d+$")
      assert.is_true(count > last) -- no state is lost
      served, last = served + 1, count
    end
    for version = 1, 10 do
      local waiting = begin((good:gsub("FAILS", "lunad.after(0, error, 'broken')")))
      repeat
        ask()
        waiting.turn()
      until waiting.is_over()
      assert.matches(("generation %d has the code of generation"):format(2 * version + 1), waiting.err())
    end
    assert.is_true(served >= 10)
    assert.equal(10, box:status("s").code.rolled_back)
  end)

  it("is not undone by --watch, nor by recycling, and the next change is seen", function()
    box:serve("lunad.log.info('good ' .. lunad.generation)", "--watch", "--recycle-every", "1",
      "--probation", "30")
    box:write("s.lua", support.BEAT .. "lunad.after(0.05, error, 'broken')")
    local generation = tonumber(box:wait_log("s", "rolled back after [^\n]*: generation (%d+) has the code"))
    box:wait_log("s",
      ("recycling:.*good %d\n.*recycling:.*good %d\n"):format(generation + 1, generation + 2))
    local _, rollbacks = box:log("s"):gsub("rolled back after", "")
    assert.equal(1, rollbacks)
    assert.is_true(box:status("s").code.from_memory)
    box:write("s.lua", support.BEAT .. "lunad.log.info 'mended'")
    box:wait_log("s", "mended")
    box:wait_log("s", "mended.*mended") -- recycled, from disk now
  end)

  it("by a restart: code that kills the process is followed by the code in force", function()
    box:write("part.lua", "return 'one'")
    local good = "lunad.log.info('good ' .. require 'part') lunad.log.info('up')"
    box:serve(good, "--restart", "on-failure")
    local function dies(text, ...)
      local _, ups = box:log("s"):gsub("up\n", "")
      box:write("s.lua", support.BEAT .. text)
      assert.matches("it ended before it had answered", box:refused(1, "reload", "s", ...))
      support.wait_for("the next start", function()
        return select(2, box:log("s"):gsub("good one\n[^\n]*up\n", "")) > ups
      end)
    end
    box:write("part.lua", "return 'two'")
    dies("lunad.after(0.01, function() lunad.kill(lunad.pid, 'KILL') end)", "--probation", "30")
    assert.matches("code in force is loaded from memory", box:log "s")
    local code = box:status("s").code
    assert.same({ true, true }, { code.from_memory, code.disk_differs })
    dies "lunad.kill(lunad.pid, 'KILL')" -- while it is loaded
    box:write("s.lua", support.BEAT .. good)
    box:write("part.lua", "return 'three'")
    support.wait_for("a reload", function() return box:lunad("reload", "s").code == 0 end)
    box:wait_log("s", "good three\n")
    local pid = box:status("s").pid
    support.kill(pid, "sigkill")
    box:wait_log("s", "good three\n.*good three\n")
  end)

  it("by a restart, when the keeper has not read for a while what it was told", function()
    local pid = box:serve("print 'good'", "--restart", "on-failure")
    local keeper = support.parent_of(pid)
    support.kill(keeper, "sigstop")
    box:write("s.lua", support.BEAT .. "print('good', lunad.generation) lunad.every(9, print)")
    local client = box:connect "s"
    for _ = 1, 1000 do -- each tells it twice
      if box:log("s"):find "the keeper cannot be told yet what is in force" then break end
      client:send '{"verb": "reload"}\n'
      assert.is_true(client:answer().ok)
    end
    client:close()
    box:write("s.lua", support.BEAT .. "error 'bad'")
    box:refused(1, "reload", "s")
    box:wait_log("s", "the keeper cannot be told yet what is in force: Resource temporarily unavailable")
    support.kill(keeper, "sigcont")
    box:wait_log("s", "the keeper knows now what is in force")
    local since = #box:log "s"
    support.kill(pid, "sigkill")
    support.wait_for("the good code", function()
      return box:log("s"):find("code in force is loaded from memory.*good\t1", since)
    end)
  end)
end)

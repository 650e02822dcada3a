local support = require "support"

local uv = support.uv

-- A service that counts how often it was begun, and hands that on in all ways.
local COUNTER = [[
  local lunad = require "lunad"
  local state = lunad.state or { begun = 0 }
  local sessions = lunad.keep("sessions", {})
  local hits = lunad.metrics.counter("hits", "Hits.")
  state.begun, state.me = state.begun + 1, state
  sessions[#sessions + 1] = state.begun
  hits:inc()
  lunad.every(60, print)
  lunad.on_reload(function() return state end)
  lunad.on_stop(function() state.stops, sessions.stopped = (state.stops or 0) + 1, true end)
  function _G.report()
    return ("begun %d, stops %s, sessions %d, stopped %s, shared %s"):format(state.begun, state.stops,
      #sessions, sessions.stopped, state.me == state)
  end
]]

describe("--state", function()
  local box = support.with_box(before_each, after_each)

  -- Start a script, the counter by default, with its state in data/s.state.
  local function start(text, ...)
    local words = { "--state", box:path "data/s.state", ... }
    words[#words + 1] = box:write("s.lua", text or COUNTER)
    return box:start(table.unpack(words))
  end

  local function file()
    return box:read "data/s.state"
  end

  -- What an expression is in the service.
  local function ask(expression)
    return (box:ok("eval", "s", expression):gsub("\n$", ""))
  end

  -- Wait until the state was saved another time; the report on that.
  local function wait_saved(name, since)
    return support.wait_for("the state to be saved", function()
      local saved = box:status(name or "s").state_file
      return saved.time and (saved.time > (since or 0)) and not saved.error and saved
    end)
  end

  local function kill(pid)
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
  end

  -- Wait until the keeper has started a second host.
  local function wait_next(pid, keeper)
    support.wait_for("the next host", function()
      local next = math.tointeger(tonumber(box:read "run/s.pid" or ""))
      local _, starts = box:log("s"):gsub("lunad: started", "")
      return next and next ~= pid and next ~= keeper and starts == 2
    end)
  end

  it("hands what is there at the end of a stop to the next start", function()
    start()
    local status = box:status "s"
    assert.same({ box:path "data/s.state", nil, nil }, { status.state_file.file, status.state_file.size,
      status.state_file.time })
    assert.truthy(box:ok("status", "s"):find("data/s.state, not saved yet\n", 1, true))
    assert.equal("true", ask "lunad.keep('late', { n = 7 }).n == 7")
    box:ok("stop", "s")
    local facts = assert(uv.fs_stat(box:path "data/s.state"))
    assert.equal("600", ("%o"):format(facts.mode & 0xFFF))
    assert.equal("700", ("%o"):format(uv.fs_stat(box:path "data").mode & 0xFFF))
    box:wait_log("s", "state saved: " .. facts.size .. " bytes in [%d.]+ ms\n.*lunad: stopped")
    start()
    assert.equal("begun 2, stops 1, sessions 2, stopped true, shared true", ask "report()")
    assert.truthy(box:ok("metrics", "s"):find("\nhits_total%b{} 2\n"))
    box:wait_log("s", "state of [%d.]+ s ago: " .. facts.size .. " bytes\n")
    box:ok("restart", "s") -- before anything has asked for "late"
    assert.equal("begun 3, stops 2, sessions 3, stopped true, shared true", ask "report()")
    assert.equal("7", ask "lunad.keep('late').n")
    assert.is_nil(uv.fs_stat(box:path "data/s.state.lunad-draft"))
  end)

  it("saves at an interval, for the host that follows a crash", function()
    local pid = start(nil, "--state-every", "0.05", "--restart", "always")
    local keeper = support.parent_of(pid)
    local saved = wait_saved()
    assert.equal(#file(), saved.size)
    ask "(function() lunad.keep('sessions')[2] = 'more' end)()"
    wait_saved("s", wait_saved("s", box:status("s").state_file.time).time) -- one that began after it
    assert.truthy(box:ok("status", "s"):find("data/s.state, 1 KiB, saved [%d.]+s ago\n"))
    kill(pid)
    wait_next(pid, keeper)
    assert.equal("begun 2, stops nil, sessions 3, stopped nil, shared true", ask "report()")
  end)

  it("saves nothing of code that is on probation", function()
    local pid = start(nil, "--state-every", "0.05", "--restart", "always", "--probation", "60")
    local keeper = support.parent_of(pid)
    wait_saved()
    box:write("s.lua", COUNTER .. "state.begun = 1000")
    box:ok("signal", "s", "HUP")
    box:wait_log("s", "generation 2 is on probation")
    box:write("s.lua", COUNTER .. "state.begun = 2000")
    box:ok("signal", "s", "HUP")
    box:wait_log("s", "generation 3 is on probation")
    ask "lunad.sleep(0.3)" -- many intervals
    box:write("s.lua", COUNTER)
    kill(pid)
    wait_next(pid, keeper)
    assert.equal("begun 2, stops nil, sessions 2, stopped nil, shared true", ask "report()")
  end)

  it("leaves a file as it is when nothing has changed", function()
    start(nil, "--state-every", "0.05")
    wait_saved()
    local facts = uv.fs_stat(box:path "data/s.state")
    wait_saved("s", wait_saved("s", wait_saved().time).time)
    assert.equal(facts.ino, uv.fs_stat(box:path "data/s.state").ino)
  end)

  it("saves at each reload, and not when one is only tried or refused", function()
    local pid = start()
    box:ok("reload", "--check", "s")
    box:write("s.lua", "error 'no'")
    box:refused(1, "reload", "s")
    assert.is_nil(box:status("s").state_file.time)
    box:write("s.lua", COUNTER)
    box:ok("reload", "s")
    local saved = wait_saved()
    assert.is_true(saved.ms >= saved.held_ms and saved.held_ms > 0)
    kill(pid)
    start()
    assert.equal("begun 2, stops nil, sessions 2, stopped nil, shared true", ask "report()")
  end)

  it("names what cannot be saved, once, and keeps what it has", function()
    start()
    box:ok("stop", "s")
    local before = file()
    start([[
      local lunad = require "lunad"
      local state = lunad.state
      state.conn = { socket = io.stdout }
      lunad.every(60, print)
      lunad.on_reload(function() if fails then error("no state today", 0) end return state end)
    ]], "--state-every", "0.05")
    local socket = "state.conn.socket is a userdata, and only plain data can be handed on"
    box:wait_log("s", "error lunad: the state is not saved: " .. support.pattern(socket))
    assert.equal(socket, box:status("s").state_file.error)
    assert.truthy(box:ok("status", "s"):find("s ago; " .. socket, 1, true))
    ask "(function() _G.fails = true end)()"
    box:wait_log("s", "error lunad: the state is not saved: its on_reload function failed: no state today\n")
    assert.equal(0, box:status("s").errors.count)
    box:ok("stop", "s")
    assert.equal(1, select(2, box:log("s"):gsub(support.pattern(socket), "")))
    assert.equal(before, file())
  end)

  it("does not wait for it when the script ends by os.exit, and says so", function()
    start()
    box:ok("stop", "s")
    local before = file()
    local pid = start()
    box:lunad("eval", "s", "os.exit(0)")
    box:wait_gone(pid)
    box:wait_log("s", "the state is not saved: this end does not wait for it\n")
    assert.equal(before, file())
  end)

  it("gives an on_reload function no longer than the stop may take", function()
    start([[
      local lunad = require "lunad"
      lunad.every(60, print)
      lunad.on_reload(function() lunad.sleep(60) end)
      lunad.on_stop(function() print "on_stop" end)
    ]], "--stop-timeout", "0.3")
    box:ok("stop", "s")
    box:wait_log("s", "the state is not saved: its on_reload function took longer than the stop may\n")
    assert.truthy(box:log("s"):find("s: on_stop\n", 1, true))
    assert.is_nil(file())
  end)

  it("keeps a damaged file under another name, and starts without it", function()
    start()
    box:ok("stop", "s")
    for i = 1, 2 do
      local torn = i == 1 and file():sub(1, -2) or ""
      box:write("data/s.state", torn)
      local restart = i == 1 and "always" or "no"
      local result = box:lunad("start", "--state", "data/s.state", "--restart", restart, "s.lua")
      assert.equal("begun 1, stops nil, sessions 1, stopped nil, shared true", ask "report()")
      local kept = box:path "data/s.state.damaged." .. i
      local words = ("it is damaged: it is %s; it is kept as %s, and this start has no state"):format(
        i == 1 and "cut off" or "empty", kept)
      assert.equal(0, result.code)
      assert.truthy(result.err:find("lunad: s: " .. box:path "data/s.state: " .. words, 1, true), result.err)
      assert.truthy(box:status("s").state_file.error:find(words, 1, true))
      assert.equal(torn, support.read(kept))
      box:ok("stop", "s")
    end
  end)

  it("refuses a file of others, and leaves it as it is", function()
    local zeros = ("0"):rep(16)
    local other = ("lunad-state 1 t %s %s %s %s cbf29ce484222325\n"):format(zeros:sub(4), zeros, zeros, zeros)
    uv.fs_mkdir(box:path "data", tonumber("700", 8))
    for text, words in pairs {
      ["root:x:0:0:\n"] = "it is not a state file of lunad: it is left as it is",
      [other] = 'it is the state of "t", not of "s": give another file',
    } do
      box:write("data/s.state", text)
      uv.fs_chmod(box:path "data/s.state", tonumber("600", 8))
      local err = box:refused(1, "start", "--state", "data/s.state", box:write("s.lua", COUNTER))
      assert.truthy(err:find("lunad: --state: " .. box:path "data/s.state: " .. words, 1, true), err)
      assert.equal(text, file())
    end
    box:refused(2, "start", "--state", "data/s.state", "-") -- which has no name
    box:refused(2, "start", "--state", "data/s.state.lunad-draft", "s.lua")
    uv.fs_chmod(box:path "data/s.state", tonumber("666", 8))
    local err = box:refused(1, "start", "--state", "data/s.state", "s.lua")
    assert.truthy(err:find("others may write it", 1, true), err)
  end)

  it("has a file for each worker, which one host without workers takes up", function()
    start(nil, "--workers", "3")
    box:ok("eval", "s-2", "(function() lunad.keep('sessions')[2] = 'second' end)()")
    box:ok("stop", "s")
    start(nil, "--workers", "2")
    local report = "begun 2, stops 1, sessions %d, stopped true, shared true\n"
    assert.equal(report:format(2), box:ok("eval", "s-1", "report()"))
    assert.equal(report:format(3), box:ok("eval", "s-2", "report()"))
    box:ok("stop", "s")
    assert.truthy(box:read "data/s.state.3")
    start()
    assert.equal("begun 3, stops 2, sessions 3, stopped true, shared true", ask "report()")
  end)

  it("touches the file only with the rights of the script", function()
    if not support.is_root then return pending("needs root") end
    uv.fs_mkdir(box:path "data", tonumber("755", 8))
    box:write("s.lua", COUNTER)
    local words = { "start", "--user", "nobody", "--state", box:path "data/s.state", box:path "s.lua" }
    local err = box:refused(1, table.unpack(words))
    assert.truthy(err:find("a new file cannot be made beside it: Permission denied", 1, true), err)
    uv.fs_chown(box:path "data", 65534, 65534)
    box:ok(table.unpack(words))
    box:ok("stop", "s")
    assert.equal(65534, uv.fs_stat(box:path "data/s.state").uid)
    box:ok(table.unpack(words))
    assert.equal("begun 2, stops 1, sessions 2, stopped true, shared true", ask "report()")
    box:ok("stop", "s")
    err = box:refused(1, "start", "--state", box:path "data/s.state", box:path "s.lua")
    assert.truthy(err:find("it belongs to another user (uid 65534)", 1, true), err)
  end)

  it("keeps the file when the disk is full, and goes on when it is not any more", function()
    if not support.is_root then return pending("needs root") end
    box:write("s.lua", COUNTER .. "function _G.fill(n) state.more = ('x'):rep(n) end")
    local result = box:shell([[
      mkdir small && mount -t tmpfs -o size=64k none small || exit 9
      "$1" start --state small/s.state --state-every 0.05 s.lua >&2 || exit 8
      wait_log() { for _ in {1..3000}; do grep -q "$1" log/s.log && return; sleep 0.02; done; exit 7; }
      "$1" reload s >&2
      for _ in {1..3000}; do [ -e small/s.state ] && break; sleep 0.02; done
      "$1" eval s "fill(100000)" >&2
      wait_log "small/s.state: it cannot be written: No space left on device"
      head -c 11 small/s.state && ls small
      "$1" eval s "fill(10)" >&2
      wait_log "the state is saved again"
      "$1" stop s >&2
    ]], {}, { through = { "unshare", "--mount" } })
    if result.code == 9 then return pending("no mount namespace") end
    assert.equal("0 lunad-states.state\n", result.code .. " " .. result.out, result.err)
  end)
end)

-- A child's life: what may happen to it in each of its states, and which callbacks follow.
--
--   running     it runs, and its streams are open
--   streams     it runs, and has closed its streams
--   lingering   it has ended, and a grandchild holds its streams
--   over        reaped, and its streams ended

local support = require "support"

-- For scripts: a child in one of these states, and its callbacks in order.
local STATES = [[
local children = require "children"
local commands = {
  running = "echo up; read word; exit 7",
  streams = "echo up; sleep 0.02; exec <&- >&- 2>&-; sleep 1000 & wait",
  lingering = "echo up; sleep 1000 & exit 7",
  over = "echo up; exit 7",
}
local function new(state, options)
  local told = { out = "" }
  options = options or {}
  options[1], options[2], options[3], options.stdin = "sh", "-c", commands[state], "pipe"
  function options.stdout(chunk)
    told[#told + 1] = chunk and "out" or "end"
    told.out = told.out .. (chunk or "")
  end
  function options.on_exit(exit)
    told[#told + 1] = "exit"
    told.exit = exit
  end
  local child = truthy(lunad.spawn(options))
  local reached = {
    running = function() return told.out == "up\n" end,
    streams = function() return told[#told] == "end" end,
    lingering = function() return told.out == "up\n" and not child:running() end,
    over = function() return told.exit end,
  }
  eventually(reached[state])
  return child, told
end
local function finish(told, code, signal)
  eventually(function() return told.exit end)
  lunad.sleep(0.005)
  equal("out end exit", table.concat(told, " "))
  equal(code, told.exit.code)
  equal(signal, told.exit.signal)
end
-- Call the function for children in several states at once: fn(state, child, told).
local function each(states, fn, options)
  local tasks = {}
  for state in states:gmatch "%a+" do
    tasks[#tasks + 1] = lunad.task(function()
      local copy = {}
      for key, value in pairs(options or {}) do copy[key] = value end
      fn(state, new(state, copy))
      return true
    end)
  end
  for _, task in ipairs(tasks) do truthy(task:wait()) end
end
]]

local FIRST = 'local lunad, equal, truthy, raises, fails, eventually = require("inside")() '

-- Stop the daemon "s"; fails if a process of it is left.
local function stop_clean(box)
  local pid = box:status("s").pid
  box:ok("stop", "s")
  box:wait_gone(pid)
  assert.same({}, box:marked())
end

describe("In each state of a child", function()
  local box = support.with_box(before_each, after_each)

  it("running() says whether it is reaped, and wait() waits for its end", function()
    box:inside(STATES .. [[
      each("running streams lingering over", function(state, child, told)
        local runs = state == "running" or state == "streams"
        equal(runs, child:running())
        local task = lunad.task(child.wait, child)
        equal(state ~= "over", task:running())
        if runs then child:kill() end
        local exit = task:wait()
        equal(runs and "TERM" or nil, exit.signal)
        finish(told, not runs and 7 or nil, runs and "TERM" or nil)
      end)
    ]])
  end)

  it("a signal ends it if it runs, and reaches no other process", function()
    box:inside(STATES .. [[
      for _, signal in ipairs { "TERM", "KILL", "HUP" } do
        each("running streams", function(_, child, told)
          equal(true, child:kill(signal))
          finish(told, nil, signal)
        end)
      end
      each("lingering over", function(_, child, told)
        fails("ESRCH", child:kill())
        fails("ESRCH", child:kill "KILL")
        finish(told, 7)
      end)
    ]])
  end)

  it("a write is accepted, or fails with EPIPE", function()
    box:inside(STATES .. [[
      each("running", function(_, child, told)
        equal(true, child:write "word\n")
        equal(true, child:flush())
        finish(told, 7)
        fails("EPIPE", child:write "more")
      end)
      each("streams", function(_, child, told)
        fails("EPIPE", child:write "word\n")
        fails("EPIPE", child:flush())
        child:kill()
        finish(told, nil, "TERM")
      end)
      each("lingering over", function(_, child, told)
        fails("EPIPE", child:write "word\n")
        finish(told, 7)
        fails("EPIPE", child:flush())
      end)
    ]])
  end)

  it("close_stdin gives it end of file, or does nothing", function()
    box:inside(STATES .. [[
      each("running streams lingering over", function(state, child, told)
        child:close_stdin()
        child:close_stdin()
        if state == "streams" then child:kill() end
        finish(told, state ~= "streams" and 7 or nil, state == "streams" and "TERM" or nil)
      end)
    ]])
  end)

  it("pause and resume lose nothing, and do not delay the end for ever", function()
    box:inside(STATES .. [[
      each("running streams lingering over", function(state, child, told)
        child:pause()
        if child:running() then child:kill() end
        eventually(function() return not child:running() end)
        child:resume()
        local signal = (state == "running" or state == "streams") and "TERM" or nil
        finish(told, not signal and 7 or nil, signal)
      end)
    ]])
  end)

  it("a timeout ends it if it runs, and is reported", function()
    box:inside(STATES .. [[
      each("running streams", function(_, _, told)
        finish(told, nil, "TERM")
        equal(true, told.exit.timed_out)
      end, { timeout = 0.5 })
      each("lingering", function(_, _, told)
        finish(told, 7)
        equal(false, told.exit.timed_out)
      end, { timeout = 0.7 })
    ]])
  end)

  it("the stop of the host ends it, and what it has left behind", function()
    for _, state in ipairs { "running", "streams", "lingering", "over" } do
      box:inside(STATES .. ("new %q lunad.stop()"):format(state))
      assert.same({}, box:marked())
    end
  end)

  it("os.exit of the script ends it, and what it has left behind", function()
    for _, state in ipairs { "running", "streams", "lingering", "over" } do
      box:inside(STATES .. ("new %q os.exit(0)"):format(state))
      assert.same({}, box:marked())
    end
  end)

  it("the death of the host ends it", function()
    for _, state in ipairs { "running", "streams" } do
      local script = box:write("inside.lua", FIRST .. STATES ..
        ("print((new %q).pid) lunad.sleep(1000)"):format(state))
      local process = box:spawn { "run", "--path", support.root .. "/spec/support", script }
      box:await(process, "the pid", function() return process.out():find "\n" end)
      local pid = math.tointeger(tonumber(process.out():match "%d+"))
      assert.is_true(support.is_alive(pid))
      support.kill(process.pid, "sigkill")
      box:wait_gone(pid)
      box:await(process, "the end of the host", process.is_over)
      box:lunad("stop", "inside")
      for _, left in ipairs(box:marked()) do support.kill(left, "sigkill") end
    end
  end)

  it("a reload ends it, unless it has ended", function()
    for _, state in ipairs { "running", "streams", "lingering", "over" } do
      box:serve("if lunad.generation > 1 then return end " .. FIRST .. STATES .. ("new %q"):format(state),
        "--path", support.root .. "/spec/support")
      assert.equal(0, box:lunad("reload", "s").code)
      support.wait_for("the end of the child", function() return #box:status("s").children == 0 end)
      stop_clean(box)
    end
  end)
end)

describe("A child that", function()
  local box = support.with_box(before_each, after_each)

  it("is killed as soon as it is started has ended by that signal, every time", function()
    box:inside [[
      local left = 200
      for i = 1, left do
        local signal = i % 2 == 0 and "KILL" or "TERM"
        local child = lunad.spawn { "sleep", "1000", on_exit = function(exit)
          equal(signal, exit.signal)
          left = left - 1
        end }
        equal(true, child:kill(signal))
      end
      eventually(function() return left == 0 end)
      equal(0, #lunad.stats().children)
    ]]
  end)

  it("cannot be executed leaves no trace: no callback, no child, no process", function()
    box:inside [[
      local function never() error("called") end
      for _ = 1, 50 do
        fails("ENOENT", lunad.spawn { "/no/such", stdin = "pipe", stdout = never, on_exit = never })
      end
      local ended
      lunad.spawn { "true", on_exit = function() ended = true end }
      eventually(function() return ended end)
      local handle <close> = io.open(("/proc/%d/task/%d/children"):format(lunad.pid, lunad.pid))
      equal("", handle:read "a")
    ]]
  end)

  it("is killed while much waits to be written to it", function()
    box:inside [[
      for _, close in ipairs { true, false } do
        local before = lunad.stats().fds
        local child = lunad.spawn { "sleep", "1000", stdin = "pipe" }
        equal(true, child:write(("x"):rep(5000000)))
        if close then child:close_stdin() end
        local task = lunad.task(function() return child:flush() end)
        equal(true, task:running())
        child:kill()
        equal("TERM", child:wait().signal)
        fails("EPIPE", task:wait())
        eventually(function() return lunad.stats().fds == before end)
      end
    ]]
  end)

  it("gets what was written before its stdin was closed, whole", function()
    box:inside [[
      local size, text = 0, ("x"):rep(3000000)
      local child = lunad.spawn { "sh", "-c", "sleep 0.02; exec cat", stdin = "pipe",
        stdout = function(chunk) size = size + #(chunk or "") end }
      child:write(text)
      child:close_stdin()
      equal(true, child:wait().ok)
      equal(#text, size)
    ]]
  end)

  it("closes its stdin while much is being written keeps running, and the writing ends", function()
    box:inside [[
      local command = "head -c 100000 >/dev/null; exec <&-; sleep 1000"
      local child = lunad.spawn { "sh", "-c", command, stdin = "pipe" }
      child:write(("x"):rep(5000000))
      fails("EPIPE", child:flush())
      equal(true, child:running())
      child:kill()
      equal("TERM", child:wait().signal)
    ]]
  end)

  it("ends while its callback sleeps has all callbacks called, in order", function()
    box:inside [[
      local told = {}
      local child = lunad.spawn { "sh", "-c", "echo one; sleep 0.01; echo two; exit 3",
        stdout = function(chunk)
          lunad.sleep(0.05)
          told[#told + 1] = chunk and chunk:gsub("\n", " ") or "end"
        end,
        on_exit = function(exit) told[#told + 1] = exit.code end }
      equal(3, child:wait().code)
      eventually(function() return told[#told] == 3 end)
      equal("one two end3", table.concat(told))
    ]]
  end)

  it("ignores TERM is killed at the deadline of a stop", function()
    box:serve([[
      lunad.spawn { "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done" }
    ]], "--stop-timeout", "0.3")
    box:wait_log("s", "deaf")
    stop_clean(box)
    assert.matches("killing them", box:log "s")
  end)

  it("was stopped by SIGSTOP still ends at a stop", function()
    box:serve "child = lunad.spawn { 'sleep', '1000' } child:kill('STOP')"
    box:ok("stop", "s")
    assert.not_matches("killing them", box:log "s")
  end)
end)

describe("What children leave behind", function()
  local box = support.with_box(before_each, after_each)

  -- For scripts: the children that the host has according to the kernel, as a list of pids.
  local KERNEL = [[
  local function own_children()
    local list = {}
    local handle <close> = io.open(("/proc/%d/task/%d/children"):format(lunad.pid, lunad.pid))
    for pid in handle:read("a"):gmatch "%d+" do list[#list + 1] = pid end
    return list
  end
  ]]

  it("is adopted by the host, and reaped", function()
    box:inside(KERNEL .. [[
      local out = ""
      local exit = lunad.spawn({ "sh", "-c", "for i in 1 2 3; do (sleep 0.1 & echo $!) ; done",
        stderr = "null", stdout = function(chunk) out = out .. (chunk or "") end }):wait()
      equal(true, exit.ok)
      local pids = {}
      for pid in out:gmatch "%d+" do pids[#pids + 1] = tonumber(pid) end
      equal(3, #pids)
      eventually(function()
        for _, pid in ipairs(pids) do
          if select(3, lunad.kill(pid, 0)) ~= "ESRCH" then return false end
        end
        return true
      end)
      equal(0, #own_children())
    ]])
  end)

  it("is reaped by hundreds, as from something like a fork bomb, while statuses stay true", function()
    box:inside(KERNEL .. [[
      local command = "for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4; do (true &) & done) & done; exit 5"
      local right = 0
      for _ = 1, 8 do
        lunad.spawn { "sh", "-c", command, stdout = "null", stderr = "null",
          on_exit = function(exit) right = right + (exit.code == 5 and 1 or 0) end }
        equal(3, select(3, os.execute "exit 3"))
      end
      eventually(function() return right == 8 and #own_children() == 0 end)
    ]])
  end)

  it("is found and ended at a stop, whatever session and group it has moved to", function()
    box:serve [[
      lunad.spawn { "sh", "-c", "setsid sh -c 'echo one; sleep 1000 & wait' & exit 0" }
      lunad.spawn { "setsid", "sh", "-c", "(setsid sh -c 'echo two; sleep 1000 & wait' &) ; sleep 1000" }
      os.execute "setsid sh -c 'echo three; exec sleep 1000' &"
      lunad.spawn { "sh", "-c", "env -i setsid sh -c 'echo four; exec sleep 1000' &" }
    ]]
    for _, word in ipairs { "one", "two", "three", "four" } do box:wait_log("s", word) end
    local function sleeps()
      return support.processes(function(pid)
        local cwd = support.uv.fs_readlink(("/proc/%d/cwd"):format(pid))
        return cwd == box.dir and support.proc_status(pid).Name == "sleep"
      end)
    end
    stop_clean(box)
    assert.same({}, sleeps())
  end)

  it("is ended by KILL at a stop when it ignores TERM in its own session", function()
    box:write("deaf.sh", "trap '' TERM; echo deaf; while :; do sleep 1; done")
    box:serve(("lunad.spawn { 'sh', '-c', 'setsid sh %s & exit 0' }"):format(box:path "deaf.sh"),
      "--stop-timeout", "0.3")
    box:wait_log("s", "deaf")
    stop_clean(box)
  end)

  it("is left alone if it was detached, with its descendants", function()
    box:serve [[
      local command = "echo pid $$; sleep 1000 & echo pid $!; setsid sleep 1000 & echo pid $!; wait"
      lunad.spawn { "sh", "-c", command, detach = true, stdout = "inherit" }
      lunad.spawn { "sleep", "1000" }
    ]]
    support.wait_for("the pids", function() return select(2, box:log("s"):gsub("pid %d+\n", "")) == 3 end)
    box:ok("stop", "s")
    local pids = {}
    for pid in box:log("s"):gmatch "pid (%d+)\n" do
      pids[#pids + 1] = math.tointeger(tonumber(pid))
      assert.is_true(support.is_alive(pids[#pids]))
    end
    assert.equal(3, #pids)
    support.wait_for("the end of the daemon", function() return #box:marked() == 3 end)
    for _, pid in ipairs(pids) do
      support.kill(pid, "sigkill")
      box:wait_gone(pid)
    end
  end)

  it("detached survives a reload, and a SIGKILL of the host", function()
    local pid = box:serve [[
      if lunad.generation > 1 then return end
      lunad.spawn { "sh", "-c", "echo pid $$; exec sleep 1000", detach = true }
    ]]
    local child = math.tointeger(tonumber((box:wait_log("s", "pid (%d+)\n"))))
    assert.equal(0, box:lunad("reload", "s").code)
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    assert.is_true(support.is_alive(child))
    support.kill(child, "sigkill")
    box:wait_gone(child)
    box:lunad("stop", "s")
  end)
end)

describe("Two thousand children", function()
  local box = support.with_box(before_each, after_each)

  -- For scripts: start N children that live until they are told, and end them; every exit is counted.
  local MANY = [[
  local function many(count)
    local children, exits = {}, 0
    lunad.sleep(0) -- it may take longer than a start
    for i = 1, count do
      children[i] = truthy(lunad.spawn { "sleep", "1000", stdout = "null", stderr = "null",
        on_exit = function(exit) exits = exits + (exit.signal == "KILL" and 1 or 0) end })
    end
    equal(count, lunad.stats().totals.children)
    for _, child in ipairs(children) do equal(true, child:running()) end
    for _, child in ipairs(children) do child:kill "KILL" end
    eventually(function() return exits == count end, 60)
    equal(0, #lunad.stats().children)
  end
  ]]

  it("live at once, and each end is reported", function()
    box:inside(MANY .. "many(2000) lunad.sleep(0) truthy(lunad.stats().fds < 40)",
      { args = { "--rlimit", "nofile=4096" }, seconds = 60 })
  end)

  it("end with the host at a stop", function()
    box:serve([[
      for _ = 1, 300 do lunad.spawn { "sleep", "1000", stdout = "null", stderr = "null" } end
    ]], "--rlimit", "nofile=4096")
    stop_clean(box)
  end)
end)

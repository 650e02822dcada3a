-- A copy of the process that C code of a script makes by fork owns nothing of the host.

local support = require "support"

describe("A copy of the process made by fork", function()
  local box = support.with_box(before_each, after_each)

  before_each(function()
    local line = 'cc -shared -fPIC -O1 $(pkg-config --cflags lua5.4) -o forker.so "$2/spec/fixtures/forker.c"'
    local built = box:shell(line, { support.root })
    assert.equal(0, built.code, built.err)
  end)

  -- What the script has, for the copy to use.
  local OWN = [[
    local uv, forker = require "luv", require "forker"
    local ticks, gets = 0, 0
    lunad.every(0.02, function() ticks = ticks + 1 print("tick", forker.getpid(), ticks) end)
    lunad.task(function() while true do lunad.sleep(0.02) print("task", forker.getpid()) end end)
    local luv_timer = uv.new_timer()
    luv_timer:start(20, 20, function() print("luv", forker.getpid()) end)
    local child = lunad.spawn { "cat", stdin = "pipe", stdout = function(chunk)
      if chunk then print("cat", forker.getpid(), chunk) end
    end }
    lunad.signal("USR1", function() print("signal", forker.getpid()) child:write "meow" end)
    local server = uv.new_tcp()
    server:bind("127.0.0.1", 0)
    server:listen(8, function()
      local peer = uv.new_tcp()
      server:accept(peer)
      peer:write(tostring(forker.getpid()))
      peer:close()
    end)
    local port = server:getsockname().port
    local fd = lunad.listen "127.0.0.1:0"
    uv.fs_stat("/", function() print "stat" end) -- so that libuv has its threads
    lunad.on_stop(function() print("on_stop", forker.getpid()) end)
  ]]

  local ENDS = {
    ["returns from its callback"] = "return",
    ["calls exit"] = "forker.exit(3)",
    ["calls _exit"] = "forker._exit(3)",
    ["calls os.exit"] = "os.exit(3)",
    ["calls os.exit and closes the state"] = "os.exit(3, true)",
    ["calls lunad.stop"] = "lunad.stop(3) return",
    ["fails"] = "error 'words'",
    ["sleeps"] = "lunad.sleep(0.01)",
    ["catches that it cannot sleep"] = "while pcall(lunad.sleep, 0.01) do end return",
    ["kills itself"] = "lunad.kill(forker.getpid(), 'TERM') while true do end",
  }

  -- What the copy does before it ends: all of lunad and luv that could touch the original.
  local TRIES = [[
    local function attempt(fn) return pcall(fn) end
    local function refused(fn)
      local ok, message = pcall(fn)
      if ok or not tostring(message):find("fork", 1, true) then print("not refused", ok, message) end
    end
    refused(function() lunad.after(0, print) end)
    refused(function() lunad.every(1, print) end)
    refused(function() lunad.cron("* * * * *", print) end)
    refused(function() lunad.signal("USR2", print) end)
    refused(function() lunad.task(print) end)
    refused(function() lunad.sleep(1) end)
    refused(function() lunad.spawn { "sleep", "100" } end)
    refused(function() lunad.exec { "true" } end)
    refused(function() lunad.listen "127.0.0.1:0" end)
    refused(function() child:kill "KILL" end)
    refused(function() child:write "from the copy" end)
    refused(function() child:wait() end)
    attempt(function() child:close_stdin() end)
    attempt(function() child:pause() end)
    attempt(function() luv_timer:close() end)
    attempt(function() server:close() end)
    attempt(function() uv.walk(function(h) if not h:is_closing() then h:close() end end) end)
    attempt(function() uv.new_timer():start(0, 1, function() print "luv timer of the copy" end) end)
    attempt(function() uv.fs_stat("/", print) end)
    attempt(function() uv.fs_stat("/") end)
    attempt(function() lunad.reload() end)
    attempt(function() lunad.ready() end)
    attempt(function() lunad.status "of the copy" end)
    attempt(function() lunad.stats() end)
    if not os.execute "true" then print "os.execute fails" end
    local file = io.popen "echo out"
    if file:read "a" ~= "out\n" or not file:close() then print "io.popen fails" end
    collectgarbage() collectgarbage()
    print("copy done", forker.getpid())
  ]]

  -- Check that the daemon works: everything is called, in the one process, and stops.
  local function check(pid, what)
    box:wait_log("s", "copy done")
    local log = box:log("s")
    assert.falsy(log:find("not refused", 1, true), log)
    assert.falsy(log:find("fails\n", 1, true), log)
    local from = #log
    local port = tonumber(log:match "port\t(%d+)")
    support.kill(pid, "sigusr1")
    for _, words in ipairs { "tick", "task", "luv", "signal", "cat" } do
      support.wait_for(words .. " after " .. what, function()
        return box:log("s"):find(words .. "\t" .. pid, from, true)
      end)
    end
    assert.equal(tostring(pid), (require("support.net").ask(port)))
    for words, who in box:log("s"):gmatch "s: (%l+)\t(%d+)" do
      assert.equal(tostring(pid), words ~= "port" and who or tostring(pid), words)
    end
    local status = box:status "s"
    assert.equal(pid, status.pid)
    assert.equal(1, #status.children)
    assert.is_nil(status.text)
    support.wait_for("the end of the copy", function()
      local count = 0
      for _, one in ipairs(box:marked()) do
        local words = support.read(("/proc/%d/cmdline"):format(one)) or ""
        count = count + (words:find "cat" and 0 or 1)
      end
      return count == 1
    end)
    assert.equal(tostring(pid) .. "\n", box:read "run/s.pid")
    assert.equal(4, box:lunad("start", box:path "s.lua").code) -- it holds its lock
    assert.equal(0, box:lunad("reload", "s").code)
    assert.equal(0, box:lunad("stop", "s").code)
    box:wait_gone(pid)
    assert.same({}, box:left_files())
    assert.equal(1, select(2, box:log("s"):gsub("on_stop\t", "")) / 2) -- two generations
  end

  local function script(how, call)
    return OWN .. [[
      print("port", port)
      local function copy()
        if lunad.generation > 1 or forker.fork() ~= 0 then return end
        ]] .. TRIES .. how .. [[
      end
    ]] .. call
  end

  for what, how in pairs(ENDS) do
    it("that " .. what .. " leaves the daemon alone", function()
      check(box:serve(script(how, "lunad.after(0.05, copy)")), what)
    end)
  end

  for _, what in ipairs { "returns from its callback", "calls exit", "fails" } do
    local how = ENDS[what]
    it("that was made while the script is loaded, and " .. what .. ", is not reported as a start", function()
      check(box:serve(script(how, "copy() if lunad.generation == 1 then lunad.sleep(0.1) end lunad.ready()"),
        "--wait-ready"), what)
    end)

    it("that was made by a task, and " .. what .. ", wakes no task", function()
      check(box:serve(script(how, [[
        local task
        lunad.after(0.05, function()
          task = lunad.task(function() lunad.sleep(0.01) copy() return forker.getpid() end)
          print("waiter", task:wait())
        end)
      ]])), what)
    end)

    it("that was made under a keeper, and " .. what .. ", does not end the keeper", function()
      if not support.is_root then return pending("needs root") end
      support.uv.fs_chmod(box.dir, tonumber("755", 8))
      local pid = box:serve(script(how, "copy() lunad.after(0.05, copy)"), "--user", "nobody")
      box:wait_log("s", "copy done.*copy done")
      support.kill(pid, "sigusr1")
      box:wait_log("s", "signal\t" .. pid)
      assert.equal(pid, box:status("s").pid)
      assert.equal(0, box:lunad("reopen", "s").code)
      assert.equal(0, box:lunad("stop", "s").code)
      assert.same({}, box:left_files())
    end)
  end

  local STAYING = [[
    lunad.after(0, function()
      if forker.fork() == 0 then
        print("copy", forker.getpid())
        while true do forker.pause() end
      end
    end)
  ]]

  it("has the default disposition of signals, so that a stop need not wait for it", function()
    local pid = box:serve(OWN .. STAYING, "--stop-timeout", "60")
    box:wait_log("s", "s: copy")
    assert.equal(0, box:run({ "stop", "s" }, { seconds = 10 }).code)
    box:wait_gone(pid)
  end)

  it("does not keep the lock, or a request, of an original that was killed", function()
    local pid = box:serve(OWN .. STAYING)
    local copy = math.tointeger(tonumber((box:wait_log("s", "s: copy\t(%d+)"))))
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    assert.equal(1, box:lunad("status", "s").code)
    local again = box:start(box:path "s.lua")
    assert.equal(again, box:status("s").pid)
    support.kill(copy, "sigkill")
  end)

  it("ends with its own status, which the original can wait for", function()
    box:inside([[
      package.cpath = "./?.so;" .. package.cpath
      local forker = require "forker"
      for _, one in ipairs {
        { 7, function() forker.exit(7) end }, { 8, function() os.exit(8) end }, { 0, function() end },
        { 1, function() os.exit(false) end }, { 0, function() os.exit(true) end },
        { 9, function() lunad.stop(9) end }, { 1, function() error "words" end },
      } do
        local pid = forker.fork()
        if pid == 0 then return one[2]() end
        equal(one[1], forker.wait(pid))
      end
    ]], { errors = true })
  end)

  it("prints to the log where the original prints to the client of an eval", function()
    box:serve "forker = require 'forker'"
    local chunk = "print 'both' if forker.fork() == 0 then print 'copy' else print 'original' end"
    assert.equal("both\noriginal\n", box:ok("eval", "s", chunk))
    box:wait_log("s", "s: copy")
    assert.not_matches("original", box:log "s")
  end)

  it("may come of a finalizer", function()
    local pid = box:serve(OWN .. [[
      setmetatable({}, { __gc = function() forker.fork() print("finalizer", forker.getpid()) end })
      setmetatable({}, { __gc = function() if forker.fork() == 0 then forker.exit() end end })
      collectgarbage()
      FORK = setmetatable({}, { __gc = forker.fork })
    ]])
    box:wait_log("s", "tick\t" .. pid)
    assert.equal(0, box:lunad("reload", "s").code)
    assert.equal(pid, box:status("s").pid)
    assert.equal(0, box:lunad("stop", "s").code)
    box:wait_gone(pid)
    support.wait_for("the end of the copies", function() return #box:marked() == 0 end)
    for who in box:log("s"):gmatch "tick\t(%d+)" do assert.equal(tostring(pid), who) end
  end)
end)

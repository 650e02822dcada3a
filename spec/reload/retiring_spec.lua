-- A generation that has been replaced, while its clients, commands and on_stop functions have time.

local net = require "support.net"
local support = require "support"

local SERVE = net.ECHO .. "serve '127.0.0.1:0' "

-- How often a text is in another.
local function count(text, what)
  return select(2, text:gsub(what, ""))
end

local function wait_retired(box)
  support.wait_for("the end of what was replaced", function() return #box:status("s").retiring == 0 end)
end

describe("a replaced generation with a client", function()
  local box = support.with_box(before_each, after_each)

  -- Serve with `text`, which sets on_data; connect, reload to a script that only stays alive, and send
  -- something. Returns the connection.
  local function talk(text, ...)
    box:serve(SERVE .. text, ...)
    local client = net.connect(net.port(box, "s")):send "one"
    client:wait "1:one"
    assert.equal(0, box:reload("").code)
    client:send("two"):wait "1:two"
    return client
  end

  local STARTS = {
    ["after"] = "lunad.after(0.001, done)",
    ["every"] = "local t t = lunad.every(0.001, function() t:stop() done() end)",
    ["timer:again"] = "old_timer:again(0.001)",
    ["task"] = "lunad.task(function() lunad.sleep(0.001) done() end)",
    ["task:wait"] = "lunad.task(lunad.sleep, 0.001):wait() done()",
    ["spawn"] = "assert(lunad.spawn { 'true', on_exit = done })",
    ["exec"] = "assert(lunad.exec { 'echo', 'x' }.stdout == 'x\\n') done()",
    ["supervise"] = "local n = 0 lunad.supervise { 'true', backoff = { 0.001, 0.001 }, max_restarts = 50, " ..
      "on_exit = function() n = n + 1 if n == 2 then done() end end }",
    ["sleep"] = "lunad.sleep(0.001) done()",
    ["luv"] = "local t = uv.new_timer() t:start(1, 0, function() t:close() done() end)",
    ["await"] = "lunad.await(lunad.after, 0.001) done()",
    ["wait_fd"] = "local p = uv.pipe() lunad.after(0.001, uv.fs_write, p.write, 'x') " ..
      "assert(lunad.wait_fd(p.read, 'r', 600) == 'r') done()",
    ["timeout"] = "assert(lunad.timeout(0.001, lunad.sleep, 600) == nil) done()",
    ["all"] = "assert(#lunad.all { function() lunad.sleep(0.001) return 1 end, os.time } == 2) done()",
    ["any"] = "local function s(n) return function() lunad.sleep(n) end end " ..
      "assert(lunad.any { s(600), s(0.001) } == 2) done()",
    ["channel"] = "local c = lunad.channel() lunad.task(function() lunad.sleep(0.001) c:put(1) end) " ..
      "assert(c:get(600) == 1) done()",
    ["semaphore"] = "local s = lunad.semaphore(1) local held = s:acquire() " ..
      "lunad.after(0.001, held.release, held) assert(s:acquire(600)) done()",
    ["net.connect"] = "local _, _, code = require 'lunad.net'.connect '127.0.0.1:1' " ..
      "assert(code == 'ECONNREFUSED') done()",
    ["os.execute and io.popen"] = "assert(os.execute 'true' and io.popen('true'):close()) done()",
  }
  for what, text in pairs(STARTS) do
    it("may start what it needs for it: " .. what, function()
      local client = talk(([[
        local function done() print("done " .. lunad.generation) end
        local old_timer = lunad.after(600, done)
        function on_data()
          if lunad.stats().generation > 1 then %s end
        end
      ]]):format(text))
      box:wait_log("s", "s: done 1\n")
      assert.equal(0, box:status("s").errors.count)
      client:close()
      wait_retired(box)
    end)
  end

  local REFUSED = {
    ["cron"] = "lunad.cron('* * * * *', print)",
    ["cron again"] = "old_cron:again()",
    ["signal"] = "lunad.signal('USR1', print)",
    ["listen"] = "lunad.listen '127.0.0.1:0'",
    ["net.serve"] = "require 'lunad.net'.serve('127.0.0.1:0', print)",
    ["keep"] = "lunad.keep('name', 1)",
    ["the option keep"] = "lunad.spawn { 'sleep', '600', name = 'k', keep = true }",
  }
  for what, text in pairs(REFUSED) do
    it("is refused what outlives it, which is logged and counted: " .. what, function()
      local client = talk(([[
        local old_cron = lunad.cron("0 0 1 1 *", print)
        lunad.on_error(function(message) print("seen: " .. message) end)
        function on_data()
          if lunad.stats().generation > 1 then %s print "went on" end
        end
      ]]):format(text))
      box:wait_log("s", "error lunad: uncaught error in a luv callback: " ..
        "[^\n]*this generation of the script is over.*seen: [^\n]*is over")
      assert.not_matches("went on", box:log "s")
      assert.equal(1, box:status("s").errors.count)
      client:close()
      wait_retired(box)
      assert.equal(1, box:status("s").errors.count)
    end)
  end

  it("has its other errors logged and counted", function()
    local client = talk [[
      function on_data()
        if lunad.stats().generation > 1 then
          lunad.after(0, error, "in a timer")
          lunad.task(function() lunad.sleep(0.001) error "in a task" end)
          lunad.spawn { "true", on_exit = function() error "in on_exit" end }
          error "in a callback"
        end
      end
    ]]
    for what, message in pairs {
      ["a timer"] = "in a timer", ["a task"] = "in a task", ["an on_exit callback"] = "in on_exit",
      ["a luv callback"] = "in a callback",
    } do
      box:wait_log("s", "uncaught error in " .. what .. ": [^\n]*" .. message)
    end
    assert.equal(4, box:status("s").errors.count)
    client:close()
  end)

  it("ends what it has started with itself, and names it", function()
    local client = talk [[
      function on_data()
        if lunad.stats().generation > 1 then
          lunad.every(0.001, function() print "late beat" end)
          lunad.spawn { "sleep", "600", name = "late" }
          lunad.task(function()
            local _ <close> = setmetatable({}, { __close = function() lunad.log.info "task closed" end })
            lunad.sleep(600)
          end)
        end
      end
    ]]
    box:wait_log("s", "late beat.*late beat")
    local child
    for _, each in ipairs(box:status("s").children) do
      child = each.name == "late" and each.pid or child
    end
    assert.is_true(support.is_alive(child))
    client:finish():wait_end()
    box:wait_log("s", "generation 1 is closed as it has finished, and with it: child late " ..
      "%(pid " .. child .. "%), task at [^\n]*/s%.lua:%d+\n")
    box:wait_log("s", "task closed")
    box:wait_gone(child)
    wait_retired(box)
    local beats = count(box:log "s", "late beat")
    box:ok("reload", "s")
    assert.equal(beats, count(box:log "s", "late beat"))
  end)

  it("is closed by os.exit, which stops no other", function()
    local client = talk "function on_data() if lunad.stats().generation > 1 then os.exit(3) end end"
    client:wait_end()
    box:wait_log("s", "generation 1 is closed by its os%.exit")
    wait_retired(box)
    assert.equal("running", box:status("s").state)
  end)

  it("cannot ask for a reload or a stop, which is logged", function()
    local client = talk [[
      function on_data()
        if lunad.stats().generation > 1 then lunad.reload() lunad.after(0.01, lunad.stop) end
      end
    ]]
    box:wait_log("s", "generation 1 has been replaced: its lunad%.reload%(%) is not heeded" ..
      ".*its lunad%.stop%(%) is not heeded")
    assert.equal(2, box:status("s").generation)
    client:close()
  end)

  it("is named when its time is over", function()
    local client = talk("", "--stop-timeout", "0.3")
    client:wait_end()
    box:wait_log("s", "warn  lunad: generation 1 is closed as its %-%-stop%-timeout is over, and with it: " ..
      "connection with 127%.0%.0%.1:%d+\n")
  end)

  it("is named when its other side has gone and nothing has read that", function()
    box:serve([[
      local net = require "lunad.net"
      local server = assert(net.serve("127.0.0.1:0", function(stream)
        stream:write "x"
        lunad.sleep(100)
      end))
      print("port " .. server:address():match "%d*$")
    ]], "--stop-timeout", "0.3")
    local client = net.connect(net.port(box, "s"))
    client:wait "x"
    client.stream:close_reset()
    box:ok("reload", "s")
    box:wait_log("s", "is over, and with it: connection whose other side has gone\n")
  end)

  it("is named when the daemon stops", function()
    local client = talk ""
    box:ok("stop", "s")
    assert.matches("generation 1 is closed by the stop, and with it: connection with 127", box:log "s")
    client:wait_end()
  end)

  it("starts nothing more once everything is told to end at a stop", function()
    local client = talk [[
      function on_data()
        if lunad.stats().generation > 1 then
          local function start()
            lunad.spawn { "sh", "-c", "echo started; exec sleep 600", on_exit = start }
          end
          start()
        end
      end
    ]]
    box:wait_log("s", ": started\n")
    box:ok("stop", "s")
    assert.equal(1, count(box:log "s", ": started\n"))
    assert.not_matches("killing", box:log "s")
    client:wait_end()
  end)
end)

describe("what a generation had when it was replaced", function()
  local box = support.with_box(before_each, after_each)

  it("may continue as a command in exec, to its end", function()
    box:serve [[
      lunad.task(function()
        local result = lunad.exec { "sh", "-c",
          "echo set >&2; while ! [ -e s.lua.go ]; do sleep 0.02; done; echo out",
          cwd = lunad.script:match "^(.*)/", stderr = "log" }
        print("finished", result.ok, result.stdout)
        print("and then", lunad.exec { "echo", "more" }.stdout)
      end)
    ]]
    box:wait_log("s", ": set\n")
    assert.equal(0, box:reload("").code)
    assert.equal(1, box:status("s").retiring[1].commands)
    box:write("s.lua.go", "")
    box:wait_log("s", "finished\ttrue\tout.*and then\tmore")
    wait_retired(box)
    assert.not_matches("is closed", box:log "s")
  end)

  it("is ended as a command in exec when --stop-timeout is over, and named", function()
    box:serve([[
      lunad.task(function()
        lunad.exec { "sh", "-c", "echo set; exec sleep 600", stdout = "log", name = "longrunner" }
        print "never"
      end)
    ]], "--stop-timeout", "0.3")
    local pid = math.tointeger(tonumber((box:wait_log("s", "longrunner%[(%d+)%]: set\n"))))
    assert.equal(0, box:reload("").code)
    assert.is_true(support.is_alive(pid))
    box:wait_log("s", "generation 1 is closed as its %-%-stop%-timeout is over, and with it: " ..
      "command longrunner %(pid " .. pid .. "%)\n")
    box:wait_gone(pid)
    assert.not_matches("never", box:log "s")
    assert.equal(0, box:status("s").errors.count)
  end)

  it("is ended at once though a client is connected or on_stop sleeps: children and timers", function()
    local script = SERVE .. [[
      lunad.every(0.001, function() if lunad.generation == 1 then print "beat" end end)
      lunad.on_stop(function() lunad.sleep(600) end)
      if lunad.generation == 1 then
        lunad.spawn { "sleep", "600", name = "plain" }
        lunad.supervise { "sleep", "600", name = "watched", backoff = { 0.001, 0.001 } }
        lunad.spawn { "sleep", "600", name = "kept", keep = true }
        lunad.task(function() lunad.exec { "sleep", "600", name = "command" } end)
      end
    ]]
    box:serve(script)
    local client = net.connect(net.port(box, "s")):send "one"
    client:wait "1:one"
    local pids = {}
    for _, child in ipairs(box:status("s").children) do pids[child.name] = child.pid end
    assert.equal(0, box:reload("").code)
    for _, name in ipairs { "plain", "watched", "kept" } do box:wait_gone(pids[name]) end
    assert.is_true(support.is_alive(pids.command))
    assert.equal(1, #box:status("s").retiring)
    local beats = count(box:log "s", "s: beat")
    client:send("two"):wait "1:two"
    assert.equal(beats, count(box:log "s", "s: beat"))
    assert.equal(1, #box:status("s").children)
    client:close()
  end)

  it("is told of its end: wait and on_exit of a child that is ended continue", function()
    box:serve [[
      local child = lunad.spawn { "sh", "-c", "trap 'exit 7' TERM; echo set; while :; do sleep 0.01; done",
        on_exit = function(exit) print("on_exit", exit.code) end }
      lunad.on_stop(function() print("waited", child:wait().code) end)
    ]]
    box:wait_log("s", ": set\n")
    assert.equal(0, box:reload("").code)
    box:wait_log("s", "on_exit\t7")
    box:wait_log("s", "waited\t7")
    wait_retired(box)
  end)

  it("calls nothing once it is closed", function()
    box:serve [[
      lunad.task(function()
        local _ <close> = setmetatable({}, { __close = function()
          lunad.log.info("after " .. tostring(pcall(lunad.after, 0, print, "called")))
        end })
        lunad.sleep(600)
      end)
      local function call() print "called" end
      lunad.spawn { "sleep", "600", on_exit = call, stdout = call }
    ]]
    assert.equal(0, box:reload("").code)
    box:wait_log("s", "after false")
    support.wait_for("the end of its child", function() return #box:status("s").children == 0 end)
    assert.not_matches("called", box:log "s")
  end)

  it("has an error at its very end counted", function()
    box:serve [[
      lunad.task(function()
        local _ <close> = setmetatable({}, { __close = function() error "at the end" end })
        lunad.sleep(600)
      end)
    ]]
    assert.equal(0, box:reload("").code)
    box:wait_log("s", "uncaught error in a task: [^\n]*at the end")
    assert.equal(1, box:status("s").errors.count)
  end)
end)

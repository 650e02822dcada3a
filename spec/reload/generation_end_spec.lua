local support = require "support"

-- Prints "ghost" again and again, in every way; BUSY keeps a request of luv in flight
-- until the FIFO is opened.
local GHOSTS = [[
  local uv = require "luv"
  local function ghost() print "ghost" end
  lunad.every(0.01, ghost)
  lunad.task(function() while true do lunad.sleep(0.01) ghost() end end)
  local function chain() ghost() lunad.after(0.01, chain) end
  lunad.after(0.01, chain)
  uv.new_timer():start(10, 10, ghost)
  lunad.signal("USR1", ghost)
]]
local CHILD = [[
  local function ghost() print "ghost" end
  lunad.spawn { "sh", "-c", "while :; do echo x; sleep 0.01; done", stdout = ghost, on_exit = ghost }
]]
local BUSY = [[ require "luv".fs_open("fifo", "r", 0, function() print "late" end) ]]
local WORK = [[ -- the same by a thread: it ends by itself
  require "luv".new_work(function() require "luv".sleep(400) end, function() print "late" end):queue()
]]

describe("A generation that is over, while luv has a request in flight", function()
  local box = support.with_box(before_each, after_each)

  before_each(function()
    assert.equal(0, box:run({ "fifo" }, { program = "mkfifo" }).code)
  end)

  -- Let the request end; FIFOs can be opened for writing at any time with O_RDWR.
  local function release()
    box:shell("exec 3<>fifo; sleep 0.2")
  end

  local function text(what)
    return ("local uv = require 'luv' uv.chdir(%q) "):format(box.dir) .. what
  end

  -- Fail if anything is logged after the last line with the words.
  local function assert_silent_after(words)
    local rest = assert(box:log("s"):match(".*" .. words .. "(.*)"), box:log("s"))
    assert.falsy(rest:find("ghost", 1, true), rest)
    assert.falsy(rest:find("late", 1, true), rest)
    assert.falsy(rest:find("uncaught", 1, true), rest)
  end

  -- Wait for many turns of the loop.
  local function wait_beats()
    local from = #box:log("s")
    support.wait_for("beats", function()
      return select(2, box:log("s"):sub(from + 1):gsub("alive", "")) > 20
    end)
  end

  local ALIVE = 'lunad.every(0.01, function() print "alive" end) '

  it("runs nothing, where its reload was refused", function()
    box:serve(text(ALIVE) .. "lunad.ready()", "--wait-ready")
    for _, way in ipairs { BUSY, WORK } do
      local result = box:reload(text(GHOSTS .. CHILD .. way .. "lunad.sleep(0.05) error 'no'"))
      assert.equal(1, result.code)
      wait_beats()
      assert_silent_after("reload refused")
      release()
      wait_beats()
      assert_silent_after("reload refused")
    end
    assert.equal(1, box:status("s").generation)
  end)

  it("runs nothing, where it was replaced", function()
    box:serve(text(GHOSTS .. CHILD .. BUSY .. WORK))
    box:wait_log("s", "ghost")
    assert.equal(0, box:reload(text(ALIVE)).code)
    wait_beats()
    assert_silent_after("reloaded: generation 2")
    release()
    wait_beats()
    assert_silent_after("reloaded: generation 2")
  end)

  it("runs nothing after on_stop, and the process ends", function()
    for _, way in ipairs { BUSY, WORK } do
      local pid = box:serve(text(GHOSTS .. way .. "lunad.on_stop(function() print 'last words' end)"))
      box:wait_log("s", "ghost")
      assert.equal(0, box:lunad("stop", "s").code)
      box:wait_gone(pid)
      assert_silent_after("last words")
      os.remove(box:path("log/s.log"))
      release()
    end
  end)

  it("runs nothing after os.exit, and the process ends", function()
    for _, way in ipairs { BUSY, WORK } do
      box:write("s.lua", "local lunad = require 'lunad' " .. text(GHOSTS .. CHILD .. way ..
        "lunad.after(0.05, function() print 'exit' os.exit(3) end)"))
      local result = box:run { "run", "s.lua" }
      assert.equal(3, result.code, result.err)
      assert.truthy(result.out:find("\nexit\n$"), result.out)
      release()
    end
  end)

  it("may be one of many", function()
    box:serve(text(ALIVE))
    for _ = 1, 20 do
      assert.equal(1, box:reload(text(GHOSTS .. CHILD .. BUSY .. WORK .. "error 'no'")).code)
    end
    wait_beats()
    for _ = 1, 3 do release() end
    wait_beats()
    assert_silent_after("reload refused")
    assert.equal(0, box:reload(text(ALIVE)).code)
  end)
end)

describe("What runs while the state of a generation is closed", function()
  local box = support.with_box(before_each, after_each)

  -- Everything that a finalizer, a <close> variable or a task at its end may try. It must not work, or
  -- it must leave nothing; above all the host keeps running.
  local TRIES = [[
    local uv = require "luv"
    local early = {
      uv.new_timer(), uv.new_tcp(), uv.new_pipe(), uv.new_udp(), uv.new_idle(), uv.new_async(print),
    }
    local timer, child = lunad.every(100, print), lunad.spawn { "sleep", "100", stdin = "pipe" }
    local handle, task = lunad.signal("USR2", print), lunad.task(function() lunad.sleep(100) end)
    local work = uv.new_work(function() end, print)
    local boss = lunad.supervise { "sleep", "100" }
    local co = coroutine.create(function() lunad.sleep(0) end)
    local tries = {
      function() uv.new_timer():start(0, 1, print) end,
      function() uv.new_timer() end,
      function() uv.new_idle():start(print) end,
      function() uv.new_async(print):send() end,
      function() uv.new_signal():start("sigusr2", print) end,
      function() uv.new_fs_event():start("/", {}, print) end,
      function() uv.new_fs_poll():start("/", 100, print) end,
      function() local t = uv.new_tcp() t:bind("127.0.0.1", 0) t:listen(1, print) end,
      function() local t = uv.new_tcp() t:connect("127.0.0.1", 1, print) end,
      function() uv.new_pipe():connect("/nothing", print) end,
      function() uv.new_udp():recv_start(print) end,
      function() uv.spawn("sleep", { args = { "100" } }, print) end,
      function() uv.fs_stat("/", print) end,
      function() uv.fs_opendir("/", print) end,
      function() uv.fs_opendir("/", print, 5) end,
      function() uv.fs_stat("/", setmetatable({}, { __call = print })) end,
      function() uv.fs_open("/dev/null", "r", 0, setmetatable({}, { __call = print })) end,
      function() uv.getaddrinfo("localhost", nil, nil, print) end,
      function() uv.random(8, 0, print) end,
      function() work:queue() end,
      function() uv.new_work(function() end, print):queue() end,
      function() uv.socketpair() end,
      function() uv.walk(function(h) h:close() end) end,
      function() for _, h in ipairs(early) do if not h:is_closing() then h:close() end end end,
      function() early[1]:start(0, 0, print) end,
      function() early[1]:again() end,
      function() early[2]:connect("127.0.0.1", 1) end,
      function() early[2]:open(0) end,
      function() early[2]:bind("127.0.0.1", 0) early[2]:listen(1, print) end,
      function() early[2]:write "x" end,
      function() early[2]:shutdown() end,
      function() early[3]:connect("/nothing") end,
      function() early[3]:open(0) early[3]:read_start(print) end,
      function() early[4]:bind("127.0.0.1", 0) early[4]:recv_start(print) end,
      function() early[4]:send("x", "127.0.0.1", 9, print) end,
      function() early[5]:start(print) end,
      function() early[6]:send() end,
      function() lunad.after(0, print) end,
      function() lunad.every(1, print) end,
      function() lunad.cron("* * * * *", print) end,
      function() lunad.signal("USR1", print) end,
      function() lunad.task(print) end,
      function() lunad.sleep(1) end,
      function() lunad.spawn { "sleep", "100" } end,
      function() lunad.exec { "sleep", "100" } end,
      function() lunad.supervise { "sleep", "100" } end,
      function() lunad.listen "127.0.0.1:0" end,
      function() lunad.stats() end,
      function() lunad.reload() end,
      function() lunad.ready() lunad.status "text" end,
      function() lunad.on_stop(print) lunad.on_reload(print) lunad.on_error(print) end,
      function() timer:stop() end,
      function() timer:again() end,
      function() timer:due() timer:active() timer:missed() tostring(timer) end,
      function() child:kill() end,
      function() child:write "x" end,
      function() child:running() child:pause() child:resume() child:close_stdin() end,
      function() child:flush() end,
      function() boss:stop() end,
      function() boss:restart() end,
      function() boss:children() end,
      function() handle:stop() end,
      function() task:cancel() end,
      function() task:wait() end,
      function() coroutine.resume(co) end,
      function() coroutine.wrap(function() lunad.after(0, print) end)() end,
      function() io.popen("sleep 100") end,
      function() io.popen("true"):close() end,
      function() os.execute "true" end,
      function() require "luv" end,
      function() lunad.log.info "closing" end,
      function() lunad.stop() end,
      function() local on, hook = pcall(debug.sethook, print, "l") debug.sethook() end,
      function() error "words" end,
    }
    local function try()
      for _, one in ipairs(tries) do pcall(one) end
      pcall(setmetatable, {}, { __gc = function() for _, one in ipairs(tries) do pcall(one) end end })
    end
    TRY = setmetatable({}, { __gc = try, __close = try })
  ]]
  local TASK = TRIES .. " lunad.task(function() local closed <close> = TRY lunad.sleep(100) end) "
  local FIRST = [[
    setmetatable({}, { __gc = function() pcall(function() require "luv".new_timer() end) end })
  ]]
  local WAYS = { ["a finalizer"] = TRIES, ["a <close> variable"] = TASK, ["a first require"] = FIRST }

  for what, code in pairs(WAYS) do
    it("may be " .. what .. " that tries everything, when a reload is refused", function()
      box:serve("")
      for _ = 1, 3 do
        assert.equal(1, box:reload(code .. " error 'no'").code)
      end
      assert.equal(1, box:status("s").generation)
      assert.same({}, box:status("s").children)
    end)

    it("may be " .. what .. " that tries everything, when it is replaced", function()
      local pid = box:serve(code)
      for _ = 1, 3 do
        assert.equal(0, box:reload(code).code)
      end
      assert.equal(0, box:reload("").code)
      assert.equal(pid, box:status("s").pid)
      local log = box:log("s")
      assert.falsy(log:find("bug: ", 1, true), log)
      assert.falsy(log:find("it is left", 1, true), log)
    end)

    it("may be " .. what .. " that tries everything, when the daemon stops", function()
      local pid = box:serve(code)
      assert.equal(0, box:lunad("stop", "s").code)
      box:wait_gone(pid)
      local log = box:log("s")
      assert.falsy(log:find("bug: ", 1, true), log)
      assert.truthy(log:find("lunad: stopped", 1, true), log)
    end)
  end

  it("may use luv without a callback: files are cleaned up", function()
    local file = box:write("precious", "x")
    box:run { "run", "-e", ([[
      local uv = require "luv"
      setmetatable({}, { __gc = function() uv.fs_unlink(%q) end })
    ]]):format(file) }
    assert.is_nil(box:read("precious"))
  end)

  it("is interrupted where it does not end: the tasks of the old generation", function()
    local pid = box:serve [[
      lunad.task(function() pcall(lunad.sleep, 100) while true do end end)
      lunad.task(function()
        local x <close> = setmetatable({}, { __close = function() while true do end end })
        lunad.sleep(100)
      end)
      lunad.task(function() while true do pcall(function() while true do lunad.sleep(100) end end) end end)
    ]]
    assert.equal(0, box:reload("print 'new'").code)
    assert.equal(pid, box:status("s").pid)
    assert.equal(2, box:status("s").generation)
  end)

  it("is interrupted where it does not end: the tasks of a refused generation", function()
    box:serve("")
    local text = [[
      lunad.task(function() pcall(lunad.sleep, 100) while true do end end)
      error "no"
    ]]
    assert.equal(1, box:reload(text).code)
    assert.equal(1, box:status("s").generation)
    assert.equal(0, box:reload("print 'new'").code)
  end)
end)

-- lunad.await, lunad.wait_fd and task:wait with a timeout.

local support = require "support"

describe("lunad.await", function()
  local box = support.with_box(before_each, after_each)

  it("returns what done is given, at once or later, and from any callback", function()
    box:inside [[
      local function show(...) return select("#", ...) .. ":" .. table.concat({ ... }, ",") end
      equal("0:", show(lunad.await(function(done) done() end)))
      equal("1:x", show(lunad.await(function(done) done "x" end)))
      equal("3:1,2,3", show(lunad.await(function(a, b, done) done(a, b, 3) end, 1, 2)))
      equal("2:4,5", show(lunad.await(function(done) lunad.after(0.001, done, 4, 5) end)))
      local handle
      equal("1:USR1", show(lunad.await(function(done)
        handle = lunad.signal("USR1", done)
        lunad.kill(lunad.pid, "USR1")
      end)))
      handle:stop()
      equal("1:6", show(lunad.await(function(done) lunad.task(function() lunad.sleep(0) done(6) end) end)))
      equal("1:7", show(lunad.await(function(done) lunad.sleep(0.001) done(7) return "ignored" end)))
      local stat = select(2, lunad.await(require("luv").fs_stat, "/"))
      equal("directory", stat.type)
      local many = table.pack(lunad.await(function(done) lunad.after(0, function()
        done(table.unpack({}, 1, 1000))
      end) end))
      equal(1000, many.n)
    ]]
  end)

  it("keeps nil and false, and their number", function()
    box:inside [[
      local got = table.pack(lunad.await(function(done) done(nil, false, nil) end))
      equal(3, got.n)
      equal(false, got[2])
      got = table.pack(lunad.await(function(done) lunad.after(0, done, nil, false, nil) end))
      equal(3, got.n)
      equal(nil, lunad.await(function(done) done(nil) end))
    ]]
  end)

  it("returns at once what the function returns if that begins with nil or false", function()
    box:inside [[
      local value, err, code = lunad.await(function() return nil, "no", "ENO" end)
      equal("nil no ENO", ("%s %s %s"):format(value, err, code))
      equal(false, lunad.await(function() return false end))
      equal(1, lunad.await(function(done) done(1) return nil, "too late" end))
    ]]
  end)

  it("waits if the function returns nothing, or something", function()
    box:inside [[
      equal(1, lunad.await(function(done) lunad.after(0, done, 1) end))
      equal(2, lunad.await(function(done) lunad.after(0, done, 2) return true end))
    ]]
  end)

  it("lets an error of the function out, and of a done that has come too late nothing", function()
    box:inside [[
      local late
      local ok, err = pcall(lunad.await, function(done) late = done error "oops" end)
      equal(false, ok)
      truthy(err:find("oops", 1, true))
      late(1)
      late(2)
      equal(3, lunad.await(function(done) late = done done(3) done(4) end))
      late(5)
      lunad.sleep(0.001)
    ]]
  end)

  it("of a cancelled task is over", function()
    box:inside [[
      local done, closed, after
      local task = lunad.task(function()
        local mark <close> = setmetatable({}, { __close = function() closed = true end })
        lunad.await(function(fn) done = fn end)
        after = true
      end)
      task:cancel()
      equal(true, closed)
      done(1)
      lunad.sleep(0.001)
      equal(nil, after)
      equal("cancelled", select(2, task:wait()))
      local second
      task = lunad.task(function() lunad.await(function(fn) second = fn end) lunad.sleep(60) end)
      lunad.task(function() second() task:cancel() end) -- woken, but not resumed yet
      equal(false, task:running())
    ]]
  end)

  it("keeps the service alive, and is shown in the status", function()
    box:serve "lunad.task(function() lunad.await(function() end) end)"
    assert.equal("await", box:status("s").tasks[1].state)
  end)

  it("answered after its generation has gone does nothing", function()
    box:serve [[
      local uv = require "luv"
      local timer = uv.new_timer()
      lunad.await(function(done) timer:start(60000, 0, done) lunad.ready() end)
      print "answered"
    ]]
    assert.equal(0, box:reload("lunad.every(60, print)").code)
    box:ok("stop", "s")
    assert.not_matches("answered", box:log "s")
  end)

  it("raises where it cannot suspend, before anything is called", function()
    box:inside [[
      local called
      raises("await: it cannot suspend here", function()
        coroutine.wrap(function() lunad.await(function() called = true end) end)()
      end)
      raises("await: it cannot suspend here", function()
        table.sort({ 1, 2 }, function() lunad.await(function() called = true end) end)
      end)
      raises("bad argument #1 to 'await'", function() lunad.await(1) end)
      equal(nil, called)
    ]]
  end)
end)

describe("task:wait with a timeout", function()
  local box = support.with_box(before_each, after_each)

  it("returns the results, or ETIMEDOUT while the task goes on", function()
    box:inside [[
      local go
      local task = lunad.task(function() lunad.await(function(done) go = done end) return 1, 2 end)
      fails("ETIMEDOUT", task:wait(0.01))
      fails("ETIMEDOUT", task:wait(0))
      equal(true, task:running())
      lunad.after(0.01, go)
      local a, b = task:wait(60)
      equal(3, a + b)
      equal(2, select("#", task:wait(0)))
      equal(0, #lunad.stats().timers)
    ]]
  end)

  it("leaves no timer when the one that waits is cancelled", function()
    box:inside [[
      local task = lunad.task(lunad.sleep, 60)
      local waiter = lunad.task(function() task:wait(50) end)
      waiter:cancel()
      equal("cancelled", select(2, waiter:wait()))
      equal(true, task:running())
      task:cancel()
      equal(0, #lunad.stats().timers)
      raises("seconds from 0 to ten years", function() task:wait(-1) end)
    ]]
  end)
end)

describe("lunad.wait_fd", function()
  local box = support.with_box(before_each, after_each)

  local PIPE = [[
    local uv = require "luv"
    local pipe = uv.pipe({ nonblock = true }, { nonblock = true })
  ]]

  it("waits until a descriptor can be read, or written, or either", function()
    box:inside(PIPE .. [[
      equal("w", lunad.wait_fd(pipe.write, "w"))
      equal("w", lunad.wait_fd(pipe.write, "rw", 10))
      lunad.after(0.01, uv.fs_write, pipe.write, "x")
      equal("r", lunad.wait_fd(pipe.read, "r"))
      equal("r", lunad.wait_fd(pipe.read, "r"))
      local file = assert(uv.fs_open(lunad.script, "r", 0))
      equal("rw", lunad.wait_fd(file, "rw"))
    ]])
  end)

  it("gives up after its timeout", function()
    box:inside(PIPE .. [[
      fails("ETIMEDOUT", lunad.wait_fd(pipe.read, "r", 0.01))
      fails("ETIMEDOUT", lunad.wait_fd(pipe.read, "r", 0))
      equal(0, #lunad.stats().timers)
    ]])
  end)

  it("finds what is ready when its time is up, also at once", function()
    box:inside(PIPE .. [[
      uv.fs_write(pipe.write, "x")
      equal("r", lunad.wait_fd(pipe.read, "r", 0))
      equal("w", lunad.wait_fd(pipe.write, "rw", 0))
      local task = lunad.task(function() return lunad.wait_fd(pipe.read, "r", 0.001) end)
      local start = lunad.now()
      repeat until lunad.now() > start + 0.01
      equal("r", task:wait())
      fails("ETIMEDOUT", lunad.wait_fd(pipe.read, "w", 0))
    ]])
  end)

  it("serves any number of tasks of one descriptor", function()
    box:inside(PIPE .. [[
      local ready, tasks = 0, {}
      for i = 1, 50 do
        tasks[i] = lunad.task(function()
          if lunad.wait_fd(pipe.read, "r", 60) == "r" then ready = ready + 1 end
        end)
      end
      local reader = lunad.task(function() return lunad.wait_fd(pipe.write, "r", 0.01) end)
      tasks[1]:cancel()
      uv.fs_write(pipe.write, "x")
      for i = 2, 50 do tasks[i]:wait() end
      equal(49, ready)
      reader:wait()
    ]])
  end)

  it("goes on for those that wait while more and more descriptors are waited for", function()
    box:inside(PIPE .. [[
      local pipes, tasks = {}, {}
      for i = 1, 300 do
        pipes[i] = uv.pipe({ nonblock = true }, { nonblock = true })
        tasks[i] = lunad.task(lunad.wait_fd, pipes[i].read, "r", 60)
      end
      for i = 1, 300, 2 do tasks[i]:cancel() end
      for i = 2, 300, 2 do uv.fs_write(pipes[i].write, "x") end
      for i = 2, 300, 2 do equal("r", tasks[i]:wait(30)) end
      for i = 1, 300, 2 do tasks[i] = lunad.task(lunad.wait_fd, pipes[i].read, "r", 60) end
      for i = 1, 300, 2 do uv.fs_write(pipes[i].write, "x") end
      for i = 1, 300, 2 do equal("r", tasks[i]:wait(30)) end
    ]])
  end)

  it("tells of the other end that has hung up", function()
    box:inside(PIPE .. [[
      lunad.after(0.01, uv.fs_close, pipe.write)
      equal("r", lunad.wait_fd(pipe.read, "r"))
      pipe = uv.pipe()
      lunad.after(0.01, uv.fs_close, pipe.read)
      while uv.fs_write(pipe.write, ("x"):rep(4096)) and lunad.wait_fd(pipe.write, "w", 0) do end
    ]])
  end)

  it("fails if the descriptor is closed meanwhile, also if its number is another's by then", function()
    box:inside(PIPE .. [[
      local task = lunad.task(lunad.wait_fd, pipe.read, "r")
      local same = lunad.task(lunad.wait_fd, pipe.read, "r")
      uv.fs_close(pipe.read)
      fails("EBADF", task:wait())
      fails("EBADF", same:wait())
      pipe = uv.pipe()
      task = lunad.task(lunad.wait_fd, pipe.read, "r")
      uv.fs_close(pipe.read)
      local other = uv.pipe()
      equal(pipe.read, other.read)
      local new = lunad.task(lunad.wait_fd, other.read, "r")
      fails("EBADF", task:wait())
      uv.fs_write(other.write, "x")
      equal("r", new:wait())
    ]])
  end)

  it("does not spin on a closed descriptor of which a duplicate is left", function()
    box:inside(PIPE .. [[
      local child = assert(lunad.spawn { "sleep", "600", fds = { [3] = pipe.read } })
      local task = lunad.task(lunad.wait_fd, pipe.read, "r")
      lunad.sleep(0.01)
      uv.fs_close(pipe.read)
      uv.fs_write(pipe.write, "x")
      fails("EBADF", task:wait())
      local before = os.clock()
      lunad.sleep(0.5)
      truthy(os.clock() - before < 0.25, "it spins")
      child:kill "KILL"
    ]])
  end)

  it("refuses what it cannot watch", function()
    box:inside [[
      fails("EBADF", lunad.wait_fd(99, "r"))
      raises("bad argument #1", function() lunad.wait_fd(-1, "r") end)
      raises("bad argument #2", function() lunad.wait_fd(0, "x") end)
      raises("bad argument #1", function() lunad.wait_fd("x", "r") end)
      raises("seconds from 0", function() lunad.wait_fd(0, "r", -1) end)
      local host = 0
      for fd = 3, 30 do
        local mode, err = lunad.wait_fd(fd, "r", 0)
        host = host + (mode == nil and err:find("not the script's", 1, true) and 1 or 0)
      end
      truthy(host > 3, "descriptors of the host: " .. host)
    ]]
  end)

  it("of a cancelled task watches no more", function()
    box:inside(PIPE .. [[
      local task = lunad.task(lunad.wait_fd, pipe.read, "r", 60)
      task:cancel()
      uv.fs_write(pipe.write, "x")
      lunad.sleep(0.01)
      equal(0, #lunad.stats().timers)
      equal("r", lunad.wait_fd(pipe.read, "r"))
    ]])
  end)
end)

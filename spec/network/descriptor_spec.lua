-- Whatever number of a descriptor a script gives to luv: no abort, no busy loop, and no harm to others.

local net = require "support.net"
local support = require "support"

describe("A descriptor that a script names by its number", function()
  local box = support.with_box(before_each, after_each)

  -- Processor time of a process so far, in hundredths of a second.
  local function used(pid)
    local stat = support.read(("/proc/%d/stat"):format(pid)):match "%) (.*)"
    local user, system = stat:match(("%S+ "):rep(11) .. "(%d+) (%d+)")
    return tonumber(user) + tonumber(system)
  end

  -- Check that a daemon works: it beats, serves, logs, knows its children, and does not spin.
  local function check(pid, generation)
    local from, before = #box:log("s"), used(pid)
    support.wait_for("beats", function()
      return select(2, box:log("s"):sub(from + 1):gsub("s: beat", "")) >= 10
    end)
    assert.is_true(used(pid) - before < 25, "it spins: " .. used(pid) - before)
    local status = box:status "s"
    assert.equal(pid, status.pid)
    assert.equal(generation, status.generation)
    assert.falsy(box:log("s"):find "Assertion", box:log("s"))
  end

  local BEAT = [[
    local uv = require "luv"
    lunad.every(0.02, function() print "beat" end)
    lunad.task(function() assert(lunad.exec { "true" }.ok) print "children are known" end)
  ]]

  local HANDLES = {
    tcp = "local h = uv.new_tcp() if h:open(n) then h:read_start(function() end) end",
    ["tcp that listens"] = "local h = uv.new_tcp() if h:open(n) then h:listen(8, function() end) end",
    ["tcp that writes"] = "local h = uv.new_tcp() if h:open(n) then h:write('x', function() end) end",
    pipe = "local h = uv.new_pipe() if h:open(n) then h:read_start(function() end) end",
    udp = "local h = uv.new_udp() if h:open(n) then h:recv_start(function() end) end",
    poll = "local h = uv.new_poll(n) if h then h:start('r', function() h:stop() end) end",
    tty = "local h = uv.new_tty(n, true) if h then h:read_start(function() end) end",
    closed = "uv.fs_close(n)",
    ["closed by request"] = "uv.fs_close(n, function() end)",
  }
  for what, code in pairs(HANDLES) do
    it("may be any as a handle: " .. what, function()
      local all = BEAT .. "for n = 0, 64 do pcall(function() " .. code .. " end) end "
      box:write("s.lua", support.BEAT .. all)
      -- luv loses the memory of a handle that it cannot make
      local started = box:run({ "start", "s.lua" },
        { env = { ASAN_OPTIONS = "abort_on_error=0:detect_leaks=0" } })
      assert.equal(0, started.code, started.err)
      local pid = box:status("s").pid
      check(pid, 1)
      assert.equal(1, box:reload(all .. "error 'no'").code)
      check(pid, 1)
      assert.equal(0, box:reload(all).code)
      check(pid, 2)
      assert.equal(0, box:reload(all).code)
      check(pid, 3)
      assert.equal(0, box:reload(BEAT).code)
      check(pid, 4)
      box:wait_log("s", "children are known.*children are known.*children are known")
    end)
  end

  -- Run the script with a socket that listens as descriptor 3, by another lunad; returns the port and
  -- the pid of the inner one.
  local function serve_three(text)
    box:write("inner.lua", support.BEAT .. BEAT .. text)
    local port = net.free_port()
    box:write("outer.lua", support.BEAT .. ([[
      local fd = lunad.listen "127.0.0.1:%d"
      lunad.spawn { %q, "run", "--log", "inner.log", "inner.lua", fds = { [3] = fd }, cwd = %q }
    ]]):format(port, support.binary, box.dir))
    box:start(box:path "outer.lua")
    support.wait_for("the inner daemon", function() return box:lunad("status", "inner").code == 0 end)
    return port, box:status("inner").pid
  end

  local SERVE = [[
    local server, again = uv.new_tcp(), uv.new_tcp()
    assert(server:open(3))
    assert(again:open(3))
    assert(server:fileno() ~= again:fileno() and server:fileno() ~= 3 and again:fileno() ~= 3)
    assert(server:listen(128, function()
      local peer = uv.new_tcp()
      server:accept(peer)
      peer:write("generation " .. lunad.generation .. "\n", function() peer:close() end)
    end))
  ]]

  it("may be inherited from the starting process, in every generation, and more than once in one", function()
    local port, pid = serve_three(SERVE)
    for generation = 1, 5 do
      for _ = 1, 5 do
        assert.equal(("generation %d\n"):format(generation), (net.ask(port)))
      end
      box:write("inner.lua", support.BEAT .. BEAT .. SERVE .. "error 'no'")
      assert.equal(1, box:lunad("reload", "inner").code)
      assert.equal(("generation %d\n"):format(generation), (net.ask(port)))
      box:write("inner.lua", support.BEAT .. BEAT .. SERVE)
      assert.equal(0, box:lunad("reload", "inner").code)
    end
    local before = used(pid)
    assert.equal("generation 6\n", (net.ask(port)))
    assert.equal(pid, box:status("inner").pid)
    support.wait_for("time", function() return box:status("inner").uptime > 1 end)
    assert.is_true(used(pid) - before < 30, "it spins")
    assert.equal(0, box:lunad("stop", "inner").code)
  end)

  it("belongs to the new generation when the old one passes it on", function()
    box:write("s.lua", support.BEAT .. [[
      local uv = require "luv"
      local fds = uv.socketpair(nil, nil, { nonblock = true }, { nonblock = true })
      local here, there = uv.new_tcp(), uv.new_tcp()
      here:open(fds[1])
      there:open(fds[2])
      there:read_start(function(_, chunk) print("got", chunk) end)
      lunad.on_reload(function() return { here = here:fileno() } end)
      lunad.on_stop(function() lunad.sleep(0.05) there:write "to the new one" lunad.sleep(0.2) end)
    ]])
    box:start(box:path "s.lua")
    assert.equal(0, box:reload([[
      local uv = require "luv"
      local mine = uv.new_tcp()
      assert(mine:open(lunad.state.here))
      assert(mine:fileno() ~= lunad.state.here)
      mine:read_start(function(_, chunk) print("new", chunk) end)
      mine:write "from the new one"
    ]]).code)
    box:wait_log("s", "got\tfrom the new one")
  end)

  -- Generation 1 gets descriptors as numbers, which nothing but itself closes, and hands the numbers on; it
  -- continues until `done` exists.
  local NUMBERS = [[
    local uv = require "luv"
    local folder = lunad.script:match "^(.*)/"
    local numbers = {}
    numbers.file = assert(uv.fs_open(folder .. "/file", "w", 384))
    numbers.temporary = assert(uv.fs_mkstemp(folder .. "/XXXXXX"))
    uv.fs_open(folder .. "/later", "w", 384, function(err, fd) numbers.later = assert(fd, err) end)
    uv.fs_mkstemp(folder .. "/XXXXXX", function(err, fd) numbers.temporary_later = assert(fd, err) end)
    local pair, pipe = uv.socketpair(), uv.pipe()
    numbers.pair, numbers.other_pair, numbers.read, numbers.write = pair[1], pair[2], pipe.read, pipe.write
    numbers.listener = assert(lunad.listen "127.0.0.1:0")
    lunad.on_reload(function() return numbers end)
    lunad.on_stop(function()
      while not uv.fs_stat(folder .. "/done") do lunad.sleep(0.01) end
      for name, fd in pairs(numbers) do
        if name ~= "listener" then assert(uv.fs_close(fd)) end
      end
      lunad.log.info "all closed"
    end)
    lunad.task(function()
      while not (numbers.later and numbers.temporary_later) do lunad.sleep(0.001) end
      print "all open"
    end)
  ]]

  it("is not another generation's to close, or to have in a handle", function()
    box:serve(NUMBERS)
    box:wait_log("s", "all open")
    assert.equal(0, box:reload([[
      local uv = require "luv"
      local tried = 0
      for name, fd in pairs(lunad.state) do
        assert(not uv.fs_close(fd), name)
        local handle = name == "listener" and uv.new_tcp() or uv.new_pipe()
        if handle:open(fd) then assert(handle:fileno() ~= fd, name) end
        handle:close()
        tried = tried + 1
      end
      print(tried .. " tried")
    ]]).code)
    box:wait_log("s", "9 tried")
    box:write("done", "")
    box:wait_log("s", "all closed")
    assert.equal(0, box:status("s").errors.count)
  end)

  it("is the new generation's once the one that had it is closed", function()
    box:serve(NUMBERS)
    box:wait_log("s", "all open")
    assert.equal(0, box:reload([[
      local uv = require "luv"
      uv.fs_close(uv.fs_open(lunad.script:match "^(.*)/" .. "/done", "w", 384))
      lunad.task(function()
        while #lunad.stats().retiring > 0 do lunad.sleep(0.001) end
        local fds = {}
        for _ = 1, 20 do fds[#fds + 1] = assert(uv.fs_open(lunad.script, "r", 0)) end
        for _, fd in ipairs(fds) do assert(uv.fs_close(fd)) end
        print "own are closed"
      end)
    ]]).code)
    box:wait_log("s", "own are closed")
  end)

  it("may be waited for, whoever has it, until that one closes it", function()
    box:serve [[
      local uv = require "luv"
      local pair = uv.socketpair(nil, nil, { nonblock = true }, { nonblock = true })
      lunad.on_reload(function() return { mine = pair[1], other = pair[2] } end)
      lunad.on_stop(function()
        lunad.sleep(0.05)
        uv.fs_write(pair[2], "x")
        while not uv.fs_stat(lunad.script:match "^(.*)/" .. "/done") do lunad.sleep(0.01) end
        uv.fs_close(pair[1])
      end)
    ]]
    assert.equal(0, box:reload([[
      local fd = lunad.state.mine
      lunad.task(function()
        print("ready", lunad.wait_fd(fd, "r"))
        require "luv".fs_read(fd, 1)
        print("and then", select(3, lunad.wait_fd(fd, "r")))
      end)
    ]]).code)
    box:wait_log("s", "ready\tr")
    box:write("done", "")
    box:wait_log("s", "and then\tEBADF")
  end)

  it("is not passed to a program if it is the host's", function()
    box:inside [[
      local refused = 0
      for n = 3, 30 do
        for _, options in ipairs { { stdin = n }, { stdout = n }, { fds = { [3] = n } } } do
          options[1] = "true"
          local child, message, code = lunad.spawn(options)
          if not child and message:find("lunad's own", 1, true) then
            equal("EBADF", code)
            refused = refused + 1
          end
        end
      end
      truthy(refused >= 15, refused)
    ]]
  end)

  it("is in one handle of a generation at most", function()
    box:inside [[
      local uv = require "luv"
      local fds = uv.socketpair()
      local one, two = uv.new_tcp(), uv.new_tcp()
      equal(0, one:open(fds[1]))
      local ok, message, name = two:open(fds[1])
      equal(nil, ok)
      equal("EEXIST", name)
      equal(fds[1], one:fileno())
      one:close()
      equal(0, two:open(fds[2]))
      two:close()
    ]]
  end)

  it("is closed by its number if the script opened it", function()
    box:inside(([[
      local uv = require "luv"
      local path = %q
      local count = lunad.stats().fds
      local fd = assert(uv.fs_open(path, "w", 420))
      equal(true, uv.fs_close(fd))
      fails("EBADF", uv.fs_close(fd))
      fails("EBADF", uv.fs_close(2))
      local async
      fd = assert(uv.fs_open(path, "w", 420))
      uv.fs_close(fd, function(err) async = err or "done" end)
      eventually(function() return async end)
      equal("done", async)
      local pipe = uv.pipe()
      equal(true, uv.fs_close(pipe.read))
      equal(true, uv.fs_close(pipe.write))
      equal(count, lunad.stats().fds)
    ]]):format(box:path "file"))
  end)

  it("that is closed under its handle silences that handle only", function()
    box:inside([[
      local uv = require "luv"
      local fds = uv.socketpair(nil, nil, { nonblock = true }, { nonblock = true })
      local poll = uv.new_poll(fds[1])
      uv.fs_close(fds[1])
      poll:start("rw", print)
      local beats = 0
      local timer = lunad.every(0.005, function() beats = beats + 1 end)
      eventually(function() return beats > 10 end)
      poll:stop()
      poll:start("r", print)
      eventually(function() return beats > 20 end)
      poll:close()
      timer:stop()
    ]], { errors = true })
  end)
end)

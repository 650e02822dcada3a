local net = require "support.net"
local support = require "support"
local uv = support.uv

local SERVE = net.SERVE

-- The inode of the socket in a daemon's status.
local function inode(box, name, index)
  local status = box:status(name)
  local fd = status.listeners[index or 1].fd
  return assert(uv.fs_readlink(("/proc/%d/fd/%d"):format(status.pid, fd)))
end

describe("lunad.listen", function()
  local box = support.with_box(before_each, after_each)

  it("serves IPv4", function()
    box:serve(SERVE .. "serve '127.0.0.1:0'")
    assert.equal("generation 1\n", net.ask(net.port(box, "s")))
  end)

  it("serves IPv6, which is IPv6 alone", function()
    box:serve(SERVE .. "serve '[::1]:0' serve '[::]:0'")
    box:wait_log("s", "port.*port")
    local one, two = box:log("s"):match "port (%d+).*port (%d+)"
    assert.equal("generation 1\n", net.ask(tonumber(one), nil, "::1"))
    assert.equal("generation 1\n", net.ask(tonumber(two), nil, "::1"))
    assert.equal("ECONNREFUSED", select(2, net.ask(tonumber(two))))
  end)

  it("serves a Unix socket", function()
    box:serve(SERVE .. ("serve 'unix:%s'"):format(box:path "u.sock"))
    assert.equal("generation 1\n", net.ask(box:path "u.sock"))
  end)

  it("keeps the port over reloads when the system chose it", function()
    box:serve(SERVE .. "serve '127.0.0.1:0'")
    local port = net.port(box, "s")
    box:ok("reload", "s")
    assert.equal("generation 2\n", net.ask(port))
  end)

  it("gives a new descriptor at each call, which no program inherits", function()
    box:inside [[
      local one, two = lunad.listen "127.0.0.1:0", lunad.listen "127.0.0.1:0"
      equal("integer", math.type(one))
      truthy(one > 2 and two > 2 and one ~= two)
      for _, fd in ipairs { one, two } do
        local flags = io.open("/proc/self/fdinfo/" .. fd):read("a"):match "flags:%s*(%d+)"
        truthy(tonumber(flags, 8) & tonumber("02000000", 8) ~= 0, "not close-on-exec")
      end
      equal(1, #lunad.stats().listeners)
    ]]
  end)

  it("shows in the status", function()
    box:serve(SERVE .. ("serve '127.0.0.1:0' serve 'unix:%s'"):format(box:path "u.sock"))
    local listeners = box:status("s").listeners
    assert.equal("127.0.0.1:0", listeners[1].address)
    assert.equal("unix:" .. box:path "u.sock", listeners[2].address)
    assert.is_false(listeners[1].inherited)
    assert.equal(2, #listeners)
    assert.matches("^socket:", inode(box, "s"))
    assert.matches("u%.sock", box:ok("status", "s"))
  end)

  it("does not keep a script alive that has nothing else", function()
    local result = box:inside "lunad.listen '127.0.0.1:0'"
    assert.equal(0, result.code)
  end)

  it("keeps a script alive that serves it by luv", function()
    local path = box:write("s.lua", "local lunad = require 'lunad' " .. SERVE .. "serve '127.0.0.1:0'")
    box:start(path)
    assert.equal("generation 1\n", net.ask(net.port(box, "s")))
  end)

  it("closes at the end of a generation what luv was not given", function()
    box:serve "for _ = 1, 10 do lunad.listen '127.0.0.1:0' end"
    local before = box:status("s").fds
    for _ = 1, 5 do box:ok("reload", "s") end
    support.wait_for("the same descriptors", function() return box:status("s").fds == before end)
  end)

  it("never closes a descriptor whose number has been reused", function()
    box:serve [[
      local uv = require "luv"
      local fd = lunad.listen "127.0.0.1:0"
      uv.fs_close(fd)
      local file = io.open(lunad.script)
      if lunad.generation == 1 then
        local name = uv.fs_readlink("/proc/self/fd/" .. fd)
        assert(name == lunad.script, name)
        lunad.on_stop(function() lunad.log.info("read " .. tostring(file:read(5))) end)
      end
    ]]
    box:ok("reload", "s")
    box:wait_log("s", "read local")
  end)
end)

describe("an option of lunad.listen", function()
  local box = support.with_box(before_each, after_each)

  it("is backlog", function()
    box:serve(("lunad.listen('unix:%s', { backlog = 1 })"):format(box:path "u.sock"))
    local connections, refused = {}, 0
    for i = 1, 4 do
      connections[i] = net.connect(box:path "u.sock"):wait_connected()
      refused = refused + (connections[i].err == "EAGAIN" and 1 or 0)
    end
    for _, connection in ipairs(connections) do connection:close() end
    assert.equal(2, refused)
  end)

  for mode, expected in pairs { ["'600'"] = "600", ["'0666'"] = "666", ["tonumber('660', 8)"] = "660" } do
    it("is mode, such as " .. mode, function()
      box:serve(("lunad.listen('unix:%s', { mode = %s })"):format(box:path "u.sock", mode))
      local stat = assert(uv.fs_stat(box:path "u.sock"))
      assert.equal(expected, ("%o"):format(stat.mode & tonumber("7777", 8)))
    end)
  end

  it("is not needed: the mode is by the umask, and no moment longer than that", function()
    box:serve(("lunad.listen('unix:%s')"):format(box:path "u.sock"), "--umask", "077")
    assert.equal("700", ("%o"):format(uv.fs_stat(box:path "u.sock").mode & tonumber("7777", 8)))
  end)

  it("is reuse_port: several may listen then", function()
    local port = net.free_port()
    local script = box:write("a.lua", support.BEAT ..
      ("assert(lunad.listen('127.0.0.1:%d', { reuse_port = true }))"):format(port))
    box:start(script)
    box:start("-n", "b", script)
    assert.equal(1, #box:status("a").listeners)
    assert.equal(1, #box:status("b").listeners)
  end)

  it("that is unknown or wrong raises, naming it", function()
    box:inside [[
      local function try(options) return function() lunad.listen("127.0.0.1:0", options) end end
      local message = raises("colour", try { colour = "red" })
      truthy(message:find("inside.lua:1:", 1, true), message)
      raises("backlog", try { backlog = 0 })
      raises("backlog", try { backlog = "many" })
      raises("backlog", try { backlog = 1.5 })
      raises("mode", try { mode = "8" })
      raises("mode", try { mode = -1 })
      raises("mode", try { mode = "7777" })
      raises("reuse_port", try { reuse_port = 1 })
      raises("#2 to 'listen'", try(5))
      equal(0, #lunad.stats().listeners)
    ]]
  end)
end)

describe("an address of lunad.listen", function()
  local box = support.with_box(before_each, after_each)

  it("that is not one raises at the caller's line", function()
    box:inside [[
      for _, bad in ipairs { "", "8080", "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:65536", "127.0.0.1:-1",
        "::1:80", "[::1]", "[::1]:", "[127.0.0.1]:80", "name:80", "*:80",
        "localhost:http", "unix:", "unix:relative",
        "unix:/" .. ("x"):rep(200), "http://127.0.0.1:80", "127.0.0.1:80 ", "1.2.3:80" } do
        local message = raises("#1 to 'listen'", function() lunad.listen(bad) end)
        truthy(message:find("inside.lua:5:", 1, true), message)
      end
      raises("#1 to 'listen'", function() lunad.listen() end)
      raises("#1 to 'listen'", function() lunad.listen {} end)
    ]]
  end)

  it("that is not one raises an error that says what is wrong", function()
    box:inside [[
      local words = { ["127.0.0.1"] = "it has no port", ["[::1]"] = "it has no port",
        [":80"] = "which address?",
        ["127.0.0.1:http"] = "the port must be a number", ["127.0.0.1:65536"] = "the port must be a number",
        ["::1:80"] = "needs brackets", ["[1.2.3.4]:80"] = "brackets are for an IPv6",
        ["1.2.3:80"] = "four numbers",
        ["*:80"] = "0.0.0.0:80", ["example.org:80"] = "names are not looked up",
        ["unix:x"] = "must be absolute", ["unix:/" .. ("x"):rep(200)] = "at most 107 bytes" }
      for bad, part in pairs(words) do
        raises(part, function() lunad.listen(bad) end)
        raises("'" .. bad .. "'", function() lunad.listen(bad) end)
      end
    ]]
  end)

  it("may be localhost, and is the same by any of its names, also over a reload", function()
    box:serve [[
      local uv = require "luv"
      local function port_of(fd)
        local server = uv.new_tcp()
        server:open(fd)
        return server:getsockname()
      end
      local name = port_of(assert(lunad.listen "localhost:0"))
      print(name.ip, name.port)
    ]]
    local port = tonumber(box:wait_log("s", "127%.0%.0%.1\t(%d+)"))
    local again = box:reload(([[
      local a = assert(lunad.listen "localhost:%d")
      local b = assert(lunad.listen "127.0.0.1:%d")
      print("both", a ~= b)
    ]]):format(port, port))
    assert.equal(0, again.code, again.err)
    box:wait_log("s", "both\ttrue")
    assert.equal(1, #box:status("s").listeners)
    local numeric = box:reload(('assert(lunad.listen "127.0.0.1:%d")'):format(port))
    assert.equal(0, numeric.code, numeric.err)
    assert.equal(1, #box:status("s").listeners)
  end)

  it("that is in use is a returned error", function()
    local socket = uv.new_tcp()
    finally(function() socket:close() uv.run("nowait") end)
    assert(socket:bind("127.0.0.1", 0))
    socket:listen(1, print)
    box:inside(([[
      local result, message, code = lunad.listen "127.0.0.1:%d"
      fails("EADDRINUSE", result, message, code)
      truthy(message:find("127.0.0.1:%d", 1, true), message)
    ]]):format(socket:getsockname().port, socket:getsockname().port))
  end)

  it("that this machine does not have, or that is denied, is a returned error", function()
    box:inside(([[
      fails("EADDRNOTAVAIL", lunad.listen "203.0.113.1:80")
      fails("ENOENT", lunad.listen "unix:%s/missing/u.sock")
      fails("ENOTDIR", lunad.listen "unix:/dev/null/u.sock")
      equal(0, #lunad.stats().listeners)
    ]]):format(box.dir))
  end)

  it("below 1024 is denied to an ordinary user", function()
    if not support.is_root then
      return pending "needs root"
    end
    local run = box:path "nobodys"
    uv.fs_mkdir(run, tonumber("700", 8))
    uv.fs_chown(run, 65534, 65534)
    local result = box:run({ "run", "--run-dir", run, "-e",
      ("print(require 'lunad'.listen '127.0.0.1:%d')"):format(net.free_low_port()) },
      { uid = 65534, gid = 65534 })
    assert.equal("", result.err:match "uncaught" or "")
    assert.matches("^nil\tEACCES: permission denied: 127%.0%.0%.1:%d+\tEACCES\n", result.out)
  end)

  it("is refused to a generation that is over", function()
    box:serve [[
      lunad.on_stop(function(reason)
        lunad.sleep(0.001)
        lunad.log.info("listen " .. reason .. " " .. tostring(pcall(lunad.listen, "127.0.0.1:0")))
      end)
      if lunad.generation == 1 then
        local uv = require "luv"
        local timer = uv.new_timer()
        local server = uv.new_tcp()
        server:bind("127.0.0.1", 0)
        server:listen(1, print)
        local client = uv.new_tcp()
        client:connect("127.0.0.1", server:getsockname().port)
        timer:start(0, 1, function()
          local ok, message = pcall(lunad.listen, "127.0.0.1:0")
          if not ok then
            lunad.log.info("late: " .. message)
            timer:close() client:close()
          end
        end)
      end
    ]]
    box:ok("reload", "s")
    box:wait_log("s", "late: .*generation of the script is over")
  end)
end)

describe("the file of a Unix socket", function()
  local box = support.with_box(before_each, after_each)

  local function serve(path, ...)
    return box:serve(SERVE .. ("serve 'unix:%s'"):format(path), ...)
  end

  local function exists(name)
    return uv.fs_lstat(box:path(name)) ~= nil
  end

  it("is removed at stop", function()
    serve(box:path "u.sock")
    box:ok("stop", "s")
    assert.is_false(exists "u.sock")
  end)

  it("is removed when the script finishes, exits, or fails to start", function()
    local listen = ("assert(require 'lunad'.listen 'unix:%s')"):format(box:path "u.sock")
    for _, ending in ipairs { "", "os.exit(0)", "error 'x'", "require 'lunad'.stop()" } do
      box:lunad("run", "-e", listen .. ending)
      assert.is_false(exists "u.sock", ending)
    end
  end)

  it("is left alone if another process has replaced it", function()
    serve(box:path "u.sock")
    os.remove(box:path "u.sock")
    box:write("u.sock", "precious")
    box:ok("stop", "s")
    assert.equal("precious", box:read "u.sock")
  end)

  it("is replaced if no process listens on it", function()
    net.stale(box:path "u.sock")
    serve(box:path "u.sock")
    assert.equal("generation 1\n", net.ask(box:path "u.sock"))
  end)

  it("is replaced after a daemon that was killed", function()
    local pid = serve(box:path "u.sock")
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    assert.is_true(exists "u.sock")
    serve(box:path "u.sock")
    assert.equal("generation 1\n", net.ask(box:path "u.sock"))
  end)

  it("is refused if a process listens on it, which is not disturbed", function()
    serve(box:path "u.sock")
    box:inside(('fails("EADDRINUSE", lunad.listen "unix:%s")'):format(box:path "u.sock"))
    assert.equal("generation 1\n", net.ask(box:path "u.sock"))
  end)

  it("is refused if its owner is too busy to take a client", function()
    box:serve(("lunad.listen('unix:%s', { backlog = 1 })"):format(box:path "u.sock"))
    local clients = {}
    for i = 1, 3 do clients[i] = net.connect(box:path "u.sock"):wait_connected() end
    box:inside(('fails("EADDRINUSE", lunad.listen "unix:%s")'):format(box:path "u.sock"))
    for _, client in ipairs(clients) do client:close() end
    assert.is_true(exists "u.sock")
  end)

  it("is never a file of another kind", function()
    box:write("plain", "precious")
    uv.fs_mkdir(box:path "directory", tonumber("755", 8))
    net.stale(box:path "stale")
    uv.fs_symlink("stale", box:path "link")
    for _, name in ipairs { "plain", "directory", "link" } do
      box:inside(('fails("EADDRINUSE", lunad.listen "unix:%s")'):format(box:path(name)))
      assert.is_true(exists(name))
    end
    assert.equal("precious", box:read "plain")
  end)

  it("is removed when the new generation does not ask for it", function()
    serve(box:path "u.sock")
    assert.equal(0, box:reload("").code)
    assert.is_false(exists "u.sock")
  end)

  it("is removed with a generation that has made it and fails", function()
    serve(box:path "u.sock")
    assert.equal(1, box:reload(("assert(lunad.listen 'unix:%s') error 'x'"):format(box:path "new.sock")).code)
    assert.is_false(exists "new.sock")
    assert.equal("generation 1\n", net.ask(box:path "u.sock"))
  end)
end)

describe("a listening socket over a reload", function()
  local box = support.with_box(before_each, after_each)

  it("is the same", function()
    box:serve(SERVE .. "serve '127.0.0.1:0'")
    local before = inode(box, "s")
    for _ = 1, 5 do box:ok("reload", "s") end
    assert.equal(before, inode(box, "s"))
  end)

  it("is the new generation's before the old one lets go", function()
    box:serve(SERVE .. "serve '127.0.0.1:0' lunad.ready()", "--wait-ready")
    local port = net.port(box, "s")
    box:write("s.lua", support.BEAT .. SERVE .. [[
      serve '127.0.0.1:0'
      repeat lunad.sleep(0.002) local go = io.open(lunad.script .. ".go") until go
      lunad.ready()
    ]])
    local reload = box:spawn { "reload", "s" }
    box:wait_log("s", "port.*port")
    for _ = 1, 10 do assert.equal("generation 1\n", net.ask(port)) end
    box:write("s.lua.go", "")
    box:await(reload, "the verdict", reload.is_over)
    assert.equal(0, reload.code)
    for _ = 1, 10 do assert.equal("generation 2\n", net.ask(port)) end
  end)

  it("keeps its queue of clients for the new code", function()
    box:serve [[
      local socket = require "luv".new_tcp()
      socket:open(assert(lunad.listen "127.0.0.1:0"))
      print("port " .. socket:getsockname().port)
    ]]
    local port, clients = net.port(box, "s"), {}
    for i = 1, 8 do clients[i] = net.connect(port):wait_connected() end
    assert.equal(0, box:reload(SERVE .. "serve '127.0.0.1:0'").code)
    for _, client in ipairs(clients) do assert.equal("generation 2\n", (client:wait_end())) end
  end)

  it("is closed at commit if the new generation does not ask for it", function()
    box:serve(SERVE .. "serve '127.0.0.1:0'")
    local port = net.port(box, "s")
    assert.equal(0, box:reload(SERVE .. "serve '[::1]:0'").code)
    assert.equal("ECONNREFUSED", select(2, net.ask(port)))
    assert.same({ "[::1]:0" }, { box:status("s").listeners[1].address })
    assert.equal(1, #box:status("s").listeners)
  end)

  it("is closed at commit too if luv never had it, though the old generation has yet to end", function()
    local port = net.free_port()
    box:serve(([[
      lunad.listen "127.0.0.1:%d"
      lunad.on_stop(function() repeat lunad.sleep(0.01) until io.open(lunad.script .. ".go") end)
    ]]):format(port), "--stop-timeout", "20")
    assert.equal(0, box:reload("").code)
    assert.equal(1, #box:status("s").retiring)
    assert.equal("ECONNREFUSED", select(2, net.ask(port)))
    box:write("s.lua.go", "")
  end)

  for what, ending in pairs {
    ["an error"] = "error 'x'", ["a syntax error"] = "local = 1", ["a stop"] = "lunad.stop()",
  } do
    it("is untouched by a new script that ends with " .. what, function()
      box:serve(SERVE .. "serve '127.0.0.1:0'")
      local port, before, fds = net.port(box, "s"), inode(box, "s"), box:status("s").fds
      for _ = 1, 3 do
        assert.equal(1, box:reload(SERVE .. "serve '127.0.0.1:0' serve '[::1]:0' " .. ending).code)
        assert.equal("generation 1\n", net.ask(port))
      end
      assert.equal(before, inode(box, "s"))
      assert.equal(1, #box:status("s").listeners)
      support.wait_for("the same descriptors", function() return box:status("s").fds == fds end)
    end)
  end

  it("is closed if only a generation that failed had asked for it", function()
    box:serve(SERVE .. "serve '127.0.0.1:0'")
    assert.equal(1, box:reload(SERVE .. "serve '[::1]:0' error 'x'").code)
    local port = math.tointeger(tonumber(box:log("s"):match ".*: port (%d+)\n"))
    assert.equal("ECONNREFUSED", select(2, net.ask(port, nil, "::1")))
  end)

  it("stays open when the new generation asks for it twice, and the next not at all", function()
    box:serve(SERVE .. "serve '127.0.0.1:0'")
    local port = net.port(box, "s")
    assert.equal(0, box:reload(SERVE .. "serve '127.0.0.1:0' lunad.listen '127.0.0.1:0'").code)
    assert.equal("generation 2\n", net.ask(port))
    assert.equal(0, box:reload("").code)
    support.wait_for("the end of the last descriptor", function()
      return select(2, net.ask(port)) == "ECONNREFUSED"
    end)
  end)

  it("may be asked for later, by a task or a callback", function()
    box:serve(SERVE .. "lunad.after(0.001, function() serve '127.0.0.1:0' end)")
    local port = net.port(box, "s")
    assert.equal("generation 1\n", net.ask(port))
  end)
end)

-- Acts as a service manager that passes sockets: descriptors from 3 on for each NAME=ADDRESS
-- (a port of 127.0.0.1, or a path), named if NAME is not empty; then runs the rest of the words.
local MANAGER = [[
  my ($count, @names) = (0);
  while (@ARGV && $ARGV[0] =~ /^(\w*)=(.+)$/) {
    my ($name, $at) = ($1, $2);
    my $socket = $at =~ m{^/} ? IO::Socket::UNIX->new(Listen => 5, Local => $at)
      : IO::Socket::INET->new(Listen => 5, ReuseAddr => 1, LocalAddr => "127.0.0.1", LocalPort => $at);
    die "$at: $!" unless $socket;
    push @keep, $socket;
    push @names, $name;
    shift;
  }
  POSIX::dup2(fileno($keep[$_]), 100 + $_) for 0 .. $#keep;
  POSIX::dup2(100 + $_, 3 + $_) for 0 .. $#keep;
  POSIX::close(100 + $_) for 0 .. $#keep;
  $ENV{LISTEN_FDS} = @keep;
  $ENV{LISTEN_PID} = $ENV{OTHER_PID} || $$;
  $ENV{LISTEN_FDNAMES} = join ":", @names if grep { $_ ne "" } @names;
  exec @ARGV or die;
]]

describe("sockets that a service manager passes", function()
  local box = support.with_box(before_each, after_each)

  -- The words of a manager that passes `sockets` and runs lunad with `words`.
  local function manager(sockets, words)
    local args = { "-MPOSIX", "-MIO::Socket::UNIX", "-MIO::Socket::INET", "-e", MANAGER }
    table.move(sockets, 1, #sockets, #args + 1, args)
    args[#args + 1] = support.binary
    return table.move(words, 1, #words, #args + 1, args)
  end

  local function start(text, sockets, env)
    local script = box:write("s.lua", support.BEAT .. SERVE .. text)
    return box:run(manager(sockets, { "start", script }), { program = "perl", env = env })
  end

  local function started(...)
    local result = start(...)
    assert.equal(0, result.code, result.err)
    return math.tointeger(tonumber(result.out:match "pid (%d+)"))
  end

  it("are found by name", function()
    local one, two = net.free_port(), net.free_port()
    started("serve 'fd:web' serve 'fd:admin'", { "web=" .. one, "admin=" .. two })
    assert.equal("generation 1\n", net.ask(one))
    assert.equal("generation 1\n", net.ask(two))
    local listeners = box:status("s").listeners
    assert.equal("fd:web", listeners[1].address)
    assert.is_true(listeners[1].inherited and listeners[2].inherited)
  end)

  it("are used first for an address that matches", function()
    local port = net.free_port()
    started(("serve '127.0.0.1:%d' serve 'unix:%s'"):format(port, box:path "u.sock"),
      { "web=" .. port, "=" .. box:path "u.sock" })
    assert.equal("generation 1\n", net.ask(port))
    assert.equal("generation 1\n", net.ask(box:path "u.sock"))
    assert.equal(2, #box:status("s").listeners)
  end)

  it("are called unknown if they have no names", function()
    local port = net.free_port()
    started("serve 'fd:unknown'", { "=" .. port })
    assert.equal("generation 1\n", net.ask(port))
  end)

  it("are the same over reloads, and stay though a generation does not ask for them", function()
    local port = net.free_port()
    started("serve 'fd:web'", { "web=" .. port })
    local before = inode(box, "s")
    box:ok("reload", "s")
    assert.equal("generation 2\n", net.ask(port))
    assert.equal(0, box:reload("").code)
    local client = net.connect(port):wait_connected()
    assert.equal(0, box:reload(SERVE .. "serve 'fd:web'").code)
    assert.equal("generation 4\n", (client:wait_end()))
    assert.equal(before, inode(box, "s"))
  end)

  it("keep their files, which are the manager's", function()
    started(("serve 'unix:%s'"):format(box:path "u.sock"), { "u=" .. box:path "u.sock" })
    box:ok("reload", "s")
    box:ok("stop", "s")
    assert.is_truthy(uv.fs_lstat(box:path "u.sock"))
  end)

  it("are found by run too", function()
    local port = net.free_port()
    local script = box:write("s.lua", support.BEAT .. SERVE .. "serve 'fd:web'")
    local process = box:spawn(manager({ "web=" .. port }, { "run", script }), { program = "perl" })
    support.wait_for("the start", function() return box:lunad("status", "s").code == 0 end)
    assert.equal("generation 1\n", net.ask(port))
    support.kill(process.pid)
    box:await(process, "the end", process.is_over)
    assert.equal(0, process.code)
  end)

  it("are ignored if they are meant for another process", function()
    local port = net.free_port()
    local result = start("assert(lunad.listen 'fd:web')", { "web=" .. port }, { OTHER_PID = "1" })
    assert.equal(1, result.code)
    assert.matches("ENOENT", result.err)
    started("print(#lunad.stats().listeners .. ' listeners')", { "web=" .. port }, { OTHER_PID = "1" })
    box:wait_log("s", ": 0 listeners")
    assert.equal("ECONNREFUSED", select(2, net.ask(port)))
  end)

  it("are not named in the environment of the script or its children", function()
    started([[
      local told = os.getenv "LISTEN_FDS" or os.getenv "LISTEN_PID" or os.getenv "LISTEN_FDNAMES"
      print("told " .. tostring(told))
      lunad.spawn { "sh", "-c", "echo child told; env | grep LISTEN; ls -l /proc/self/fd; echo end" }
    ]], { "web=" .. net.free_port() })
    box:wait_log("s", "told nil\n")
    box:wait_log("s", "child told\n.*: end\n")
    assert.not_matches("LISTEN_", box:log "s")
    assert.not_matches("socket:", box:log "s")
  end)

  it("are found by their numbers too", function()
    local one, two = net.free_port(), net.free_port()
    started("serve 'fd:3' serve 'fd:4'", { "web=" .. one, "=" .. two })
    assert.equal("generation 1\n", net.ask(one))
    assert.equal("generation 1\n", net.ask(two))
    assert.equal(2, #box:status("s").listeners)
    box:ok("reload", "s")
    assert.equal("generation 2\n", net.ask(two))
  end)

  it("never hold the loop when nobody waits, though they were not made for that", function()
    started([[
      local server = assert(require "lunad.net".serve("fd:web", function(stream) stream:write "hello" end))
      print("address " .. server:address())
      lunad.every(0.01, function() print "beat" end)
    ]], { "web=" .. net.free_port() })
    box:wait_log("s", "beat.*beat.*beat")
    assert.equal("hello", (net.ask(math.tointeger(tonumber(box:log("s"):match "address 127.0.0.1:(%d+)")))))
  end)

  it("that were not passed are refused", function()
    box:inside [[
      local result, message, code = lunad.listen "fd:web"
      fails("ENOENT", result, message, code)
      truthy(message:find("fd:web", 1, true) and message:find "LISTEN_FDNAMES", message)
      fails("ENOENT", lunad.listen "fd:")
    ]]
  end)
end)

describe("--listen", function()
  local box = support.with_box(before_each, after_each)

  it("may be given several times, for what lunad.listen asks for", function()
    local one, two = net.free_port(), net.free_port()
    local addresses = { "127.0.0.1:" .. one, "127.0.0.1:" .. two, "unix:" .. box:path "u.sock" }
    box:serve(SERVE .. ("serve '%s' serve '%s' serve '%s'"):format(table.unpack(addresses)),
      "--listen", addresses[1], "--listen=" .. addresses[2], "--listen", addresses[3])
    assert.equal("generation 1\n", net.ask(one))
    assert.equal("generation 1\n", net.ask(two))
    assert.equal("generation 1\n", net.ask(box:path "u.sock"))
    assert.equal(3, #box:status("s").listeners)
    box:ok("stop", "s")
    assert.is_nil(uv.fs_lstat(box:path "u.sock"))
  end)

  it("keeps its socket whether a generation asks for it or not", function()
    local port = net.free_port()
    box:serve("", "--listen", "127.0.0.1:" .. port)
    local client = net.connect(port):wait_connected()
    assert.equal(0, box:reload(SERVE .. ("serve '127.0.0.1:%d'"):format(port)).code)
    assert.equal("generation 2\n", (client:wait_end()))
  end)

  it("lets user nobody serve a port below 1024, and a socket where only root may make one", function()
    if not support.is_root then
      return pending "needs root"
    end
    local port = net.free_low_port()
    box:serve(SERVE .. ("serve '127.0.0.1:%d' serve 'unix:%s'"):format(port, box:path "u.sock"),
      "--user", "nobody", "--listen", "127.0.0.1:" .. port, "--listen", "unix:" .. box:path "u.sock")
    assert.equal("generation 1\n", net.ask(port))
    box:ok("reload", "s")
    assert.equal("generation 2\n", net.ask(port))
    assert.equal("generation 2\n", net.ask(box:path "u.sock"))
    box:ok("stop", "s")
    assert.is_nil(uv.fs_lstat(box:path "u.sock"))
  end)

  it("is needed for that: nothing else that needs privileges is bound for the script", function()
    if not support.is_root then
      return pending "needs root"
    end
    local port = net.free_low_port()
    local other = port - 1
    box:serve(([[
      for _, address in ipairs { "127.0.0.1:%d", "unix:%s" } do
        local _, message, code = lunad.listen(address)
        print(code, message)
      end
    ]]):format(other, box:path "u.sock"), "--user", "nobody", "--listen", "127.0.0.1:" .. port)
    local pattern = "EACCES\tEACCES: permission denied: %s: start it with %%-%%-listen, which is bound before"
    box:wait_log("s", pattern:format "127%.0%.0%.1:%d+")
    box:wait_log("s", pattern:format "unix:[^\n]*u%.sock")
    assert.is_nil(uv.fs_lstat(box:path "u.sock"))
  end)

  it("that is not an address is a usage error, naming option and value", function()
    for _, bad in ipairs { "80", "name:80", "unix:relative", "fd:web", "" } do
      local err = box:refused(2, "start", "--listen", bad, box:idle "s")
      assert.is_truthy(err:find("--listen", 1, true))
      assert.is_truthy(err:find(bad, 1, true))
    end
  end)

  it("of what is in use makes the start fail, and leaves no socket behind", function()
    box:serve(SERVE .. "serve '127.0.0.1:0'")
    local port = net.port(box, "s")
    local err = box:refused(1, "start", "--listen", "unix:" .. box:path "u.sock",
      "--listen", "127.0.0.1:" .. port, box:idle "other")
    assert.is_truthy(err:find(("--listen 127.0.0.1:%d: Address already in use"):format(port), 1, true))
    assert.is_nil(uv.fs_lstat(box:path "u.sock"))
    assert.equal("generation 1\n", net.ask(port))
  end)

  it("is given again by restart", function()
    local port = net.free_port()
    box:serve(SERVE .. ("serve '127.0.0.1:%d'"):format(port), "--listen", "127.0.0.1:" .. port)
    box:ok("restart", "s")
    assert.equal("generation 1\n", net.ask(port))
    assert.is_true(box:status("s").listeners[1].inherited)
  end)
end)

-- Descriptors that another lunad passes with `fds`.
describe("an inherited socket by its number", function()
  local box = support.with_box(before_each, after_each)

  -- Run the script `inner` by another lunad that passes a socket of `address` as descriptor 3, with `verb`
  -- and more options of spawn; returns the pid of the inner one, which is a daemon for `start`.
  local function pass(verb, address, text, options)
    box:write("inner.lua", support.BEAT .. SERVE .. text)
    box:write("outer.lua", support.BEAT .. ([[
      local fd = assert(lunad.listen %q)
      assert(lunad.spawn { %q, %q, "--log", "inner.log", "inner.lua", fds = { [3] = fd }, cwd = %q, %s })
    ]]):format(address, support.binary, verb, box.dir, options or ""))
    box:start(box:path "outer.lua")
    support.wait_for("the inner daemon", function() return box:lunad("status", "inner").code == 0 end)
    return box:status("inner").pid
  end

  local function reload(text)
    box:write("inner.lua", support.BEAT .. SERVE .. text)
    return box:lunad("reload", "inner").code
  end

  it("is served by every generation, whatever reloads are refused", function()
    local port = net.free_port()
    local pid = pass("run", "127.0.0.1:" .. port, "serve 'fd:3'")
    for generation = 1, 4 do
      assert.equal(("generation %d\n"):format(generation), (net.ask(port)))
      assert.equal(1, reload "serve 'fd:3' serve 'fd:3' error 'no'")
      assert.equal(("generation %d\n"):format(generation), (net.ask(port)))
      assert.equal(0, reload "serve 'fd:3'")
    end
    local status = box:status "inner"
    assert.equal(pid, status.pid)
    assert.equal("fd:3", status.listeners[1].address)
    assert.is_true(status.listeners[1].inherited)
    assert.equal(1, #status.listeners)
    assert.equal(0, box:lunad("stop", "inner").code)
  end)

  it("is passed on to start, which is told by LISTEN_FDS alone", function()
    local port = net.free_port()
    local env = "env = { LISTEN_FDS = '1', LISTEN_FDNAMES = 'web' }"
    pass("start", "127.0.0.1:" .. port, "serve 'fd:web'", env)
    assert.equal("generation 1\n", (net.ask(port)))
    assert.equal(0, reload "serve 'fd:3'")
    assert.equal("generation 2\n", (net.ask(port)))
    assert.equal(0, box:lunad("stop", "inner").code)
  end)

  it("can be asked for again after a generation that did not", function()
    local port = net.free_port()
    pass("run", "127.0.0.1:" .. port, "serve 'fd:3'")
    assert.equal(0, reload "")
    local client = net.connect(port):wait_connected()
    assert.equal(0, reload "serve 'fd:3'")
    assert.equal("generation 3\n", (client:wait_end()))
    assert.equal(0, box:lunad("stop", "inner").code)
  end)

  it("is taken by net.serve, and by the address that it has", function()
    local port = net.free_port()
    local NET = "require 'lunad.net'.serve('%s', function(s) s:write('generation ' .. lunad.generation) end)"
    pass("start", "127.0.0.1:" .. port, NET:format "fd:3", "env = { LISTEN_FDS = '1' }")
    assert.equal("generation 1", (net.ask(port)))
    assert.equal(0, reload(NET:format("127.0.0.1:" .. port)))
    assert.equal("generation 2", (net.ask(port)))
    assert.equal(0, box:lunad("stop", "inner").code)
  end)

  it("is refused in words if it is not one", function()
    box:inside(([[
      local uv = require "luv"
      local function refused(text, code, words)
        local fd, message, got = lunad.listen(text)
        fails(code, fd, message, got)
        truthy(message:find(text .. words, 1, true), message)
      end
      refused("fd:999", "EBADF", ": this process was not started with it")
      refused("fd:x", "ENOENT", ": no such socket was passed")
      refused("fd:3.0", "ENOENT", ": no such socket was passed")
      refused("fd:-1", "ENOENT", ": no such socket was passed")
      refused("fd:99999999999999999999", "ENOENT", ": no such socket was passed")
      local file = assert(uv.fs_open(%q, "w", 420))
      refused("fd:" .. file, "EBADF", ": this process was not started with it")
      local mine = lunad.listen "127.0.0.1:0"
      refused("fd:" .. mine, "EBADF", ": this process was not started with it")
      local own = 0
      for n = 3, 30 do
        local _, message = lunad.listen("fd:" .. n)
        own = own + (message:find("it is lunad's own", 1, true) and 1 or 0)
      end
      truthy(own > 5, own)
      equal(1, #lunad.stats().listeners)
    ]]):format(box:path "file"))
  end)
end)

local support = require "support"

local json, uv = support.json, support.uv

describe("the control socket", function()
  local box = support.with_box(before_each, after_each)

  it("has mode 0600, and is gone after a stop", function()
    box:serve("", "--umask", "0")
    local stat = uv.fs_stat(box:path "run/s.sock")
    assert.equal("socket", stat.type)
    assert.equal(tonumber("600", 8), stat.mode & tonumber("7777", 8))
    box:ok("stop", "s")
    assert.is_nil(uv.fs_lstat(box:path "run/s.sock"))
  end)

  it("serves status, as lunad status --json shows it", function()
    local pid = box:serve ""
    local answer = box:connect("s"):ask "status"
    assert.is_true(answer.ok)
    assert.equal(pid, answer.pid)
    assert.equal("s", answer.name)
    answer.ok = nil
    local keys = {}
    for key in pairs(box:status "s") do keys[key] = true end
    for key in pairs(answer) do assert.is_true(keys[key], key) end
  end)

  it("serves reload, with the verdict", function()
    box:serve ""
    local client = box:connect "s"
    local answer = client:ask "reload"
    assert.is_true(answer.ok)
    assert.equal(2, answer.generation)
    box:write("s.lua", "error 'oops'")
    answer = client:ask "reload"
    assert.is_false(answer.ok)
    assert.matches("s%.lua:1: oops\nstack traceback:", answer.error)
  end)

  it("serves reopen", function()
    box:serve ""
    assert(os.remove(box:path "log/s.log"))
    assert.is_true(box:connect("s"):ask("reopen").ok)
    assert.is_truthy(box:read "log/s.log")
  end)

  it("serves stop, and answers before the end", function()
    local pid = box:serve ""
    assert.is_true(box:connect("s"):ask("stop").ok)
    box:wait_gone(pid)
    assert.same({}, box:left_files())
  end)

  it("serves one connection after the other, and one request after the other", function()
    box:serve ""
    local client = box:connect "s"
    for _ = 1, 50 do
      assert.is_true(client:ask("status").ok)
    end
    for _ = 1, 50 do
      local other = box:connect "s"
      assert.is_true(other:ask("status").ok)
      other:close()
    end
  end)
end)

describe("a request", function()
  local box = support.with_box(before_each, after_each)

  -- What is not a request is answered with an error, and the connection can still be used.
  local function refused(line)
    local client = box:connect "s"
    client:send(line .. "\n")
    local answer = client:answer()
    assert.is_false(answer.ok)
    assert.equal("string", type(answer.error))
    assert.is_true(client:ask("status").ok)
    client:close()
  end

  it("that is not a JSON object with a verb is answered with an error", function()
    box:serve ""
    for _, line in ipairs {
      "garbage", "", " ", "{", "}", "null", "true", "42", '"status"', "[]", '["status"]', "{}",
      "{'verb': 1}", '{"verb": 1}', '{"verb": null}', '{"verb": ["status"]}', '{"verb": {}}',
      '{"verb": "status"', '{"verb": "status"}{"verb": "status"}', '{"verb": "status", "verb": "stop"}',
      "\0", "\xFF\xFE\xC3", '{"verb": "\xFF"}', '{"verb": "a\\u0000b"}', '{"verb": "\\ud800"}',
      '{"verb": 1e999}', "GET / HTTP/1.1\r", ("x"):rep(100000),
    } do
      refused(line)
    end
    assert.equal("running", box:status("s").state)
  end)

  it("of an unknown verb is answered with an error", function()
    box:serve ""
    for _, verb in ipairs { "nonsense", "", "STATUS", "status ", "statu", "x\27[31m", ("v"):rep(1000) } do
      refused(json.encode { verb = verb })
    end
  end)

  it("that is nested a hundred thousand deep is answered with an error", function()
    box:serve ""
    refused(("["):rep(100000))
    refused(('{"verb":'):rep(100000))
    refused(('{"verb":'):rep(50000) .. "1" .. ("}"):rep(50000))
  end)

  it("may have other members, spaces, and be nearly a megabyte long", function()
    box:serve ""
    local client = box:connect "s"
    client:send(' \t{ "pad" : "' .. ("x"):rep(1000000) .. '" , "verb" : "status" } \r\n')
    assert.is_true(client:answer().ok)
  end)

  it("of 1 MiB without a newline is refused, and the connection closed", function()
    box:serve ""
    local client = box:connect "s"
    client:listen()
    client:send(("x"):rep(1024 * 1024 + 1))
    client:wait_end()
    assert.is_true(#client.lines <= 1)
    assert.is_falsy((client.lines[1] or ""):find '"ok": ?true')
    assert.is_true(box:connect("s"):ask("status").ok)
  end)

  it("may come in pieces", function()
    box:serve ""
    local client = box:connect "s"
    for byte in ('{"verb": "status"}\n'):gmatch "." do
      client:send(byte)
    end
    assert.is_true(client:answer().ok)
  end)

  it("may come with a thousand others, which are answered in order", function()
    box:serve ""
    local client, lines = box:connect "s", {}
    for i = 1, 1000 do
      lines[i] = i % 10 == 0 and '{"verb": "nonsense"}\n' or '{"verb": "reopen"}\n'
    end
    client:send(table.concat(lines))
    for i = 1, 1000 do
      assert.equal(i % 10 ~= 0, client:answer().ok)
    end
  end)

  it("of a reload delays those after it, and they are answered in order", function()
    box:serve "lunad.on_reload(function() lunad.sleep(0.05) end)"
    local client = box:connect "s"
    client:send '{"verb": "reload"}\n{"verb": "status"}\n{"verb": "reload"}\n{"verb": "status"}\n'
    for generation = 2, 3 do
      assert.equal(generation, client:answer().generation)
      assert.equal(generation, client:answer().generation)
    end
  end)

  it("is answered though the client has closed its side", function()
    box:serve "lunad.on_reload(function() lunad.sleep(0.05) end)"
    for _, verb in ipairs { "status", "reload", "nonsense" } do
      local client = box:connect "s"
      client:send(('{"verb": "%s"}\n'):format(verb))
      client:shutdown()
      assert.equal(verb ~= "nonsense", client:answer().ok)
      client:wait_end()
    end
  end)

  it("whose client has gone does no harm", function()
    box:serve "lunad.on_reload(function() lunad.sleep(0.02) end)"
    for _, text in ipairs { "", "{", '{"verb": "status"}\n', '{"verb": "reload"}\n', ("x"):rep(70000) } do
      for _ = 1, 10 do
        local client = box:connect "s"
        client:send(text)
        client:close()
      end
    end
    support.wait_for("the reloads", function() return box:status("s").state == "running" end)
    assert.is_true(box:connect("s"):ask("reload").ok)
    assert.equal(0, box:status("s").errors.count)
  end)
end)

describe("hostile clients", function()
  local box = support.with_box(before_each, after_each)

  local TICKING = "tick = lunad.every(0.01, function() end)"

  local function ticking()
    for _, timer in ipairs(box:status("s").timers) do
      if timer.interval < 1 then
        return timer
      end
    end
  end

  -- While `abuse` is done again and again, the 10 ms timer keeps its beat and the host serves others.
  local function beat_goes_on(abuse)
    local before = ticking()
    support.wait_for("100 beats", function()
      abuse()
      local now = ticking()
      return now.runs + now.missed >= before.runs + before.missed + 100
    end)
    local after = ticking()
    local least = support.is_sanitized() and 5 or 30 -- a busy machine takes some, and sanitizers more
    assert.is_true(after.runs - before.runs >= least, "too many beats are missed")
    assert.equal(0, box:status("s").errors.count)
  end

  it("that send nothing, 200 of them, disturb no other client", function()
    box:serve(TICKING)
    local fds = box:status("s").fds
    for _ = 1, 200 do
      box:connect "s"
    end
    beat_goes_on(function() end)
    assert.is_true(box:status("s").fds < fds + 150, "idle clients are dropped when there are many")
    assert.equal(0, box:lunad("reload", "s").code)
  end)

  it("that send half a request, 200 of them, disturb no other client", function()
    box:serve(TICKING)
    for _ = 1, 200 do
      box:connect("s"):send '{"verb": '
    end
    beat_goes_on(function() end)
  end)

  it("that send garbage all the time disturb no other client", function()
    box:serve(TICKING)
    local garbage = ("\0\1\2garbage{[\n"):rep(1000)
    beat_goes_on(function()
      local client = box:connect "s"
      client:listen()
      client:send(garbage)
      client:send(("["):rep(100000) .. "\n")
      client:close()
    end)
  end)

  it("that send requests without end and read no answer disturb no other client", function()
    box:serve(TICKING)
    local before = box:status("s").memory.rss
    local requests = ('{"verb": "status"}\n'):rep(20000)
    for _ = 1, 20 do
      box:connect("s"):send(requests)
    end
    beat_goes_on(function() end)
    if not support.is_sanitized() then
      assert.is_true(box:status("s").memory.rss < before + 64 * 1024 * 1024)
    end
  end)

  it("that send megabytes without a newline disturb no other client", function()
    box:serve(TICKING)
    local flood = ("x"):rep(300000)
    beat_goes_on(function()
      local client = box:connect "s"
      for _ = 1, 10 do
        client:send(flood)
      end
      client:close()
    end)
  end)

  it("that connect and close as fast as they can disturb no other client", function()
    box:serve(TICKING)
    local fds = box:status("s").fds
    beat_goes_on(function()
      for _ = 1, 20 do
        box:connect("s"):close()
      end
    end)
    support.wait_for("the end of all connections", function() return box:status("s").fds <= fds end)
  end)

  it("cannot keep the daemon from stopping", function()
    local pid = box:serve(TICKING)
    for _ = 1, 50 do
      box:connect("s"):send(('{"verb": "status"}\n'):rep(10000))
    end
    support.kill(pid)
    box:wait_gone(pid)
    assert.same({}, box:left_files())
  end)
end)

describe("a peer of the control socket", function()
  local box = support.with_box(before_each, after_each)

  local NOBODY, OTHER = 65534, 65533

  local PERL = [[
    $SIG{PIPE} = "IGNORE"; # the answer may come before the request
    my $s = IO::Socket::UNIX->new(Peer => shift) or die "no connection: $!";
    syswrite $s, "{\"verb\": \"status\"}\n";
    print scalar readline $s;
  ]]

  -- Ask the daemon as another user: the answer.
  local function ask_as(uid, path)
    local result = box:run({ "--reuid", tostring(uid), "--regid", tostring(uid), "--clear-groups",
      "perl", "-MIO::Socket::UNIX", "-e", PERL, path }, { program = "setpriv" })
    assert.equal("", result.err)
    return assert(json.decode(result.out))
  end

  -- Let all users connect, as far as the file system is concerned.
  local function open_up(path)
    assert(uv.fs_chmod(path, tonumber("666", 8)))
    assert(uv.fs_chmod(path:match "^(.*)/", tonumber("755", 8)))
  end

  local function is_refused(answer)
    assert.is_false(answer.ok)
    assert.matches("permission", answer.error)
    assert.is_nil(answer.pid)
  end

  it("that is neither root nor the starter is refused with a reason", function()
    if not support.is_root then
      return pending "needs root"
    end
    box:serve ""
    open_up(box:path "run/s.sock")
    is_refused(ask_as(NOBODY, box:path "run/s.sock"))
    assert.is_true(ask_as(0, box:path "run/s.sock").ok)
  end)

  it("that is the user dropped to is refused: the starter was another", function()
    if not support.is_root then
      return pending "needs root"
    end
    box:serve("", "--user", tostring(NOBODY))
    open_up(box:path "run/s.sock")
    is_refused(ask_as(NOBODY, box:path "run/s.sock"))
  end)

  it("that is the starter or root is served", function()
    if not support.is_root then
      return pending "needs root"
    end
    local dir = box:path "theirs"
    assert(uv.fs_mkdir(dir, tonumber("755", 8)))
    assert(uv.fs_chown(dir, NOBODY, NOBODY))
    local path = box:write("s.lua", support.BEAT)
    local words = { "start", "--run-dir", dir .. "/run", "--log", dir .. "/s.log", path }
    local result = box:run(words, { uid = NOBODY, gid = NOBODY })
    assert.equal(0, result.code, result.err)
    finally(function() box:ok("stop", "--run-dir", dir .. "/run", "s") end)
    open_up(dir .. "/run/s.sock")
    assert.is_true(ask_as(NOBODY, dir .. "/run/s.sock").ok)
    assert.is_true(ask_as(0, dir .. "/run/s.sock").ok)
    is_refused(ask_as(OTHER, dir .. "/run/s.sock"))
  end)
end)

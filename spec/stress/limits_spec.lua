-- A daemon that has no descriptors or no processes left for minutes, and then has them again.

local support = require "support"
local stress = require "support.stress"

local uv = support.uv

describe("A daemon without descriptors", function()
  local box = support.with_box(before_each, after_each)

  -- Eats all descriptors, but for moments; serves an echo on a socket that is its own.
  local EATER = [[
    local uv = require "luv"
    local server = uv.new_pipe()
    assert(server:open(assert(lunad.listen("unix:" .. DIR .. "/echo"))))
    server:listen(128, function()
      local client = uv.new_pipe()
      if server:accept(client) then
        client:read_start(function(_, chunk)
          if chunk then client:write(chunk) else client:close() end
        end)
      else
        client:close()
      end
    end)
    local files, eats = {}, true
    lunad.every(0.01, function()
      while eats do
        local file = io.open "/dev/null"
        if not file then break end
        files[#files + 1] = file
      end
    end)
    lunad.signal("WINCH", function()
      eats = false
      for _, file in ipairs(files) do file:close() end
      files = {}
      print "given back"
    end)
    local runs, beat = 0, nil
    beat = lunad.every(0.01, function()
      runs = runs + 1
      lunad.status(("%d of %d beats"):format(runs, runs + beat:missed()))
    end)
  ]]

  -- Connect to the echo; `client.answer` is what comes back, `client.ended` is set at the end.
  local function connect(word)
    local client = { pipe = uv.new_pipe() }
    client.pipe:connect(box:path "open/echo", function(err)
      client.ended = err
      if not err then
        client.pipe:write(word)
        client.pipe:read_start(function(read_err, chunk)
          client.answer = client.answer or chunk
          client.ended = client.ended or read_err or not chunk
        end)
      end
    end)
    return client
  end

  local users = { {} }
  if support.is_root then
    users[2] = { "--user", "65534" }
  end
  for _, user in ipairs(users) do
    it("is asked, reopens its log, burns no time and recovers " .. table.concat(user, " "), function()
      assert(uv.fs_mkdir(box:path "open", tonumber("777", 8)))
      assert(uv.fs_chmod(box:path "open", tonumber("777", 8)))
      local pid = box:serve(("local DIR = %q "):format(box:path "open") .. EATER, "--rlimit", "nofile=64",
        table.unpack(user))
      support.wait_for("the last descriptor", function() return box:status("s").fds >= 60 end)
      local clients, asked, least, most = {}, 0, math.huge, 0
      local ending = uv.hrtime() + stress.size(3, 600) * 1e9
      repeat
        for _ = 1, 20 do clients[#clients + 1] = connect "hello" end
        local before, start = support.cpu_of(pid), uv.hrtime()
        support.wait_for("a second", function()
          uv.run "nowait"
          return uv.hrtime() - start > 1e9
        end)
        local share = (support.cpu_of(pid) - before) / ((uv.hrtime() - start) / 1e9)
        least, most = math.min(least, share), math.max(most, share)
        assert.is_nil(box:status("s").error)
        box:ok("reopen", "s")
        asked = asked + 1
        for _, client in ipairs(clients) do
          if not client.pipe:is_closing() then client.pipe:close() end
        end
        clients = {}
      until uv.hrtime() > ending
      stress.note("asked %d times; %.1f to %.1f %% of a processor; %s", asked, least * 100, most * 100,
        box:status("s").text)
      assert.is_true(least < 0.5, "it turns without pause")
      box:ok("signal", "s", "WINCH")
      box:wait_log("s", "given back")
      local client = connect "again"
      support.wait_for("an answer", function()
        uv.run "nowait"
        return client.answer
      end)
      client.pipe:close()
      box:ok("reload", "s")
      box:ok("stop", "s")
      assert.same({}, box:left_files())
    end)
  end
end)

describe("A daemon without processes", function()
  local box = support.with_box(before_each, after_each)

  it("is told EAGAIN, backs off, recovers and stops all that it has started", function()
    if not support.is_root then return pending "needs root" end
    local user = ("%d"):format(50000 + uv.os_getpid() % 9000) -- that has no other process
    local pid = box:serve([[
      local sleepers = {}
      local function eat()
        while true do
          local child, err, code = lunad.spawn { "sleep", "1000" }
          if not child then
            return err, code
          end
          sleepers[#sleepers + 1] = child
        end
      end
      lunad.supervise { "sleep", "0.05", name = "worker", backoff = { 0.1, 0.5 }, max_restarts = 1e6 }
      local err, code = eat()
      print("refused after " .. #sleepers .. ": " .. code .. " | " .. err)
      lunad.task(function()
        print("exec", select(3, lunad.exec { "true" }))
        print("execute", os.execute "true")
        print("popen", select(3, io.popen "true"))
      end)
      local eater = lunad.every(0.05, eat)
      lunad.signal("WINCH", function()
        for _, child in ipairs(sleepers) do child:kill "KILL" end
        eater:stop()
        print "given back"
      end)
    ]], "--user", user .. ":" .. user, "--rlimit", "nproc=20")
    assert.matches("refused after 1%d: EAGAIN | EAGAIN: resource temporarily unavailable", box:log "s")
    box:wait_log("s", "a supervised command cannot be started")
    box:wait_log("s", "popen\t")
    local text = box:log "s"
    assert.matches("exec\tEAGAIN", text)
    support.wait_for("some time", function() return box:status("s").uptime > stress.size(2, 60) end, 120)
    local tries = select(2, box:log("s"):gsub("a supervised command cannot be started", ""))
    local seconds = box:status("s").uptime
    stress.note("%d tries to start a worker in %.1f s; %.2f s of CPU", tries, seconds, support.cpu_of(pid))
    assert.is_true(tries <= 4 + seconds / 0.4, tries .. " tries")
    box:ok("signal", "s", "WINCH")
    support.wait_for("the worker", function()
      local children = box:status("s").children
      return #children == 1 and children[1].name == "worker" and children[1].state == "running"
    end, 30)
    box:ok("stop", "s")
    assert.same({}, support.processes(function(at)
      return support.proc_status(at).Uid and support.proc_status(at).Uid:match "^%d+" == user
    end))
  end)
end)

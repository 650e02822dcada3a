-- A service that changes COUNT times while 8 clients ask all the time: how many requests failed, how long a
-- change takes, and how long nothing accepts meanwhile.
local daemon, measure, services, statistics = require "daemon", require "measure", require "services",
  require "statistics"
local requests = require "support.requests"
local uv = require "luv"
local _, what, count = ...

local modes = {}

-- What each worker says when its old generation ends: the moment of its commit.
local COMMITS = [[
  local uv = require "luv"
  lunad.on_stop(function() print(("over %d %d"):format(lunad.generation, uv.hrtime())) end)
]]

-- Start the service and the clients, call `use` with it, and end them; return how often they asked, and how
-- often that failed.
local function under_load(text, options, use)
  local asked, failed
  daemon.with(requests.SERVICE .. text, options, function(server)
    local address = server:wait_log "serves (%S+)"
    local client, out = os.tmpname(), os.tmpname()
    local file = assert(io.open(client, "w"))
    file:write(requests.CLIENT)
    file:close()
    local log = assert(uv.fs_open(out, "w", 420))
    local over = false
    local process = assert(uv.spawn(daemon.lunad, {
      args = { "run", "--name", "client", client, address, "8" }, stdio = { nil, log, log },
    }, function() over = true end))
    services.poll_for("the clients", function() return services.read(out):find "asks" end)
    local ok, err = xpcall(use, debug.traceback, server, address)
    process:kill "sigterm"
    services.wait_for("the end of the clients", function() return over end)
    process:close()
    uv.fs_close(log)
    uv.run "nowait"
    asked, failed = requests.read(services.read(out))
    os.remove(client)
    os.remove(out)
    assert(ok, err)
  end)
  return asked, failed
end

-- Reloads of two workers. The commits of one reload are those of one generation.
function modes.reloads()
  local times, gaps = {}, {}
  local asked, failed = under_load(COMMITS, "--workers 2", function(server)
    for i = 1, count do
      local began = uv.hrtime()
      local said, ok = server:verb "reload"
      times[i] = (uv.hrtime() - began) / 1e9
      assert(ok, said)
    end
    services.poll_for("the last commits", function()
      return select(2, server:log():gsub(("over %d "):format(count), "")) == 2
    end)
    for generation = 1, count do
      local moments = {}
      for moment in server:log():gmatch(("over %d (%%d+)"):format(generation)) do
        moments[#moments + 1] = math.tointeger(tonumber(moment))
      end
      gaps[generation] = math.abs(moments[1] - moments[2]) / 1e9
    end
  end)
  measure.report { asked = asked, failed = failed, time = statistics.median(times),
    gap = statistics.median(gaps), gap_most = math.max(table.unpack(gaps)) }
end

-- Bad code, which serves until an error shows that it is bad. The rollback takes from that error on until the
-- old code serves.
function modes.rollbacks()
  local bad = requests.SERVICE .. [[
    lunad.on_error(function() print(("failed %d"):format(require("luv").hrtime())) end)
    lunad.after(0.01, function() error "this version is broken" end)
  ]]
  local good = [[ print(("good %d"):format(require("luv").hrtime())) ]]
  local server_log
  local asked, failed = under_load(good, "", function(server)
    server:install(bad)
    for _ = 1, count do
      local said, ok = server:verb("reload", "--probation 30")
      assert(not ok and said:find("rolled back", 1, true), said)
    end
    server_log = server:log()
  end)
  local times = {}
  for from, to in server_log:gmatch "failed (%d+).-good (%d+)" do
    times[#times + 1] = (math.tointeger(tonumber(to)) - math.tointeger(tonumber(from))) / 1e9
  end
  assert(#times == tonumber(count), "there were " .. #times .. " rollbacks")
  measure.report { asked = asked, failed = failed, time = statistics.median(times),
    time_most = math.max(table.unpack(times)) }
end

-- Connections, one after the other, until `is_over()`; return the longest time in which none was answered.
local function longest_silence(address, is_over)
  local host, port = address:match "^(.*):(%d+)$"
  local last, most = uv.hrtime(), 0
  while not is_over() do
    local socket, answered = uv.new_tcp(), false
    socket:connect(host, tonumber(port), function(err)
      assert(not err, err)
      socket:read_start(function(read_err, text)
        answered = assert(text, read_err or "no answer")
      end)
      socket:write "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    end)
    services.wait_for("an answer", function() return answered end)
    socket:close()
    most, last = math.max(most, uv.hrtime() - last), uv.hrtime()
  end
  return most / 1e9
end

-- Upgrades of a service started with OPTIONS to another build and back. The silence is that of a client that
-- connects again and again.
local function upgrade(options)
  local programs = { [0] = daemon.lunad, daemon.lunad .. "-next" }
  local times, gaps, calm = {}, {}, {}
  local asked, failed = under_load("", options, function(server, address)
    for i = 1, count do
      local until_then = uv.hrtime() + 5e7
      calm[i] = longest_silence(address, function() return uv.hrtime() > until_then end)
      local code, process
      local began = uv.hrtime()
      process = assert(uv.spawn(programs[i % 2], {
        args = { "upgrade", server.name }, stdio = { nil, nil, 2 } },
        function(status) code = status end))
      gaps[i] = longest_silence(address, function() return code end)
      times[i] = (uv.hrtime() - began) / 1e9
      process:close()
      assert(code == 0, "an upgrade ended with status " .. code)
    end
  end)
  measure.report { asked = asked, failed = failed, time = statistics.median(times),
    gap = statistics.median(gaps), gap_most = math.max(table.unpack(gaps)), calm = statistics.median(calm),
    calm_most = math.max(table.unpack(calm)) }
end

function modes.upgrades()
  upgrade ""
end

-- The same of a master and two workers.
modes["worker-upgrades"] = function()
  upgrade "--workers 2"
end

modes[what]()

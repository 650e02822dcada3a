-- Workers beside one process: what they serve, and who gets which clients.
local daemon, measure, services, statistics = require "daemon", require "measure", require "services",
  require "statistics"
local uv = require "luv"
local _, what, first, second = ...

local modes = {}

-- examples/http.lua under wrk with so many workers: requests a second, and CPU of the workers for each.
local function serve(workers, seconds)
  local rate, cpu
  daemon.with(services.read "examples/http.lua", "--workers " .. workers, function(server)
    local before = server:cpu()
    local wrk = ("wrk -t 1 -c 64 -d %s http://127.0.0.1:%d/hello"):format(seconds, server.port)
    local pipe = assert(io.popen(wrk))
    local text = pipe:read "a"
    pipe:close()
    assert(not text:find("Non-2xx", 1, true) and not text:find("Socket errors", 1, true), text)
    rate = tonumber(text:match "Requests/sec:%s*([%d.]+)")
    cpu = (server:cpu() - before) / tonumber(text:match "(%d+) requests in")
  end)
  return rate, cpu
end

function modes.throughput(seconds)
  local rate, cpu = serve(1, seconds)
  local rate_of_two, cpu_of_two = serve(2, seconds)
  measure.report { rate = rate_of_two, growth = rate_of_two / rate, cpu = cpu_of_two,
    linear = cpu / cpu_of_two }
end

-- Says which worker it is to each client, and keeps it.
local GREETER = [[
  local lunad, uv = require "lunad", require "luv"
  local server, clients = uv.new_tcp(), {}
  assert(server:open(assert(lunad.listen(os.getenv "HTTP_ADDRESS"))))
  assert(server:listen(1024, function(err)
    assert(not err, err)
    local client = uv.new_tcp()
    assert(server:accept(client))
    clients[#clients + 1] = client
    client:write(tostring(lunad.worker))
    client:read_start(function(_, text)
      if not text and not client:is_closing() then client:close() end
    end)
  end))
]]

-- Connect so many clients at once: the least that a worker of four has of its share.
local function least_share(port, count)
  local shares, sockets, answers = { 0, 0, 0, 0 }, {}, 0
  for i = 1, count do
    local socket = uv.new_tcp()
    sockets[i] = socket
    socket:connect("127.0.0.1", port, function(err)
      assert(not err, err)
      socket:read_start(function(_, text)
        local worker = tonumber(text)
        shares[worker] = shares[worker] + 1
        answers = answers + 1
      end)
    end)
  end
  services.wait_for("the answers", function() return answers == count end)
  for _, socket in ipairs(sockets) do
    socket:close()
  end
  uv.run "nowait"
  return math.min(table.unpack(shares)) / (count / 4)
end

function modes.spread(few, many)
  daemon.with(GREETER, "--workers 4", function(server)
    local tries = {}
    for i = 1, 21 do
      tries[i] = least_share(server.port, tonumber(few))
    end
    measure.report { few = statistics.median(tries), many = least_share(server.port, tonumber(many)) }
  end)
end

modes[what](first, second)

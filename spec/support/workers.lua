-- What specs of workers share.

local net = require "support.net"
local support = require "support"

local workers = {}

-- For scripts: serve(ADDRESS) answers each client with the number of the worker, and logs its port.
workers.SERVE = [[
  local uv = require "luv"
  function serve(address)
    local is_unix = address:find "^unix:"
    local new_stream = is_unix and uv.new_pipe or uv.new_tcp
    local server = new_stream()
    assert(server:open(assert(lunad.listen(address))))
    assert(server:listen(128, function(err)
      assert(not err, err)
      local client = new_stream()
      if server:accept(client) then
        client:write(lunad.worker .. "\n")
        client:shutdown(function() client:close() end)
      end
    end))
    print("port " .. (is_unix and 0 or server:getsockname().port))
  end
]]

-- Start "s" with a number of workers; the other words are options. Returns the master's pid.
function workers.start(box, count, text, ...)
  return box:serve(text, "--workers", tostring(count), ...)
end

-- The pid of a worker of "s".
function workers.pid(box, worker)
  return math.tointeger(tonumber((box:read(("run/s-%d.pid"):format(worker)) or ""):match "^(%d+)\n$"))
end

-- Wait until a worker has another process than BEFORE, which serves; returns its pid.
function workers.wait_next(box, worker, before)
  return support.wait_for("the next process of worker " .. worker, function()
    local pid = workers.pid(box, worker)
    return pid and pid ~= before and box:log("s"):find(
      ("worker %d: started (pid %d)"):format(worker, pid), 1, true) and pid
  end)
end

-- Ask a server COUNT times, many at once; returns how often which worker has answered.
function workers.count_answers(target, count)
  local clients, counts = {}, {}
  for i = 1, count do
    clients[i] = net.connect(target)
    if i % 100 == 0 or i == count then
      for j, client in pairs(clients) do
        local answer, err = client:wait_end()
        assert(not err, err)
        local worker = assert(tonumber(answer), answer)
        counts[worker] = (counts[worker] or 0) + 1
        clients[j] = nil
      end
    end
  end
  return counts
end

return workers

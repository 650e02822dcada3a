-- A service of two workers, and one of a single process, that change in each way there is while clients ask:
-- each request gets its whole answer. And how many clients come to which of four workers.

local requests = require "support.requests"
local stress = require "support.stress"
local support = require "support"
local uv = support.uv

local CLIENTS = 8

describe("a service that changes under load", function()
  local box = support.with_box(before_each, after_each)

  -- Start the service, and clients that ask it.
  local function begin(...)
    box:serve(requests.SERVICE, ...)
    local address = box:wait_log("s", "serves (%S+)")
    local client = box:write("client.lua", requests.CLIENT)
    local load = box:spawn { "run", client, address, tostring(CLIENTS) }
    box:await(load, "the clients", function() return load.out():find "asks" end)
    return load
  end

  -- Change the service COUNT times, then end the clients, none of whose requests may have failed.
  local function change(load, what, count, change_once)
    for i = 1, count do
      load.turn()
      assert.is_nil(load.code, load.err())
      change_once(i)
    end
    support.kill(load.pid, "sigterm")
    box:await(load, "the end of the clients", load.is_over)
    local asked, failed, problems = requests.read(load.out())
    stress.note("%d %s: %d requests, %d failed", count, what, asked, failed)
    assert.equal(0, failed, problems)
    assert.truthy(asked >= count)
  end

  -- Replace the script, and reload it; what was printed.
  local function reload(text, status, ...)
    box:write("s.lua", support.BEAT .. text)
    local result = box:lunad("reload", "s", ...)
    assert.equal(status, result.code, result.out .. result.err)
    return result.out .. result.err
  end

  it("fails no request when all workers reload, or one of them refuses", function()
    local load = begin("--workers", "2")
    change(load, "reloads of two workers", stress.size(8, 100), function(i)
      if i % 4 == 0 then
        assert.matches("worker 2: .*this version is broken",
          reload(requests.SERVICE .. "if lunad.worker == 2 then error 'this version is broken' end", 1))
      else
        assert.matches("^s: reloaded, generation ", reload(requests.SERVICE, 0))
      end
    end)
  end)

  -- New code, which serves for a moment until an error shows that it is bad.
  local FAILS = requests.SERVICE .. "lunad.after(0.01, function() error 'this version is broken' end)"

  it("fails no request when bad code is loaded and rolled back", function()
    local load = begin()
    change(load, "rollbacks", stress.size(6, 40), function()
      assert.matches("rolled back after .*this version is broken", reload(FAILS, 1, "--probation", "30"))
    end)
  end)

  it("fails no request when two workers and their master are upgraded, there and back", function()
    local load = begin("--workers", "2")
    local programs = { [0] = support.binary, support.binary .. "-next" }
    change(load, "upgrades of two workers", stress.size(4, 100), function(i)
      local result = box:run({ "upgrade", "s" }, { program = programs[i % 2] })
      assert.equal(0, result.code, result.err)
    end)
  end)

  it("fails no request when it is upgraded, there and back", function()
    local load = begin()
    local pid = box:status("s").pid
    local programs = { [0] = support.binary, support.binary .. "-next" }
    change(load, "upgrades", stress.size(6, 100), function(i)
      local result = box:run({ "upgrade", "s" }, { program = programs[i % 2] })
      assert.equal(0, result.code, result.err)
    end)
    assert.equal(pid, box:status("s").pid)
  end)
end)

describe("clients that come at once", function()
  local box = support.with_box(before_each, after_each)

  -- Says which worker it is to each client, and keeps it.
  local SCRIPT = [[
    local uv = require "luv"
    local server, clients = uv.new_tcp(), {}
    assert(server:open(assert(lunad.listen "127.0.0.1:0")))
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
    print("port " .. server:getsockname().port)
  ]]

  -- Connect so many clients; return how many came to which worker.
  local function connect(port, count)
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
    support.wait_for("all answers", function()
      uv.run "nowait"
      return answers == count
    end)
    for _, socket in ipairs(sockets) do
      socket:close()
    end
    uv.run "nowait"
    return shares
  end

  it("are spread over four workers, none of which has less than half of its share", function()
    box:serve(SCRIPT, "--workers", "4")
    local port = tonumber((box:wait_log("s", "port (%d+)")))
    local sum = { 0, 0, 0, 0 }
    for _ = 1, stress.size(8, 50) do -- 64 alone may be uneven by chance
      for worker, clients in ipairs(connect(port, 64)) do
        sum[worker] = sum[worker] + clients
      end
    end
    local thousand = connect(port, 1000)
    stress.note("64 clients, again and again: %s; 1000: %s", table.concat(sum, " "),
      table.concat(thousand, " "))
    for worker = 1, 4 do
      assert.truthy(sum[worker] >= (sum[1] + sum[2] + sum[3] + sum[4]) / 8)
      assert.truthy(thousand[worker] >= 125)
    end
  end)
end)

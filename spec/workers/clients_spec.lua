-- How clients come to workers.

local net = require "support.net"
local support = require "support"
local workers = require "support.workers"

describe("workers that listen", function()
  local box = support.with_box(before_each, after_each)

  -- No worker of four has less than half of its share.
  local function check_shares(counts, all)
    for worker = 1, 4 do
      assert.truthy((counts[worker] or 0) >= all / 8)
    end
  end

  it("have each their share of the clients of a TCP address, also over a reload", function()
    workers.start(box, 4, workers.SERVE .. 'serve("127.0.0.1:0")')
    local port = tonumber((box:wait_log("s", "port (%d+)")))
    for _ in box:log("s"):gmatch("port (%d+)") do
      assert.equal(port, tonumber(_))
    end
    check_shares(workers.count_answers(port, 400), 400)
    box:ok("reload", "s")
    check_shares(workers.count_answers(port, 400), 400)
  end)

  it("share a Unix socket", function()
    local path = box:path "sock"
    workers.start(box, 2, workers.SERVE .. ('serve("unix:%s")'):format(path))
    local counts = workers.count_answers(path, 200)
    assert.truthy(counts[1] and counts[2])
    box:ok("stop", "s")
    assert.is_nil(support.uv.fs_stat(path))
  end)

  it("keep clients waiting for the next process of a worker that crashed", function()
    workers.start(box, 2, workers.SERVE .. 'serve("127.0.0.1:0")')
    local port = tonumber((box:wait_log("s", "port (%d+)")))
    local first, second = workers.pid(box, 1), workers.pid(box, 2)
    support.kill(first, "sigstop")
    support.kill(second, "sigstop")
    local clients = {}
    for i = 1, 40 do
      clients[i] = net.connect(port):wait_connected()
    end
    support.kill(second, "sigkill")
    support.kill(first, "sigcont")
    local counts = {}
    for i = 1, 40 do
      local answer, err = clients[i]:wait_end()
      assert.is_nil(err)
      counts[answer] = true
    end
    assert.same({ ["1\n"] = true, ["2\n"] = true }, counts)
  end)

  it("do not take the port of another service", function()
    workers.start(box, 2, workers.SERVE .. 'serve("127.0.0.1:0")')
    local port = box:wait_log("s", "port (%d+)")
    local other = box:write("o.lua", support.BEAT .. workers.SERVE .. ('serve("127.0.0.1:%s")'):format(port))
    assert.matches("EADDRINUSE", box:refused(1, "start", "--workers", "2", other))
  end)

  it("close the sockets that new code does not ask for", function()
    workers.start(box, 2, workers.SERVE .. 'serve("127.0.0.1:0")')
    local port = tonumber((box:wait_log("s", "port (%d+)")))
    workers.count_answers(port, 4)
    assert.equal(0, box:reload("").code)
    support.wait_for("the port to be free", function()
      local _, err = net.ask(port)
      return err == "ECONNREFUSED"
    end)
  end)

  if support.is_root then
    it("have a privileged port that is named by --listen, with --user", function()
      local port = net.free_low_port()
      box:shell("chmod 755 $2", { box.dir })
      local address = "127.0.0.1:" .. port
      local script = workers.SERVE .. ('serve("%s")'):format(address)
      workers.start(box, 2, script, "--user", "nobody", "--listen", address)
      local counts = workers.count_answers(port, 60)
      assert.truthy(counts[1] and counts[2])
      box:ok("reload", "--workers", "3", "s")
      workers.count_answers(port, 20)
    end)
  end
end)

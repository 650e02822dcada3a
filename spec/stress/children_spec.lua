-- Very many children of one daemon, one after the other and all at once.

local support = require "support"
local stress = require "support.stress"

describe("A daemon with very many children", function()
  local box = support.with_box(before_each, after_each)

  -- Runs children, 50 at a time, and says what each has cost.
  local RUN = [[
    local function status_of(field)
      for line in io.lines "/proc/self/status" do
        local value = line:match("^" .. field .. ":%s*(%d+)")
        if value then return tonumber(value) end
      end
    end
    local function run(count)
      local begin, before, left = lunad.now(), os.clock(), count
      local function one()
        while left > 0 do
          left = left - 1
          local child = assert(lunad.spawn { "true" })
          assert(child:wait().ok)
        end
      end
      local tasks = {}
      for i = 1, 50 do tasks[i] = lunad.task(one) end
      for i = 1, 50 do tasks[i]:wait() end
      return (os.clock() - before) / count, lunad.now() - begin
    end
  ]]

  it("has the same cost for each, and nothing left of them", function()
    local few, many = stress.size(200, 1000), stress.size(1500, 10000)
    box:serve(RUN .. ([[
      lunad.task(function()
        run(200) -- what is made at first is not counted
        collectgarbage()
        local fds, rss = lunad.stats().fds, status_of "VmRSS"
        local cost_few = math.min((run(%d)), (run(%d)))
        local cost_many, seconds = run(%d)
        collectgarbage()
        print(("cost %%.1f %%.1f us, rss %%d %%d, fds %%d %%d, %%.1f s"):format(cost_few * 1e6,
          cost_many * 1e6, rss, status_of "VmRSS", fds, lunad.stats().fds, seconds))
      end)
    ]]):format(few, few, many))
    local cost_few, cost_many, rss, rss_after, fds, fds_after, seconds = box:wait_log("s",
      "cost ([%d.]+) ([%d.]+) us, rss (%d+) (%d+), fds (%d+) (%d+), ([%d.]+) s\n", stress.size(60, 600))
    local ratio = cost_many / cost_few
    stress.note("%d children: %s us of CPU each, %d: %s us, ratio %.2f, in %s s; %s KiB, %s before", few,
      cost_few, many, cost_many, ratio, seconds, rss_after, rss)
    assert.is_true(ratio < stress.size(3, 1.5), "ratio " .. ratio)
    assert.is_true(rss_after - rss < (support.is_sanitized() and 100000 or 2000), "memory grows")
    assert.is_true(math.abs(fds_after - fds) <= 4, "descriptors are left")
    local status = box:status "s"
    assert.equal(0, status.totals.children)
    local children = support.read(("/proc/%d/task/%d/children"):format(status.pid, status.pid))
    assert.equal("", children) -- also no zombie
  end)

  it("can have them all at once, is asked meanwhile, and ends them all at a stop", function()
    local count = stress.size(200, 10000)
    box:serve(([[
      local children = {}
      local function more()
        for _ = 1, 50 do
          if #children == %d then return print("all are there") end
          local child, err = lunad.spawn { "sleep", "10000", stdout = "null", stderr = "null" }
          if not child then
            return print("all are there: " .. err)
          end
          children[#children + 1] = child
        end
        lunad.after(0, more)
      end
      lunad.after(0, more)
      lunad.signal("WINCH", function()
        local before = os.clock()
        for _, child in ipairs(children) do child:kill "KILL" end
        for _, child in ipairs(children) do child:wait() end
        print(("reaped %%d, %%.1f us each"):format(#children, (os.clock() - before) / #children * 1e6))
        children = {}
        more()
      end)
    ]]):format(count), "--rlimit", "nofile=" .. stress.size("1000", "20000"), "--stop-timeout", "60")
    local why = box:wait_log("s", "all are there(.-)\n", stress.size(60, 600))
    local status = box:status "s"
    assert.equal("", why)
    assert.equal(count, status.totals.children)
    assert.is_true(#status.children <= 1000)
    box:ok("signal", "s", "WINCH")
    local reaped, cost = box:wait_log("s", "reaped (%d+), ([%d.]+) us each", stress.size(60, 600))
    assert.equal(count, math.tointeger(tonumber(reaped)))
    box:wait_log("s", "all are there.*all are there", stress.size(60, 600))
    local before = support.uv.hrtime()
    assert.equal(0, box:run({ "stop", "--timeout", "120", "s" }, { seconds = 150 }).code)
    stress.note("%d at once; killed and reaped for %s us of CPU each; lag at p99 %.1f ms; a stop took %.1f s",
      count, cost, status.loop.lag_p99_ms, (support.uv.hrtime() - before) / 1e9)
    assert.same({}, box:left_files())
  end)
end)

-- lunad.metrics, and the text of lunad metrics.

local openmetrics = require "support.openmetrics"
local support = require "support"

local value = openmetrics.value

describe("lunad.metrics", function()
  local box = support.with_box(before_each, after_each)

  it("counts, by labels", function()
    box:inside [[
      local c = lunad.metrics.counter("jobs_total", "Jobs.", { "queue", "code" })
      truthy(c:inc("mail", 200)) truthy(c:inc(5, "mail", 200.0)) truthy(c:add(0.5, "mail", "200"))
      truthy(c:inc("x", true))
      equal(6.5, c.series["mail\xFF200"]) equal(1, c.series["x\xFFtrue"])
      equal(c, lunad.metrics.counter("jobs", "Jobs.", { "queue", "code" }))
      truthy(c:remove("x", true)) equal(false, c:remove("x", true)) equal(nil, c.series["x\xFFtrue"])
      local g = lunad.metrics.gauge("level", "")
      equal(0, g.series[""])
      g:set(7) g:inc() g:dec(3) g:inc(0.5)
      equal(5.5, g.series[""])
      local h = lunad.metrics.histogram("size_bytes", "", nil, { buckets = { 1, 10, math.huge } })
      for _, size in ipairs { 0, 1, 2, 10, 11 } do truthy(h:observe(size)) end
      local buckets = h.series[""]
      equal("2 2 1 24", table.concat({ buckets[1], buckets[2], buckets[3], buckets.sum }, " "))
      lunad.stop()
    ]]
  end)

  it("refuses names, labels, amounts and options that are wrong, at the line of the caller", function()
    box:inside [[
      local m = lunad.metrics
      for _, name in ipairs { "", "9a", "a b", "a-b", "a.b", "é", "a\n", "lunad_up", ("a"):rep(201) } do
        raises("bad argument #1 to 'gauge'", m.gauge, name, "")
      end
      raises("string expected, got nil", m.counter)
      raises("bad argument #2 to 'counter'", m.counter, "a")
      raises("bad argument #2 to 'counter'", m.counter, "a", "\xFF")
      for _, label in ipairs { "", "9a", "a-b", "a:b", "__a", "daemon", "le", 5 } do
        raises("label 1", m.counter, "a", "", { label })
      end
      raises("is there twice", m.counter, "a", "", { "b", "b" })
      raises("is missing, in what is not a list", m.counter, "a", "", { b = "c" })
      raises("at most 8 labels", m.counter, "a", "", { "a", "b", "c", "d", "e", "f", "g", "h", "i" })
      raises("unknown option 'buckets'", m.gauge, "a", "", nil, { buckets = {} })
      raises("option 'read': function expected", m.gauge, "a", "", nil, { read = 1 })
      local wrong = { {}, { 2, 1 }, { 1, 1 }, { "a" }, { 0 / 0 }, { math.huge }, { -math.huge, 1 } }
      for _, buckets in ipairs(wrong) do
        raises("option 'buckets'", m.histogram, "a", "", nil, { buckets = buckets })
      end
      local c, g = m.counter("c", "", { "l" }), m.gauge("g", "")
      local h = m.histogram("h", "")
      for _, amount in ipairs { -1, 0 / 0, math.huge } do
        raises("bad argument #1 to 'inc'", c.inc, c, amount, "x")
        raises("bad argument #1 to 'add'", c.add, c, amount, "x")
      end
      equal(nil, next(c.series))
      raises("(the metric 'c' has the labels l)", c.inc, c)
      raises("(the metric 'c' has the labels l)", c.inc, c, 1, "x", "y")
      raises("the value of a label", c.inc, c, {})
      raises("the value of a label", c.inc, c, nil)
      raises("(the metric 'g' has a value and no labels)", g.set, g)
      raises("number expected, got string", g.set, g, "1")
      raises("a finite number expected", h.observe, h, 0 / 0)
      raises("lunad.metrics.counter expected", c.inc, g)
      raises("there already: a counter with the labels l", m.gauge, "c", "")
      raises("there already", m.counter, "c", "")
      raises("has the samples 'h_count', and so has the metric 'h'", m.gauge, "h_count", "")
      m.gauge("k_total", "")
      raises("has the samples 'k_total'", m.counter, "k_total", "")
      local ok, message = pcall(function()
        m.gauge("9", "")
      end)
      truthy(message:find "inside.lua:%d+: bad argument")
      lunad.stop()
    ]]
  end)

  it("bounds the number of series, and says so once", function()
    local result = box:inside [[
      local c = lunad.metrics.counter("c", "", { "path" })
      for i = 1, 1000 do truthy(c:inc("/" .. i)) end
      for _ = 1, 3 do fails("ENOSPC", c:inc "/1001") end
      truthy(c:inc "/1000") equal(2, c.series["/1000"])
      truthy(c:remove "/1") truthy(c:inc "/1001") fails("ENOSPC", c:inc "/1002")
      local h = {}
      local refused
      for i = 1, 3 do
        h[i] = lunad.metrics.histogram("h" .. i, "", { "path" })
        for j = 1, 1000 do refused = refused or not h[i]:observe(1, j) end
      end
      truthy(refused)
      for i = 1, 1003 do
        local ok, message = pcall(lunad.metrics.gauge, "g" .. i, "")
        if not ok then truthy(message:find "1000 metrics already") refused = i break end
      end
      truthy(refused)
      lunad.stop()
    ]]
    local _, said = result.err:gsub("another series of the metric 'c': it has 1000 already", "")
    assert.equal(1, said)
    assert.matches("another series of the metric 'h%d': there are too many of all metrics", result.err)
  end)

  it("goes on over a reload, and starts anew where type, labels or buckets have changed", function()
    local function script(more)
      return [[
        local lunad = require "lunad"
        local m = lunad.metrics
        lunad.every(60, print)
      ]] .. more
    end
    local first = script [[
      m.counter("c", "C.", { "l" }):inc(3, "x") m.gauge("g", "G."):set(2.5)
      m.histogram("h", "H."):observe(1) m.counter("old", "Old."):inc()
      m.counter("d", "D.", { "l" }):inc("x")
    ]]
    box:start(box:write("s.lua", first))
    box:write("s.lua", script [[
      m.counter("c", "C.", { "l" }):inc("x") m.gauge("g", "G."):inc() m.histogram("h", "H."):observe(1)
      m.gauge("d", "D."):set(9)
    ]] .. "error 'no'")
    box:refused(1, "reload", "s")
    local function read()
      return openmetrics.parse(box:ok("metrics", "s"))
    end
    assert.equal(3, value(read(), "c", "c_total", { daemon = "s", l = "x" }))
    box:write("s.lua", (support.read(box:path "s.lua"):gsub("error 'no'", "")))
    box:ok("reload", "s")
    local families = read()
    assert.equal(4, value(families, "c", "c_total", { daemon = "s", l = "x" }))
    assert.equal(3.5, value(families, "g", "g", { daemon = "s" }))
    assert.equal(2, value(families, "h", "h_count", { daemon = "s" }))
    assert.equal(9, value(families, "d", "d", { daemon = "s" }))
    assert.is_nil(families.old)
    box:wait_log("s", "the metric 'd' starts anew: it is a gauge with no labels, and was a counter with " ..
      "the labels l")
    box:write("s.lua", first)
    box:ok("reload", "s")
    assert.equal(1, value(read(), "old", "old_total", { daemon = "s" }))
    assert.equal(7, value(read(), "c", "c_total", { daemon = "s", l = "x" }))
  end)
end)

describe("lunad metrics", function()
  local box = support.with_box(before_each, after_each)

  local HOSTILE = [[
    local lunad = require "lunad"
    local m = lunad.metrics
    m.counter("jobs", 'It is "said" \\ to\nbreak # EOF', { "l" }):inc(2, 'a"\\\n# EOF\n\27[31m\xFF\xC2\x9Bé')
    m.gauge("odd", "", { "l" }):set(0 / 0, "nan") m.gauge("odd", "", { "l" }):set(-math.huge, "inf")
    m.histogram("took_seconds", "Took.", { "l" }, { buckets = { 0.1, 1, 2.5e9 } }):observe(0.3, "x")
    lunad.every(60, print)
  ]]

  it("prints OpenMetrics, whatever texts and numbers there are", function()
    box:start(box:write("s.lua", HOSTILE))
    box:start("--memory-limit", "64M", "--name", "t", box:write("t.lua", HOSTILE))
    local text = box:ok("metrics")
    local families = openmetrics.parse(text)
    assert.not_matches("[%z\1-\9\11-\31\127]", text)
    assert.equal('It is "said" \\ to\nbreak # EOF', families.jobs.HELP)
    local function own(metric, labels)
      return value(families, "lunad_" .. metric, "lunad_" .. metric, labels)
    end
    local label = 'a"\\\n# EOF\n\u{FFFD}[31m\u{FFFD}\u{FFFD}é'
    for _, name in ipairs { "s", "t" } do
      assert.equal(2, value(families, "jobs", "jobs_total", { daemon = name, l = label }))
      assert.equal(-math.huge, value(families, "odd", "odd", { daemon = name, l = "inf" }))
      assert.equal(1, value(families, "took_seconds", "took_seconds_bucket",
        { daemon = name, l = "x", le = "1.0" }))
      assert.equal(1, own("up", { daemon = name }))
      assert.equal(1, own("state", { daemon = name, lunad_state = "running" }))
      assert.truthy(own("memory_lua_bytes", { daemon = name }) > 1000)
      assert.equal(0, value(families, "lunad_reloads", "lunad_reloads_total",
        { daemon = name, result = "ok" }))
    end
    assert.equal("seconds", families.took_seconds.UNIT)
    assert.equal(64 << 20, own("memory_limit_bytes", { daemon = "t" }))
    assert.equal(1, #families.lunad_memory_limit_bytes.samples)
    assert.same({ "s" }, { openmetrics.parse(box:ok("metrics", "s")).lunad_up.samples[1].labels.daemon })
  end)

  it("leaves out what another daemon has of another type, and says so", function()
    local function script(line)
      return 'local lunad = require "lunad" lunad.every(60, print) ' .. line
    end
    box:start(box:write("a.lua", script 'lunad.metrics.counter("jobs", "First."):inc()'))
    box:start(box:write("b.lua", script 'lunad.metrics.gauge("jobs", "") lunad.metrics.gauge("mine", "")'))
    box:start(box:write("c.lua",
      script 'lunad.metrics.gauge("jobs_total", "") lunad.metrics.counter("mine", "")'))
    local result = box:lunad "metrics"
    assert.equal(0, result.code)
    assert.matches("lunad: b: 1 metrics are left out", result.err)
    local families = openmetrics.parse(result.out)
    assert.equal(1, #families.jobs.samples)
    assert.equal("First.", families.jobs.HELP)
    local left_out = "lunad_script_metrics_left_out"
    assert.equal(0, value(families, left_out, left_out, { daemon = "a" }))
    assert.equal(1, value(families, left_out, left_out, { daemon = "b" }))
    assert.equal(2, value(families, left_out, left_out, { daemon = "c" }))
  end)

  it("leaves out who is stuck, slow, dead or not there, within a time limit", function()
    box:start("--stuck-after", "0.1", box:write("stuck.lua", [[local lunad = require "lunad"
      lunad.after(0.05, function() while true do end end)
      lunad.every(60, print)]]))
    box:start(box:write("slow.lua", [[
      local lunad = require "lunad"
      lunad.metrics.gauge("never", "", nil, { read = function() lunad.sleep(3600) end })
      lunad.metrics.gauge("there", "")
      lunad.every(60, print)
    ]]))
    box:start(box:write("endless.lua", [[
      local lunad = require "lunad"
      lunad.metrics.gauge("endless", "", nil, { read = function() while true do pcall(print) end end })
      lunad.every(60, print)
    ]]))
    local pid = box:start(box:idle "dead")
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    box:wait_log("stuck", "stuck")
    local result = box:lunad("metrics", "stuck", "slow", "endless", "dead", "nobody")
    assert.equal(3, result.code)
    local families = openmetrics.parse(result.out)
    for name, up in pairs { stuck = 0, slow = 1, endless = 1, dead = 0, nobody = 0 } do
      assert.equal(up, value(families, "lunad_up", "lunad_up", { daemon = name }), name)
    end
    for _, name in ipairs { "slow", "endless" } do
      local up = "lunad_script_metrics_up"
      assert.equal(0, value(families, up, up, { daemon = name }))
    end
    assert.matches("lunad: stuck: busy in %S+stuck.lua:2", result.err)
    assert.matches("lunad: slow: without the metrics of its script: no end after 1 s: it waits in sleep",
      result.err)
    assert.matches("lunad: nobody: not running %(looked in /%S+%)\n", result.err)
    assert.equal(1, box:lunad("metrics", "stuck").code)
    assert.equal(2, box:lunad("metrics", "no good").code)
    assert.equal("running", box:status("endless").state)
    box:ok("stop", "dead", "stuck")
  end)

  it("reports an error of a read function, and has the rest", function()
    box:start(box:write("s.lua", [[
      local lunad = require "lunad"
      local m = lunad.metrics
      m.gauge("bad", "", nil, { read = function() error "no reading" end })
      m.gauge("one", "", nil, { read = function() lunad.sleep(0.01) return 7 end })
      local n = 0
      m.gauge("many", "", { "l" }, { read = function(gauge) n = n + 1 gauge:set(n, "at " .. n) end })
      lunad.every(60, print)
    ]]))
    box:ok("metrics")
    local families = openmetrics.parse(box:ok("metrics"))
    assert.equal(7, value(families, "one", "one", { daemon = "s" }))
    assert.equal(1, #families.many.samples)
    assert.equal(2, value(families, "many", "many", { daemon = "s", l = "at 2" }))
    assert.is_nil(families.bad)
    assert.matches("s.lua:3: no reading", box:log "s")
    assert.equal(2, value(families, "lunad_errors", "lunad_errors_total", { daemon = "s" }))
  end)

  it("says nothing but EOF of no daemon, and refuses addresses that are none", function()
    assert.equal("# EOF\n", box:ok "metrics")
    for _, address in ipairs { "", ":", "host:1", "99999", "1.2.3.4", "unix:x", "a:b", "127.0.0.1:70000" } do
      box:refused(2, "metrics", "--listen", address)
    end
  end)
end)

describe("the text of metrics", function()
  local render = assert(loadfile "lua/lunad/openmetrics.lua")()

  -- Values of which each is wrong somewhere.
  local ODD = {
    false, true, 0, -1, 1.5, 0 / 0, math.huge, "", "x", "NaN", "lunad_up", "a\nb 1\n# EOF", "\xFF", {}, { 1 },
    { "x" },
    { labels = {} }, { labels = { "a" }, value = 1 }, { {} },
  }

  -- A family as daemons send it.
  local function family()
    return { name = "a", type = "histogram", help = "A.", labels = { "l" }, bounds = { 1, 2 },
      series = { { labels = { "x" }, counts = { 1, 2, 3 }, sum = 4.5, value = 1 } } }
  end

  local function check(answer)
    local target = { name = "s", answer = answer }
    openmetrics.parse((render({ target, { name = "t", answer = answer } }, true)))
    render({ target }, false)
  end

  it("is OpenMetrics, whatever a daemon answers", function()
    local places = {
      function(item, odd) item.name = odd end, function(item, odd) item.type = odd end,
      function(item, odd) item.help = odd end, function(item, odd) item.labels = odd end,
      function(item, odd) item.labels[1] = odd end, function(item, odd) item.bounds = odd end,
      function(item, odd) item.bounds[2] = odd end, function(item, odd) item.series = odd end,
      function(item, odd) item.series[1] = odd end, function(item, odd) item.series[2] = odd end,
      function(item, odd) item.series[1].labels = odd end,
      function(item, odd) item.series[1].labels[1] = odd end,
      function(item, odd) item.series[1].counts = odd end,
      function(item, odd) item.series[1].counts[2] = odd end,
      function(item, odd) item.series[1].sum = odd end, function(item, odd) item.series[1].value = odd end,
      function(item, odd) item.series[2] = item.series[1] item.name = odd end,
    }
    for _, change in ipairs(places) do
      for _, kind in ipairs { "histogram", "counter", "gauge" } do
        for _, odd in ipairs(ODD) do
          local item = family()
          item.type = kind
          change(item, odd)
          check { status = {}, lag = {}, families = { item, family() } }
        end
      end
    end
  end)

  it("is OpenMetrics, whatever its status and its lag are", function()
    for _, odd in ipairs(ODD) do
      check { status = odd, lag = odd, families = odd, error = odd }
      check { lag = { sum_ms = odd, buckets = { odd } }, families = {}, status = {
        uptime = odd, errors = { count = odd }, memory = odd, state = odd, script = odd, ready = odd } }
      check { lag = { sum_ms = 1, buckets = { { odd, 1 }, { 1, odd } } }, families = {} }
    end
  end)

  it("has the older format too", function()
    local status = { reloads = { ok = 1 }, uptime = 2.5, state = "running" }
    local text = render({ { name = "s", answer = { status = status, families = { family() } } } }, false)
    assert.truthy(text:find("# TYPE lunad_reloads_total counter\n# HELP lunad_reloads_total ", 1, true))
    assert.truthy(text:find('# TYPE lunad_daemon_info gauge\n', 1, true))
    assert.truthy(text:find('a_bucket{daemon="s",l="x",le="2.0"} 3\n', 1, true))
    assert.falsy(text:find("# EOF", 1, true) or text:find("# UNIT", 1, true))
  end)
end)

local support = require "support"
local uv = support.uv

describe("lunad.cron", function()
  local box = support.with_box(before_each, after_each)

  it("takes lists, ranges, steps, names and nicknames", function()
    box:inside [[
      for _, spec in ipairs { "* * * * *", "*/5 9-17 * * mon-fri", "0,30 4 1,15 Jan,JUL 7", "5/10 * * * *",
        "  0\t0 * * 0 ", "1-9/2,50 * 29 2 *", "@hourly", "@daily", "@midnight", "@weekly", "@monthly",
        "@yearly", "@annually", "@Hourly", "0 0 * * *\n", "\t@daily \r\n", "*/60 */24 * * *" } do
        local timer = lunad.cron(spec, print)
        truthy(timer:active())
        truthy(timer:due() >= 0)
        timer:stop()
      end
    ]]
  end)

  for field, spec in pairs {
    ["minute"] = "60 * * * *", ["hour"] = "* 24 * * *", ["day of month"] = "* * 0 * *",
    ["month"] = "* * * 13 *", ["day of week"] = "* * * * 8",
  } do
    it("refuses a bad " .. field .. ", naming it", function()
      box:inside(([[
        local message = raises(%q, function() lunad.cron(%q, print) end)
        truthy(message:find("inside.lua:1: bad argument #1 to 'cron'", 1, true), message)
      ]]):format(field .. ' "', spec))
    end)
  end

  it("refuses what is not a specification, saying why", function()
    box:inside [[
      for spec, why in pairs { [""] = "minute", ["* * * *"] = "day of week", ["* * * * * *"] = "fifth",
        ["@never"] = "@hourly", ["10-5 * * * *"] = "reversed", ["0 0 * * sat-sun"] = "reversed",
        ["0 0 31 2 *"] = "never comes", ["0 0 31 apr,jun *"] = "never comes", ["*/0 * * * *"] = "step",
        ["*/90 * * * *"] = 'minute "*/90"', ["0-59/61 * * * *"] = "step", ["* */25 * * *"] = "step",
        ["* * * * */8"] = "step", ["* * * * *\nx"] = "day of week", ["* * * * *\0"] = "zero byte" } do
        raises(why, lunad.cron, spec, print)
      end
    ]]
  end)

  it("refuses wrong arguments", function()
    box:inside [[
      raises("#1 to 'cron'", function() lunad.cron() end)
      raises("#1 to 'cron'", function() lunad.cron({}, print) end)
      raises("#2 to 'cron'", function() lunad.cron "* * * * *" end)
      raises("#2 to 'cron'", function() lunad.cron("* * * * *", 5) end)
    ]]
  end)

  it("shows in the status with its kind and place", function()
    box:serve 'lunad.cron("0 0 1 1 *", function() end)'
    local timers = box:status("s").timers
    assert.equal(2, #timers)
    local cron = timers[1].kind == "cron" and timers[1] or timers[2]
    assert.equal("cron", cron.kind)
    assert.matches("s%.lua:1$", cron.where)
    assert.equal(0, cron.runs)
    assert.is_true(cron.due > 0 and cron.due <= 366 * 86400)
  end)

  it("keeps the script alive until it is stopped", function()
    local result = box:inside [[
      local timer = lunad.cron("@yearly", print)
      lunad.after(0.01, function()
        print "still here"
        timer:stop()
        equal(false, timer:active())
        equal(nil, timer:due())
        timer:stop()
      end)
    ]]
    assert.matches("still here", result.out)
  end)
end)

-- For scripts whose wall clock is a file, the offset from the monotonic clock: set it and,
-- as the kernel would, notify the processes that watch it. `local_time` tells what it shows.
local CLOCK = [[
local function set_clock(text, offset)
  local parts = { year = 1, month = 2, day = 3, hour = 4, min = 5, sec = 6 }
  local numbers = {}
  for number in text:gmatch("[%d.]+") do numbers[#numbers + 1] = tonumber(number) end
  for name, index in pairs(parts) do parts[name] = math.floor(numbers[index]) end
  parts.isdst = false
  if offset == "summer" then parts.isdst = true end
  local target = os.time(parts) + numbers[6] % 1
  local file = assert(io.open(os.getenv "FAKE_CLOCK", "r+b"))
  file:write(string.pack("i8", math.floor((target - lunad.now()) * 1e9))):close()
  local pipe = io.open(os.getenv "FAKE_CLOCK" .. ".set", "r+b")
  if pipe then pipe:write("x"):close() end
end
local function local_time() return os.date "%Y-%m-%d %H:%M:%S" end
local runs = {}
local function note() runs[#runs + 1] = local_time() end
local function ran(...)
  local expected = { ... }
  eventually(function() return #runs >= #expected end)
  lunad.sleep(0.01)
  equal(table.concat(expected, ", "), table.concat(runs, ", "))
end
local function near(expected, timer)
  truthy(math.abs(timer:due() - expected) < 8, "due in " .. timer:due() .. " s, not " .. expected)
end
]]

describe("the wall clock", function()
  local box = support.with_box(before_each, after_each)
  local library

  setup(function()
    library = os.tmpname()
    assert(os.execute(("cc -shared -fPIC -O1 -D_GNU_SOURCE -o %s %s/spec/fixtures/clock.c"):format(
      library, support.root)))
  end)
  teardown(function()
    os.remove(library)
  end)

  -- Run a script with its own clock in the time zone ZONE.
  local function with_clock(zone, text)
    local now = math.floor(os.time() * 1000000000 - uv.hrtime())
    box:inside(CLOCK .. text .. " lunad.stop()", { env = {
      TZ = zone, LD_PRELOAD = library,
      FAKE_CLOCK = box:write("clock", string.pack("i8", now)),
      ASAN_OPTIONS = "abort_on_error=0:verify_asan_link_order=0",
    } })
  end

  it("is what a cron timer goes by, and it is never early", function()
    with_clock("UTC", [[
      set_clock "2026-06-01 11:59:59.8"
      lunad.cron("0 12 * * *", note)
      local timer = lunad.cron("* * * * *", note)
      ran("2026-06-01 12:00:00", "2026-06-01 12:00:00")
      near(60, timer)
    ]])
  end)

  it("shows local time", function()
    with_clock("Asia/Kathmandu", [[
      set_clock "2026-06-01 23:59:59.8"
      local timer = lunad.cron("@daily", note)
      ran "2026-06-02 00:00:00"
      near(86400, timer)
    ]])
  end)

  it("may be put forward a little: fixed times are made up for, once, the others continue", function()
    with_clock("UTC", [[
      set_clock "2026-06-01 11:30:10"
      local fixed = lunad.cron("0,15 12 * * *", note)
      local stars = lunad.cron("*/10 * * * *", note)
      set_clock "2026-06-01 12:31:10"
      ran "2026-06-01 12:31:10"
      near(86400 - 31 * 60 - 10, fixed)
      near(8 * 60 + 50, stars)
    ]])
  end)

  it("may be put back a little: fixed times are not repeated, the others continue", function()
    with_clock("UTC", [[
      set_clock "2026-06-01 11:59:59.9"
      local fixed = lunad.cron("0 12 * * *", note)
      local stars = lunad.cron("30 * * * *", note)
      ran "2026-06-01 12:00:00"
      set_clock "2026-06-01 11:20:00"
      eventually(function() return stars:due() < 700 end)
      near(86400 + 40 * 60, fixed)
      near(10 * 60, stars)
    ]])
  end)

  it("may be corrected by more: nothing is made up for", function()
    with_clock("UTC", [[
      set_clock "2026-06-01 11:30:00"
      local fixed = lunad.cron("0 12 * * *", note)
      set_clock "2026-06-03 14:00:00"
      eventually(function() return fixed:due() > 3600 end)
      near(22 * 3600, fixed)
      set_clock "2025-01-01 11:00:00"
      eventually(function() return fixed:due() < 7200 end)
      near(3600, fixed)
      equal(0, #runs)
    ]])
  end)

  it("may be put right before a timer is due", function()
    with_clock("UTC", [[
      set_clock "2026-06-01 11:59:59"
      local timer = lunad.cron("0 12 * * *", note)
      set_clock "2026-06-01 11:00:00"
      eventually(function() return timer:due() > 60 end)
      near(3600, timer)
      set_clock "2026-06-01 11:59:59.8"
      ran "2026-06-01 12:00:00"
    ]])
  end)

  it("leaves an hour out in spring: a fixed time in it runs right after the gap", function()
    with_clock("Europe/Berlin", [[
      set_clock "2026-03-29 01:59:59.8"
      local fixed = lunad.cron("30 2 * * *", note)
      local stars = lunad.cron("*/5 2 * * *", function() print "not today" end)
      ran "2026-03-29 03:00:00"
      near(23 * 3600 + 30 * 60, fixed)
      near(23 * 3600, stars)
    ]])
  end)

  it("shows an hour twice in autumn: a fixed time in it runs once", function()
    with_clock("Europe/Berlin", [[
      set_clock("2026-10-25 02:29:59.8", "summer")
      local fixed = lunad.cron("30 2 * * *", note)
      local stars = lunad.cron("30 * * * *", note)
      ran("2026-10-25 02:30:00", "2026-10-25 02:30:00")
      near(25 * 3600, fixed)
      near(3600, stars)
    ]])
  end)

  it("shows a time twice within one season: a fixed time in it runs at the first of the two", function()
    with_clock("Europe/Moscow", [[
      set_clock "2014-10-26 00:59:59.9"
      local fixed = lunad.cron("30 1 * * *", note)
      near(30 * 60, fixed)
      local file = assert(io.open(os.getenv "FAKE_CLOCK", "r+b"))
      local offset = string.unpack("i8", file:read(8))
      file:seek("set")
      file:write(string.pack("i8", offset + math.floor((fixed:due() - 0.2) * 1e9))):close()
      local pipe = assert(io.open(os.getenv "FAKE_CLOCK" .. ".set", "r+b"))
      pipe:write("x"):close()
      ran "2014-10-26 01:30:00"
      near(25 * 3600, fixed)
    ]])
  end)

  it("ends a range of one value with a step at that value", function()
    with_clock("UTC", [[
      set_clock "2026-06-01 09:30:00"
      near(23.5 * 3600, lunad.cron("0 9-9/3 * * *", note))
      near(2.5 * 3600, lunad.cron("0 9/3 * * *", note))
    ]])
  end)

  it("is half an hour off in Lord Howe's summer", function()
    with_clock("Australia/Lord_Howe", [[
      set_clock "2026-10-04 01:59:59.8"
      local fixed = lunad.cron("15 2 * * *", note)
      ran "2026-10-04 02:30:00"
      near(23 * 3600 + 45 * 60, fixed)
    ]])
  end)

  it("is read again by again, which clears what was missed", function()
    with_clock("UTC", [[
      set_clock "2026-06-01 11:59:59.9"
      local timer
      timer = lunad.cron("* * * * *", function()
        note()
        if #runs > 1 then return end
        set_clock "2026-06-01 12:00:59.9"
        eventually(function() return timer:missed() == 1 end)
      end)
      eventually(function() return timer:missed() == 1 end)
      ran "2026-06-01 12:00:00"
      timer:again()
      equal(0, timer:missed())
      near(60, timer)
      timer:stop()
      set_clock "2026-06-01 12:30:59.9"
      timer:again()
      ran("2026-06-01 12:00:00", "2026-06-01 12:31:00")
      timer:stop()
    ]])
  end)

  it("is watched by the next generation too", function()
    box:write("s.lua", support.BEAT .. CLOCK:gsub("equal", "assert") .. [[
      if lunad.generation == 1 then set_clock "2026-06-01 11:00:00" end
      lunad.cron("0 12 * * *", function() print("ran", lunad.generation, local_time()) end)
      lunad.signal("USR1", function() set_clock "2026-06-01 11:59:59.8" end)
    ]])
    local env = { TZ = "UTC", LD_PRELOAD = library, FAKE_CLOCK = box:write("clock", ("\0"):rep(8)),
      ASAN_OPTIONS = "abort_on_error=0:verify_asan_link_order=0" }
    assert.equal(0, box:run({ "start", box:path "s.lua" }, { env = env }).code)
    box:ok("reload", "s")
    box:ok("signal", "s", "USR1")
    box:wait_log("s", "ran\t2\t2026%-06%-01 12:00:00")
    assert.not_matches("ran\t1", box:log "s")
  end)

  -- A daemon whose second generation is loaded while it becomes 12:00; the first one is in TZ's noon - 1 h.
  local function reload_at_noon(first, second, option)
    local common = support.BEAT .. CLOCK:gsub("equal", "assert") .. [[
      local function noon() print("ran", lunad.generation, local_time()) end
      local function wait_for_noon(wait)
        repeat wait() until os.date "%H" == "12"
        wait()
      end
      if lunad.generation == 1 then set_clock "2026-06-01 11:00:00" end
      lunad.signal("USR1", function() set_clock "2026-06-01 11:59:59.5" lunad.reload() end)
      if lunad.generation == 2 then
        lunad.every(0.1, function() if lunad.stats().generation == 2 then print "settled" end end)
      end
    ]]
    box:write("s.lua", common .. "if lunad.generation == 1 then " .. first .. " else " .. second .. " end ")
    local env = { TZ = "UTC", LD_PRELOAD = library, FAKE_CLOCK = box:write("clock", ("\0"):rep(8)),
      ASAN_OPTIONS = "abort_on_error=0:verify_asan_link_order=0" }
    assert.equal(0, box:run({ "start", option or "--umask=022", box:path "s.lua" }, { env = env }).code)
    box:ok("signal", "s", "USR1")
    box:wait_log("s", "reloaded: generation 2")
    box:wait_log("s", "settled")
    local _, count = box:log("s"):gsub("ran\t", "")
    assert.equal(1, count)
    return box:log("s"):match("ran\t(%d)\t2026%-06%-01 12:00:00")
  end

  local NOON = 'lunad.cron("0 12 * * *", noon) '
  local BUSY, SLEEP = "wait_for_noon(function() end) ", "wait_for_noon(function() lunad.sleep(0.05) end) "

  it("runs a time that falls into the loading of new code once, by the new code that has it too", function()
    assert.equal("2", reload_at_noon(NOON, BUSY .. NOON))
    box:ok("stop", "s")
    assert.equal("2", reload_at_noon(NOON, NOON .. BUSY))
  end)

  it("runs such a time by the old code if the new one does not have it", function()
    assert.equal("1", reload_at_noon(NOON, BUSY))
  end)

  it("runs such a time by the old code, if the new one sleeps before it is ready", function()
    local second = NOON .. SLEEP .. "lunad.ready()"
    assert.equal("1", reload_at_noon(NOON .. "lunad.ready()", second, "--wait-ready"))
  end)

  it("runs such a time by the new code if the old one does not have it", function()
    assert.equal("2", reload_at_noon("lunad.ready()", NOON .. SLEEP .. "lunad.ready()", "--wait-ready"))
  end)

  -- Runs a script whose /etc/localtime is a file that it can write, at first that of a zone.
  local function with_zone_file(zone, text)
    local file = box:write("localtime", support.read("/usr/share/zoneinfo/" .. zone))
    local now = math.floor(os.time() * 1000000000 - uv.hrtime())
    box:write("inside.lua", 'local lunad, equal, truthy, raises, fails, eventually = require("inside")() ' ..
      CLOCK .. ("local file = %q "):format(file) .. [[
      local function set_zone(zone) os.execute(("cat /usr/share/zoneinfo/%s > %s"):format(zone, file)) end
      ]] .. text .. " lunad.stop()")
    local result = box:run({ "--mount", "sh", "-c", 'mount --bind "$0" /etc/localtime && exec "$@"', file,
      support.binary, "run", "--path", support.root .. "/spec/support", box:path "inside.lua" },
      { program = "unshare", env = { TZ = false, LD_PRELOAD = library,
        FAKE_CLOCK = box:write("clock", string.pack("i8", now)),
        ASAN_OPTIONS = "abort_on_error=0:verify_asan_link_order=0" } })
    assert.equal(0, result.code, result.out .. result.err)
  end

  local only_root = support.is_root and it or pending

  only_root("goes by the new zone at once after a change of /etc/localtime", function()
    with_zone_file("Etc/UTC", [[
      set_clock "2026-06-01 11:59:59"
      local timer = lunad.cron("0 12 * * *", note)
      near(1, timer)
      set_zone "Etc/GMT+2"
      eventually(function() return timer:due() > 3600 end)
      near(2 * 3600, timer)
      equal(0, #runs)
      set_zone "Etc/GMT-3"
      eventually(function() return timer:due() > 3 * 3600 end)
      near(21 * 3600, timer)
    ]])
  end)
end)

local support = require "support"

-- The version that `lunad --version` says.
local function version()
  local pipe = io.popen(support.binary .. " --version")
  local text = pipe:read("a")
  pipe:close()
  return text:match("%d[%w.%-]*")
end

describe("require 'lunad'", function()
  local box = support.with_box(before_each, after_each)

  it("is one table, with the values of the process", function()
    box:inside(([[
      equal(lunad, require "lunad")
      equal(%q, lunad.version)
      equal("inside", lunad.name)
      equal(%q, lunad.script)
      equal("foreground", lunad.mode)
      equal(1, lunad.generation)
      equal("integer", math.type(lunad.generation))
      equal("integer", math.type(lunad.pid))
      local stat = io.open("/proc/self/stat"):read("n")
      equal(stat, lunad.pid)
      equal(nil, lunad.state)
    ]]):format(version(), box:path("inside.lua")))
  end)

  it("finds the modules beside a link to a script, and beside the script itself", function()
    for _, dir in ipairs { "real", "link" } do
      assert(support.uv.fs_mkdir(box:path(dir), tonumber("755", 8)))
      box:write(dir .. "/both.lua", ("return %q"):format(dir))
      box:write(dir .. "/of_" .. dir .. ".lua", ("return %q"):format(dir))
    end
    assert(support.uv.fs_mkdir(box:path "real/deep", tonumber("755", 8)))
    box:write("real/deep/init.lua", "return 'deep'")
    box:write("real/app.lua", [[
      print(require "both", require "of_real", require "of_link", (require "deep"))
      print(arg[0], require("lunad").script, require("lunad").name)
      print(package.path:match("^(.-%?.lua;.-%?/init.lua;.-%?.lua)"))
    ]])
    assert(support.uv.fs_symlink("../real/app.lua", box:path "link/mid.lua"))
    assert(support.uv.fs_symlink("link/mid.lua", box:path "called.lua"))
    assert(support.uv.fs_symlink("real", box:path "current"))
    local link = box:path "link/mid.lua"
    local folders = { box:path "link", box:path "real" }
    local result = box:run { "run", link }
    assert.equal(("link\treal\tlink\tdeep\n%s\t%s\tmid\n%s/?.lua;%s/?/init.lua;%s/?.lua\n"):format(link, link,
      folders[1], folders[1], folders[2]), result.out)
    assert.matches("module 'of_link' not found", box:run({ "run", "called.lua" }).err)
    box:write("real/app.lua", 'print(require "both", package.path)')
    result = box:run { "run", "current/app.lua" }
    assert.matches("^real\t", result.out)
    result = box:run { "run", "real/app.lua" }
    assert.equal(1, select(2, result.out:gsub("real/%?%.lua", "")))
  end)

  it("has the given name, an absolute path for a relative script, and mode daemon under start", function()
    box:write("facts.lua", [[
      local lunad = require "lunad"
      lunad.log.info(("facts %s %s %s %d"):format(lunad.name, lunad.script, lunad.mode, lunad.pid))
      lunad.after(100, print)
    ]])
    local started = box:run { "start", "-n", "other", "facts.lua" }
    local pid = started.out:match("pid (%d+)")
    box:wait_log("other", ("facts other %s daemon %s"):format(box:path("facts.lua"):gsub("%p", "%%%0"), pid))
  end)

  it("has the functions of the interface, and nothing else", function()
    box:inside [[
      local functions = "after all any await broadcast by_line channel every exec keep kill " ..
        "now on_error on_message on_reload on_stop ready reload semaphore send signal sleep spawn stats " ..
        "status stop task timeout wait_fd"
      local others = "cron generation listen log metrics mode name pid script state supervise version " ..
        "worker workers"
      local known = {}
      for name in functions:gmatch("%S+") do
        known[name] = true
        equal("function", type(lunad[name]))
      end
      for name in others:gmatch("%S+") do known[name] = true end
      for name in pairs(lunad) do truthy(known[name], "not in the interface: " .. name) end
    ]]
  end)

  it("adds no globals to Lua's own but arg", function()
    local result = box:inside [[
      local names = {}
      for name in pairs(_G) do names[#names + 1] = name end
      table.sort(names)
      print(table.concat(names, " "))
    ]]
    local lua = box:run({ "-e", [[local t = {} for k in pairs(_G) do t[#t + 1] = k end
      table.sort(t) print(table.concat(t, " "))]] }, { program = "/usr/bin/lua5.4" })
    assert.equal(lua.out, result.out)
  end)
end)

describe("lunad.stats", function()
  local box = support.with_box(before_each, after_each)

  it("has every key, with its type", function()
    box:inside [[
      eventually(function() return lunad.stats().ready end)
      local stats = lunad.stats()
      local types = { name = "string", pid = "number", script = "string", mode = "string", state = "string",
        ready = "boolean", uptime = "number", generation = "number", reloads = "table", errors = "table",
        memory = "table", loop = "table", timers = "table", signals = "table", children = "table",
        tasks = "table", log = "table", fds = "number" }
      for key, kind in pairs(types) do equal(kind, type(stats[key])) end
      for key, kind in pairs { ok = "integer", failed = "integer" } do
        equal(kind, math.type(stats.reloads[key]))
      end
      equal("running", stats.state)
      equal("integer", math.type(stats.errors.count))
      for _, key in ipairs { "lag_p50_ms", "lag_p99_ms", "lag_max_ms" } do
        equal("number", type(stats.loop[key]))
      end
    ]]
  end)

  it("has the values of the process", function()
    box:inside [[
      eventually(function() return lunad.stats().ready end)
      local stats = lunad.stats()
      equal(lunad.pid, stats.pid)
      equal(lunad.name, stats.name)
      equal(lunad.script, stats.script)
      equal(lunad.mode, stats.mode)
      equal(1, stats.generation)
      equal(0, stats.reloads.ok + stats.reloads.failed)
      truthy(math.abs(stats.memory.lua / 1024 - collectgarbage("count")) < 100)
      truthy(stats.memory.rss > stats.memory.lua)
      truthy(stats.uptime > 0 and stats.uptime < 20)
      equal("stderr", stats.log.file)
      equal("info", stats.log.level)
      equal(0, stats.log.dropped)
    ]]
  end)

  it("shows the text of lunad.status, until another one comes", function()
    box:inside [[
      equal(nil, lunad.stats().text)
      lunad.status("serving 3 people")
      equal("serving 3 people", lunad.stats().text)
      lunad.status("späte Stunde")
      equal("späte Stunde", lunad.stats().text)
    ]]
  end)

  it("counts open descriptors", function()
    box:inside [[
      local before = lunad.stats().fds
      local files = {}
      for i = 1, 10 do files[i] = io.open("/dev/null") end
      equal(before + 10, lunad.stats().fds)
      for i = 1, 10 do files[i]:close() end
      equal(before, lunad.stats().fds)
    ]]
  end)

  it("lists timers: where, kind, interval, due", function()
    box:inside [[
      local once = lunad.after(50, function() end)
      local beat = lunad.every(60, function() end)
      local found = {}
      for _, entry in ipairs(lunad.stats().timers) do found[entry.kind] = entry end
      equal(lunad.script .. ":1", found.after.where)
      equal(lunad.script .. ":2", found.every.where)
      equal(nil, found.after.interval)
      equal(60, found.every.interval)
      truthy(found.after.due > 40 and found.after.due <= 50)
      once:stop()
      beat:stop()
      equal(0, #lunad.stats().timers)
    ]]
  end)

  it("lists how often timers ran, missed and failed", function()
    box:inside [[
      local runs = 0
      local beat = lunad.every(0.005, function() runs = runs + 1 end)
      eventually(function() return runs >= 2 end)
      for _, entry in ipairs(lunad.stats().timers) do
        if entry.kind == "every" then
          equal(runs, entry.runs)
          equal(beat:missed(), entry.missed)
          equal(0, entry.errors)
        end
      end
      beat:stop()
    ]]
  end)

  it("lists a timer's function with file and line, whatever arguments it has", function()
    box:inside [[
      local function work() end
      local timer = lunad.after(50, work, 1, 2, 3)
      equal(lunad.script .. ":1", lunad.stats().timers[1].where)
      timer:stop()
    ]]
  end)

  it("lists tasks where they are suspended, and in what", function()
    box:inside [[
      local child = lunad.spawn { "cat", stdin = "pipe" }
      local tasks = { lunad.task(function()
          lunad.sleep(50)
        end), lunad.task(function() child:wait() end) }
      tasks[3] = lunad.task(function() tasks[1]:wait() end)
      local listed = {}
      for _, task in ipairs(lunad.stats().tasks) do
        listed[#listed + 1] = task.where:match(":%d+$") .. " " .. task.state
      end
      table.sort(listed)
      equal(":3 sleep,:4 wait,:5 wait", table.concat(listed, ","))
      for _, task in ipairs(tasks) do task:cancel() end
      equal(0, #lunad.stats().tasks)
      child:close_stdin()
      child:wait()
    ]]
  end)

  it("lists children: name, pid, command, state, seconds, restarts, keep", function()
    box:inside [[
      local child = lunad.spawn { "sleep", "50", name = "napper" }
      local entry = lunad.stats().children[1]
      equal("napper", entry.name)
      equal(child.pid, entry.pid)
      equal("sleep 50", entry.command)
      equal("running", entry.state)
      truthy(entry.seconds >= 0 and entry.seconds < 20)
      equal(0, entry.restarts)
      equal(false, entry.keep)
      child:kill()
      child:wait()
      equal(0, #lunad.stats().children)
    ]]
  end)

  -- Logs all keys of lunad.stats(), inner ones with dots; the places of callbacks become more meanwhile.
  local KEYS = [[
  local lunad = require "lunad"
  lunad.every(50, print)
  lunad.signal("USR2", print)
  lunad.status("text")
  lunad.spawn { "sleep", "100" }
  lunad.task(lunad.sleep, 100)
  local function keys(prefix, value, into)
    for key, inner in pairs(value) do
      local path = prefix .. tostring(key)
      into[#into + 1] = path
      if type(inner) == "table" and key ~= "callbacks" then keys(path .. ".", inner, into) end
    end
    return into
  end
  lunad.after(0.01, function()
    local all = keys("", lunad.stats(), {})
    table.sort(all)
    lunad.log.info("keys " .. table.concat(all, " "))
  end)
  ]]

  local function keys(prefix, value, into)
    for key, inner in pairs(value) do
      local path = prefix .. tostring(key)
      into[#into + 1] = path
      if type(inner) == "table" and key ~= "callbacks" then
        keys(path .. ".", inner, into)
      end
    end
    return into
  end

  it("is the same as status --json", function()
    box:start(box:write("same.lua", KEYS))
    local logged = box:wait_log("same", "keys ([^\n]*)")
    local seen = keys("", box:status("same"), {})
    table.sort(seen)
    assert.equal(logged, table.concat(seen, " "))
  end)

  it("is a new table each time, which may be changed", function()
    box:inside [[
      local stats = lunad.stats()
      stats.name, stats.timers = nil, nil
      equal(lunad.name, lunad.stats().name)
    ]]
  end)
end)

describe("print", function()
  local box = support.with_box(before_each, after_each)

  it("is plain stdout in the foreground, tab-separated, by tostring", function()
    local result = box:inside [[
      print(1, nil, "x", true, 1.5)
      print()
      print(setmetatable({}, { __tostring = function() return "object" end }))
      print("a\0b\nc")
      print(table.unpack({}, 1, 100))
    ]]
    assert.equal("1\tnil\tx\ttrue\t1.5\n\nobject\na\0b\nc\n" .. ("nil\t"):rep(99) .. "nil\n", result.out)
  end)

  it("is flushed at once in the foreground", function()
    local process = box:spawn { "run", "-n", "flushed", "-e", [[
      print("early")
      require("lunad").sleep(100)
    ]] }
    box:await(process, "what was printed", function() return process.out() == "early\n" end)
    box:ok("stop", "flushed")
    box:await(process, "the end", process.is_over)
  end)

  it("is info in a daemon", function()
    box:start("-n", "printer", box:write("printer.lua", [[
      print("one", 2, nil)
      require("lunad").after(100, print)
    ]]))
    box:wait_log("printer", "Z info  printer: one\t2\tnil\n")
  end)

  it("raises what __tostring raises, and refuses a result of it that is not a string", function()
    box:inside [[
      raises("mine", print, setmetatable({}, { __tostring = function() error("mine") end }))
      raises("__tostring", print, setmetatable({}, { __tostring = function() return {} end }))
    ]]
  end)
end)

describe("lunad.log", function()
  local box = support.with_box(before_each, after_each)

  it("logs a message of each level, with fields", function()
    local result = box:inside([[
      lunad.log.debug("a debug", { n = 1 })
      lunad.log.info("an info", { b = true, a = "x y", f = 1.5 })
      lunad.log.warn("a warning", {})
      lunad.log.error("an error", nil)
      lunad.log.info(42)
    ]], { args = { "--log-level", "debug" } })
    assert.truthy(result.err:find("debug inside: a debug n=1\n", 1, true), result.err)
    assert.truthy(result.err:find('info  inside: an info a="x y" b=true f=1.5\n', 1, true), result.err)
    assert.truthy(result.err:find("warn  inside: a warning\n", 1, true))
    assert.truthy(result.err:find("error inside: an error\n", 1, true))
    assert.truthy(result.err:find("info  inside: 42\n", 1, true))
  end)

  it("takes any value for a field, by tostring", function()
    local result = box:inside [[
      lunad.log.info("fields", { t = setmetatable({}, { __tostring = function() return "object" end }),
        n = 0 / 0, i = math.mininteger, e = "" })
    ]]
    assert.truthy(result.err:find('fields e="" i=%-9223372036854775808 n=%-?nan t=object\n'), result.err)
  end)

  it("drops what is below the level, but not its argument checks", function()
    local result = box:inside [[
      lunad.log.debug("quiet")
      raises("#1", lunad.log.debug)
    ]]
    assert.falsy(result.err:find("quiet", 1, true))
  end)
end)

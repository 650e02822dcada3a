-- status --full: all that a script has, in parts.

local support = require "support"

local TIMERS, TASKS, LISTENERS = 3000, 1500, 120 -- and a timer of the support

local CROWD = ([[
  for i = 1, %d do lunad.after(1000 + i, function() return i end) end
  for i = 1, %d do lunad.task(function() lunad.sleep(2000 + i) end) end
  for i = 1, %d do lunad.listen(("unix:%%s/%%d"):format(DIR, i)) end
  lunad.supervise { "false", count = 3, backoff = { 500, 500 }, max_restarts = 1e6 }
]]):format(TIMERS, TASKS, LISTENERS)

-- Whether a list has no item twice, by a key.
local function has_all(list, key, count)
  local seen, different = {}, 0
  for _, item in ipairs(list) do
    different = different + (seen[item[key]] and 0 or 1)
    seen[item[key]] = true
  end
  return different == count and #list == count
end

-- Ask for all on a connection, without reading.
local function ask_fully(box)
  local client = box:connect "s"
  client:send '{"verb": "status", "full": true}\n'
  return client
end

-- The last of the lines that come, and how many parts were before it.
local function read_to_end(client)
  for parts = 0, math.huge do
    local answer = client:answer()
    if answer.ok ~= nil then
      return answer, parts
    end
  end
end

describe("lunad status --full", function()
  local box = support.with_box(before_each, after_each)

  local function serve()
    box:serve(("local DIR = %q "):format(box.dir) .. CROWD)
    support.wait_for("its children to wait", function()
      local children = box:status("s").children
      return children and #children == 3 and children[3].state == "waiting"
    end)
  end

  it("shows the end of a file's long name, which takes no more memory", function()
    box:serve [[
      for i = 1, 300 do
        local chunk = load("local l = ... return function() l.sleep(1000) end", "@" .. ("p"):rep(50000) .. i)
        lunad.after(2000, chunk(lunad))
        lunad.task(chunk(lunad))
      end
    ]]
    local text = box:ok("status", "--full", "--json", "s")
    local report = support.json.decode(text)
    assert.is_true(#text < 1000000)
    for _, key in ipairs { "timers", "tasks" } do
      assert.is_true(#report[key] >= 300)
      assert.is_true(#report.groups[key].places >= 100)
      for _, list in ipairs { report[key], report.groups[key].places } do
        local last = list[#list].where
        assert.truthy(last:match "^%.%.%.p+%d+:1$", last)
      end
    end
  end)

  it("prints all that there is, as one JSON document, or as lines", function()
    serve()
    local short = box:status "s"
    local full = support.json.decode(box:ok("status", "--full", "--json", "s"))
    assert.is_nil(full.error)
    assert.equal(1000, #short.timers)
    assert.equal(1000, #short.tasks)
    assert.same(short.totals, full.totals)
    assert.is_true(has_all(full.timers, "due", TIMERS + 1))
    assert.equal(TASKS, #full.tasks)
    assert.is_true(has_all(full.listeners, "address", LISTENERS))
    assert.is_true(has_all(full.children, "name", 3))
    assert.equal(0, #full.retiring)
    for key in pairs(short) do
      assert.is_true(full[key] ~= nil, key)
    end
    local groups = full.groups
    assert.same({ TIMERS, TASKS, 3 }, { groups.timers.places[1].count, groups.tasks.places[1].count,
      groups.children.places[1].count })
    local text = box:ok("status", "--full", "s")
    for label, count in pairs { timer = TIMERS + 1, task = TASKS, child = 3, listener = LISTENERS } do
      assert.equal(count, select(2, text:gsub("\n  " .. label .. " ", "")), label)
    end
    assert.not_matches(" more\n", text)
    local list = support.json.decode(box:lunad("status", "--full", "--json", "s", "other").out)
    assert.equal(TIMERS + 1, #list[1].timers)
    assert.equal("not running", list[2].state)
    local refused = box:lunad("status", "--full", "--watch", "s")
    assert.equal(2, refused.code)
  end)

  it("waits for a client that does not read, and serves others meanwhile", function()
    serve()
    local client = ask_fully(box)
    for _ = 1, 3 do
      assert.equal(TIMERS + 1, box:status("s").totals.timers)
    end
    local answer, parts = read_to_end(client)
    assert.is_true(answer.ok)
    assert.is_true(parts > 40)
    assert.is_true(client:ask("status").ok)
  end)

  it("says that it is torn when a reload comes between, and a client that goes does no harm", function()
    serve()
    local gone, client = ask_fully(box), ask_fully(box)
    assert.equal(TIMERS + 1, box:status("s").totals.timers)
    gone:close()
    box:ok("reload", "s")
    local answer = read_to_end(client)
    assert.is_false(answer.ok)
    assert.matches("reloaded meanwhile", answer.error)
    assert.is_true(client:ask("status").ok)
    client:send '{"verb": "status", "full": 1}\n'
    assert.matches('"full" must be true or false', client:answer().error)
    ask_fully(box)
    local command = "LUNAD_RUN_DIR='%s' '%s' status --full s 2>&1"
    local pipe <close> = io.popen(command:format(box:path "run", support.binary))
    assert.matches("^s: running", pipe:read "l")
    box:ok("stop", "s")
    assert.matches("\nlunad: status: s: it has ended, or was upgraded", pipe:read "a")
  end)
end)

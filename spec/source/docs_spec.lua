-- What README.md and doc/ say: complete, and without what does not exist.

local api = require "support.api"
local support = require "support"

local uv = support.uv

local COMMANDS = assert(support.read "doc/commands.md")
local API = assert(support.read "doc/api.md")

-- The files of a folder whose names match, sorted.
local function files(folder, pattern)
  local found = {}
  local scan = assert(uv.fs_scandir(folder))
  for name in function() return (uv.fs_scandir_next(scan)) end do
    if name:find(pattern) then
      found[#found + 1] = folder .. "/" .. name
    end
  end
  table.sort(found)
  return found
end

-- Every page of the repository.
local PAGES = files("doc", "%.md$")
for _, folder in ipairs { "spec", "bench", "soak" } do
  PAGES[#PAGES + 1] = folder .. "/README.md"
end
for floor in io.lines "src/FLOORS" do
  PAGES[#PAGES + 1] = "src/" .. floor .. "/README.md"
end
PAGES[#PAGES + 1] = "README.md"
PAGES[#PAGES + 1] = "CONTRIBUTING.md"

-- The text under a heading, up to the next of its level or above.
local function section(text, heading)
  local level = assert(("\n" .. text):match("\n(#+) " .. heading:gsub("%p", "%%%0") .. "\n"), heading)
  local from = select(2, ("\n" .. text):find("\n" .. level .. " " .. heading .. "\n", 1, true))
  local rest = ("\n" .. text):sub(from)
  for depth = 1, #level do
    local stop = rest:find("\n" .. ("#"):rep(depth) .. " ")
    rest = stop and rest:sub(1, stop) or rest
  end
  return rest
end

-- The first cells of the rows of tables, without their quotes.
local function first_cells(text)
  local found = {}
  for row in text:gmatch("\n| `([^\n]-)` |") do
    found[#found + 1] = row:gsub("\\|", "|")
  end
  return found
end

-- The options that the help of a verb shows, "-n, --name NAME".
local function options_of(verb)
  local box = support.box()
  local help = box:ok(verb, "--help")
  box:close()
  local found = {}
  for line in help:gmatch("\n(  [^\n]+)") do
    local left = line:sub(3, 36):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
    found[#found + 1] = left
  end
  return found
end

-- The verbs that `lunad --help` shows.
local function verbs()
  local box = support.box()
  local found = {}
  for verb in box:ok("--help"):gmatch("\n  lunad (%l+)") do
    found[#found + 1] = verb
  end
  box:close()
  return found
end

local function sorted(...)
  local all = {}
  for _, list in ipairs { ... } do
    table.move(list, 1, #list, #all + 1, all)
  end
  table.sort(all)
  return all
end

describe("doc/commands.md", function()
  it("has a section for each verb, in the order of --help, and no other", function()
    local headings = {}
    for verb in section(COMMANDS, "The verbs"):gmatch("\n### (%l+)") do
      headings[#headings + 1] = verb
    end
    assert.same(verbs(), headings)
  end)

  for _, verb in ipairs(verbs()) do
    it("has the options of " .. verb .. " as its --help shows them, and no other", function()
      local starts = verb == "run" or verb == "start" or verb == "unit"
      local own = first_cells(starts and section(COMMANDS, "Options of run and start")
        or section(COMMANDS, verb))
      if starts then -- run and start have one each that the others have not
        local others = { ["-e CHUNK"] = verb ~= "run", ["--all"] = verb ~= "start" }
        for index = #own, 1, -1 do
          if others[own[index]] then
            table.remove(own, index)
          end
        end
      end
      if verb == "unit" then
        own = sorted(own, first_cells(section(COMMANDS, verb)))
      end
      local every = first_cells(section(COMMANDS, "Options of every verb"))
      assert.same(sorted(options_of(verb)), sorted(own, every))
    end)
  end

  it("has every environment variable that the sources name", function()
    local text = ""
    for floor in io.lines "src/FLOORS" do
      for _, file in ipairs(files("src/" .. floor, "%.[ch]$")) do
        text = text .. support.read(file)
      end
    end
    for _, pattern in ipairs { 'getenv%("([%u_]+)"%)', 'variable%("([%u_]+)"%)',
      '#define LD_[%u_]+_VARIABLE%s+"([%u_]+)"' } do
      assert.truthy(text:find(pattern), pattern)
      for name in text:gmatch(pattern) do
        assert.truthy(COMMANDS:find("`" .. name .. "`", 1, true), name)
      end
    end
  end)

  describe("on a daemon", function()
    local box = support.with_box(before_each, after_each)

    it("has every key of status --json, and no other", function()
      box:start(box:idle "s")
      local keys = {}
      for key in pairs(box:status "s") do
        keys[#keys + 1] = key
      end
      local null = { "text", "watch", "waits_for", "state_file", "worker", "workers", "probation",
        "service_generation" }
      table.move(null, 1, #null, #keys + 1, keys)
      assert.same(sorted(keys), sorted(first_cells(section(COMMANDS, "status --json"))))
    end)

    it("has the keys of list --json", function()
      box:start(box:idle "s")
      for key in box:ok("list", "--json"):gmatch('\n    "(%l+)":') do
        assert.truthy(section(COMMANDS, "list"):find("`" .. key .. "`", 1, true), key)
      end
    end)

    it("has no verb that the control socket does not know", function()
      box:start(box:idle "s")
      local control = first_cells(section(COMMANDS, "The control socket"))
      assert.equal(10, #control)
      table.sort(control, function(a, b) return b == "stop" and a ~= "stop" or a ~= "stop" and a < b end)
      local program = assert(support.uv.fs_stat(support.binary))
      for _, verb in ipairs(control) do
        local client = box:connect "s"
        local request = { verb = verb, chunk = "1", seconds = 0.01, -- of eval and profile
          program = support.binary, device = program.dev, inode = program.ino } -- of upgrade
        client:send(support.json.encode(request) .. "\n")
        local answer = client:answer()
        local is_masters = verb == "restart" and answer.error ~= "unknown verb"
        assert.is_true(answer.ok or is_masters, verb)
      end
    end)
  end)
end)

describe("doc/api.md", function()
  local box = support.with_box(before_each, after_each)

  it("has every function, field and method of the module", function()
    local module = api.list(box)
    for _, name in ipairs(sorted(module.functions, module.methods)) do
      assert.truthy(API:find(name .. "(", 1, true) or API:find(name .. " {", 1, true), name)
    end
    for _, name in ipairs(module.fields) do
      assert.truthy(API:find(name, 1, true), name)
    end
  end)

  it("names no function or method that does not exist", function()
    local module, known = api.list(box), {}
    for _, name in ipairs(sorted(module.functions, module.methods)) do
      known[name] = true
    end
    for name in API:gmatch("lunad%.[%l_.]+%f[(]") do
      assert.truthy(known[name], name)
    end
    for _, class in ipairs { "timer", "task", "handle", "child", "supervisor" } do
      for name in API:gmatch("%f[%a]" .. class .. ":[%l_]+%f[(]") do
        assert.truthy(known[name], name)
      end
    end
  end)

  it("has every option key", function()
    for _, keys in pairs(api.options()) do
      for _, key in ipairs(keys) do
        assert.truthy(API:find("\n| `" .. key .. "`[ ,]") or API:find("\n| `%l+`, `" .. key .. "` "), key)
      end
    end
  end)
end)

-- The anchors of a page, as GitHub makes them of headings.
local function anchors(text)
  local found = {}
  for heading in ("\n" .. text):gsub("\n```.-\n```", ""):gmatch("\n#+ ([^\n]+)") do
    found[heading:lower():gsub("[^%w%s_-]", ""):gsub(" ", "-")] = true
  end
  return found
end

describe("the documents", function()
  for _, page in ipairs(PAGES) do
    it("have links that lead somewhere: " .. page, function()
      local folder = page:match("^(.*/)") or ""
      local text = assert(support.read(page)):gsub("\n```.-\n```", "")
      for target in text:gmatch("%]%(([^)\n]+)%)") do
        local file, anchor = target:match("^([^#]*)#?(.*)$")
        if not target:find("^https?:") then
          local path = file == "" and page or folder .. file
          assert.truthy(uv.fs_stat(path), page .. ": " .. target)
          assert.truthy(anchor == "" or anchors(support.read(path))[anchor], page .. ": " .. target)
        end
      end
    end)

    it("have samples of Lua that compile: " .. page, function()
      for sample in support.read(page):gmatch("\n```lua\n(.-)\n```") do
        assert(load(sample, "=" .. page, "t"))
      end
    end)
  end
end)

describe("CONTRIBUTING.md", function()
  it("quotes lines that are in the files it names", function()
    local quotes = 0
    local pattern = "%]%(([^()]+)%):\n\n```%l+\n(.-)```"
    for path, sample in support.read("CONTRIBUTING.md"):gmatch(pattern) do
      assert.truthy(support.read(path):find(sample, 1, true), path)
      quotes = quotes + 1
    end
    assert.equal(5, quotes)
  end)
end)

describe("README.md", function()
  local box = support.with_box(before_each, after_each)

  it("has every verb", function()
    local table_of_verbs = section(assert(support.read "README.md"), "The command line")
    for _, verb in ipairs(verbs()) do
      assert.truthy(table_of_verbs:find("`" .. verb .. "%f[ `]"), verb)
    end
  end)

  it("begins with a service that works, and keeps its count over a reload", function()
    local text = support.read("README.md"):match("\n```lua\n(.-)\n```")
    local script = box:write("heartbeat.lua", text)
    box:start(script)
    local beat = box:wait_log("heartbeat", "heartbeat: beat count=(%d+)")
    assert.truthy(box:ok("reload", "heartbeat"):find("heartbeat: reloaded, generation 2 in ", 1, true))
    box:wait_log("heartbeat", ("generation 2.*beat count=%d"):format(beat + 1))
    box:write("heartbeat.lua", (text:gsub("every", "evry")))
    assert.truthy(box:refused(1, "reload", "heartbeat"):find("field 'evry'", 1, true))
  end)
end)

describe("an example", function()
  local box = support.with_box(before_each, after_each)

  it("ends by itself: examples/jobs.lua", function()
    local result = box:lunad("run", support.root .. "/examples/jobs.lua")
    assert.equal(0, result.code)
    assert.matches('jobs: done job=sort output="apple\\x0Afig\\x0Apear\\x0A"', result.err, nil, true)
    assert.falsy(result.err:find("uncaught error", 1, true), result.err)
  end)

  local services = files("examples", "%.lua$")
  for index, script in ipairs(services) do
    if script == "examples/jobs.lua" then
      table.remove(services, index)
    end
  end

  for _, script in ipairs(services) do
    it("starts, shows its status, and stops: " .. script, function()
      -- Nothing that another run of this spec has too.
      local env = { LUNAD = support.binary, HTTP_ADDRESS = "127.0.0.1:0", ECHO_ADDRESS = "127.0.0.1:0",
        ECHO_SOCKET = box:path "echo.sock", CHAT_ADDRESS = "127.0.0.1:0", MAIL_ADDRESS = "127.0.0.1:0",
        MAIL_DIR = box:path "mail", WEBHOOK_SOCKET = box:path "webhook.sock",
        WEBHOOK_DIR = box:path "webhook", REDIS = "127.0.0.1:1" }
      local name = script:match("([^/]+)%.lua$")
      local started = box:run({ "start", support.root .. "/" .. script }, { env = env })
      assert.equal(0, started.code, started.err)
      assert.equal(0, box:status(name).errors.count)
      assert.equal(name .. ": stopped\n", box:ok("stop", name))
      assert.falsy(box:log(name):find("uncaught error", 1, true), box:log(name))
    end)
  end
end)

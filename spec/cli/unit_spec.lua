-- lunad unit: what service managers read, and that they read it as it was meant.

local support = require "support"

-- Arguments that some manager would take for something else, each with its reason in the grammar of one.
local WORDS = {
  "plain", "", " ", "a b", "a  b\t", "$", "$$", "$HOME", "${HOME}", "a$HOME", "%", "%n", "100%%", "~", "*",
  ";", "\\;",
  "#x", "'", '"', "it's \"so\"", "\\", "\\n", "a\\", "one\ntwo\n", "\r\27[1m", "`id`", "$(id)", "&|<>()!",
  "é", "\xff\xfe", "--name", "-x", "=", "{a,b}", "\u{85}",
}

-- The words of a command line as systemd.service(5) and systemd.syntax(7) say: quotes and C escapes, then
-- specifiers, then variables.
local function systemd_words(line)
  local words, at = {}, 1
  while true do
    at = line:match("^%s*()", at)
    if at > #line then
      return words
    end
    local word, quote = {}, nil
    assert(not line:find("^;%s", at) and not line:find("^;$", at), "a separator of commands")
    while at <= #line do
      local char = line:sub(at, at)
      if char == "\\" then
        local hex = line:match("^\\x(%x%x)", at)
        local plain = ({ n = "\n", t = "\t", ["\\"] = "\\", ['"'] = '"' })[line:sub(at + 1, at + 1)]
        word[#word + 1] = assert(hex and string.char(tonumber(hex, 16)) or plain, line:sub(at, at + 4))
        at = at + (hex and 4 or 2)
      else
        if char == quote then
          quote = nil
        elseif not quote and (char == '"' or char == "'") then
          quote = char
        elseif not quote and char:find "%s" then
          break
        else
          word[#word + 1] = char
        end
        at = at + 1
      end
    end
    assert(not quote, "an open quote")
    local text = table.concat(word)
    assert(not text:gsub("%%%%", ""):find "%%", "a specifier: " .. text)
    text = text:gsub("%%%%", "%%")
    assert(not text:gsub("%$%$", ""):find "%$", "a variable: " .. text)
    words[#words + 1] = text:gsub("%$%$", "$")
  end
end

-- The values of a setting in a unit.
local function settings(text, name)
  local values = {}
  for value in text:gmatch("\n" .. name .. "=([^\n]*)") do
    values[#values + 1] = value
  end
  return values
end

describe("lunad unit", function()
  local box = support.with_box(before_each, after_each)

  -- Without the run directory of the box, which would be the one of the unit.
  local function unit(...)
    local result = box:run({ "unit", ... }, { env = { LUNAD_RUN_DIR = false } })
    assert.equal("", result.err)
    assert.equal(0, result.code)
    return result.out
  end

  -- Whether systemd itself finds no fault, where it is installed.
  local function verify(files)
    local found = box:shell("command -v systemd-analyze")
    if found.code ~= 0 then
      print("systemd-analyze is missing: units are not verified")
      return
    end
    local paths = {}
    for name, text in pairs(files) do
      paths[#paths + 1] = box:write(name, text)
    end
    local checked = box:shell([[shift; systemd-analyze verify --man=no "$@" 2>&1]], paths)
    for line in checked.out:gmatch "[^\n]+" do -- complaints about other units of the machine are none of ours
      assert.falsy(line:find(box.dir, 1, true), checked.out)
    end
  end

  it("prints a unit for systemd, with defaults that fit together", function()
    box:idle "web"
    local text = unit("web.lua")
    local program, dir = support.binary, box.dir
    for name, value in pairs {
      Type = "notify", NotifyAccess = "main", RuntimeDirectory = "lunad",
      RuntimeDirectoryPreserve = "yes",
      ExecStart = program .. " run --run-dir /run/lunad --log stderr " .. dir .. "/web.lua",
      ExecReload = program .. " reload --run-dir /run/lunad web",
      KillMode = "mixed", TimeoutStartSec = "70", TimeoutStopSec = "15", WatchdogSec = "40",
      Restart = "on-failure", WantedBy = "multi-user.target",
    } do
      assert.same({ value }, settings(text, name), name)
    end
    assert.same({}, settings(text, "User"))
    text = unit("--name", "b", "--user", "daemon:1", "--start-timeout", "2.5", "--stop-timeout", "60.1",
      "--restart", "always", "--rlimit", "nofile=5:unlimited", "--listen", "127.0.0.1:8080",
      "--after", "db", "--log",
      "x%y.log", "--chdir", "sub dir", "--path", "lib", "web.lua")
    for name, value in pairs {
      User = "daemon", Group = "1", RuntimeDirectory = "lunad-b", TimeoutStartSec = "15",
      TimeoutStopSec = "66", WatchdogSec = "71", Restart = "always", LimitNOFILE = "5:infinity",
      After = "network.target db.service",
    } do
      assert.same({ value }, settings(text, name), name)
    end
    assert.same({}, settings(text, "Requires"))
    assert.same({ program, "run", "--run-dir", "/run/lunad-b", "--name", "b", "--start-timeout", "2.5",
      "--stop-timeout", "60.1", "--listen", "127.0.0.1:8080", "--log", dir .. "/x%y.log", "--chdir",
      dir .. "/sub dir", "--path", ("%s/lib/?.lua;%s/lib/?/init.lua;"):format(dir, dir), dir .. "/web.lua" },
      systemd_words(settings(text, "ExecStart")[1]))
    assert.same({ "no" }, settings(unit("--restart", "no", "web.lua"), "Restart"))
    local run_dir = settings(unit("--run-dir", "r", "web.lua"), "ExecReload")[1]
    assert.truthy(run_dir:find("reload --run-dir " .. dir .. "/r web", 1, true), run_dir)
  end)

  it("quotes words as systemd reads them", function()
    box:idle "web"
    local args = { "--env", "A=" .. table.concat(WORDS, ""), "web.lua", table.unpack(WORDS) }
    local text = unit(table.unpack(args))
    local words = systemd_words(settings(text, "ExecStart")[1])
    assert.same({ args[2], box:path "web.lua", table.unpack(WORDS) }, { table.unpack(words, 8) })
    assert.truthy(text:find('"$$HOME"', 1, true))
    assert.truthy(text:find('"100%%%%"', 1, true))
    verify { ["web.service"] = text }
  end)

  it("prints the unit of the sockets of --listen", function()
    box:idle "web"
    local words = { "--user", "daemon", "--umask", "007", "--listen", "localhost:80", "--listen", "[::1]:81",
      "--listen", "unix:/run/a%b c.sock", "web.lua" }
    local text, service = unit("--socket", table.unpack(words)), unit(table.unpack(words))
    assert.same({ "127.0.0.1:80", "[::1]:81", "/run/a%%b c.sock" }, settings(text, "ListenStream"))
    assert.same({ "ipv6-only", "0770", "daemon", "web", "sockets.target" },
      { settings(text, "BindIPv6Only")[1], settings(text, "SocketMode")[1], settings(text, "SocketUser")[1],
        settings(text, "FileDescriptorName")[1], settings(text, "WantedBy")[1] })
    assert.same({ "web.socket" }, settings(service, "Requires"))
    verify { ["web.service"] = service, ["web.socket"] = text }
    for _, address in ipairs { "unix:/run/a\nUser=root", "unix:/run/a\\", "unix:/run/\xff", "127.0.0.1:0" } do
      box:refused(1, "unit", "--socket", "--listen", address, "web.lua")
    end
    assert.truthy(box:refused(1, "unit", "--user", "a\nExecStartPre=id", "web.lua"):find("User=", 1, true))
  end)

  it("leaves an address of --listen to the socket that systemd passes", function()
    local script = box:write("web.lua", [[
      local fd = require("lunad").listen("unix:]] .. box:path "s" .. [[") print("got " .. type(fd))]])
    local passing = box:write("pass.lua", [[
      local lunad = require "lunad"
      local lunad_program, script, path = ...
      local fd = lunad.listen("unix:" .. path)
      print(lunad.exec{ lunad_program, "run", "--listen", "unix:" .. path, script, fds = {[3] = fd},
        env = { LISTEN_FDS = "1" }, stderr = "stdout" }.stdout)]])
    local out = box:ok("run", passing, support.binary, script, box:path "s")
    assert.truthy(out:find("got number", 1, true), out)
  end)

  -- What a script calls instead of lunad: it prints its words, each with a zero byte after it.
  local STUB = [[#!/bin/sh
for word; do printf '%s\0' "$word"; done]]

  it("quotes words as sh reads them, in the files of other managers", function()
    box:idle "web"
    local stub = box:write("stub", STUB)
    support.uv.fs_chmod(stub, tonumber("755", 8))
    local function called(text, calls)
      text = text:gsub(support.pattern(support.binary), (stub:gsub("%%", "%%%%")))
      box:write("script", text .. (calls or ""))
      local result = box:run({ box:path "script" }, { program = "sh" })
      assert.equal(0, result.code, result.err)
      local words = {}
      for word in result.out:gmatch "([^%z]*)%z" do
        words[#words + 1] = word
      end
      return words
    end
    local env = "A=" .. table.concat(WORDS, "")
    local function words_of(manager, calls)
      return called(unit("--for", manager, "--env", env, "web.lua", table.unpack(WORDS)), calls)
    end
    local tail = { "--env", env, box:path "web.lua", table.unpack(WORDS) }
    local function with(...)
      local all = { ... }
      return table.move(tail, 1, #tail, #all + 1, all)
    end
    assert.same(with("run", "--run-dir", "/run/lunad", "--log", "stderr"), words_of "runit")
    assert.same(with("run", "--run-dir", "/run/lunad", "--log", "stderr", "--notify-fd", "3"), words_of "s6")
    local openrc = "\nebegin() { :; }\neend() { return $1; }\n"
    assert.same(with("start", "--run-dir", "/run/lunad", "--restart", "on-failure"),
      words_of("openrc", openrc .. "start"))
    for _, verb in ipairs { "stop", "reload", "status" } do
      assert.same({ verb, "--run-dir", "/run/lunad", "web" }, words_of("openrc", openrc .. verb))
    end
    local text = unit("--for", "runit", "--restart", "always", "--user", "daemon", "web.lua")
    assert.falsy(text:find("finish", 1, true))
    assert.truthy(text:find(" --user daemon ", 1, true))
    assert.truthy(unit("--for", "s6", "--notify-fd", "5", "web.lua"):find("#   5\n", 1, true))
    assert.truthy(unit("--for", "openrc", "--after", "db", "web.lua"):find("\tafter db\n", 1, true))
  end)

  it("prints a ./run that works, and the ./check of runit that it has", function()
    local script = box:idle "web"
    local text = box:ok("unit", "--for", "runit", "--run-dir", "run", script)
    local check = box:write("check", (text:match "\n#   (%S+ status [^\n]*)"))
    assert.not_equal(0, box:run({ check }, { program = "sh" }).code)
    local process = box:spawn({ box:write("runit", text) }, { program = "sh" })
    support.wait_for("./check", function()
      process.turn()
      return box:run({ check }, { program = "sh" }).code == 0
    end)
    assert.equal("web: stopped\n", box:ok("stop", "web"))
    box:await(process, "its end", process.is_over)
  end)

  it("takes the options of a config, and the order of its services", function()
    box:idle "web"
    box:write("c.lua", [[return { env = { A = "$x" }, services = { web = { script = "web.lua",
      stop_timeout = 20, after = { "db" }, args = { "a b" } }, db = { script = "web.lua" } } }]])
    local text = unit("-c", "c.lua", "web")
    assert.same({ "network.target db.service" }, settings(text, "After"))
    assert.same({ "25" }, settings(text, "TimeoutStopSec"))
    local words = systemd_words(settings(text, "ExecStart")[1])
    assert.same({ box:path "web.lua", "a b" }, { table.unpack(words, #words - 1) })
    assert.truthy(table.concat(words, " "):find("--name web", 1, true))
    assert.truthy(table.concat(words, " "):find("--env A=$x", 1, true))
    assert.truthy(unit("--for", "openrc", "-c", "c.lua", "web"):find("after db", 1, true))
    assert.truthy(box:refused(2, "unit", "-c", "c.lua"):find("web", 1, true))
    assert.truthy(box:refused(2, "unit", "-c", "c.lua", "web", "db"):find("one service", 1, true))
  end)

  it("refuses what start refuses, and what the manager cannot have", function()
    box:idle "web"
    box:write("bad.lua", "x = = 1")
    for _, words in ipairs {
      { 2 }, { 2, "-" }, { 2, "--bogus", "web.lua" }, { 2, "--umask", "9", "web.lua" },
      { 2, "-e", "x" },
      { 2, "--for", "upstart", "web.lua" }, { 2, "--socket", "web.lua" }, { 2, "--after", "a b", "web.lua" },
      { 2, "--socket", "--for", "s6", "--listen", "[::1]:1", "web.lua" },
      { 2, "--notify-fd", "5", "web.lua" },
      { 2, "--for", "openrc", "--log", "stderr", "web.lua" }, { 2, "--all", "web.lua" },
      { 1, "none.lua" }, { 1, "bad.lua" }, { 1, "-c", "none.lua" },
      { 1, "--run-dir", ("d"):rep(120), "web.lua" },
      { 1, "--run-dir", "a\nb", "web.lua" },
    } do
      local code = table.remove(words, 1)
      box:refused(code, "unit", table.unpack(words))
    end
    assert.truthy(box:refused(1, "unit", "bad.lua"):find("bad.lua:1:", 1, true))
    assert.same({}, box:left_files())
  end)
end)

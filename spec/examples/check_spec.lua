-- examples/check.lua, and a page that is there or not.

local net = require "support.net"
local support = require "support"

local PAGE = [[
assert(require "lunad.http".serve("127.0.0.1:" .. ..., function()
  local file = io.open(lunad.script .. ".broken")
  return file and 500 or 200, "a page\n"
end))
]]

describe("examples/check.lua", function()
  local box = support.with_box(before_each, after_each)
  local port

  before_each(function()
    port = net.free_port()
    box:write("page.lua", "local lunad = require 'lunad' " .. PAGE)
    box:ok("start", box:path "page.lua", tostring(port))
  end)

  local function start(...)
    local words = { "--env", ("CHECK_URL=http://127.0.0.1:%d/"):format(port), ... }
    words[#words + 1] = support.root .. "/examples/check.lua"
    box:start(table.unpack(words))
  end

  -- Start it with a command, and so that it looks only when it is told to.
  local function start_quiet()
    start("--env", "CHECK_CRON=0 0 1 1 *", "--env", 'CHECK_COMMAND=echo "$2: $3" >>' .. box:path "told")
  end

  -- Wait for a status that matches.
  local function wait_status(pattern)
    support.wait_for(pattern, function() return (box:status("check").text or ""):find(pattern) end)
  end

  it("looks when it starts and each minute, and shows what it has seen", function()
    start()
    wait_status "^up since %d+%-%d+%-%d+ %d+:%d+:%d+; 7 bytes in %d+ ms$"
    local timer = box:status("check").timers[1]
    assert.equal("cron", timer.kind)
    assert.is_true(timer.due <= 60)
    assert.equal("check: stopped\n", box:ok("stop", "check"))
    assert.not_matches("Z error ", box:log "check")
  end)

  it("tells that the page is down when it has failed twice, and when it is back", function()
    start_quiet()
    wait_status "^up"
    box:write("page.lua.broken", "")
    box:ok("signal", "check", "USR1")
    wait_status "^up since .*; status 500$"
    assert.is_nil(box:read "told")
    box:ok("signal", "check", "USR1")
    wait_status "^down since .*; status 500$"
    support.wait_for("the command", function() return box:read "told" == "down: status 500\n" end)
    box:ok("reload", "check") -- it knows that it was down, and has told so
    support.wait_for("the check after the reload", function() return box:status("check").text end)
    os.remove(box:path "page.lua.broken")
    box:ok("signal", "check", "USR1")
    wait_status "^up since"
    support.wait_for("the command", function()
      return (box:read "told"):find "^down: status 500\nup: 7 bytes in %d+ ms\n$"
    end)
    assert.matches('warn  check: http://127.0.0.1:%d+/ is down seen="status 500"\n', box:log "check")
  end)

  it("takes a server that is not there for a page that is down, and tells of a command that fails", function()
    start_quiet()
    wait_status "^up"
    os.remove(box:path "told")
    assert(support.uv.fs_mkdir(box:path "told", tonumber("700", 8)))
    box:ok("stop", "page")
    box:ok("signal", "check", "USR1")
    wait_status "^up since .*; ECONNREFUSED"
    box:ok("signal", "check", "USR1")
    wait_status "^down since .*; ECONNREFUSED"
    box:wait_log("check", "error check: the command has failed error=")
  end)
end)

-- Specs of examples/backup.lua: lunad test examples/spec
-- A month of nights is over in a second, and nothing is written.

local test = require "lunad.test"

local SCRIPT = debug.getinfo(1, "S").source:match "^@(.*)spec/" .. "backup.lua"
local NIGHT = 24 * 60 * 60

describe("backup.lua", function()
  local clock

  before_each(function()
    clock = test.clock(os.time { year = 2026, month = 3, day = 1, hour = 12 })
  end)

  local function start(tar)
    return test.service(SCRIPT, {
      args = { "/etc", "/home" },
      env = { BACKUP_DIR = "/backups" },
      fake = { tar = tar, find = {} },
    })
  end

  it("archives each folder every night, and removes what is old", function()
    local service = start {}
    clock:advance(3 * NIGHT)
    local calls = service.fakes:calls "tar"
    assert.equal(6, #calls)
    assert.equal("tar -czf /backups/etc-2026-03-02.tar.gz /etc", calls[1].command)
    assert.equal("tar -czf /backups/home-2026-03-04.tar.gz /home", calls[6].command)
    assert.equal(3, #service.fakes:calls "find /backups")
    assert.equal("6 archives, the last on 2026-03-04", service:status().text)
  end)

  it("tries again, ten minutes later, and goes on with the next folder", function()
    local attempts = 0
    local service = start(function(call)
      attempts = attempts + 1
      local is_full = call.args[4] == "/etc" and attempts < 3
      return is_full and { stderr = "No space left on device", code = 2 } or {}
    end)
    clock:advance(14.75 * 3600) -- 2:45
    assert.equal(2, #service:log "^backup failed$")
    assert.equal("No space left on device", service:log("^backup failed$")[2].stderr)
    assert.equal(0, #service:log "^archived$")
    clock:advance(10 * 60)
    assert.equal(2, #service:log "^archived$")
  end)

  it("gives up after the third time", function()
    local service = start { code = 1 }
    clock:advance(NIGHT)
    assert.equal(6, #service.fakes:calls "tar")
    assert.equal(2, #service:log "^given up$")
  end)

  it("keeps its count over a reload", function()
    local service = start {}
    clock:advance(NIGHT)
    assert(service:reload())
    clock:advance(NIGHT)
    assert.equal("4 archives, the last on 2026-03-03", service:status().text)
  end)
end)

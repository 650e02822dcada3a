-- A nightly backup, with its specs in spec/backup_spec.lua: lunad test examples/spec
--
--   lunad start examples/backup.lua FOLDER...
--
-- At 2:30 each folder becomes an archive in BACKUP_DIR; one that fails is tried again, three times in all,
-- and those of more than a week ago are removed.

local lunad = require "lunad"

local TARGET = os.getenv "BACKUP_DIR" or "/var/backups"
local ATTEMPTS, PAUSE = 3, 10 * 60

local folders = { ... }
local done = lunad.keep("done", { archives = 0 })

-- Make an archive of a folder; returns whether that has worked.
local function archive(folder)
  local path = ("%s/%s-%s.tar.gz"):format(TARGET, folder:gsub("^/", ""):gsub("/", "-"), os.date "%Y-%m-%d")
  for attempt = 1, ATTEMPTS do
    local result, err = lunad.exec { "tar", "-czf", path, folder }
    if result and result.ok then
      done.archives = done.archives + 1
      lunad.log.info("archived", { folder = folder, path = path })
      return true
    end
    lunad.log.warn("backup failed", { folder = folder, attempt = attempt, stderr = err or result.stderr })
    if attempt < ATTEMPTS then
      lunad.sleep(PAUSE)
    end
  end
  return false
end

lunad.cron("30 2 * * *", function()
  for _, folder in ipairs(folders) do
    if not archive(folder) then
      lunad.log.error("given up", { folder = folder })
    end
  end
  lunad.exec { "find", TARGET, "-name", "*.tar.gz", "-mtime", "+7", "-delete" }
  lunad.status(("%d archives, the last on %s"):format(done.archives, os.date "%Y-%m-%d"))
end)

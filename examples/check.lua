-- A cron job: look at a web page each minute, and tell when it goes down and when it is back.
--
--   lunad start examples/check.lua    looks at examples/http.lua, or at CHECK_URL
--   lunad status check                up or down, since when, and what was seen last
--   lunad signal check USR1           looks now
--   CHECK_COMMAND='mail -s "$1 is $2: $3" admin </dev/null' lunad start examples/check.lua

local lunad = require "lunad"
local http = require "lunad.http"

local URL = os.getenv "CHECK_URL" or "http://127.0.0.1:8080/hello" -- examples/http.lua
local COMMAND = os.getenv "CHECK_COMMAND" -- of the shell: $1 is the URL, $2 up or down, $3 what was seen
local WHEN = os.getenv "CHECK_CRON" or "* * * * *"
local FAILURES = 2 -- in a row mean that it is down: one may be an accident

-- What is kept by a name is still there after a reload.
local page = lunad.keep("page", { is_up = true, failures = 0, since = os.time() })

-- Look at the page: whether it is as it should be, and what was seen.
local function look()
  local began = lunad.now()
  local response, err = http.request { url = URL, timeout = 10 }
  if not response then
    return false, err
  elseif response.status ~= 200 then
    return false, "status " .. response.status
  end
  return true, ("%d bytes in %.0f ms"):format(#response.body, (lunad.now() - began) * 1000)
end

-- Tell that the page is down, or back.
local function tell(word, seen)
  lunad.log.warn(("%s is %s"):format(URL, word), { seen = seen })
  if COMMAND then
    local result, err = lunad.exec { "sh", "-c", COMMAND, "check", URL, word, seen, timeout = 30 }
    if not result or not result.ok then
      lunad.log.error("the command has failed", { error = err or result.stderr })
    end
  end
end

local one_at_a_time = lunad.semaphore(1)

local function check()
  local held <close> = one_at_a_time:acquire() -- luacheck: ignore 211
  local is_good, seen = look()
  page.failures = is_good and 0 or page.failures + 1
  local is_up = is_good or page.failures < FAILURES and page.is_up
  local has_changed = is_up ~= page.is_up
  if has_changed then
    page.is_up, page.since = is_up, os.time()
  end
  local word = is_up and "up" or "down"
  lunad.status(("%s since %s; %s"):format(word, os.date("%F %T", page.since), seen))
  if has_changed then
    tell(word, seen)
  end
end

lunad.cron(WHEN, check)
lunad.signal("USR1", check)
lunad.after(0, check) -- and once now

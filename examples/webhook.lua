-- A webhook sender: other programs hand it events, and it posts them to a URL until the receiver takes them.
--
--   lunad start examples/webhook.lua      posts to examples/http.lua, or to WEBHOOK_URL
--   curl --unix-socket /tmp/webhook.sock -d '{"build": "ok"}' http://here/      answers with the event's id
--   lunad logs -f webhook                 what was sent, and what is tried again
--   lunad status webhook                  how many events wait
--
-- An event is a file in a folder until it is sent: neither a crash nor a reload loses one. It may come twice,
-- if that happens between the answer of the receiver and the removal of the file: X-Event-Id tells.

local lunad = require "lunad"
local http = require "lunad.http"
local uv = require "luv"

local URL = os.getenv "WEBHOOK_URL" or "http://127.0.0.1:8080/echo" -- examples/http.lua
local SOCKET = os.getenv "WEBHOOK_SOCKET" or "/tmp/webhook.sock"
local FOLDER = os.getenv "WEBHOOK_DIR" or "/tmp/webhook"
local SENDERS = 4 -- that work at the same time
local MOST = 10000 -- events that wait for one of them
local FIRST = tonumber(os.getenv "WEBHOOK_DELAY") or 1 -- seconds before an event is tried again, doubling ...
local LAST = 600 -- ... up to so many

local due = lunad.channel(MOST) -- ids of events that are to be sent now
local tries = {} -- how often each event was tried, by its id
local stored, waiting, is_over = 0, 0, false

local ok, err, code = uv.fs_mkdir(FOLDER, tonumber("700", 8))
assert(ok or code == "EEXIST", err)

local function path_of(id)
  return ("%s/%s.event"):format(FOLDER, id)
end

local function count(difference)
  waiting = waiting + difference
  lunad.status(("%d events wait"):format(waiting))
end

-- Let a sender have an event. If too many wait already, this task waits too.
local function enqueue(id)
  tries[id] = 0
  count(1)
  due:put(id)
end

-- Store an event as a file, whole or not at all; returns its id, or nil and why it cannot be stored.
local function store(text)
  stored = stored + 1
  local id = ("%d-%d-%d-%d"):format(os.time(), lunad.pid, lunad.generation, stored)
  local file, why = io.open(path_of(id) .. ".part", "wb")
  if not file then
    return nil, why
  end
  local written = file:write(text)
  if not file:close() or not written then
    os.remove(path_of(id) .. ".part")
    return nil, "it cannot be written"
  end
  os.rename(path_of(id) .. ".part", path_of(id))
  return id
end

-- Post an event: true if it was taken, false and why if it never will be, nil and why to try it again.
local function post(id, text)
  local response, why = http.request {
    url = URL, method = "POST", body = text, timeout = 10,
    headers = { ["Content-Type"] = "application/json", ["X-Event-Id"] = id },
  }
  if not response then
    return nil, why
  elseif response.status // 100 == 2 then
    return true
  elseif response.status // 100 == 4 and response.status ~= 408 and response.status ~= 429 then
    return false, "status " .. response.status
  end
  return nil, "status " .. response.status
end

-- Send an event, or see to it that it is tried again.
local function send(id)
  local file = io.open(path_of(id), "rb")
  local text = file and file:read "a"
  if not text then
    tries[id] = nil -- another generation has sent it
    return count(-1)
  end
  file:close()
  local is_taken, why = post(id, text)
  tries[id] = tries[id] + 1
  if is_taken == nil then
    local delay = math.min(FIRST * 2 ^ (tries[id] - 1), LAST) * (0.8 + 0.4 * math.random())
    lunad.log.warn("not sent", { id = id, error = why, delay = ("%.1f"):format(delay) })
    lunad.after(delay, function() due:put(id) end)
    return
  elseif is_taken then
    os.remove(path_of(id))
    lunad.log.info("sent", { id = id, tries = tries[id] })
  else
    os.rename(path_of(id), path_of(id) .. ".refused")
    lunad.log.error("the receiver refuses an event", { id = id, error = why })
  end
  tries[id] = nil
  count(-1)
end

for _ = 1, SENDERS do
  lunad.task(function()
    while not is_over do
      send((due:get()))
    end
  end)
end

-- Enqueue what is in the folder: events of the last start, and those that the generation before has stored
-- while it was being replaced.
local function scan()
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(FOLDER)) do
    local id = name:match "^(.*)%.event$"
    if id and not tries[id] then
      enqueue(id)
    end
  end
end

assert(http.serve("unix:" .. SOCKET, function(request)
  local id, why = store(request.body)
  if not id then
    return 503, why .. "\n"
  end
  enqueue(id)
  return 202, id .. "\n"
end, { mode = "600" }))

lunad.after(0, scan)
lunad.every(30, scan)
lunad.on_stop(function() is_over = true end)

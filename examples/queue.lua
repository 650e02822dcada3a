-- A queue of jobs in Redis: they survive a reload, a stop and a crash.
--
--   lunad start examples/queue.lua                 Redis is on 127.0.0.1:6379, or where REDIS says
--   redis-cli rpush jobs "write a letter"          from anywhere, as many as you like
--   redis-cli lrange done 0 -1
--   lunad reload queue                             jobs that are being done are done to the end
--
-- The client is written for LuaSocket, as most are, and knows nothing of lunad. With install() its calls
-- suspend the task in which they are made, so that four workers wait for jobs at the same time.

local lunad = require "lunad"
local socket = require("lunad.socket").install()

local HOST, PORT = (os.getenv "REDIS" or "127.0.0.1:6379"):match "^(.*):(%d+)$"

-- Ask Redis; returns the answer, nil if there is none. Its errors, and those of the connection, are raised.
local function ask(redis, ...)
  local words = { "*" .. select("#", ...) }
  for _, word in ipairs { ... } do
    words[#words + 1] = ("$%d\r\n%s"):format(#word, word)
  end
  assert(redis:send(table.concat(words, "\r\n") .. "\r\n"))
  local kind, text = assert(redis:receive()):match "^(.)(.*)$"
  if kind == "-" then
    error("Redis: " .. text, 0)
  elseif kind == "$" and text ~= "-1" then
    return assert(redis:receive(text + 2)):sub(1, -3)
  end
  return text ~= "-1" and text or nil
end

local stopping = false

-- Take jobs until the service stops. A job is on the worker's list `doing` until it is done. What a crash has
-- left there is for the first generation: a later one runs beside the workers of the one before.
local function work(redis, doing)
  while lunad.generation == 1 and ask(redis, "LMOVE", doing, "jobs", "RIGHT", "LEFT") do end
  while not stopping do
    local job = ask(redis, "BLMOVE", "jobs", doing, "LEFT", "RIGHT", "0.5")
    if job then
      lunad.sleep(0.1) -- here is the real work
      lunad.log.info("done", { job = job })
      ask(redis, "RPUSH", "done", job)
      ask(redis, "LREM", doing, "1", job)
    end
  end
end

-- Connect, and work; again after a second if Redis is not there, or goes away.
local function worker(i)
  while not stopping do
    local redis <close> = socket.tcp()
    redis:settimeout(5)
    local ok, err = redis:connect(HOST, PORT)
    if ok then
      ok, err = pcall(work, redis, "doing:" .. i)
    end
    if not ok then
      lunad.log.warn("worker " .. i .. ": no Redis", { at = HOST .. ":" .. PORT, reason = err })
      lunad.sleep(1)
    end
  end
end

local workers = {}
for i = 1, 4 do
  workers[i] = lunad.task(worker, i)
end

-- Stop, or hand over to the next generation, when the jobs that were begun are done.
lunad.on_stop(function()
  stopping = true
  for _, task in ipairs(workers) do
    task:wait(5)
  end
end)

-- The daemon of the random soak. The file that its first argument names is the plan: the number of
-- this load, and what is wrong with it.

local lunad = require "lunad"
local uv = require "luv"

local plan_file, address = ...
local plan = dofile(plan_file)

if plan.flaw == "raises" then
  error "as planned"
elseif plan.flaw == "endless" then
  while true do end
elseif plan.flaw == "finishes" then
  return
elseif plan.flaw == "late raise" then
  lunad.after(0, function() error "as planned" end)
  lunad.spawn { "sleep", "5" }
  lunad.listen("unix:" .. address .. ".more")
  error "after it has made things"
end

-- The first request for the state may be refused too.
local asked = false
lunad.on_reload(function()
  local flaw = not asked and plan.flaw
  asked = true
  if flaw == "on_reload raises" then
    error "as planned"
  elseif flaw == "on_reload is endless" then
    while true do end
  elseif flaw == "on_reload gives a function" then
    return { deep = { print } }
  end
  return { reloads = (lunad.state and lunad.state.reloads or 0) + 1, list = { "a", "b", { true } } }
end)

lunad.on_stop(function(reason)
  lunad.sleep(0.01)
  print("on_stop", reason)
end)

-- A timer of luv measures the longest time without a turn of the loop.
local turned, pause = lunad.now(), 0
local function note_turn()
  local now = lunad.now()
  turned, pause = now, math.max(pause, now - turned)
end
local witness = uv.new_timer()
witness:start(5, 5, note_turn)

-- Each beat of an every is run or counted as missed, and none is late while the loop turns. One wrong
-- sum proves nothing, because a late beat comes before its missed ones are counted; five do.
local STEP = 0.02
local first, last, runs, wrong = lunad.now(), lunad.now(), 0, 0
local beat
beat = lunad.every(STEP, function()
  local now = lunad.now()
  note_turn()
  if now - last > 3 * STEP and pause < STEP then
    lunad.log.error("soak: a beat is late though the loop turned", { late = now - last, pause = pause })
  end
  runs, last, pause = runs + 1, now, 0
  local lost = (now - first) / STEP - runs - beat:missed()
  wrong = math.abs(lost) > 3 and wrong + 1 or 0
  if wrong == 5 then
    lunad.log.error("soak: beats are lost", { lost = lost, runs = runs, missed = beat:missed() })
  end
end)
first = lunad.now() + beat:due() - STEP -- when the beat began

-- Block the loop now and then.
lunad.every(0.5, function()
  local until_then = lunad.now() + math.random() * 0.04
  while lunad.now() < until_then do end
end)

-- Timers come and go.
local timers = {}
lunad.every(0.05, function()
  for _ = 1, 20 do
    local slot = math.random(50)
    if timers[slot] then
      timers[slot]:stop()
    end
    timers[slot] = lunad.after(math.random() * 0.3, function() timers[slot] = nil end)
  end
end)
lunad.cron("* * * * *", function() lunad.log.info "a minute" end)

-- Children come and go.
local COMMANDS = {
  { "true" },
  { "false", stdout = "null" },
  { "sh", "-c", "echo out; echo err >&2; exit 3" },
  { "sleep", "5", timeout = 0.1, kill_after = 0.1 },
  { "no-such-command" },
  { "cat", stdin = "pipe", stdout = function() end },
  { "sh", "-c", "trap '' TERM; sleep 0.2", timeout = 0.05 },
  { "sh", "-c", "sleep 0.1 & exit" },
  { "head", "-c", "100000", "/dev/zero", stdout = function() lunad.sleep(0.001) end },
}
local function spawn_one()
  local words = {}
  for key, value in pairs(COMMANDS[math.random(#COMMANDS)]) do
    words[key] = value
  end
  local child = lunad.spawn(words)
  if child and words.stdin then
    child:write(("x"):rep(math.random(100000)))
    child:close_stdin()
  end
  return child
end
lunad.every(0.1, spawn_one)
lunad.spawn { "sleep", "100000", name = "kept", keep = true }
lunad.supervise { "sleep", "0.3", name = "short", restart = "always", backoff = { 0.05, 0.1 },
  max_restarts = 100000, within = 1 }

-- Tasks wait for commands, and some are cancelled.
local tasks = {}
lunad.signal("WINCH", function()
  for slot = 1, 3 do
    if tasks[slot] then
      tasks[slot]:cancel()
    end
    tasks[slot] = lunad.task(function()
      lunad.exec { "sh", "-c", "cat; sleep 0.05", input = ("y"):rep(1000), timeout = 0.04 + slot * 0.02 }
      lunad.sleep(math.random() * 0.1)
      tasks[slot] = nil
    end)
  end
end)

-- Log all kinds of text, and let callbacks fail.
lunad.every(0.3, function()
  lunad.log.info("odd \1\27[31m\n2026-01-01T00:00:00.000Z error forged: line\r\xff",
    { key = "a b", n = 1 / 0 })
  if math.random(4) == 1 then
    error "as planned"
  end
end)

-- luv has timers, files and processes of its own.
local luv_timer = uv.new_timer()
luv_timer:start(50, 50, function()
  uv.fs_stat("/", function() end)
end)
lunad.every(0.7, function()
  local handle
  handle = uv.spawn("true", {}, function() handle:close() end)
end)

-- Requests: answer a line with its number.
local server = uv.new_pipe()
assert(server:open(assert(lunad.listen("unix:" .. address))))
assert(server:listen(128, function(err)
  if err then
    return
  end
  local client = uv.new_pipe()
  server:accept(client)
  client:read_start(function(_, chunk)
    if chunk then
      client:write(chunk)
    elseif not client:is_closing() then
      client:close()
    end
  end)
end))

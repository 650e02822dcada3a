-- A service of a size that beats each millisecond is reloaded, or asked for its status: how long that
-- takes, and the longest silence of the beat meanwhile.
local connect, daemon, measure, services, statistics = require "control", require "daemon", require "measure",
  require "services", require "statistics"
local uv = require "luv"
local _, what, size, rounds = ...

local LUNAD_RUN_DIR <const> = os.getenv "LUNAD_RUN_DIR"
local SETTLE <const> = 20 -- ms before and after what is done that count for the silence

-- The service writes a byte into the FIFO @OUT@ for each beat.
local BEAT = [[
  local lunad = require "lunad"
  local out = assert(io.open("@OUT@", "a"))
  out:setvbuf "no"
  lunad.every(0.001, function() out:write "." end)
  local size = @SIZE@
]]

-- What the service has SIZE of.
local holdings = {
  state = [[
    local state = lunad.keep("state", {})
    if not state[1] then
      for i = 1, size do state[i] = { i } end
    end
  ]],
  timers = [[
    for i = 1, size do lunad.after(3600 + i % 1000, print) end
  ]],
  children = [[
    for i = 1, size do
      assert(lunad.spawn { "/bin/sleep", "10000", name = "sleep-" .. i, keep = true, stdout = "null",
        stderr = "null" })
    end
  ]],
  listeners = [[
    for i = 1, size do assert(lunad.listen("unix:@OUT@." .. i)) end
  ]],
}

local REQUESTS = { reload = '{"verb": "reload"}', status = '{"verb": "status"}' }

-- Read the beats at the end of a FIFO: a function that returns the longest silence since its last call.
local function hear(path)
  local pipe, last, longest = uv.new_pipe(false), nil, 0
  pipe:open(assert(uv.fs_open(path, "r+", 0)))
  pipe:read_start(function(err)
    assert(not err, err)
    local now = uv.hrtime()
    longest = last and math.max(longest, now - last) or 0
    last = now
  end)
  return function()
    local silence = last and math.max(longest, uv.hrtime() - last) or longest
    longest = 0
    return silence / 1e9
  end, function()
    pipe:close()
    uv.run "nowait"
  end
end

-- Let the loop run.
local function settle()
  local over = false
  local timer = uv.new_timer()
  timer:start(SETTLE, 0, function() over = true end)
  services.wait_for("a while", function() return over end)
  timer:close()
end

-- Send a request some times: the medians of the time of the answer, its size, and the silence.
local function measure_request(client, silence, request)
  local times, sizes, gaps = {}, {}, {}
  for i = 1, rounds do
    settle()
    silence()
    settle()
    local began = uv.hrtime()
    local answer = client:ask(request)
    times[i], sizes[i] = (uv.hrtime() - began) / 1e9, #answer
    assert(answer:find('"ok": ?true'), answer:sub(1, 200))
    settle()
    gaps[i] = silence()
  end
  measure.report { time = statistics.median(times), gap = statistics.median(gaps),
    bytes = statistics.median(sizes) }
end

local verb, holding = what:match "^(%l+)-(%l+)$"
local out = os.getenv "BENCH_BOX" .. "/beats"
os.remove(out)
assert(os.execute("mkfifo " .. out))
local silence, close = hear(out)
local text = (BEAT .. holdings[holding]):gsub("@(%u+)@", { OUT = out, SIZE = size })
daemon.with(text, "--start-timeout 300 --stop-timeout 60", function(server)
  local client = connect(("%s/%s.sock"):format(LUNAD_RUN_DIR, server.name))
  measure_request(client, silence, REQUESTS[verb])
  client:close()
end)
close()
os.remove(out)

local net = require "support.net"
local support = require "support"
local uv = support.uv

local RELOADS = support.is_sanitized() and 40 or 150
local CLIENTS = 8

-- For scripts: answer each line with 20,000 bytes, a few at a time, and the number of the generation.
local LINES = [[
local uv = require "luv"
local function serve(address)
  local server = uv.new_tcp()
  assert(server:open(assert(lunad.listen(address))))
  assert(server:listen(128, function(err)
    assert(not err, err)
    local client = uv.new_tcp()
    if not server:accept(client) then return end
    client:read_start(function(read_err, chunk)
      if chunk then
        for _ = 1, 4 do client:write(("x"):rep(5000)) end
        client:write("generation " .. lunad.generation .. "\n")
      elseif not client:is_closing() then
        client:close()
      end
    end)
  end))
  print("port " .. server:getsockname().port)
end
]]

local Crowd = {}
Crowd.__index = Crowd

-- One client: connects, asks `questions` times, waits for each answer, ends, and starts again.
function Crowd:client(questions)
  local socket, asked, answer = uv.new_tcp(), 0, ""
  local function over(problem)
    if socket:is_closing() then return end
    socket:close()
    if problem then
      self.problems[#self.problems + 1] = ("%s, question %d, %d bytes"):format(problem, asked, #answer)
    end
    self.open = self.open - 1
    if not self.stopping then self:client(questions) end
  end
  local function ask()
    asked, answer = asked + 1, ""
    socket:write "please\n"
  end
  self.open = self.open + 1
  socket:connect("127.0.0.1", self.port, function(err)
    if err then return over("refused: " .. err) end
    ask()
    socket:read_start(function(read_err, chunk)
      if not chunk then return over("cut: " .. (read_err or "end")) end
      answer = answer .. chunk
      local generation = answer:match "^x*generation (%d+)\n$"
      if not generation then return end
      if #answer < 20000 then return over "truncated" end
      self.answers = self.answers + 1
      self.newest = math.max(self.newest, tonumber(generation))
      if asked < questions then ask() else over() end
    end)
  end)
end

-- Several clients of a port that connect and close again and again until told to end.
local function gather(port)
  local crowd = setmetatable({ port = port, problems = {}, answers = 0, newest = 0, open = 0 }, Crowd)
  for i = 1, CLIENTS do crowd:client(i % 4 + 1) end
  return crowd
end

-- Let them connect until a generation has answered, then end them; all must have got their answers.
function Crowd:await(generation)
  support.wait_for("generation " .. generation, function()
    uv.run "nowait"
    return self.newest == generation or #self.problems > 0
  end)
  self.stopping = true
  support.wait_for("the end of the crowd", function()
    uv.run "nowait"
    return self.open == 0
  end)
  assert.same({}, self.problems)
end

describe("clients that connect and close again and again", function()
  local box = support.with_box(before_each, after_each)

  -- Reload once while the clients run, and wait until each is likely to have had a turn.
  local function reload(crowd, client, text)
    local before = crowd.answers
    box:write("s.lua", support.BEAT .. text)
    local answer = client:ask "reload"
    support.wait_for("more answers", function()
      uv.run "nowait"
      return crowd.answers >= before + CLIENTS or #crowd.problems > 0
    end)
    return answer
  end

  local BROKEN = { "error 'x'", "local = 1", "lunad.stop()", "while true do end" }

  it("are all answered completely during " .. RELOADS .. " reloads, good and broken ones", function()
    box:serve(LINES .. "serve '127.0.0.1:0'", "--start-timeout", support.is_sanitized() and "1" or "0.4")
    local crowd, client = gather(net.port(box, "s")), box:connect "s"
    local good = 0
    for i = 1, RELOADS do
      local bad = i % 3 == 0 and BROKEN[i // 3 % #BROKEN + 1]
      local answer = reload(crowd, client, LINES .. "serve '127.0.0.1:0' " .. (bad or ""))
      assert.equal(not bad, answer.ok, answer.error)
      good = good + (bad and 0 or 1)
    end
    crowd:await(good + 1)
    assert.is_true(crowd.answers >= RELOADS * CLIENTS)
  end)

  it("are all answered by a script that accepts only after a while", function()
    local slow = LINES .. "lunad.sleep(0.01) serve '127.0.0.1:0' lunad.sleep(0.01) lunad.ready()"
    box:serve(slow, "--wait-ready")
    local crowd, client = gather(net.port(box, "s")), box:connect "s"
    for _ = 1, 10 do assert.is_true(reload(crowd, client, slow).ok) end
    crowd:await(11)
  end)

  it("of a Unix socket are not refused either", function()
    box:serve(net.SERVE .. ("serve 'unix:%s'"):format(box:path "u.sock"))
    local client = box:connect "s"
    for i = 1, 20 do
      client:send '{"verb": "reload"}\n'
      for _ = 1, 4 do assert.matches("^generation %d+\n$", (net.ask(box:path "u.sock"))) end
      assert.equal(i + 1, client:answer().generation)
    end
  end)
end)

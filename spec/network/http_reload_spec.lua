local http = require "support.http"
local net = require "support.net"
local support = require "support"
local uv = support.uv

local RELOADS = support.is_sanitized() and 15 or 40
local CLIENTS = 6

-- Answers at once, after a while, in chunks, or with what was sent.
local SCRIPT = [[
  serve(function(request)
    if request.path == "/slow" then lunad.sleep(0.02) end
    if request.path == "/chunks" then
      return 200, function(write)
        for i = 1, 5 do write(("x"):rep(1000)) lunad.sleep(0.002) end
        write("generation " .. lunad.generation)
      end
    end
    return 200, request.body .. "generation " .. lunad.generation
  end)
]]

local REQUESTS = {
  "GET /fast HTTP/1.1\r\nHost: x\r\n\r\n", "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n",
  "GET /chunks HTTP/1.1\r\nHost: x\r\n\r\n",
  "POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n" .. ("y"):rep(3000),
}

local Crowd = {}
Crowd.__index = Crowd

-- The answer at the beginning of a text: its end and its head, or nil if it is not complete.
local function find_answer(text)
  local stop = text:find("\r\n\r\n", 1, true)
  local head = stop and text:sub(1, stop + 1)
  local length = head and head:match "\r\nContent%-Length: (%d+)\r\n"
  local last = length and stop + 3 + tonumber(length) or
    head and select(2, text:find("\r\n0\r\n\r\n", stop + 4, true))
  return last and last <= #text and last, head
end

-- One client: asks again and again on one connection, as long as the server keeps that.
function Crowd:client(number)
  local socket, text, asked, is_over, waits = uv.new_tcp(), "", 0, false, false
  local timer = uv.new_timer()
  self.open = self.open + 1
  local function finish(problem)
    if is_over then return end
    is_over = true
    socket:close()
    timer:close()
    self.open = self.open - 1
    self.problems[#self.problems + 1] = problem and
      ("%s, request %d of %d: %s"):format(problem, asked, number, text)
    if not self.stopping then self:client(number + 1) end
  end
  local function ask()
    if is_over then return elseif self.stopping then return finish() end
    asked, waits = asked + 1, true
    socket:write(REQUESTS[(asked + number) % #REQUESTS + 1])
  end
  local function on_data(err, chunk)
    if is_over then return end
    if not chunk then return finish((waits or err) and "cut: " .. (err or "end") or nil) end
    text = text .. chunk
    local last, head = find_answer(text)
    if not last then return end
    if not head:find "^HTTP/1.1 200 " or not text:find "generation %d+" then return finish "wrong" end
    self.newest = math.max(self.newest, tonumber(text:match "generation (%d+)"))
    self.answers, waits, text = self.answers + 1, false, text:sub(last + 1)
    if head:find("Connection: close", 1, true) then return finish() end
    -- Some ask at once, some after a while, in which the connection is idle.
    timer:start((asked + number) % 3 * 3, 0, ask)
  end
  socket:connect("127.0.0.1", self.port, function(err)
    if err then return finish("refused: " .. err) end
    ask()
    socket:read_start(on_data)
  end)
end

-- Some clients of a port, until they are told to end.
local function gather(port)
  local crowd = setmetatable({ port = port, problems = {}, answers = 0, newest = 0, open = 0 }, Crowd)
  for i = 1, CLIENTS do crowd:client(i * 100) end
  return crowd
end

-- Let them ask until so many more answers have come.
function Crowd:wait(answers)
  answers = self.answers + answers
  support.wait_for("answers", function()
    uv.run "nowait"
    return self.answers >= answers or #self.problems > 0
  end)
end

-- End them; each must have got all its answers.
function Crowd:finish()
  self.stopping = true
  support.wait_for("the end of the crowd", function()
    uv.run "nowait"
    return self.open == 0
  end)
  assert.same({}, self.problems)
end

describe("a reload", function()
  local box = support.with_box(before_each, after_each)

  it("fails no request of an HTTP server, good or broken, " .. RELOADS .. " times", function()
    local port = http.start(box, SCRIPT, "--stop-timeout", "60")
    local text = http.SERVE .. SCRIPT
    local crowd, client = gather(port), box:connect "s"
    local good = 0
    for i = 1, RELOADS do
      local bad = i % 4 == 0
      box:write("s.lua", support.BEAT .. text .. (bad and " error 'x'" or ""))
      client:send '{"verb": "reload"}\n'
      crowd:wait(CLIENTS)
      assert.equal(not bad, client:answer().ok)
      good = good + (bad and 0 or 1)
    end
    support.wait_for("the newest generation", function()
      uv.run "nowait"
      return crowd.newest == good + 1 or #crowd.problems > 0
    end)
    crowd:finish()
    assert.is_true(crowd.answers > RELOADS * CLIENTS)
    support.wait_for("the end of the old ones", function() return #box:status("s").retiring == 0 end)
    assert.not_matches("closed as its", box:log "s")
  end)

  it("lets requests finish that have begun, and their clients connect again", function()
    local port = http.start(box, [[
      serve(function(request)
        if request.path == "/begun" then print "begun" lunad.sleep(0.2) end
        return 200, request.body .. lunad.generation
      end)
    ]])
    local begun = net.connect(port):send "GET /begun HTTP/1.1\r\nHost: x\r\n\r\n"
    local half = net.connect(port)
    half:send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    half:wait "100 Continue"
    half:send "ab"
    box:wait_log("s", "begun")
    box:ok("reload", "s")
    assert.matches("Connection: close\r\n.*\r\n\r\n1$", (begun:wait_end()))
    assert.matches("Connection: close\r\n.*\r\n\r\nabcd1$", (half:send "cd":wait_end()))
  end)

  it("moves idle clients to the new generation, and they notice nothing", function()
    local text = "serve(function() return 200, 'g' .. lunad.generation end)"
    local port = http.start(box, text)
    local idle = net.connect(port):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    local half = net.connect(port):send "GET / HTTP/1.1\r\nHo"
    local silent = net.connect(port):wait_connected()
    idle:wait "g1$"
    assert.not_equal(0, box:reload(http.SERVE .. text .. " error 'x'").code)
    idle:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n":wait "g1.*g1$"
    for generation = 2, 4 do
      assert.equal(0, box:reload(http.SERVE .. text).code)
      support.wait_for("the end of the old one", function() return #box:status("s").retiring == 0 end)
      idle:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n":wait("g" .. generation .. "$")
    end
    half:send "st: x\r\n\r\n":wait "g4$"
    silent:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n":wait "g4$"
    for _, client in ipairs { idle, half, silent } do
      assert.not_matches("Connection: close", client.received)
      assert.falsy(client.ended)
      client:close()
    end
    assert.not_matches("warn", box:log "s")
  end)

  it("closes idle clients if the new generation serves them no more", function()
    local port = http.start(box, "serve(function() return 200, 'x' end)")
    local idle = net.connect(port):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    idle:wait "x$"
    assert.equal(0, box:reload "require('lunad.http').serve('127.0.0.2:0', print)".code)
    idle:wait_end()
    assert.not_matches("warn", box:log "s")
  end)

  it("does not wait for requests whose time is up", function()
    local port = http.start(box, [[
      serve(function() return 200 end, { head_timeout = 0.3, body_timeout = 0.3 })
    ]])
    local head = net.connect(port):send "GET / HTTP/1.1\r\nHo"
    local body = net.connect(port):send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"
    box:ok("reload", "s")
    assert.matches("^HTTP/1.1 408 ", (head:wait_end()))
    assert.matches("^HTTP/1.1 408 ", (body:wait_end()))
    support.wait_for("the end of the old one", function() return #box:status("s").retiring == 0 end)
  end)
end)

describe("a stop", function()
  local box = support.with_box(before_each, after_each)

  it("waits for requests that have begun, and not for idle clients", function()
    local port = http.start(box, [[
      serve(function(request)
        if request.path == "/begun" then print "begun" lunad.sleep(0.5) end
        return 200, "done"
      end)
    ]], "--stop-timeout", "60")
    local idle = net.connect(port):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    idle:wait "done$"
    local silent = net.connect(port):wait_connected()
    local half = net.connect(port):send "GET / HT"
    local begun = net.connect(port):send "GET /begun HTTP/1.1\r\nHost: x\r\n\r\n"
    box:wait_log("s", "begun")
    local started = uv.hrtime()
    local stop = box:spawn { "stop", "s" }
    assert.matches("Connection: close\r\n.*done$", (begun:wait_end()))
    assert.matches("^HTTP/1.1 408 ", (half:wait_end()))
    box:await(stop, "the end", stop.is_over)
    assert.is_true(uv.hrtime() - started < 40e9)
    idle:wait_end()
    silent:wait_end()
    assert.not_matches("warn", box:log "s")
  end)
end)

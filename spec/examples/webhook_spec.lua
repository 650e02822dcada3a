-- examples/webhook.lua, and a receiver that answers as a file says.

local net = require "support.net"
local support = require "support"

local RECEIVER = [[
local lunad, http = require "lunad", require "lunad.http"
local folder, port = ...
assert(http.serve("127.0.0.1:" .. port, function(request)
  local file = io.open(folder .. "/got", "a")
  file:write(request.headers["x-event-id"], " ", request.headers["content-type"], " ", request.body, "\n")
  file:close()
  file = io.open(folder .. "/answer")
  return math.tointeger(tonumber(file and file:read "a" or "200")), "hm\n"
end))
]]

describe("examples/webhook.lua", function()
  local box = support.with_box(before_each, after_each)
  local port

  before_each(function()
    port = net.free_port()
    box:start("--env", "WEBHOOK_URL=http://127.0.0.1:" .. port .. "/hook",
      "--env", "WEBHOOK_SOCKET=" .. box:path "socket", "--env", "WEBHOOK_DIR=" .. box:path "events",
      "--env", "WEBHOOK_DELAY=0.05", support.root .. "/examples/webhook.lua")
  end)

  local function receive()
    box:ok("start", "--name", "receiver", box:write("receiver.lua", RECEIVER), box.dir, tostring(port))
  end

  -- Hand an event over; returns its id.
  local function hand_over(text)
    local answer = net.ask(box:path "socket", ("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" ..
      "Content-Length: %d\r\n\r\n%s"):format(#text, text))
    return assert(answer:match "^HTTP/1%.1 202 .*\r\n\r\n([%d-]+)\n$", answer)
  end

  local function wait_status(words)
    support.wait_for(words, function() return box:status("webhook").text == words end)
  end

  -- The names in the folder, in their order.
  local function files()
    local list, scan = {}, assert(support.uv.fs_scandir(box:path "events"))
    for name in function() return support.uv.fs_scandir_next(scan) end do
      list[#list + 1] = name
    end
    table.sort(list)
    return list
  end

  it("posts each event once, with its id, and keeps no file of it", function()
    receive()
    local expected = {}
    for i = 1, 5 do
      local text = ('{"number": %d}'):format(i)
      expected[i] = hand_over(text) .. " application/json " .. text
    end
    wait_status "0 events wait"
    local got = {}
    for line in box:read "got":gmatch "[^\n]+" do
      got[#got + 1] = line
    end
    table.sort(got)
    assert.same(expected, got)
    assert.same({}, files())
    assert.equal("webhook: stopped\n", box:ok("stop", "webhook"))
    assert.not_matches("Z error ", box:log "webhook")
  end)

  it("tries again until the receiver is there and takes it", function()
    local id = hand_over "{}"
    box:wait_log("webhook", 'warn  webhook: not sent delay=0%.. error="ECONNREFUSED: [^\n]+ id=' ..
      support.pattern(id) .. "\n")
    assert.same({ id .. ".event" }, files())
    box:write("answer", "503")
    receive()
    box:wait_log("webhook", 'not sent delay=%S+ error="status 503"')
    box:write("answer", "204")
    box:wait_log("webhook", "info  webhook: sent id=" .. support.pattern(id) .. " tries=%d+\n")
    wait_status "0 events wait"
    assert.same({}, files())
  end)

  it("puts away what the receiver refuses for good", function()
    box:write("answer", "400")
    receive()
    local id = hand_over "{}"
    box:wait_log("webhook", 'error webhook: the receiver refuses an event error="status 400" id=')
    wait_status "0 events wait"
    assert.same({ id .. ".event.refused" }, files())
  end)

  it("loses no event by a reload, nor by a crash", function()
    local ids = { hand_over "1", hand_over "2" }
    box:ok("reload", "webhook")
    ids[3] = hand_over "3"
    wait_status "3 events wait"
    local pid = box:status("webhook").pid
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    box:start("--env", "WEBHOOK_URL=http://127.0.0.1:" .. port .. "/hook",
      "--env", "WEBHOOK_SOCKET=" .. box:path "socket", "--env", "WEBHOOK_DIR=" .. box:path "events",
      support.root .. "/examples/webhook.lua")
    receive()
    for _, id in ipairs(ids) do
      box:wait_log("webhook", "sent id=" .. support.pattern(id))
    end
    support.wait_for("the files to go", function() return #files() == 0 end)
  end)
end)

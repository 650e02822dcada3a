-- examples/chat.lua, by the words of its clients.

local net = require "support.net"
local support = require "support"

describe("examples/chat.lua", function()
  local box = support.with_box(before_each, after_each)
  local port

  before_each(function()
    port = net.free_port()
    -- A copy, so that the spec can break it.
    box:write("chat.lua", support.read(support.root .. "/examples/chat.lua"))
    box:start("--env", "CHAT_ADDRESS=127.0.0.1:" .. port, box:path "chat.lua")
  end)

  local function join(name)
    local client = net.connect(port)
    client:wait "^Your name%?\n"
    client:send(name .. "\n"):wait("%* " .. name .. " is here\n")
    client.received = ""
    return client
  end

  it("passes each line on to all, and says who comes and goes", function()
    local ann, ben = join "ann", join "ben"
    ann:wait "^%* ben is here\n$"
    ann:send "hello\n"
    ben:wait "^ann: hello\n$"
    ann:wait "ann: hello\n$"
    assert.equal("2 clients", box:status("chat").text)
    ann:close()
    ben:wait "%* ann has left\n$"
    ben:finish():wait_end()
    box:ok("stop", "chat")
    assert.not_matches("error", box:log "chat")
  end)

  it("keeps its clients over reloads, with half a line and who has no name yet", function()
    local ann, ben, new = join "ann", join "ben", net.connect(port)
    new:wait "^Your name%?\n$"
    ann:send "good m"
    for generation = 2, 4 do
      box:ok("reload", "chat")
      ben:send("now " .. generation .. "\n")
      ann:wait("ben: now " .. generation .. "\n$")
    end
    ann:send "orning\n"
    ben:wait "ann: good morning\n$"
    new:send "cat\n":wait "%* cat is here\n$"
    new:send "me too\n"
    ann:wait "cat: me too\n$"
    assert.equal("3 clients", box:status("chat").text)
    assert.not_matches("has left", ann.received)
    for _, client in ipairs { ann, ben, new } do client:close() end
  end)

  it("keeps them when new code does not start", function()
    local ann, ben = join "ann", join "ben"
    local good = box:read "chat.lua"
    box:write("chat.lua", good .. "\nerror 'not yet'\n")
    ann:send "one\ntw"
    assert.equal(1, box:lunad("reload", "chat").code)
    ann:send "o\n"
    ben:wait "^ann: one\nann: two\n$"
    box:write("chat.lua", (good:gsub('": "', '" says "')))
    box:ok("reload", "chat")
    ben:send "three\n"
    ann:wait "ben says three\n$"
    for _, client in ipairs { ann, ben } do client:close() end
  end)

  it("drops a client that does not read, and keeps nobody else waiting", function()
    local ann, deaf = join "ann", join "deaf"
    deaf.stream:read_stop()
    local line, got = ("x"):rep(60000), 0
    ann.stream:read_stop()
    ann.stream:read_start(function(_, chunk) got = got + #(chunk or "") end)
    local said = 0
    support.wait_for("the end of the one who does not read", function()
      if got >= said * (#line + 6) then
        ann:send(line .. "\n")
        said = said + 1
      end
      support.uv.run "nowait"
      return said % 20 == 0 and box:status("chat").text == "1 clients"
    end)
    ann:close()
    deaf:close()
    assert.not_matches("error", box:log "chat")
  end)
end)

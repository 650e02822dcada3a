-- lunad.socket over a reload.

local luasocket = require "support.luasocket"
local net = require "support.net"
local support = require "support"

-- A server that answers a line when the client says "go". Its listening socket outlives a reload.
local SERVER = [[
  local socket = require "lunad.socket"
  local server = socket.tcp()
  server:setfd(lunad.listen "127.0.0.1:%d")
  server:listen()
  lunad.task(function()
    local client, err = server:accept()
    while client do
      lunad.task(function(client)
        local line = client:receive()
        print("got " .. line)
        client:receive()
        lunad.sleep(0.01)
        client:send(lunad.generation .. " " .. line .. "\n")
        client:close()
      end, client)
      client, err = server:accept()
    end
    print("no more clients: " .. err)
  end)
  print "listening"
]]

describe("A reload with lunad.socket", function()
  local box = support.with_box(before_each, after_each)
  local port

  before_each(function()
    if not luasocket.is_there then
      pending "LuaSocket is not installed (Debian: lua-socket)"
    end
    port = net.free_port()
  end)

  it("lets the connections of the old generation end, and gives new ones to the new", function()
    box:serve(SERVER:format(port))
    box:wait_log("s", "listening")
    local before = net.connect(port):send "before\n"
    box:wait_log("s", "got before")
    box:ok("reload", "s")
    box:wait_log("s", "no more clients: closed")
    local after = net.connect(port):send "after\n"
    box:wait_log("s", "got after")
    before:send "go\n"
    after:send "go\n"
    assert.equal("1 before\n", before:wait_end())
    assert.equal("2 after\n", after:wait_end())
    assert.not_matches(" is closed ", box:log "s")
  end)

  it("lets requests of the old generation come to their end", function()
    box:serve(SERVER:format(port) .. ([[
      lunad.task(function()
        if lunad.generation > 1 then return end
        local client = assert(socket.connect("localhost", %d))
        client:send "request\n"
        lunad.sleep(0.2)
        client:send "go\n"
        print("answer " .. client:receive())
        client:close()
      end)
    ]]):format(port))
    box:wait_log("s", "got request")
    box:ok("reload", "s")
    box:wait_log("s", "answer 1 request")
  end)

  it("leaves the clients to the old generation until the new one is the service", function()
    box:serve(SERVER:format(port) .. " lunad.ready()", "--wait-ready")
    box:wait_log("s", "listening")
    box:write("s.lua", support.BEAT .. SERVER:format(port) .. [[
      local client = assert(socket.connect("127.0.0.1", ]] .. port .. [[))
      client:send "early\ngo\n"
      assert(client:receive() == "1 early")
      error "refused"
    ]])
    box:refused(1, "reload", "s")
    box:wait_log("s", "got early")
    assert.equal("1 late\n", net.ask(port, "late\ngo\n"))
  end)

  it("names what is open when the time of the old generation is up", function()
    local words = { "--stop-timeout", "0.1" }
    box:serve(SERVER:format(port), table.unpack(words))
    box:wait_log("s", "listening")
    local client = net.connect(port):send "never\n"
    box:wait_log("s", "got never")
    box:ok("reload", "s")
    box:wait_log("s", "generation 1 is closed as its %-%-stop%-timeout is over, and with it: "
      .. "connection with 127%.0%.0%.1:%d+\n")
    client:wait_end()
  end)

  it("closes a generation whose connections were dropped or are closed", function()
    box:serve([[
      local socket = require "lunad.socket"
      local server = assert(socket.bind("127.0.0.1", 0))
      local closed = assert(socket.connect("127.0.0.1", (select(2, server:getsockname()))))
      local dropped = server:accept()
      closed:close()
      dropped = nil
      collectgarbage()
      print "listening"
    ]], "--stop-timeout", "600")
    box:wait_log("s", "listening")
    box:ok("reload", "s")
    support.wait_for("the end of the old generation", function() return #box:status("s").retiring == 0 end)
  end)
end)

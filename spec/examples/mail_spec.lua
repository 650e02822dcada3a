-- examples/mail.lua, by the words of a client.

local net = require "support.net"
local support = require "support"

describe("examples/mail.lua", function()
  local box = support.with_box(before_each, after_each)
  local port, script

  before_each(function()
    port, script = net.free_port(), support.root .. "/examples/mail.lua"
    box:start("--env", "MAIL_ADDRESS=127.0.0.1:" .. port, "--env", "MAIL_DIR=" .. box:path "mail", script)
  end)

  -- The texts of the letters that are stored.
  local function letters()
    local list, scan = {}, assert(support.uv.fs_scandir(box:path "mail"))
    for name in function() return support.uv.fs_scandir_next(scan) end do
      assert.matches("%.eml$", name)
      list[#list + 1] = box:read("mail/" .. name)
    end
    table.sort(list)
    return list
  end

  -- Say lines one after the other, and wait for each answer; returns the client.
  local function say(client, dialogue)
    for _, pair in ipairs(dialogue) do
      client.received = ""
      client:send(pair[1] .. "\r\n")
      client:wait("^" .. pair[2] .. "[^\n]*\r\n$")
    end
    return client
  end

  local function connect()
    local client = net.connect(port)
    client:wait "^220 mail\r\n$"
    return client
  end

  local GREETING = {
    { "EHLO here", "250%-hello here\r\n250 SIZE 10485760" }, { "MAIL FROM:<ann@here> SIZE=9", "250" },
    { "rcpt to:<ben@there>", "250" }, { "RCPT TO:<cat@there>", "250" }, { "DATA", "354" },
  }

  it("stores a letter as it was sent, and says so", function()
    local client = say(connect(), GREETING)
    client.received = ""
    client:send("Subject: dots\r\n\r\n..\r\n..two\r\nend\r\n.\r\n"):wait "^250 stored as [%d-]+\r\n$"
    local head = "Return-Path: <ann@here>\nDelivered-To: ben@there, cat@there\n"
    assert.same({ head .. "Subject: dots\n\n.\n.two\nend\n" }, letters())
    say(client, { { "QUIT", "221" } })
    assert.matches("221", (client:wait_end()))
    assert.equal("1 letters stored", box:status("mail").text)
    assert.equal("mail: stopped\n", box:ok("stop", "mail"))
    assert.matches("info  mail: stored bytes=28 name=", box:log "mail")
    assert.not_matches("Z error ", box:log "mail")
  end)

  it("takes what comes in one piece", function()
    local text = "MAIL FROM:<>\r\nRCPT TO:<b@y>\r\nDATA\r\none\r\n.\r\n"
    assert.matches("stored as .*stored as .*221", (connect():send(text:rep(2) .. "QUIT\r\n"):wait_end()))
    assert.equal(2, #letters())
  end)

  it("refuses what is out of order or unknown, and goes on", function()
    local client = say(connect(), {
      { "RCPT TO:<a@b>", "503" }, { "DATA", "503" }, { "MAIL ann", "501" }, { "EXPN x", "500" },
      { "", "500" }, { "MAIL FROM:<a@b>", "250" }, { "DATA", "503" }, { "RCPT TO:<>", "501" },
      { "RSET", "250" }, { "DATA", "503" }, { "NOOP", "250" },
    })
    say(client, GREETING)
    client:close()
    assert.same({}, letters())
  end)

  it("refuses a letter that is too large, and goes on", function()
    local client = say(connect(), GREETING)
    client.received = ""
    local line = ("x"):rep(1022) .. "\r\n"
    client:send(line:rep(11 * 1024) .. ".\r\n"):wait "^552"
    say(client, { { "NOOP", "250" } })
    client:close()
    assert.same({}, letters())
  end)

  it("ends with a client whose line has no end", function()
    assert.matches("421 EMSGSIZE", (connect():send(("x"):rep(70000)):wait_end()))
  end)

  it("serves clients to their end over a reload, and goes on counting", function()
    local client = say(connect(), GREETING)
    box:ok("reload", "mail")
    client.received = ""
    client:send("old\r\n.\r\n"):wait "^250 stored"
    client:close()
    local other = say(connect(), GREETING)
    other:send("new\r\n.\r\n"):wait "250 stored"
    other:close()
    assert.equal(2, #letters())
  end)
end)

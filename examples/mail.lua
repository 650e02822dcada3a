-- A mail server that stores what it is sent: SMTP, as much of it as a client needs.
--
--   lunad start examples/mail.lua      letters are stored in /tmp/mail, or in MAIL_DIR
--   curl smtp://127.0.0.1:2525 --mail-from ann@here --mail-rcpt ben@there --upload-file letter.txt
--   lunad reload mail                  who is connected is served to the end
--
-- A dialogue is written down as it is spoken: each client has a task of its own, which reads a line, answers
-- it, and reads the next. While it waits, the other tasks continue.

local lunad = require "lunad"
local net = require "lunad.net"

local ADDRESS = os.getenv "MAIL_ADDRESS" or "127.0.0.1:2525"
local FOLDER = os.getenv "MAIL_DIR" or "/tmp/mail"
local MOST_BYTES = 10 * 1024 * 1024 -- of a letter
local MOST_RECIPIENTS = 100

local ok, err, code = require("luv").fs_mkdir(FOLDER, tonumber("700", 8))
assert(ok or code == "EEXIST", err)

-- What is kept by this name is still there after a reload.
local stored = lunad.keep("stored", { count = 0 })

-- Store a letter, as a whole or not at all; returns its name, or nil and why it could not be stored.
local function store(letter)
  stored.count = stored.count + 1
  local name = ("%d-%d-%d-%d"):format(os.time(), lunad.pid, lunad.generation, stored.count)
  local path = FOLDER .. "/" .. name
  local file, why = io.open(path .. ".part", "wb")
  if not file then
    return nil, why
  end
  local written = file:write(letter)
  if not file:close() or not written then
    os.remove(path .. ".part")
    return nil, "it cannot be written"
  end
  os.rename(path .. ".part", path .. ".eml")
  return name
end

-- Read a letter, to the line with a dot alone; nil if the client leaves before that.
local function read_letter(client)
  local lines, size = {}, 0
  while true do
    local line = client.stream:read "line"
    if not line then
      return nil
    elseif line == "." then
      return table.concat(lines, "\n") .. "\n", size
    end
    size = size + #line + 1
    if size <= MOST_BYTES then -- the rest is read and dropped
      lines[#lines + 1] = line:gsub("^%.", "") -- the dot was put there so that this is not the end
    end
  end
end

-- One function for each command. It gets the client and what follows the command's name, and returns the
-- answer; with true, the dialogue is over.
local commands = {}

function commands.HELO(client, name)
  client.name = name
  return "250 hello " .. name
end

function commands.EHLO(client, name)
  client.name = name
  return ("250-hello %s\r\n250 SIZE %d"):format(name, MOST_BYTES)
end

function commands.MAIL(client, words)
  local from = words:match "^[Ff][Rr][Oo][Mm]:%s*<([^<>%c]*)>"
  if not from then
    return "501 MAIL FROM:<address>"
  end
  client.from, client.to = from, {}
  return "250 from whom is known"
end

function commands.RCPT(client, words)
  local to = words:match "^[Tt][Oo]:%s*<([^<>%c]+)>"
  if not to then
    return "501 RCPT TO:<address>"
  elseif not client.from then
    return "503 from whom?"
  elseif #client.to == MOST_RECIPIENTS then
    return "452 too many recipients"
  end
  client.to[#client.to + 1] = to
  return "250 to whom is known"
end

function commands.DATA(client)
  if not client.from or #client.to == 0 then
    return "503 from whom and to whom?"
  end
  client.stream:write "354 end with a line that has only a dot\r\n"
  local letter, size = read_letter(client)
  if not letter then
    return "421 half a letter", true
  elseif size > MOST_BYTES then
    return "552 this letter is too large"
  end
  local head = ("Return-Path: <%s>\nDelivered-To: %s\n"):format(client.from, table.concat(client.to, ", "))
  local name, why = store(head .. letter)
  lunad.log.info(name and "stored" or "not stored", { name = name, bytes = size, error = why })
  client.from, client.to = nil, nil
  return name and "250 stored as " .. name or "451 it cannot be stored now"
end

function commands.RSET(client)
  client.from, client.to = nil, nil
  return "250 forgotten"
end

function commands.NOOP()
  return "250 nothing done"
end

function commands.QUIT()
  return "221 good bye", true
end

-- The whole dialogue with a client. When this returns, its connection is closed.
local function serve(stream)
  local client = { stream = stream }
  stream:write "220 mail\r\n"
  local is_over = false
  while not is_over do
    local line, why = stream:read "line"
    if not line then
      return why and stream:write("421 ", why, "\r\n") -- silent for too long, or a line without an end
    end
    local name, words = line:match "^(%a+) ?(.*)$"
    local command = commands[(name or ""):upper()]
    local answer = "500 there is no such command"
    if command then
      answer, is_over = command(client, words)
    end
    stream:write(answer, "\r\n")
    lunad.status(("%d letters stored"):format(stored.count))
  end
end

assert(net.serve(ADDRESS, serve, { max = 200, idle = 300 }))

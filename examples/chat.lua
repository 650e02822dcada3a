-- A chat whose clients stay connected while its code changes.
--
--   lunad start examples/chat.lua              then, in two terminals: nc 127.0.0.1 7667
--   edit this file, then: lunad reload chat    no client is disconnected, and no line is lost
--   CHAT_ADDRESS=127.0.0.1:9000 lunad run examples/chat.lua
--
-- At a reload the old code hands its connections on, each by a key of its own, and the new code takes them.
-- If that does not start, the old code keeps them, and the clients notice nothing of it either.

local lunad = require "lunad"
local net = require "lunad.net"

local ADDRESS = os.getenv "CHAT_ADDRESS" or "127.0.0.1:7667"
local MOST_UNSENT = 100 -- lines that a client may be behind

local clients, count = {}, 0 -- a set of { stream =, name =, unsent = }, and how many

local function add(client)
  clients[client], count = true, count + 1
  lunad.status(count .. " clients")
end

local function remove(client)
  if clients[client] then
    clients[client], count = nil, count - 1
    lunad.status(count .. " clients")
    client.stream:close()
  end
end

-- Send a line in a task of its own: a client that is slow keeps no other waiting, and one that does not read
-- at all is dropped.
local function tell(client, line)
  if client.unsent == MOST_UNSENT then
    return remove(client)
  end
  client.unsent = client.unsent + 1
  lunad.task(function()
    client.stream:write(line, "\n")
    client.unsent = client.unsent - 1
  end)
end

local function say(line)
  for client in pairs(clients) do
    if client.name then
      tell(client, line)
    end
  end
end

-- Serve a client until it leaves. The first line is its name, unless it has one from before the reload.
local function serve(stream, name)
  local client = { stream = stream, name = name, unsent = 0 }
  add(client)
  for line in function() return (stream:read "line") end do
    if client.name then
      say(client.name .. ": " .. line)
    else
      client.name = line:match "^%g+" or "nobody"
      say("* " .. client.name .. " is here")
    end
  end
  remove(client)
  if client.name then
    say("* " .. client.name .. " has left")
  end
end

assert(net.serve(ADDRESS, function(stream)
  stream:write "Your name?\n"
  serve(stream)
end))

lunad.on_reload(function()
  local names = {}
  for client in pairs(clients) do
    if client.stream:hand_on("client " .. #names + 1) then
      names[#names + 1] = client.name or false
    end
  end
  return names
end)

for i, name in ipairs(lunad.state or {}) do
  local stream = net.taken("client " .. i)
  if stream then
    lunad.task(serve, stream, name or nil)
  end
end

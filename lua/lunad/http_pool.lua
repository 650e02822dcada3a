-- Connections of http.request that are kept for the next request to the same server. They do not keep a
-- script alive, nor a generation that is replaced.

local core = ...

local uv = require "luv"
local streams = core.load "stream.lua"

local IDLE = 15 -- seconds that one is kept
local MOST = 8 -- for one server
local SWEEP = 5 -- seconds between looks for those that are too old

local pool = {}

local lists = {} -- key -> connections, the latest last: { stream, since }
local timer -- runs while there are any
local is_over = false -- this generation ends

-- Take a connection out of its list.
local function remove(list, connection)
  for i, other in ipairs(list) do
    if other == connection then
      table.remove(list, i)
      return
    end
  end
end

-- Close those that have been idle for longer than `seconds`.
local function sweep(seconds)
  local now = core.now()
  for key, list in pairs(lists) do
    while list[1] and now - list[1].since >= seconds do
      table.remove(list, 1).stream:close()
    end
    if not list[1] then
      lists[key] = nil
    end
  end
  if not next(lists) and timer then
    timer:stop()
  end
end

-- Begin to keep connections.
local function start()
  if not timer then
    timer = uv.new_timer()
    timer:unref()
    core.on_stop(function()
      is_over = true
      sweep(0)
    end)
  end
  if not timer:is_active() then
    timer:start(SWEEP * 1000, SWEEP * 1000, function() sweep(IDLE) end)
  end
end

-- Keep a connection of which everything has been read.
function pool.put(key, stream)
  if is_over or stream.closed or stream.ended or stream.buffer ~= "" then
    stream:close()
    return
  end
  local list = lists[key] or {}
  local connection = { stream = stream, since = core.now() }
  lists[key] = list
  if #list >= MOST then
    table.remove(list, 1).stream:close()
  end
  list[#list + 1] = connection
  stream.handle:unref()
  if not stream.fill then -- one of TLS would need a task for that
    streams.on_data(stream, function() -- the server has ended it, or says something that was not asked
      remove(list, connection)
      stream:close()
    end)
  end
  start()
end

-- Take a connection that is still good, or nil.
function pool.take(key)
  local list = lists[key]
  while list and list[1] do
    local stream = table.remove(list).stream
    stream.waiter = nil
    stream.handle:ref()
    if stream.fill and not stream.closed then
      local _, _, code = streams.fill(stream, 0)
      if code == "ETIMEDOUT" then
        return stream
      end
    elseif not stream.closed and not stream.ended and stream.buffer == "" then
      return stream
    end
    stream:close()
  end
end

return pool

-- lunad.channel: values from task to task, in their order, first come, first served.

local core = ...

local new_queue = core.load "queue.lua"

local Channel = { __name = "lunad.channel" }
Channel.__index = Channel

local END = {} -- what a waiting reader is given when the channel is closed

local function check(channel, method)
  if getmetatable(channel) ~= Channel then
    core.raise(("bad argument #1 to '%s' (lunad.channel expected, got %s)"):format(method, type(channel)))
  end
end

local function closed()
  return nil, "EPIPE: broken pipe: the channel is closed", "EPIPE"
end

-- Add a value at the end of the buffer. Without memory for it, nothing has changed.
local function add(channel, value)
  channel.buffer[channel.last + 1] = value
  channel.last = channel.last + 1
end

-- Let the first task that waits to put a value continue: its value is in the buffer before it is told.
local function admit(channel)
  add(channel, channel.writers.next.value)
  channel.writers:answer(true)
end

-- Take the first value: of the buffer, or of a task that waits to put one.
local function take(channel)
  if channel.first > channel.last then
    return channel.writers:answer(true)
  end
  local value = channel.buffer[channel.first]
  if channel.last - channel.first < channel.capacity and not channel.writers:is_empty() then
    admit(channel)
  end
  channel.buffer[channel.first] = nil
  channel.first = channel.first + 1
  return value
end

-- Give a value back that was meant for a reader that was cancelled: it is the next one.
local function give_back(channel, value)
  if value == END then
    return
  elseif not channel.readers:is_empty() then
    channel.readers:answer(value)
  else
    channel.buffer[channel.first - 1] = value
    channel.first = channel.first - 1
  end
end

-- channel:put(value [, timeout]) -> true | nil, error, code
function Channel:put(value, timeout)
  check(self, "put")
  if value == nil then
    core.raise "bad argument #1 to 'put' (a value expected, got nil)"
  end
  core.check_timeout(timeout, 2, "put")
  if self.is_closed then
    return closed()
  elseif not self.readers:is_empty() then
    self.readers:answer(value)
    return true
  elseif self.last - self.first + 1 < self.capacity then
    add(self, value)
    return true
  end
  core.check_task "channel:put"
  local ok, answer, code = self.writers:wait(value, timeout, self.ignore, "nothing was taken")
  if not ok then
    return nil, answer, code
  elseif answer == END then
    return closed()
  end
  return true
end

-- channel:get([timeout]) -> value | nil, error, code
function Channel:get(timeout)
  check(self, "get")
  core.check_timeout(timeout, 1, "get")
  if self.first <= self.last or not self.writers:is_empty() then
    return take(self)
  elseif self.is_closed then
    return closed()
  end
  core.check_task "channel:get"
  local ok, answer, code = self.readers:wait(nil, timeout, self.give_back, "nothing came")
  if not ok then
    return nil, answer, code
  elseif answer == END then
    return closed()
  end
  return answer
end

-- channel:close(): no more values; those that are in it can still be got.
function Channel:close()
  check(self, "close")
  self.is_closed = true
  while not self.readers:is_empty() do
    self.readers:answer(END)
  end
  while not self.writers:is_empty() do
    self.writers:answer(END)
  end
end

local function next_value(channel)
  return (channel:get())
end

-- for value in channel:each() do … end, until it is closed and empty
function Channel:each()
  check(self, "each")
  return next_value, self
end

-- #channel: how many values can be got without waiting for a task
function Channel:__len()
  return self.last - self.first + 1
end

return function(capacity)
  capacity = capacity == nil and 0 or type(capacity) == "number" and math.tointeger(capacity)
  if not capacity or capacity < 0 then
    core.raise "bad argument #1 to 'channel' (a whole number of values expected)"
  end
  local channel = setmetatable({
    capacity = capacity, buffer = {}, first = 1, last = 0, readers = new_queue(), writers = new_queue(),
    is_closed = false, ignore = function() end,
  }, Channel)
  channel.give_back = function(value) give_back(channel, value) end
  return channel
end

-- select of lunad.socket: for any number of descriptors, of its own objects and of everything that has a
-- method getfd.

local core = ...

local waits = core.load "socket_wait.lua"

local Tasks = {}

-- Nothing waits when select returns, or its task is cancelled.
function Tasks.__close(tasks)
  for _, task in pairs(tasks) do
    task:cancel()
  end
end

-- Call a method that an object may have.
local function call(object, name)
  local method = object[name]
  return method and method(object)
end

local function descriptor(object)
  local fd = tonumber(call(object, "getfd"))
  return fd and fd >= 0 and math.tointeger(fd) or nil
end

-- Add the descriptors of a list to those that are waited for; returns the objects that have data already.
local function collect(set, list, mode, n)
  local dirty = {}
  if list == nil then
    return dirty
  elseif type(list) ~= "table" then
    core.raise(("bad argument #%d to 'select' (table expected, got %s)"):format(n, type(list)))
  end
  local i, object = 1, list[1]
  while object ~= nil do
    local fd = descriptor(object)
    if fd and mode == "r" and call(object, "dirty") then
      dirty[#dirty + 1] = object
    elseif fd then
      if not set.modes[fd] then
        set.fds[#set.fds + 1] = fd
      end
      set.modes[fd] = set.modes[fd] == "r" and mode == "w" and "rw" or set.modes[fd] or mode
      set.objects[fd] = object
    end
    i = i + 1
    object = list[i]
  end
  return dirty
end

-- Add the objects that are ready now to two lists; returns how many there are. After a wait, one that was
-- closed counts as ready: whoever reads from it learns that.
local function look(set, readable, writable, has_waited)
  local pairs_of_poll = {}
  for i, fd in ipairs(set.fds) do
    pairs_of_poll[2 * i - 1], pairs_of_poll[2 * i] = fd, set.modes[fd]
  end
  local states, count = core.poll_now(pairs_of_poll)
  for i, fd in ipairs(set.fds) do
    local state, mode, object = states[i], set.modes[fd], set.objects[fd]
    if has_waited and (state == "closed" or descriptor(object) ~= fd) then
      count = count + (state and 0 or 1)
      state = mode
    elseif state == "closed" then
      core.raise "select failed"
    end
    if state and mode ~= "w" and state ~= "w" then
      readable[#readable + 1] = object
    end
    if state and mode ~= "r" and state ~= "r" then
      writable[#writable + 1] = object
    end
  end
  return count
end

-- Wait until one of the descriptors is ready or was closed, or for `seconds`; nil and an error if a
-- descriptor cannot be waited for.
local function wait(set, seconds)
  local fds, modes = set.fds, set.modes
  if #fds == 1 then
    local ready, err, code = core.wait_fd(fds[1], modes[fds[1]], seconds)
    return ready or code == "ETIMEDOUT" or nil, err
  end
  local tasks <close> = setmetatable({}, Tasks)
  return core.await(function(done)
    for i, fd in ipairs(fds) do
      tasks[i] = core.task(function()
        local ready, err = core.wait_fd(fd, modes[fd])
        done(ready, err)
      end)
    end
    if seconds then
      tasks[#fds + 1] = core.task(function()
        core.sleep(seconds)
        done(true)
      end)
    end
  end)
end

-- Make it possible to ask a list whether it has an object.
local function index(list)
  for i = 1, #list do
    list[list[i]] = i
  end
  return list
end

local calls = { streak = 0 }

-- select(readers, writers [, seconds]) -> those that are readable, those that are writable [, "timeout"]
return function(readers, writers, timeout)
  timeout = waits.check_number(timeout, -1, 3, "select")
  waits.give_way(calls)
  local set = { fds = {}, modes = {}, objects = {} }
  local readable, writable = collect(set, readers, "r", 1), {}
  collect(set, writers, "w", 2)
  table.sort(set.fds)
  local since, has_waited = core.now(), false
  while true do
    local dirty = #readable
    if look(set, readable, writable, has_waited) + dirty > 0 then
      return index(readable), index(writable)
    end
    local seconds = timeout >= 0 and math.max(timeout - (core.now() - since), 0) or nil
    if seconds == 0 then
      return readable, writable, "timeout"
    end
    core.check_task "select"
    calls.streak = 0
    local ok, err = wait(set, seconds and math.min(seconds, waits.FOREVER))
    if not ok and look(set, {}, {}, true) == 0 then
      core.raise("select failed: " .. err)
    end
    has_waited = true
  end
end

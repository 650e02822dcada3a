-- lunad.semaphore: at most so many tasks at once, first come, first served.

local core = ...

local new_queue = core.load "queue.lua"

local Semaphore = { __name = "lunad.semaphore" }
Semaphore.__index = Semaphore

local Held = { __name = "lunad.held" }
Held.__index = Held

-- Let the next task continue, or note that one place is free.
local function free_place(semaphore)
  if semaphore.waiting:is_empty() then
    semaphore.free = semaphore.free + 1
  else
    semaphore.waiting:answer(true)
  end
end

-- held:release(); twice does nothing
function Held:release()
  if getmetatable(self) ~= Held then
    core.raise "bad argument #1 to 'release' (lunad.held expected)"
  end
  local semaphore = self.semaphore
  self.semaphore = nil
  if semaphore then
    free_place(semaphore)
  end
end

Held.__close = Held.release

-- semaphore:acquire([timeout]) -> held | nil, error, code
function Semaphore:acquire(timeout)
  if getmetatable(self) ~= Semaphore then
    core.raise "bad argument #1 to 'acquire' (lunad.semaphore expected)"
  end
  core.check_timeout(timeout, 1, "acquire")
  local held = setmetatable({ semaphore = false }, Held) -- before there is a place, which it could lose
  if self.free > 0 then
    self.free = self.free - 1
  else
    core.check_task "semaphore:acquire"
    local ok, err, code = self.waiting:wait(nil, timeout, self.refuse, "no place was free")
    if not ok then
      return nil, err, code
    end
  end
  held.semaphore = self
  return held
end

return function(count)
  count = type(count) == "number" and math.tointeger(count)
  if not count or count < 1 then
    core.raise "bad argument #1 to 'semaphore' (a whole number of at least 1 expected)"
  end
  local semaphore = setmetatable({ free = count, waiting = new_queue() }, Semaphore)
  semaphore.refuse = function() free_place(semaphore) end
  return semaphore
end

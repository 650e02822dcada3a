-- What the child of a slot has left behind at its end: processes that are ended before the next start.

local core = ...

local HEALTHY = 10 -- seconds; a command that puts itself in the background ends sooner
local GONE_AFTER = 2 -- seconds to wait after SIGKILL
local CHECK_EVERY = 0.05 -- seconds between checks whether it has ended

local strays = { CHECK_EVERY = CHECK_EVERY }

-- Check whether the child of a slot left processes behind, and log it under `name`; they are told to end
-- if the child is restarted, and have `kill_after` seconds for it.
function strays.note(slot, exit, name, again, kill_after)
  local count = slot.last and core.strays(slot.last, again and "TERM" or "") or 0
  if count == 0 then
    return
  end
  local what = exit.ok and exit.seconds < HEALTHY and
    "supervised child has put itself in the background: have the command stay in the foreground" or
    "supervised child has left processes behind"
  core.log.warn(again and what .. "; what it left is ended" or what, {
    name = name, pid = slot.last.pid, processes = count,
  })
  if again then
    slot.strays_until = core.now() + kill_after
  end
end

-- Whether processes that the child of a slot left behind still run; they are killed at their deadline.
function strays.are_left(slot)
  if not slot.strays_until then
    return false
  end
  local late = core.now() - slot.strays_until
  if core.strays(slot.last, late >= 0 and "KILL" or "") > 0 and late < GONE_AFTER then
    return true
  end
  slot.strays_until = false
  return false
end

-- Keep checking on what the child of an abandoned slot left behind, until it is gone.
function strays.forget(slot)
  if strays.are_left(slot) and not core.is_over() then
    core.after(CHECK_EVERY, strays.forget, slot)
  end
end

return strays

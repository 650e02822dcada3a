-- The rolling restart of a supervisor: a round over its slots, one after the other. A child is ended when the
-- one before it, started again, is ready. The first that does not become ready ends the round.

local core = ...

local slots = core.load "supervise_slot.lua"

local CHECK_EVERY = 0.05 -- seconds between checks whether the child of the generation before is this one's

-- The calls that wait for a round are the entries of its `callers`.
local Caller = {}

-- A call is over: it was answered, or its task was cancelled.
function Caller.__close(caller)
  local round = caller.round
  if round.callers[caller] then
    round.callers[caller] = nil
    round.count = round.count - 1
  end
end

local function new_round()
  return { index = 0, done = 0, count = 0, callers = {} }
end

-- Why nothing is restarted any more, or nil.
local function why_over(state)
  return state.stopped or slots.is_over(state) and "the script is about to end" or nil
end

local proceed

-- Answer all that wait for the round. The one that was asked for meanwhile begins from the loop, because
-- the slot that has ended this one is not done with its child.
local function finish(state, ok, err)
  local round = state.round
  local is_over = why_over(state)
  state.round, state.next_round = state.next_round, nil
  if not ok and not is_over then
    core.log.warn("the rolling restart has stopped", { error = err, done = round.done, of = state.count })
  end
  for caller in pairs(round.callers) do
    if ok then
      caller.done(true)
    else
      caller.done(nil, err)
    end
  end
  if state.round and is_over then
    finish(state, ok, err)
  elseif state.round then
    core.after(0, proceed, state, state.round)
  end
end

-- Go on with the next slot, unless the round is over.
function proceed(state, round)
  if round ~= state.round then
    return
  elseif why_over(state) then
    return finish(state, nil, why_over(state))
  elseif round.count == 0 then
    return finish(state, nil, "every task that waited for it was cancelled")
  end
  local slot = state.slots[round.index + 1]
  if not slot then
    return finish(state, true)
  elseif slot.child and core.is_claimed(slot.child) then
    core.after(CHECK_EVERY, proceed, state, round)
    return
  end
  round.index = round.index + 1
  slots.roll(state, slot, function(ok, why)
    if ok then
      round.done = round.done + 1
      proceed(state, round)
    elseif round == state.round then
      finish(state, nil, why)
    end
  end)
end

-- Whether the round has not started a child yet, so that it is as good as one that begins now.
local function is_fresh(state, round)
  return round.index == 0 or (round.index == 1 and state.slots[1].state == "rolling")
end

-- Restart all children of a supervisor, one after the other; returns true, or nil and why it has stopped.
return function(state)
  local round = state.round
  if not round then
    round = new_round()
  elseif not is_fresh(state, round) then
    round = state.next_round or new_round()
    state.next_round = round
  end
  local caller <close> = setmetatable({ round = round }, Caller)
  return core.await(function(done)
    caller.done = done
    round.callers[caller] = true
    round.count = round.count + 1
    if not state.round then
      state.round = round
      proceed(state, round)
    end
  end)
end

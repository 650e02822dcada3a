-- The script of a master: it starts the workers, starts those that crash again, and reloads and stops all of
-- them. It is a generation like those of any script. A reload makes a new one, which has the first worker
-- make the new code ready and hold it, then all others; when it is ready itself, its host tells all of them
-- to commit. If one refuses, it fails, and nothing has changed anywhere.
--
-- A slot is where a worker runs. Its state:
--
--   starting   its process runs, and is not ready
--   ready      it serves
--   waiting    it has crashed, and is started again in a while
--   ended      it has finished, or was stopped

local core, lunad = ...

local FIRST_DELAY, MOST_DELAY = 0.1, 30 -- seconds before a worker that crashed is started again
local HEALTHY = 10 -- seconds; a worker that lived longer is not in a restart loop
local DRAIN_LOOK, DRAIN_MOST = 0.02, 5 -- seconds, for the queue of a worker that is to go
local RETIREMENT_MOST = 15 -- seconds that a reload waits for workers which are to go
local LOOK, LOOKS = 0.5, 2 -- seconds between looks whether a worker is stopped, and how many find it so
local STARTS = 5 -- starts in a row that fail, of all workers: then the master gives up
local NO_WORD = "no commit came in time" -- in why a worker has given up what it held

local master = {}
local slots = {}
local last_number = 0
local is_stopping = false

-- Call what waits for something of a slot, once.
local function resolve(slot, kind, ...)
  local done = slot.waits[kind]
  slot.waits[kind] = nil
  if done then
    done(...)
  end
end

-- Suspend until something happens to a slot; returns what resolve is given.
local function wait_for(slot, kind)
  return core.await(function(done)
    slot.waits[kind] = done
    return true
  end)
end

-- How a process ended, as text.
local function describe(exit)
  if exit.error then
    return exit.error
  end
  return exit.signal and "killed by SIG" .. exit.signal or ("exited with status %d"):format(exit.code)
end

local start

-- Start the process of a slot, which has lived some seconds, again when its delay is over.
local function schedule(slot, why, seconds)
  core.note_end(slot.worker, (why:gsub("^was ", "")), seconds)
  local delay = math.min(FIRST_DELAY * 2 ^ slot.failures, MOST_DELAY)
  slot.failures = slot.failures + 1
  slot.state = "waiting"
  core.log.error(("worker %d %s; starting it again in %.1f s"):format(slot.worker, why, delay))
  slot.timer = core.after(delay, function()
    slot.timer = nil
    start(slot)
  end)
end

-- Stop the master when no worker can be started.
local function check_end(slot)
  if is_stopping then
    return
  end
  local is_up = false
  for _, other in pairs(slots) do
    is_up = is_up or other.state == "ready" or other.state == "starting"
  end
  if not is_up and slot.failures >= STARTS then
    core.log.error(("giving up: worker %d has failed %d times in a row, and no other one serves"):format(
      slot.worker, slot.failures))
    lunad.stop(1)
  end
end

-- Handle the end of the process of a slot.
local function on_exit(slot, exit)
  local before, why = slot.state, slot.why
  core.disconnect_worker(slot.worker)
  slot.child, slot.why = nil, nil
  if exit.seconds >= HEALTHY then
    slot.failures = 0
  end
  local how = why and "failed to start: " .. why:match("^[^\n]*") or "was " .. describe(exit)
  how = how:gsub("^was exited", "exited")
  local is_restarted = slot.is_told_to_restart and not is_stopping
  if is_stopping or is_restarted then
    slot.state = "ended"
  elseif slot.is_told_to_stop or (exit.ok and (before == "ready" or slot.has_finished)) then
    slot.state = "ended"
    core.forget_worker(slot.worker)
    if slot.is_told_to_stop then
      core.log.info(("worker %d was stopped"):format(slot.worker))
    elseif lunad.mode == "daemon" then -- else nothing is said of a script that simply finishes
      core.log.info(("worker %d has finished"):format(slot.worker))
    end
  elseif lunad.generation > 1 or master.is_ready then
    if core.is_service() then
      core.note_unproved(("worker %d %s"):format(slot.worker, how))
    end
    schedule(slot, how, exit.seconds)
  else
    slot.state = "ended"
  end
  slot.is_told_to_stop = false
  resolve(slot, "ready", exit.ok and slot.has_finished, why or "it " .. how)
  resolve(slot, "answer", false, "it " .. how)
  resolve(slot, "end")
  if is_restarted then
    slot.failures, slot.is_told_to_restart = 0, false
    core.log.info(("worker %d is restarted"):format(slot.worker))
    start(slot)
    return
  end
  check_end(slot)
end

-- The command of a worker.
local function command_of(worker)
  local command = core.worker_words()
  command.name = ("%s-%d"):format(lunad.name, worker)
  table.insert(command, 3, "--name=" .. command.name)
  command.keep = true
  command.kill_after = core.TEN_YEARS -- it has its own limit
  command.stdout, command.stderr = "inherit", "inherit"
  return command
end

-- Start the process of a slot, or take over the one that runs; returns whether that was done, and why not.
function start(slot)
  local command = command_of(slot.worker)
  command.on_exit = function(exit)
    on_exit(slot, exit)
  end
  local fd, err
  if not core.is_connected(slot.worker) then
    fd, err = core.connect_worker(slot.worker)
    command.fds = { [3] = fd }
  end
  local child
  command.stdin = core.script_text()
  if fd or core.is_connected(slot.worker) then
    child, err = core.spawn(command)
  end
  if fd then
    core.close_end(fd)
  end
  if command.stdin then
    core.close_end(command.stdin)
  end
  if not child then
    if fd then
      core.disconnect_worker(slot.worker)
    end
    slot.why = err
    on_exit(slot, { ok = false, error = err, seconds = 0 })
    return false, err
  end
  slot.child, slot.has_finished = child, false
  slot.state = child.adopted and core.is_serving(slot.worker) and "ready" or "starting"
  return true
end

-- Start a slot whose process, of the generation before, may still be ending.
local function start_again(slot)
  while core.is_connected(slot.worker) and not is_stopping do
    core.sleep(0.02)
  end
  if slot.state == "ended" and not is_stopping then
    start(slot)
  end
end

-- Tell a process to stop; by a signal, if it does not read what it is told.
local function stop(slot)
  if not core.tell_worker(slot.worker, "stop") then
    slot.child:kill("TERM")
  end
end

-- Restart a worker, as a person asks: stop its process, if there is one, and start the next.
local function restart(slot)
  if slot.child then
    slot.is_told_to_restart = true
    stop(slot)
    return
  end
  if slot.timer then
    slot.timer:stop()
    slot.timer, slot.state = nil, "ended"
  end
  start_again(slot)
end

-- Handle a worker that has not committed what it held, and runs the code before. If the new code is on
-- probation, all go back to that; else the worker follows, when its clients are served.
local function handle_uncommitted(slot, why)
  if not core.is_service() then
    return
  end
  local is_undone = core.is_on_probation()
  core.log.error(("worker %d has not committed the reload%s: %s"):format(slot.worker,
    is_undone and "" or ", and is restarted", why))
  if is_undone then
    core.note_unproved(("worker %d: %s"):format(slot.worker, why))
  else
    restart(slot)
  end
end

-- Find the first slot whose worker has yet to answer.
local function find_silent()
  for worker = 1, core.MOST_WORKERS do
    local slot = slots[worker]
    if slot and slot.waits.answer then
      return slot
    end
  end
end

-- Handle a worker that has dropped what it had made ready: the reload fails, or, if it is
-- committed, the worker has not taken part in that. What no word came for in time has waited for another one.
local function give_up_prepared(slot, why)
  slot.is_prepared = false
  local silent = why:find(NO_WORD, 1, true) and find_silent()
  if silent then
    resolve(silent, "answer", false, "it has not answered in time")
    return
  end
  if core.is_service() then
    handle_uncommitted(slot, why)
  else
    core.fail(("worker %d: %s"):format(slot.worker, why))
  end
end

-- Handle what a worker says.
local function on_worker(worker, word, text, number)
  local slot = slots[worker]
  if not slot or (not slot.child and word ~= "start" and word ~= "restart") then
    return -- the process may be one that the generation before has started
  end
  if word == "ready" then
    slot.state = "ready"
    resolve(slot, "ready", true)
  elseif word == "finished" then
    slot.has_finished = true
  elseif word == "failed" then
    slot.why = text
  elseif word == "stopping" then
    slot.is_told_to_stop = true
  elseif word == "prepared" and number == slot.number then
    slot.is_prepared = true
    resolve(slot, "answer", true)
  elseif word == "refused" and number == slot.number and slot.is_prepared then
    give_up_prepared(slot, text)
  elseif word == "refused" and number == slot.number then
    resolve(slot, "answer", false, text)
  elseif word == "reload-busy" then
    resolve(slot, "answer", false, text)
  elseif word == "start" and slot.state == "ended" then
    start(slot)
  elseif word == "restart" then
    restart(slot)
  elseif word == "uncommitted" then
    handle_uncommitted(slot, text)
  elseif word == "gone" and slot.is_prepared and not core.is_service() then
    give_up_prepared(slot, "it has ended")
  elseif word == "kill" then
    slot.child:kill("KILL")
  elseif word == "gone" and slot.state == "ready" then
    resolve(slot, "answer", false, "it has ended")
  end
end

-- Call a function for each of some slots at once; returns nil, or the first slot that failed and why.
local function for_all(list, fn)
  local tasks = {}
  for i, slot in ipairs(list) do
    tasks[i] = core.task(fn, slot)
  end
  local failed, reason
  for i, slot in ipairs(list) do
    local ok, why = tasks[i]:wait()
    if not ok and not failed then
      failed, reason = slot, why
    end
  end
  return failed, reason
end

-- Start a worker and wait until it is ready.
local function start_and_wait(slot)
  local ok, why = start(slot)
  if ok and slot.state ~= "ready" then
    ok, why = wait_for(slot, "ready")
  end
  return ok, why
end

-- Check now and then whether a worker is stopped by a signal: it gives no answer.
local function look(slot, looks)
  slot.looker = core.after(LOOK, function()
    looks = slot.child and core.is_stopped(slot.child.pid) and looks + 1 or 0
    look(slot, looks)
    if looks == LOOKS then
      resolve(slot, "answer", false, ('it is stopped by a signal ("lunad signal %s-%d CONT" lets it go on)')
        :format(lunad.name, slot.worker))
    end
  end)
end

-- Wait for the answer of a worker that was told to make the next generation ready. Without one, the order
-- waits for the worker, and that it was given up as well.
local function await_answer(slot)
  look(slot, 0)
  local ok, why = wait_for(slot, "answer")
  slot.looker:stop()
  return ok, why
end

-- Have a worker make the next generation ready, and hold it. One that cannot start with the old code is
-- started with the new.
local function prepare(slot)
  if slot.state == "starting" and not wait_for(slot, "ready") then
    return true
  end
  last_number = last_number + 1
  slot.number = lunad.generation * 100000 + last_number
  local sent, why = core.prepare_worker(slot.worker, slot.number)
  if not sent then
    return false, why
  end
  return await_answer(slot)
end

-- Let some slots do something, the first one alone; returns nil, or the first slot that failed and why.
local function first_then_all(list, fn)
  local failed, why = for_all({ list[1] }, fn)
  if not failed then
    failed, why = for_all({ table.unpack(list, 2) }, fn)
  end
  return failed, why
end

-- Tell all processes to stop, and wait until they have ended.
local function stop_all()
  is_stopping = true
  local running = {}
  for _, slot in pairs(slots) do
    if slot.timer then
      slot.timer:stop()
    end
    if slot.child then
      running[#running + 1] = slot
      stop(slot)
    end
  end
  for _, slot in ipairs(running) do
    if slot.child then
      wait_for(slot, "end")
    end
  end
end

-- Make an empty slot.
local function add_slot(worker)
  local slot = { worker = worker, state = "ended", failures = 0, waits = {}, is_told_to_stop = false }
  slots[worker] = slot
  return slot
end

-- Start all workers, for the first time.
local function begin()
  local list = {}
  for worker = 1, master.count do
    list[worker] = add_slot(worker)
  end
  local failed, why = first_then_all(list, start_and_wait)
  if failed then
    stop_all()
  end
  return failed, why
end

-- Drain the queue of a worker that is to go, and stop it.
local function retire(slot)
  local deadline = core.now() + DRAIN_MOST
  local empty = 0
  while slot.child and empty < 3 and core.now() < deadline do -- a connection may be about to be made
    empty = core.count_waiting(slot.worker) == 0 and empty + 1 or 0
    core.sleep(DRAIN_LOOK)
  end
  slot.is_told_to_stop = true
  if slot.child then
    stop(slot)
    wait_for(slot, "end")
  end
end

-- End the workers that are too many now, after they have stopped accepting clients.
local function retire_all(surplus)
  if #surplus > 0 then
    core.limit_workers(master.count)
    for_all(surplus, function(slot)
      retire(slot)
      return true
    end)
    core.limit_workers(0)
    core.note_retirement(false)
  end
end

-- Wait until the workers that the generation before has stopped are gone: they serve clients until then. What
-- goes back to the code before does not wait.
local function await_retirement()
  local deadline = core.now() + RETIREMENT_MOST
  while core.is_retiring() and not core.is_rollback() do
    core.sleep(DRAIN_LOOK)
    if core.now() > deadline then
      core.note_retirement(false)
    end
  end
end

-- Take over the workers that run, have them make the next generation ready, and start those that there were
-- not before. Returns the slot that failed and why, or nil; those to be started, those to be stopped, and
-- the workers that have no process and are not to have one.
local function continue()
  await_retirement()
  local up, new, down, surplus, gone = {}, {}, {}, {}, {}
  for worker = 1, core.MOST_WORKERS do
    local is_meant = worker <= master.count
    local is_up = core.is_connected(worker)
    local slot = (is_meant or is_up) and add_slot(worker)
    if is_up then
      start(slot)
      table.insert(is_meant and up or surplus, slot)
    elseif is_meant then
      table.insert(worker > core.workers_now and new or down, slot)
    elseif worker <= core.workers_now then
      table.insert(gone, worker)
    end
  end
  local failed, why
  if core.takes_over then -- what they are made of is in force
    core.log.debug("the workers go on")
  elseif core.is_rollback() then -- each goes back by itself
    core.log.debug("the workers go back to the code before")
  elseif #up > 0 then
    failed, why = first_then_all(up, prepare)
  else
    core.start_from_disk()
    new, down = down, {}
  end
  if not failed then
    failed, why = for_all(new, start_and_wait)
  end
  return failed, why, down, surplus, gone
end

-- Run the master.
function master.run()
  master.count = lunad.workers
  core.on_worker(on_worker)
  core.on_stop(function(reason)
    if reason ~= "reload" then
      stop_all()
    end
  end)
  local failed, why, down, surplus, gone
  if lunad.generation == 1 then
    failed, why = begin()
  else
    failed, why, down, surplus, gone = continue()
  end
  if failed then
    core.fail(("worker %d: %s"):format(failed.worker, why))
    return
  end
  master.is_ready = true
  if surplus and #surplus > 0 then
    core.note_retirement(true)
  end
  lunad.ready()
  if down then
    while not core.is_service() do -- what follows is made from what is in force then
      core.sleep(0.005)
    end
    for _, worker in ipairs(gone) do
      core.forget_worker(worker)
    end
    for _, slot in ipairs(down) do
      start_again(slot)
    end
    retire_all(surplus)
  end
end

return master

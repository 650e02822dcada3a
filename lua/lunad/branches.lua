-- lunad.timeout, lunad.all and lunad.any: functions that run in tasks of their own, which end with the call.

local core = ...

local place = core.place

-- Call a function of the script: true and its results, or false, its error and a traceback.
local function call(fn, ...)
  local trace
  local function explain(err)
    trace = debug.traceback("", 2):gsub("^\n", "")
    local cause = core.cause(err, trace)
    trace = cause and trace .. "\n" .. cause or trace
    return err
  end
  local function finish(ok, ...)
    if ok then
      return true, ...
    end
    return false, (...), trace
  end
  return finish(xpcall(fn, explain, ...))
end

local Branches = {}

-- Cancel what still runs.
function Branches.__close(tasks)
  for _, task in pairs(tasks) do
    task:cancel()
  end
end

local function check_function(fn, argument, name)
  if not core.is_callable(fn) then
    core.raise(("bad argument #%s to '%s' (function expected, got %s)"):format(argument, name, type(fn)))
  end
end

-- Return the results of a function in a task, or raise its error, whose traceback is not lost.
local function pass_on(task, fn, ok, ...)
  if ok == nil and task:running() then
    return core.timed_out "the function has not returned"
  elseif not ok then
    local err, trace = ...
    if type(err) == "string" and trace then
      core.note_cause(err, ("branch (%s)\n%s"):format(place(fn), trace))
    end
    error(err, 0)
  end
  return ...
end

-- timeout(seconds, fn, ...) -> results | nil, error, code
local function timeout(seconds, fn, ...)
  if seconds == nil then
    core.raise "bad argument #1 to 'timeout' (number expected, got nil)"
  end
  core.check_timeout(seconds, 1, "timeout")
  check_function(fn, "2", "timeout")
  core.check_task "timeout"
  local tasks <close> = setmetatable({}, Branches)
  tasks[1] = core.task(call, fn, ...)
  return pass_on(tasks[1], fn, tasks[1]:wait(seconds))
end

-- Check the list of functions that `all` and `any` take; returns a copy, which stays as it is.
local function check_list(list, name)
  if type(list) ~= "table" then
    core.raise(("bad argument #1 to '%s' (table expected, got %s)"):format(name, type(list)))
  end
  local copy = table.move(list, 1, #list, 1, {})
  for i = 1, #copy do
    check_function(copy[i], "1[" .. i .. "]", name)
  end
  core.check_task(name)
  return copy
end

-- Run every function in a task, and wait until `handle(index, ok, ...)` returns true for one that ended.
local function run(list, handle)
  local tasks <close> = setmetatable({}, Branches)
  core.await(function(done)
    local is_over = false
    local function finish(i, ...)
      if not is_over and handle(i, ...) then
        is_over = true
        done()
      end
    end
    for i = 1, #list do
      tasks[i] = core.task(function()
        local is_told = false
        -- No pcall sees an interruption of a stuck branch, and there may be no memory for the results.
        local _ <close> = setmetatable({}, { __close = function(_, err)
          if not is_told then
            core.after(0, finish, i, false, err or "the branch was interrupted")
          end
        end })
        finish(i, call(list[i]))
        is_told = true
      end)
      if is_over then
        break
      end
    end
  end)
end

-- The traceback of a branch that failed, with its name.
local function name_branch(list, i, trace)
  return ("branch %d (%s)\n%s"):format(i, place(list[i]), trace or "")
end

-- all{fn, …} -> results | nil, error, traceback
local function all(list)
  list = check_list(list, "all")
  local results, left, failure = { n = #list }, #list, nil
  if left == 0 then
    return results
  end
  run(list, function(i, ok, value, trace)
    if not ok then
      failure = { value, name_branch(list, i, trace) }
      return true
    end
    results[i], left = value, left - 1
    return left == 0
  end)
  if failure then
    return nil, failure[1], failure[2]
  end
  return results
end

-- any{fn, …} -> index, results | nil, error, traceback
local function any(list)
  list = check_list(list, "any")
  local first, failure, traces = nil, nil, {}
  if #list == 0 then
    return nil, "no function was given"
  end
  run(list, function(i, ok, ...)
    if ok then
      first = table.pack(i, ...)
      return true
    end
    local err, trace = ...
    if #traces == 0 then
      failure = err
    end
    traces[#traces + 1] = name_branch(list, i, trace)
    return #traces == #list
  end)
  if first then
    return table.unpack(first, 1, first.n)
  end
  return nil, failure, table.concat(traces, "\n")
end

return { timeout = timeout, all = all, any = any }

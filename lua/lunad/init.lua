-- Completes the module with what is written in Lua. Called with its table, and with the table that
-- lunad's own Lua shares with C: functions that scripts do not see.

local lunad, core = ...

core.TEN_YEARS = 3650 * 86400

-- Scripts may replace these in the module; lunad's own Lua keeps calling the originals.
core.now, core.spawn, core.log = lunad.now, lunad.spawn, lunad.log
core.task, core.await, core.sleep = lunad.task, lunad.await, lunad.sleep
core.wait_fd, core.listen, core.on_stop = lunad.wait_fd, lunad.listen, lunad.on_stop
core.keep = lunad.keep

local loaded = {}

-- What a file returns. Few scripts need all: each file is run when it is first needed.
function core.load(name)
  loaded[name] = loaded[name] or core.run(name, core)
  return loaded[name]
end

-- Whether a value can be called.
function core.is_callable(value)
  local meta = debug.getmetatable(value) -- not hidden by __metatable
  return type(value) == "function" or (type(meta) == "table" and meta.__call ~= nil)
end

-- "file:line" of a function.
function core.place(fn)
  local info = type(fn) == "function" and debug.getinfo(fn, "S")
  return info and info.short_src .. ":" .. info.linedefined or "?"
end

-- Check argument `n` of a function, a time in seconds or nil.
function core.check_timeout(seconds, n, name)
  if seconds ~= nil and not (type(seconds) == "number" and seconds >= 0 and seconds <= core.TEN_YEARS) then
    core.raise(("bad argument #%d to '%s' (seconds from 0 to ten years expected)"):format(n, name))
  end
end

-- Raise for a key that is an option neither of `own` nor of lunad.spawn, which raises for others, but is like
-- one of `own`.
function core.check_likely(key, own, name)
  if type(key) == "string" and not core.is_spawn_option(key) then
    local hint = core.suggest(key, own)
    if hint ~= "" then
      core.raise(("%s: unknown option '%s'%s"):format(name, key, hint))
    end
  end
end

-- What a function returns when its time is up.
function core.timed_out(detail)
  return nil, "ETIMEDOUT: connection timed out: " .. detail, "ETIMEDOUT"
end

-- The function that another file returns, or has under `key` in the table that it returns.
local function from_file(name, key)
  return function(...)
    local file = core.load(name)
    return (key and file[key] or file)(...)
  end
end

lunad.by_line = from_file("by_line.lua")
lunad.exec = from_file("exec.lua")
lunad.supervise = from_file("supervise.lua")
lunad.timeout = from_file("branches.lua", "timeout")
lunad.all = from_file("branches.lua", "all")
lunad.any = from_file("branches.lua", "any")
lunad.channel = from_file("channel.lua")
lunad.semaphore = from_file("semaphore.lua")
lunad.metrics = {
  counter = from_file("metrics.lua", "counter"),
  gauge = from_file("metrics.lua", "gauge"),
  histogram = from_file("metrics.lua", "histogram"),
}

-- Modules that a script requires.
for _, name in ipairs { "net", "http", "socket", "test", "exporter" } do
  package.preload["lunad." .. name] = function()
    return core.run(name .. ".lua", core, lunad)
  end
end

-- The script of a master.
if core.is_master then
  package.preload["lunad.workers"] = function()
    return core.run("workers.lua", core, lunad)
  end
end

-- Where specs run, and in the services that they run.
if core.spec then
  core.run("test_inside.lua", core, lunad)
end

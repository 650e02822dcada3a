-- What `lunad test` runs: busted, in a task, with the words for it as arguments.

local core = ...
local lunad = require "lunad"

local leave = os.exit
local services = core.load "test_service.lua"

-- Errors of callbacks of the specs themselves that nothing has caught.
local uncaught = {}

lunad.on_error(function(_, traceback)
  uncaught[#uncaught + 1] = traceback
end)

-- Fail the spec that runs if something has failed that it has not seen.
local function check_spec()
  local messages = services.take_errors()
  for i, message in ipairs(uncaught) do
    messages[#messages + 1] = "uncaught error in a callback of the spec: " .. message
    uncaught[i] = nil
  end
  if messages[1] then
    error(table.concat(messages, "\n"), 0)
  end
end

-- End what a spec has made; run after its own after_each.
local function finish_spec()
  check_spec()
  core.scope.finish(nil)
end

-- Have busted call these, in each round of --repeat.
local function hook(busted)
  local safe = busted.safe
  core.scope.use(busted)
  function busted.safe(descriptor, run, element)
    if descriptor == "it" then
      local body = run
      run = function()
        body()
        check_spec()
      end
    end
    return safe(descriptor, run, element)
  end
  busted.subscribe({ "suite", "start" }, function()
    local root = busted.context.get()
    for i = #(root.after_each or {}), 1, -1 do
      if root.after_each[i].run == finish_spec then
        table.remove(root.after_each, i)
      end
    end
    busted.executors.after_each(finish_spec)
    return nil, true
  end)
  local function finish(element)
    core.scope.finish(element)
    return nil, true
  end
  busted.subscribe({ "describe", "end" }, finish)
  busted.subscribe({ "file", "end" }, finish)
end

local has_begun = false

-- End the run; `code` is busted's.
local function finish_run(code)
  pcall(core.scope.finish, nil)
  core.remove_test_dir()
  for _, traceback in ipairs(uncaught) do
    io.stderr:write("lunad: test: uncaught error after the specs: ", traceback, "\n")
    code = 1
  end
  io.stdout:flush()
  leave(code == 0 and 0 or has_begun and 1 or 2)
end

-- Put ours in the place of parts of busted.
local function prepare()
  local new_core = require "busted.core"
  package.loaded["busted.core"] = function(...)
    local busted = new_core(...)
    busted.subscribe({ "suite", "start" }, function()
      has_begun = true
      return nil, true
    end)
    hook(busted)
    return busted
  end
  require "busted.compatibility".exit = finish_run
end

-- A spec that calls this has failed.
function os.exit(status)
  error(("os.exit(%s) was called by a spec"):format(status == nil and "" or tostring(status)), 2)
end

return function(...)
  lunad.sleep(0) -- it is ready: from here on it may take any time
  local found, err = pcall(require, "busted.compatibility")
  if not found then
    local text = tostring(err)
    io.stderr:write(text:find("module 'busted.compatibility' not found", 1, true) and
      "lunad: test: busted is not installed: apt-get install lua-busted, " ..
      "or luarocks --lua-version 5.4 install busted\n" or "lunad: test: " .. text .. "\n")
    leave(1)
  end
  lunad.on_stop(function()
    io.stdout:flush()
    io.stderr:write "lunad: test: interrupted\n"
    services.kill_all()
    core.remove_test_dir()
    leave(1)
  end)
  prepare()
  arg = { [0] = "lunad test", "--ignore-lua", ... }
  require "busted.runner" { standalone = false }
  finish_run(0)
end

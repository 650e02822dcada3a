-- The contents of the module, from the binary itself, and the options, from the sources.

local support = require "support"

local api = {}

-- Runs inside lunad: prints "lunad.NAME TYPE", and "CLASS:METHOD" for the methods of each handle.
local LIST = [[
  local function methods(class, object)
    local meta = debug.getmetatable(object)
    local index = meta.__index
    if type(index) == "function" then
      _, index = debug.getupvalue(index, 1)
    end
    for name, value in pairs(index) do
      if type(value) == "function" and name:sub(1, 2) ~= "__" then print(class .. ":" .. name) end
    end
  end
  for name, value in pairs(lunad) do
    print("lunad." .. name, type(value))
    if type(value) == "table" then
      for inner, value in pairs(value) do print("lunad." .. name .. "." .. inner, type(value)) end
    end
  end
  methods("timer", lunad.after(0, print))
  methods("task", lunad.task(print))
  methods("handle", lunad.signal("USR1", print))
  methods("child", assert(lunad.spawn { "true" }))
  methods("channel", lunad.channel())
  methods("semaphore", lunad.semaphore(1))
  methods("held", lunad.semaphore(1):acquire())
  methods("counter", lunad.metrics.counter("a", ""))
  methods("gauge", lunad.metrics.gauge("b", ""))
  methods("histogram", lunad.metrics.histogram("c", ""))
  methods("supervisor", assert(lunad.supervise { "true", restart = "never" }))
  lunad.stop()
]]

-- All of it: { functions, fields, methods }, each a list of full names.
function api.list(box)
  local found = { functions = {}, fields = {}, methods = {} }
  for line in box:inside(LIST).out:gmatch("[^\n]+") do
    local name, kind = line:match("^(lunad%.%S+)\t(%a+)$")
    local list = not name and line:find(":", 1, true) and found.methods
      or kind == "function" and found.functions or name and found.fields
    if list then
      list[#list + 1] = name or line
    end
  end
  return found
end

-- The keys that match in a file of lunad's own Lua.
local function keys_in(path, pattern, block)
  local text = assert(support.read(path), path)
  text = block and assert(text:match(block), path) or text
  local keys = {}
  for key in text:gmatch(pattern) do
    keys[#keys + 1] = key
  end
  assert(#keys > 0, path)
  return keys
end

-- The option keys by the function that takes them, without those that it passes on to spawn.
function api.options()
  local own = "([%w_]+) = true"
  local options = {
    spawn = {}, listen = {},
    exec = keys_in("lua/lunad/exec.lua", own, "own_options = (%b{})"),
    supervise = keys_in("lua/lunad/supervise_options.lua", own, "own_options = (%b{})"),
  }
  -- The C test of the rows prints the names of those that are in C.
  local build = support.binary:match("^(.*)/")
  local pipe = assert(io.popen(("'%s/spec/c/test_spawn_options' names"):format(build)))
  for line in pipe:lines() do
    local name, key = line:match("^(%l+) ([%l_]+)$")
    table.insert(options[name], key)
  end
  assert(pipe:close() and #options.spawn > 0 and #options.listen > 0)
  return options
end

return api

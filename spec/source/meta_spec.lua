-- lua/meta/lunad.lua, which editors read and which is never run, describes the module as it is.

local api = require "support.api"
local support = require "support"

local META = assert(support.read("lua/meta/lunad.lua"))

local function set(list)
  local result = {}
  for _, item in ipairs(list) do
    result[item] = true
  end
  return result
end

-- The items of one list that another one lacks.
local function missing(list, other)
  local known, found = set(other), {}
  for _, item in ipairs(list) do
    if not known[item] then
      found[#found + 1] = item
    end
  end
  table.sort(found)
  return table.concat(found, " ")
end

-- What the annotations declare: the names of functions with "." or ":".
local function declared(separator)
  local found = {}
  for name in META:gmatch("\nfunction ([%w_.:]+)%(") do
    if (name:find(":", 1, true) and ":" or ".") == separator then
      found[#found + 1] = name
    end
  end
  return found
end

-- The names of the fields of an annotated class.
local function fields_of(class)
  local block = assert(META:match("%-%-%-@class " .. class:gsub("%p", "%%%0") .. "[^\n]*\n(.-)\n[^-]"), class)
  local found = {}
  for name in ("\n" .. block):gmatch("\n%-%-%-@field ([%w_]+)") do
    found[#found + 1] = name
  end
  return found
end

describe("the annotations", function()
  local box = support.with_box(before_each, after_each)

  it("are Lua, and only for editors", function()
    assert.truthy(load(META))
    assert.equal("---@meta", META:sub(1, 8))
  end)

  it("have every function of the module, and no other", function()
    local functions = api.list(box).functions
    assert.equal("", missing(functions, declared "."))
    assert.equal("", missing(declared ".", functions))
  end)

  it("have every method of every handle, and no other", function()
    local methods = api.list(box).methods
    assert.equal("", missing(methods, declared ":"))
    assert.equal("", missing(declared ":", methods))
  end)

  it("have every field of the module, and no other", function()
    local fields = {}
    for _, name in ipairs(api.list(box).fields) do
      fields[#fields + 1] = name:match("^lunad%.(.*)$")
    end
    assert.equal("", missing(fields, fields_of "lunad"))
    assert.equal("state", missing(fields_of "lunad", fields)) -- which is nil at the start
  end)

  it("have the fields of a child and of how it ended", function()
    box:inside(([[
      local child = assert(lunad.spawn { "false" })
      for name in ("%s"):gmatch("%%S+") do truthy(child[name] ~= nil, name) end
      local known, exit = {}, lunad.exec { "false" }
      for name in ("%s"):gmatch("%%S+") do known[name] = true end
      for name in pairs(exit) do truthy(known[name], name) end
    ]]):format(table.concat(fields_of "lunad.child", " "),
      table.concat(fields_of "lunad.exit", " ") .. " " .. table.concat(fields_of "lunad.result", " ")))
  end)

  it("describe every parameter", function()
    for comment, name, parameters in META:gmatch("\n\n(%-%-%-[^\n].-)\nfunction ([%w_.:]+)(%b())") do
      for parameter in parameters:gmatch("[%w_.]+") do
        local annotation = "%-%-%-@param " .. parameter:gsub("%.", "%%.") .. "%??%s"
        assert.truthy(comment:find(annotation), name .. ": " .. parameter)
      end
    end
  end)

  for name, keys in pairs(api.options()) do
    local annotated = fields_of("lunad." .. name .. "_options")

    it("have every option of lunad." .. name .. ", and no other", function()
      local inherited = name ~= "spawn" and name ~= "listen" and fields_of "lunad.spawn_options" or {}
      local all = table.move(inherited, 1, #inherited, #annotated + 1, { table.unpack(annotated) })
      assert.equal("", missing(keys, all))
      assert.equal("", missing(annotated, keys))
    end)

    it("have no option that lunad." .. name .. " calls unknown", function()
      box:inside(([[
        local wrong = coroutine.create(print) -- a value that no option takes
        local function try(key)
          local options = { "true", [key] = wrong }
          local ok, message = pcall(function()
            if %q == "listen" then
              return lunad.listen("127.0.0.1:0", { [key] = wrong })
            end
            return lunad[%q](options)
          end)
          truthy(not ok, key)
          return message
        end
        truthy(try("no_such_option"):find("unknown option 'no_such_option'", 1, true))
        for key in ("%s"):gmatch("%%S+") do
          truthy(not try(key):find("unknown option", 1, true), key)
        end
      ]]):format(name, name, table.concat(annotated, " ")))
    end)
  end
end)

-- The options of lunad.http, in the document and the annotations.

local support = require "support"

-- The keys of the table OPTIONS of a file.
local function keys_of(path)
  local keys = {}
  for key in assert(support.read(path):match "\nlocal OPTIONS = (%b{})"):gmatch "([%l_]+) =" do
    keys[#keys + 1] = key
  end
  assert.is_true(#keys > 5)
  return keys
end

describe("the options of lunad.http", function()
  local document = support.read "doc/http.md"
  local meta = support.read "lua/meta/http.lua"

  for name, file in pairs { serve = "http_server.lua", request = "http_client.lua" } do
    it("are in the document and the annotations: " .. name, function()
      local section = document:match("\n## http." .. name .. "(.-)\n## ")
      local class = meta:match("@class lunad.http_" .. name .. "_options\n(.-)\n\n")
      local annotated = select(2, class:gsub("@field", ""))
      local keys = keys_of("lua/lunad/" .. file)
      for _, key in ipairs(keys) do
        local row = section:find("\n| `" .. key .. "`[ ,]") or section:find("\n| [^|]*, `" .. key .. "`[ ,]")
        assert.truthy(row, key)
        assert.truthy(class:find("@field " .. key .. "%??%s"), key)
      end
      assert.equal(#keys, annotated)
    end)
  end

  it("are documented with methods and functions that exist", function()
    local box = support.box()
    local listed = box:lunad("run", "-e", [[
      local http = require "lunad.http"
      for name in pairs(http) do print("http." .. name .. "(") end
      local server = assert(http.serve("127.0.0.1:0", print))
      for name, value in pairs(getmetatable(server).__index) do
        if type(value) == "function" then print("server:" .. name .. "(") end
      end
      server:close()
    ]])
    box:close()
    assert.equal(0, listed.code, listed.err)
    local count = 0
    for name in listed.out:gmatch "[^\n]+" do
      assert.truthy(document:find(name, 1, true), name)
      assert.truthy(meta:find("function " .. name, 1, true), name)
      count = count + 1
    end
    assert.equal(7, count)
  end)
end)

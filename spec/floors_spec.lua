-- The house stands on its floors: an include points down, or to a neighbour that src/FLOORS names.

local support = require "support"

local function read_floors()
  local floors = {}
  for line in io.lines(support.root .. "/src/FLOORS") do
    local floor, file, rest = line:match("^(%d)%s+([%w_]+)%s*(.*)$")
    if floor then
      local neighbours = {}
      for name in rest:gmatch("[%w_]+") do
        neighbours[name] = true
      end
      floors[file] = { floor = tonumber(floor), neighbours = neighbours }
    end
  end
  return floors
end

-- Headers without a source of their own belong to the lowest file that names them.
local function add_headers(floors)
  local lowest = {}
  for _, entry in pairs(floors) do
    for name in pairs(entry.neighbours) do
      if not floors[name] then
        lowest[name] = math.min(lowest[name] or 9, entry.floor)
      end
    end
  end
  for name, floor in pairs(lowest) do
    floors[name] = { floor = floor, neighbours = {}, header = true }
  end
end

local free = { base = true, version = true, embedded = true }

local function includes(path)
  local names = {}
  for line in io.lines(path) do
    names[#names + 1] = line:match('^#include "([%w_]+)%.h"')
  end
  return names
end

describe("src", function()
  local floors = read_floors()
  add_headers(floors)

  it("names every source in FLOORS", function()
    local scan = support.uv.fs_scandir(support.root .. "/src")
    local name = support.uv.fs_scandir_next(scan)
    while name do
      local base = name:match("^(.*)%.[ch]$")
      assert.truthy(base == nil or floors[base] or free[base], name .. " is missing in FLOORS")
      name = support.uv.fs_scandir_next(scan)
    end
  end)

  it("includes nothing from above, and no neighbour that is not drawn", function()
    for file, entry in pairs(floors) do
      for _, ending in ipairs { ".c", ".h" } do
        local path = support.root .. "/src/" .. file .. ending
        for _, name in ipairs(support.read(path) and includes(path) or {}) do
          local other = floors[name]
          local allowed = free[name] or name == file or entry.neighbours[name] or
            (other and other.floor < entry.floor) or (entry.header and other.floor <= entry.floor)
          assert.truthy(allowed, ("%s%s includes %s.h"):format(file, ending, name))
        end
      end
    end
  end)
end)

-- The folders of src are floors: includes and calls go down, or to the same floor, without circles.
-- Calls through pointers to functions are not checked: a lower floor may be given a function to call.

local support = require "support"

local function read_floors()
  local order = {}
  for line in io.lines(support.root .. "/src/FLOORS") do
    order[#order + 1] = line
    order[line] = #order
  end
  return order
end

local function files_in(directory)
  local names = {}
  local scan = assert(support.uv.fs_scandir(directory))
  local name = support.uv.fs_scandir_next(scan)
  while name do
    names[#names + 1] = name
    name = support.uv.fs_scandir_next(scan)
  end
  table.sort(names)
  return names
end

-- Call visit(floor, file's name, path) for each file of the source.
local function each_source(order, visit)
  for _, floor in ipairs(order) do
    for _, name in ipairs(files_in(support.root .. "/src/" .. floor)) do
      visit(floor, name, ("%s/src/%s/%s"):format(support.root, floor, name))
    end
  end
end

-- Which file of the build calls, or takes a function or datum of, which: file -> { file -> symbol }.
local function read_calls(order)
  local build = support.binary:match("^(.*)/[^/]*$")
  local objects = {}
  each_source(order, function(floor, name)
    if name:find("%.c$") then
      objects[#objects + 1] = ("CMakeFiles/floor_%s.dir/src/%s/%s.o"):format(floor, floor, name)
    end
  end)
  local owner, wanted, calls = {}, {}, {}
  local command = ("cd '%s' && nm -A --extern-only %s"):format(build, table.concat(objects, " "))
  local pipe = assert(io.popen(command))
  for line in pipe:lines() do
    local file, kind, symbol = line:match("/src/(%l+/[%w_]+)%.c%.o:%s*%x*%s+(%a) ([%w_]+)$")
    if kind == "U" then
      wanted[#wanted + 1] = { file, symbol }
    elseif kind then
      owner[symbol] = file
      calls[file] = calls[file] or {}
    end
  end
  pipe:close()
  for _, want in ipairs(wanted) do
    local file, other = want[1], owner[want[2]]
    if other and other ~= file and calls[file] then
      calls[file][other] = want[2]
    end
  end
  return calls
end

-- A circle of calls as text, or nil.
local function find_circle(calls)
  local state, path = {}, {}
  local function visit(file)
    state[file] = "open"
    path[#path + 1] = file
    for other, symbol in pairs(calls[file]) do
      if state[other] == "open" then
        return ("%s -> %s (%s), within %s"):format(file, other, symbol, table.concat(path, " -> "))
      end
      local circle = not state[other] and visit(other)
      if circle then
        return circle
      end
    end
    state[file] = "done"
    path[#path] = nil
  end
  for file in pairs(calls) do
    local circle = not state[file] and visit(file)
    if circle then
      return circle
    end
  end
end

-- Whether a file on one floor may know of another floor.
local function may_know(order, floor, other)
  local strangers = (floor == "script" and other == "daemon") or (floor == "daemon" and other == "script")
  return order[other] and order[other] <= order[floor] and not strangers
end

describe("src", function()
  local order = read_floors()

  it("has its files in the folders that FLOORS names, each with a README of at most 15 lines", function()
    assert.equal(8, #order)
    for _, name in ipairs(files_in(support.root .. "/src")) do
      assert.truthy(order[name] or name == "FLOORS", name)
    end
    for _, floor in ipairs(order) do
      local readme = assert(support.read(("%s/src/%s/README.md"):format(support.root, floor)))
      local _, lines = readme:gsub("\n", "")
      assert.is_true(lines <= 15, floor)
    end
  end)

  it("includes by folder, nothing from above, and daemon and script do not know each other", function()
    each_source(order, function(floor, name, path)
      if name:find("%.[ch]$") then
        for line in io.lines(path) do
          local include = line:match('^#include "([^"]+)"')
          local other = include and include:match("^(%l+)/")
          assert.truthy(not include or (other and may_know(order, floor, other)),
            ("%s/%s includes %s"):format(floor, name, include))
        end
      end
    end)
  end)

  it("calls nothing above", function()
    for file, others in pairs(read_calls(order)) do
      for other, symbol in pairs(others) do
        assert.truthy(may_know(order, file:match("^%l+"), other:match("^%l+")),
          ("%s calls %s of %s"):format(file, symbol, other))
      end
    end
  end)

  it("has no circle of calls between files", function()
    assert.is_nil(find_circle(read_calls(order)))
  end)
end)

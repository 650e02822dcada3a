-- What the pages for maintainers name is there: files and functions of the source.

local support = require "support"

local uv = support.uv

-- The files below a folder whose names match, sorted.
local function files(folder, pattern, found)
  found = found or {}
  local scan = assert(uv.fs_scandir(folder))
  for name, kind in function() return uv.fs_scandir_next(scan) end do
    if kind == "directory" then
      files(folder .. "/" .. name, pattern, found)
    elseif name:find(pattern) then
      found[#found + 1] = folder .. "/" .. name
    end
  end
  table.sort(found)
  return found
end

-- Every page of the repository.
local function pages()
  local found = files("doc", "%.md$")
  for _, folder in ipairs { "src", "spec", "bench", "soak" } do
    files(folder, "^README%.md$", found)
  end
  found[#found + 1] = "README.md"
  found[#found + 1] = "CONTRIBUTING.md"
  return found
end

local SOURCES = ""
for _, path in ipairs(files("src", "%.[ch]$")) do
  SOURCES = SOURCES .. support.read(path)
end

-- Whether a file with this name is somewhere below some folders.
local function is_below(folders, name)
  for _, folder in ipairs(folders) do
    for _, path in ipairs(files(folder, "%.[ch]$")) do
      if path:match("[^/]*$") == name then
        return true
      end
    end
  end
  return false
end

-- Whether a page in FOLDER ("src/base", or "." for the root) names a file that exists: by its path, by floor
-- and file ("engine/child.c"), or by its name alone, which on the page of a floor is a file of that floor.
local function exists(name, folder)
  if name:gsub("README", ""):find "%u" then
    return true -- NAME stands for any
  end
  if name:find("/", 1, true) then
    return uv.fs_stat(name) or uv.fs_stat("src/" .. name) or uv.fs_stat(folder .. "/" .. name)
  end
  return is_below(folder:find "^src/" and { folder } or { "src", "spec", "bench", "soak" }, name)
end

-- Whether a path begins with a folder of the repository, or with a floor. What is built is not always there.
local function is_ours(name)
  local top = name:match("^%l+")
  return top ~= "build" and (uv.fs_stat(top) or uv.fs_stat("src/" .. top))
end

for _, page in ipairs(pages()) do
  describe(page, function()
    local text, folder = assert(support.read(page)), page:match("^(.*)/") or "."

    it("names only files that exist", function()
      for name in text:gmatch("%f[%w_./*-]([%w_/-]+%.[ch])%f[^%w_]") do
        assert.truthy(exists(name, folder), name)
      end
      for name in text:gmatch("%f[%w_./*-](%l+/[%w_/-]+%.%l+)%f[^%w_]") do
        assert.truthy(not is_ours(name) or exists(name, folder), name)
      end
    end)

    it("names only functions of lunad's that exist", function()
      for name in text:gmatch("%f[%w_](ld_[%w_]*%w)%f[^%w_*]") do
        assert.truthy(name:find "%u" or SOURCES:find("%f[%w_]" .. name .. "%f[^%w_]"), name)
      end
    end)
  end)
end

describe("doc/threat-model.md", function()
  it("names only specs that exist", function()
    local count = 0
    local page = assert(support.read "doc/threat-model.md"):match("\n## What it cannot do\n(.-)\n## ")
    for cell in page:gmatch("| ([^|\n]+) |\n") do
      for name in (cell == "spec" and "" or cell):gmatch("[^;]+") do
        local path, spec = name:match("(spec/%S+%.%l+):? ?(.*)$")
        local text = support.read(path or "spec/start/boundary_spec.lua")
        assert.truthy(text and text:find(spec or name:match("^%s*(.-)%s*$"), 1, true), name)
        count = count + 1
      end
    end
    assert.is_true(count > 15)
  end)
end)

-- Compiles every module that a script requires by a constant name, and those that these require. Called
-- with a table of facts: the script's `text` and `title` ("/srv/app.lua"), the templates `path` and `cpath`
-- that are searched before those of Lua, and read_requires(text), is_own(name). Returns two lists of texts:
-- faults and notes.

local facts = ...

local path, cpath = facts.path .. package.path, facts.cpath .. package.cpath
local faults, notes = {}, {}
local seen = {} -- files
local provided, changes = {}, false -- by what was read so far
local missing = {} -- { what requires it, its line, name, whether that must run }

-- What is there without a file: Lua's own modules, and lunad's.
local function is_there(name)
  return package.loaded[name] ~= nil or name == "lunad" or name == "luv"
    or facts.is_own(name:match "^lunad%.([%w_]+)$")
end

-- Whether a C library has a module: one of its own, or that of the package it is in.
local function is_in_library(name)
  local root = name:match "^([^.]+)%."
  return package.searchpath(name, cpath) or root and package.searchpath(root, cpath)
end

-- The text of a file; nil if it cannot be read.
local function read(file)
  local handle = io.open(file, "rb")
  local text = handle and handle:read "a"
  if handle then
    handle:close()
  end
  return text
end

-- Whether a module's file is the service's own: found by what is searched before the paths of Lua.
local function is_own_file(file)
  for template in facts.path:gmatch "[^;]+" do
    local folder = template:match "^(.*/)[^/]*%?"
    if folder and file:sub(1, #folder) == folder then
      return true
    end
  end
  return false
end

local scan

-- Compile a module. FROM says where it is required.
local function compile(file, from)
  if seen[file] then
    return
  end
  seen[file] = true
  local text = read(file)
  if not text then
    faults[#faults + 1] = ("%s: it cannot be read (required at %s)"):format(file, from)
  elseif text:sub(1, 1) ~= "\27" then
    local lua = text:gsub("^\xEF\xBB\xBF", ""):gsub("^#[^\n]*", "")
    local chunk, message = load(lua, "@" .. file, "t")
    if not chunk then
      faults[#faults + 1] = ("%s (required at %s)"):format(message, from)
    end
    scan(text, file)
  end
end

-- Follow what a text requires. TITLE is the file that it is from.
function scan(text, title)
  local required, own, moves = facts.read_requires(text)
  changes = changes or moves
  for name in pairs(own) do
    provided[name] = true
  end
  for _, one in ipairs(required) do
    local file = not is_there(one.name) and package.searchpath(one.name, path)
    if file then
      compile(file, ("%s:%d"):format(title, one.line))
    elseif not is_there(one.name) and not one.is_optional and not is_in_library(one.name) then
      local must_run = title == facts.title or not one.is_nested and is_own_file(title)
      missing[#missing + 1] = { title, one.line, one.name, must_run }
    end
  end
end

-- Say what was not found. It may be there all the same when the script runs, if that changes the search; and
-- modules, other people's above all, often ask for what they can do without.
local function judge_missing()
  local said = {}
  for _, one in ipairs(missing) do
    local file, at, name, must_run = table.unpack(one)
    local message = ('%s:%d: module "%s" is not found'):format(file, at, name)
    if provided[name] or said[file .. "\0" .. name] then
      goto continue
    elseif changes then
      notes[#notes + 1] = message .. ", unless the script finds it by its change of package"
    elseif must_run then
      faults[#faults + 1] = message .. " on package.path or package.cpath"
    else
      notes[#notes + 1] = message .. ", which that module may do without"
    end
    said[file .. "\0" .. name] = true
    ::continue::
  end
end

scan(facts.text, facts.title)
judge_missing()
return faults, notes

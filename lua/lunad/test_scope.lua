-- How long what a spec makes exists: to the end of the spec (`it`), or of the `describe` or the file whose
-- `setup` made it. Then it is ended, the latest first.

local _ = ...

local scope = {}

local entries = {} -- { value =, finish =, owner = } ; owner nil: the spec that runs
local busted

-- Use this core of busted.
function scope.use(its_core)
  busted = its_core
end

-- The element of busted that what is made now belongs to; nil: the spec that runs.
local function find_owner()
  local element = busted and busted.context.get()
  local kind = element and element.descriptor
  if not element or kind == "it" or kind == "before_each" or kind == "after_each" or kind == "finally" then
    return nil
  elseif kind == "describe" or kind == "file" or kind == "suite" then
    return element
  end
  return busted.context.parent(element)
end

-- Call finish(value) at the end; returns the value.
function scope.add(value, finish)
  entries[#entries + 1] = { value = value, finish = finish, owner = find_owner() }
  return value
end

-- End what belongs to an owner.
function scope.finish(owner)
  local first
  for i = #entries, 1, -1 do
    local entry = entries[i]
    if entry and entry.owner == owner then
      table.remove(entries, i)
      local ok, err = pcall(entry.finish, entry.value)
      first = first or (not ok and err) or nil
    end
  end
  if first then
    error(first, 0)
  end
end

-- The values that exist.
function scope.values()
  local values = {}
  for i, entry in ipairs(entries) do
    values[i] = entry.value
  end
  return values
end

return scope

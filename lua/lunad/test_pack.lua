-- Plain data as Lua that load reads.

local _ = ...

local pack

local function pack_table(value, where, seen)
  if seen[value] then
    error(where .. ": a table that contains itself cannot be handed on", 0)
  end
  seen[value] = true
  local parts = {}
  for key, item in pairs(value) do
    parts[#parts + 1] = ("[%s]=%s"):format(pack(key, where .. ": a key", seen),
      pack(item, where .. "." .. tostring(key), seen))
  end
  seen[value] = nil
  return "{" .. table.concat(parts, ",") .. "}"
end

local function escape(byte)
  return ("\\%03d"):format(byte:byte())
end

-- A value as text; `where` names it in errors.
function pack(value, where, seen)
  local kind = type(value)
  if kind == "string" then
    return '"' .. value:gsub('[^ !#-%[%]-~]', escape) .. '"'
  elseif kind == "number" then
    return "(" .. ("%q"):format(value) .. ")"
  elseif kind == "table" then
    return pack_table(value, where, seen or {})
  elseif kind == "nil" or kind == "boolean" then
    return tostring(value)
  end
  error(("%s: a %s cannot be handed on"):format(where, kind), 0)
end

return pack

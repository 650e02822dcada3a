-- Checks for scripts that specs run inside lunad. The first failure ends the script with status 9.

local lunad = require "lunad"

local function show(value)
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function fail(level, message)
  local place = debug.getinfo(level + 1, "Sl")
  io.stdout:write(("%s:%d: %s\n"):format(place.short_src, place.currentline, message))
  io.stdout:flush()
  os.exit(9)
end

-- Fail unless both are the same.
local function equal(expected, got)
  if expected ~= got then
    fail(2, ("expected %s, got %s"):format(show(expected), show(got)))
  end
end

-- Fail unless the value is true; returns it.
local function truthy(value, message)
  if not value then
    fail(2, message or ("expected something true, got " .. show(value)))
  end
  return value
end

-- Fail unless the call raises a message with `part` in it, at the caller's line; returns it.
local function raises(part, fn, ...)
  local args = table.pack(...)
  local ok, message = pcall(function() fn(table.unpack(args, 1, args.n)) end)
  if ok then
    fail(2, "no error was raised, expected one with " .. show(part))
  elseif not tostring(message):find(part, 1, true) then
    fail(2, ("expected an error with %s, got %s"):format(show(part), show(message)))
  end
  return message
end

-- Fail unless the values are nil, a message that begins with the code, and the code.
local function fails(code, value, message, got)
  if value ~= nil or got ~= code or type(message) ~= "string" or
     message:sub(1, #code + 2) ~= code .. ": " then
    fail(2, ("expected nil and %s, got %s, %s, %s"):format(code, show(value), show(message), show(got)))
  end
end

-- Sleep until the condition holds; fail after `seconds` (60).
local function eventually(condition, seconds)
  local deadline = lunad.now() + (seconds or 60)
  while not condition() do
    if lunad.now() > deadline then
      fail(2, "timed out waiting for a condition")
    end
    lunad.sleep(0.002)
  end
end

return function()
  return lunad, equal, truthy, raises, fails, eventually
end

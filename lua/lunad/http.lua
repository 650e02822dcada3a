-- require "lunad.http": HTTP for tasks.

local core = ...

require "lunad.net" -- fills core.net

local target = core.load "http_target.lua"

-- What is loaded when it is first called.
local function from_file(name)
  return function(...)
    return core.load(name)(...)
  end
end

-- A function of a text, whose argument is checked.
local function of_text(name, fn)
  return function(text)
    if type(text) ~= "string" and type(text) ~= "number" then
      core.raise(("bad argument #1 to '%s' (string expected, got %s)"):format(name, type(text)))
    end
    return fn(text)
  end
end

return {
  serve = from_file "http_server.lua",
  request = from_file "http_client.lua",
  parse_query = of_text("parse_query", target.parse_query),
  encode = of_text("encode", target.encode),
}

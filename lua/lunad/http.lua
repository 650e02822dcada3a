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

return {
  serve = from_file "http_server.lua",
  request = from_file "http_client.lua",
  parse_query = target.parse_query,
  encode = target.encode,
}

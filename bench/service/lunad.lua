local lunad = require "lunad"
local out = "@OUT@" ~= "" and assert(io.open("@OUT@", "w"))

local function beat()
  if out then
    out:write("@VERSION@"):flush()
  end
end

beat()
lunad.every(tonumber "@PERIOD@", beat)

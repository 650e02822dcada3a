-- The usual way by hand: SIGHUP runs the file again in the same state.
local uv = require "luv"
local out = "@OUT@" ~= "" and assert(io.open("@OUT@", "w"))

local function beat()
  if out then
    out:write("@VERSION@"):flush()
  end
end

beat()
local timer, hup = uv.new_timer(), uv.new_signal()
timer:start(tonumber "@PERIOD@" * 1000, tonumber "@PERIOD@" * 1000, beat)
hup:start("sighup", function()
  timer:close()
  hup:close()
  dofile(arg[0])
end)
if not Running then -- luacheck: ignore 111 113
  Running = true -- luacheck: ignore 111
  uv.run()
end

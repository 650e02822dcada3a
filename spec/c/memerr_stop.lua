-- What test_memerr stops while memory runs out: a script with one of everything that a stop has to end.

local lunad = require "lunad"
local trial = require "trial"

lunad.spawn { "sleep", "1000", on_exit = function() end }
lunad.spawn { "sleep", "1000", name = "kept", keep = true, stdin = "pipe", stdout = lunad.by_line(print) }
lunad.listen("unix:" .. arg[1] .. "/stopped")
lunad.signal("USR1", function() end)
lunad.every(1000, function() end)
lunad.task(function()
  local _ <close> = setmetatable({}, { __close = function() lunad.log.info("closed") end })
  lunad.sleep(1000)
end)
lunad.on_error(function() end)
lunad.on_stop(function() lunad.sleep(0.0005) end)
lunad.on_stop(function(reason) lunad.log.info("last words", { reason = reason }) end)

lunad.task(function()
  lunad.exec { "true" } -- by then the loop has turned
  trial.starve()
  lunad.stop()
end)

-- What test_memerr starts while memory runs out.

local lunad = require "lunad"

lunad.on_stop(function() end)
lunad.after(0, function(...) assert(select("#", ...) == 2) end, {}, arg[1])

-- Run a Lua file with the generational garbage collector: generational.lua FILE [ARG...].

collectgarbage("generational")
assert(loadfile((...)))(select(2, ...))

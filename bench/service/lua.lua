-- Lua has no timers: say that it is ready, and wait for ever.
io.open("@OUT@", "w"):write("@VERSION@"):close()
io.open("@NEVER@"):read(1)

-- Lua has no timers: it says that it is ready, and waits for what never comes.
io.open("@OUT@", "w"):write("@VERSION@"):close()
io.open("@NEVER@"):read(1)

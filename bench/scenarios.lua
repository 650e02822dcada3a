-- What is measured. A scenario runs the programs of bench/DIR (by default its name) with `args`, or, if
-- it names contenders, bench/DIR/driver.lua with the contender's name before them. Each prints one line of
-- JSON; `metrics` says which of its figures count:
--
--   reference  the contender that is 1.00 (the scenario's, by default libuv)
--   aim        the most that lunad's ratio to the reference may be
--   most, least  bounds of lunad's figure itself
--   scale      what the figure is multiplied with to be shown in `unit`
--   chart      false: not drawn


return {
  { name = "chain", title = "a million zero-delay timers, each armed by the one before",
    args = "1000000", reference = "luv",
    metrics = {
      { key = "cpu", title = "CPU", unit = "s", aim = 0.9 },
      { key = "starved", title = "firings before a waiting signal", chart = false, most = 100 },
    } },
  { name = "timers", title = "a million timers at once", args = "1000000",
    metrics = {
      { key = "cpu", title = "CPU", unit = "s", aim = 0.35 },
      { key = "bytes", title = "bytes a timer, at the peak", unit = "B", most = 130 },
    } },
  { name = "beat", title = "10,000 timers that repeat every 10 ms, for 5 s", args = "10000 5",
    metrics = {
      { key = "cpu", title = "CPU", unit = "s", aim = 0.25 },
      { key = "delivered", title = "ticks delivered", scale = 100, unit = "%", least = 0.9999, chart = false },
    } },
  { name = "arm", title = "a million timers armed, armed again, cancelled", args = "1000000",
    metrics = {
      { key = "fresh", title = "arm + cancel, CPU", unit = "s", aim = 0.7 },
      { key = "again", title = "arm again, CPU", unit = "s", aim = 0.25 },
    } },
  { name = "signals", title = "100,000 signals, each sent by the handler of the one before", args = "100000",
    metrics = {
      { key = "wall", title = "time", unit = "s", aim = 0.6 },
      { key = "cpu", title = "CPU", unit = "s", chart = false },
    } },
}

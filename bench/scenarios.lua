-- What is measured. A scenario runs the programs of bench/DIR (by default its name) with `args`, or, if
-- it names contenders, bench/DIR/driver.lua with the contender's name before them. Each prints one line of
-- JSON; `metrics` says which of its figures count:
--
--   reference  the contender that is 1.00 (the scenario's, by default libuv)
--   aim        the most that lunad's ratio to the reference may be
--   most, least  bounds of lunad's figure itself
--   per        another figure that it is divided by
--   scale      what the figure is multiplied by to be shown in `unit`
--   chart      false: not drawn
--   growth     the most that lunad's figure at the greatest size may be of that at the least
--
-- A curve has `sizes`, one of which is @SIZE@ in the arguments; `of` says what they count, `field` which
-- contenders take part.
--
-- `collector`: the generational garbage collector is measured too.

local pipe = io.popen "nproc"
local cores = tonumber(pipe:read "a")
pipe:close()

return {
  { name = "chain", title = "a million zero-delay timers, each armed by the one before",
    args = "1000000", reference = "luv",
    metrics = {
      { key = "cpu", title = "CPU", unit = "s", aim = 0.85 },
      { key = "starved", title = "firings before a waiting signal", chart = false, most = 100 },
    } },
  { name = "timers", title = "a million timers at once", args = "1000000", collector = true,
    metrics = {
      { key = "cpu", title = "CPU", unit = "s", aim = 0.28 },
      { key = "bytes", title = "bytes a timer, at the peak", unit = "B", most = 90 },
    } },
  { name = "beat", title = "10,000 timers that repeat every 10 ms, for 5 s", args = "10000 5",
    metrics = {
      { key = "cpu", title = "CPU", unit = "s", chart = false },
      { key = "cpu", per = "delivered", title = "CPU for as many ticks as the ideal", unit = "s",
        aim = 0.25 },
      { key = "delivered", title = "ticks delivered", scale = 100, unit = "%", least = 0.9999,
        chart = false },
    } },
  { name = "tick", title = "waits of 1 ms, one after the other; then beats of 1 ms, for 3 s", args = "3",
    metrics = {
      { key = "wait", title = "wait of 1 ms, median", unit = "ms", scale = 1e3, aim = 1.02 },
      { key = "delivered", title = "beats delivered", scale = 100, unit = "%", least = 0.99, chart = false },
    } },
  { name = "arm", title = "a million timeouts armed and cancelled, 100,000 in flight; a million armed again",
    args = "1000000", collector = true,
    metrics = {
      { key = "fresh", title = "arm + cancel, CPU", unit = "s", aim = 1.1 },
      { key = "again", title = "arm again, CPU", unit = "s", aim = 0.6 },
    } },
  { name = "signals", title = "100,000 signals, each sent by the handler of the one before", args = "100000",
    metrics = {
      { key = "wall", title = "time", unit = "s", aim = 0.57 },
      { key = "cpu", title = "CPU", unit = "s", chart = false },
    } },
  { name = "start", title = "start to ready", args = "20", quick_args = "10", reference = "c",
    contenders = "c lunad daemonize daemon php runit supervisor nginx tarantool pm2",
    metrics = {
      { key = "ready", title = "time", unit = "ms", scale = 1e3, aim = 1.4 },
    } },
  { name = "reload", title = "reload of a service with a beat of 1 ms",
    args = "100", quick_args = "40", reference = "luv",
    contenders = "lunad luv runit supervisor nginx pm2", rounds = 3,
    metrics = {
      { key = "latency", title = "until new code runs", unit = "ms", scale = 1e3, most = 0.001 },
      { key = "latency_p99", title = "the same, 99th percentile", unit = "ms", scale = 1e3, chart = false },
      { key = "gap", title = "longest silence of the beat", unit = "ms", scale = 1e3, most = 0.002 },
      { key = "gap_p99", title = "the same, 99th percentile", unit = "ms", scale = 1e3, chart = false },
      { key = "calm", title = "without a reload", unit = "ms", scale = 1e3, chart = false },
      { key = "calm_p99", title = "the same, 99th percentile", unit = "ms", scale = 1e3, chart = false },
    } },
  { name = "heartbeat", title = "3,000 reloads of examples/heartbeat.lua", rounds = 3,
    args = "3000", quick_args = "1500",
    contenders = "lunad",
    metrics = {
      { key = "p50", title = "until the verdict", unit = "ms", scale = 1e3, most = 0.002 },
      { key = "p99", title = "the same, 99th percentile", unit = "ms", scale = 1e3 },
      { key = "rss_growth", title = "memory, of that after 500", scale = 100, unit = "%", most = 1.05 },
      { key = "fds", title = "descriptors more than after 500", most = 0 },
      { key = "watched", title = "descriptors watched more than after 500", most = 0 },
    } },
  { name = "idle", title = "an idle service with a timer of 1 s", args = "10", reference = "luv", rounds = 3,
    contenders = "lunad luv node runit supervisor nginx tarantool pm2",
    metrics = {
      { key = "rss", title = "memory, RSS", unit = "MB", scale = 1e-6, aim = 1.1 },
      { key = "pss", title = "memory, PSS", unit = "MB", scale = 1e-6 },
      { key = "calls", title = "system calls in 10 s", most = 11 },
    } },
  { name = "spawn", title = "/bin/true, one after the other",
    args = "one 500", quick_args = "one 200",
    metrics = {
      { key = "cpu", title = "CPU of the parent, each", unit = "us", scale = 1e6, aim = 0.57 },
      { key = "wall", title = "time, each", unit = "us", scale = 1e6, aim = 1.25, reference = "c" },
    } },
  { name = "spawn-many", dir = "spawn", title = "/bin/true, 32 in flight",
    args = "many 1000", quick_args = "many 400",
    metrics = {
      { key = "cpu", title = "CPU of the parent, each", unit = "us", scale = 1e6, aim = 0.6 },
      { key = "wall", title = "time, each", unit = "us", scale = 1e6, aim = 1.25, reference = "c" },
    } },
  { name = "spawn-capture", dir = "spawn", title = "1 MB of output captured",
    args = "capture 200", quick_args = "capture 50",
    metrics = {
      { key = "cpu", title = "CPU of the parent, each", unit = "us", scale = 1e6 },
      { key = "wall", title = "time, each", unit = "us", scale = 1e6 },
    } },
  { name = "spawn-heap", dir = "spawn", title = "/bin/true, from a parent with 1 GiB of heap in use",
    args = "heap 200", quick_args = "heap 50", rounds = 3,
    metrics = {
      { key = "cpu", title = "CPU of the parent, each", unit = "us", scale = 1e6 },
      { key = "growth", title = "time, of that before the heap grew", most = 1.1 },
    } },
  { name = "spawn-crowd", dir = "spawn", title = "/bin/true, beside 2,000 live children",
    args = "crowd 500", quick_args = "crowd 100",
    metrics = {
      { key = "cpu", title = "CPU of the parent, each", unit = "us", scale = 1e6, aim = 0.1 },
      { key = "wall", title = "time, each", unit = "us", scale = 1e6 },
    } },
  { name = "exits", title = "10,000 live children end at once", rounds = 3,
    args = "10000", quick_args = "2000",
    metrics = {
      { key = "cpu", title = "CPU of the parent, each", unit = "us", scale = 1e6 },
      { key = "growth", title = "each, of that with a tenth of them", most = 1.5, chart = false },
    } },
  { name = "children", title = "3,000 children, 50 in flight", args = "3000", quick_args = "500", rounds = 1,
    metrics = {
      { key = "children", title = "children and zombies left", most = 0 },
      { key = "fds", title = "descriptors left", most = 0 },
    } },
  { name = "http", title = "examples/http.lua, by http.serve, under wrk -c 64", args = "5", quick_args = "2",
    contenders = "lunad callbacks luv node", reference = "callbacks",
    metrics = {
      { key = "rate", title = "requests a second", at_least = 0.8, more = true },
      { key = "rate", title = "requests a second, beside node", reference = "node", at_least = 1, more = true,
        chart = false },
      { key = "cpu", title = "CPU of the server, each request", unit = "us", scale = 1e6 },
    } },
  { name = "workers", title = "examples/http.lua under wrk -c 64, by two workers", args = "throughput 5",
    quick_args = "throughput 2", contenders = "lunad",
    metrics = {
      { key = "rate", title = "requests a second", more = true, chart = false },
      { key = "growth", title = "the same, of that of one", more = true, chart = false,
        least = cores > 2 and 1.8 or nil }, -- wrk needs one
      { key = "cpu", title = "CPU of the workers, each request", unit = "us", scale = 1e6, chart = false },
      { key = "linear", title = "requests for each second of CPU, of those of one", more = true, least = 0.9,
        chart = false },
    } },
  { name = "spread", dir = "workers", title = "clients that come at once to four workers",
    args = "spread 64 1000", contenders = "lunad", rounds = 3,
    metrics = {
      { key = "few", title = "64: the least share of a worker, of a fourth", more = true, least = 0.5,
        chart = false },
      { key = "many", title = "1,000: the same", more = true, least = 0.5, chart = false },
    } },
  { name = "reload-workers", dir = "changes", title = "100 reloads of two workers, under load",
    args = "reloads 100", quick_args = "reloads 30", contenders = "lunad", rounds = 3,
    metrics = {
      { key = "asked", title = "requests", more = true, chart = false },
      { key = "failed", title = "failed requests", most = 0, chart = false },
      { key = "time", title = "the command", unit = "ms", scale = 1e3, chart = false },
      { key = "gap", title = "between the commits of the workers", unit = "ms", scale = 1e3, most = 0.005,
        chart = false },
      { key = "gap_most", title = "the same, at most", unit = "ms", scale = 1e3, chart = false },
    } },
  { name = "rollback", dir = "changes", title = "40 rollbacks of bad code, under load",
    args = "rollbacks 40", quick_args = "rollbacks 15", contenders = "lunad", rounds = 3,
    metrics = {
      { key = "asked", title = "requests", more = true, chart = false },
      { key = "failed", title = "failed requests", most = 0, chart = false },
      { key = "time", title = "from the error until the old code serves", unit = "ms", scale = 1e3,
        chart = false },
      { key = "time_most", title = "the same, at most", unit = "ms", scale = 1e3, chart = false },
    } },
  { name = "upgrade", dir = "changes", title = "100 upgrades to another build and back, under load",
    args = "upgrades 100", quick_args = "upgrades 20", contenders = "lunad", rounds = 3,
    metrics = {
      { key = "asked", title = "requests", more = true, chart = false },
      { key = "failed", title = "failed requests", most = 0, chart = false },
      { key = "time", title = "the command", unit = "ms", scale = 1e3, chart = false },
      { key = "gap", title = "longest silence for new clients", unit = "ms", scale = 1e3, most = 0.01,
        chart = false },
      { key = "gap_most", title = "the same, at most", unit = "ms", scale = 1e3, chart = false },
      { key = "calm", title = "without an upgrade", unit = "ms", scale = 1e3, chart = false },
      { key = "calm_most", title = "the same, at most", unit = "ms", scale = 1e3, chart = false },
    } },
  { name = "upgrade-workers", dir = "changes",
    title = "100 upgrades of two workers and their master, there and back",
    args = "worker-upgrades 100", quick_args = "worker-upgrades 20", contenders = "lunad", rounds = 3,
    metrics = {
      { key = "asked", title = "requests", more = true, chart = false },
      { key = "failed", title = "failed requests", most = 0, chart = false },
      { key = "time", title = "the command", unit = "ms", scale = 1e3, chart = false },
      { key = "gap", title = "longest silence for new clients", unit = "ms", scale = 1e3,
        chart = false },
      { key = "gap_most", title = "the same, at most", unit = "ms", scale = 1e3, chart = false },
      { key = "calm", title = "without an upgrade", unit = "ms", scale = 1e3, chart = false },
      { key = "calm_most", title = "the same, at most", unit = "ms", scale = 1e3, chart = false },
    } },
  { name = "connections", title = "1,000 idle connections to examples/http.lua", args = "1000", rounds = 3,
    contenders = "lunad luv node", reference = "luv",
    metrics = {
      { key = "bytes", title = "memory, each", unit = "B", aim = 1.15 },
    } },
  { name = "control", title = "asking a service for its status", rounds = 3,
    args = "5000", quick_args = "1000",
    contenders = "lunad runit supervisor pm2", reference = "runit",
    metrics = {
      { key = "command", title = "by the command", unit = "ms", scale = 1e3 },
      { key = "question", title = "on the control socket", unit = "us", scale = 1e6, chart = false },
    } },
  { name = "log", title = "log lines with a field", reference = "luv",
    args = "100000 $BENCH_BOX/log.txt", quick_args = "30000 $BENCH_BOX/log.txt",
    lunad_options = "--log $BENCH_BOX/lunad.log",
    metrics = {
      { key = "cpu", title = "CPU, each", unit = "us", scale = 1e6 },
      { key = "cpu", title = "CPU, each, beside a bare loop in C", unit = "us", scale = 1e6, reference = "c",
        chart = false },
      { key = "rate", title = "lines a second", more = true, chart = false },
    } },
  { name = "tasks", title = "a million sleeping tasks", args = "sleep 1000000", reference = "lua", rounds = 3,
    collector = true,
    metrics = {
      { key = "bytes", title = "memory, each, at the peak", unit = "B", most = 1376 },
      { key = "cpu", title = "CPU to make them", unit = "s", aim = 1.4 },
    } },
  { name = "switches", dir = "tasks", title = "1,000 tasks that sleep for 0 s in turn",
    args = "switch 1000000", reference = "lua", collector = true,
    metrics = {
      { key = "rate", title = "switches a second of CPU", more = true },
    } },
  { name = "await", title = "a million awaits that are answered at once, beside resume and yield",
    args = "1000000", reference = "lua",
    metrics = {
      { key = "cpu", title = "CPU, each", unit = "ns", scale = 1e9, most = 500e-9 },
    } },
  { name = "channel", title = "a million values through a channel, beside a table and a coroutine",
    args = "1000000", reference = "lua",
    metrics = {
      { key = "buffered", title = "put and got by one task, CPU, each", unit = "ns", scale = 1e9 },
      { key = "switch", title = "from one task to another, CPU, each", unit = "ns", scale = 1e9 },
    } },
  { name = "connect", title = "connections, one after the other, made and closed by both sides",
    args = "20000 $BENCH_BOX/connect.sock", quick_args = "5000 $BENCH_BOX/connect.sock", reference = "luv",
    metrics = {
      { key = "cpu", title = "CPU of both sides, each", unit = "us", scale = 1e6 },
      { key = "wall", title = "time, each", unit = "us", scale = 1e6, chart = false },
    } },
  { name = "streams", dir = "connections", title = "10,000 idle streams, each of a task that waits for data",
    args = "10000 echo", quick_args = "3000 echo", rounds = 3, contenders = "lunad luv", reference = "luv",
    metrics = {
      { key = "bytes", title = "memory, each", unit = "B" },
    } },

  -- How cost grows.
  { name = "grow-timers", dir = "timers", title = "timers made, fired and released",
    of = "timers at once", sizes = { 1000, 10000, 100000, 1000000 }, quick_sizes = { 1000, 10000, 100000 },
    args = "@SIZE@", field = "libuv lunad", rounds = 3,
    metrics = {
      { key = "cpu", per = "fired", title = "made and fired, CPU, each", unit = "us", scale = 1e6,
        growth = 2 },
      { key = "bytes", title = "made and fired, bytes, each", unit = "B", growth = 2 },
    } },
  { name = "grow-arm", dir = "arm", title = "timeouts armed, cancelled and armed again, among others",
    of = "timers in flight", sizes = { 1000, 10000, 100000, 1000000 }, quick_sizes = { 1000, 10000, 100000 },
    args = "200000 @SIZE@", field = "libuv lunad", rounds = 3,
    metrics = {
      { key = "fresh", title = "armed and cancelled, CPU, each", unit = "ns", scale = 1e9 / 200000,
        growth = 3 },
      { key = "again", title = "armed again, CPU, each", unit = "ns", scale = 1e9 / 200000, growth = 3 },
    } },
  { name = "grow-children", dir = "spawn", title = "/bin/true, beside live children",
    of = "live children", sizes = { 10, 100, 1000, 10000 }, quick_sizes = { 10, 100, 1000 },
    args = "crowd 100 @SIZE@", field = "libuv lunad", rounds = 3, lunad_options = "--start-timeout 300",
    metrics = {
      { key = "cpu", title = "a child started and ended, CPU", unit = "us", scale = 1e6, growth = 1.5 },
      { key = "wall", title = "a child started and ended, time", unit = "us", scale = 1e6, growth = 3 },
    } },
  { name = "grow-listeners", dir = "listeners", title = "listening Unix sockets, and connections to them",
    of = "listeners", sizes = { 1, 10, 100, 1000 }, quick_sizes = { 1, 10, 100 },
    args = "@SIZE@ $BENCH_BOX/listen", field = "luv lunad", reference = "luv", rounds = 3,
    metrics = {
      { key = "open", title = "a listener opened, CPU", unit = "us", scale = 1e6, growth = 1.5 },
      { key = "connect", title = "a connection, both sides, CPU", unit = "us", scale = 1e6, growth = 1.5 },
    } },
  { name = "grow-reload-state", dir = "growth", title = "reload of a service that keeps tables",
    of = "tables", sizes = { 1000, 10000, 100000, 1000000 }, quick_sizes = { 1000, 10000, 100000 },
    args = "reload-state @SIZE@ 5", contenders = "lunad", rounds = 3,
    metrics = {
      { key = "time", title = "reload with state: time", unit = "ms", scale = 1e3 },
      { key = "gap", title = "reload with state: silence", unit = "ms", scale = 1e3 },
    } },
  { name = "grow-reload-timers", dir = "growth", title = "reload of a service with timers",
    of = "timers", sizes = { 1000, 10000, 100000, 1000000 }, quick_sizes = { 1000, 10000, 100000 },
    args = "reload-timers @SIZE@ 5", contenders = "lunad", rounds = 3,
    metrics = {
      { key = "time", title = "reload with timers: time", unit = "ms", scale = 1e3 },
      { key = "gap", title = "reload with timers: silence", unit = "ms", scale = 1e3 },
    } },
  { name = "grow-reload-children", dir = "growth", title = "reload of a service with kept children",
    of = "kept children", sizes = { 10, 100, 1000, 3000 }, quick_sizes = { 10, 100, 1000 },
    args = "reload-children @SIZE@ 5", contenders = "lunad", rounds = 3,
    metrics = {
      { key = "time", title = "reload with children: time", unit = "ms", scale = 1e3, most = 0.05 },
      { key = "gap", title = "reload with children: silence", unit = "ms", scale = 1e3 },
    } },
  { name = "grow-reload-listeners", dir = "growth", title = "reload of a service with listening sockets",
    of = "listeners", sizes = { 1, 10, 100, 1000 }, quick_sizes = { 1, 10, 100 },
    args = "reload-listeners @SIZE@ 5", contenders = "lunad", rounds = 3,
    metrics = {
      { key = "time", title = "reload with listeners: time", unit = "ms", scale = 1e3 },
      { key = "gap", title = "reload with listeners: silence", unit = "ms", scale = 1e3 },
    } },
  { name = "grow-status", dir = "growth", title = "the status of a service with timers",
    of = "timers", sizes = { 100, 1000, 10000, 100000, 1000000 }, quick_sizes = { 100, 1000, 10000 },
    args = "status-timers @SIZE@ 5", contenders = "lunad", rounds = 3,
    metrics = {
      { key = "time", title = "status: time", unit = "ms", scale = 1e3 },
      { key = "gap", title = "status: silence", unit = "ms", scale = 1e3 },
      { key = "bytes", title = "status: size", unit = "KB", scale = 1e-3 },
    } },
  { name = "grow-lines", dir = "lines", title = "lines of a child into the log",
    of = "lines", sizes = { 1000, 10000, 100000, 1000000 }, quick_sizes = { 1000, 10000, 100000 },
    args = "@SIZE@", contenders = "c lunad s6-log", reference = "s6-log", rounds = 3,
    metrics = {
      { key = "cpu", title = "a child's line to the log, CPU", unit = "us", scale = 1e6, growth = 1.5 },
      { key = "cpu", title = "a child's line to the log, beside s6-log, CPU", unit = "us", scale = 1e6,
        aim = 0.64, chart = false },
      { key = "rate", title = "a child's lines to the log, a second", more = true },
    } },
  { name = "grow-stall", dir = "stall", title = "a beat of 1 ms that leaves garbage, in a heap in use",
    of = "MB in use", sizes = { 10, 100, 500 }, quick_sizes = { 10, 100 }, collector = true,
    args = "@SIZE@", field = "lunad generational", reference = "lunad", rounds = 3,
    metrics = {
      { key = "stall", title = "longest stall by the collector", unit = "ms", scale = 1e3 },
    } },
}

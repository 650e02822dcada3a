---@meta lunad
-- The API of lunad for editors (the Lua language server). Never loaded; spec/source/meta_spec.lua keeps
-- it true.

---@class lunad
---@field version string of lunad
---@field name string the daemon's name
---@field pid integer of the process, the same over all reloads
---@field script string the script's absolute path, "(command line)" or "stdin"
---@field mode "daemon"|"foreground"
---@field generation integer 1 at the start, one more with each reload
---@field worker integer which of the workers this is, from 1 on; 1 without workers
---@field workers integer how many workers there are; 1 without workers
---@field state any what on_reload of the one before returned; at the start what --state saved; or nil
---@field log lunad.log
---@field metrics lunad.metrics
local lunad = {}

---A function, or anything that can be called like one.
---@alias lunad.callable function|table

---A signal's name with or without SIG, in any case, or its number.
---@alias lunad.signal_name string|integer

---What the system refused: nil, "CODE: text: what", "CODE".
---@alias lunad.code string

-- Timers

---@class lunad.timer
local timer = {}

---Call `fn(...)` once, from the loop.
---@param seconds number 0 to ten years
---@param fn lunad.callable
---@param ... any arguments for `fn`
---@return lunad.timer
function lunad.after(seconds, fn, ...) end

---Call `fn(...)` on a fixed beat; beats that were missed are skipped and counted.
---@param seconds number above 0, up to ten years
---@param fn lunad.callable
---@param ... any arguments for `fn`
---@return lunad.timer
function lunad.every(seconds, fn, ...) end

---Call `fn()` at times of the wall clock.
---@param spec string minute hour day month weekday, or @hourly … @yearly
---@param fn lunad.callable
---@return lunad.timer
function lunad.cron(spec, fn) end

---Stop it: it does not fire again.
function timer:stop() end

---Arm it again from now on, even if it has fired or was stopped.
---@param seconds? number the new time; not for a cron timer
function timer:again(seconds) end

---@return boolean active whether it is armed
function timer:active() end

---@return number? seconds to go; nil if it is not armed
function timer:due() end

---@return integer count of beats that were skipped
function timer:missed() end

---Name it, for the status and for profiles; without `text`, return its name.
---@param text? string
---@return lunad.timer|string|nil
function timer:name(text) end

---Seconds on a clock that only goes forward.
---@return number
function lunad.now() end

-- Tasks

---@class lunad.task
local task = {}

---Run `fn(...)` as a task, at once up to where it first suspends.
---@param fn lunad.callable
---@param ... any arguments for `fn`
---@return lunad.task
function lunad.task(fn, ...) end

---Suspend this task.
---@param seconds number
function lunad.sleep(seconds) end

---Suspend until the task has ended.
---@param timeout? number seconds; after them nil, a message and "ETIMEDOUT"
---@return any ... what its function returned; nil and the error if it failed; nil, "cancelled"
function task:wait(timeout) end

---Raise "cancelled" where it is suspended.
function task:cancel() end

---@return boolean running whether it has not ended
function task:running() end

---Name it, for the status and for profiles; without `text`, return its name.
---@param text? string
---@return lunad.task|string|nil
function task:name(text) end

---Call `fn(..., done)` and suspend until `done(...)` is called. If `fn` returns nil or false, return that.
---@param fn lunad.callable
---@param ... any arguments for `fn`, before `done`
---@return any ... what `done` was given
function lunad.await(fn, ...) end

---Suspend until a descriptor is ready.
---@param fd integer
---@param mode "r"|"w"|"rw"
---@param timeout? number seconds
---@return "r"|"w"|"rw"|nil ready
---@return string? err
---@return lunad.code? code
function lunad.wait_fd(fd, mode, timeout) end

---Call `fn(...)` in a task, and cancel it when the time is up.
---@param seconds number
---@param fn lunad.callable
---@param ... any arguments for `fn`
---@return any ... its results; nil, a message and "ETIMEDOUT" when the time is up
function lunad.timeout(seconds, fn, ...) end

---Run functions at once; the first failure cancels the others.
---@param list lunad.callable[]
---@return table? results the first of each, and their number as `n`
---@return any err
---@return string? traceback of the branch that failed
function lunad.all(list) end

---Run functions at once; the first success cancels the others.
---@param list lunad.callable[]
---@return integer? index of the one that succeeded, followed by its results
---@return any ... its results, or the first error and the tracebacks
function lunad.any(list) end

---@class lunad.channel
local channel = {}

---Make a channel.
---@param capacity? integer values that it holds; 0 by default
---@return lunad.channel
function lunad.channel(capacity) end

---Put a value, and suspend while the channel is full.
---@param value any not nil
---@param timeout? number seconds
---@return true? ok
---@return string? err
---@return lunad.code? code "ETIMEDOUT", or "EPIPE" when it is closed
function channel:put(value, timeout) end

---Take the next value, and suspend while there is none.
---@param timeout? number seconds
---@return any value nil at the end
---@return string? err
---@return lunad.code? code "ETIMEDOUT", or "EPIPE" when it is closed and empty
function channel:get(timeout) end

---Iterate over the values until it is closed and empty.
---@return function iterator
---@return lunad.channel channel
function channel:each() end

---Take no more values.
function channel:close() end

---@class lunad.semaphore
local semaphore = {}

---Make a semaphore with `count` places.
---@param count integer
---@return lunad.semaphore
function lunad.semaphore(count) end

---Suspend until there is a place, and take it.
---@param timeout? number seconds
---@return lunad.held? held
---@return string? err
---@return lunad.code? code
function semaphore:acquire(timeout) end

---@class lunad.held
local held = {}

---Give the place back; `local held <close>` does it too.
function held:release() end

---What the previous generation kept under this name, else `default`; kept for the next one.
---@param name string
---@param default? any plain data
---@return any value
function lunad.keep(name, default) end

-- Signals

---@class lunad.signal
local handle = {}

---Call `fn(name)` when a signal arrives, with the name as it is given here, in place of what it does
---by default.
---@param name lunad.signal_name
---@param fn lunad.callable
---@return lunad.signal? handle
---@return string? err
---@return lunad.code? code
function lunad.signal(name, fn) end

---Take the handler away.
function handle:stop() end

---Send a signal to a process.
---@param pid integer
---@param name lunad.signal_name 0 asks whether it is there
---@return true? ok
---@return string? err
---@return lunad.code? code
function lunad.kill(pid, name) end

-- Children

---@class lunad.spawn_options
---@field [integer] string|number the command and its arguments
---@field name? string shown in log and status
---@field cwd? string
---@field env? table<string, string|number> variables to add
---@field clear_env? boolean start with an empty environment
---@field user? string|integer
---@field group? string|integer
---@field umask? string|integer octal text, or a number
---@field nice? integer added to the host's
---@field rlimit? table<string, string|integer> {nofile = 64, core = "0:unlimited"}
---@field stdin? "null"|"pipe"|integer
---@field stdout? "log"|"null"|"inherit"|integer|lunad.callable fn(chunk), fn(nil) at the end
---@field stderr? "log"|"null"|"inherit"|"stdout"|integer|lunad.callable
---@field fds? table<integer, integer> more descriptors to hand on
---@field on_exit? lunad.callable fn(exit, child)
---@field timeout? number seconds until SIGTERM
---@field kill_after? number seconds from SIGTERM to SIGKILL (5)
---@field detach? boolean a session of its own, outlives the host
---@field keep? boolean survives a reload

---@class lunad.exec_options: lunad.spawn_options
---@field input? string for its stdin
---@field max_output? integer bytes to keep of each stream (1 MiB)

---@class lunad.supervise_options: lunad.spawn_options
---@field count? integer (1)
---@field restart? "always"|"on-failure"|"never"
---@field backoff? number[] {first, most} in seconds ({0.1, 30})
---@field max_restarts? integer (5)
---@field within? number seconds (10)
---@field on_give_up? lunad.callable fn(supervisor, exit)
---@field ready? number|string seconds alive (0.5), "notify", or a pattern for a line of its output
---@field ready_timeout? number seconds (30)

---@class lunad.exit
---@field ok boolean it exited with 0
---@field code? integer its exit status
---@field signal? string that ended it
---@field core boolean it left a core dump
---@field seconds number that it ran
---@field timed_out boolean its timeout was over
---@field error? string in place of code: a supervised command could not even be started

---@class lunad.result: lunad.exit
---@field stdout string
---@field stderr string
---@field truncated boolean some output was dropped

---@class lunad.child
---@field pid integer
---@field name string
---@field adopted boolean an earlier generation started it
local child = {}

---Start a program.
---@param options lunad.spawn_options
---@return lunad.child? child
---@return string? err
---@return lunad.code? code
function lunad.spawn(options) end

---Run a command to its end. Suspends.
---@param options lunad.exec_options
---@return lunad.result? result
---@return string? err
---@return lunad.code? code
function lunad.exec(options) end

---Make an output function that calls `fn(line)`.
---@param fn lunad.callable
---@param max? integer bytes of a line (65536)
---@return fun(chunk: string?)
function lunad.by_line(fn, max) end

---@return boolean running whether it has not been reaped
function child:running() end

---Suspend until it has finished.
---@return lunad.exit
function child:wait() end

---Signal its process group.
---@param signal? lunad.signal_name (TERM)
---@return true? ok
---@return string? err
---@return lunad.code? code
function child:kill(signal) end

---Write to its stdin.
---@param data string
---@return true? ok
---@return string? err
---@return lunad.code? code
function child:write(data) end

---Suspend until all is written.
---@return true? ok
---@return string? err
---@return lunad.code? code
function child:flush() end

---Close its stdin when all is written.
function child:close_stdin() end

---Stop reading its output for now.
function child:pause() end

---Read its output again.
function child:resume() end

---@class lunad.supervisor
local supervisor = {}

---Keep commands running.
---@param options lunad.supervise_options
---@return lunad.supervisor? supervisor
---@return string? err
---@return lunad.code? code
function lunad.supervise(options) end

---End the children, and do not restart them.
function supervisor:stop() end

---Restart the children one after the other, each when the one before it is ready. Suspends.
---@return true? ok
---@return string? err which child is not ready, and why
function supervisor:restart() end

---@return lunad.child[] children that there are at the moment
function supervisor:children() end

-- Life

---Hand what `fn()` returns, plain data, to the next generation. `lunad reload --check` and --state call it
---too, after which this generation goes on; code that has failed its probation is asked by
---`fn("rollback")`. A later call replaces the function.
---@param fn lunad.callable
function lunad.on_reload(fn) end

---Call `fn(reason)` at the end of this generation: "stop", "reload" or "exit".
---@param fn lunad.callable
function lunad.on_stop(fn) end

---Call `fn(message, traceback)` for each uncaught error. A later call replaces the function.
---@param fn lunad.callable
function lunad.on_error(fn) end

---Ask for a reload.
function lunad.reload() end

---Ask for a graceful stop.
---@param status? integer exit status (0)
function lunad.stop(status) end

---Say that the script is ready (--wait-ready).
function lunad.ready() end

---Say how the service is doing.
---@param text string
function lunad.status(text) end

---@return table report what `lunad status --json` shows
function lunad.stats() end

-- Messages

---Call `fn(data, worker)` for each message about a topic, with the number of the worker that sent it. A
---later call replaces the function, nil takes it away.
---@param topic string of 1 to 255 bytes
---@param fn? lunad.callable
function lunad.on_message(topic, fn) end

---Send plain data to a worker, or to the generation that has replaced this one. Never waits.
---@param worker integer|"next"
---@param topic string
---@param data any
---@return true? sent
---@return string? error
---@return string? code "EAGAIN": the worker does not keep up
function lunad.send(worker, topic, data) end

---Send plain data to all other workers.
---@param topic string
---@param data any
---@return true? sent
---@return string? error
---@return string? code
function lunad.broadcast(topic, data) end

-- Sockets

---@class lunad.listen_options
---@field backlog? integer
---@field mode? string|integer of a Unix socket's file: octal text, or a number
---@field reuse_port? boolean

---Listen, with a socket that the host keeps over reloads.
---@param address string "127.0.0.1:8080", "[::1]:80", "unix:/path", "fd:NAME", "fd:3"
---@param options? lunad.listen_options
---@return integer? fd
---@return string? err
---@return lunad.code? code
function lunad.listen(address, options) end

-- Log

---@class lunad.log
lunad.log = {}

---@param message string
---@param fields? table<string, any>
function lunad.log.debug(message, fields) end

---@param message string
---@param fields? table<string, any>
function lunad.log.info(message, fields) end

---@param message string
---@param fields? table<string, any>
function lunad.log.warn(message, fields) end

---@param message string
---@param fields? table<string, any>
function lunad.log.error(message, fields) end

-- Metrics: see doc/metrics.md

---The value of a label.
---@alias lunad.metrics.value string|number|boolean

---@class lunad.metrics
lunad.metrics = {}

---@class lunad.metrics.counter
local counter = {}

---@class lunad.metrics.gauge
local gauge = {}

---@class lunad.metrics.histogram
local histogram = {}

---@class lunad.metrics.gauge_options
---@field read? fun(gauge: lunad.metrics.gauge): number? returns the value, or sets it, when it is asked for

---@class lunad.metrics.histogram_options
---@field buckets? number[] bounds, each larger than the one before

---Find or make a counter. It goes on over reloads.
---@param name string letters, digits, _ and :
---@param help string what it counts
---@param labels? string[] names, at most 8
---@return lunad.metrics.counter
function lunad.metrics.counter(name, help, labels) end

---Find or make a gauge. It goes on over reloads.
---@param name string letters, digits, _ and :
---@param help string what it shows
---@param labels? string[] names, at most 8
---@param options? lunad.metrics.gauge_options
---@return lunad.metrics.gauge
function lunad.metrics.gauge(name, help, labels, options) end

---Find or make a histogram. It goes on over reloads.
---@param name string letters, digits, _ and :
---@param help string what it shows
---@param labels? string[] names, at most 8
---@param options? lunad.metrics.histogram_options
---@return lunad.metrics.histogram
function lunad.metrics.histogram(name, help, labels, options) end

---Add 1, or an amount.
---@param ... number|lunad.metrics.value the amount, which may be left out, and a value for each label
---@return true? ok nil if there are too many series
---@return string? err
---@return lunad.code? code
function counter:inc(...) end

---Add an amount.
---@param amount number from 0 up
---@param ... lunad.metrics.value one for each label
---@return true? ok nil if there are too many series
---@return string? err
---@return lunad.code? code
function counter:add(amount, ...) end

---Forget a series.
---@param ... lunad.metrics.value one for each label
---@return boolean existed
function counter:remove(...) end

---@param value number
---@param ... lunad.metrics.value one for each label
---@return true? ok nil if there are too many series
---@return string? err
---@return lunad.code? code
function gauge:set(value, ...) end

---Add 1, or an amount.
---@param ... number|lunad.metrics.value the amount, which may be left out, and a value for each label
---@return true? ok nil if there are too many series
---@return string? err
---@return lunad.code? code
function gauge:inc(...) end

---Subtract 1, or an amount.
---@param ... number|lunad.metrics.value the amount, which may be left out, and a value for each label
---@return true? ok nil if there are too many series
---@return string? err
---@return lunad.code? code
function gauge:dec(...) end

---Forget a series.
---@param ... lunad.metrics.value one for each label
---@return boolean existed
function gauge:remove(...) end

---Count a value.
---@param value number
---@param ... lunad.metrics.value one for each label
---@return true? ok nil if there are too many series
---@return string? err
---@return lunad.code? code
function histogram:observe(value, ...) end

---Forget a series.
---@param ... lunad.metrics.value one for each label
---@return boolean existed
function histogram:remove(...) end

return lunad

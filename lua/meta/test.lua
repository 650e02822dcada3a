---@meta lunad.test

---What specs have that `lunad test` runs.
---@class lunad.test
local test = {}

---An answer of a faked command.
---@class lunad.test.answer
---@field stdout? string
---@field stderr? string
---@field code? integer default 0
---@field signal? string|integer it dies of this

---@alias lunad.test.handler fun(call: lunad.test.call): lunad.test.answer
---@alias lunad.test.rule lunad.test.answer|"open"|"real"|"missing"|lunad.test.handler
---@alias lunad.test.rules table<string, lunad.test.rule> by command, or its first words; "*" is any

---Options of `test.service`; those of `lunad start` too, by their long names with `_`.
---@class lunad.test.options
---@field args? any[]
---@field env? table<string, any>
---@field state? any plain data: `lunad.state` of the first generation
---@field fake? lunad.test.rules
---@field name? string
---@field [string] any

---Freeze the clock of the specs and their services.
---@param at? number the Unix time that it shows
---@return lunad.test.clock
function test.clock(at) end

---Run a script as a service; returns when it is ready, and raises if it does not become that.
---@param file string
---@param options? lunad.test.options
---@return lunad.test.service
function test.service(file, options) end

---Fake commands that the specs themselves run.
---@param rules lunad.test.rules
---@return lunad.test.fakes
function test.fake(rules) end

---Call `fn` until it returns a true value, for 10 s or `seconds`; then raise.
---@param fn fun(): ...
---@param seconds? number
---@return any ...
function test.eventually(fn, seconds) end

---@class lunad.test.clock
local clock = {}

---Move the clock, and call all that is due on the way.
---@param seconds number
function clock:advance(seconds) end

---@return number seconds as `lunad.now`
function clock:now() end

---@return number seconds Unix time
function clock:time() end

---Let the clock run again.
function clock:restore() end

---@class lunad.test.service
---@field name string
---@field pid integer
---@field fakes? lunad.test.fakes
local service = {}

---Run an expression or a statement in it, and return its results: plain data.
---@param chunk string
---@param ... any its arguments
---@return any ...
function service:eval(chunk, ...) end

---@return true? ok
---@return string? why it was refused
function service:reload() end

---@return lunad.exit
function service:stop() end

---Wait for its end by itself.
---@return lunad.exit
function service:wait() end

---@return boolean
function service:running() end

---@param name string|integer
---@return true?
---@return string? err
---@return string? code
function service:signal(name) end

---@return table report of `lunad status --json`
function service:status() end

---@return table[]
function service:timers() end

---@return table[]
function service:tasks() end

---@return table[]
function service:children() end

---@return table[]
function service:signals() end

---@param pattern? string a Lua pattern for messages
---@return { time: string, level: string, source: string, message: string, [string]: any }[]
function service:log(pattern) end

---@return string[] messages of uncaught errors since the last call
function service:errors() end

---Fake these commands of it from now on.
---@param rules lunad.test.rules
---@return lunad.test.fakes
function service:fake(rules) end

---@class lunad.test.fakes
local fakes = {}

---@param command? string a command, or its first words
---@return lunad.test.call[]
function fakes:calls(command) end

---The latest call that runs; waits for one.
---@param command string
---@return lunad.test.call
function fakes:child(command) end

---Forget the calls.
function fakes:clear() end

---Fake no more.
function fakes:restore() end

---A call of a faked command.
---@class lunad.test.call
---@field command string
---@field args string[]
---@field cwd string
---@field input string
local call = {}

---@return boolean
function call:running() end

---@param text string
function call:stdout(text) end

---@param text string
function call:stderr(text) end

---End it.
---@param how? integer|{ code: integer?, signal: string|integer? }
function call:exit(how) end

return test

---@meta lunad.net

---Sockets for tasks.
local net = {}

---A connection. A `<close>` variable.
---@class lunad.stream
local stream = {}

---What a client speaks TLS with.
---@class lunad.tls_client
---@field ca? string file with the certificates to trust, instead of the system's
---@field cert? string file with the client's own certificate (PEM)
---@field key? string file with its key (PEM)
---@field password? string of the key
---@field server_name? string the name to ask for and to check, instead of that of the address
---@field verify? boolean false: any certificate is good (default true)

---What a server speaks TLS with.
---@class lunad.tls_server
---@field cert string file with its certificate (PEM)
---@field key string file with its key (PEM)
---@field password? string of the key
---@field ca? string file with certificates: clients must have one that they vouch for
---@field names? table<string, { cert: string, key: string }> certificates for names that a client asks for

---@class lunad.connect_options
---@field timeout? number seconds for all of it
---@field tls? boolean|lunad.tls_client

---Connect. Suspends.
---@param address string `"host:port"`, `"[::1]:port"` or `"unix:/path"`
---@param options? lunad.connect_options
---@return lunad.stream? stream
---@return string? err
---@return string? code `"ECONNREFUSED"`, `"ETIMEDOUT"`, `"EAI_NONAME"`, `"EPROTO"` (TLS), …
function net.connect(address, options) end

---@class lunad.serve_options
---@field max? integer clients that are served at a time; more wait in the queue (default: no limit)
---@field idle? number seconds after which a read or write that goes nowhere fails (default: no limit)
---@field tls? lunad.tls_server
---@field backlog? integer as for lunad.listen
---@field mode? string|integer as for lunad.listen
---@field reuse_port? boolean as for lunad.listen

---Call `fn(stream)` in a task for each client; the stream is closed at its end.
---@param address string as for lunad.listen
---@param fn fun(stream: lunad.stream)
---@param options? lunad.serve_options
---@return lunad.server? server
---@return string? err
---@return string? code
function net.serve(address, fn, options) end

---The connection that the generation before has handed on under this key.
---@param key string
---@return lunad.stream? stream
function net.taken(key) end

---@class lunad.server
local server = {}

---Where it listens.
---@return string address
function server:address() end

---How many clients are being served.
---@return integer count
function server:clients() end

---Take no more clients. Twice does nothing.
function server:close() end

---Read: what there is, `n` bytes, a line without its newline, or everything to the end. Suspends.
---@param what? integer|"line"|"all"
---@param timeout? number seconds
---@return string? data nil at the end
---@return string? err
---@return string? code `"ETIMEDOUT"`, `"ECONNRESET"`, `"EMSGSIZE"` (a line of more than 65536 bytes), …
function stream:read(what, timeout) end

---Iterate over the lines; an error is raised.
---@return fun(stream: lunad.stream): string?
---@return lunad.stream stream
function stream:lines() end

---Write strings and numbers. Suspends while the other side is slow.
---@param ... string|number
---@return true? ok
---@return string? err
---@return string? code `"EPIPE"`, `"ETIMEDOUT"`, …
function stream:write(...) end

---Send nothing more: the other side reads the end. Not with TLS. Suspends.
---@return true? ok
---@return string? err
---@return string? code
function stream:shutdown() end

---Close it. Twice does nothing.
function stream:close() end

---The address of the other side.
---@return string address
function stream:peer() end

---Let the connection continue in the next generation, which gets it by net.taken.
---@param key string of 1 to 1000 bytes
---@return true? ok
---@return string? err
---@return string? code `"ENOTSUP"` with TLS, `"EEXIST"`, …
function stream:hand_on(key) end

return net

---@meta lunad.http

---HTTP for tasks.
local http = {}

---A request, as the function of `http.serve` gets it.
---@class lunad.request
---@field method string
---@field target string what is asked for, as it came
---@field path string of the target, decoded, without `.` and `..`
---@field query table<string, string> the first value of each name, decoded
---@field headers table<string, string> by name in lower case
---@field body? string nil with the option `stream`
---@field peer string address of the client
---@field version "1.1"|"1.0"
local request = {}

---With the option `stream`: the next piece of the body. Suspends.
---@param what? integer|"all" bytes at most (65536), or all of the rest
---@return string? data nil at the end
---@return string? err
---@return lunad.code? code
function request:read(what) end

---@alias lunad.http_write fun(...: string|number): true?, string?, lunad.code?
---@alias lunad.http_fields table<string, string|number|(string|number)[]>
---@alias lunad.http_body string|number|fun(write: lunad.http_write)|nil

---@class lunad.http_serve_options
---@field max? integer clients that may be connected (10000)
---@field idle? number seconds without a request (60)
---@field head_timeout? number seconds for a head (10)
---@field body_timeout? number seconds to wait for a body, and another one for each 1000 bytes (30)
---@field write_timeout? number seconds in which a client reads nothing (30)
---@field max_head? integer bytes of a head (16384)
---@field max_body? integer bytes of a body (1048576)
---@field stream? boolean the function reads the body itself
---@field tls? lunad.tls_server serve HTTPS
---@field backlog? integer as for lunad.listen
---@field mode? string|integer as for lunad.listen
---@field reuse_port? boolean as for lunad.listen

---@class lunad.http_server
local server = {}

---Answer requests with what `fn(request)` returns: status, body, fields of the head.
---@param address string as for lunad.listen
---@param fn fun(request: lunad.request): integer, lunad.http_body, lunad.http_fields?
---@param options? lunad.http_serve_options
---@return lunad.http_server? server
---@return string? err
---@return lunad.code? code
function http.serve(address, fn, options) end

---Take no more clients; those that are connected get their answers.
function server:close() end

---@return string address where it listens
function server:address() end

---@return integer count of clients that are connected
function server:clients() end

---@class lunad.http_request_options
---@field url string
---@field method? string (GET, or POST with a body)
---@field headers? lunad.http_fields
---@field body? string|number
---@field timeout? number seconds for all of it (30)
---@field max_body? integer bytes of the response (16 MiB)
---@field redirects? integer that are followed (10)
---@field tls? lunad.tls_client

---@class lunad.response
---@field status integer
---@field reason string
---@field headers table<string, string> by name in lower case
---@field body string
---@field url string what was asked at last
---@field version "1.1"|"1.0"

---Ask a server. Suspends.
---@param options string|lunad.http_request_options a URL, or options
---@return lunad.response? response
---@return string? err
---@return lunad.code? code
function http.request(options) end

---Take a query or a form apart: the first value of each name.
---@param text string
---@return table<string, string> query
function http.parse_query(text) end

---Encode a text for a query or a path.
---@param text string
---@return string text
function http.encode(text) end

return http

-- require "lunad.exporter": an HTTP server with the metrics of the daemons of a run directory, and a page
-- that shows them to people. It only reads. Its clients are not trusted, and neither is what daemons answer.

local core, lunad = ...

local http = require "lunad.http"
local net = require "lunad.net"
local uv = require "luv"

local render = core.load "openmetrics.lua"

local TIMEOUT = 2 -- seconds that a daemon has for its answer
local SCRIPT_SECONDS = 1 -- of them, its script
local SILENT_SECONDS = 0.1 -- the same for one that did not answer the last time
local FRESH = 0.25 -- seconds that answers are shown again to others who ask
local ANSWER_MAX = 16 << 20

local OPTIONS = {
  run_dir = "string", names = "table", hosts = "table", timeout = "number", tls = "table",
}

local exporter = {}

-- Addresses

-- Complete an address: a port alone is one of this machine.
local function complete(address)
  if type(address) == "number" then
    address = ("%d"):format(address)
  end
  if type(address) ~= "string" then
    core.raise(("bad argument #1 to 'serve' (an address or a port expected, got %s)"):format(type(address)))
  end
  local port = address:match "^:?(%d+)$"
  return port and "127.0.0.1:" .. port or address
end

-- The host in the field Host, in lower case and without its port.
local function host_of(field)
  return field:lower():match "^(%[[%x:.]+%])$" or field:lower():match "^(%[[%x:.]+%]):%d+$" or
    field:lower():match "^([%w.-]+)$" or field:lower():match "^([%w.-]+):%d+$"
end

-- Whether a request was meant for this server. A foreign page can have a browser ask us under a name of its
-- own (DNS rebinding), but not under an address, or a name that is known to be ours.
local function is_for_us(state, request)
  local field = request.headers.host
  if not field or state.is_unix then
    return state.is_unix or request.version == "1.0"
  end
  local host = host_of(field)
  return host ~= nil and (host:find "^%[" or host:find "^%d+%.%d+%.%d+%.%d+$" or state.hosts[host]) ~= nil
end

-- Daemons

local Descriptor = {}
function Descriptor.__close(descriptor)
  uv.fs_close(descriptor.fd)
end

-- Read a line that is a JSON object.
local function read_answer(stream)
  local parts, size = {}, 0
  repeat
    local part, err = stream:read()
    if not part then
      return nil, err or "it ended before it had answered"
    end
    parts[#parts + 1], size = part, size + #part
    if size > ANSWER_MAX then
      return nil, "its answer has no end"
    end
  until part:find("\n", 1, true)
  local line = table.concat(parts):match "^[^\n]*"
  local answer = core.decode_json(line)
  if not answer then
    return nil, "it does not answer as a lunad does"
  elseif answer.ok ~= true then
    return nil, type(answer.error) == "string" and answer.error or "it refused, and did not say why"
  end
  return { answer = answer, line = line }
end

-- Ask a daemon: { answer, line } | nil, why. Whoever listens must be of the user whose directory this is:
-- else a name could be put there that leads to another one's socket.
local function ask(dir, name)
  local stream <close>, err = net.connect(("unix:/proc/self/fd/%d/%s.sock"):format(dir.fd, name))
  if not stream then
    return nil, err
  end
  local uid = core.peer_uid(stream.handle:fileno())
  if dir.uid ~= 0 and uid ~= dir.uid then
    return nil, "its control socket is not of the user whose run directory this is"
  end
  local ok, err_write = stream:write(('{"verb":"metrics","timeout":%g}\n'):format(SCRIPT_SECONDS))
  if not ok then
    return nil, err_write
  end
  return read_answer(stream)
end

-- Ask a daemon with a time limit, and note what came of it.
local function look(state, dir, record)
  local result, err = lunad.timeout(state.timeout, ask, dir, record.name)
  local is_late = not result and err:find "^ETIMEDOUT: " ~= nil
  record.answer, record.line = result and result.answer, result and result.line
  record.error = not result and (is_late and "it does not answer" or err) or nil
  record.is_silent, record.is_asked = is_late, false
end

-- The names of the daemons of a directory, sorted.
local function list_names(dir)
  local names = {}
  local scan = uv.fs_scandir(("/proc/self/fd/%d"):format(dir.fd))
  for file in function() return scan and (uv.fs_scandir_next(scan)) end do
    names[#names + 1] = file:match "^(.+)%.pid$"
  end
  table.sort(names)
  return names
end

-- Begin to ask a daemon, unless it is being asked still.
local function begin(state, dir, record, life)
  if life ~= "alive" then
    record.answer, record.line, record.is_silent = nil, nil, false
    record.error = life == "dead" and "it has died" or "it is not running"
  elseif not record.is_asked then
    record.patience = record.is_silent and SILENT_SECONDS or state.timeout + SILENT_SECONDS
    record.is_asked = true
    record.task = core.task(look, state, dir, record)
  end
end

-- Begin to ask all daemons that run; those that have died are listed too. Returns their records. Each
-- connects at once, so the descriptor of the directory is not needed any longer then.
local function begin_all(state)
  local fd, uid = core.open_run_dir(state.run_dir)
  if not fd then
    return nil, uid
  end
  local dir <close> = setmetatable({ fd = fd, uid = uid }, Descriptor)
  local records, list = {}, {}
  for _, name in ipairs(state.names or list_names(dir)) do
    local life, worker = core.inspect_daemon(fd, name)
    if (life or state.names) and not records[name] then
      local record = state.records[name] or { name = name }
      record.worker = worker
      records[name], list[#list + 1] = record, record
      begin(state, dir, record, life)
    end
  end
  state.records = records
  return list
end

-- Ask all daemons at the same time. One that is stuck has others wait for it once, and not again until it
-- answers: in the meantime it is asked in the background.
local function collect(state)
  local begun = core.now()
  local list, err = begin_all(state)
  for _, record in ipairs(list or {}) do
    if record.is_asked then
      record.task:wait(math.max(0, begun + record.patience - core.now()))
    end
  end
  state.list, state.error, state.collected = list, err, core.now()
end

-- The records of all daemons; clients that come at about the same time share one look at them.
local function gather(state)
  if not state.collected or core.now() - state.collected > FRESH then
    if not (state.collecting and state.collecting:running()) then
      state.collecting = core.task(collect, state)
    end
    state.collecting:wait()
  end
  return state.list, state.error
end

-- Answers

local COMMON = {
  ["Cache-Control"] = "no-store",
  ["X-Content-Type-Options"] = "nosniff",
  ["X-Frame-Options"] = "DENY",
  ["Referrer-Policy"] = "no-referrer",
  ["Cross-Origin-Resource-Policy"] = "same-origin",
  ["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'",
}

local function reply(status, kind, body, more)
  local headers = { ["Content-Type"] = kind }
  for name, value in pairs(COMMON) do
    headers[name] = value
  end
  for name, value in pairs(more or {}) do
    headers[name] = value
  end
  return status, body, headers
end

local function refuse(status, words, more)
  return reply(status, "text/plain; charset=utf-8", words .. "\n", more)
end

-- How much a client wants a media type, from 0 to 1; of its ranges the one that is named decides.
local function quality(accept, kind)
  local best = 0
  for range in accept:lower():gmatch "[^,]+" do
    local name = range:match "^%s*([^;%s]+)"
    if name == kind then
      best = math.max(best, tonumber(range:match ";%s*q=([%d.]+)") or 1)
    end
  end
  return best
end

-- Whether a client gets OpenMetrics: all but those that would rather have the older format, and browsers, as
-- they would not show it.
local function wants_openmetrics(request)
  local accept = request.headers.accept or ""
  local older = math.max(quality(accept, "text/plain"), quality(accept, "text/html"))
  return quality(accept, "application/openmetrics-text") >= older
end

local function serve_metrics(state, request)
  local list, err = gather(state)
  if not list then
    return refuse(503, err)
  end
  local is_openmetrics = wants_openmetrics(request)
  local text = render(list, is_openmetrics)
  return reply(200, is_openmetrics and "application/openmetrics-text; version=1.0.0; charset=utf-8" or
    "text/plain; version=0.0.4; charset=utf-8", text, { Vary = "Accept" })
end

-- A text as a string of JSON.
local function quote(text)
  return '"' .. text:gsub(utf8.len(text) and '[%c"\\]' or '[%c"\\\127-\255]', function(byte)
    return ("\\u%04x"):format(byte:byte())
  end) .. '"'
end

-- What each daemon has answered, as it came: it is JSON, as it was read.
local function serve_status(state)
  local list, err = gather(state)
  if not list then
    return refuse(503, err)
  end
  local parts = {}
  local seconds, microseconds = uv.gettimeofday()
  for i, record in ipairs(list) do
    parts[i] = ('{"name":%s,"up":%s,"error":%s,"answer":%s}'):format(quote(record.name),
      tostring(record.answer ~= nil), record.error and quote(record.error) or "null", record.line or "null")
  end
  return reply(200, "application/json", ('{"time":%.3f,"daemons":[%s]}\n'):format(
    seconds + microseconds / 1e6, table.concat(parts, ",")))
end

-- The page. Only what stands in it is run, and it may only ask us.
local function serve_page()
  local nonce = uv.random(16):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end)
  return reply(200, "text/html; charset=utf-8", (core.text("exporter.html"):gsub("@NONCE@", nonce)), {
    ["Content-Security-Policy"] = ("default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; " ..
      "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"):format(nonce, nonce),
  })
end

local PATHS = { ["/"] = serve_page, ["/metrics"] = serve_metrics, ["/status.json"] = serve_status }

local function respond(state, request)
  local serve = PATHS[request.path]
  if not is_for_us(state, request) then
    return refuse(421, "This exporter is not known by that name: ask for its address, or name it in `hosts`.")
  elseif not serve then
    return refuse(404, "There are /, /metrics and /status.json here.")
  elseif request.method ~= "GET" and request.method ~= "HEAD" then
    return refuse(405, "It can only be read.", { Allow = "GET, HEAD" })
  end
  return serve(state, request)
end

-- Options

-- Check a list of strings that match.
local function check_list(list, option, pattern)
  for i = 1, list and #list or 0 do
    if type(list[i]) ~= "string" or not list[i]:find(pattern) then
      core.raise(("serve: option '%s': '%s' is not a name"):format(option, tostring(list[i])))
    end
  end
  return list
end

local function check_options(options)
  if options ~= nil and type(options) ~= "table" then
    core.raise(("bad argument #2 to 'serve' (table expected, got %s)"):format(type(options)))
  end
  for key, value in pairs(options or {}) do
    if not OPTIONS[key] then
      core.raise(("serve: unknown option '%s'"):format(tostring(key)))
    elseif type(value) ~= OPTIONS[key] then
      core.raise(("serve: option '%s': %s expected, got %s"):format(key, OPTIONS[key], type(value)))
    end
  end
  local timeout = options and options.timeout or TIMEOUT
  if not (timeout > 0 and timeout <= 60) then
    core.raise "serve: option 'timeout': seconds up to 60 expected"
  end
  return options or {}, timeout
end

-- exporter.serve(address [, options]) -> server | nil, error, code
function exporter.serve(address, options)
  local timeout
  address = complete(address)
  options, timeout = check_options(options)
  local state = {
    run_dir = options.run_dir, names = check_list(options.names, "names", "^[%w._-]+$"), timeout = timeout,
    hosts = { localhost = true, [uv.os_gethostname():lower()] = true }, records = {},
    is_unix = address:find "^unix:" ~= nil,
  }
  for _, host in ipairs(check_list(options.hosts, "hosts", "^[%w.-]+$") or {}) do
    state.hosts[host:lower()] = true
  end
  return http.serve(address, function(request) return respond(state, request) end, {
    max = 200, idle = 30, max_body = 65536, tls = options.tls,
  })
end

-- For `lunad metrics --listen`: serve until the end, or say why not.
function exporter.main(run_dir, address, ...)
  local names = select("#", ...) > 0 and { ... } or nil
  local server, err = exporter.serve(address, { run_dir = run_dir, names = names })
  if not server then
    io.stderr:write(("lunad: metrics: %s\n"):format(err))
    os.exit(1)
  end
  address = server:address()
  print(address:find "^unix:" and address or ("http://%s/"):format(address))
end

return exporter

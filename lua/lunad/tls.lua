-- TLS for the streams of lunad.net, by LuaSec. Its connection has a descriptor of its own for the socket, and
-- never blocks: a task waits until the socket is ready and asks again.

local core = ...

local uv = require "luv"
local streams = core.load "stream.lua"
local new_queue = core.load "queue.lua"

local CHUNK = 8192 -- bytes that LuaSec is asked for at a time
local ALT_NAMES = "2.5.29.17" -- the extension that has a certificate's names
local CERTIFICATES = "/etc/ssl/certs"
local LINGER = 5 -- seconds that a closed stream may need to send what was written

local is_there, ssl = pcall(require, "ssl")

local client_types = {
  ca = "string", cert = "string", key = "string", password = "string", verify = "boolean",
  server_name = "string",
}
local server_types = { ca = "string", cert = "string", key = "string", password = "string", names = "table" }
local name_types = { cert = "string", key = "string", password = "string" }

local contexts = setmetatable({}, { __mode = "k" }) -- of clients, by their options
local default = {} -- the options of a client that gives none

local function missing()
  return nil, "ENOTSUP: operation not supported on socket: TLS needs LuaSec (Debian: lua-sec)", "ENOTSUP"
end

-- What LuaSec says of an error, as nil, error, code.
local function fail(err, detail)
  return nil, ("EPROTO: protocol error: TLS with %s: %s"):format(detail, err), "EPROTO"
end

local function check_table(options, types, place)
  for key, value in pairs(options) do
    if not types[key] then
      local word = tostring(key)
      core.raise(("%s: unknown option '%s'%s"):format(place, word, core.suggest(word, types)))
    elseif type(value) ~= types[key] then
      core.raise(("%s: option '%s': %s expected, got %s"):format(place, key, types[key], type(value)))
    end
  end
end

-- Check the options of a server, or of one of its names.
local function check_server_table(options, types, place)
  check_table(options, types, place)
  if not options.cert or not options.key then
    core.raise(place .. ": the options 'cert' and 'key', files in PEM format, are needed")
  end
end

-- Whether the files can be read, of which LuaSec would not say what is wrong: true, or nil, error, code.
local function check_files(options)
  for _, key in ipairs { "cert", "key", "ca" } do
    if options[key] then
      local fd, err, code = uv.fs_open(options[key], "r", 0)
      if not fd then
        return nil, err, code
      end
      uv.fs_close(fd)
    end
  end
  return true
end

-- Make a context of LuaSec.
local function new_context(mode, options)
  local ok, message, code = check_files(options)
  if not ok then
    return nil, message, code
  end
  local verifies = options.verify ~= false and (mode == "client" or options.ca)
  local context, err = ssl.newcontext {
    mode = mode, protocol = "any", options = { "all", "no_sslv2", "no_sslv3", "no_tlsv1", "no_tlsv1_1" },
    certificate = options.cert, key = options.key, password = options.password or "",
    cafile = options.ca or mode == "client" and os.getenv "SSL_CERT_FILE" or nil,
    capath = mode == "client" and not options.ca and (os.getenv "SSL_CERT_DIR" or CERTIFICATES) or nil,
    verify = verifies and { "peer", "fail_if_no_peer_cert" } or "none",
  }
  if not context then
    return nil, ("EINVAL: invalid argument: TLS: %s"):format(err), "EINVAL"
  end
  return context
end

-- The context for the options of a client.
local function client_context(options)
  options = options == true and default or options
  local err, code
  if not contexts[options] then
    check_table(options, client_types, "tls")
    contexts[options], err, code = new_context("client", options)
  end
  return contexts[options], err, code
end

-- Check the options of a client, before it connects: true, or nil, error, code.
local function check(options)
  if not is_there then
    return missing()
  end
  local context, err, code = client_context(options)
  return context and true, err, code
end

-- The context for the options of a server, with those for its other names.
local function server_context(options)
  if not is_there then
    return missing()
  end
  check_server_table(options, server_types, "tls")
  for name, other in pairs(options.names or {}) do
    if type(name) ~= "string" or type(other) ~= "table" then
      core.raise "tls: option 'names': a table of names and tables expected"
    end
    check_server_table(other, name_types, ("tls: option 'names': %s"):format(name))
  end
  local context, err, code = new_context("server", options)
  if not context then
    return nil, err, code
  end
  local names
  for name, other in pairs(options.names or {}) do
    names = names or {}
    names[name], err, code = new_context("server", {
      cert = other.cert, key = other.key, password = other.password, ca = options.ca,
    })
    if not names[name] then
      return nil, err, code
    end
  end
  return { main = context, names = names }
end

-- Whether a name of a certificate, which may begin with "*.", stands for a host.
local function matches(pattern, host)
  pattern, host = pattern:lower():gsub("%.$", ""), host:lower():gsub("%.$", "")
  if pattern:sub(1, 2) ~= "*." then
    return pattern == host
  end
  local domain = host:match "^[^.]+(%..+)$"
  return domain == pattern:sub(2) and pattern:find("%.", 3) ~= nil
end

-- Whether a certificate is for a host. Only its list of names counts, as RFC 9110 has it.
local function is_for(certificate, host, is_address)
  local names = certificate:extensions()[ALT_NAMES] or {}
  for _, name in ipairs(names[is_address and "iPAddress" or "dNSName"] or {}) do
    if is_address and name == host or not is_address and matches(name, host) then
      return true
    end
  end
  return false
end

-- Wait until the socket is ready: true, or nil, error, code.
local function wait(stream, mode, deadline)
  local ready, message, code = core.wait_fd(stream.tls_fd, mode, streams.time_left(deadline))
  if ready or code ~= "EBADF" then
    return ready and true, message, code
  end
  return streams.fail("ECANCELED", "the stream was closed meanwhile")
end

-- What LuaSec says when it has to wait for the socket.
local waits = { wantread = "r", wantwrite = "w", timeout = "r" }

-- Remember that nothing follows, and why. LuaSec must not be asked again after an error: it might never
-- return.
local function end_stream(stream, err)
  stream.tls_error = err
end

-- Why nothing more comes, or can be sent: nil, or nil, error, code.
local function explain_end(stream)
  if stream.tls_error == "closed" then
    return nil
  end
  return fail(stream.tls_error, stream:peer())
end

-- Take what LuaSec has into the buffer: true; false if it has nothing yet, and what it waits for; nil when
-- nothing follows.
local function receive(stream)
  if stream.tls_error then
    return nil
  end
  local data, err, part = stream.tls:receive(CHUNK)
  data = data or part or ""
  if err and not waits[err] then
    end_stream(stream, err)
  end
  if data ~= "" then
    stream.buffer = stream.buffer .. data
    return true
  elseif stream.tls_error then
    return nil
  end
  return false, err
end

-- Read into the buffer; see fill of stream.lua.
local function fill(stream, seconds)
  seconds = seconds or stream.idle
  local deadline = seconds and core.now() + seconds
  local reader <close> = streams.reader_of(stream) -- luacheck: ignore 211
  stream.waiter = function() end
  while true do
    local has_more, err = receive(stream)
    if has_more then
      return true
    elseif has_more == nil then
      return explain_end(stream)
    end
    local ok, message, code = wait(stream, waits[err], deadline)
    if code == "ETIMEDOUT" then
      return core.timed_out(("%s has sent nothing for %.3g s"):format(stream:peer(), seconds))
    elseif not ok then
      return nil, message, code
    end
  end
end

-- A stream whose writing was given up in the middle of a record is closed.
local Writing = {}
function Writing.__close(writing)
  local stream = writing.stream
  if not writing.is_over then
    stream:close()
  end
  stream.is_writing = false
  if not stream.writers:is_empty() then
    stream.writers:answer(true)
  end
end

-- Write a string that no other task writes beside.
local function send_alone(stream, data)
  local at = 1
  while at <= #data do
    if stream.tls_error then
      return streams.fail("EPIPE", stream:peer())
    end
    local last, err, part = stream.tls:send(data, at)
    at = (last or part or at - 1) + 1
    if not last then
      if not waits[err] then
        end_stream(stream, err)
        return streams.fail("EPIPE", stream:peer())
      end
      local mode = err == "timeout" and "w" or waits[err]
      local ok, message, code = wait(stream, mode, stream.idle and core.now() + stream.idle)
      if not ok then
        return nil, message, code
      end
    end
  end
  return true
end

-- Write a string; see write of stream.lua.
local function send(stream, data)
  while stream.is_writing do
    stream.writers:wait(nil, nil, function() end)
    if stream.closed then
      return streams.fail("ECANCELED", "the stream was closed meanwhile")
    end
  end
  stream.is_writing = true
  local writing <close> = setmetatable({ stream = stream }, Writing)
  local ok, err, code = send_alone(stream, data)
  writing.is_over = ok or code == "EPIPE" or stream.closed
  return ok, err, code
end

-- Say the end and close the socket. LuaSec would hold the loop to say it to a client that takes nothing.
local function say_end(stream)
  if stream.tls_error or not core.takes_data(stream.tls_fd) then
    core.shut_socket(stream.tls_fd)
  end
  stream.tls:close()
  stream.handle:close()
end

-- Say the end when the other side has taken what was written before.
local function linger(stream)
  local _ <close> = setmetatable({}, { __close = function() say_end(stream) end })
  core.wait_fd(stream.tls_fd, "w", LINGER)
end

-- Close the stream.
local function finish(stream)
  core.end_waits(stream.tls_fd)
  if stream.is_writing then
    end_stream(stream, "closed")
  end
  if stream.tls_error or core.takes_data(stream.tls_fd) or core.is_over() == "stopping" then
    say_end(stream)
  else
    core.task(linger, stream)
  end
end

-- Put TLS on a stream, which has not been read: true, or nil, error, code.
local function wrap(stream, context)
  local fd, err, code = core.dup_socket(stream.handle:fileno())
  if not fd then
    return nil, err, code
  end
  local wrap_fd = core.luasec_wrap or ssl.wrap -- lunad.socket replaces it for scripts
  local tls, message = wrap_fd({ getfd = function() return fd end, setfd = function() end }, context)
  if not tls then
    return fail(message, stream:peer())
  end
  tls:settimeout(0)
  stream.tls, stream.tls_fd, stream.writers = tls, fd, new_queue()
  stream.fill, stream.send, stream.finish = fill, send, finish
  return true
end

-- Agree on keys with the other side: true, or nil, error, code.
local function shake_hands(stream, deadline)
  while true do
    local ok, err = stream.tls:dohandshake()
    if ok then
      return true
    elseif not waits[err] then
      end_stream(stream, err)
      return fail(err == "closed" and "the other side has closed the connection" or err, stream:peer())
    end
    local ready, message, code = wait(stream, waits[err], deadline)
    if not ready then
      return nil, message, code
    end
  end
end

-- Check who the other side is.
local function check_server(stream, host, is_address)
  local certificate = stream.tls:getpeercertificate()
  if not certificate or not is_for(certificate, host, is_address) then
    return fail(("its certificate is not for %s"):format(host), stream:peer())
  end
  return true
end

-- The side of a client: the stream, or nil, error, code, and the stream is closed.
local function connect(stream, address, options)
  local unfinished <close> = setmetatable({ stream = stream }, { __close = function(unfinished)
    if unfinished.stream then
      unfinished.stream:close()
    end
  end })
  local name = options ~= true and options.server_name
  local host = name or address.host
  local is_address = host and (host:find(":", 1, true) or host:find "^%d+%.%d+%.%d+%.%d+$") and true or false
  local ok, err, code = wrap(stream, client_context(options))
  if ok and host and not is_address then
    stream.tls:sni(host)
  end
  if ok then
    ok, err, code = shake_hands(stream)
  end
  if ok and (options == true or options.verify ~= false) then
    if host then
      ok, err, code = check_server(stream, host, is_address)
    else
      ok, err, code = fail("there is no host name to check: set 'server_name'", address.text)
    end
  end
  if not ok then
    return nil, err, code
  end
  unfinished.stream = nil
  return stream
end

-- The side of a server: true, or nil, error, code.
local function accept(stream, context, seconds)
  local ok, err, code = wrap(stream, context.main)
  if not ok then
    return nil, err, code
  end
  if context.names then
    stream.tls:sni(context.names, false)
  end
  return shake_hands(stream, core.now() + seconds)
end

return { check = check, server_context = server_context, connect = connect, accept = accept }

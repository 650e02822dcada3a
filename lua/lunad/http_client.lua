-- http.request: ask an HTTP server, and follow where it points to.

local core = ...

local head = core.load "http_head.lua"
local new_body = core.load "http_body.lua"
local pool = core.load "http_pool.lua"
local streams = core.load "stream.lua"
local urls = core.load "http_url.lua"
local writing = core.load "http_write.lua"

local TIMEOUT = 30 -- seconds for all of a request
local MAX_BODY = 16 * 1024 * 1024
local MAX_HEAD = 65536
local MAX_INTERIM = 20 -- responses of 1xx before the one that counts
local REDIRECTS = 10

local OPTIONS = {
  url = "string", method = "string", headers = "table", body = "string or number", timeout = "number",
  max_body = "number", redirects = "number", tls = "table",
}

-- Methods that may be sent again if it is not known whether they have arrived.
local IDEMPOTENT = { GET = true, HEAD = true, OPTIONS = true, TRACE = true, PUT = true, DELETE = true }

-- Fields that are for one server alone, and those that describe a body.
local SECRETS = { authorization = true, cookie = true, ["proxy-authorization"] = true, host = true }
local OF_BODY = { ["content-type"] = true, ["content-encoding"] = true, ["content-language"] = true,
  ["content-location"] = true }

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

-- A text in base64.
local function base64(text)
  local padding = (3 - #text % 3) % 3
  local coded = (text .. ("\0"):rep(padding)):gsub("...", function(three)
    local a, b, c = three:byte(1, 3)
    local bits = a << 16 | b << 8 | c
    local out = ""
    for shift = 18, 0, -6 do
      local i = (bits >> shift & 63) + 1
      out = out .. DIGITS:sub(i, i)
    end
    return out
  end)
  return coded:sub(1, #coded - padding) .. ("="):rep(padding)
end

local function protocol_error(words, url)
  return nil, ("EPROTO: protocol error: %s: %s"):format(url.text, words), "EPROTO"
end

-- Arguments

-- Take a number from the options.
local function number(options, name, default)
  local value = options[name]
  if value == nil then
    return default
  elseif value < 0 or value ~= value then
    core.raise(("request: option '%s': a number from 0 expected"):format(name))
  end
  return value
end

-- Check the fields that the script has given; returns a list of { name in lower case, line }.
local function read_fields(fields)
  local list = {}
  for name, values in pairs(fields) do
    for _, value in ipairs(type(values) == "table" and values or { values }) do
      local line, words = writing.format_fields({ [name] = value }, function() return false end)
      local key = line and name:lower()
      if not line then
        core.raise("request: option 'headers': " .. words)
      elseif key == "content-length" or key == "transfer-encoding" or key == "expect" then
        core.raise(("request: option 'headers': the field '%s' is set by http.request alone"):format(name))
      end
      list[#list + 1] = { key, line, value = tostring(value) }
    end
  end
  return list
end

-- Check the arguments; returns what is to be done: { url, method, fields, body, … }.
local function read_options(options)
  if type(options) == "string" then
    options = { url = options }
  end
  options = core.net.check_options(options, OPTIONS, 1, "request")
  if not options.url then
    core.raise "request: option 'url': string expected, got nil"
  end
  local url, words = urls.parse(options.url)
  if not url then
    core.raise(("request: '%s' is not a URL: %s"):format(writing.show(options.url), words))
  end
  local body = options.body and tostring(options.body)
  local method = options.method or body and "POST" or "GET"
  if not head.is_name(method) or method == "CONNECT" then
    core.raise(("request: option 'method': '%s' cannot be asked for"):format(writing.show(method)))
  end
  return {
    url = url, method = method, body = body, fields = read_fields(options.headers or {}),
    timeout = options.timeout or TIMEOUT, max_body = number(options, "max_body", MAX_BODY),
    redirects = number(options, "redirects", REDIRECTS), tls = options.tls,
  }
end

-- One exchange

-- The lines of the fields, and whether one of some name was given by the script.
local function format_fields(job)
  local lines, given = {}, {}
  for i, field in ipairs(job.fields) do
    lines[i], given[field[1]] = field[2], true
  end
  return table.concat(lines), given
end

-- The whole of a request.
local function format_request(job)
  local url = job.url
  local lines, given = format_fields(job)
  local parts = { job.method, " ", url.target, " HTTP/1.1\r\n" }
  local function add(key, line)
    if not given[key] then
      parts[#parts + 1] = line
    end
  end
  add("host", "Host: " .. url.name .. "\r\n")
  add("user-agent", "User-Agent: lunad\r\n")
  add("accept", "Accept: */*\r\n")
  if url.user then
    add("authorization", "Authorization: Basic " .. base64(url.user) .. "\r\n")
  end
  if job.body or job.method == "POST" or job.method == "PUT" or job.method == "PATCH" then
    parts[#parts + 1] = ("Content-Length: %d\r\n"):format(#(job.body or ""))
  end
  parts[#parts + 1] = lines .. "\r\n" .. (job.body or "")
  return table.concat(parts)
end

-- Read a head; returns it, how its body ends and whether the connection continues, or nil, words, code.
local function read_head(stream, url)
  local searched = 1
  while true do
    local stop, from, status, words = head.find_end(stream.buffer, 1, searched, MAX_HEAD)
    if stop then
      local response, length, is_kept = head.parse_response(stream.buffer, 1, stop)
      if not response then
        return protocol_error(is_kept, url)
      end
      streams.take(stream, stop + 1)
      stream.is_silent = false
      return response, length, is_kept
    elseif status then
      return protocol_error(words, url)
    end
    searched = from
    local ok, err, code = streams.fill(stream)
    if not ok then
      return nil, err or "EPIPE: broken pipe: " .. url.text .. ": the connection ended before the response",
        code or "EPIPE"
    end
  end
end

-- Read the response that counts.
local function read_last_head(stream, url)
  for _ = 1, MAX_INTERIM do
    local response, length, is_kept = read_head(stream, url)
    if not response or response.status >= 200 then
      return response, length, is_kept
    elseif response.status == 101 then
      break
    end
  end
  return protocol_error("the server does not answer the request", url)
end

-- Whether a response has no body, whatever its fields say.
local function is_bodiless(job, status)
  return job.method == "HEAD" or status == 204 or status == 304
end

-- Read a response; returns it and whether the connection can be kept, or nil, words, code.
local function read_response(job, stream)
  local response, length, is_kept = read_last_head(stream, job.url)
  if not response then
    return nil, length, is_kept
  end
  response.url, response.body = job.url.text, ""
  if is_bodiless(job, response.status) then
    return response, is_kept
  elseif type(length) == "number" and length > job.max_body then
    return nil, ("EMSGSIZE: message too long: %s: the body has more than %.0f bytes"):format(job.url.text,
      job.max_body), "EMSGSIZE"
  end
  local text, words, code = new_body(stream, length, job.max_body, streams.fill, stream):read_all()
  if text then
    response.body = text
    return response, is_kept and length ~= false
  elseif code == 413 then
    return nil, ("EMSGSIZE: message too long: %s: %s"):format(job.url.text, words), "EMSGSIZE"
  elseif type(code) == "number" then
    return protocol_error(words, job.url)
  elseif code == "EPIPE" then
    words = ("EPIPE: broken pipe: %s: the response ended before its end"):format(job.url.text)
  end
  return nil, words, code
end

-- Closes a stream unless that was called off.
local Unfinished = {}
function Unfinished.__close(unfinished)
  if unfinished.stream then
    unfinished.stream:close()
  end
end

-- Whether a field that the script has given ends the connection.
local function wants_close(job)
  for _, field in ipairs(job.fields) do
    if field[1] == "connection" and field.value:lower():find("close", 1, true) then
      return true
    end
  end
  return false
end

-- Send a request on a stream and read the response; returns it, or nil, words, code, and whether nothing of
-- a response had come.
local function converse(job, stream, key)
  local unfinished <close> = setmetatable({ stream = stream }, Unfinished)
  stream.is_silent = true
  local sent, send_words, send_code = streams.write(stream, format_request(job))
  -- If it was not sent, there may still be a response that says why the server reads no more.
  local response, is_kept, code = read_response(job, stream)
  if not response then
    local is_silent = stream.buffer == "" and stream.is_silent
    if not sent then
      return nil, send_words, send_code, is_silent
    end
    return nil, is_kept, code, is_silent
  end
  if is_kept and sent and not wants_close(job) then
    unfinished.stream = nil
    pool.put(key, stream)
  end
  return response
end

-- Whether a request may be sent on a kept connection: if that turns out to be closed, it must be sent again.
local function is_repeatable(job)
  if IDEMPOTENT[job.method] then
    return true
  end
  for _, field in ipairs(job.fields) do
    if field[1] == "idempotency-key" then
      return true
    end
  end
  return false
end

-- Ask one server.
local function ask(job)
  local url = job.url
  local tls = url.scheme == "https" and (job.tls or true) or nil
  local key = url.origin .. " " .. tostring(job.tls)
  local kept = is_repeatable(job) and pool.take(key)
  if kept then
    local response, words, code, is_silent = converse(job, kept, key)
    if response or not is_silent then
      return response, words, code
    end
  end
  local stream, words, code = core.net.connect(url.address, { tls = tls })
  if not stream then
    return nil, words, code
  end
  local response
  response, words, code = converse(job, stream, key)
  return response, words, code
end

-- Redirects

-- Drop fields that are in a set.
local function drop_fields(job, set)
  local left = {}
  for _, field in ipairs(job.fields) do
    if not set[field[1]] then
      left[#left + 1] = field
    end
  end
  job.fields = left
end

-- Turn a job to where a response points to; returns true, or nil, words, code.
local function turn(job, response)
  local place = response.headers.location
  local url, words = urls.resolve(job.url, place)
  if not url then
    return protocol_error(("it redirects to '%s': %s"):format(writing.show(place), words), job.url)
  elseif job.url.scheme == "https" and url.scheme == "http" then
    return protocol_error("it redirects from https to " .. url.text, job.url)
  elseif job.redirects_left == 0 then
    return nil, ("ELOOP: too many redirects: the last one is from %s to %s"):format(job.url.text, url.text),
      "ELOOP"
  end
  job.redirects_left = job.redirects_left - 1
  local status = response.status
  if status == 303 and job.method ~= "HEAD" or status < 303 and job.method == "POST" then
    job.method, job.body = "GET", nil
    drop_fields(job, OF_BODY)
  end
  if url.origin == job.url.origin then
    url.user = url.user or job.url.user
  else
    drop_fields(job, SECRETS)
  end
  job.url = url
  return true
end

local REDIRECTS_OF = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

-- Ask, and follow redirects.
local function follow(job)
  job.redirects_left = job.redirects
  while true do
    local response, words, code = ask(job)
    if not response then
      return nil, words, code
    elseif not REDIRECTS_OF[response.status] or not response.headers.location or job.redirects == 0 then
      return response
    end
    local ok
    ok, words, code = turn(job, response)
    if not ok then
      return nil, words, code
    end
  end
end

-- Ends a task.
local Work = {}
function Work.__close(work)
  work.task:cancel()
end

-- http.request(url | options) -> response | nil, error, code
return function(options)
  local job = read_options(options)
  core.check_task "request"
  if job.tls or job.url.scheme == "https" then
    local ok, words, code = core.load "tls.lua".check(job.tls or true)
    if not ok then
      return nil, words, code
    end
  end
  local text = job.url.text
  local work <close> = setmetatable({ task = core.task(follow, job) }, Work)
  local response, words, code = work.task:wait(job.timeout)
  if not response and work.task:running() then
    return core.timed_out(("%s has not answered within %.10g s"):format(text, job.timeout))
  elseif not response and not code then
    error(words, 0)
  end
  return response, words, code
end

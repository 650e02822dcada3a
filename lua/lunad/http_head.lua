-- Heads of HTTP messages, parsed as RFC 9112 has it and no more leniently: what one reader of a message
-- takes for its end, another one may take for the beginning of the next.
--
-- A head is a part of a text: from `at` up to `stop`, where its empty line (CR LF) begins. What is wrong with
-- it is returned as nil, a status and words.

local core = ...

local target = core.load "http_target.lua"

local byte, find, lower, match, sub = string.byte, string.find, string.lower, string.match, string.sub

local FIELDS_MAX = 100
local NAMES_MAX = 500 -- names and hosts that are remembered
local NAME_LENGTH = 64
local HOST_LENGTH = 300
local CODING_LENGTH = 200
local LENGTH_DIGITS = 15 -- of a Content-Length that a number can hold

local TOKEN = "^[!#$%%&'*+%-.^_`|~0-9A-Za-z]+$"

-- What has been checked, so that it need not be again: clients say the same thing each time.
local names, names_left = {}, NAMES_MAX -- a field's name as it came -> in lower case
local hosts, hosts_left = {}, NAMES_MAX

-- Check the name of a field; returns it in lower case, or nil.
local function learn_name(raw)
  if not find(raw, TOKEN) then
    return nil
  end
  local name = lower(raw)
  if #raw <= NAME_LENGTH then
    if names_left == 0 then
      names, names_left = {}, NAMES_MAX
    end
    names[raw], names_left = name, names_left - 1
  end
  return name
end

-- Whether a value of Host is valid: a name or an address, and perhaps a port.
local function is_host(host)
  if hosts[host] then
    return true
  elseif #host > HOST_LENGTH or
         not find(host, "^[0-9A-Za-z%-._~%%!$&'()*+,;=]*:?%d*$") and
         not find(host, "^%[[0-9A-Fa-f:.]+%]:?%d*$") then
    return false
  end
  if #host <= NAME_LENGTH then
    if hosts_left == 0 then
      hosts, hosts_left = {}, NAMES_MAX
    end
    hosts[host], hosts_left = true, hosts_left - 1
  end
  return true
end

-- A value without the white space around it.
local function trim(value)
  local first = find(value, "[^ \t]")
  return first and sub(value, first, (find(value, "[^ \t][ \t]*$", first))) or ""
end

-- Join the values of a field that comes again; nil if it must not.
local function join(name, first, second)
  if name == "host" or name == "content-length" then
    return nil
  elseif name == "set-cookie" then
    return first .. "\n" .. second -- its values have commas in them
  end
  return first .. (name == "cookie" and "; " or ", ") .. second
end

-- Parse the lines of fields: a table of values by name, or nil, status, words.
local function parse_fields(text, at, stop)
  local fields, left = {}, FIELDS_MAX
  while at < stop do
    -- Patterns where the one space cannot match in many ways: a head must not cost more than its length.
    local _, last, raw, value = find(text, "^([^:]+): ?(%C*)\r\n", at)
    if not last then -- perhaps because of a tab
      _, last, raw, value = find(text, "^([^:]+):([\t -~\x80-\xFF]*)\r\n", at)
      if not last then
        return nil, 400, "a line of the head is not a field"
      end
    end
    local name = names[raw] or learn_name(raw)
    if not name then
      return nil, 400, "a field has no valid name"
    end
    if (byte(value, -1) or 33) <= 32 or (byte(value) or 33) <= 32 then
      value = trim(value)
    end
    local before = fields[name]
    if before then
      value = join(name, before, value)
      if not value then
        return nil, 400, "the field " .. name .. " comes twice"
      end
    end
    fields[name] = value
    left = left - 1
    if left < 0 then
      return nil, 431, ("more than %d fields"):format(FIELDS_MAX)
    end
    at = last + 1
  end
  return fields
end

-- Parse a request line that is not quite usual: last, method, target, minor version; or nil, status, words.
local function parse_odd_line(text, at)
  local _, last, method, where, major, minor =
    find(text, "^([!#$%%&'*+%-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/(%d)%.(%d)\r\n", at)
  if not last then
    return nil, 400, "the first line is not that of a request"
  elseif major ~= "1" then
    return nil, 505, "HTTP/" .. major .. "." .. minor .. " is not spoken here"
  end
  return last, method, where, minor
end

-- What a Connection field says about the connection: "close", "keep-alive" or nil.
local function persistence(value)
  value = lower(value)
  if value == "keep-alive" or value == "close" then
    return value
  end
  local found
  for option in value:gmatch "[^, \t]+" do
    if option == "close" then
      return option
    elseif option == "keep-alive" then
      found = option
    end
  end
  return found
end

-- How the end of the body of a message with a Transfer-Encoding is found: "chunked", or nil, status, words.
local function transfer_coding(value)
  value = lower(value)
  if value == "chunked" then
    return value
  end
  if #value > CODING_LENGTH then
    return nil, 400, "the list of transfer codings is too long"
  end
  local last, count = nil, 0
  for coding in value:gmatch "[^,]+" do
    last = match(coding, "^[ \t]*(.-)[ \t]*$")
    count = count + (last == "chunked" and 1 or 0)
  end
  if last ~= "chunked" or count > 1 then
    return nil, 400, "the end of the body cannot be found: chunked is not the last transfer coding"
  end
  return nil, 501, "transfer codings other than chunked are not implemented"
end

-- How the end of a body is found by the fields: its length, "chunked", or false if they do not say; or nil,
-- status, words.
local function framing(fields, version)
  local coding, length = fields["transfer-encoding"], fields["content-length"]
  if coding then
    if length then
      return nil, 400, "both Content-Length and Transfer-Encoding"
    elseif version == "1.0" then
      return nil, 400, "Transfer-Encoding in HTTP/1.0"
    end
    return transfer_coding(coding)
  elseif not length then
    return false
  elseif not find(length, "^%d+$") then
    return nil, 400, "the Content-Length is not a number"
  end
  length = match(length, "^0*(%d+)$")
  if #length > LENGTH_DIGITS then
    return nil, 413, "the body is too large"
  end
  return math.tointeger(tonumber(length))
end

-- Check a request's Host; returns nil, or a status and words.
local function check_host(request, host)
  local fields = request.headers
  if host then
    if not is_host(host) then
      return 400, "the target has no valid host"
    elseif fields.host or request.version == "1.0" then
      fields.host = host
    end
  end
  if not fields.host then
    if request.version ~= "1.0" then
      return 400, "the field host is missing"
    end
  elseif not is_host(fields.host) then
    return 400, "the field host has no valid value"
  end
end

-- Parse the head of a request: { method, target, path, query, headers, version, body, peer }, how the end of
-- the body is found, and whether the connection continues; or nil, status, words.
local function parse_request(text, at, stop)
  local _, last, method, where, minor = find(text, "^(%u+) (/[!-~]*) HTTP/1%.([01])\r\n", at)
  if not last then
    last, method, where, minor = parse_odd_line(text, at)
    if not last then
      return nil, method, where
    end
  end
  local version = minor == "0" and "1.0" or "1.1"
  if method == "CONNECT" then
    return nil, 501, "CONNECT is not implemented"
  end
  local path, query, host = target.parse(method, where)
  if not path then
    return nil, 400, "the target is not valid"
  end
  local fields, status, words = parse_fields(text, last + 1, stop)
  if not fields then
    return nil, status, words
  end
  local request = {
    method = method, target = where, path = path, query = query or {}, headers = fields,
    version = version, body = "", peer = "",
  }
  local name = fields.host
  if host or not name or not hosts[name] then
    status, words = check_host(request, host)
    if status then
      return nil, status, words
    end
  end
  local length = 0
  if fields["content-length"] or fields["transfer-encoding"] then
    length, status, words = framing(fields, version)
    if length == nil then
      return nil, status, words
    end
  end
  local connection = fields.connection and persistence(fields.connection)
  return request, length, version == "1.1" and connection ~= "close" or connection == "keep-alive"
end

-- Parse the head of a response: { status, reason, headers, version }, how the end of the body is found (false
-- means: it is that of the connection), and whether the connection continues; or nil, status, words.
local function parse_response(text, at, stop)
  local _, last, minor, code, reason = find(text, "^HTTP/1%.(%d) (%d%d%d) ?([\t -~\x80-\xFF]*)\r\n", at)
  if not last then
    return nil, 400, "the first line is not that of a response of HTTP/1"
  end
  local fields, status, words = parse_fields(text, last + 1, stop)
  if not fields then
    return nil, status, words
  end
  local version = minor == "0" and "1.0" or "1.1"
  local length
  length, status, words = framing(fields, version)
  if length == nil then
    return nil, status, words
  end
  local connection = fields.connection and persistence(fields.connection)
  return { status = math.tointeger(tonumber(code)), reason = reason, headers = fields, version = version },
    length, version == "1.1" and connection ~= "close" or connection == "keep-alive"
end

-- Find the end of a head that begins at `at`: where its empty line begins. Returns nil while there is none;
-- then `searched` bytes need not be searched again, unless a status and words say that none will come.
local function find_end(text, at, searched, most)
  local stop = find(text, "\r\n\r\n", searched > at and searched or at, true)
  if stop then
    if stop - at > most then
      return nil, nil, (find(text, "\r\n", at, true) - at > most) and 414 or 431, "the head is too large"
    end
    return stop + 2
  end
  local first, from = byte(text, at), searched > at and searched - 1 or at
  if first == 10 or find(text, "[^\r]\n", from) or find(text, "\r[^\n]", from) then
    return nil, nil, 400, "a line does not end with CR LF"
  elseif first and (first < 33 or first > 126) then
    return nil, nil, 400, "the first line is not that of a message"
  elseif #text - at >= most then
    return nil, nil, find(text, "\r\n", at, true) and 431 or 414, "the head is too large"
  end
  local next_search = #text - 3
  return nil, next_search > at and next_search or at
end

-- Whether a text can be the name of a field.
local function is_name(text)
  return type(text) == "string" and (names[text] or find(text, TOKEN)) and true or false
end

return {
  parse_request = parse_request, parse_response = parse_response, parse_fields = parse_fields,
  find_end = find_end, is_name = is_name,
}

-- Answers of an HTTP server: what is sent for what the function has returned.

local core = ...

local writing = core.load "http_write.lua"

local begin, format_fields = writing.begin, writing.format_fields
local type = type

local BODILESS = { [204] = true, [205] = true, [304] = true }

-- A short body for a status.
local function text(status)
  return (writing.reasons[status] or "Status " .. status) .. "\n"
end

-- The whole answer to what is not a request that can be served; the connection ends with it.
local function refusal(status, words)
  local body = words and text(status):sub(1, -2) .. ": " .. words .. "\n" or text(status)
  return ("%sContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"):format(
    begin(status), #body, body)
end

-- The head of an answer alone.
local function without_body(data)
  return data:match "^.-\r\n\r\n"
end

-- The field that says whether the connection continues, if it must be said.
local function connection_line(request, is_kept)
  if not is_kept then
    return "Connection: close\r\n"
  end
  return request.version == "1.0" and "Connection: keep-alive\r\n" or ""
end

-- The whole of a usual answer: text, and no fields; nil for another one.
local function simple(request, status, body, fields, is_kept)
  if fields == nil and type(body) == "string" and not BODILESS[status] and request.method ~= "HEAD" then
    local head = begin(status)
    if head and is_kept and request.version ~= "1.0" then
      return head .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
    elseif head then
      return head .. connection_line(request, is_kept) .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
    end
  end
end

-- Read the fields that the function gave, of which some are http.serve's own; returns their lines and what
-- they say: { length, date, is_closed }, or nil, words.
local function read_fields(fields)
  local said = {}
  if fields == nil then
    return "", said
  elseif type(fields) ~= "table" then
    return nil, ("the function returned headers that are not a table (%s)"):format(type(fields))
  end
  local function take(key, value)
    if key == "content-length" then
      said.length = math.tointeger(tonumber(value))
      if not said.length or said.length < 0 then
        return nil, "the field 'Content-Length' is not a number of bytes"
      end
      return true
    elseif key == "transfer-encoding" then
      return nil, "the field 'Transfer-Encoding' is set by http.serve alone"
    elseif key == "connection" then
      said.is_closed = tostring(value):lower():find("close", 1, true) ~= nil
      return true
    end
    said.date = said.date or key == "date"
    return false
  end
  local lines, words = format_fields(fields, take)
  if not lines then
    return nil, words
  end
  return lines, said
end

-- The field that says where a body ends, or nil, words. `answer` learns how a function's body is sent.
local function length_line(answer, request, status, body, length)
  local is_bodiless = BODILESS[status]
  if type(body) == "string" then
    local is_told = length and (body == "" and (request.method == "HEAD" or status == 304) or is_bodiless)
    if length and not is_told and length ~= #body then
      return nil, ("the body has %d bytes, its Content-Length says %d"):format(#body, length)
    end
    if status == 204 or status == 304 and not length then
      return ""
    end
    return ("Content-Length: %d\r\n"):format(is_told and length or is_bodiless and 0 or #body)
  elseif length then
    answer.length = length
    return ("Content-Length: %d\r\n"):format(length)
  elseif is_bodiless then
    return status == 205 and "Content-Length: 0\r\n" or ""
  elseif request.version == "1.0" then
    answer.is_kept = false -- the body ends with the connection
    return ""
  end
  answer.is_chunked = true
  return "Transfer-Encoding: chunked\r\n"
end

-- Make an answer: { head (with the body, if that is text), body (a function), is_chunked, length, is_kept };
-- or nil, words if what the function has returned cannot be sent.
local function make(request, status, body, fields, is_kept)
  local head = begin(status)
  if not head then
    local value = type(status) == "string" and ("%q"):format(status) or tostring(status)
    return nil, "the function returned " .. value .. " as status (a whole number from 200 to 599 expected)"
  elseif body == nil or type(body) == "number" then
    body = tostring(body or "")
  elseif type(body) ~= "string" and not core.is_callable(body) then
    return nil, ("the function returned a body that is a %s (string or function expected)"):format(type(body))
  end
  local lines, said = read_fields(fields)
  if not lines then
    return nil, said
  end
  local answer = { is_kept = is_kept and not said.is_closed, is_chunked = false }
  local length, words = length_line(answer, request, math.tointeger(status), body, said.length)
  if not length then
    return nil, words
  end
  if said.date then
    head = writing.begin_undated(status)
  end
  head = head .. lines .. connection_line(request, answer.is_kept) .. length .. "\r\n"
  if request.method == "HEAD" or BODILESS[status] then
    answer.head = head
  elseif type(body) == "string" then
    answer.head = head .. body
  else
    answer.head, answer.body = head, body
  end
  return answer
end

return { text = text, refusal = refusal, without_body = without_body, simple = simple, make = make }

-- Heads of HTTP messages, written.

local core = ...

local is_name = core.load("http_head.lua").is_name

local find, lower, time = string.find, string.lower, os.time

local DAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

local REASONS = {
  [100] = "Continue", [200] = "OK", [201] = "Created", [202] = "Accepted",
  [203] = "Non-Authoritative Information", [204] = "No Content", [205] = "Reset Content",
  [206] = "Partial Content", [207] = "Multi-Status", [300] = "Multiple Choices",
  [301] = "Moved Permanently", [302] = "Found", [303] = "See Other", [304] = "Not Modified",
  [307] = "Temporary Redirect", [308] = "Permanent Redirect", [400] = "Bad Request",
  [401] = "Unauthorized", [402] = "Payment Required", [403] = "Forbidden", [404] = "Not Found",
  [405] = "Method Not Allowed", [406] = "Not Acceptable", [407] = "Proxy Authentication Required",
  [408] = "Request Timeout", [409] = "Conflict", [410] = "Gone", [411] = "Length Required",
  [412] = "Precondition Failed", [413] = "Content Too Large", [414] = "URI Too Long",
  [415] = "Unsupported Media Type", [416] = "Range Not Satisfiable", [417] = "Expectation Failed",
  [418] = "I'm a teapot", [421] = "Misdirected Request", [422] = "Unprocessable Content", [423] = "Locked",
  [424] = "Failed Dependency", [425] = "Too Early", [426] = "Upgrade Required",
  [428] = "Precondition Required", [429] = "Too Many Requests", [431] = "Request Header Fields Too Large",
  [451] = "Unavailable For Legal Reasons", [500] = "Internal Server Error", [501] = "Not Implemented",
  [502] = "Bad Gateway", [503] = "Service Unavailable", [504] = "Gateway Timeout",
  [505] = "HTTP Version Not Supported", [507] = "Insufficient Storage", [508] = "Loop Detected",
  [511] = "Network Authentication Required",
}

local heads = {} -- status -> the line of a status, and Date
local lines_of = {} -- status -> its line
local date, date_second -- the line of the Date field, and when it was made

-- Make the Date field. Not by %a and %b, which are the locale's.
local function make_date(now)
  local t = os.date("!*t", now)
  return ("Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n"):format(DAYS[t.wday], t.day, MONTHS[t.month],
    t.year, t.hour, t.min, t.sec)
end

-- The line of a status; nil if it is none that a response can have.
local function status_line(status)
  local whole = type(status) == "number" and math.tointeger(status)
  if not whole or whole < 200 or whole > 599 then
    return nil
  end
  local line = ("HTTP/1.1 %d %s\r\n"):format(whole, REASONS[whole] or "")
  lines_of[whole] = line
  return line
end

-- The line of a status and the Date field; nil for a status that a response cannot have.
local function begin(status)
  local now = time()
  if now ~= date_second then
    date, date_second, heads = make_date(now), now, {}
  end
  local text = heads[status]
  if not text then
    local line = lines_of[status] or status_line(status)
    if not line then
      return nil
    end
    text = line .. date
    heads[status] = text
  end
  return text
end

-- The same without the Date field.
local function begin_undated(status)
  return lines_of[status] or status_line(status)
end

-- A text for people.
local function show(text)
  return (text:gsub("%c", function(c) return ("\\x%02X"):format(c:byte()) end))
end

-- Check the value of a field; returns it, or nil and words.
local function check_value(name, value)
  if type(value) ~= "string" and type(value) ~= "number" then
    return nil, ("the field '%s': string expected, got %s"):format(name, type(value))
  elseif find(value, "%c") and find(value, "[^\t -~\x80-\xFF]") then
    return nil, ("the field '%s' has a control character in its value"):format(name)
  end
  return value
end

-- The lines of fields { name = value | { value, … } }, without those that `take(name in lower case, value)`
-- wants for itself: it returns true for one of them, or nil, words if it is wrong, else false. Returns nil,
-- words if a field is wrong.
local function format_fields(fields, take)
  local lines, count = {}, 0
  for name, values in pairs(fields) do
    if not is_name(name) then
      return nil, ("'%s' is not the name of a field"):format(show(tostring(name)))
    end
    local key = lower(name)
    for _, value in ipairs(type(values) == "table" and values or { values }) do
      local ok, words = check_value(name, value)
      local is_taken
      if ok then
        is_taken, words = take(key, value)
      end
      if words then
        return nil, words
      elseif not is_taken then
        lines[count + 1], lines[count + 2], lines[count + 3], lines[count + 4] = name, ": ", value, "\r\n"
        count = count + 4
      end
    end
  end
  return table.concat(lines)
end

return {
  begin = begin, begin_undated = begin_undated, format_fields = format_fields, show = show, reasons = REASONS,
}

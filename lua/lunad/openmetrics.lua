-- What daemons answer to "metrics", as OpenMetrics text or in the older format of Prometheus. The answers
-- are not trusted: each value is checked, and what is wrong is left out and counted. It needs nothing but
-- Lua's own functions, because `lunad metrics` runs it too.

local FAMILIES_MAX = 1000 -- of one daemon
local SERIES_MAX = 20000
local LABELS_MAX = 8
local BOUNDS_MAX = 64
local TEXT_MAX = 1000 -- bytes of one help, or value of a label

local INFINITY = math.huge

-- What is added to the name of a family to have the names of its samples. No two families may share one.
local SUFFIXES = {
  counter = { "", "_total", "_created" },
  gauge = { "" },
  histogram = { "", "_bucket", "_count", "_sum", "_created" },
  info = { "", "_info" },
  stateset = { "" },
}

local UNITS = {
  seconds = true, bytes = true, ratio = true, meters = true, celsius = true, volts = true, amperes = true,
  joules = true, grams = true,
}

local OLD_TYPES = { info = "gauge", stateset = "gauge" } -- which the older format does not have
local OLD_SUFFIXES = { counter = "_total", info = "_info" } -- that belong to the name of the family there

local STATES = { "starting", "running", "reloading", "stopping" }

-- Bounds of the buckets of the loop's delays: 16 us, 131 us, 1 ms, ... as it counts them in powers of two.
local LAG_POWERS = { 14, 17, 20, 22, 24, 26, 28, 30, 33 }

-- Text

-- Replace what is not UTF-8, and what could act on a terminal.
local function clean(text)
  text = #text > TEXT_MAX and text:sub(1, TEXT_MAX) or text
  local parts, at = {}, 1
  while true do
    local length, wrong = utf8.len(text, at)
    if length then
      break
    end
    parts[#parts + 1] = text:sub(at, wrong - 1) .. "\u{FFFD}"
    at = wrong + 1
  end
  parts[#parts + 1] = text:sub(at)
  text = table.concat(parts):gsub("[\0-\9\11-\31\127]", "\u{FFFD}")
  return (text:gsub("\xC2[\x80-\x9F]", "\u{FFFD}"))
end

local ESCAPES = { ["\\"] = "\\\\", ["\n"] = "\\n", ['"'] = '\\"' }

local function escape(text)
  return (clean(text):gsub('[\\\n"]', ESCAPES))
end

-- A number, in the fewest digits that are read as the same.
local function show_number(value)
  if value ~= value then
    return "NaN"
  elseif value == INFINITY or value == -INFINITY then
    return value > 0 and "+Inf" or "-Inf"
  end
  local whole = math.tointeger(value)
  if whole then
    return ("%d"):format(whole)
  end
  local text = ("%.15g"):format(value)
  return tonumber(text) == value and text or ("%.17g"):format(value)
end

-- The bound of a bucket, as "le" has it.
local function show_bound(value)
  local text = show_number(value)
  return text:find "^-?%d+$" and text .. ".0" or text
end

-- The labels of a sample, which are a list of name, value, name, value.
local function show_labels(labels)
  local parts = {}
  for i = 1, #labels, 2 do
    parts[#parts + 1] = ('%s="%s"'):format(labels[i], escape(labels[i + 1]))
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- Families

local Page = {}
Page.__index = Page

-- Find or make a family; nil if its names are another's, or it is of another type.
function Page:family(name, kind, help)
  local family = self.families[name]
  if family then
    return family.type == kind and family or nil
  end
  for _, suffix in ipairs(SUFFIXES[kind]) do
    if self.owners[name .. suffix] then
      return nil
    end
  end
  for _, suffix in ipairs(SUFFIXES[kind]) do
    self.owners[name .. suffix] = true
  end
  local unit = name:match "_(%l+)$"
  family = { name = name, type = kind, help = help, unit = UNITS[unit] and unit, lines = {}, seen = {} }
  self.families[name], self.order[#self.order + 1] = family, family
  return family
end

-- Add a line to a family.
local function add_line(family, suffix, labels, value)
  family.lines[#family.lines + 1] = family.name .. suffix .. show_labels(labels) .. " " .. show_number(value)
end

-- Add a sample of lunad's own; a value that is no number is left out.
function Page:own(name, kind, help, value, ...)
  local family = self:family(name, kind, help)
  if type(value) == "boolean" then
    value = value and 1 or 0
  end
  if type(value) == "number" and (value >= 0 or kind ~= "counter") then
    local suffix = kind == "counter" and "_total" or kind == "info" and "_info" or ""
    local labels = table.move(self.labels, 1, #self.labels, 1, {})
    add_line(family, suffix, table.move({ ... }, 1, select("#", ...), #labels + 1, labels), value)
  end
end

-- Add a histogram: the counts of its buckets, not summed up, the last one without a bound.
local function add_histogram(family, labels, bounds, counts, sum)
  local count, own = 0, table.move(labels, 1, #labels, 1, {})
  for i = 1, #bounds + 1 do
    count = count + counts[i]
    own[#labels + 1], own[#labels + 2] = "le", show_bound(bounds[i] or INFINITY)
    add_line(family, "_bucket", own, count)
  end
  add_line(family, "_count", labels, count)
  add_line(family, "_sum", labels, sum)
end

-- What a script counts

local function is_count(value)
  return math.type(value) == "integer" and value >= 0
end

-- A number that may have come as text, as JSON has no others; nil for anything else.
local function read_number(value)
  if type(value) == "number" then
    return value
  end
  return value == "NaN" and 0 / 0 or value == "+Inf" and INFINITY or value == "-Inf" and -INFINITY or nil
end

local function are_labels(labels)
  local seen = { daemon = true, le = true }
  if type(labels) ~= "table" or #labels > LABELS_MAX then
    return false
  end
  for _, label in ipairs(labels) do
    if type(label) ~= "string" or not label:find "^[A-Za-z_][A-Za-z0-9_]*$" or #label > 200 or
       label:find "^__" or seen[label] then
      return false
    end
    seen[label] = true
  end
  return true
end

local function are_bounds(bounds)
  if type(bounds) ~= "table" or #bounds == 0 or #bounds > BOUNDS_MAX then
    return false
  end
  for i, bound in ipairs(bounds) do
    if type(bound) ~= "number" or bound ~= bound or bound == INFINITY or bound == -INFINITY or
       i > 1 and bound <= bounds[i - 1] then
      return false
    end
  end
  return true
end

-- Whether a daemon's family is one.
local function is_family(item)
  return type(item) == "table" and type(item.name) == "string" and #item.name <= 200 and
    item.name:find "^[A-Za-z_:][A-Za-z0-9_:]*$" and not item.name:find "^lunad_" and
    (item.type == "counter" or item.type == "gauge" or item.type == "histogram") and
    type(item.help) == "string" and are_labels(item.labels) and type(item.series) == "table" and
    (item.type ~= "histogram" or are_bounds(item.bounds))
end

-- The labels of a daemon as a list of name and value. A worker has the name of its service, and its number.
local function labels_of(target)
  if target.worker then
    return { "daemon", target.name:sub(1, -#tostring(target.worker) - 2), "worker", tostring(target.worker) }
  end
  return { "daemon", target.name }
end

-- The labels of a series as a list of name and value, after the daemon's; nil if they do not fit its family.
local function read_labels(own, item, series)
  if type(series) ~= "table" or type(series.labels) ~= "table" or #series.labels ~= #item.labels then
    return nil
  end
  local labels = table.move(own, 1, #own, 1, {})
  for i, value in ipairs(series.labels) do
    if type(value) ~= "string" then
      return nil
    end
    local name = item.labels[i] == own[3] and "script_worker" or item.labels[i]
    labels[#labels + 1], labels[#labels + 2] = name, value
  end
  return labels
end

local function are_counts(counts, size)
  if type(counts) ~= "table" or #counts ~= size then
    return false
  end
  for _, count in ipairs(counts) do
    if not is_count(count) then
      return false
    end
  end
  return true
end

-- Add a series; false if it is malformed, or there already.
local function add_series(family, own, item, series)
  local labels = read_labels(own, item, series)
  local shown = labels and show_labels(labels)
  if not labels or family.seen[shown] then
    return false
  end
  local value = read_number(series.value)
  if item.type == "histogram" then
    local sum = read_number(series.sum)
    if not sum or not are_counts(series.counts, #item.bounds + 1) then
      return false
    end
    add_histogram(family, labels, item.bounds, series.counts, sum)
  elseif not value or item.type == "counter" and (value ~= value or value < 0) then
    return false
  else
    add_line(family, item.type == "counter" and "_total" or "", labels, value)
  end
  family.seen[shown] = true
  return true
end

-- Add the families of a script, in the order of their names; returns how many were left out, of series too.
function Page:script(list)
  local left_out, count, sorted = 0, 0, {}
  for i, item in ipairs(list) do
    if i <= FAMILIES_MAX and is_family(item) then
      sorted[#sorted + 1] = item
    else
      left_out = left_out + 1
    end
  end
  table.sort(sorted, function(a, b) return a.name < b.name end)
  for _, item in ipairs(sorted) do
    local family = self:family(item.name, item.type, item.help)
    left_out = left_out + (family and 0 or 1)
    for _, series in ipairs(family and item.series or {}) do
      count = count + 1
      if count > SERIES_MAX or not add_series(family, self.labels, item, series) then
        left_out = left_out + 1
      end
    end
  end
  return left_out
end

-- What lunad knows of a daemon

-- A member of a table, or nil.
local function at(value, key, ...)
  local found = type(value) == "table" and value[key] or nil
  if select("#", ...) == 0 then
    return found
  end
  return at(found, ...)
end

local function text_or_empty(value)
  return type(value) == "string" and value or ""
end

-- Add the delays of the loop.
function Page:lag(lag)
  local buckets, bounds, counts = at(lag, "buckets"), {}, {}
  local sum = at(lag, "sum_ms")
  local family = self:family("lunad_loop_lag_seconds", "histogram", "How late the loop of the daemon was.")
  if type(buckets) ~= "table" or type(sum) ~= "number" then
    return
  end
  for i, power in ipairs(LAG_POWERS) do
    bounds[i], counts[i] = 2 ^ power / 1e9, 0
  end
  counts[#bounds + 1] = 0
  for _, pair in ipairs(buckets) do
    local top, count, slot = at(pair, 1), at(pair, 2), 1
    if type(top) ~= "number" or not is_count(count) then
      return
    end
    while bounds[slot] and top / 1e3 > bounds[slot] do
      slot = slot + 1
    end
    counts[slot] = counts[slot] + count
  end
  add_histogram(family, self.labels, bounds, counts, sum / 1e3)
end

-- Rows of samples: name, type, help, path in the status.
local ROWS = {
  { "lunad_ready", "gauge", "Whether the daemon is ready.", "ready" },
  { "lunad_uptime_seconds", "gauge", "How long the process of the daemon has run.", "uptime" },
  { "lunad_generation", "gauge", "The number of the running code: one more with each reload.", "generation" },
  { "lunad_restarts", "counter", "How often its keeper has started it again.", "restarts", "count" },
  { "lunad_errors", "counter", "Uncaught errors of the script.", "errors", "count" },
  { "lunad_memory_lua_bytes", "gauge", "The size of the Lua heap.", "memory", "lua" },
  { "lunad_memory_limit_bytes", "gauge", "What the Lua heap may have at most, if it is limited.", "memory",
    "limit" },
  { "lunad_memory_resident_bytes", "gauge", "The resident memory of the process.", "memory", "rss" },
  { "lunad_open_fds", "gauge", "Open descriptors of the process.", "fds" },
  { "lunad_timers", "gauge", "Armed timers.", "totals", "timers" },
  { "lunad_tasks", "gauge", "Suspended tasks.", "totals", "tasks" },
  { "lunad_children", "gauge", "Running children.", "totals", "children" },
  { "lunad_listeners", "gauge", "Listening sockets.", "totals", "listeners" },
  { "lunad_messages_sent", "counter", "Messages to workers.", "messages", "sent" },
  { "lunad_messages_received", "counter", "Messages of workers.", "messages", "received" },
  { "lunad_messages_refused", "counter", "Messages that were not sent, as too many waited.", "messages",
    "refused" },
  { "lunad_log_dropped", "counter", "Lines of the log that were lost.", "log", "dropped" },
}

-- Add what the status says.
function Page:status(status)
  self:own("lunad_daemon", "info", "What the daemon runs.", 1, "script", text_or_empty(at(status, "script")),
    "mode", text_or_empty(at(status, "mode")))
  for _, state in ipairs(STATES) do
    self:own("lunad_state", "stateset", "What the daemon is doing.", at(status, "state") == state,
      "lunad_state", state)
  end
  for _, result in ipairs { "ok", "failed" } do
    self:own("lunad_reloads", "counter", "Reloads, by how they ended.", at(status, "reloads", result),
      "result", result)
  end
  for _, row in ipairs(ROWS) do
    self:own(row[1], row[2], row[3], at(status, table.unpack(row, 4)))
  end
end

-- Add one daemon.
function Page:daemon_of(target)
  local answer = target.answer
  local has_own = type(at(answer, "families")) == "table"
  self.labels = labels_of(target)
  self:own("lunad_up", "gauge", "Whether the daemon has answered.", answer ~= nil)
  if not answer then
    self.complaints[#self.complaints + 1] = { target.name, clean(target.error or "it does not answer") }
    return
  end
  self:status(answer.status)
  self:lag(answer.lag)
  local left_out = has_own and self:script(answer.families) or 0
  self:own("lunad_script_metrics_up", "gauge", "Whether the metrics of the script itself are here.", has_own)
  self:own("lunad_script_metrics_left_out", "gauge",
    "Metrics of the script that are malformed, or another daemon has of another type.", left_out)
  if not has_own then
    self.complaints[#self.complaints + 1] = { target.name,
      "without the metrics of its script: " .. clean(text_or_empty(answer.error)) }
  elseif left_out > 0 then
    self.complaints[#self.complaints + 1] = { target.name,
      ("%d metrics are left out: malformed, or of another type in another daemon"):format(left_out) }
  end
end

-- Output

local function show_family(family, parts, is_openmetrics)
  local name = family.name
  local help = escape(family.help)
  if not is_openmetrics then
    name = name .. (OLD_SUFFIXES[family.type] or "")
    help = help:gsub('\\"', '"')
  end
  local kind = not is_openmetrics and OLD_TYPES[family.type] or family.type
  parts[#parts + 1] = ("# TYPE %s %s"):format(name, kind)
  if is_openmetrics and family.unit then
    parts[#parts + 1] = ("# UNIT %s %s"):format(name, family.unit)
  end
  parts[#parts + 1] = ("# HELP %s %s"):format(name, help)
  table.move(family.lines, 1, #family.lines, #parts + 1, parts)
end

-- render(targets, is_openmetrics) -> text, complaints. A target is { name =, answer = | nil, error = }; a
-- complaint is { name, what }. The names are trusted.
return function(targets, is_openmetrics)
  local page = setmetatable({ families = {}, order = {}, owners = {}, complaints = {} }, Page)
  for _, target in ipairs(targets) do
    page:daemon_of(target)
  end
  table.sort(page.order, function(a, b)
    local a_own, b_own = a.name:find "^lunad_" ~= nil, b.name:find "^lunad_" ~= nil
    if a_own ~= b_own then
      return a_own
    end
    return a.name < b.name
  end)
  local parts = {}
  for _, family in ipairs(page.order) do
    if #family.lines > 0 then
      show_family(family, parts, is_openmetrics)
    end
  end
  if is_openmetrics then
    parts[#parts + 1] = "# EOF"
  end
  parts[#parts + 1] = ""
  return table.concat(parts, "\n"), page.complaints
end

-- lunad.metrics: what a script counts, for `lunad metrics`. A family is plain data, so that keep hands it on
-- to the next generation: { type, name, help, labels, bounds, series }. A series is under the values of its
-- labels, with SEPARATOR between; it is a number or, of a histogram, the counts of the buckets, with "sum".

local core = ...

local check = core.load "metrics_check.lua"

local raise, is_finite = check.raise, check.is_finite

local SEPARATOR = "\xFF" -- in no value, as those are UTF-8
local VALUE_MAX = 200 -- bytes of the value of a label: the rest of it is cut off
local FAMILIES_MAX = 1000
local SERIES_MAX = 1000 -- of one family
local LINES_MAX = 20000 -- of all, as a scrape shows them
local BYTES_MAX = 4 << 20 -- of the values of labels

local BOUNDS = { 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10 }

-- What is added to the name of a family to have the names of its samples; they must be no other family's.
local SUFFIXES = {
  counter = { "", "_total", "_created" },
  gauge = { "" },
  histogram = { "", "_bucket", "_count", "_sum", "_created" },
}

local kept -- what lunad.keep hands on
local before -- families of the generation before, by name
local metrics = {} -- of this generation, by name
local owners = {} -- names of samples -> name of their family
local families, lines, bytes = 0, 0, 0

-- Take over what the generation before has counted. One that is replaced itself hands nothing on.
local function take_over()
  local ok, value = pcall(core.keep, "lunad.metrics", {})
  kept = ok and type(value) == "table" and value or {}
  before = type(kept.families) == "table" and kept.families or {}
  kept.families = {}
end

-- The value of a label as text.
local function to_text(metric, value, method)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind == "number" then
    return ("%s"):format(math.tointeger(value) or value)
  elseif kind == "boolean" then
    return tostring(value)
  end
  raise("%s: the value of a label of '%s' is a string, a number or a boolean, not %s", method, metric.name,
    kind)
end

-- Make a text UTF-8, and not too long.
local function clean(text)
  local cut = #text > VALUE_MAX
  text = cut and text:sub(1, VALUE_MAX) or text
  local parts, at = {}, 1
  while true do
    local length, wrong = utf8.len(text, at)
    if length then
      break
    end
    parts[#parts + 1] = text:sub(at, wrong - 1)
    parts[#parts + 1] = "\u{FFFD}"
    at = wrong + 1
  end
  parts[#parts + 1] = text:sub(at)
  return table.concat(parts)
end

-- Series

local function same(list, other)
  for i = 1, math.max(#list, type(other) == "table" and #other or -1) do
    if type(other) ~= "table" or list[i] ~= other[i] then
      return false
    end
  end
  return true
end

-- How many lines a series has.
local function height(family)
  return family.bounds and #family.bounds + 3 or 1
end

-- What the system refuses, as everywhere: nil, a message, a code. Log it once for each metric.
local function refuse(metric, words)
  local message = ("ENOSPC: no space for another series of the metric '%s': %s"):format(metric.name, words)
  if not metric.has_refused then
    metric.has_refused = true
    core.log.warn(message .. "; what there may be any number of, such as addresses, is not for labels")
  end
  return nil, message, "ENOSPC"
end

-- Make a series under a key.
local function make(metric, key)
  local family = metric.family
  if metric.count >= SERIES_MAX then
    return refuse(metric, ("it has %d already, the most of one metric"):format(SERIES_MAX))
  elseif lines + height(family) > LINES_MAX or bytes + #key > BYTES_MAX then
    return refuse(metric, "there are too many of all metrics")
  end
  local value = 0
  if family.bounds then
    value = { sum = 0 }
    for i = 1, #family.bounds + 1 do
      value[i] = 0
    end
  end
  metric.count, lines, bytes = metric.count + 1, lines + height(family), bytes + #key
  family.series[key] = value
  return key
end

-- Forget a series.
local function drop(metric, key)
  local series = metric.family.series
  if series[key] == nil then
    return false
  end
  series[key] = nil
  metric.count, lines, bytes = metric.count - 1, lines - height(metric.family), bytes - #key
  return true
end

-- The key of what `select` gives from `first` on, as it is.
local function raw_key(metric, method, first, ...)
  if metric.size == 1 then
    return to_text(metric, (select(first, ...)), method)
  end
  local values = { select(first, ...) }
  for i = 1, metric.size do
    values[i] = to_text(metric, values[i], method)
  end
  return table.concat(values, SEPARATOR)
end

-- The same with values that are clean: only they are in a series.
local function clean_key(metric, method, first, ...)
  local values = { select(first, ...) }
  for i = 1, metric.size do
    values[i] = clean(to_text(metric, values[i], method))
  end
  return table.concat(values, SEPARATOR)
end

-- Find or make the series of the values of labels from the argument `first` on: its key, or nil, error, code.
local function find(metric, method, first, ...)
  local series = metric.series
  if metric.size == 0 then
    return series[""] ~= nil and "" or make(metric, "")
  elseif metric.size == 1 then
    local value = select(first, ...)
    if type(value) == "string" and series[value] then
      return value
    end
  end
  local key = raw_key(metric, method, first, ...)
  if series[key] == nil then
    key = clean_key(metric, method, first, ...)
    if series[key] == nil then
      return make(metric, key)
    end
  end
  return key
end

local function complain_of_count(metric, method, least)
  local labels = table.concat(metric.family.labels, ", ")
  raise("bad arguments to '%s' (the metric '%s' has %s%s)", method, metric.name,
    least > 0 and "a value and " or "", labels == "" and "no labels" or "the labels " .. labels)
end

-- The first argument that is the value of a label, where a value comes first.
local function after_value(metric, method, ...)
  if select("#", ...) ~= metric.size + 1 then
    complain_of_count(metric, method, 1)
  end
  return 2
end

-- An amount and the first argument that is the value of a label, where the amount may be left out.
local function after_amount(metric, method, ...)
  local count = select("#", ...)
  if count == metric.size then
    return 1, 1
  elseif count ~= metric.size + 1 then
    complain_of_count(metric, method, 0)
  end
  local amount = ...
  if amount == nil and metric.size == 0 then
    return 1, 2
  elseif not is_finite(amount) then
    raise("bad argument #1 to '%s' (a finite number expected, got %s)", method, tostring(amount))
  end
  return amount, 2
end

-- Check that a method is called with `:` on what it is of.
local function check_class(metric, class, method)
  if getmetatable(metric) ~= class then
    raise("bad argument #1 to '%s' (%s expected, got %s)", method, class.__name, type(metric))
  end
end

-- Classes

local Counter = { __name = "lunad.metrics.counter" }
Counter.__index = Counter
local Gauge = { __name = "lunad.metrics.gauge" }
Gauge.__index = Gauge
local Histogram = { __name = "lunad.metrics.histogram" }
Histogram.__index = Histogram

local function add(metric, method, sign, ...)
  local amount, first = after_amount(metric, method, ...)
  if amount < 0 and metric.family.type == "counter" then
    raise("bad argument #1 to '%s' (a counter only goes up, got %s)", method, amount)
  end
  local key, err, code = find(metric, method, first, ...)
  if not key then
    return nil, err, code
  end
  local series = metric.series
  series[key] = series[key] + sign * amount
  return true
end

-- counter:inc([amount,] labels...) -> true | nil, error, code
function Counter:inc(...)
  if getmetatable(self) ~= Counter then
    check_class(self, Counter, "inc")
  end
  local series, size = self.series, self.size
  local first, second, third = ... -- the usual calls, at once
  if size == 0 and first == nil and series[""] then
    series[""] = series[""] + 1
    return true
  elseif size == 1 and second == nil and type(first) == "string" and series[first] then
    series[first] = series[first] + 1
    return true
  elseif size == 2 and third == nil and type(first) == "string" and
         (type(second) == "string" or math.type(second) == "integer") then
    local key = first .. SEPARATOR .. second
    if series[key] then
      series[key] = series[key] + 1
      return true
    end
  end
  return add(self, "inc", 1, ...)
end

-- counter:add(amount, labels...) -> true | nil, error, code
function Counter:add(...)
  check_class(self, Counter, "add")
  after_value(self, "add", ...)
  return add(self, "add", 1, ...)
end

-- gauge:inc([amount,] labels...) -> true | nil, error, code
function Gauge:inc(...)
  check_class(self, Gauge, "inc")
  return add(self, "inc", 1, ...)
end

-- gauge:dec([amount,] labels...) -> true | nil, error, code
function Gauge:dec(...)
  check_class(self, Gauge, "dec")
  return add(self, "dec", -1, ...)
end

-- gauge:set(value, labels...) -> true | nil, error, code
function Gauge:set(...)
  check_class(self, Gauge, "set")
  local first = after_value(self, "set", ...)
  local value = ...
  if type(value) ~= "number" then
    raise("bad argument #1 to 'set' (number expected, got %s)", type(value))
  end
  local key, err, code = find(self, "set", first, ...)
  if not key then
    return nil, err, code
  end
  self.series[key] = value
  return true
end

-- histogram:observe(value, labels...) -> true | nil, error, code
function Histogram:observe(...)
  check_class(self, Histogram, "observe")
  local first = after_value(self, "observe", ...)
  local value = ...
  if not is_finite(value) then
    raise("bad argument #1 to 'observe' (a finite number expected, got %s)", tostring(value))
  end
  local key, err, code = find(self, "observe", first, ...)
  if not key then
    return nil, err, code
  end
  local buckets, bounds, bucket = self.series[key], self.family.bounds, 1
  while bounds[bucket] and value > bounds[bucket] do
    bucket = bucket + 1
  end
  buckets[bucket] = buckets[bucket] + 1
  buckets.sum = buckets.sum + value
  return true
end

-- metric:remove(labels...) -> whether there was such a series
for _, class in ipairs { Counter, Gauge, Histogram } do
  function class:remove(...)
    check_class(self, class, "remove")
    if select("#", ...) ~= self.size then
      complain_of_count(self, "remove", 0)
    end
    return drop(self, self.size == 0 and "" or clean_key(self, "remove", 1, ...))
  end
end

local CLASSES = { counter = Counter, gauge = Gauge, histogram = Histogram }

-- Families

local function describe(family)
  local labels = type(family.labels) == "table" and #family.labels > 0 and table.concat(family.labels, ", ")
  return ("a %s with %s%s"):format(family.type, labels and "the labels " .. labels or "no labels",
    family.bounds and ", buckets to " .. table.concat(family.bounds, " ") or "")
end

-- Whether two families count the same thing.
local function is_alike(family, other)
  return family.type == other.type and same(family.labels, other.labels) and
    same(family.bounds or {}, other.bounds or {})
end

-- Take the names of the samples of a family.
local function claim_names(name, kind)
  for _, suffix in ipairs(SUFFIXES[kind]) do
    local owner = owners[name .. suffix]
    if owner then
      raise("%s: '%s' has the samples '%s', and so has the metric '%s'", kind, name, name .. suffix, owner)
    end
  end
  for _, suffix in ipairs(SUFFIXES[kind]) do
    owners[name .. suffix] = name
  end
end

-- Go on with the series that the generation before has left, if it counted the same.
local function inherit(metric, old)
  local family = metric.family
  if type(old) ~= "table" or type(old.series) ~= "table" then
    return
  elseif not is_alike(family, old) then
    core.log.info(("the metric '%s' starts anew: it is %s, and was %s"):format(metric.name, describe(family),
      describe(old)))
    return
  end
  family.series = old.series
  for key in pairs(family.series) do
    metric.count, lines, bytes = metric.count + 1, lines + height(family), bytes + #key
  end
end

-- Make a metric.
local function create(family, options)
  if families == FAMILIES_MAX then
    raise("%s: there are %d metrics already, the most", family.type, FAMILIES_MAX)
  end
  local name = family.name
  claim_names(name, family.type)
  local metric = setmetatable({
    name = name, family = family, size = #family.labels, count = 0, read = options.read,
  }, CLASSES[family.type])
  if not kept then
    take_over()
  end
  if not metric.read then
    inherit(metric, before[name])
  end
  metric.series = family.series
  if metric.size == 0 and not metric.read and family.series[""] == nil then
    make(metric, "") -- so that there is a sample before the first event
  end
  families, before[name], kept.families[name], metrics[name] = families + 1, nil, family, metric
  return metric
end

-- Find or make the metric of a name.
local function declare(kind, types, name, help, labels, options)
  name = check.name(name, kind)
  check.help(help, kind)
  labels = check.labels(labels, kind)
  options = check.options(options, types, kind)
  local bounds = kind == "histogram" and check.bounds(options.buckets or BOUNDS) or nil
  local family = { type = kind, name = name, help = help, labels = labels, bounds = bounds, series = {} }
  local metric = metrics[name]
  if not metric then
    return create(family, options)
  elseif not is_alike(metric.family, family) then
    raise("%s: the metric '%s' is there already: %s", kind, name, describe(metric.family))
  end
  metric.read = options.read or metric.read
  return metric
end

local functions = {}

-- counter(name, help [, labels]) -> counter
function functions.counter(name, help, labels, options)
  return declare("counter", {}, name, help, labels, options)
end

-- gauge(name, help [, labels [, { read = fn }]]) -> gauge
function functions.gauge(name, help, labels, options)
  return declare("gauge", { read = true }, name, help, labels, options)
end

-- histogram(name, help [, labels [, { buckets = {...} }]]) -> histogram
function functions.histogram(name, help, labels, options)
  return declare("histogram", { buckets = true }, name, help, labels, options)
end

-- Reports

-- Ends the reading of a gauge, however it ended.
local Reading = {}
function Reading.__close(reading)
  reading.metric.is_read = false
end

local trace, where -- of the last error

local function explain(err)
  where, trace = core.where(), debug.traceback("", 2):gsub("^\n", "")
  return err
end

-- Have a gauge be set by its own function.
local function read(metric)
  local reading <close> = setmetatable({ metric = metric }, Reading) -- luacheck: ignore 211
  metric.is_read, trace, where = true, nil, nil
  for key in pairs(metric.series) do
    drop(metric, key)
  end
  local ok, value = xpcall(metric.read, explain, metric)
  if ok and type(value) == "number" and metric.size == 0 then
    metric:set(value)
  elseif not ok and value == "cancelled" then
    error(value, 0)
  elseif not ok then
    core.report("a read function of lunad.metrics", value, trace, where)
  end
end

-- A number as JSON has it.
local function to_json(value)
  if is_finite(value) then
    return value
  end
  return value ~= value and "NaN" or value > 0 and "+Inf" or "-Inf"
end

-- The values of the labels in a key.
local function split(key, size)
  local values = {}
  if size > 0 then
    for value in (key .. SEPARATOR):gmatch("(.-)" .. SEPARATOR) do
      values[#values + 1] = value
    end
  end
  return values
end

-- List the series of a metric.
local function list_series(metric)
  local list, keys = {}, {}
  for key in pairs(metric.series) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local value = metric.series[key]
    local item = { labels = split(key, metric.size) }
    if metric.family.bounds then
      item.counts, item.sum = table.move(value, 1, #value, 1, {}), to_json(value.sum)
    else
      item.value = to_json(value)
    end
    list[#list + 1] = item
  end
  return list
end

-- All of it, for the control socket. It is called in a task of its own, for a client with a time limit: a
-- function that is still suspended since an earlier call is not called again.
function core.report_metrics()
  local list = {}
  for _, metric in pairs(metrics) do
    local family = metric.family
    if metric.read and not metric.is_read then
      read(metric)
    end
    list[#list + 1] = { name = family.name, type = family.type, help = family.help, labels = family.labels,
      bounds = family.bounds, series = list_series(metric) }
  end
  return list
end

return functions

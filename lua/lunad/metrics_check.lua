-- Checks of what lunad.metrics is given.

local core = ...

local INFINITY = math.huge
local NAME_MAX = 200 -- bytes
local HELP_MAX = 1000
local LABELS_MAX = 8
local BOUNDS_MAX = 64

local check = {}

-- Raise a formatted message, at the line of the script.
function check.raise(...)
  core.raise(string.format(...))
end

-- Whether a value is a number, and not NaN or infinite.
function check.is_finite(value)
  return type(value) == "number" and value == value and value ~= INFINITY and value ~= -INFINITY
end

local raise = check.raise

-- Check a name for a label; returns what is wrong with it.
local function blame_label(label)
  if type(label) ~= "string" then
    return "is not a string"
  elseif not label:find "^[A-Za-z_][A-Za-z0-9_]*$" or #label > NAME_MAX then
    return "is not a name of letters, digits and '_', without a digit first"
  elseif label:find "^__" then
    return "begins with '__'"
  elseif label == "daemon" then
    return "is the one that lunad adds"
  elseif label == "le" then
    return "is that of the buckets of histograms"
  end
end

-- Check the labels of a family; returns a list of our own.
function check.labels(labels, kind)
  local list, seen, count = {}, {}, 0
  if labels ~= nil and type(labels) ~= "table" then
    raise("bad argument #3 to '%s' (a list of labels expected, got %s)", kind, type(labels))
  end
  for _ in pairs(labels or {}) do
    count = count + 1
  end
  for i = 1, count do
    local label = labels[i]
    local wrong = label == nil and "is missing, in what is not a list of names" or blame_label(label) or
      seen[label] and "is there twice"
    if wrong then
      raise("bad argument #3 to '%s' (label %d, '%s', %s)", kind, i, tostring(label), wrong)
    end
    list[i], seen[label] = label, true
  end
  if count > LABELS_MAX then
    raise("bad argument #3 to '%s' (at most %d labels)", kind, LABELS_MAX)
  end
  return list
end

-- Check the bounds of buckets; returns a list of our own.
function check.bounds(bounds)
  local list = {}
  if type(bounds) ~= "table" then
    raise("histogram: option 'buckets': a list of numbers expected, got %s", type(bounds))
  end
  for i, bound in ipairs(bounds) do
    if bound == INFINITY and i == #bounds and i > 1 then
      break -- which is there anyway
    elseif not check.is_finite(bound) or i > 1 and bound <= bounds[i - 1] then
      raise("histogram: option 'buckets': numbers expected of which each is larger than the one before")
    end
    list[i] = bound
  end
  if #list == 0 or #list > BOUNDS_MAX then
    raise("histogram: option 'buckets': 1 to %d numbers expected", BOUNDS_MAX)
  end
  return list
end

-- Check the name of a metric; returns that of the family: of a counter without "_total".
function check.name(name, kind)
  if type(name) ~= "string" then
    raise("bad argument #1 to '%s' (string expected, got %s)", kind, type(name))
  elseif not name:find "^[A-Za-z_:][A-Za-z0-9_:]*$" or #name > NAME_MAX then
    raise("bad argument #1 to '%s' ('%s' is not a name of letters, digits, '_' and ':', no digit first)",
      kind, name:sub(1, NAME_MAX))
  elseif name:find "^lunad_" then
    raise("bad argument #1 to '%s' ('%s': names that begin with lunad_ are lunad's own)", kind, name)
  end
  return kind == "counter" and name:match "^(.+)_total$" or name
end

-- Check what says what a metric counts.
function check.help(help, kind)
  if type(help) ~= "string" or #help > HELP_MAX or not utf8.len(help) then
    raise("bad argument #2 to '%s' (what it counts, in at most %d bytes of UTF-8, expected)", kind, HELP_MAX)
  end
end

-- Check the options of a kind against the types of their keys.
function check.options(options, types, kind)
  if options == nil then
    return {}
  elseif type(options) ~= "table" then
    raise("bad argument #4 to '%s' (table expected, got %s)", kind, type(options))
  end
  for key in pairs(options) do
    if not types[key] then
      raise("%s: unknown option '%s'", kind, tostring(key))
    end
  end
  if options.read ~= nil and not core.is_callable(options.read) then
    raise("%s: option 'read': function expected, got %s", kind, type(options.read))
  end
  return options
end

return check

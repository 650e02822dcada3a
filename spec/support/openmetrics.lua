-- A parser of OpenMetrics text 1.0 that takes nothing which the standard does not allow.

local openmetrics = {}

-- What is added to the name of a family for its samples, by type.
local SUFFIXES = {
  counter = { _total = true, _created = true },
  gauge = { [""] = true },
  histogram = { _bucket = true, _count = true, _sum = true, _created = true },
  info = { _info = true },
  stateset = { [""] = true },
  unknown = { [""] = true },
}

local NAME = "[%a_:][%w_:]*"
local LABEL = "[%a_][%w_]*"

local function fail(number, line, words)
  error(("line %d: %s: %s"):format(number, words, line), 0)
end

-- Undo the escapes of a text; nil if there are others, or a quote that is not escaped.
local function unescape(text)
  local rest = text:gsub('\\[\\"n]', "")
  if rest:find '[\\"\n]' then
    return nil
  end
  return (text:gsub("\\(.)", { ["\\"] = "\\", ['"'] = '"', n = "\n" }))
end

-- Read a number; nil if it is none.
local function read_number(text)
  if text == "NaN" then
    return 0 / 0
  elseif text == "+Inf" or text == "-Inf" then
    return text == "+Inf" and math.huge or -math.huge
  elseif text:find "^[+-]?%d+%.?%d*$" or text:find "^[+-]?%d+%.?%d*[eE][+-]?%d+$" then
    return tonumber(text)
  end
end

-- Read "{a="b",...}"; returns a table by name.
local function read_labels(number, line, text)
  local labels, at = {}, 1
  while at <= #text do
    local name, after = text:match("^(" .. LABEL .. ')="()', at)
    if not name or labels[name] then
      fail(number, line, "no label, or one that is there twice, at " .. text:sub(at))
    end
    local stop = after
    while text:sub(stop, stop) ~= '"' do
      stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
      if stop > #text then
        fail(number, line, "a value without an end")
      end
    end
    labels[name] = unescape(text:sub(after, stop - 1)) or fail(number, line, "a wrong escape")
    at = stop + 1
    if at <= #text and not text:find("^,[^,]", at) then
      fail(number, line, "no comma between labels")
    end
    at = at + 1
  end
  return labels
end

-- A text that is the same for the same labels; without one of them.
local function key_of(labels, without)
  local parts = {}
  for name, value in pairs(labels) do
    if name ~= without then
      parts[#parts + 1] = ("%q=%q"):format(name, value)
    end
  end
  table.sort(parts)
  return table.concat(parts, ",")
end

-- Take a comment in; returns the family that it is of.
local function read_comment(number, line, families, current)
  local kind, name, text = line:match("^# (%u+) (" .. NAME .. ") ?(.*)$")
  if not (kind == "TYPE" or kind == "UNIT" or kind == "HELP") then
    fail(number, line, "a comment that is none")
  end
  local family = families[name]
  if family and family ~= current then
    fail(number, line, "a family in two places")
  elseif not family then
    family = { name = name, samples = {}, seen = {} }
    families[name], families[#families + 1] = family, family
  end
  if family[kind] or #family.samples > 0 then
    fail(number, line, "twice, or after samples")
  elseif kind == "TYPE" and not SUFFIXES[text] then
    fail(number, line, "no type")
  elseif kind == "UNIT" and not name:find("_" .. text .. "$") then
    fail(number, line, "the name does not end in the unit")
  end
  family[kind] = kind == "HELP" and (unescape(text) or fail(number, line, "a wrong escape")) or text
  return family
end

local function check_value(number, line, family, sample)
  local value, kind = sample.value, family.TYPE
  if (kind == "counter" or sample.suffix == "_bucket" or sample.suffix == "_count") and
     (value ~= value or value < 0) then
    fail(number, line, "below 0")
  elseif kind == "stateset" and not (sample.labels[family.name] and (value == 0 or value == 1)) then
    fail(number, line, "no state")
  elseif kind == "info" and value ~= 1 then
    fail(number, line, "no 1")
  elseif sample.suffix == "_bucket" and not sample.labels.le then
    fail(number, line, "a bucket without its bound")
  end
end

local function read_sample(number, line, family)
  local name, rest = line:match("^(" .. NAME .. ")(.*)$")
  local body, text = (rest or ""):match "^{(.*)} (%S+)$"
  if not body then
    body, text = "", (rest or ""):match "^ (%S+)$"
  end
  if not family or not text or name:sub(1, #family.name) ~= family.name then
    fail(number, line, "no sample of the family before it")
  end
  local suffix = name:sub(#family.name + 1)
  if not SUFFIXES[family.TYPE or "unknown"][suffix] then
    fail(number, line, "not of this type")
  end
  local sample = { name = name, suffix = suffix, labels = read_labels(number, line, body) }
  sample.value = read_number(text) or fail(number, line, "no number")
  local key = name .. key_of(sample.labels)
  if family.seen[key] then
    fail(number, line, "there twice")
  end
  family.seen[key] = true
  check_value(number, line, family, sample)
  family.samples[#family.samples + 1] = sample
end

-- Check that the samples of a histogram are together, and add up.
local function check_histogram(family)
  local done, key, bound, count = {}, nil, nil, nil
  for _, sample in ipairs(family.samples) do
    local own = key_of(sample.labels, "le")
    if own ~= key then
      assert(not done[own], family.name .. ": the samples are not together")
      assert(bound == nil or bound == math.huge, family.name .. ": no bucket +Inf")
      key, bound, count, done[own] = own, -math.huge, 0, true
    end
    if sample.suffix == "_bucket" then
      local le = assert(read_number(sample.labels.le), "le")
      assert(sample.labels.le:find "[.eI]", "le is a float")
      assert(le > bound and sample.value >= count, family.name .. ": the buckets do not go up")
      bound, count = le, sample.value
    elseif sample.suffix == "_count" then
      assert(bound == math.huge and sample.value == count, family.name .. ": another count")
    end
  end
end

-- Check that no name of a sample is that of another family.
local function check_names(families)
  local owners = {}
  for _, family in ipairs(families) do
    for suffix in pairs(SUFFIXES[family.TYPE or "unknown"]) do
      for _, name in ipairs { family.name, family.name .. suffix } do
        assert(not owners[name] or owners[name] == family.name, name .. " is of two families")
        owners[name] = family.name
      end
    end
  end
end

-- Parse a text: families by name and in order, { TYPE, HELP, UNIT, samples = {{ name, labels, value }} }.
-- Raises an error for what is wrong with it.
function openmetrics.parse(text)
  assert(utf8.len(text), "not UTF-8")
  assert(text:sub(-7) == "\n# EOF\n" or text == "# EOF\n", "no EOF")
  local families, current, number = {}, nil, 0
  for line in text:sub(1, -7):gmatch "([^\n]*)\n" do
    number = number + 1
    if line:sub(1, 1) == "#" then
      current = read_comment(number, line, families, current)
    else
      read_sample(number, line, current)
    end
  end
  for _, family in ipairs(families) do
    if family.TYPE == "histogram" then
      check_histogram(family)
    end
  end
  check_names(families)
  return families
end

-- The value of a sample: value(families, "jobs", "jobs_total", { daemon = "a" }); nil if there is none with
-- exactly these labels.
function openmetrics.value(families, family, name, labels)
  for _, sample in ipairs(families[family] and families[family].samples or {}) do
    if sample.name == name and key_of(sample.labels) == key_of(labels) then
      return sample.value
    end
  end
end

return openmetrics

-- The tables that are printed.

local tables = {}

-- A number with three significant digits.
local function show(value)
  if value == 0 then
    return "0"
  elseif math.abs(value) >= 100 then
    return ("%.0f"):format(value)
  end
  return (("%.3g"):format(value))
end

-- A contender's figures of each size.
local function print_curve(metric, title, curve)
  local words = {}
  for i, point in ipairs(curve) do
    words[i] = ("%9s"):format(show(point.median * metric.scale))
  end
  print(("    %-26s %s"):format(title, table.concat(words)))
end

-- The sizes that the columns of a metric's curves are for, and its unit.
local function print_sizes(metric, field)
  for _, entry in ipairs(field) do
    local result = metric.results[entry.contender.name]
    if result and result.curve then
      local words = {}
      for i, point in ipairs(result.curve) do
        words[i] = ("%9d"):format(point.size)
      end
      print(("    %-26s %s"):format(metric.unit and "in " .. metric.unit .. ", of" or "of",
        table.concat(words)))
      return
    end
  end
end

local function print_metric(metric, field)
  local mark = ""
  if metric.met ~= nil then
    mark = ("   (lunad's aim: %s, %s)"):format(metric.aim, metric.met and "met" or "MISSED")
  end
  print(("  %s%s"):format(metric.title, mark))
  print_sizes(metric, field)
  for _, entry in ipairs(field) do
    local result = metric.results[entry.contender.name]
    if result and result.curve then
      print_curve(metric, entry.contender.title or entry.contender.name, result.curve)
    elseif result then
      print(("    %-26s %10s %-8s %s"):format(entry.contender.title or entry.contender.name,
        show(result.median * metric.scale), metric.unit or "",
        result.ratio and ("%7.2f"):format(result.ratio) or ""))
    end
  end
end

-- Print a scenario: each contender's figure, and its ratio to the reference. `smaller` are the arguments that
-- --quick used instead of those that the title names.
function tables.scenario(scenario, field, metrics, smaller)
  local note = smaller and " (under --quick: " .. smaller .. ")" or ""
  print(("\n%s: %s%s"):format(scenario.name, scenario.title, note))
  for _, metric in ipairs(metrics) do
    print_metric(metric, field)
  end
  for _, entry in ipairs(field) do
    if entry.failure then
      print(("  %s failed: %s"):format(entry.contender.name, entry.failure))
    end
  end
end

-- Print every aim and whether lunad reaches it.
function tables.aims(played)
  print("\nlunad and its aims")
  for _, scenario in ipairs(played) do
    for _, metric in ipairs(scenario.metrics) do
      if metric.met ~= nil then
        local result = metric.results.lunad
        print(("  %-6s %-52s aim %-10s %-10s %s"):format(metric.met and "met" or "MISSED",
          scenario.name .. ", " .. metric.title, metric.aim,
          show(result.median * metric.scale) .. " " .. (metric.unit or ""),
          result.ratio and ("%.2f x %s"):format(result.ratio, metric.reference) or ""))
      end
    end
  end
end

-- Name the contenders that did not take part.
function tables.missing(contenders, missing)
  for _, contender in ipairs(contenders) do
    if missing[contender.name] then
      print(("skipped: %s is not to be had here"):format(contender.title or contender.name))
    end
  end
end

return tables

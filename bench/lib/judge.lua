-- Turn the results of the rounds into figures, ratios and verdicts.

local statistics = require "statistics"

-- The figures of one metric, one a round.
local function column(entry, metric)
  local values = {}
  for round, figures in ipairs(entry.runs) do
    values[round] = figures[metric.key] and figures[metric.key] / (metric.per and figures[metric.per] or 1)
  end
  return values
end

-- Reduce one metric of one contender. The ratio is the median of the rounds' ratios: the machine
-- treats contenders of one round alike, but changes from round to round.
local function reduce(entry, metric, reference)
  local values = column(entry, metric)
  if #values == 0 or entry.failure then
    return nil
  end
  local ratios = {}
  for round, base in ipairs(reference and column(reference, metric) or {}) do
    if values[round] and base > 0 then
      ratios[#ratios + 1] = values[round] / base
    end
  end
  return {
    median = statistics.median(values), runs = values,
    ratio = #ratios > 0 and statistics.median(ratios) or nil,
  }
end

-- Whether lunad reaches its aim, or nil if there is none.
local function verdict(metric, result)
  if metric.most then
    return result.median <= metric.most
  elseif metric.least then
    return result.median >= metric.least
  elseif result.ratio and metric.aim then
    return result.ratio <= metric.aim
  elseif result.ratio and metric.at_least then
    return result.ratio >= metric.at_least
  end
end

local function aim_text(metric)
  local bound = metric.most or metric.least
  if bound then
    return ("%s %.4g%s"):format(metric.most and "<=" or ">=", bound * (metric.scale or 1),
      metric.unit and " " .. metric.unit or "")
  elseif metric.aim or metric.at_least then
    return ("%s %.2f"):format(metric.aim and "<=" or ">=", metric.aim or metric.at_least)
  end
end

-- The metrics of a scenario with the results of all contenders.
return function(scenario, field)
  local by_name = {}
  for _, entry in ipairs(field) do
    by_name[entry.contender.name] = entry
  end
  local metrics = {}
  for i, metric in ipairs(scenario.metrics) do
    local reference = by_name[metric.reference or scenario.reference or "libuv"]
    local results = {}
    for _, entry in ipairs(field) do
      results[entry.contender.name] = reduce(entry, metric, reference)
    end
    metrics[i] = {
      key = metric.key, title = metric.title, unit = metric.unit, scale = metric.scale or 1,
      chart = metric.chart ~= false, more = metric.more, reference = reference and reference.contender.name,
      aim = aim_text(metric), aim_ratio = metric.aim or metric.at_least, results = results,
      met = results.lunad and verdict(metric, results.lunad),
    }
  end
  return metrics
end

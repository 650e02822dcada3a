-- Put the results of a scenario at several sizes together to curves.

-- The points of one contender: a list of { size, median, runs, ratio }, or nil.
local function curve_of(points, i, name)
  local curve = {}
  for _, point in ipairs(points) do
    local result = point.metrics[i].results[name]
    if result then
      local median, runs, ratio = result.median, result.runs, result.ratio
      curve[#curve + 1] = { size = point.size, median = median, runs = runs, ratio = ratio }
    end
  end
  return curve[1] and curve
end

-- Whether lunad's curve is as flat as it is to be: from its least size to its greatest the figure grows by
-- that factor at most.
local function is_flat(curve, growth)
  return curve[#curve].median <= growth * curve[1].median
end

-- The metrics of a scenario with what was judged at each size, a list of { size, metrics }. The results are
-- those of the greatest size that a contender has been measured at, with all of them in `curve`.
return function(scenario, points)
  local metrics = points[#points].metrics
  for i, metric in ipairs(metrics) do
    local growth = scenario.metrics[i].growth
    for name in pairs(points[1].metrics[i].results) do
      local curve = curve_of(points, i, name)
      local last = curve[#curve]
      metric.results[name] = { median = last.median, runs = last.runs, ratio = last.ratio, curve = curve }
      if name == "lunad" and growth then
        metric.aim = ("%g x that of %d"):format(growth, points[1].size)
        metric.met = is_flat(curve, growth)
      end
    end
  end
  return metrics
end

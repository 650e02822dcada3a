local statistics = {}

-- The value below which `share` of the values lie.
function statistics.quantile(values, share)
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  local place = 1 + (#sorted - 1) * share
  local below = math.floor(place)
  local above = math.min(below + 1, #sorted)
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below)
end

function statistics.median(values)
  return statistics.quantile(values, 0.5)
end

return statistics

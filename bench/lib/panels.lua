-- The panels of the chart: how a figure grows with a size, both logarithmic. A dashed line grows as the
-- size does, from lunad's first point: what is flatter than it costs less for each of more.

local contenders = require "contenders"

local panels = {}

local COLUMNS <const>, HEIGHT <const>, MARGIN <const> = 4, 226, 14
local LEFT <const>, TOP <const>, RIGHT <const>, BOTTOM <const> = 50, 40, 12, 44 -- around the plot in a panel

local GRID_LINE <const> = '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#e4e4e4"/>'

-- A number for people: 0.1, 30, 5k, 1M.
local function short(value)
  for _, unit in ipairs { { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } } do
    if value >= unit[1] then
      return ("%g%s"):format(value / unit[1], unit[2])
    end
  end
  return ("%g"):format(value)
end

-- The powers of ten around the values: their exponents.
local function decades(least, most)
  local from, to = math.floor(math.log(least, 10) + 1e-9), math.ceil(math.log(most, 10) - 1e-9)
  return from, math.max(to, from + 1)
end

-- The least and the greatest of what the points of all curves have.
local function extent(metric, value_of)
  local least, most = math.huge, 0
  for _, result in pairs(metric.results) do
    for _, point in ipairs(result.curve or {}) do
      local value = value_of(point)
      if value > 0 then
        least, most = math.min(least, value), math.max(most, value)
      end
    end
  end
  return least, most
end

-- A panel at a place: functions from sizes and figures to places, and its borders.
local function new_panel(metric, left, top, width)
  local function figure_of(point) return point.median * metric.scale end
  local first, last = extent(metric, function(point) return point.size end)
  local low, high = decades(extent(metric, figure_of))
  local panel = {
    left = left + LEFT, right = left + width - RIGHT, top = top + TOP, bottom = top + HEIGHT - BOTTOM,
    first = first, last = last, low = low, high = high, figure_of = figure_of,
  }
  function panel.x(size)
    local share = first < last and math.log(size / first) / math.log(last / first) or 0.5
    return panel.left + share * (panel.right - panel.left)
  end
  function panel.y(figure)
    return panel.bottom - (math.log(figure, 10) - low) / (high - low) * (panel.bottom - panel.top)
  end
  return panel
end

-- The lines at powers of ten, and what they are.
local function draw_grid(panel, out, metric, of)
  for power = panel.low, panel.high do
    local y = panel.y(10.0 ^ power)
    out.draw(GRID_LINE, panel.left, y, panel.right, y)
    out.text(panel.left - 5, y + 4, short(10.0 ^ power), 'text-anchor="end" fill="#555555" font-size="11"')
  end
  for power = math.ceil(math.log(panel.first, 10) - 1e-9), math.floor(math.log(panel.last, 10) + 1e-9) do
    local x = panel.x(10.0 ^ power)
    out.draw(GRID_LINE, x, panel.top, x, panel.bottom)
    out.text(x, panel.bottom + 15, short(10.0 ^ power), 'text-anchor="middle" fill="#555555" font-size="11"')
  end
  out.text((panel.left + panel.right) / 2, panel.bottom + 31, of,
    'text-anchor="middle" fill="#555555" font-size="11"')
  out.text(panel.left - LEFT, panel.top - 22, metric.title .. (metric.unit and ", " .. metric.unit or ""),
    'font-weight="bold"')
end

-- The dashed line, as far as it is in the panel.
local function draw_linear(panel, out, curve)
  local point = curve[1]
  local start, limit = panel.figure_of(point), 10.0 ^ panel.high
  local last = math.min(panel.last, point.size * limit / start)
  if start > 0 and last > point.size then
    out.draw('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#999999" stroke-dasharray="3 4"/>',
      panel.x(point.size), panel.y(start), panel.x(last), panel.y(start * last / point.size))
  end
end

local function draw_curve(panel, out, curve, colour, name)
  local places, dots = {}, {}
  for _, point in ipairs(curve) do
    local figure = panel.figure_of(point)
    if figure > 0 then
      local x, y = panel.x(point.size), panel.y(figure)
      places[#places + 1] = ("%.1f,%.1f"):format(x, y)
      dots[#dots + 1] = { x, y, ("%s, %s: %.3g"):format(name, short(point.size), figure) }
    end
  end
  out.draw('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>', table.concat(places, " "),
    colour)
  for _, dot in ipairs(dots) do
    out.draw('<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s</title></circle>', dot[1], dot[2],
      colour, dot[3])
  end
end

local function draw_panel(metric, of, place, out)
  local panel = new_panel(metric, place.left, place.top, place.width)
  draw_grid(panel, out, metric, of)
  local own = metric.results.lunad
  if own and own.curve and not metric.more then
    draw_linear(panel, out, own.curve)
  end
  for i = #contenders, 1, -1 do
    local name = contenders[i].name
    local result, colour = metric.results[name], out.colours[name]
    if result and result.curve and colour then
      draw_curve(panel, out, result.curve, colour, contenders[i].title or name)
    end
  end
end

-- Draw the panels of all curves from a height on; return where they end. `out` has the functions to draw
-- with.
function panels.draw(scenarios, top, out)
  local count, width = 0, (out.width - 2 * MARGIN) / COLUMNS
  for _, scenario in ipairs(scenarios) do
    for _, metric in ipairs(scenario.of and scenario.metrics or {}) do
      if metric.chart and next(metric.results) then
        draw_panel(metric, scenario.of, {
          left = MARGIN + count % COLUMNS * width, top = top + 30 + count // COLUMNS * HEIGHT,
          width = width - 8,
        }, out)
        count = count + 1
      end
    end
  end
  if count == 0 then
    return top
  end
  out.text(MARGIN, top + 14, "How it grows: figure and size, both logarithmic; dashed: as much as the size",
    'font-size="15" font-weight="bold"')
  return top + 30 + (count + COLUMNS - 1) // COLUMNS * HEIGHT
end

return panels

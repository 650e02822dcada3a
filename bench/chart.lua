-- Draw results.json as an SVG: lua5.4 bench/chart.lua RESULTS SVG
--
-- A row for each metric, on a logarithmic axis of ratios to the row's reference: the further left, the less
-- time or memory. A small bar is lunad's aim. Below the rows is a panel for each curve (panels.lua).

local json = require "dkjson"
local contenders = require "contenders"
local panels = require "panels"

local LEFT <const>, WIDTH <const>, ROW <const>, TOP <const> = 430, 1180, 19, 104
local LOWEST <const>, HIGHEST <const> = 0.01, 1000

local colours = {
  lunad = "#d62728", libuv = "#1f3b73", c = "#555555", lua = "#17becf", luv = "#4c8bf5", cqueues = "#9467bd",
  node = "#2ca02c", daemonize = "#8c564b", daemon = "#e377c2", php = "#7f7fbf", runit = "#bcbd22",
  supervisor = "#ff7f0e", nginx = "#009639", tarantool = "#a05d00", pm2 = "#00897b", generational = "#f5a3a3",
  ["s6-log"] = "#6d4c41",
}

local function escape(text)
  return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

-- The place of a ratio on the axis.
local function x_of(ratio)
  local bounded = math.max(LOWEST, math.min(HIGHEST, ratio))
  local share = math.log(bounded / LOWEST) / math.log(HIGHEST / LOWEST)
  return LEFT + share * (WIDTH - LEFT - 30)
end

local lines = {}

local function draw(format, ...)
  lines[#lines + 1] = format:format(...)
end

local function draw_text(x, y, text, attributes)
  draw('<text x="%.1f" y="%.1f" %s>%s</text>', x, y, attributes or "", escape(text))
end

-- A ratio turned so that less is better.
local function badness(metric, ratio)
  return metric.more and 1 / ratio or ratio
end

local function draw_row(metric, y)
  local label = metric.title .. (metric.more and " (inverted)" or "") .. ", by that of " .. metric.reference
  draw_text(LEFT - 14, y + 4, label, 'text-anchor="end"')
  draw('<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#e4e4e4"/>', LEFT, y, WIDTH - 30, y)
  if metric.aim_ratio then
    draw('<rect x="%.1f" y="%d" width="3" height="14" fill="#d62728" opacity="0.45"/>',
      x_of(badness(metric, metric.aim_ratio)) - 1.5, y - 7)
  end
  for i = #contenders, 1, -1 do -- lunad on top
    local contender = contenders[i]
    local result, colour = metric.results[contender.name], colours[contender.name]
    if result and result.ratio and result.ratio > 0 and colour and contender.name ~= "lunad" then
      draw('<circle cx="%.1f" cy="%d" r="4" fill="%s"><title>%s: %.2f</title></circle>',
        x_of(badness(metric, result.ratio)), y, colour,
        escape(contender.title or contender.name), result.ratio)
    end
  end
  local own = metric.results.lunad
  if own and own.ratio and own.ratio > 0 then
    local x = x_of(badness(metric, own.ratio))
    draw('<path d="M%.1f %d l6 6 l-6 6 l-6 -6 z" fill="%s"><title>lunad: %.2f</title></path>',
      x, y - 6, colours.lunad, own.ratio)
  end
end

-- Draw the metrics of a scenario; return the place of the next one.
local function draw_scenario(scenario, y)
  local rows = {}
  for _, metric in ipairs(scenario.metrics) do
    if metric.chart and metric.reference and not scenario.of then
      rows[#rows + 1] = metric
    end
  end
  if #rows == 0 then
    return y
  end
  local title = scenario.title .. (scenario.smaller and " (--quick: " .. scenario.smaller .. ")" or "")
  draw_text(14, y + 4, title, 'font-weight="bold"')
  for _, metric in ipairs(rows) do
    y = y + ROW
    draw_row(metric, y)
  end
  return y + ROW + 8
end

local function draw_axis(bottom)
  for power = -2, 3 do
    local x = x_of(10.0 ^ power)
    draw('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>', x, TOP - 16, x, bottom,
      power == 0 and "#888888" or "#eeeeee")
    draw_text(x, TOP - 20, ("%g"):format(10.0 ^ power), 'text-anchor="middle" fill="#555555"')
  end
end

local function draw_legend()
  local x, y = 14, 50
  for _, contender in ipairs(contenders) do
    local colour, name = colours[contender.name], contender.title or contender.name
    if colour then
      draw('<circle cx="%d" cy="%d" r="5" fill="%s"/>', x + 5, y - 4, colour)
      draw_text(x + 14, y, name)
      x = x + 32 + #name * 13 // 2
      if x > WIDTH - 200 then
        x, y = 14, y + 18
      end
    end
  end
end

-- The commands that made the results, without repetition.
local function commands(results)
  local list, seen = {}, {}
  for _, scenario in ipairs(results.scenarios) do
    if not seen[scenario.command] then
      seen[scenario.command] = true
      list[#list + 1] = scenario.command
    end
  end
  return table.concat(list, "; ")
end

local function main(source, target)
  local file = assert(io.open(source))
  local results = assert(json.decode(file:read("a")))
  file:close()
  draw_legend()
  local axis = #lines + 1
  local y = TOP
  for _, scenario in ipairs(results.scenarios) do
    y = draw_scenario(scenario, y)
  end
  local rows = table.move(lines, axis, #lines, 1, {})
  for i = #lines, axis, -1 do
    lines[i] = nil
  end
  if #rows > 0 then
    draw_axis(y - ROW)
    table.move(rows, 1, #rows, #lines + 1, lines)
  end
  y = panels.draw(results.scenarios, y, { width = WIDTH, colours = colours, draw = draw, text = draw_text })
  local last = results.scenarios[#results.scenarios]
  draw_text(14, y + 6, commands(results), 'font-family="monospace"')
  draw_text(14, y + 24, ("%s, %d cores, Linux %s; libuv %s, node %s; commit %s, %s"):format(
    last.machine.cpu, last.machine.cores, last.machine.kernel, last.machine.libuv, last.machine.node,
    last.machine.commit, last.time), 'fill="#555555"')
  file = assert(io.open(target, "w"))
  file:write(
    ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" '):format(WIDTH, y + 36),
    'font-family="sans-serif" font-size="12">\n',
    '<rect width="100%" height="100%" fill="white"/>\n',
    '<text x="14" y="26" font-size="17" font-weight="bold">lunad beside its peers: ratios to the reference, ',
    'logarithmic; less is better</text>\n', table.concat(lines, "\n"), "\n</svg>\n")
  file:close()
end

main(...)

-- Runs the scenarios; called by scripts/bench, which has built everything.
--
--   lua5.4 bench/run.lua [--quick] [--rounds N] [--only CONTENDER,...] [SCENARIO...]
--
-- In each round every contender runs once, so that the drift of the machine meets them all alike. A ratio is
-- the median of the rounds' ratios, a figure the median of the rounds' figures.

local json = require "dkjson"
local contenders = require "contenders"
local scenarios = require "scenarios"

local ROUNDS, QUICK_ROUNDS = 7, 3
local PATIENCE = 300 -- seconds for one run of a program

local BUILD = assert(os.getenv "BENCH_BUILD")
local RESULTS = os.getenv "BENCH_RESULTS" or BUILD .. "/results.json"

local shows_progress = os.execute("[ -t 2 ]") == true

local function succeeds(command)
  return os.execute(("(%s) >/dev/null 2>&1"):format(command)) == true
end

local function exists(path)
  local file = io.open(path)
  return file ~= nil and file:close()
end

local function output_of(command)
  local pipe = assert(io.popen(command .. " 2>/dev/null"))
  local text = pipe:read("a")
  pipe:close()
  return (text:gsub("%s+$", ""))
end

local function median(values)
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  local middle = #sorted // 2
  return #sorted % 2 == 1 and sorted[middle + 1] or (sorted[middle] + sorted[middle + 1]) / 2
end

local function read_options(words)
  local options = { rounds = ROUNDS, wanted = {}, words = words }
  local i = 1
  while i <= #words do
    local word = words[i]
    if word == "--quick" then
      options.quick, options.rounds = true, QUICK_ROUNDS
    elseif word == "--rounds" or word == "--only" then
      i = i + 1
      options[word:sub(3)] = assert(words[i], word .. " needs a value")
    elseif word:sub(1, 1) == "-" then
      error("there is no option " .. word, 0)
    else
      options.wanted[word] = true
    end
    i = i + 1
  end
  options.rounds = assert(math.tointeger(tonumber(options.rounds)), "--rounds needs a number")
  return options
end

-- The shell command that runs a contender in a scenario, or nil if it takes no part.
local function command_of(scenario, contender, quick)
  local dir = scenario.dir or scenario.name
  local args = quick and scenario.quick_args or scenario.args or ""
  if scenario.contenders then
    if (" " .. scenario.contenders .. " "):find(" " .. contender.name .. " ", 1, true) then
      return ("lua5.4 bench/%s/driver.lua %s %s"):format(dir, contender.name, args)
    end
  elseif contender.program and exists(("bench/%s/%s"):format(dir, contender.program)) then
    if contender.program:match("%.c$") then
      return ("%s/bin/%s-%s %s"):format(BUILD, dir, contender.name, args)
    end
    local command = contender.name == "lunad" and scenario.lunad_options
      and contender.command .. " " .. scenario.lunad_options or contender.command
    return ("%s bench/%s/%s %s"):format(command, dir, contender.program, args)
  end
end

-- Run a contender once: its figures, or nil and what went wrong.
local function run_once(command)
  local errors = BUILD .. "/stderr"
  local pipe = assert(io.popen(("timeout %d %s 2>%s"):format(PATIENCE, command, errors)))
  local last
  for line in pipe:lines() do
    last = line
  end
  local ok, _, status = pipe:close()
  local figures = last and json.decode(last)
  if ok and type(figures) == "table" then
    return figures
  end
  return nil, ("status %s: %s"):format(status, output_of("tail -n 3 " .. errors))
end

-- Whether a contender is among those of --only.
local function plays(contender, options)
  return not options.only or ("," .. options.only .. ","):find("," .. contender.name .. ",", 1, true)
end

-- Who takes part in a scenario.
local function field_of(scenario, options, missing)
  local field = {}
  for _, contender in ipairs(contenders) do
    local command = command_of(scenario, contender, options.quick)
    if command and plays(contender, options) then
      if missing[contender.name] then
        missing[contender.name] = "used"
      else
        field[#field + 1] = { contender = contender, command = command, runs = {} }
      end
    end
  end
  return field
end

-- Say on a terminal what runs.
local function show_progress(...)
  if shows_progress then
    io.stderr:write("\r\27[K", string.format(...))
  end
end

-- All rounds of a scenario. A contender that fails once is out.
local function play(scenario, field, rounds)
  for round = 1, math.min(rounds, scenario.rounds or rounds) do
    for _, entry in ipairs(field) do
      if not entry.failure then
        show_progress("%s: round %d, %s", scenario.name, round, entry.contender.name)
        local figures, failure = run_once(entry.command)
        entry.runs[round], entry.failure = figures, failure
      end
    end
  end
  show_progress("")
end

-- The figures of one metric, one a round.
local function column(entry, key)
  local values = {}
  for round, figures in ipairs(entry.runs) do
    values[round] = figures[key]
  end
  return values
end

-- Reduce one metric of one contender to a figure and a ratio.
local function judge(entry, metric, reference)
  local values = column(entry, metric.key)
  if #values == 0 or entry.failure then
    return nil
  end
  local ratios = {}
  for round, base in ipairs(reference and column(reference, metric.key) or {}) do
    if values[round] and base > 0 then
      ratios[#ratios + 1] = values[round] / base
    end
  end
  return {
    median = median(values), runs = values,
    ratio = #ratios > 0 and median(ratios) or nil,
  }
end

-- Whether lunad reaches what is aimed at, or nil if nothing is.
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
  local scale = metric.scale or 1
  local unit = metric.unit and " " .. metric.unit or ""
  if metric.most or metric.least then
    return ("%s %.4g%s"):format(metric.most and "<=" or ">=", (metric.most or metric.least) * scale, unit)
  elseif metric.aim or metric.at_least then
    return ("%s %.2f"):format(metric.aim and "<=" or ">=", metric.aim or metric.at_least)
  end
end

local function evaluate(scenario, field)
  local by_name = {}
  for _, entry in ipairs(field) do
    by_name[entry.contender.name] = entry
  end
  local metrics = {}
  for i, metric in ipairs(scenario.metrics) do
    local reference = by_name[metric.reference or scenario.reference or "libuv"]
    local results = {}
    for _, entry in ipairs(field) do
      results[entry.contender.name] = judge(entry, metric, reference)
    end
    metrics[i] = {
      key = metric.key, title = metric.title, unit = metric.unit, scale = metric.scale or 1,
      chart = metric.chart ~= false, reference = reference and reference.contender.name,
      aim = aim_text(metric), aim_ratio = metric.aim or metric.at_least, results = results,
    }
    if results.lunad then
      metrics[i].met = verdict(metric, results.lunad)
    end
  end
  return metrics
end

-- A number with three digits that count.
local function show(value)
  if value == 0 then
    return "0"
  elseif math.abs(value) >= 100 then
    return ("%.0f"):format(value)
  end
  return (("%.3g"):format(value))
end

local function print_scenario(scenario, field, metrics)
  print(("\n%s: %s"):format(scenario.name, scenario.title))
  for _, metric in ipairs(metrics) do
    local mark = metric.aim and ("   aim %s%s"):format(metric.aim,
      metric.met ~= nil and (metric.met and ": met" or ": MISSED") or "") or ""
    print(("  %s%s"):format(metric.title, mark))
    for _, entry in ipairs(field) do
      local result = metric.results[entry.contender.name]
      if result then
        print(("    %-26s %10s %-8s %s"):format(entry.contender.title or entry.contender.name,
          show(result.median * metric.scale), metric.unit or "",
          result.ratio and ("%7.2f"):format(result.ratio) or ""))
      end
    end
  end
  for _, entry in ipairs(field) do
    if entry.failure then
      print(("  %s failed: %s"):format(entry.contender.name, entry.failure))
    end
  end
end

local function print_aims(report)
  print("\nlunad and its aims")
  for _, scenario in ipairs(report.scenarios) do
    for _, metric in ipairs(scenario.metrics) do
      local result = metric.results.lunad
      if metric.aim and result then
        local figure = show(result.median * metric.scale) .. " " .. (metric.unit or "")
        print(("  %-6s %-44s aim %-12s %-12s %s"):format(metric.met and "met" or "MISSED",
          scenario.name .. ", " .. metric.title, metric.aim, figure,
          result.ratio and ("%.2f x %s"):format(result.ratio, metric.reference) or ""))
      end
    end
  end
end

-- Contenders that cannot run here, by name.
local function find_missing()
  local missing = {}
  for _, contender in ipairs(contenders) do
    if contender.needs and not succeeds(contender.needs) then
      missing[contender.name] = "unused"
    end
  end
  return missing
end

-- Keep what was measured before of the scenarios that did not run now.
local function merge_with_old(report)
  local file = io.open(RESULTS)
  local old = file and json.decode(file:read("a")) or { scenarios = {} }
  local fresh = {}
  for _, scenario in ipairs(report.scenarios) do
    fresh[scenario.name] = scenario
  end
  for _, scenario in ipairs(old.scenarios) do
    fresh[scenario.name] = fresh[scenario.name] or scenario
  end
  local merged = {}
  for _, scenario in ipairs(scenarios) do
    merged[#merged + 1] = fresh[scenario.name]
  end
  return merged
end

local function machine()
  return {
    cpu = output_of("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1"),
    cores = tonumber(output_of("nproc")), kernel = output_of("uname -r"),
    libuv = output_of("pkg-config --modversion libuv"), lua = output_of("lua5.4 -v"),
    node = output_of("node --version"), lunad = output_of("$LUNAD --version"),
    commit = output_of("git describe --always --dirty"),
  }
end

local function main(...)
  local options = read_options({ ... })
  local missing = find_missing()
  local command = "scripts/bench" .. (#options.words > 0 and " " .. table.concat(options.words, " ") or "")
  local report = { scenarios = {}, machine = machine(), command = command, time = os.date("!%Y-%m-%dT%H:%M:%SZ") }
  local everything = next(options.wanted) == nil
  for _, scenario in ipairs(scenarios) do
    if everything or options.wanted[scenario.name] then
      options.wanted[scenario.name] = nil
      local field = field_of(scenario, options, missing)
      play(scenario, field, options.rounds)
      local metrics = evaluate(scenario, field)
      print_scenario(scenario, field, metrics)
      report.scenarios[#report.scenarios + 1] = {
        name = scenario.name, title = scenario.title, metrics = metrics, command = command,
        time = os.date("!%Y-%m-%dT%H:%M:%SZ"), rounds = math.min(options.rounds, scenario.rounds or options.rounds),
      }
    end
  end
  for name in pairs(options.wanted) do
    error("there is no scenario " .. name, 0)
  end
  print_aims(report)
  for _, contender in ipairs(contenders) do
    if missing[contender.name] then
      print(("skipped: %s is not to be had here"):format(contender.title or contender.name))
    end
  end
  report.scenarios = merge_with_old(report)
  local file = assert(io.open(RESULTS, "w"))
  file:write(json.encode(report, { indent = true }), "\n")
  file:close()
end

main(...)

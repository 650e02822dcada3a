-- Run the scenarios; called by scripts/bench, which has built everything.
--
-- In each round every contender runs once, one after the other, so that the drift of the machine
-- affects all alike.

local json = require "dkjson"
local contenders = require "contenders"
local curves = require "curves"
local judge = require "judge"
local scenarios = require "scenarios"
local tables = require "tables"

local ROUNDS <const>, QUICK_ROUNDS <const> = 7, 3
local PATIENCE <const> = 300 -- seconds for one run of a program

local BUILD = assert(os.getenv "BENCH_BUILD")
local RESULTS = BUILD .. "/results.json"

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

local function read_options(words)
  local options = { rounds = ROUNDS, wanted = {} }
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

-- Whether a contender is in a list of names, which nil is of all.
local function is_listed(names, contender)
  return not names or (" " .. names .. " "):find(" " .. contender.name .. " ", 1, true) ~= nil
end

-- The shell command that runs a contender in a scenario, or nil if it takes no part. @SIZE@ in it is a
-- size of a curve.
local function command_of(scenario, contender, quick)
  local dir = scenario.dir or scenario.name
  local args = quick and scenario.quick_args or scenario.args
  if contender.where and not scenario[contender.where] or not is_listed(scenario.field, contender) then
    return nil
  end
  if scenario.contenders then
    if is_listed(scenario.contenders, contender) then
      return ("lua5.4 bench/%s/driver.lua %s %s"):format(dir, contender.name, args)
    end
  elseif contender.program and exists(("bench/%s/%s"):format(dir, contender.program)) then
    if contender.program:match("%.c$") then
      return ("%s/bin/%s-%s %s"):format(BUILD, dir, contender.name, args)
    end
    local options = contender.name == "lunad" and scenario.lunad_options or ""
    return ("%s %s bench/%s/%s %s"):format(contender.command, options, dir, contender.program, args)
  end
end

-- Whether a contender is among those of --only.
local function plays(contender, options)
  return not options.only or ("," .. options.only .. ","):find("," .. contender.name .. ",", 1, true)
end

-- The contenders that take part in a scenario.
local function field_of(scenario, options, missing)
  local field = {}
  for _, contender in ipairs(contenders) do
    local command = command_of(scenario, contender, options.quick)
    if command and plays(contender, options) and not missing[contender.name] then
      field[#field + 1] = { contender = contender, command = command, runs = {} }
    end
  end
  return field
end

-- Run a contender once; return its figures, or nil and what went wrong.
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

-- Show what runs, on a terminal.
local function show_progress(...)
  if shows_progress then
    io.stderr:write("\r\27[K", string.format(...))
  end
end

-- All rounds of a scenario. A contender that fails once is out.
local function play(scenario, field, rounds, size)
  for round = 1, rounds do
    for _, entry in ipairs(field) do
      if not entry.failure then
        show_progress("%s: %sround %d, %s", scenario.name, size and size .. ", " or "", round,
          entry.contender.name)
        entry.runs[round], entry.failure = run_once((entry.command:gsub("@SIZE@", size or "")))
      end
    end
  end
  show_progress("")
end

-- Contenders that cannot run here, by name.
local function find_missing()
  local missing = {}
  for _, contender in ipairs(contenders) do
    if contender.needs and not succeeds(contender.needs) then
      missing[contender.name] = true
    end
  end
  return missing
end

local function machine()
  return {
    cpu = output_of("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1"),
    cores = tonumber(output_of("nproc")), kernel = output_of("uname -r"),
    libuv = output_of("pkg-config --modversion libuv"), lua = output_of("lua5.4 -v"),
    node = output_of("node --version"), commit = output_of("git describe --always --dirty"),
  }
end

-- Play a curve: each size as a scenario of its own. A contender that fails at a size is out from there on.
local function play_curve(scenario, field, rounds, options)
  local points = {}
  for i, size in ipairs(options.quick and scenario.quick_sizes or scenario.sizes) do
    for _, entry in ipairs(field) do
      entry.runs = {}
    end
    play(scenario, field, rounds, size)
    points[i] = { size = size, metrics = judge(scenario, field) }
  end
  return curves(scenario, points)
end

-- Measure one scenario and print it; return its results.
local function measure(scenario, options, missing, command)
  local field = field_of(scenario, options, missing)
  local rounds = math.min(options.rounds, scenario.rounds or options.rounds)
  local load = output_of("cut -d ' ' -f 1 /proc/loadavg")
  local metrics
  if scenario.sizes then
    metrics = play_curve(scenario, field, rounds, options)
  else
    play(scenario, field, rounds)
    metrics = judge(scenario, field)
  end
  local smaller = options.quick and scenario.quick_args or nil
  tables.scenario(scenario, field, metrics, smaller)
  return {
    name = scenario.name, title = scenario.title, smaller = smaller, metrics = metrics, of = scenario.of,
    rounds = rounds, command = command, time = os.date("!%Y-%m-%dT%H:%M:%SZ"),
    machine = machine(), load_before = tonumber(load),
  }
end

-- Check the names of the scenarios that are wanted; return a function that says whether one is.
local function chooser(wanted)
  local known = {}
  for _, scenario in ipairs(scenarios) do
    known[scenario.name] = true
  end
  for name in pairs(wanted) do
    assert(known[name], "there is no scenario " .. name)
  end
  return function(name) return next(wanted) == nil or wanted[name] end
end

-- Write the results, and keep the earlier ones of scenarios that did not run this time.
local function save(played)
  local file = io.open(RESULTS)
  local old = file and json.decode(file:read("a")) or { scenarios = {} }
  local by_name = {}
  for _, list in ipairs { old.scenarios, played } do
    for _, scenario in ipairs(list) do
      by_name[scenario.name] = scenario
    end
  end
  local all = {}
  for _, scenario in ipairs(scenarios) do
    all[#all + 1] = by_name[scenario.name]
  end
  file = assert(io.open(RESULTS, "w"))
  file:write(json.encode({ scenarios = all }, { indent = true }), "\n")
  file:close()
end

local function main(...)
  local options = read_options { ... }
  local command = table.concat({ "scripts/bench", ... }, " ")
  local is_wanted, missing, played = chooser(options.wanted), find_missing(), {}
  for _, scenario in ipairs(scenarios) do
    if is_wanted(scenario.name) then
      played[#played + 1] = measure(scenario, options, missing, command)
      save(played)
    end
  end
  tables.aims(played)
  tables.missing(contenders, missing)
end

main(...)

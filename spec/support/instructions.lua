-- How many instructions lunad's hot paths take: counted by valgrind, kept in a file, compared with it.
--
-- A count is that of the first thread of one process, without the kernel's. It is the least of RUNS runs with
-- different seeds of Lua's hashes, which move names to places where they are found sooner or later.

local instructions = {}

local FILE <const> = "spec/speed/instructions"
local PATH <const> = "PATH=/usr/bin:/bin" -- of what counts
local SEEDS <const> = { 1, 2, 3 }
local PATIENCE <const> = 300 -- seconds for all runs, which take about 5

local MOST_GROWTH <const> = 5 -- in percent; more fails
local NOTABLE_GAIN <const> = 10 -- with more the file should be renewed

-- The C library chooses functions by the processor; without these they are the same everywhere.
local SAME_FUNCTIONS <const> = "glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-BMI2,-ERMS,"
  .. "-FSRM,-LZCNT,-MOVBE,-RTM,-SSE4_2,-SSE4_1,-SSSE3"

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "a"
  if file then
    file:close()
  end
  return text
end

local function output_of(command)
  local pipe = assert(io.popen(command .. " 2>/dev/null"))
  local text = pipe:read "a"
  pipe:close()
  return (text:gsub("%s+$", ""))
end

-- The compilers that a program was built by, as they note themselves in it.
local function compilers(program)
  local seen, list = {}, {}
  for name, version in program:gmatch "%f[%w](GCC): %b() (%d[%d.]*%d)" do
    seen[name:lower() .. " " .. version] = true
  end
  for version in program:gmatch "clang version (%d[%d.]*%d)" do
    seen["clang " .. version] = true
  end
  for name in pairs(seen) do
    list[#list + 1] = name
  end
  table.sort(list)
  return table.concat(list, ", ")
end

-- What the counts depend on besides lunad's source, in words.
function instructions.toolchain(binary)
  local program = assert(read(binary), binary)
  local system = output_of ". /etc/os-release && echo $ID $VERSION_ID"
  local lua = output_of "pkg-config --modversion lua5.4"
  local libuv = output_of "pkg-config --modversion libuv"
  local link = program:find("liblua5.4.so", 1, true) and "shared" or "static"
  return table.concat({
    system, output_of "uname -m", compilers(program), output_of "getconf GNU_LIBC_VERSION",
    ("lua %s %s"):format(lua, link), "libuv " .. libuv,
  }, ", ")
end

-- Why a binary cannot be counted or compared with the file, or nil.
function instructions.obstacle(binary, recorded)
  local cache = read(binary:gsub("[^/]*$", "") .. "CMakeCache.txt") or ""
  local flags = cache:match "\nCMAKE_C_FLAGS:STRING=([^\n]*)"
  if not cache:find("\nCMAKE_BUILD_TYPE:STRING=Release\n", 1, true) or flags ~= ""
    or cache:find "\nLUNAD_SANITIZE:BOOL=ON\n" then
    return "the counts are those of the release build"
  elseif output_of(PATH .. "; command -v valgrind") == "" then
    return "valgrind is not installed in /usr/bin"
  end
  local here = instructions.toolchain(binary)
  if recorded and recorded.toolchain ~= here then
    return ("the counts were made with %s; here is %s"):format(recorded.toolchain, here)
  end
end

-- The file: `toolchain`, and a list of { name, count }.
function instructions.load()
  local recorded = { toolchain = "nothing" }
  for line in (read(FILE) or ""):gmatch "[^\n]+" do
    local name, count = line:match "^(%l[%l' ]-) +(%d+)$"
    recorded.toolchain = line:match "^# with (.*)$" or recorded.toolchain
    if name then
      recorded[#recorded + 1] = { name, tonumber(count) }
    end
  end
  return recorded
end

function instructions.save(toolchain, counts)
  local lines = {
    "# Instructions of lunad's process for one of each, with the collector's work for what it leaves, not",
    "# the kernel's. spec/fixtures/hot_paths.lua has the rows; scripts/instructions --accept renews them.",
    "# with " .. toolchain,
  }
  for _, row in ipairs(counts) do
    lines[#lines + 1] = ("%-14s %6d"):format(row[1], row[2])
  end
  local file = assert(io.open(FILE, "w"))
  file:write(table.concat(lines, "\n"), "\n")
  file:close()
end

-- The sums of a run in order: lists of { times, instructions } with a `name`. Only the first thread counts.
local function read_sums(path)
  local sums, list = {}, {}
  local is_first, name, times
  for line in (read(path) or ""):gmatch "[^\n]+" do
    if line:find "^thread: " then
      is_first, name = line == "thread: 1", nil
    elseif line:find "^desc: Trigger: Client Request: " then
      name, times = line:match "Request: (.*): (%d+)$"
    elseif is_first and name and line:find "^summary: " then
      if not sums[name] then
        sums[name] = { name = name }
        list[#list + 1] = sums[name]
      end
      table.insert(sums[name], { tonumber(times), tonumber(line:match "%d+") })
    end
  end
  return list
end

-- The instructions of one of each in a run, by name and in order.
local function read_run(path)
  local counts = {}
  for i, sums in ipairs(read_sums(path)) do
    local few, many = sums[1], sums[2]
    counts[i] = { sums.name, few and many and (many[2] - few[2]) / (many[1] - few[1]) or nil }
  end
  return counts
end

-- Take the counts of a run where they are less than LEAST; false and why if one is missing.
local function keep_least(least, counts, is_first)
  if #counts == 0 or not is_first and #counts ~= #least then
    return false, ("%d counts were made"):format(#counts)
  end
  for i, row in ipairs(counts) do
    if not row[2] then
      return false, "not counted to the end: " .. row[1]
    end
    row[2] = math.floor(row[2] + 0.5)
    least[i] = least[i] or row
    least[i][2] = math.min(least[i][2], row[2])
  end
  return true
end

-- Count once for each seed, at the same time, each in a directory of its own. The environment has the same
-- size everywhere, because addresses of the stack are in the seeds too.
local COUNT <const> = [[
  cc -shared -fPIC -O1 -D_GNU_SOURCE $(pkg-config --cflags lua5.4) -o @DIR@/meter.so spec/fixtures/meter.c ||
    exit
  count() {
    mkdir "$1" && cp spec/fixtures/hot_paths.lua "$1" && cd "$1" &&
    timeout -k 5 @PATIENCE@ env -i @PATH@ LUNAD_RUN_DIR="$1" LUNAD_LOG_DIR="$1" \
      METER_SEED=@SEED@ LD_PRELOAD=@DIR@/meter.so GLIBC_TUNABLES=@SAME_FUNCTIONS@ \
      valgrind --tool=callgrind --instr-atstart=no --separate-threads=yes --combine-dumps=yes \
      --child-silent-after-fork=yes --callgrind-out-file=counts --log-file=valgrind \
      @BINARY@ run --log log --stuck-after 0 --cpath @DIR@ hot_paths.lua >said 2>&1
  }
  @EACH@
  wait]]

-- Count with a binary, in an empty directory: a list of { name, count }, or nil and what went wrong.
function instructions.count(binary, dir)
  local values = {
    PATH = PATH, DIR = dir, BINARY = binary, PATIENCE = PATIENCE, SAME_FUNCTIONS = SAME_FUNCTIONS,
  }
  local each = {}
  for i, seed in ipairs(SEEDS) do
    each[i] = ("METER_SEED=%d; count %s/%d &"):format(seed, dir, seed)
  end
  values.EACH = table.concat(each, "\n")
  values.SEED = '"$METER_SEED"'
  os.execute((COUNT:gsub("@([%u_]+)@", values)))
  local least = {}
  for i, seed in ipairs(SEEDS) do
    local place = ("%s/%d/"):format(dir, seed)
    local ok, why = keep_least(least, read_run(place .. "counts"), i == 1)
    if not ok then
      return nil, why .. "\n" .. output_of(("cd %s && tail -n 20 said log valgrind"):format(place))
    end
  end
  return least
end

-- Compare counts with those of the file: a list of { name, before, now }. Where only one has a row, the other
-- is missing.
function instructions.compare(recorded, counts)
  local rows, by_name = {}, {}
  for i, row in ipairs(counts) do
    rows[i] = { name = row[1], now = row[2] }
    by_name[row[1]] = rows[i]
  end
  for _, row in ipairs(recorded) do
    local both = by_name[row[1]]
    if both then
      both.before = row[2]
    else
      rows[#rows + 1] = { name = row[1], before = row[2] }
    end
  end
  return rows
end

-- A row of a comparison as text.
function instructions.show(row)
  local growth = row.before and row.now and ("%+.1f %%"):format(100 * (row.now / row.before - 1)) or ""
  return ("%-14s %7s -> %7s  %s"):format(row.name, row.before or "-", row.now or "-", growth)
end

-- The rows that `belongs` chooses, as text, one a line; nil if there are none.
local function show_all(rows, belongs)
  local lines = {}
  for _, row in ipairs(rows) do
    if belongs(row) then
      lines[#lines + 1] = "  " .. instructions.show(row)
    end
  end
  return lines[1] and table.concat(lines, "\n")
end

local function is_worse(row)
  return not row.before or not row.now or 100 * row.now > (100 + MOST_GROWTH) * row.before
end

local function is_much_cheaper(row)
  return row.before and row.now and 100 * row.now < (100 - NOTABLE_GAIN) * row.before
end

-- What of a comparison fails, as text, and what is worth a note; nil if there is nothing.
function instructions.judge(rows)
  local worse, cheaper = show_all(rows, is_worse), show_all(rows, is_much_cheaper)
  return worse and ("more than %d %% dearer, or a row that only one side has:\n%s\n"
      .. "If it must be so, scripts/instructions --accept writes %s anew."):format(MOST_GROWTH, worse, FILE),
    cheaper and ("much cheaper than %s says; scripts/instructions --accept keeps it so:\n%s"):format(FILE,
      cheaper)
end

return instructions

-- The log of a daemon that writes very many lines, while its file, its directory, its disk and its reader
-- go and come back: each line is there once and whole, or counted as dropped.

local support = require "support"
local stress = require "support.stress"

local uv = support.uv

-- How many lines there are: of print and of lunad.log, half each, and of each of two children.
local OWN = stress.size(30000, 1000000)
local OF_CHILD = stress.size(10000, 250000)
local ROTATION = 0.05 -- seconds

-- Writes numbered lines at a rate.
local WRITER = [[
  local OWN, OF_CHILD, RATE = %d, %d, %d
  for i = 1, OF_CHILD > 0 and 2 or 0 do
    local program = "BEGIN { while (++n <= " .. OF_CHILD .. ") print \"line \" n \" .\" }"
    lunad.spawn { "awk", program, name = "c" .. i }
  end
  local beats, beat = 0, nil
  beat = lunad.every(0.01, function() beats = beats + 1 end)
  local start, lines = lunad.now(), 0
  local writer
  writer = lunad.every(0.002, function()
    local goal = math.min(OWN, math.ceil((lunad.now() - start) * RATE))
    for line = lines + 1, math.min(goal, lines + 2000) do
      if line %% 2 == 0 then
        print("line " .. line .. " .")
      else
        lunad.log.info("line " .. line .. " .")
      end
    end
    lines = math.min(goal, lines + 2000)
    if lines == OWN then
      writer:stop()
      local took, all = lunad.now() - start, beats + beat:missed()
      local text = ("written in %%.2f s, %%d of %%d beats"):format(took, beats, all)
      print(text)
      lunad.status(text)
    end
  end)
]]

local STAMP = "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ"

-- How a line is taken apart, in each format: source and message.
local PATTERNS = {
  text = "^" .. STAMP .. " %l+ +([^:]+): (.*)$",
  json = '^{"time":"' .. STAMP .. '","level":"%l+","source":"([^"]+)","pid":%d+,"message":"(.*)"}$',
}

-- Checks lines as they come: numbers of each source follow each other, from 1 on, or, with `first`, from any.
local Reader = {}
Reader.__index = Reader

local function new_reader(format)
  return setmetatable({ pattern = PATTERNS[format], format = format, last = {}, dropped = 0, lines = 0 },
    Reader)
end

-- With `gaps` lines may be missing: they are counted.
function Reader:line(line, gaps)
  local source, message = line:match(self.pattern)
  if self.format == "text" and self.lines > 0 and line:find "^    " then
    return -- a further line of a message
  end
  if not source and gaps and line:find "^%d[%w:%.%- ]*$" then
    return -- what was written before the disk was full; it has been ended
  end
  assert(source, "not a whole line: " .. line)
  assert(self.format == "text" or self.lines % 1000 > 0 or support.json.decode(line), line)
  self.lines = self.lines + 1
  self.dropped = self.dropped + (tonumber(message:match "^(%d+) log lines? w%l+ dropped: ") or 0)
  self.written = self.written or message:match "^written in .*"
  self.reported = self.reported or message:match "running, pid %d+"
  local number = tonumber(message:match "^line (%d+) %.$")
  if number then
    local last = self.last[source] or (self.first and number - 1) or 0
    assert(number == last + 1 or gaps and number > last, ("%s: %d after %d"):format(source, number, last))
    if self.first and not self.first[source] then
      self.first[source] = number
    end
    self.last[source] = number
    self.numbered = (self.numbered or 0) + 1
  end
end

function Reader:text(text, gaps)
  assert(text == "" or text:sub(-1) == "\n", "the last line is torn: " .. text:sub(-100))
  for line in text:gmatch "([^\n]*)\n" do
    self:line(line, gaps)
  end
end

-- The numbers of the last lines of the children.
function Reader:children()
  local list = {}
  for source, last in pairs(self.last) do
    list[#list + 1] = source ~= "s" and last or nil
  end
  return list
end

describe("The log under stress", function()
  local box = support.with_box(before_each, after_each)

  -- Rename the log and have it opened again, until all is written.
  local function rotate_all(reader)
    local rotations = 0
    local function ask(verb)
      local client = box:connect "s"
      local answer = client:ask(verb)
      client:close()
      return answer
    end
    repeat
      local next_time = uv.hrtime() + ROTATION * 1e9
      rotations = rotations + 1
      assert(uv.fs_rename(box:path "log/s.log", box:path("log/old." .. rotations)))
      support.wait_for("the new log", function() -- the script may be busy for a moment
        local answer = ask "reopen"
        assert(answer.ok or answer.busy, answer.error)
        return answer.ok
      end)
      support.wait_for("the next rotation", function() return uv.hrtime() >= next_time end)
      local status = ask "status"
    until rotations >= 2 and status.text and #status.children == 0
    box:ok("reopen", "s")
    for i = 1, rotations do
      reader:text(box:read("log/old." .. i))
      uv.fs_unlink(box:path("log/old." .. i))
    end
    reader:text(box:log "s")
    return rotations
  end

  local cases = { { "text" }, { "json" } }
  if support.is_root then
    cases[3] = { "text", "--user", "65534" }
  end
  for _, case in ipairs(cases) do
    it("loses and tears no line when it is rotated every 50 ms: " .. table.concat(case, " "), function()
      local reader = new_reader(case[1])
      box:serve(WRITER:format(OWN, OF_CHILD, 70000), "--log-format", table.unpack(case))
      local rotations = rotate_all(reader)
      assert.equal(0, reader.dropped)
      assert.equal(OWN, reader.last.s)
      assert.same({ OF_CHILD, OF_CHILD }, reader:children())
      stress.note("%d lines, %d rotations; the script's were %s", reader.lines, rotations, reader.written)
    end)
  end

  -- Rotate the log from outside too, until all is written, while it rotates by itself.
  local function reopen_all()
    local moved, client = 0, box:connect "s"
    repeat
      local next_time = uv.hrtime() + ROTATION * 1e9
      local ok = moved < 20 and uv.fs_rename(box:path "log/s.log", box:path("log/moved." .. moved + 1))
      moved = moved + (ok and 1 or 0)
      assert(client:ask("reopen").ok)
      support.wait_for("the next time", function() return uv.hrtime() >= next_time end)
      local status = client:ask "status"
    until status.text and #status.children == 0
    box:ok("stop", "s")
    return moved
  end

  -- The spans of numbers that the files of the log have of each source; how many lines and files there are.
  local function read_all(format)
    local spans, lines, files = {}, 0, 0
    local scan = assert(uv.fs_scandir(box:path "log"))
    for name in function() return (uv.fs_scandir_next(scan)) end do
      local reader = new_reader(format)
      reader.first = {}
      local text = box:read("log/" .. name)
      assert.is_true(#text <= 65536, name)
      reader:text(text)
      assert.equal(0, reader.dropped)
      lines, files = lines + reader.lines, files + 1
      for source, first in pairs(reader.first) do
        spans[source] = spans[source] or {}
        table.insert(spans[source], { first = first, last = reader.last[source] })
      end
    end
    return spans, lines, files
  end

  -- How many lines spans have that follow each other from 1 on.
  local function join(spans)
    table.sort(spans, function(a, b) return a.first < b.first end)
    local last = 0
    for _, span in ipairs(spans) do
      assert.equal(last + 1, span.first)
      last = span.last
    end
    return last
  end

  for _, case in ipairs(cases) do
    it("loses and tears no line when it rotates by size: " .. table.concat(case, " "), function()
      local own, of_child = stress.size(30000, 300000), stress.size(10000, 100000)
      box:serve(WRITER:format(own, of_child, 70000), "--log-max-size", "64K", "--log-keep", "999",
        "--log-format", table.unpack(case))
      local moved = reopen_all()
      local spans, lines, files = read_all(case[1])
      local joined = {}
      for source, list in pairs(spans) do
        joined[#joined + 1] = join(list)
        assert.equal(source == "s" and own or of_child, joined[#joined])
      end
      assert.equal(3, #joined)
      stress.note("%d lines, %d files, %d of them moved from outside", lines, files, moved)
    end)
  end

  for _, words in ipairs { {}, support.is_root and { "--user", "65534" } or nil } do
    it("continues when its directory is removed and made again " .. table.concat(words, " "), function()
      box:serve(WRITER:format(stress.size(20000, 600000), 0, 20000), table.unpack(words))
      local reader = new_reader "text"
      for round = 1, stress.size(3, 50) do
        assert(uv.fs_rename(box:path "log/s.log", box:path("old." .. round)))
        assert(uv.fs_rmdir(box:path "log"))
        box:ok("reopen", "s")
        reader:text(box:read("old." .. round))
        assert(box:read "log/s.log")
        uv.fs_unlink(box:path("old." .. round))
      end
      support.wait_for("the last line", function() return box:status("s").text end, stress.size(60, 120))
      reader:text(box:log "s")
      assert.equal(stress.size(20000, 600000), reader.last.s)
      assert.equal(0, reader.dropped)
    end)
  end

  it("counts what it drops while its disk is full", function()
    if not support.is_root then return pending "needs root" end
    assert(uv.fs_mkdir(box:path("small"), tonumber("755", 8)))
    local lines = stress.size(20000, 400000)
    local script = box:write("s.lua", support.BEAT .. WRITER:format(lines, 0, 20000))
    local mount = 'mount -t tmpfs -o size=128k none small && exec "$1" start --log small/s.log "$2"'
    local result = box:shell(mount, { script }, { through = { "unshare", "--mount" } })
    assert.equal(0, result.code, result.err)
    local disk = ("/proc/%d/root%s/small/"):format(box:status("s").pid, box.dir)
    local reader, client, rounds, dropped, written = new_reader "text", box:connect "s", 0, 0, nil
    repeat
      support.wait_for("a full disk, or the end", function()
        local status = client:ask "status"
        written = status.text
        local is_full = status.log.dropped > dropped
        dropped = status.log.dropped
        return is_full or written
      end)
      rounds = rounds + 1
      assert(uv.fs_rename(disk .. "s.log", disk .. "old"))
      assert(client:ask("reopen").ok)
      local whole, torn = support.read(disk .. "old"):match "^(.-)([^\n]*)$"
      assert.is_true(#torn < 100)
      reader:text(whole, true)
      assert(uv.fs_unlink(disk .. "old"))
    until written
    box:ok("reopen", "s")
    reader:text(support.read(disk .. "s.log"), true)
    stress.note("disk full %d times, %d lines dropped; %s", rounds, reader.dropped, written)
    assert.is_true(reader.dropped > 0)
    -- What was dropped may be other lines too, of lunad itself.
    local missing = lines - reader.numbered
    assert.is_true(missing <= reader.dropped and reader.dropped <= missing + 2 * rounds + 2)
  end)

  it("counts what it drops while its reader has gone, and goes on when one has come", function()
    local fifo, lines = box:path "fifo", stress.size(20000, 400000)
    local text = support.BEAT .. WRITER:format(lines, 0, 20000)
    local script = box:write("s.lua", (text:gsub("print%(", "lunad.log.info(")))
    assert.equal(0, box:run({ fifo }, { program = "mkfifo" }).code)
    local file = assert(uv.fs_open(fifo, uv.constants.O_RDONLY | uv.constants.O_NONBLOCK, 0))
    local process = box:spawn({ "-c", 'exec "$0" run "$1" 2>fifo', support.binary, script },
      { program = "sh" })
    local reader, rest, turns, written = new_reader "text", "", 0, false
    local function read_some()
      local chunk = uv.fs_read(file, 65536, -1)
      local whole, new_rest = (rest .. (chunk or "")):match "^(.-)([^\n]*)$"
      reader:text(whole, true)
      rest = new_rest
      return chunk and #chunk > 0
    end
    support.wait_for("the service", read_some)
    local client = box:connect "s"
    repeat
      local before = client:ask("status").log.dropped
      uv.fs_close(file)
      support.wait_for("lines to be dropped", function()
        local status = client:ask "status"
        written = status.text
        return status.log.dropped > before or written
      end)
      file = assert(uv.fs_open(fifo, uv.constants.O_RDONLY | uv.constants.O_NONBLOCK, 0))
      turns = turns + 1
      for _ = 1, 50 do
        read_some()
        uv.sleep(1)
      end
    until written
    box:ok("signal", "s", "USR2")
    support.wait_for("the last line", function()
      read_some()
      return rest == "" and reader.reported
    end)
    uv.fs_close(file)
    stress.note("reader gone %d times, %d lines dropped; %s", turns, reader.dropped, written)
    assert.is_true(reader.dropped > 0)
    local missing = lines - reader.numbered
    assert.is_true(missing <= reader.dropped and reader.dropped <= missing + 4)
    box:ok("stop", "s")
    box:await(process, "the end of run", process.is_over)
  end)
end)

-- --log-max-size and --log-keep: the log rotates by itself.

local support = require "support"
local uv = support.uv

local function stat(path)
  return assert(uv.fs_lstat(path))
end

local function mode(path)
  return ("%o"):format(stat(path).mode & 4095)
end

-- Writes numbered lines: w(FIRST, LAST).
local WRITER = [[
  function w(first, last)
    for i = first, last do lunad.log.info("line " .. i .. " .") end
  end
]]

describe("The log that rotates by size", function()
  local box = support.with_box(before_each, after_each)

  -- The rotated files of a log, from the oldest on, and the log itself at the end.
  local function chain(name)
    local list = {}
    local path = box:path("log/" .. (name or "s.log"))
    for number = 40, 1, -1 do
      if uv.fs_lstat(path .. "." .. number) then
        list[#list + 1] = path .. "." .. number
      end
    end
    list[#list + 1] = path
    return list
  end

  local function all(name)
    local parts = {}
    for i, path in ipairs(chain(name)) do
      parts[i] = assert(support.read(path))
    end
    return table.concat(parts)
  end

  -- The numbers of the lines that match, which must follow each other.
  local function range(text, pattern)
    local first, last
    for number in text:gmatch(pattern) do
      number = tonumber(number)
      assert(last == nil or number == last + 1, ("%d after %s"):format(number, last))
      first, last = first or number, number
    end
    return first, last
  end

  local users = support.is_root and { {}, { "--user", "65534" }, { "--restart", "always" } } or { {} }
  for _, words in ipairs(users) do
    it("loses no line and exceeds no size " .. table.concat(words, " "), function()
      box:serve(WRITER .. "w(1, 3000) lunad.log.info 'over'", "--log-max-size", "10K", "--log-keep", "40",
        table.unpack(words))
      box:wait_log("s", "s: over\n")
      local files = chain()
      assert.is_true(#files > 10)
      for i, path in ipairs(files) do
        local size = stat(path).size
        assert.is_true(size <= 10240, size)
        assert.is_true(i == #files or size > 10000, size)
        assert.equal("640", mode(path))
        assert.truthy(support.read(path):find "^%d%d%d%d%-.*\n$")
      end
      local first, last = range(all(), ": line (%d+) %.\n")
      assert.same({ 1, 3000 }, { first, last })
      assert.equal(0, box:status("s").log.dropped)
    end)
  end

  it("removes what is older than --log-keep", function()
    box:serve(WRITER .. "w(1, 3000) lunad.log.info 'over'", "--log-max-size", "10K", "--log-keep", "2")
    box:wait_log("s", "s: over\n")
    support.wait_for("two old files", function() return #chain() == 3 end)
    local _, last = range(all(), ": line (%d+) %.\n")
    assert.equal(3000, last)
  end)

  it("counts what is there at the start, and keeps its mode", function()
    assert(uv.fs_mkdir(box:path("log"), tonumber("755", 8)))
    box:write("log/s.log", ("x"):rep(1000) .. "\n")
    assert(uv.fs_chmod(box:path("log/s.log"), tonumber("604", 8)))
    box:serve("", "--log-max-size", "1K")
    assert.equal(("x"):rep(1000) .. "\n", box:read("log/s.log.1"))
    assert.equal("604", mode(box:path("log/s.log.1")))
    assert.equal("640", mode(box:path("log/s.log")))
  end)

  it("rotates what is written past it, and keeps a file that a child still writes to", function()
    box:serve([[
      local i = 0
      lunad.every(0.01, function()
        i = i + 1
        io.write("own " .. i .. "\n")
      end)
      lunad.spawn { "sh", "-c", "while ! [ -e ]] .. box:path("go") .. [[ ]; do sleep 0.01; done; echo child",
                    stdout = "inherit" }
    ]], "--log-max-size", "1000", "--log-keep", "1")
    support.wait_for("two rotations", function() return uv.fs_stat(box:path("log/s.log.2")) end)
    local held = box:path("log/s.log.2")
    assert.truthy(support.read(held):find("lunad: started", 1, true))
    box:write("go", "")
    support.wait_for("the child's line", function() return support.read(held):find("\nchild\n", 1, true) end)
    support.wait_for("its removal", function() return not uv.fs_stat(held) end, 60)
    box:ok("stop", "s")
    range(all(), "own (%d+)\n")
  end)

  it("loses no raw line of its own, and tears none", function()
    box:serve([[
      for i = 1, 2000 do
        io.write("raw " .. i .. (" "):rep(i % 50) .. ".\n")
        lunad.log.info("line " .. i .. " .")
      end
      io.write(("z"):rep(9000)) io.stdout:flush()
      lunad.log.info "between"
      io.write "end\n" lunad.log.info "over"
    ]], "--log-max-size", "8K", "--log-keep", "40")
    box:wait_log("s", "s: over\n")
    local text = all()
    assert.same({ 1, 2000 }, { range(text, "raw (%d+) *%.\n") })
    assert.same({ 1, 2000 }, { range(text, ": line (%d+) %.\n") })
    for _, path in ipairs(chain()) do
      assert.equal("\n", support.read(path):sub(-1), path)
    end
  end)

  it("moves nothing that another program has moved already, and opens the log again", function()
    box:serve("lunad.signal('WINCH', function() for _ = 1, 30 do lunad.log.info(('x'):rep(40)) end end)",
      "--log-max-size", "1K", "--log-keep", "3")
    support.wait_for("another program", function()
      assert(uv.fs_rename(box:path("log/s.log"), box:path("log/moved")))
      box:write("log/s.log", "")
      box:ok("signal", "s", "WINCH")
      support.wait_for("a rotation", function() return uv.fs_stat(box:path("log/s.log.1")) end)
      return true
    end)
    local whole = box:read("log/moved")
    assert.equal("\n", whole:sub(-1))
    local _, moved = whole:gsub(": x+\n", "")
    support.wait_for("all lines", function()
      local _, count = all():gsub(": x+\n", "")
      return moved + count == 30
    end)
  end)

  it("says once that it cannot rotate, and rotates as soon as it can", function()
    assert(uv.fs_mkdir(box:path("log"), tonumber("755", 8)))
    assert(uv.fs_symlink(box:path("target"), box:path("log/s.log.1")))
    box:write("target", "kept\n")
    box:serve(WRITER .. "w(1, 100) lunad.signal('WINCH', function() w(101, 200) end)", "--log-max-size", "2K",
      "--log-keep", "40")
    box:wait_log("s", "line 100 %.\n")
    local _, count = box:log("s"):gsub("error lunad: [^\n]*s%.log cannot be rotated, and grows: " ..
      "one of the older names is not a regular file; trying again every 10 s\n", "")
    assert.equal(1, count)
    assert.equal("kept\n", box:read("target"))
    assert(os.remove(box:path("log/s.log.1")))
    box:ok("reopen", "s")
    box:ok("signal", "s", "WINCH")
    box:wait_log("s", "line 200 %.\n")
    assert.same({ 1, 200 }, { range(all(), ": line (%d+) %.\n") })
    assert.is_true(#chain() > 3)
  end)

  it("on a full disk loses lines, says how many, and goes on when there is room", function()
    if not support.is_root then return pending("needs root") end
    assert(uv.fs_mkdir(box:path("small"), tonumber("755", 8)))
    local script = box:write("s.lua", "local lunad = require 'lunad' " .. WRITER ..
      "w(1, 3000) lunad.signal('WINCH', function() w(3001, 3400) end)")
    local result = box:shell([[
      mount -t tmpfs -o size=128k none small || exit 9
      head -c 64k /dev/zero >small/fill
      "$1" start --log small/s.log --log-max-size 16K --log-keep 4 "$2"
      "$1" status s >/dev/null && rm small/fill && "$1" signal s WINCH && "$1" stop s
      cat small/s.log.1 small/s.log
    ]], { script }, { through = { "unshare", "--mount" } })
    assert.equal(0, result.code, result.err)
    assert.matches("warn  lunad: %d+ log lines were dropped: No space left on device\n", result.out)
    assert.matches(": line 3399 %.\n[^\n]*: line 3400 %.\n", result.out)
  end)

  it("is not of any other kind of file", function()
    box:serve(WRITER .. "w(1, 100)", "--log", "/dev/full", "--log-max-size", "1K")
    assert.equal("running", box:status("s").state)
  end)

  it("has values that are checked", function()
    for _, words in ipairs { { "--log-max-size", "0" }, { "--log-max-size", "x" }, { "--log-keep", "0" },
                             { "--log-keep", "1000" }, { "--log-keep", "-1" } } do
      local err = box:refused(2, "start", words[1], words[2], box:idle("x"))
      assert.truthy(err:find(words[1] .. ': "' .. words[2] .. '"', 1, true), err)
    end
  end)
end)

local support = require "support"

local json, uv = support.json, support.uv

local STAMP = "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ"

-- Run a script to its end in the foreground; what it has logged, without lunad's own lines.
local function logged(box, text, ...)
  local words = { "run", "-n", "s", ... }
  words[#words + 1] = box:write("s.lua", 'local lunad = require "lunad" local log = lunad.log ' .. text)
  local result = box:run(words)
  assert.equal(0, result.code, result.err)
  local lines = {}
  for line in (result.err:gsub("\n    ", "\0    ")):gmatch "[^\n]*\n" do
    if not line:find("^[^ ]+ %a+ +lunad: ") then
      lines[#lines + 1] = line
    end
  end
  return (table.concat(lines):gsub("%z", "\n"))
end

-- What one message is logged as, without time, level and source.
local function message(box, text, ...)
  local line = logged(box, "log.info(" .. text .. ")", ...)
  local rest = line:match("^" .. STAMP .. " info  s: (.*)\n$")
  assert.is_truthy(rest, "not one line: " .. line)
  return rest
end

describe("a line of the log", function()
  local box = support.with_box(before_each, after_each)

  it("has time, level, source and message", function()
    local lines = logged(box, [[
      log.debug "d" log.info "i" log.warn "w" log.error "e"
    ]], "--log-level", "debug")
    assert.matches(("^%s debug s: d\n%s info  s: i\n%s warn  s: w\n%s error s: e\n$")
      :format(STAMP, STAMP, STAMP, STAMP), lines)
  end)

  it("has its time in UTC", function()
    local path = box:write("s.lua", "require 'lunad'.log.info 'now'")
    local result = box:run({ "run", path }, { env = { TZ = "Asia/Tokyo" } })
    local hour = result.err:match "T(%d%d):[^\n]* s: now"
    local now = os.time()
    assert.is_true(hour == os.date("!%H", now) or hour == os.date("!%H", now - 60))
  end)

  it("has the name of the daemon as its source", function()
    local path = box:write("s.lua", "require 'lunad'.log.info 'x'")
    assert.matches("info  other%.name: x\n", box:lunad("run", "-n", "other.name", path).err)
  end)

  it("has fields after the message, sorted, with their types", function()
    assert.equal("tick a=1 b=2.5 c=true d=word e=false", message(box,
      "'tick', { b = 2.5, a = 1, d = 'word', c = true, e = false }"))
  end)

  it("has field values quoted where their end would be in doubt", function()
    for value, shown in pairs {
      [ [["two words"]] ] = [["two words"]], [ [[""]] ] = [[""]], [ [['say "hi"']] ] = [["say \"hi\""]],
      [ [["x=y"]] ] = [["x=y"]], [ [["back\\slash"]] ] = [["back\\slash"]], [ [["\n"]] ] = [["\x0A"]],
      [ [["\t"]] ] = '"\t"', [ [["\27[31m"]] ] = [["\x1B[31m"]],
    } do
      assert.equal("m a=" .. shown .. " b=1", message(box, ("'m', { a = %s, b = 1 }"):format(value)))
    end
  end)

  it("has values that are not plain data as tostring makes them", function()
    assert.equal("m t=shown", message(box,
      "'m', { t = setmetatable({}, { __tostring = function() return 'shown' end }) }"))
    assert.matches("^m f=\"?function: ", message(box, "'m', { f = print }"))
  end)

  it("has the further lines of a message indented by four spaces", function()
    assert.equal("one\n    two\n    \n    four", message(box, "'one\\ntwo\\n\\nfour'"))
  end)

  it("may be empty", function()
    assert.equal("", message(box, "''"))
  end)

  it("keeps TAB and valid UTF-8, and escapes C0, C1 and DEL", function()
    assert.equal("a\tb \u{e9}\u{20ac}\u{1f600}", message(box, "'a\\tb \\u{e9}\\u{20ac}\\u{1f600}'"))
    assert.equal([[\x00\x01\x07\x08\x0B\x0C\x0D\x1B[31m\x1F\x7F]],
      message(box, [["\0\1\7\8\v\f\r\27[31m\x1F\x7F"]]))
    assert.equal([[\x80\x85\x9B]], message(box, [["\u{80}\u{85}\u{9b}"]]))
  end)

  it("escapes bytes that are not UTF-8", function()
    assert.equal([[\xFF\xC3(\x80\xED\xA0\x80\xC0\xAF\xF4\x90\x80\x80\xE2\x82]],
      message(box, [["\xFF\xC3(\x80\xED\xA0\x80\xC0\xAF\xF4\x90\x80\x80\xE2\x82"]]))
  end)

  it("escapes all of them", function()
    local text = logged(box, [[
      local bytes = {}
      for byte = 0, 255 do bytes[#bytes + 1] = string.char(byte) end
      log.info(table.concat(bytes, "."))
    ]])
    assert.not_matches("[%z\1-\8\11-\31\127-\255]", text)
    assert.equal(1, select(2, text:gsub("\n    ", "")))
  end)

  it("can be a megabyte long", function()
    assert.equal(1000000, #message(box, "('x'):rep(1000000)"))
  end)
end)

describe("no output can forge a line:", function()
  local box = support.with_box(before_each, after_each)

  local FORGED = "2026-01-01T00:00:00.000Z error lunad: forged"

  -- No line begins with what was to be forged.
  local function not_forged(text)
    assert.is_truthy(text:find("forged", 1, true), text)
    assert.is_nil(("\n" .. text):gsub("\r", "\n"):find("\n" .. FORGED, 1, true), text)
  end

  for what, text in pairs {
    ["a message"] = "log.info(%s)", ["print"] = "error 'as a daemon only'",
    ["a field's value"] = "log.info('m', { a = %s })", ["a field's name"] = "log.info('m', { [%s] = 1 })",
    ["an object's tostring"] = "log.info('m', { a = setmetatable({}, " ..
      "{ __tostring = function() return %s end }) })",
    ["an error"] = "lunad.sleep(0.01) lunad.on_stop(function() error(%s, 0) end)",
    ["a warning"] = "warn(%s)",
    ["a child's line"] = "lunad.spawn { 'printf', '%%s', %s }",
    ["a child's stderr"] = "lunad.spawn { 'sh', '-c', 'printf %%s \"$0\" >&2', %s }",
  } do
    if what ~= "print" then
      it(what, function()
        for _, newline in ipairs { "\\n", "\\r", "\\r\\n", "\\v", "\\f", "\\u{85}", "\\27E" } do
          local value = ('"x%s%s"'):format(newline, FORGED)
          local path = box:write("s.lua", 'local lunad = require "lunad" local log = lunad.log ' ..
            text:format(value))
          local result = box:lunad("run", path)
          if not (what:find "child" and newline == "\\n") then
            not_forged(result.err)
          end
          assert.not_matches("[\r\v\f\27]", result.err)
        end
      end)
    end
  end

  it("print", function()
    local pid = box:serve(('print("x\\n%s\\r%s") print "over"'):format(FORGED, FORGED))
    assert.truthy(pid)
    box:wait_log("s", "s: over\n")
    not_forged(box:log "s")
  end)

  it("a line of a child that looks like one comes after the child's name", function()
    local text = logged(box, ("lunad.spawn { 'printf', 'x\\n%s\\n' }"):format(FORGED))
    assert.matches(STAMP .. " info  s/printf%[%d+%]: x\n" .. STAMP .. " info  s/printf%[%d+%]: 2026", text)
  end)
end)

describe("the lines of children", function()
  local box = support.with_box(before_each, after_each)

  it("have NAME/CHILD[PID] as their source, be it stdout or stderr", function()
    local text = logged(box, [[
      lunad.spawn { "sh", "-c", "echo out $$; echo err $$ >&2" }
      lunad.spawn { "sh", "-c", "echo out $$", name = "my.child" }
    ]])
    local pid = text:match "s/sh%[(%d+)%]: out"
    assert.is_truthy(text:find(("s/sh[%s]: out %s\n"):format(pid, pid), 1, true))
    assert.is_truthy(text:find(("s/sh[%s]: err %s\n"):format(pid, pid), 1, true))
    assert.matches("s/my%.child%[(%d+)%]: out %1\n", text)
  end)

  it("are whole, in whatever pieces they come, also the last one without a newline", function()
    local text = logged(box, [[
      lunad.spawn { "sh", "-c",
        "printf one; sleep 0.02; printf 'more\\ntwo\\n\\nthr'; sleep 0.02; printf ee" }
    ]])
    assert.matches("%]: onemore\n[^\n]+%]: two\n[^\n]+%]: \n[^\n]+%]: three\n$", text)
  end)

  it("lose nothing when they are very long", function()
    box:serve "lunad.spawn { 'sh', '-c', [==[head -c 300000 /dev/zero | tr '\\0' x; echo; echo end]==] }"
    box:wait_log("s", "%]: end\n")
    local length = 0
    for piece in box:log("s"):gmatch "%]: (x+)[^x\n]*\n" do length = length + #piece end
    assert.equal(300000, length)
  end)

  it("say when they are pieces of a line over 64 KiB, and cut no character", function()
    local script = "lunad.spawn { 'sh', '-c', " ..
      "[==[printf .; yes é | head -n 70000 | tr -d '\\n'; echo; echo end]==] }"
    local lines = {}
    for line in logged(box, script):gmatch "%]: ([^\n]*)\n" do lines[#lines + 1] = line end
    assert.equal("." .. ("é"):rep(32767) .. " part=1 cut=true", lines[1])
    assert.equal(("é"):rep(32768) .. " part=2 cut=true", lines[2])
    assert.equal(("é"):rep(70000 - 32767 - 32768) .. " part=3", lines[3])
    assert.equal("end", lines[4])
    local text = logged(box, script, "--log-format", "json")
    local part = 0
    for line in text:gmatch "[^\n]+" do
      local object = json.decode(line)
      if object.part then
        part = part + 1
        assert.equal(part, object.part)
        assert.equal(part < 3 or nil, object.cut)
        assert.truthy(utf8.len(object.message))
      end
    end
    assert.equal(3, part)
  end)

  it("have names with the characters of NAME only", function()
    local odd = box:write("o\ndd \27name", "#!/bin/sh\necho hello\n")
    assert(uv.fs_chmod(odd, tonumber("755", 8)))
    local text = logged(box, ("lunad.spawn { %q }"):format(odd))
    assert.matches("^" .. STAMP .. " info  s/[%w._-]+%[%d+%]: hello\n$", text)
    box:inside [[raises("name", lunad.spawn, { "true", name = "a\nb" })]]
  end)
end)

describe("print", function()
  local box = support.with_box(before_each, after_each)

  it("is info in a daemon, its values separated by tabs, as tostring makes them", function()
    box:serve [[
      print("a", 1, 2.0, nil, true, setmetatable({}, { __tostring = function() return "obj" end }))
      print()
    ]]
    assert.matches(STAMP .. " info  s: a\t1\t2%.0\tnil\ttrue\tobj\n" .. STAMP .. " info  s: \n", box:log "s")
  end)

  it("is plain stdout in the foreground, flushed at once", function()
    local path = box:write("s.lua", "print('a', nil, 1) print 'b\\n\\27c' require 'lunad'.sleep(60)")
    local process = box:spawn { "run", path }
    box:await(process, "the output", function() return #process.out() >= 13 end)
    assert.equal("a\tnil\t1\nb\n\27c\n", process.out())
    support.kill(process.pid)
    box:await(process, "the end", process.is_over)
  end)
end)

describe("what goes to descriptors 1 and 2 by other ways", function()
  local box = support.with_box(before_each, after_each)

  it("is raw in the same file, a line at a time", function()
    box:serve [[
      io.write("from io.write\n")
      io.stdout:write("from stdout\27\n")
      io.stderr:write("from stderr\n")
      os.execute "echo from os.execute"
      lunad.spawn { "echo", "from an inherited stdout", stdout = "inherit" }
    ]]
    box:wait_log("s", "from an inherited stdout\n")
    for _, what in ipairs { "io.write", "stdout\27", "stderr", "os.execute" } do
      assert.is_truthy(("\n" .. box:log "s"):find("\nfrom " .. what .. "\n", 1, true), box:log "s")
    end
  end)

  it("is there as soon as its line is whole", function()
    box:serve "lunad.after(0.01, function() io.write('one\\ntw') end)"
    box:wait_log("s", "one\n")
  end)

  it("follows the log when it is reopened", function()
    box:serve "lunad.signal('WINCH', function() io.write('raw\\n') os.execute 'echo shell' end)"
    assert(uv.fs_rename(box:path "log/s.log", box:path "log/old.log"))
    box:ok("reopen", "s")
    box:ok("signal", "s", "WINCH")
    box:wait_log("s", "raw\n")
    box:wait_log("s", "shell\n")
    assert.not_matches("raw", box:log "old")
  end)
end)

describe("--log-level", function()
  local box = support.with_box(before_each, after_each)

  local LEVELS = { "debug", "info", "warn", "error" }

  for least, level in ipairs(LEVELS) do
    it(level .. " lets through what is at least that", function()
      local text = logged(box, "for _, l in ipairs { 'debug', 'info', 'warn', 'error' } do log[l](l) end",
        "--log-level", level)
      for i, name in ipairs(LEVELS) do
        assert.equal(i >= least, text:find("s: " .. name, 1, true) ~= nil)
      end
    end)
  end

  it("is info when it is not given", function()
    assert.equal("", logged(box, "log.debug 'x'"))
    assert.matches("s: x", logged(box, "log.info 'x'"))
  end)

  it("holds for print in a daemon, for lunad's own lines and for those of children", function()
    box:serve("print 'printed' lunad.spawn { 'echo', 'child' } lunad.after(0.1, lunad.log.error, 'over')",
      "--log-level", "error")
    box:wait_log("s", "s: over")
    assert.not_matches(" info ", box:log "s")
    assert.equal("error", box:status("s").log.level)
  end)
end)

describe("lunad.log", function()
  local box = support.with_box(before_each, after_each)

  it("raises for wrong arguments, naming them", function()
    box:inside [[
      for _, level in ipairs { "debug", "info", "warn", "error" } do
        raises("#1", lunad.log[level])
        raises("#1", lunad.log[level], {})
        raises("#1", lunad.log[level], true)
        raises("#2", lunad.log[level], "m", "x")
        raises("#2", lunad.log[level], "m", 1)
        raises("field", lunad.log[level], "m", { "no name" })
        raises("field", lunad.log[level], "m", { [true] = 1 })
      end
    ]]
  end)

  -- Values that cannot be converted to text, as code, and what is logged for them.
  local FAILED = "%(a table whose __tostring failed: "
  local ODD = {
    ["__tostring = function() error 'oops' end"] = FAILED .. "[^\n]*s%.lua:1: oops%)",
    ["__tostring = function() error({}) end"] = FAILED .. "%(error object is a table value%)%)",
    ["__tostring = function() error() end"] = FAILED .. "%(error object is a nil value%)%)",
    ["__tostring = function(o) error(o) end"] = FAILED .. "%(error object is a table value%)%)",
    ["__tostring = function() return {} end"] = FAILED .. "'__tostring' must return a string%)",
    ["__tostring = function() end"] = FAILED .. "'__tostring' must return a string%)",
    ["__tostring = true"] = FAILED .. "attempt to call a boolean value%)",
    ["__tostring = function() lunad.sleep(1) end"] = FAILED .. ".*cannot suspend here.*%)",
    ["__tostring = function(o) return tostring(o) end"] = FAILED .. ".*stack overflow.*%)",
    ["__tostring = function() return 42 end"] = "42",
    ["__name = 'My.Type'"] = "My%.Type: 0x%x+",
    ["__name = 42"] = "table: 0x%x+",
    ["__name = '\\n\\27[m'"] = "\\x0A\\x1B%[m: 0x%x+",
    ["__index = error, __len = error, __pairs = error"] = "table: 0x%x+",
  }

  for meta, pattern in pairs(ODD) do
    it("do not fail for a value with " .. meta, function()
      local script = ([[
        local odd = setmetatable({}, { %s })
        log.info("m", { odd = odd, z = 1 })
      ]]):format(meta)
      local quoted = '"?' .. pattern .. '"? z=1\n'
      assert.matches(" info  s: m odd=" .. quoted, logged(box, script))
      box:serve("local log = lunad.log " .. script)
      assert.equal(0, box:status("s").errors.count)
    end)
  end

  it("takes fields of any name, and tables that change or hold themselves", function()
    assert.equal("m _=1 _a_b=2 a.b-c_1=3 a_x00b=5 a__=4", message(box,
      [["m", { [""] = 1, ["=a b"] = 2, ["a.b-c_1"] = 3, ["a\u{e9}"] = 4, ["a\0b"] = 5 }]]))
    assert.matches("^m t=\"table: 0x%x+\"$", message(box,
      "'m', (function() local t = {} t.t = t return t end)()"))
    local text = logged(box, [[
      local fields = {}
      for i = 1, 20 do
        fields["k" .. i] = setmetatable({}, { __tostring = function()
          for key in pairs(fields) do fields[key] = nil end
          for j = 1, 100 do fields["new" .. j] = j end
          return "v" .. i
        end })
      end
      log.info("m", fields)
      log.info("m", setmetatable({ a = 1 }, { __pairs = error, __index = error }))
    ]])
    for i = 1, 20 do assert.truthy(text:find((" k%d=v%d"):format(i, i), 1, true)) end
    assert.matches("s: m a=1\n$", text)
  end)

  it("survives errors that are objects without a text", function()
    for _, object in ipairs { "setmetatable({}, { __tostring = function() error 'x' end })", "{}", "nil",
                              "print", "setmetatable({}, { __tostring = function() return {} end })" } do
      local script = ("local lunad = require 'lunad' lunad.sleep(0.01) error(%s)"):format(object)
      local result = box:lunad("run", box:write("s.lua", script))
      assert.matches("error lunad: [^\n]*%(error object is a %a+ value%)", result.err)
    end
  end)

  it("takes a number for a message, and nil for no fields", function()
    assert.equal("42", message(box, "42, nil"))
  end)
end)

describe("--log-format json", function()
  local box = support.with_box(before_each, after_each)

  -- The objects that a script has logged, lunad's own too.
  local function objects(text, ...)
    local words = { "run", "-n", "s", "--log-format", "json", ... }
    words[#words + 1] = box:write("s.lua", 'local lunad = require "lunad" local log = lunad.log ' .. text)
    local list = {}
    for line in box:run(words).err:gmatch "([^\n]*)\n" do
      local object = assert(json.decode(line, 1, json.null))
      list[#list + 1] = object
      list[object.message] = object
    end
    return list
  end

  it("writes one object a line with time, level, source, pid and message", function()
    local list = objects "log.warn 'careful' log.info(tostring(lunad.pid)) lunad.after(0, print)"
    local object = list.careful
    assert.matches("^" .. STAMP .. "$", object.time)
    assert.equal("warn", object.level)
    assert.equal("s", object.source)
    assert.is_truthy(list[tostring(object.pid)])
    for _, each in ipairs(list) do
      assert.is_truthy(each.time and each.level and each.source and each.pid and each.message)
    end
    assert.equal("lunad", list[#list].source)
  end)

  it("has the fields beside them, with their types", function()
    local object = objects("log.info('m', { i = 1, f = 2.5, b = false, s = 'x', t = {} })").m
    assert.same({ 1, 2.5, false, "x" }, { object.i, object.f, object.b, object.s })
    assert.matches("^table: ", object.t)
  end)

  it("never replaces its own members by fields", function()
    local object = objects([[
      log.info("m", { time = "T", level = "L", source = "S", pid = -1, message = "M" })
    ]]).m
    assert.matches("^" .. STAMP .. "$", object.time)
    assert.same({ "info", "s" }, { object.level, object.source })
    assert.is_true(object.pid > 1)
    local values = {}
    for _, value in pairs(object) do values[value] = true end
    assert.is_true(values.T and values.L and values.S and values[-1] and values.M)
  end)

  it("has the message verbatim", function()
    local text = [[a\n  b\t"c" \\ \27[31m\0\127 \u{80}\u{20ac}\u{1f600}]]
    local list = objects(("log.info \"%s\""):format(text:gsub('"c"', '\\"c\\"')))
    assert.is_truthy(list["a\n  b\t\"c\" \\ \27[31m\0\127 \u{80}\u{20ac}\u{1f600}"])
  end)

  it("has invalid UTF-8 replaced, in messages, values and names", function()
    local list = objects [[log.info("\xFFm\xC3", { ["k\xFF"] = "v\xFF" })]]
    local object = list["\u{FFFD}m\u{FFFD}"]
    assert.equal("v\u{FFFD}", object["k\u{FFFD}"])
  end)

  it("has null for numbers that JSON does not know", function()
    local object = objects("log.info('m', { a = 0/0, b = math.huge, c = -math.huge, d = 1 })").m
    assert.same({ json.null, json.null, json.null, 1 }, { object.a, object.b, object.c, object.d })
  end)

  it("writes one object a line of a child, and for an error with its traceback", function()
    local list = objects [[
      lunad.spawn { "printf", '{"level":"error"}\nx' }
      lunad.on_stop(function() error "oops" end)
    ]]
    assert.matches("^s/printf%[%d+%]$", list['{"level":"error"}'].source)
    assert.matches("^s/printf%[%d+%]$", list.x.source)
    local errors = 0
    for _, object in ipairs(list) do
      errors = errors + (object.message:find "oops\nstack traceback:\n" and 1 or 0)
    end
    assert.equal(1, errors)
  end)

  it("writes print as one too, in a daemon", function()
    box:serve("print('a', 1)", "--log-format", "json")
    assert.matches('"source":"s","pid":%d+,"message":"a\\t1"}\n', box:log "s")
  end)
end)

describe("reopening the log", function()
  local box = support.with_box(before_each, after_each)

  local LINES = 20000

  -- A daemon that logs numbered lines by three ways, some at a time.
  local NUMBERED = ([[
    lunad.spawn { "sh", "-c", "i=0; while [ $i -lt %d ]; do i=$((i+1)); echo child $i .; done", name = "c" }
    for i = 1, %d do
      lunad.log.info(("script %%d ."):format(i))
      if i %% 100 == 0 then lunad.sleep(0.001) end
    end
    print "all logged"
  ]]):format(LINES // 4, LINES)

  -- Every line from 1 to `last` is there once and whole.
  local function complete(text, pattern, last)
    local expected = 0
    for number in text:gmatch(pattern) do
      expected = expected + 1
      assert.equal(expected, math.tointeger(tonumber(number)))
    end
    assert.equal(last, expected)
  end

  it("loses and tears no line of 20,000, while it is renamed all the time", function()
    local pid = box:serve(NUMBERED)
    local files = 0
    repeat
      files = files + 1
      assert(uv.fs_rename(box:path "log/s.log", box:path("log/" .. files)))
      if files % 2 == 0 then
        support.kill(pid, "sigusr1")
        support.wait_for("the new log", function() return box:read "log/s.log" end)
      else
        box:ok("reopen", "s")
      end
    until box:log("s"):find "all logged" or box:read("log/" .. files):find "all logged"
    support.wait_for("the child's end", function() return #box:status("s").children == 0 end)
    local texts = {}
    for i = 1, files do texts[i] = box:read("log/" .. i) end
    local text = table.concat(texts) .. box:log "s"
    assert.is_true(files >= 2) -- on a busy machine each reopening takes long
    complete(text, STAMP .. " info  s: script (%d+) %.\n", LINES)
    complete(text, STAMP .. " info  s/c%[%d+%]: child (%d+) %.\n", LINES // 4)
  end)

  it("makes a new file with mode 0640", function()
    box:serve("", "--umask", "0")
    assert(os.remove(box:path "log/s.log"))
    assert.equal("s: log reopened\n", box:ok("reopen", "s"))
    assert.equal(tonumber("100640", 8), uv.fs_stat(box:path "log/s.log").mode)
    assert.matches("info  lunad: log reopened\n", box:log "s")
  end)

  it("keeps the old file in use when it fails, and says so", function()
    box:serve "lunad.signal('WINCH', function() print 'still logged' end)"
    assert(uv.fs_rename(box:path "log/s.log", box:path "log/old.log"))
    assert(uv.fs_mkdir(box:path "log/s.log", tonumber("755", 8)))
    local result = box:lunad("reopen", "s")
    assert.equal(1, result.code)
    assert.matches("^lunad: s: [^\n]*directory\n$", result.err)
    box:ok("signal", "s", "WINCH")
    box:wait_log("old", "error lunad: the log cannot be reopened.*s: still logged")
  end)

  it("does not go through a link", function()
    box:serve ""
    assert(os.remove(box:path "log/s.log"))
    box:write("victim", "")
    assert(uv.fs_symlink(box:path "victim", box:path "log/s.log"))
    assert.equal(1, box:lunad("reopen", "s").code)
    assert.equal("", box:read "victim")
  end)

  it("works with the keeper of --user, whose host could not do it", function()
    if not support.is_root then
      return pending "needs root"
    end
    box:serve("lunad.signal('WINCH', function() print 'after' end)", "--user", "65534")
    assert(uv.fs_chmod(box:path "log", tonumber("700", 8)))
    assert(uv.fs_rename(box:path "log/s.log", box:path "log/old.log"))
    box:ok("reopen", "s")
    box:ok("signal", "s", "WINCH")
    box:wait_log("s", "s: after")
  end)

  it("does nothing for a log that is not a file", function()
    box:serve("", "--log", "none")
    box:ok("reopen", "s")
    assert.same({}, { box:read "log/s.log" })
  end)
end)

describe("a log that takes no lines", function()
  local box = support.with_box(before_each, after_each)

  -- The timer has kept ticking, though lines were dropped. Returns the number of those.
  local function ticks_go_on()
    local function runs() return box:status("s").timers[1].runs end
    support.wait_for("dropped lines", function() return box:status("s").log.dropped > 0 end)
    local before = runs()
    support.wait_for("ticks", function() return runs() >= before + 20 end)
    assert.equal(0, box:status("s").errors.count)
    return box:status("s").log.dropped
  end

  local function write_script(text)
    local ticking = "local lunad = require 'lunad' lunad.every(0.005, function() %s end)"
    return box:write("s.lua", ticking:format(text))
  end

  it("does not stop the daemon: /dev/full", function()
    box:ok("start", "--log", "/dev/full", write_script "lunad.log.info 'x' print 'y' io.write('z\\n')")
    ticks_go_on()
    assert.equal("/dev/full", box:status("s").log.file)
  end)

  it("does not stop the daemon: syslog without a listener", function()
    if not support.is_root then
      return pending "needs root"
    end
    local path = write_script "lunad.log.info 'x'"
    local mount = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && " ..
      "exec \"$0\" start --log syslog \"$1\""
    local result = box:run({ "--mount", "sh", "-c", mount, support.binary, path }, { program = "unshare" })
    assert.equal(0, result.code, result.err)
    ticks_go_on()
    assert.equal("syslog", box:status("s").log.file)
  end)

  it("does not stop the daemon: a full disk; dropped lines are counted and logged later", function()
    if not support.is_root then
      return pending "needs root"
    end
    assert(uv.fs_mkdir(box:path "disk", tonumber("755", 8)))
    local path = write_script "lunad.log.info(('x'):rep(500))"
    local mount = "mount -t tmpfs -o size=32k none disk && head -c 16000 /dev/zero >disk/filler && " ..
      "exec \"$0\" start --log disk/s.log \"$1\""
    local result = box:run({ "--mount", "sh", "-c", mount, support.binary, path },
      { program = "unshare" })
    assert.equal(0, result.code, result.err)
    ticks_go_on()
    local disk = ("/proc/%d/root%s/disk/"):format(box:status("s").pid, box.dir)
    assert(os.remove(disk .. "filler"))
    local said = support.wait_for("the count", function()
      return support.read(disk .. "s.log"):match "warn  lunad: (%d+) log lines were dropped: No space"
    end)
    assert.is_true(math.tointeger(tonumber(said)) > 0)
    for line in support.read(disk .. "s.log"):gmatch "[^\n]*x\n" do -- torn ones are ended before the next
      assert.matches("^" .. STAMP, line)
    end
  end)

  -- Run a script with its stderr to a pipe that is not read yet.
  local function run_unread(path)
    local process = box:spawn({ "-c", 'mkfifo fifo && exec 9<>fifo && exec "$0" run -n s "$1" 2>fifo',
      support.binary, path }, { program = "sh" })
    support.wait_for("the service", function() return box:lunad("status", "s").code == 0 end)
    return process
  end

  local function stop(process)
    box:ok("stop", "s")
    box:await(process, "the end of run", process.is_over)
    assert.equal(0, process.code)
  end

  it("does not stop lunad run: a reader that has gone", function()
    local path = write_script "lunad.log.info 'x'"
    local process = box:spawn({ "-c", '{ "$0" run -n s "$1" 2>&3; echo "status $?"; } 3>&1 >&2 | true',
      support.binary, path }, { program = "sh" })
    support.wait_for("the service", function() return box:lunad("status", "s").code == 0 end)
    ticks_go_on()
    box:ok("stop", "s")
    box:await(process, "the end of run", process.is_over)
    assert.matches("status 0", process.err())
  end)

  local COUNTED = [[
    local lunad = require "lunad"
    local n = 0
    local tick = lunad.every(0.001, function()
      for _ = 1, 10 do n = n + 1 lunad.log.info(("line %d %s"):format(n, ("x"):rep(100))) end
    end)
    lunad.signal("USR1", function() tick:stop() lunad.log.info("last was " .. n) end)
  ]]

  -- Begin to read the fifo: a function that waits for a pattern in it, and returns that and all.
  local function read_fifo()
    local reader, text, tail = uv.new_pipe(), {}, ""
    reader:open(assert(uv.fs_open(box:path "fifo", "r+", 0)))
    reader:read_start(function(_, chunk)
      text[#text + 1] = chunk
      tail = tail:sub(-1000) .. chunk
    end)
    finally(function() reader:close() uv.run "nowait" end)
    return function(pattern)
      return support.wait_for(pattern, function()
        uv.run "nowait"
        return tail:match(pattern)
      end), table.concat(text)
    end
  end

  it("does not stop lunad run: a reader that does not read; each line is read or counted", function()
    local process = run_unread(box:write("s.lua", COUNTED))
    ticks_go_on()
    local wait = read_fifo()
    wait "%d+ log lines were dropped: "
    support.kill(box:status("s").pid, "sigusr1")
    local last, all = wait "s: last was (%d+)\n"
    local _, seen = all:gsub(STAMP .. " info  s: line %d+ x+\n", "")
    local dropped = 0
    for count in all:gmatch "(%d+) log lines? w%a+ dropped" do dropped = dropped + count end
    assert.equal(math.tointeger(tonumber(last)), seen + dropped)
    assert.equal(dropped, box:status("s").log.dropped)
    stop(process)
  end)

  it("delays a stop by no more than a moment", function()
    local process = run_unread(write_script "lunad.log.info(('x'):rep(1000))")
    ticks_go_on()
    stop(process)
  end)

  it("is not assumed because a signal comes while the reader is slow", function()
    local path = box:write("s.lua", [[
      local lunad = require "lunad"
      for i = 1, 100 do
        for j = 1, 8 do lunad.log.info(("line %d %s"):format(i * 8 - 8 + j, ("x"):rep(4000))) end
        lunad.spawn { "true" }
        lunad.sleep(0.001)
      end
    ]])
    local reader = "while (sysread STDIN, $b, 65536) { print $b; select undef, undef, undef, 0.01 }"
    local command = ('"$0" run -n s "$1" 2>&1 | perl -e \'%s\' >out'):format(reader)
    box:run({ "-c", command, support.binary, path }, { program = "sh" })
    local _, seen = box:read("out"):gsub(STAMP .. " info  s: line %d+ x+\n", "")
    assert.equal(800, seen)
  end)
end)

local support = require "support"

-- For scripts: by_line given chunks and the end; returns the lines as one string.
local FEED = [[
local function feed(max, ...)
  local lines = {}
  local add = lunad.by_line(function(line, ...)
    equal(0, select("#", ...))
    lines[#lines + 1] = "<" .. line .. ">"
  end, max)
  for i = 1, select("#", ...) do add((select(i, ...))) end
  add(nil)
  return table.concat(lines)
end
]]

describe("lunad.by_line", function()
  local box = support.with_box(before_each, after_each)

  it("gives whole lines without the newline", function()
    box:inside(FEED .. [[
      equal("<a><b><c>", feed(nil, "a\nb\nc\n"))
      equal("<a><b><c>", feed(nil, "a\n", "b\n", "c\n"))
      equal("<abc><def>", feed(nil, "a", "b", "c\nd", "e", "f\n"))
      equal("<abc>", feed(nil, "abc", "\n"))
      equal("", feed(nil))
      equal("", feed(nil, ""))
    ]])
  end)

  it("gives the last line even if it is unfinished", function()
    box:inside(FEED .. [[
      equal("<a><rest>", feed(nil, "a\nre", "st"))
      equal("<rest>", feed(nil, "rest"))
    ]])
  end)

  it("gives a line as soon as it is complete", function()
    box:inside [[
      local got
      local add = lunad.by_line(function(line) got = line end)
      add("one\ntw")
      equal("one", got)
      add("o\n")
      equal("two", got)
      got = nil
      add(nil)
      equal(nil, got)
    ]]
  end)

  it("keeps empty lines, carriage returns and zero bytes", function()
    box:inside(FEED .. [[
      equal("<><><a><>", feed(nil, "\n\na\n\n"))
      equal("<a\r><\r><b\r>", feed(nil, "a\r\n\r\nb\r"))
      equal("<\0><a\0b><\255>", feed(nil, "\0\na\0", "b\n\255"))
    ]])
  end)

  it("cuts lines over max and loses nothing", function()
    box:inside(FEED .. [[
      equal("<abc><def><g>", feed(3, "abcdefg\n"))
      equal("<abc><def>", feed(3, "abcdef\n"))
      equal("<abc>", feed(3, "abc\n"))
      equal("<abc><def><g>", feed(3, "a", "bc", "d", "e", "fg", "\n"))
      equal("<abc><d><ef>", feed(3, "abcd\nef"))
      equal("<a><b><><c>", feed(1, "ab\n\nc\n"))
    ]])
  end)

  it("does not cut a character, unless the character alone has more than max bytes", function()
    box:inside(FEED .. [[
      equal("<aéb><é>", feed(4, "aébé\n"))
      equal("<ab><éc>", feed(3, "abéc\n"))
      equal("<éé><éé><é>", feed(5, "ééééé\n"))
      equal("<€><€>", feed(5, "€€"))
      equal("<ab><€>", feed(4, "ab", "\xE2\x82", "\xAC\n"))
      equal("<a><\u{1F600}><b>", feed(4, "a\u{1F600}b\n"))
      equal("<\xE2><\x82><\xAC>", feed(1, "€\n"))
      equal("<\xE2\x82><\xAC>", feed(2, "€\n"))
      equal("<\x82\x82\x82><\x82>", feed(3, "\x82\x82\x82\x82\n"))
      equal("<\xFF\xFF\xFF><\xFF>", feed(3, "\xFF\xFF\xFF\xFF\n"))
      equal("<a\xC3>", feed(2, "a\xC3\n"))
      equal("<\xC3\xC3><\xC3\xC3\xC3>", feed(3, "\xC3\xC3\xC3\xC3\xC3\n"))
    ]])
  end)

  it("never gives more than max, however the chunks come", function()
    box:inside [[
      local total, seed = {}, 5
      for max = 1, 20 do
        local got, sent = {}, {}
        local add = lunad.by_line(function(line) truthy(#line <= max); got[#got + 1] = line end, max)
        for i = 1, 50 do
          seed = seed * 16807 % 2147483647
          sent[i] = ("x"):rep(seed % 9) .. (seed % 3 == 0 and "\n" or "")
          add(sent[i])
        end
        add(nil)
        equal((table.concat(sent):gsub("\n", "")), table.concat(got))
      end
    ]]
  end)

  it("has a max of 65536", function()
    box:inside [[
      local sizes = {}
      local add = lunad.by_line(function(line) sizes[#sizes + 1] = #line end)
      add(("x"):rep(65536) .. "\n" .. ("y"):rep(65537) .. "\n")
      add(nil)
      equal("65536,65536,1", table.concat(sizes, ","))
    ]]
  end)

  it("does not keep more than max of an endless line", function()
    box:inside [[
      local count = 0
      local add = lunad.by_line(function() count = count + 1 end, 100)
      for i = 1, 250 do
        add("x")
        equal((i - 1) // 100, count)
      end
    ]]
  end)

  it("takes time in proportion to the data, also when it cuts", function()
    box:inside [[
      local count = 0
      local add = lunad.by_line(function() count = count + 1 end, 1)
      add(("x"):rep(1024 * 1024))
      add(nil)
      equal(1024 * 1024, count)
      add = lunad.by_line(function() count = count + 1 end, 1024 * 1024)
      for _ = 1, 1024 * 512 do add("x") end
      add(nil)
      equal(1024 * 1024 + 1, count)
    ]]
  end)

  it("can be used again after the end", function()
    box:inside [[
      local got = {}
      local add = lunad.by_line(function(line) got[#got + 1] = line end)
      for _, chunk in ipairs { "a\nb", false, "c\nd", false, false } do add(chunk or nil) end
      equal("a,b,c,d", table.concat(got, ","))
    ]]
  end)

  it("takes a callable table, also one with a locked metatable", function()
    box:inside [[
      local got
      for _, locked in ipairs { false, "locked" } do
        local object = setmetatable({}, { __call = function(_, line) got = line end,
          __metatable = locked or nil })
        lunad.by_line(object)("line\n")
        equal("line", got)
        got = nil
      end
    ]]
  end)

  it("loses no line after an error in the function", function()
    local result = box:inside([[
      eventually(function() return lunad.stats().ready end)
      local got = {}
      local add = lunad.by_line(function(line)
        got[#got + 1] = line
        if line == "bad" then error("in a line") end
      end)
      lunad.task(add, "a\nbad\nc\nd\nres"):wait()
      add("t\n")
      add(nil)
      equal("a,bad,c,d,rest", table.concat(got, ","))
    ]], { errors = true })
    assert.truthy(result.err:find("uncaught error in [^\n]*in a line\n"))
  end)

  it("loses no line after an error in the function at the end of a stream either", function()
    box:inside([[
      eventually(function() return lunad.stats().ready end)
      local got, exit = {}, nil
      lunad.spawn { "printf", "a\\nbad\\nc\\nd",
        stdout = lunad.by_line(function(line)
          got[#got + 1] = line
          if line == "bad" then error("in a line") end
        end),
        on_exit = function() exit = true end }
      eventually(function() return exit end)
      equal("a,bad,c,d", table.concat(got, ","))
    ]], { errors = true })
  end)

  it("keeps the order of lines when the function sleeps", function()
    box:inside [[
      local got, done = {}, false
      lunad.spawn { "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo $i; done; printf rest",
        stdout = lunad.by_line(function(line) lunad.sleep(0.002); got[#got + 1] = line end),
        on_exit = function() done = true end }
      eventually(function() return done end)
      equal("1,2,3,4,5,6,7,8,9,rest", table.concat(got, ","))
    ]]
  end)

  it("shared by two streams loses nothing while the function sleeps", function()
    box:inside [[
      local got = {}
      local add = lunad.by_line(function(line) lunad.sleep(0.002); got[#got + 1] = line end)
      local first = lunad.task(add, "a\nb\nc")
      add("d\ne")
      first:wait()
      add("f\n")
      add(nil)
      local all = table.concat(got)
      for letter in ("abcdef"):gmatch(".") do truthy(all:find(letter), letter .. " is lost: " .. all) end
    ]]
  end)

  it("serves the output of a child, line by line, before on_exit", function()
    box:inside [[
      local got = {}
      lunad.spawn { "sh", "-c", "echo one; echo; printf 'two\\r\\nthree'; echo err >&2",
        stdout = lunad.by_line(function(line) got[#got + 1] = line end),
        stderr = lunad.by_line(function(line) got.err = line end),
        on_exit = function() got.done = true end }
      eventually(function() return got.done end)
      equal("one,,two\r,three", table.concat(got, ","))
      equal("err", got.err)
    ]]
  end)
end)

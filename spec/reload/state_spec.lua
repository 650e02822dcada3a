local support = require "support"

-- Reload a service whose on_reload function has the body MAKE; the new generation runs CHECK, with
-- what it got as `s`.
local function carry(box, make, check)
  local keep = "lunad.on_reload(function() " .. make .. " end) "
  box:serve(keep .. "if lunad.generation > 1 then local s = lunad.state " .. check .. " end")
  return box:lunad("reload", "s")
end

-- The check holds for what has been made.
local function carried(box, make, check)
  local result = carry(box, make, check)
  assert.equal(0, result.code, result.err)
end

-- The reload is refused because of the value at a path, and the old generation keeps running.
local function refused(box, make, path)
  local result = carry(box, make, "")
  assert.equal(1, result.code)
  assert.is_truthy(result.err:find(path, 1, true), result.err)
  local status = box:status "s"
  assert.equal(1, status.generation)
  assert.is_truthy(status.reloads.last.error:find(path, 1, true))
end

describe("state that is carried over a reload", function()
  local box = support.with_box(before_each, after_each)

  it("may be any plain value", function()
    carried(box, [[return "text\0with zero" ]], [[assert(s == "text\0with zero")]])
  end)

  for value, check in pairs {
    ["nil"] = "s == nil", ["false"] = "s == false", ["true"] = "s == true",
    ["''"] = "s == ''", ["{}"] = "type(s) == 'table' and next(s) == nil",
    ["0"] = "math.type(s) == 'integer'", ["0.0"] = "math.type(s) == 'float'",
    ["-0.0"] = "1 / s == -math.huge", ["0/0"] = "s ~= s", ["math.huge"] = "s == math.huge",
    ["3"] = "s == 3 and math.type(s) == 'integer'", ["3.0"] = "s == 3 and math.type(s) == 'float'",
    ["math.mininteger"] = "s == math.mininteger and math.type(s) == 'integer'",
    ["math.maxinteger"] = "s == math.maxinteger and math.type(s) == 'integer'",
    ["5e-324"] = "s == 5e-324", ["2^53"] = "s == 2^53 and math.type(s) == 'float'",
  } do
    it("may be " .. value, function()
      carried(box, "return " .. value, ("assert(%s)"):format(check))
    end)
  end

  it("is nil when on_reload returns nothing", function()
    carried(box, "return", "assert(s == nil)")
    box:ok("stop", "s")
    carried(box, "", "assert(s == nil)")
  end)

  it("keeps integers integers and floats floats, inside of tables and as keys", function()
    carried(box, "return { 1, 2.0, [10] = 'int', [1.5] = 'float', [-1] = 'negative', big = 1 << 62 }", [[
      assert(math.type(s[1]) == "integer" and math.type(s[2]) == "float" and s[2] == 2)
      assert(s[10] == "int" and s[1.5] == "float" and s[-1] == "negative" and s.big == 1 << 62)
    ]])
  end)

  it("keeps boolean keys, false values and holes", function()
    carried(box, "return { [true] = 'yes', [false] = 'no', f = false, [1] = 'a', [3] = 'c' }", [[
      assert(s[true] == "yes" and s[false] == "no" and s.f == false)
      assert(s[1] == "a" and s[2] == nil and s[3] == "c")
    ]])
  end)

  it("keeps tables as keys", function()
    carried(box, "local key = { name = 'k' } return { [key] = 'value', key = key }", [[
      assert(s[s.key] == "value" and s.key.name == "k")
    ]])
  end)

  it("keeps shared tables shared", function()
    carried(box, "local t = { n = 1 } return { a = t, b = t, list = { t, t, {} } }", [[
      assert(s.a == s.b and s.a == s.list[1] and s.list[1] == s.list[2] and s.list[3] ~= s.a)
      s.a.n = 2
      assert(s.b.n == 2)
    ]])
  end)

  it("keeps cycles", function()
    carried(box, "local t = { list = {} } t.self = t t.list[1] = { parent = t } t[t] = t return t", [[
      assert(s.self == s and s.list[1].parent == s and s[s] == s)
    ]])
  end)

  it("loses metatables, whose functions are not called", function()
    carried(box, [[
      local mt = { __index = error, __pairs = error, __len = error, __eq = error, __name = "X", __gc = print,
        __metatable = "locked", __mode = "k" }
      return setmetatable({ 1, inner = setmetatable({ 2 }, mt) }, mt)
    ]], [[
      assert(getmetatable(s) == nil and getmetatable(s.inner) == nil)
      assert(s[1] == 1 and s.inner[1] == 2 and s.absent == nil)
    ]])
  end)

  it("is a copy: what the old generation does afterwards does not show", function()
    carried(box, [[
      local t = { n = 1 }
      lunad.on_stop(function() t.n = 2 end)
      return t
    ]], "assert(s.n == 1) lunad.after(0.05, function() assert(s.n == 1) print 'unchanged' end)")
    box:wait_log("s", "unchanged")
  end)

  it("can be large", function()
    carried(box, [[
      local t = { long = ("x"):rep(10000000) }
      for i = 1, 100000 do t[i] = { i } end
      return t
    ]], "assert(#s == 100000 and s[100000][1] == 100000 and #s.long == 10000000)")
  end)

  it("passes through many generations unharmed", function()
    carried(box, [[
      local t = lunad.state or { n = 0, f = 1.0 }
      t.n, t.self, t.again = t.n + 1, t, { t }
      return t
    ]], [[
      assert(s.self == s and s.again[1] == s)
      assert(math.type(s.n) == "integer" and math.type(s.f) == "float")
    ]])
    for _ = 1, 10 do
      box:ok("reload", "s")
    end
    assert.equal(12, box:status("s").generation)
  end)

  it("is lunad.state while the chunk runs and later, and nil in the first generation", function()
    box:serve [[
      print("at first", lunad.state)
      lunad.on_reload(function() return "given" end)
      lunad.after(0.01, function() print("later", lunad.state) end)
    ]]
    box:wait_log("s", "at first\tnil.*later\tnil")
    box:ok("reload", "s")
    box:wait_log("s", "at first\tgiven.*later\tgiven")
  end)

  it("is not consumed by a reload that fails: on_reload is asked again", function()
    box:serve "local n = 0 lunad.on_reload(function() n = n + 1 return n end)"
    assert.equal(1, box:reload("error 'x'").code)
    box:reload "print('state', lunad.state)"
    assert.matches("state\t2", box:log "s")
  end)

  it("is not changed by a new generation that fails: the old one has its own", function()
    box:serve [[
      local data = { n = 1 }
      lunad.on_reload(function() return data end)
    ]]
    assert.equal(1, box:reload("lunad.state.n = 99 error 'x'").code)
    box:reload "print('n', lunad.state.n)"
    assert.matches("n\t1\n", box:log "s")
  end)
end)

describe("state that is nested", function()
  local box = support.with_box(before_each, after_each)

  local function nested(depth)
    return ("local t = {} local root = t for _ = 2, %d do t.t = {} t = t.t end t.bottom = true return root")
      :format(depth)
  end

  it("200 deep is carried", function()
    carried(box, nested(200), "for _ = 2, 200 do s = s.t end assert(s.bottom)")
  end)

  it("201 deep is refused", function()
    refused(box, nested(201), "200")
  end)

  it("100,000 deep is refused, and no crash", function()
    refused(box, nested(100000), "200")
  end)

  it("by keys is refused in the same way", function()
    refused(box, "local t = {} for _ = 2, 201 do t = { [t] = true } end return t", "200")
    box:ok("stop", "s")
    carried(box, "local t = {} for _ = 2, 200 do t = { [t] = true } end return t", "assert(next(s))")
  end)

  it("in cycles is as deep as it is without them", function()
    carried(box, [[
      local t = {}
      local root = t
      for _ = 2, 150 do t.t = { root = root, up = t } t = t.t end
      return root
    ]], "for _ = 2, 150 do assert(s.t.up == s) s = s.t end")
  end)
end)

describe("state that is not plain data is refused with its path:", function()
  local box = support.with_box(before_each, after_each)

  for make, path in pairs {
    ["return print"] = "state",
    ["return io.stdout"] = "state",
    ["return coroutine.create(print)"] = "state",
    ["return lunad.after(1, print)"] = "state",
    ["return { conn = { socket = io.stdout } }"] = "state.conn.socket",
    ["return { list = { {}, { x = print } } }"] = "state.list[2].x",
    ["return { a = { b = { c = { coroutine.create(print) } } } }"] = "state.a.b.c[1]",
    ["return { [print] = 1 }"] = "state",
    ["return { t = { [io.stdout] = 1 } }"] = "state.t",
    ["return { ['two words'] = print }"] = [[state["two words"] ]],
    ["return { [true] = print }"] = "state[true]",
    ["return { [1.5] = print }"] = "state[1.5]",
    ["return { [-3] = print }"] = "state[-3]",
    ["return { timer = lunad.every(1, print) }"] = "state.timer",
    ["return { child = lunad.spawn { 'true' } }"] = "state.child",
    ["return { log = lunad.log }"] = "state.log.",
    ["local t = {} t.t = t t.x = print return t"] = "state.x",
  } do
    it(make, function()
      refused(box, make, path:gsub(" $", ""))
    end)
  end

  it("a key that could act on a terminal is escaped in it", function()
    local result = carry(box, [[return { ["\27[31m\n"] = print }]], "")
    assert.equal(1, result.code)
    assert.is_truthy(result.err:find([[state["\x1B[31m\x0A"] ]], 1, true))
  end)
end)

describe("lunad.keep", function()
  local box = support.with_box(before_each, after_each)

  it("gives the default first, and then what was kept, as it is at the reload", function()
    local KEEP = [[
      local sessions, count = lunad.keep("sessions", {}), lunad.keep("count", 7)
      local off = lunad.keep("off", false)
      sessions[#sessions + 1] = lunad.generation
      assert(sessions == lunad.keep("sessions") and lunad.keep("nothing") == nil)
      print(table.concat(sessions, ","), count, off, lunad.state)
      lunad.every(60, print)
      lunad.signal("USR1", function() sessions[#sessions + 1] = "late" print "noted" end)
    ]]
    local pid = box:serve(KEEP)
    assert.equal(0, box:reload(KEEP).code)
    support.kill(pid, "sigusr1")
    box:wait_log("s", "s: noted")
    assert.equal(0, box:reload(KEEP).code)
    assert.equal(1, box:reload(KEEP .. "error 'broken'").code)
    assert.equal(0, box:reload(KEEP).code)
    local log = box:log "s"
    assert.matches("s: 1\t7\tfalse\tnil\n.*s: 1,2\t7\tfalse\tnil\n.*s: 1,2,late,3\t7\tfalse\tnil\n" ..
      ".*s: 1,2,late,3,4\t7\tfalse\tnil\n.*s: 1,2,late,3,4\t7\tfalse\tnil\n", log)
  end)

  it("keeps nothing that the generation between did not ask for", function()
    box:serve "lunad.keep('a', 1) lunad.every(60, print)"
    assert.equal(0, box:reload("lunad.every(60, print)").code)
    assert.equal(0, box:reload("assert(lunad.keep('a', 2) == 2) lunad.every(60, print)").code)
  end)

  it("works beside on_reload, whose function may still change what is kept", function()
    local KEEP = [[
      local kept = lunad.keep("kept", { runs = 0 })
      lunad.on_reload(function() kept.runs = kept.runs + 1 return "state" end)
      print(kept.runs, lunad.state)
      lunad.every(60, print)
    ]]
    box:serve(KEEP)
    assert.equal(0, box:reload(KEEP).code)
    assert.matches("s: 1\tstate\n", box:log "s")
  end)

  it("refuses a reload that cannot hand it on, naming its path", function()
    box:serve "lunad.keep('sessions', { conn = { socket = io.stdout } }) lunad.every(60, print)"
    local result = box:reload "lunad.every(60, print)"
    assert.equal(1, result.code)
    assert.matches("what it keeps cannot be handed on: keep%.sessions%.conn%.socket", result.err)
    assert.equal(1, box:status("s").generation)
  end)

  it("takes a name", function()
    box:inside [[
      raises("bad argument #1 to 'keep'", function() lunad.keep({}) end)
      raises("bad argument #1 to 'keep'", function() lunad.keep() end)
    ]]
  end)
end)

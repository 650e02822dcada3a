local support = require "support"

-- What a script can see of coroutines. Under lunad it must say, word for word, what it says under
-- lua, but for addresses and for what lunad promises to be different.
local script = [==[
local function show(label, ...)
  local words = table.pack(...)
  for i = 1, words.n do
    words[i] = tostring(words[i]):gsub("0x%x+", "ADDRESS"):gsub("[^ ]*/same%.lua", "same.lua")
  end
  io.stdout:write(label, ": ", table.concat(words, " | ", 1, words.n), "\n")
end
local function closer(fn) return setmetatable({}, { __close = fn }) end

-- values go both ways
local co = coroutine.create(function(...)
  show("first", ...)
  show("second", coroutine.yield(...))
  show("third", coroutine.yield())
  return nil, "end", nil
end)
show("create", type(co), coroutine.status(co))
show("resume", coroutine.resume(co, 1, nil, 3))
show("status", coroutine.status(co))
show("resume", coroutine.resume(co, nil, nil))
show("resume", coroutine.resume(co))
show("status", coroutine.status(co))
show("dead", coroutine.resume(co))
show("dead", coroutine.resume(co, 1, 2))
show("many", select("#", coroutine.resume(coroutine.create(function(...) return ... end),
  table.unpack({}, 1, 250))))
show("thousands", select("#", coroutine.wrap(function() return table.unpack({}, 1, 5000) end)()))

-- wrap
local wrapped = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b * 2 end)
show("wrap", wrapped(1), wrapped(21))
show("wrap dead", pcall(wrapped))
show("wrap error", pcall(coroutine.wrap(function() error("words") end)))
show("wrap error bare", pcall(coroutine.wrap(function() error("words", 0) end)))
show("wrap error object", pcall(coroutine.wrap(function() error({}) end)))
show("wrap error nil", pcall(coroutine.wrap(function() error() end)))
show("wrap error later", pcall(function()
  local fn = coroutine.wrap(function() coroutine.yield() error("later") end)
  fn()
  fn()
end))
show("wrap closes", pcall(coroutine.wrap(function()
  local _ <close> = closer(function(_, err) show("closing", err) end)
  error("with variables", 0)
end)))
show("wrap closes badly", pcall(coroutine.wrap(function()
  local _ <close> = closer(function() error("while closing", 0) end)
  error("first", 0)
end)))
local values = {}
for value in coroutine.wrap(function() for i = 1, 5 do coroutine.yield(i) end end) do
  values[#values + 1] = value
end
show("generator", table.concat(values, ","))

-- errors
co = coroutine.create(function() local x = nil; return x.y end)
show("error", coroutine.resume(co))
show("error", coroutine.status(co), coroutine.resume(co))
co = coroutine.create(function() error({ 1 }) end)
show("error object", coroutine.resume(co))
show("traceback", (debug.traceback(co):gsub("\n.*", "")))
show("close after error", coroutine.close(co))
show("no function", pcall(coroutine.create))
show("no function", pcall(coroutine.wrap, 1))
show("not one", pcall(coroutine.resume, 1))
show("not one", pcall(coroutine.status, {}))
show("not one", pcall(coroutine.close))
show("overflow", coroutine.resume(coroutine.create(function()
  local function deeper() return 1 + deeper() end
  return deeper()
end)) == false)
show("C overflow", pcall(function()
  local function deeper() coroutine.wrap(deeper)() end
  deeper()
end) == false)

-- who resumes whom
co = coroutine.create(function()
  show("itself", coroutine.resume(coroutine.running()))
  show("itself", coroutine.status((coroutine.running())))
end)
show("itself", coroutine.resume(co))
local outer
outer = coroutine.create(function()
  local inner = coroutine.create(function()
    show("outer", coroutine.status(outer))
    show("outer", coroutine.resume(outer))
    show("outer", pcall(coroutine.close, outer))
    coroutine.yield("from the inner one")
  end)
  show("inner", coroutine.resume(inner))
  show("inner", coroutine.status(inner))
  coroutine.yield(inner)
end)
show("nested", coroutine.resume(outer))
show("yieldable", coroutine.wrap(function() return coroutine.isyieldable() end)())
show("yieldable", coroutine.isyieldable(outer))

-- close
co = coroutine.create(function()
  local _ <close> = closer(function(_, err) show("closing", err) end)
  coroutine.yield()
end)
coroutine.resume(co)
show("close", coroutine.close(co))
show("close", coroutine.status(co), coroutine.close(co))
co = coroutine.create(function()
  local _ <close> = closer(function() error("while closing", 0) end)
  coroutine.yield()
end)
coroutine.resume(co)
show("close badly", coroutine.close(co))
show("close new", coroutine.close(coroutine.create(print)))
co = coroutine.wrap(function() return pcall(coroutine.close, coroutine.running()) end)
show("close running", co())

-- yields
show("across pcall", coroutine.wrap(function()
  return select(2, pcall(function() return coroutine.yield("out"), "back" end))
end)())
co = coroutine.wrap(function() return pcall(function() coroutine.yield(1) error("after", 0) end) end)
show("across pcall", co())
show("across pcall", co())
show("across a C call", coroutine.wrap(function()
  return pcall(string.gsub, "x", "x", coroutine.yield)
end)())
show("across a C call", coroutine.wrap(function()
  return pcall(table.sort, { 1, 2, 3 }, function() coroutine.yield() end)
end)())
local object = setmetatable({}, { __index = function(_, key) return coroutine.yield(key) end })
co = coroutine.wrap(function() return object.x .. "!" end)
show("in a metamethod", co())
show("in a metamethod", co("value"))
co = coroutine.wrap(function()
  for value in function() return coroutine.yield() end do show("iterated", value) end
  return "over"
end)
co()
show("in an iterator", co("a"))
show("in an iterator", co())
co = coroutine.wrap(function()
  local _ <close> = closer(function() coroutine.yield("closing") end)
  return "returned"
end)
show("in a close handler", co())
show("in a close handler", co())

-- producer and filter
local function producer() return coroutine.create(function() for i = 1, 6 do coroutine.yield(i) end end) end
local function filter(from)
  return coroutine.create(function()
    while true do
      local _, value = coroutine.resume(from)
      if not value then return end
      if value % 2 == 0 then coroutine.yield(value) end
    end
  end)
end
local from, all = filter(producer()), {}
while true do
  local _, value = coroutine.resume(from)
  if not value then break end
  all[#all + 1] = value
end
show("filter", table.concat(all, ","))

-- collected while suspended
local weak = setmetatable({}, { __mode = "k" })
do
  local lost = coroutine.create(function() coroutine.yield() end)
  coroutine.resume(lost)
  weak[lost] = true
end
co = nil
collectgarbage()
collectgarbage()
show("collected", next(weak))
local debugged = coroutine.create(function() coroutine.yield() end)
coroutine.resume(debugged)
show("hook", debug.gethook(debugged))
show("info", debug.getinfo(debugged, 1, "l").currentline > 0)
show("library", type(coroutine.create), type(coroutine.resume), type(coroutine.running),
  type(coroutine.status), type(coroutine.wrap), type(coroutine.yield), type(coroutine.isyieldable),
  type(coroutine.close))
]==]

-- Fail at the first line in which two texts differ.
local function assert_same_lines(expected, got, message)
  local next_line = got:gmatch("([^\n]*)\n")
  for line in expected:gmatch("([^\n]*)\n") do
    assert.equal(line, next_line(), message)
  end
  assert.equal(expected, got)
end

describe("coroutine", function()
  local box = support.with_box(before_each, after_each)

  it("does and says what Lua's own does", function()
    local path = box:write("same.lua", script)
    local lua = box:run({ path }, { program = "/usr/bin/lua5.4" })
    local lunad = box:run { "run", path }
    assert.equal(0, lua.code, lua.err)
    assert.truthy(select(2, lua.out:gsub("\n", "")) > 60)
    assert_same_lines(lua.out, lunad.out, lunad.err)
    assert.equal(0, lunad.code)
  end)

  it("does so inside a callback that has been suspended as well", function()
    local path = box:write("same.lua", script)
    local lua = box:run({ path }, { program = "/usr/bin/lua5.4" })
    local lunad = box:run { "run", "-e",
      ("require('lunad').after(0, function() require('lunad').sleep(0) dofile('%s') end)"):format(path) }
    assert_same_lines(lua.out, lunad.out, lunad.err)
  end)

  it("made by the script can be resumed by different tasks", function()
    box:inside [[
      local co = coroutine.wrap(function() for i = 1, 4 do coroutine.yield(i) end end)
      local got = {}
      for i = 1, 4 do
        lunad.after(i / 1000, function() got[#got + 1] = co() end)
      end
      eventually(function() return #got == 4 end)
      equal("1,2,3,4", table.concat(got, ","))
    ]]
  end)

  it("can use all of lunad that does not suspend", function()
    box:inside [[
      local fired, exit = false, nil
      coroutine.wrap(function()
        lunad.after(0, function() fired = true end)
        lunad.spawn { "true", on_exit = function(e) exit = e end }
        lunad.signal("USR1", print):stop()
        lunad.log.info("from a coroutine")
        truthy(lunad.stats().pid == lunad.pid)
      end)()
      eventually(function() return fired and exit end)
      equal(true, exit.ok)
    ]]
  end)

  it("of a task is lunad's: resume and close refuse it, and say why", function()
    box:inside [[
      local co
      local task = lunad.task(function() co = coroutine.running() lunad.sleep(0.01) return "whole" end)
      for _, args in ipairs { {}, { 1 }, { 1, 2, nil, 4 } } do
        local ok, message, more = coroutine.resume(co, table.unpack(args, 1, 4))
        equal(false, ok)
        equal(nil, more)
        truthy(message:find("task", 1, true), message)
      end
      raises("task", coroutine.close, co)
      equal("suspended", coroutine.status(co))
      equal(false, coroutine.isyieldable(co))
      equal("whole", task:wait())
      equal("dead", coroutine.status(co))
      local ok, message = coroutine.resume(co)
      equal(false, ok)
      equal("cannot resume dead coroutine", message)
      equal(true, coroutine.close(co))
    ]]
  end)

  it("of a task that runs says what Lua says of one that runs, or is normal", function()
    box:inside [[
      local function check(co, status)
        equal(status, coroutine.status(co))
        local ok, message = coroutine.resume(co, 1)
        equal(false, ok)
        equal("cannot resume non-suspended coroutine", message)
        raises("cannot close a " .. status .. " coroutine", coroutine.close, co)
      end
      local outer = coroutine.running()
      check(outer, "running")
      coroutine.wrap(function() check(outer, "normal") end)()
      lunad.task(function()
        check(outer, "normal")
        check(coroutine.running(), "running")
      end)
      equal(false, pcall(coroutine.resume, 0))
      raises("thread expected", coroutine.resume)
    ]]
  end)

  it("belongs to the host if it is the main one, which a finalizer sees", function()
    box:inside [[
      local main
      setmetatable({}, { __gc = function() main = coroutine.running() end })
      local function garbage() for _ = 1, 1000 do local _ = {} end collectgarbage() return main end
      local timer = lunad.every(0.001, garbage)
      eventually(garbage)
      timer:stop()
      local ok, message = coroutine.resume(main, 1, 2, 3)
      equal(false, ok)
      truthy(message, message)
    ]]
  end)

  it("of a task that has ended does not harm the next one", function()
    box:inside [[
      local co
      lunad.task(function() co = coroutine.running() end)
      pcall(coroutine.resume, co)
      pcall(coroutine.close, co)
      for i = 1, 100 do
        equal(i, lunad.task(function() lunad.sleep(0) return i end):wait())
        pcall(coroutine.resume, co)
        pcall(coroutine.close, co)
      end
    ]]
  end)

  it("of a task that the script knows is no other task's", function()
    box:inside([[
      lunad.sleep(0)
      local own = setmetatable({}, { __mode = "k" })
      local ended = 0
      local function task(n)
        equal(nil, own[coroutine.running()])
        own[coroutine.running()] = n
        if n % 3 == 0 then lunad.sleep(0) end
        equal(n, own[coroutine.running()])
        ended = ended + 1
        if n % 7 == 0 then error "words" end
      end
      for n = 1, 300 do
        if n % 2 == 0 then lunad.task(task, n) else lunad.after(0, task, n) end
      end
      eventually(function() return ended == 300 end)
      collectgarbage()
      collectgarbage()
      local left = 0
      for _ in pairs(own) do left = left + 1 end
      truthy(left < 3, left)
    ]], { errors = true })
  end)

  it("of a task that has ended is an ordinary dead one, to the end", function()
    box:inside([[
      lunad.sleep(0)
      KEPT = {}
      local function keep() KEPT[#KEPT + 1] = coroutine.running() end
      for i = 1, 300 do
        lunad.task(function()
          keep()
          if i % 2 == 0 then lunad.sleep(0.01) end
          if i % 5 == 0 then error "x" end
        end)
      end
      local late = lunad.task(function() keep() lunad.sleep(100) end)
      lunad.sleep(0.05)
      late:cancel()
      local function check()
        for _, co in ipairs(KEPT) do
          if coroutine.status(co) == "dead" then
            local ok, message = coroutine.resume(co)
            if ok or message ~= "cannot resume dead coroutine" then print("bad", message) end
            if not coroutine.close(co) then print "bad" end
            debug.sethook(co)
            debug.traceback(co)
            if coroutine.isyieldable(co) == nil then print "bad" end
          end
        end
      end
      check()
      collectgarbage()
      check()
      lunad.task(function() keep() lunad.sleep(100) end)
      CHECK = setmetatable({}, { __gc = check, __close = check })
      lunad.task(function() local _ <close> = CHECK lunad.sleep(100) end)
      equal(302, #KEPT)
      lunad.stop()
    ]], { errors = true })
  end)

  it("of a task leaves no hook to the next one", function()
    box:inside [[
      local fired = {}
      for i = 1, 20 do
        lunad.after(0, function()
          debug.sethook(function() fired[i] = (fired[i] or 0) + 1 end, "l")
          local x = 1
          x = x + 1
          if i % 2 == 0 then lunad.sleep(0) end
        end)
      end
      lunad.sleep(0.02)
      local before = {}
      for i = 1, 20 do before[i] = fired[i] end
      for _ = 1, 100 do
        lunad.task(function()
          equal(nil, (debug.gethook()))
          lunad.sleep(0)
        end):wait()
      end
      for i = 1, 20 do truthy(before[i]) equal(before[i], fired[i]) end
    ]]
  end)

  it("of a task that failed in a hook leaves hooks to the next one", function()
    box:inside([[
      lunad.sleep(0)
      for i = 1, 20 do
        lunad.after(0, function()
          debug.sethook(function() if i % 2 == 0 then debug.sethook() end error "in the hook" end, "l")
          local x = 1
        end)
        lunad.after(0, function()
          pcall(function()
            debug.sethook(function() error "in the hook" end, "l")
            local x = 1
          end)
          debug.sethook()
        end)
      end
      lunad.sleep(0.02)
      for _ = 1, 100 do
        local lines = 0
        lunad.task(function()
          debug.sethook(function() lines = lines + 1 end, "l")
          local x = 1
          x = x + 1
        end)
        truthy(lines >= 2, lines)
      end
    ]], { errors = true })
  end)

  it("of a task looks like the main one of lua, which cannot yield", function()
    box:inside [[
      local function check()
        local co, is_main = coroutine.running()
        equal("thread", type(co))
        equal(true, is_main)
        equal(false, coroutine.isyieldable())
        equal(false, coroutine.isyieldable(co))
        raises("outside a coroutine", coroutine.yield)
        local inner = coroutine.create(function() return coroutine.isyieldable(), coroutine.running() end)
        local _, yieldable, running, main = coroutine.resume(inner)
        equal(true, yieldable)
        equal(inner, running)
        equal(false, main)
        return true
      end
      check()
      truthy(lunad.task(check):wait())
      raises("thread expected", coroutine.isyieldable, 1)
    ]]
  end)
end)

-- A child's life: what may happen to it, in each of its states, and what is told of that.
--
--   running     it runs, and its streams are open
--   streams     it runs, and has closed its streams
--   lingering   it has ended, and a grandchild holds its streams
--   over        reaped, and its streams ended

local support = require "support"

-- For scripts: a child in one of these states, and what is told of it, in order.
local STATES = [[
local children = require "children"
local commands = {
  running = "echo up; read word; exit 7",
  streams = "echo up; sleep 0.02; exec <&- >&- 2>&-; sleep 1000 & wait",
  lingering = "echo up; sleep 1000 & exit 7",
  over = "echo up; exit 7",
}
local function new(state, options)
  local told = { out = "" }
  options = options or {}
  options[1], options[2], options[3], options.stdin = "sh", "-c", commands[state], "pipe"
  function options.stdout(chunk)
    told[#told + 1] = chunk and "out" or "end"
    told.out = told.out .. (chunk or "")
  end
  function options.on_exit(exit)
    told[#told + 1] = "exit"
    told.exit = exit
  end
  local child = truthy(lunad.spawn(options))
  local reached = {
    running = function() return told.out == "up\n" end,
    streams = function() return told[#told] == "end" end,
    lingering = function() return told.out == "up\n" and not child:running() end,
    over = function() return told.exit end,
  }
  eventually(reached[state])
  return child, told
end
local function finish(told, code, signal)
  eventually(function() return told.exit end)
  lunad.sleep(0.005)
  equal("out end exit", table.concat(told, " "))
  equal(code, told.exit.code)
  equal(signal, told.exit.signal)
end
-- Call the function for children in several states at once: fn(state, child, told).
local function each(states, fn, options)
  local tasks = {}
  for state in states:gmatch "%a+" do
    tasks[#tasks + 1] = lunad.task(function()
      local copy = {}
      for key, value in pairs(options or {}) do copy[key] = value end
      fn(state, new(state, copy))
      return true
    end)
  end
  for _, task in ipairs(tasks) do truthy(task:wait()) end
end
]]

local FIRST = 'local lunad, equal, truthy, raises, fails, eventually = require("inside")() '

describe("In each state of a child", function()
  local box = support.with_box(before_each, after_each)

  it("running() says whether it is reaped, and wait() waits for its end", function()
    box:inside(STATES .. [[
      each("running streams lingering over", function(state, child, told)
        local runs = state == "running" or state == "streams"
        equal(runs, child:running())
        local task = lunad.task(child.wait, child)
        equal(state ~= "over", task:running())
        if runs then child:kill() end
        local exit = task:wait()
        equal(runs and "TERM" or nil, exit.signal)
        finish(told, not runs and 7 or nil, runs and "TERM" or nil)
      end)
    ]])
  end)

  it("a signal ends it if it runs, and reaches nobody else", function()
    box:inside(STATES .. [[
      for _, signal in ipairs { "TERM", "KILL", "HUP" } do
        each("running streams", function(_, child, told)
          equal(true, child:kill(signal))
          finish(told, nil, signal)
        end)
      end
      each("lingering over", function(_, child, told)
        fails("ESRCH", child:kill())
        fails("ESRCH", child:kill "KILL")
        finish(told, 7)
      end)
    ]])
  end)

  it("a write is taken, or is EPIPE", function()
    box:inside(STATES .. [[
      each("running", function(_, child, told)
        equal(true, child:write "word\n")
        equal(true, child:flush())
        finish(told, 7)
        fails("EPIPE", child:write "more")
      end)
      each("streams", function(_, child, told)
        fails("EPIPE", child:write "word\n")
        fails("EPIPE", child:flush())
        child:kill()
        finish(told, nil, "TERM")
      end)
      each("lingering over", function(_, child, told)
        fails("EPIPE", child:write "word\n")
        finish(told, 7)
        fails("EPIPE", child:flush())
      end)
    ]])
  end)

  it("the end of its stdin is an end for it, or nothing", function()
    box:inside(STATES .. [[
      each("running streams lingering over", function(state, child, told)
        child:close_stdin()
        child:close_stdin()
        if state == "streams" then child:kill() end
        finish(told, state ~= "streams" and 7 or nil, state == "streams" and "TERM" or nil)
      end)
    ]])
  end)

  it("pause and resume lose nothing and hold up no end for ever", function()
    box:inside(STATES .. [[
      each("running streams lingering over", function(state, child, told)
        child:pause()
        if child:running() then child:kill() end
        eventually(function() return not child:running() end)
        child:resume()
        local signal = (state == "running" or state == "streams") and "TERM" or nil
        finish(told, not signal and 7 or nil, signal)
      end)
    ]])
  end)

  it("a timeout ends it if it runs, and is told", function()
    box:inside(STATES .. [[
      each("running streams", function(_, _, told)
        finish(told, nil, "TERM")
        equal(true, told.exit.timed_out)
      end, { timeout = 0.5 })
      each("lingering", function(_, _, told)
        finish(told, 7)
        equal(false, told.exit.timed_out)
      end, { timeout = 0.7 })
    ]])
  end)

  it("the stop of the host ends it, and what it has left", function()
    for _, state in ipairs { "running", "streams", "lingering", "over" } do
      box:inside(STATES .. ("new %q lunad.stop()"):format(state))
      assert.same({}, box:marked())
    end
  end)

  it("os.exit of the script ends it, and what it has left", function()
    for _, state in ipairs { "running", "streams", "lingering", "over" } do
      box:inside(STATES .. ("new %q os.exit(0)"):format(state))
      assert.same({}, box:marked())
    end
  end)

  it("the death of the host ends it", function()
    for _, state in ipairs { "running", "streams" } do
      local script = box:write("inside.lua", FIRST .. STATES ..
        ("print((new %q).pid) lunad.sleep(1000)"):format(state))
      local process = box:spawn { "run", "--path", support.root .. "/spec/support", script }
      box:await(process, "the pid", function() return process.out():find "\n" end)
      local pid = math.tointeger(tonumber(process.out():match "%d+"))
      assert.is_true(support.is_alive(pid))
      support.kill(process.pid, "sigkill")
      box:wait_gone(pid)
      box:await(process, "the end of the host", process.is_over)
      box:lunad("stop", "inside")
      for _, left in ipairs(box:marked()) do support.kill(left, "sigkill") end
    end
  end)

  it("a reload ends it, unless it has ended", function()
    for _, state in ipairs { "running", "streams", "lingering", "over" } do
      box:serve("if lunad.generation > 1 then return end " .. FIRST .. STATES .. ("new %q"):format(state),
        "--path", support.root .. "/spec/support")
      assert.equal(0, box:lunad("reload", "s").code)
      support.wait_for("the end of the child", function() return #box:status("s").children == 0 end)
      box:ok("stop", "s")
      assert.same({}, box:marked())
    end
  end)
end)

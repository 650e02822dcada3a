-- The module lunad.test: its clock, services and faked commands, by specs that lunad test runs.

local support = require "support"

describe("lunad.test", function()
  local box = support.with_box(before_each, after_each)

  -- Run specs that are all to pass.
  local function passes(text)
    box:write("a_spec.lua", 'local lunad, test = require "lunad", require "lunad.test"\n' .. text)
    local result = box:run { "test", "-o", "TAP", box:path "a_spec.lua" }
    assert.equal(0, result.code, result.out .. result.err)
    assert.equal("", result.err)
    assert.not_matches("not ok", result.out)
  end

  it("has a clock that fires what is due, in order, and what that arms", function()
    passes [[
      it("fires in order", function()
        local clock <close> = test.clock(1700000000)
        local begin, seen = lunad.now(), {}
        local function note(name)
          return function() seen[#seen + 1] = name .. math.floor(lunad.now() - begin + 0.5) end
        end
        lunad.every(20, note "e")
        lunad.after(50, function() note "a"() lunad.after(5, note "b") lunad.sleep(2) note "s"() end)
        lunad.task(function() lunad.sleep(30) note "t"() end)
        lunad.cron("* * * * *", note "c") -- 1700000000 is 22:13:20
        lunad.sleep(0)
        clock:advance(0.5)
        assert.same({}, seen)
        clock:advance(59.5)
        assert.equal("e20 t30 e40 c40 a50 s52 b55 e60", table.concat(seen, " "):gsub("c40 e40", "e40 c40"))
        assert.equal(1700000060, os.time())
        assert.equal("22:14:20", os.date "!%H:%M:%S")
        assert.equal(60, math.floor(clock:now() - begin + 0.5))
        assert.is_true(math.abs(clock:time() - 1700000060) < 1e-6)
      end)
      it("is what waits, limits and days go by, and nothing else", function()
        local clock = test.clock(os.time { year = 2026, month = 3, day = 28, hour = 23 })
        local nights = 0
        lunad.cron("30 2 * * *", function() nights = nights + 1 end)
        local waiting = lunad.task(function() return lunad.timeout(3600, lunad.sleep, 7200) end)
        assert.equal("hi\n", lunad.exec { "echo", "hi" }.stdout)
        clock:advance(10 * 86400)
        assert.equal(10, nights)
        assert.equal("ETIMEDOUT", select(3, waiting:wait()))
      end)
      it("was restored, and runs", function()
        assert.is_true(math.abs(os.time() - 1.7e9) > 1e6)
        local begin = lunad.now()
        lunad.sleep(0.01)
        assert.is_true(lunad.now() - begin >= 0.01)
        local clock = test.clock()
        assert.has_error(function() test.clock() end, "the clock is frozen already")
        clock:restore()
        clock:restore()
        assert.error_matches(function() clock:advance(1) end, "this clock was restored")
        assert.error_matches(function() test.clock():advance(-1) end, "seconds from 0 to ten years")
      end)
      it("gives up where time cannot go on", function()
        local clock = test.clock()
        local task = lunad.task(function() while true do lunad.sleep(0) end end)
        assert.error_matches(function() clock:advance(1) end, "keep arming each other")
        task:cancel()
      end)
      it("is moved by one task at a time", function()
        local clock = test.clock()
        local first = lunad.task(function() clock:advance(1) end)
        assert.error_matches(function() clock:advance(1) end, "another task is moving the clock")
        first:wait()
      end)]]
  end)

  it("runs services, whose hours are over at once", function()
    box:write("app.lua", [[
      local lunad = require "lunad"
      count = lunad.state and lunad.state.count or 0
      lunad.every(3600, function() count = count + 1 lunad.log.info("tick", { count = count }) end)
      lunad.on_reload(function() return { count = count } end)
      lunad.on_stop(function() lunad.sleep(0.01) lunad.log.info "bye" end)
      lunad.signal("USR1", function() lunad.status(os.getenv "WORD" .. arg[1]) end)
      function fail() lunad.after(60, function() error "boom" end) end]])
    passes(([[
      local function start(options) return test.service(%q, options) end
      it("is a daemon of its own", function()
        local clock = test.clock()
        local s = start { args = { "b" }, env = { WORD = "a" }, state = { count = 10 }, memory_limit = "8M" }
        assert.equal("app", s.name)
        assert.equal(3600, s:timers()[1].interval)
        assert.equal("daemon", s:status().mode)
        assert.equal(8 << 20, s:status().memory.limit)
        clock:advance(86400)
        assert.equal(34, s:eval "count")
        assert.equal(24, #s:log "^tick$")
        assert.equal(34, s:log "^tick$"[24].count)
        s:signal "USR1"
        test.eventually(function() return s:status().text == "ab" end)
        assert.is_true(s:reload())
        clock:advance(3600)
        assert.equal(35, s:eval "count")
        local data = { a = "\0\xff", [2] = 0.1 }
        assert.same({ 1, data }, { s:eval("return 1, ...", data) })
        assert.error_matches(function() s:eval "error 'no'" end, "no")
        assert.error_matches(function() s:eval "print" end, "a function cannot be handed on")
        assert.is_true(s:stop().ok)
        assert.equal(1, #s:log "^bye$" - 1)
        assert.is_false(s:running())
        assert.error_matches(function() s:status() end, "app is not running")
      end)
      it("shows its errors", function()
        local clock = test.clock()
        local s <close> = start()
        s:eval "fail()"
        clock:advance(59)
        assert.same({}, s:errors())
        clock:advance(1)
        assert.matches("^uncaught error in a timer: .-boom", s:errors()[1])
        assert.same({}, s:errors())
      end)
      it("says why it does not start, or reload", function()
        assert.error_matches(function() test.service "nowhere.lua" end, "nowhere did not start: .-no such")
        assert.error_matches(function() start { nonsense = 1 } end, "unknown option %%-%%-nonsense")
        assert.error_matches(function() start { log = "x" } end, "'log' cannot be given")
        assert.error_matches(function() start { args = 1 } end, "'args': table expected")
        local s = start { wait_ready = false }
        s:eval "lunad.on_reload(function() return { f = print } end)"
        assert.matches("state.f", select(2, s:reload()))
      end)]]):format(box:path "app.lua"))
  end)

  it("fails the spec by an error of its service that it does not ask for", function()
    box:write("app.lua", 'local lunad = require "lunad" lunad.after(3600, function() error "boom" end)')
    box:write("a_spec.lua", ([[local test = require "lunad.test"
      it("x", function() local clock = test.clock() test.service(%q) clock:advance(3600) end)
      it("y", function() end)]]):format(box:path "app.lua"))
    local result = box:run { "test", "-o", "TAP", box:path "a_spec.lua" }
    assert.equal(1, result.code)
    assert.matches("not ok 1 %- x\n.-in app: uncaught error in a timer: .-app.lua:1: boom.-\nok 2",
      result.out)
  end)

  it("fakes commands, of services and of the specs", function()
    box:write("app.lua", [[
      local lunad = require "lunad"
      function run(a, b) return lunad.exec { a, b, input = "abc" } end
      function supervise() lunad.supervise { "worker", "-v", backoff = { 10, 60 } } end
      function start()
        child = lunad.spawn { "cat", stdin = "pipe", stdout = lunad.by_line(function(line) last = line end) }
        child:write "typed"
      end
      lunad.every(600, function() local r = lunad.exec { "slow" } lunad.sleep(5) slept = r.code end)]])
    passes(([[
      it("of the spec", function()
        local fakes = test.fake {
          ["git pull"] = { stdout = "ok\n", stderr = "e", code = 3 }, git = "missing", echo = "real",
        }
        local result = lunad.exec { "git", "pull", "-q" }
        assert.same({ "ok\n", "e", 3 }, { result.stdout, result.stderr, result.code })
        assert.equal("ENOENT", select(3, lunad.exec { "git", "push" }))
        assert.equal("hi\n", lunad.exec { "echo", "hi" }.stdout)
        assert.error_matches(function() lunad.exec { "rm", "x" } end, "has no word for this one: \"rm x\"")
        assert.same({ "git", "pull", "-q" }, fakes:calls "git"[1].args)
        fakes:restore()
        assert.equal("ENOENT", select(3, lunad.exec { "no-such-command" }))
        assert.error_matches(function() test.fake { git = 1 } end, "\"git\": a table expected, got number")
        assert.error_matches(function() test.fake { git = { status = 1 } } end, "unknown key 'status'")
      end)
      it("of a service", function()
        local clock = test.clock()
        local s = test.service(%q, { fake = {
          slow = { code = 7 }, worker = "open", cat = "open", sum = function(call)
            return { stdout = call.args[2] .. call.input, signal = call.args[2] == "9" and "TERM" or nil }
          end,
        } })
        assert.equal("1abc", s:eval "run('sum', '1').stdout")
        assert.equal("TERM", s:eval "run('sum', '9').signal")
        clock:advance(605)
        assert.equal(7, s:eval "slept")
        s:eval "supervise()"
        local worker = s.fakes:child "worker"
        assert.equal("worker", s:children()[1].name)
        worker:exit { signal = "KILL" }
        test.eventually(function() return #s:log "^supervised child ended" == 1 end)
        assert.equal(1, #s.fakes:calls "worker")
        clock:advance(10)
        assert.not_equal(worker, s.fakes:child "worker")
        s:eval "start()"
        local cat = s.fakes:child "cat"
        cat:stdout "one\ntwo\n"
        test.eventually(function() return cat.input == "typed" and s:eval "last" == "two" end)
        s:eval "child:kill()"
        test.eventually(function() return not cat:running() end)
        s:fake { sum = { stdout = "other" } }
        s:reload()
        assert.equal("other", s:eval "run('sum', '1').stdout")
      end)]]):format(box:path "app.lua"))
    box:wait_all_gone()
  end)

  it("ends what a setup has made with its describe", function()
    box:write("app.lua", 'require "lunad".every(60, function() n = (n or 0) + 1 end)')
    passes(([[
      local s, clock
      describe("in it", function()
        setup(function() clock = test.clock() s = test.service(%q) end)
        it("runs", function() clock:advance(60) assert.equal(1, s:eval "n") end)
        it("runs on", function() clock:advance(60) assert.equal(2, s:eval "n") end)
      end)
      it("has ended after it", function()
        assert.is_false(s:running())
        assert.error_matches(function() clock:now() end, "restored")
      end)]]):format(box:path "app.lua"))
  end)
end)

-- lunad test: which specs run, what becomes of their failures, and how a run ends.

local support = require "support"

describe("lunad test", function()
  local box = support.with_box(before_each, after_each)

  -- Run specs, the text of one file; returns what came of it.
  local function run(text, ...)
    box:write("a_spec.lua", 'local lunad, test = require "lunad", require "lunad.test"\n' .. text)
    return box:run { "test", "-o", "TAP", box:path "a_spec.lua", ... }
  end

  it("runs specs as tasks, and takes no name, lock, socket or log", function()
    local result = run [[
      describe("a spec", function()
        before_each(function() lunad.sleep(0.001) end)
        it("sleeps", function() lunad.sleep(0.001) print "printed" end)
        it("runs commands", function() assert.equal("hi\n", lunad.exec { "echo", "hi" }.stdout) end)
        it("waits for a task", function()
          assert.equal(3, lunad.task(function() lunad.sleep(0.001) return 3 end):wait())
        end)
        it("leaves things behind", function()
          lunad.every(0.001, function() end)
          assert(lunad.spawn { "sleep", "600" })
          lunad.log.error "nobody reads this"
        end)
      end)]]
    assert.equal(0, result.code, result.out .. result.err)
    assert.matches("printed\nok 1 %- a spec sleeps\nok 2 .-\nok 3 .-\nok 4 .-\n1%.%.4\n", result.out)
    assert.equal("", result.err)
    assert.same({}, box:left_files())
    assert.is_nil(box:read "log")
    box:wait_all_gone()
  end)

  it("fails by what fails, at its place, and by os.exit and errors of callbacks", function()
    local result = run [[
      it("fails", function()
        assert.equal(1, 2)
      end)
      it("calls os.exit", function() os.exit(0) end)
      it("has a timer that fails", function()
        lunad.after(0, function() error "boom" end)
        lunad.sleep(0.01)
      end)
      it("has an error that it knows of", function() assert.has_error(function() os.exit() end) end)]]
    assert.equal(1, result.code)
    assert.matches("not ok 1 %- fails\n# [^\n]*a_spec.lua @ 2\n# Failure message: [^\n]*a_spec.lua:3: ",
      result.out)
    assert.matches("not ok 2 .-a_spec.lua:5: os.exit%(0%) was called by a spec", result.out)
    assert.matches("not ok 3 .-uncaught error in a callback of the spec: [^\n]*a_spec.lua:7: boom",
      result.out)
    assert.matches("\nok 4 ", result.out)
  end)

  it("has a default, filters, options of busted, and words for what is wrong", function()
    assert.matches('there is no folder "spec" here', box:refused(1, "test"))
    assert.equal(0, box:run({ "new", "app" }).code)
    assert.matches("^ok 1 .-counts a beat.-\n1..1\n$", box:ok("test", "--filter=counts", "-o", "TAP"))
    assert.matches("app counts", box:ok("test", "spec", "--", "--list"), nil, true)
    assert.matches("app counts", box:ok("test", "--", "--list", "spec/app_spec.lua"), nil, true)
    assert.matches("nowhere: there is no such", box:refused(1, "test", "nowhere"))
    assert.equal(2, box:lunad("test", "--", "--nonsense").code)
    assert.matches("unknown option %-%-nonsense", box:refused(2, "test", "--nonsense"))
    assert.matches("lunad.test is for specs", box:lunad("run", "-e", "require 'lunad.test'").err)
    assert.matches("for lunad test alone", box:refused(2, "test-service", "spec/app_spec.lua"))
  end)

  it("says what to install where busted is not", function()
    local result = box:run({ "test", "." }, { env = { LUA_PATH_5_4 = box:path "?.lua" } })
    assert.equal(1, result.code)
    assert.matches("busted is not installed: apt%-get install lua%-busted", result.err)
  end)

  it("ends by Ctrl-C, in a spec that never ends too, with its services", function()
    for _, body in ipairs { "lunad.sleep(600)", "while true do pcall(error) end" } do
      box:write("s.lua", 'require "lunad".every(60, print)')
      box:write("a_spec.lua", ([[it("x", function()
        local lunad, test = require "lunad", require "lunad.test"
        test.service(%q)
        print "there"
        %s
      end)]]):format(box:path "s.lua", body))
      local process = box:spawn({ "test", box:path "a_spec.lua" }, { env = { TMPDIR = box:path "" } })
      box:await(process, "the spec", function() return process.out():find "there" end)
      support.kill(process.pid, "sigint")
      box:await(process, "the end", process.is_over)
      assert.equal("130 0", process.code .. " " .. process.signal, process.err())
      assert.equal("lunad: test: interrupted\n", process.err())
    end
    box:wait_all_gone()
  end)
end)

-- Errors that teach: what was probably meant, and the line that an error is about.

local support = require "support"

local TERMINAL = support.with_terminal(setup, teardown)

describe("An error", function()
  local box = support.with_box(before_each, after_each)

  -- What run says of a script that fails.
  local function fails(text, ...)
    local words = { "run", ... }
    table.move({ "-e", text }, 1, 2, #words + 1, words)
    return box:refused(1, table.unpack(words))
  end

  it("of a call says which function of lunad was probably meant", function()
    assert.matches("%(field 'aftr'%); did you mean lunad%.after%?\n",
      fails "local l = require 'lunad' l.aftr(1)")
    assert.matches("did you mean lunad%.sleep%?\n", fails [[
      local l = require "lunad"
      local function f() l.slepe(1) end
      f()]])
    for _, text in ipairs { "local t = {} t.aftr(1)", "local l = require 'lunad' l.frobnicate()", "aftr()",
      "error 'attempt to call a nil value (field \\'aftr\\')'" } do
      assert.not_matches("did you mean", fails(text))
    end
    assert.equal("nil\n", box:ok("run", "-e", "local l = require 'lunad' print(l.aftr)"))
  end)

  it("of a call says which function in a table of lunad was meant, or that it is one of lunad", function()
    for text, meant in pairs {
      ["local l = require 'lunad' l.log.inf('x')"] = "log.info",
      ["local l = require 'lunad' l.log.wran('x')"] = "log.warn",
      ["local l = require 'lunad' l.info('x')"] = "log.info",
      ["local l = require 'lunad' l.log('x')"] = "log.info",
      ["local l = require 'lunad' l.metrics.conter('x', 'y')"] = "metrics.counter",
      ["local l = require 'lunad' every(1, print)"] = "every",
    } do
      assert.truthy(fails(text):find("; did you mean lunad." .. meant .. "?\n", 1, true), text)
    end
    for _, text in ipairs { "local t = {} t.inf()", "local t = { log = {} } t.log('x')", "beat()" } do
      assert.not_matches("did you mean", fails(text))
    end
  end)

  it("of a module of lunad that was not required says what to add", function()
    for text, line in pairs {
      ["lunad.every(1, print)"] = 'local lunad = require "lunad"',
      ["local l = require 'lunad' http.serve('', print)"] = 'local http = require "lunad.http"',
      ["local l = require 'lunad' l.net.connect('')"] = 'local net = require "lunad.net"',
      ["uv.now()"] = 'local uv = require "luv"',
    } do
      assert.truthy(fails(text):find("; add: " .. line .. "\n", 1, true), text)
    end
    for _, text in ipairs { "redis.get()", "local http http.get()", "local t = {} t.http.get()" } do
      assert.not_matches("add:", fails(text))
    end
    assert.matches("; did you mean 'lunad%.http'%?\n", fails "require 'lunad.htp'")
    assert.not_matches("did you mean", fails "require 'htp'")
  end)

  it("of an option says which key was probably meant", function()
    for text, key in pairs {
      ["require('lunad').spawn{'true', cdw = '/'}"] = "cwd",
      ["require('lunad').exec{'true', tiemout = 1}"] = "timeout",
      ["require('lunad').exec{'true', inptu = ''}"] = "input",
      ["require('lunad').supervise{'true', cuont = 2}"] = "count",
      ["require('lunad').listen('127.0.0.1:0', {mdoe = 1})"] = "mode",
      ["require('lunad.net').connect('127.0.0.1:1', {timout = 1})"] = "timeout",
      ["require('lunad.http').serve('127.0.0.1:0', print, {max_bdy = 1})"] = "max_body",
    } do
      assert.matches("unknown option '%w+_?%w*'; did you mean '" .. key .. "'%?\n", fails(text))
    end
    assert.not_matches("did you mean", fails "require('lunad').spawn{'true', frobnicate = 1}")
  end)

  it("of the command line says which option or verb was probably meant", function()
    local message = box:refused(2, "run", "--naem=x", "x.lua")
    assert.matches("unknown option %-%-naem=x: did you mean %-%-name%?", message)
    assert.matches("did you mean %-%-timeout%?", box:refused(2, "stop", "--timout", "1", "x"))
    assert.not_matches("did you mean", box:refused(2, "stop", "--frobnicate", "x"))
    assert.matches("did you mean \"lunad reload\"%?", box:refused(2, "relaod", "x"))
  end)

  it("of a module that is not found names the folders, and with --log-level debug all files", function()
    local message = fails("require 'no.such'", "--path", box.dir .. "/a;" .. box.dir .. "/b/?.lua")
    assert.matches("'no%.such' not found in [^\n]+ %(%-%-log%-level debug lists all files%)\nstack", message)
    assert.truthy(message:find("found in " .. box.dir .. "/a, " .. box.dir .. "/b, ", 1, true), message)
    assert.is_nil(message:find("such.lua", 1, true))
    message = fails("require 'no.such'", "--log-level", "debug")
    assert.matches("\n\tno file '%./no/such%.lua'\n", message)
    assert.equal("true\n", box:ok("run", "-e",
      "print(select(2, pcall(require, 'no')):find('no file', 1, true) ~= nil)"))
  end)

  it("shows its line and a caret on a terminal, in colour unless NO_COLOR is set", function()
    local script = box:write("s.lua", 'local lunad = require "lunad"\nlunad.after(0, function()\n' ..
      "\tlocal x = config.name\nend)\n")
    local function run(words, env)
      local process = box:spawn(words, { program = TERMINAL, env = env, keep_stdin = true })
      box:await(process, "its end", process.is_over)
      return process.out()
    end
    local words = { support.binary, "run", "--on-error", "exit", script }
    local shown = run(words, { NO_COLOR = "" })
    assert.truthy(shown:find("    3 | \tlocal x = config.name\r\n" ..
      "      | \t          \27[1;31m^~~~~~\27[0m\r\n", 1, true), shown)
    assert.equal(1, select(2, shown:gsub("attempt to index", "")))
    shown = run(words, { NO_COLOR = "1" })
    assert.truthy(shown:find("      | \t          ^~~~~~\r\n", 1, true), shown)
    assert.is_nil(shown:find("\27", 1, true))
    shown = run { support.binary, "run", box:write("t.lua", "x = = 1") }
    assert.truthy(shown:find("    1 | x = = 1\r\n      |   \27[1;31m^", 1, true), shown)
    assert.is_nil(box:run({ "run", "t.lua" }).err:find(" | ", 1, true))
  end)
end)

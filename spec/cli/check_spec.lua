-- lunad check: a script, the modules that it requires by constant names, and configs.

local support = require "support"

describe("lunad check", function()
  local box = support.with_box(before_each, after_each)

  local function check(...)
    local result = box:lunad("check", ...)
    return result.code, result.err, result.out
  end

  before_each(function()
    support.uv.fs_mkdir(box:path "lib", tonumber("755", 8))
    support.uv.fs_mkdir(box:path "sub", tonumber("755", 8))
  end)

  it("compiles every module that a require of a constant string names, and says each fault", function()
    box:write("s.lua", [==[
#!/usr/bin/lunad run
-- require "comment"
--[[ require "comment" ]]
local lunad, http = require "lunad", require("lunad.http")
local text = 'require "text"' .. [=[ require "text" ]=] .. "\" require 'text'"
require 'good'
require [[sub.broken]]
_G.require("other")
own.require "method" own:require "method"
require("computed" .. text) require(text)
require "string" require "coroutine"
]==])
    box:write("good.lua", '#! first line\nrequire "good" return require "sub"') -- a circle
    box:write("sub/init.lua", "local x\n\nx = = 1")
    box:write("sub/broken.lua", "x =")
    box:write("other.lua", "return 'unfinished")
    local code, err = check "s.lua"
    assert.equal(1, code)
    local lines = {}
    for line in err:gmatch "[^\n]+" do
      lines[#lines + 1] = line:gsub(support.pattern(box.dir .. "/"), "")
    end
    assert.same({
      "lunad: sub/init.lua:3: unexpected symbol near '=' (required at good.lua:2)",
      "lunad: sub/broken.lua:1: unexpected symbol near <eof> (required at s.lua:7)",
      "lunad: other.lua:1: unfinished string near <eof> (required at s.lua:8)",
    }, lines)
    for _, name in ipairs { "sub/init", "sub/broken", "other" } do
      box:write(name .. ".lua", "return {}")
    end
    assert.same({ 0, "", "s.lua: ok\n" }, { check "s.lua" })
    box:write("s.lua", 'x = = 1 require "other"')
    box:write("other.lua", "x = =")
    assert.matches("s.lua:1: .*\nlunad: .*other.lua:1: ", select(2, check "s.lua"))
  end)

  it("searches as the script does: --path and --cpath, its folder, the paths of Lua", function()
    box:write("sub/s.lua", 'require "a" require "b" require "c" require "c.inner"')
    box:write("lib/a.lua", "return 1")
    box:write("sub/b.lua", "return 1")
    box:write("lib/c.so", "no library, which nobody loads")
    assert.same({ 0, "", "sub/s.lua: ok\n" },
      { check("--path", "lib", "--cpath", "lib/?.so", "sub/s.lua") })
    local code, err = check("--path", "lib/?.lua", "sub/s.lua")
    assert.equal(1, code)
    assert.matches('sub/s.lua:1: module "c" is not found on package.path or package.cpath\n', err)
    local env = { LUA_PATH = box:path "lib/?.lua", LUA_CPATH_5_4 = box:path "lib/?.so" }
    assert.equal(0, box:run({ "check", "sub/s.lua" }, { env = env }).code)
    local input = box:run({ "check", "-" }, { input = '\n\nrequire "a"' })
    assert.equal(1, input.code)
    assert.equal('lunad: stdin:3: module "a" is not found on package.path or package.cpath\n', input.err)
  end)

  it("knows what may be missing", function()
    box:write("s.lua", [[
      pcall(require, "missing.a") xpcall(require, print, "missing.b") _G.pcall(_G.require, "missing.c")
      pcall(function() if x then require "missing.d" end end)
      require "vendored"
      package.preload["missing.e"] = print  package.loaded.missing_f = 1
      require "missing.e" require "missing_f"
    ]])
    box:write("vendored.lua", "local function f()\n  require 'missing.g'\nend")
    local code, err, out = check "s.lua"
    assert.same({ 0, "s.lua: ok\n" }, { code, out })
    assert.matches('^lunad: /[^\n]+/vendored.lua:2: module "missing.g" is not found, which that module may '
      .. "do without\n$", err)
    box:write("vendored.lua", "require 'missing.g'")
    assert.equal(1, (check "s.lua"))
    box:write("s.lua", 'package.path = "x/?.lua;" .. package.path require "missing"')
    code, err = check "s.lua"
    assert.equal(0, code)
    assert.matches('s.lua:1: module "missing" is not found, unless the script finds it by its change', err)
    box:write("s.lua", "print(package.path)\nlocal function f() require 'missing' end")
    assert.matches('s.lua:2: module "missing" is not found on ', box:refused(1, "check", "s.lua"))
  end)

  it("checks a config, and the scripts of its services with their options", function()
    box:write("sub/s.lua", 'require "a"')
    box:write("lib/a.lua", "return 1")
    box:write("c.lua", 'return { script = "sub/s.lua", path = "lib" }')
    assert.same({ 0, "", "c.lua: ok\n" }, { check("--config", "c.lua") })
    box:write("c.lua", [[return { services = { a = { script = "sub/s.lua" }, b = { script = "nix.lua" },
      c = { script = "sub/s.lua", path = "lib" } } }]])
    local code, err = check("--config", "c.lua")
    assert.equal(1, code)
    assert.matches('^lunad: /[^\n]+/sub/s.lua:1: module "a" is not found [^\n]+\n'
      .. "lunad: /[^\n]+/nix.lua: there is no such script\n$", err)
    box:write("c.lua", 'return { scirpt = "sub/s.lua" }')
    assert.matches("scirpt: there is no such option; did you mean script%?",
      box:refused(2, "check", "-c", "c.lua"))
    assert.matches("not both", box:refused(2, "check", "-c", "c.lua", "sub/s.lua"))
  end)
end)

-- The names of daemons, and what may be given in place of NAME.

local support = require "support"

-- Words that are neither names nor paths.
local BAD = { "", ".x", "-x", "a b", "a;b", "a\nb", "\xC3\xA9", "a:b", "*", "a\\b", ("a"):rep(65) }

describe("A daemon's name", function()
  local box = support.with_box(before_each, after_each)

  it("is the script's file name without .lua", function()
    assert.truthy(box:ok("start", box:idle("heart.beat")):find("^heart%.beat: started"))
    box:write("plain", 'require("lunad").every(60, print)')
    assert.truthy(box:ok("start", "./plain"):find("^plain: started"))
    assert.same({ "heart.beat.pid", "heart.beat.sock", "heart.beat.start",
      "plain.pid", "plain.sock", "plain.start" }, box:left_files())
  end)

  it("is the name of the link if the script is one", function()
    assert(support.uv.fs_symlink(box:idle("real"), box:path("link.lua")))
    assert.truthy(box:ok("start", "link.lua"):find("^link: started"))
  end)

  it("is the one given by --name or -n", function()
    assert.truthy(box:ok("start", "--name", "one", box:idle("x")):find("^one: started"))
    assert.truthy(box:ok("start", "-n", "two", "x.lua"):find("^two: started"))
    assert.truthy(box:ok("start", "-nthree", "x.lua"):find("^three: started"))
  end)

  it("may have 1 to 64 letters, digits, dots, dashes and underscores", function()
    for _, name in ipairs { "a", "Z", "0", "_", "a.b-c_D9..", ("n"):rep(64) } do
      box:start("--name", name, box:idle("x"))
      assert.equal(name, box:status(name).name)
    end
  end)

  it("of another form is refused with 2, naming option and value", function()
    local script = box:idle("x")
    for _, name in ipairs { "a/b", "../x", table.unpack(BAD) } do
      local result = box:lunad("start", "--name", name, script)
      assert.equal(2, result.code, name)
      assert.truthy(result.err:find("--name", 1, true), name)
      assert.truthy(result.err:find('"', 1, true), name)
    end
    assert.is_nil(support.uv.fs_stat(box:path("run")))
  end)

  it("must be given if the script's file name cannot be one", function()
    for _, name in ipairs { "my script", ".hidden", ("x"):rep(65) } do
      local script = box:idle(name)
      assert.truthy(box:refused(2, "start", script):find("--name", 1, true), name)
      assert.truthy(box:refused(2, "run", script):find("--name", 1, true), name)
    end
    box:start("--name", "given", box:path("my script.lua"))
  end)
end)

describe("In place of NAME,", function()
  local box = support.with_box(before_each, after_each)

  it("what is not a name is refused with 2 by every verb", function()
    for _, verb in ipairs { "stop", "reload", "restart", "status", "logs", "reopen" } do
      for _, name in ipairs(BAD) do
        box:refused(2, verb, "--", name)
      end
    end
    box:refused(2, "signal", "a b", "TERM")
  end)

  it("a script's path means the daemon that runs it", function()
    local pid = box:start(box:idle("x"))
    assert(support.uv.fs_symlink("x.lua", box:path("y.lua")))
    for _, path in ipairs { "x.lua", "./x.lua", box:path("x.lua"), box.dir .. "/./x.lua", "y.lua" } do
      assert.truthy(box:ok("status", path):find("^x: running, pid " .. pid), path)
    end
    assert.truthy(box:ok("reload", "x.lua"):find("^x: reloaded"))
    assert.truthy(box:ok("reopen", "./x.lua"):find("^x: "))
    assert.truthy(box:ok("logs", "x.lua"):find("started", 1, true))
    assert.equal("x: stopped\n", box:ok("stop", "x.lua"))
  end)

  it("a script's path finds the daemon under another name", function()
    box:start("--name", "other", box:idle("x"))
    box:start(box:idle("y"))
    assert.truthy(box:ok("status", "x.lua"):find("^other: running"))
    box:ok("signal", "./x.lua", "USR1")
    box:wait_log("other", "log reopened")
    assert.equal("other: stopped\n", box:ok("stop", "x.lua"))
  end)

  it("a script's path means the daemon of its own name first", function()
    box:start("--name", "a", box:idle("x"))
    box:start("x.lua")
    assert.truthy(box:ok("status", "x.lua"):find("^x: running"))
    assert.equal("x: stopped\n", box:ok("stop", "x.lua"))
    assert.truthy(box:ok("status", "x.lua"):find("^a: running"))
  end)

  it("a script's path that no daemon runs is a daemon that does not run", function()
    box:idle("x")
    assert.equal(3, box:lunad("status", "x.lua").code)
    assert.matches("^x: not running [^\n]+\n$", box:ok("stop", "./x.lua"))
    assert.truthy(box:refused(3, "reload", box:path("x.lua")):find("x: not running", 1, true))
  end)

  it("a script of the same file name elsewhere is another one", function()
    assert(support.uv.fs_mkdir(box:path("other"), tonumber("755", 8)))
    box:start(box:idle("x"))
    box:idle("other/x")
    assert.equal(3, box:lunad("status", "other/x.lua").code)
    assert.truthy(box:ok("stop", "other/x.lua"):find("not running", 1, true))
    assert.equal(0, box:lunad("status", "x.lua").code)
  end)

  it("a script's path still finds its daemon when the file is gone", function()
    box:start("--name", "other", box:idle("x"))
    assert(support.uv.fs_unlink(box:path("x.lua")))
    assert.truthy(box:ok("status", box:path("x.lua")):find("^other: running"))
  end)

  it("a name that ends in .lua finds its daemon", function()
    box:start("--name", "web.lua", box:idle("x"))
    assert.truthy(box:ok("status", "web.lua"):find("^web%.lua: running"))
    assert.equal("web.lua: stopped\n", box:ok("stop", "web.lua"))
  end)

  it("the path of a script that cannot give a name finds its daemon too", function()
    box:start("--name", "given", box:idle("my script"))
    assert.truthy(box:ok("status", "my script.lua"):find("^given: running"))
    assert.equal("given: stopped\n", box:ok("stop", "./my script.lua"))
    assert.equal(3, box:lunad("status", "my script.lua").code)
  end)
end)

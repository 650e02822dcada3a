local support = require "support"

describe("lunad new", function()
  local box = support.with_box(before_each, after_each)

  it("writes a service that runs, and its specs, which pass", function()
    assert.matches("^app%.lua, a script .-\nnext: lunad test; ", box:ok("new", "app"))
    assert.equal("app.lua: ok\n", box:ok("check", "app.lua"):gsub("^.*/", ""))
    assert.matches("^ok 1 .-\nok 3 .-\n1%.%.3\n$", box:ok("test", "-o", "TAP"))
    box:start(box:path "app.lua")
    box:ok("reload", "app")
    assert.equal(0, box:status("app").errors.count)
    local settings = support.json.decode(box:read ".luarc.json")
    assert.truthy(support.uv.fs_stat(settings["workspace.library"][1] .. "/lunad.lua"))
    assert.not_matches("NAME", box:read "app.lua" .. box:read "spec/app_spec.lua")
  end)

  it("overwrites nothing, and writes all or nothing", function()
    box:write("spec", "a file")
    assert.matches("spec/app_spec%.lua: .-: nothing was written", box:refused(1, "new", "app"))
    assert.is_nil(box:read "app.lua")
    support.uv.fs_unlink(box:path "spec")
    box:write("app.lua", "mine")
    assert.matches("app%.lua is there already: nothing was written", box:refused(1, "new", "app"))
    assert.equal("mine", box:read "app.lua")
    assert.is_nil(support.uv.fs_stat(box:path "spec"))
    box:write(".luarc.json", "mine too")
    box:ok("new", "other")
    assert.equal("mine too", box:read ".luarc.json")
  end)

  it("wants a name", function()
    for _, name in ipairs { "a/b", "x.lua", ".x", "", ("n"):rep(65) } do
      assert.matches("cannot be a service's name", box:refused(2, "new", name))
    end
    box:refused(2, "new")
  end)
end)

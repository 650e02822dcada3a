local support = require "support"

local SOURCE = support.root .. "/spec/fixtures/native.c"

-- The output of a command.
local function output_of(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  assert(pipe:close(), command)
  return text
end

describe("A C module", function()
  local box = support.with_box(before_each, after_each)

  -- Compile the module under a name, linked with `libraries`.
  local function compile(name, libraries)
    local cc = "cc -shared -fPIC -O1 -Wall -Werror -D_GNU_SOURCE $(pkg-config --cflags lua5.4)"
    assert(os.execute((cc .. " -DOPEN=luaopen_%s -o %s %s %s"):format(
      name, box:path(name .. ".so"), SOURCE, libraries)))
  end

  it("finds one Lua, whether it is linked with a shared one or not", function()
    compile("plain", "")
    compile("linked", "-Wl,--no-as-needed $(pkg-config --libs lua5.4)")
    assert.matches("NEEDED[^\n]*liblua", output_of("readelf -d " .. box:path "linked.so"))
    box:inside(([[
      package.cpath = %q
      local lunad = require "lunad"
      local plain, linked = require "plain", require "linked"
      local where, places = plain.where(), linked.where()
      for name, place in pairs(where) do
        equal(place, places[name])
        equal(where.lua_newstate:match "^%%S+", place:match "^%%S+")
      end

      for _, pair in ipairs { { plain, linked }, { linked, plain } } do
        local a, b = pair[1], pair[2]
        equal("value", a.value_of(b.make("value")))
        raises("lunad.spec.native expected, got table", function() a.value_of {} end)
        b.keep(a.key, a)
        equal(a, b.kept(a.key))
        equal(a, a.kept(a.key))
        equal(nil, b.kept(b.key))
        b.keep(a.key, nil)
        local filled = a.fill(b.fill(a.fill {}))
        equal(20, #filled)
        equal(7, filled["key 7"])
        equal("6.5", a.sum("0x10", -10, b.sum "0.5"))
        local problem = {}
        local status, context, got = a.call(b.raise, problem)
        equal(2, status)
        equal(42, context)
        equal(problem, got)
        local task = coroutine.wrap(function() return a.call(b.yield, 1, 2) end)
        local first, other = task()
        equal(3, first + other)
        equal("1 42 1 7 x", table.concat(table.pack(task "x"), " "))
        equal("1 42 5", table.concat(table.pack(a.call(function() lunad.sleep(0.001) return 5 end)), " "))
        equal("x=1 3", a.second "local t = {} t.x = 1 return ('x=%%d %%d'):format(t.x, #{ 1, 2, 3 })")
        raises("in the second", function() a.second "error 'in the second'" end)
      end
      collectgarbage()
    ]]):format(box:path "?.so"))
  end)

  it("may use a library that has another version of Lua inside", function()
    box:write("old.c", "int luaL_newstate(void) { return 53; }")
    box:write("old.map", "LUA_5.3 { *; };")
    box:write("user.c", "int luaL_newstate(void); int old_version(void) { return luaL_newstate(); }")
    box:write("module.c", [[
      #include <lauxlib.h>
      int old_version(void);
      static int version(lua_State *L) { lua_pushinteger(L, old_version()); return 1; }
      int luaopen_module(lua_State *L) { lua_pushcfunction(L, version); return 1; }
    ]])
    local cc = ("cd %s && cc -shared -fPIC -Wl,-rpath,$PWD "):format(box.dir)
    assert(os.execute(cc .. "-o libold.so old.c -Wl,--version-script=old.map -Wl,-soname,libold.so"))
    assert(os.execute(cc .. "-o libuser.so user.c ./libold.so -Wl,-soname,libuser.so"))
    assert(os.execute(cc .. "$(pkg-config --cflags lua5.4) -o module.so module.c ./libuser.so"))
    box:inside(([[
      package.cpath = %q
      equal(53, require "module"())
    ]]):format(box:path "?.so"))
  end)

  it("finds all that the shared Lua has, under the same versions", function()
    local library = output_of("echo $(pkg-config --variable=libdir lua5.4)/liblua5.4.so"):match "^[^\n]+"
    local exported = {}
    for name in output_of("nm -D --defined-only " .. support.binary):gmatch "%u (lua%w*_[%w_]+@*[%w._]*)\n" do
      exported[name] = true
    end
    if not next(exported) then return pending("this build is linked with the shared Lua") end
    local count = 0
    for name in output_of("nm -D --defined-only " .. library):gmatch "%u (lua%w*_[%w_]+@*[%w._]*)\n" do
      assert.is_true(exported[name], name)
      count = count + 1
    end
    assert.is_true(count > 100)
  end)
end)

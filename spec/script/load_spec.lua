-- loadfile, dofile and require are lunad's own, and do what Lua's do.

local support = require "support"

local FIXTURE = support.root .. "/spec/fixtures/loads.lua"

describe("loadfile, dofile and require", function()
  local box = support.with_box(before_each, after_each)

  -- What the fixture prints when a program runs it.
  local function output_of(program, ...)
    local words = { ... }
    local dir = box:path "files"
    words[#words + 1], words[#words + 2] = FIXTURE, dir
    assert(support.uv.fs_mkdir(dir, tonumber("755", 8)))
    local result = box:run(words, { program = program, input = "return 'from', 'stdin'\n" })
    assert.equal("", result.err)
    os.execute("rm -r '" .. dir .. "'")
    return result.out
  end

  it("do byte for byte what Lua's own do, also when they are watched", function()
    local expected = output_of "lua5.4"
    assert.truthy(expected:find("\nno searchers\tfalse", 1, true))
    assert.equal(expected, output_of(nil, "run"))
    assert.equal(expected, output_of(nil, "run", "--watch"))
  end)

  it("forget what is too much, and say so once", function()
    box:serve [[
      local path = arg[0]:match("^.*/") .. "job.lua"
      for i = 1, 10003 do
        local name = path:gsub("job", ("./"):rep(i % 100) .. ("/"):rep(i // 100 + 1) .. "job")
        if i == 1 then io.open(path, "w"):write("return ..."):close() end
        assert(loadfile(name))
      end
      print(loadfile(path)(7))
    ]]
    box:wait_log("s", "s: 7\n")
    local _, count = box:log("s"):gsub("warn  lunad: generation 1 has loaded more than 10000 files", "")
    assert.equal(1, count)
  end)
end)

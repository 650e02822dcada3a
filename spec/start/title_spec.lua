-- What ps shows of a daemon.

local support = require "support"

-- What ps would show of a process: its command line and its name.
local function shown(pid)
  local words = support.read(("/proc/%d/cmdline"):format(pid)):gsub("%z+$", ""):gsub("%z", "|")
  return words, (support.read(("/proc/%d/comm"):format(pid)):gsub("\n", ""))
end

describe("The title of a daemon", function()
  local box = support.with_box(before_each, after_each)

  local LONG = ("n"):rep(64)

  -- Start with bash's exec -a, and other words of a bash script before it; returns the pid.
  local function start(name, word, before)
    local script = (before or "") .. ' exec -a "$2" "$1" start -n "$3" x.lua'
    local result = box:shell(script, { word, name })
    assert.equal(0, result.code, result.err)
    return math.tointeger(tonumber(result.out:match "pid (%d+)"))
  end

  before_each(function() box:idle("x") end)

  local BEFORE = {
    [""] = "the environment as it is",
    ["export big=$(head -c 100000 /dev/zero | tr '\\0' x);"] = "a large environment",
    ["for v in $(compgen -e); do case $v in LUNAD*) ;; *) unset $v;; esac; done;"] = "a small environment",
  }

  for before, what in pairs(BEFORE) do
    for _, word in ipairs { "", "l", "lunad", ("w"):rep(5000) } do
      it(("is lunad: NAME with %s and a first word of %d bytes"):format(what, #word), function()
        for _, name in ipairs { "x", "a-name-of-some-length", LONG } do
          local pid = start(name, word, before)
          local title, comm = shown(pid)
          assert.equal("lunad: " .. name, title)
          assert.equal(("lunad: " .. name):sub(1, 15), comm)
          local environment = support.read(("/proc/%d/environ"):format(pid))
          assert.truthy(environment:find("LUNAD_RUN_DIR=" .. box:path("run") .. "\0", 1, true))
          box:ok("stop", name)
        end
      end)
    end
  end

  it("is shown of the keeper too", function()
    if not support.is_root then return pending("needs root") end
    local pid = box:start("-n", LONG, "--user", "65534", "x.lua")
    local keeper = support.parent_of(pid)
    assert.equal("lunad: " .. LONG, (shown(pid)))
    assert.equal("lunad: " .. LONG .. " (keeper)", (shown(keeper)))
  end)

  it("stays over reloads, and is that of run too", function()
    box:start("x.lua")
    box:ok("reload", "x")
    assert.equal("lunad: x", (shown(box:status("x").pid)))
    box:ok("stop", "x")
    local process = box:spawn { "run", "-e", "require('lunad').every(60, print)" }
    local name = "lunad-" .. process.pid
    support.wait_for("the service", function() return box:lunad("status", name).code == 0 end)
    assert.equal("lunad: " .. name, (shown(process.pid)))
    box:ok("stop", name)
    box:await(process, "the end", process.is_over)
  end)

  it("does not depend on where the linker puts variables", function()
    assert(os.execute(([[cd %s && cc -D_GNU_SOURCE -Isrc -o %s spec/fixtures/title.c \
      src/posix/title.c \
      src/base/file.c src/base/grow.c src/base/text.c]]):format(support.root, box:path "title")))
    for _, title in ipairs { "lunad: x", ("t"):rep(127) } do
      local process = box:spawn({ title }, { program = box:path("title"), keep_stdin = true })
      box:await(process, "the title", function() return process.out() == "." end)
      assert.equal(title, (shown(process.pid):gsub("|.*", "")))
      process.stdin:close()
      box:await(process, "the end", process.is_over)
    end
  end)
end)

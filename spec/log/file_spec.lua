-- The log file: where it is, how it is made, and when it is refused.

local support = require "support"
local uv = support.uv

local function mode(path)
  return ("%o"):format(assert(uv.fs_stat(path)).mode & 4095)
end

describe("The log file", function()
  local box = support.with_box(before_each, after_each)

  it("is NAME.log in LUNAD_LOG_DIR, which is made when missing", function()
    local env = { LUNAD_LOG_DIR = box:path("a/b") }
    assert.equal(0, box:run({ "start", "--name", "n", box:idle("x") }, { env = env }).code)
    assert.truthy(box:read("a/b/n.log"):find("started", 1, true))
    assert.equal("755", mode(box:path("a/b")))
  end)

  it("has mode 0640 when it is made, whatever the umask", function()
    for _, mask in ipairs { "000", "777" } do
      local script = 'umask $2; "$1" start --log "$3" "$4" && "$1" stop x'
      assert.equal(0, box:shell(script, { mask, box:path(mask .. ".log"), box:idle("x") }).code)
      assert.equal("640", mode(box:path(mask .. ".log")))
    end
  end)

  it("that exists keeps its mode, and is appended to", function()
    box:write("own.log", "before\n")
    assert(uv.fs_chmod(box:path("own.log"), tonumber("604", 8)))
    box:start("--log", "own.log", box:idle("x"))
    assert.equal("604", mode(box:path("own.log")))
    assert.truthy(box:read("own.log"):find("^before\n.*started"))
  end)

  it("is in XDG_STATE_HOME for other users than root, else in ~/.local/state", function()
    if not support.is_root then return pending("needs root") end
    assert(uv.fs_copyfile(support.binary, box:path("lunad")))
    assert(uv.fs_mkdir(box:path("home"), tonumber("755", 8)))
    assert(uv.fs_chown(box:path("home"), 65534, 65534))
    local env = { HOME = box:path("home"), LUNAD_RUN_DIR = box:path("home/run"), LUNAD_LOG_DIR = false }
    local options = { program = box:path("lunad"), uid = 65534, gid = 65534, env = env }
    local files = { [false] = ".local/state/lunad/x.log", [box:path("home/s")] = "s/lunad/x.log" }
    for state, file in pairs(files) do
      env.XDG_STATE_HOME = state
      assert.equal(0, box:run({ "start", box:idle("x") }, options).code)
      assert.equal(0, box:run({ "stop", "x" }, options).code)
      assert.truthy(box:read("home/" .. file):find("started", 1, true), file)
    end
  end)

  it("is not opened through a link", function()
    box:write("target", "")
    assert(uv.fs_symlink("target", box:path("link.log")))
    assert(uv.fs_symlink("missing", box:path("dangling.log")))
    for _, log in ipairs { "link.log", "dangling.log" } do
      local err = box:refused(1, "start", "--log", log, box:idle("x"))
      assert.truthy(err:find(log .. ".*symbolic link"), err)
    end
    assert.equal("", box:read("target"))
    assert.is_nil(box:read("missing"))
    assert.same({}, box:left_files())
  end)

  it("is refused, by name, where it cannot be a file, and nothing is left", function()
    box:write("file", "")
    assert.equal(0, box:run({ box:path("fifo") }, { program = "mkfifo" }).code)
    for _, log in ipairs { ".", "run", "file/x.log", "fifo", "/proc/none.log" } do
      uv.fs_mkdir(box:path("run"), tonumber("755", 8))
      local err = box:refused(1, "start", "--log", log, box:idle("x"))
      assert.truthy(err:find(log, 1, true) or log == ".", err)
      assert.same({}, box:left_files())
    end
  end)

  it("on a full device does not keep a daemon from running", function()
    box:start("--log", "/dev/full", box:idle("x"))
    local status = box:status("x")
    assert.equal("running", status.state)
    assert.truthy(status.log.dropped > 0)
  end)

  it("on a full disk loses lines, says later how many, and does not stop the daemon", function()
    if not support.is_root then return pending("needs root") end
    assert(uv.fs_mkdir(box:path("small"), tonumber("755", 8)))
    local result = box:shell([[
      mount -t tmpfs -o size=16k none small || exit 9
      head -c 1M /dev/zero >small/fill 2>/dev/null
      "$1" start --log small/x.log "$2" && rm small/fill && "$1" reopen x && cat small/x.log && "$1" stop x
    ]], { box:idle("x") }, { through = { "unshare", "--mount" } })
    assert.equal(0, result.code, result.err)
    assert.truthy(result.out:find("1 log line was dropped: No space left on device", 1, true), result.out)
    assert.truthy(result.out:find("x: stopped\n", 1, true), result.out)
  end)
end)

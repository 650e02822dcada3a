-- The options of lunad.spawn: what a child is given, and what lunad or the system refuses.

local support = require "support"

-- For scripts: what starts children and collects what they say.
local CHILDREN = [[
local children = require "children"
local collect, shell = children.collect, children.shell
]]

local function root_it(describe_it, name, test)
  describe_it(name, function()
    if not support.is_root then return pending("needs root") end
    test()
  end)
end

-- For scripts: every value of an option is refused, and the error names the option.
local REFUSED = CHILDREN .. [[
local function refused(option, values)
  for i = 1, values.n or #values do
    local options = { "true", [option] = values[i] }
    local message = raises("'" .. option .. "'", lunad.spawn, options)
    truthy(message:find("inside.lua:%d"), message)
    raises("'" .. option .. "'", lunad.exec, options)
  end
end
]]

describe("fds", function()
  local box = support.with_box(before_each, after_each)

  -- For scripts: two files that are open in the host, at the numbers a and b.
  local FILES = CHILDREN .. [[
  local uv = require "luv"
  local function file(name)
    local stream <close> = assert(io.open(name, "w"))
    stream:write(name)
    stream:close()
    return assert(uv.fs_open(name, "r", 0))
  end
  local a, b = file "A", file "B"
  local function read(fds, ...)
    local command = "printf '%s' "
    for _, number in ipairs { ... } do command = command .. ("$(cat /proc/self/fd/%d)"):format(number) end
    return shell(command, { fds = fds }).out
  end
  ]]

  it("passes on descriptors under the numbers asked for", function()
    box:inside(FILES .. [[
      equal("AB", read({ [3] = a, [4] = b }, 3, 4))
      equal("AB", read({ [9] = b, [7] = a }, 7, 9))
      equal("AA", read({ [3] = a, [100] = a }, 3, 100))
      equal("A", read({ [1023] = a }, 1023))
    ]])
  end)

  it("passes on descriptors that are each other's target, or their own", function()
    box:inside(FILES .. [[
      equal("BA", read({ [a] = b, [b] = a }, a, b))
      equal("AB", read({ [a] = a, [b] = b }, a, b))
      equal("AA", read({ [a] = a, [b] = a }, a, b))
      equal("AB", read({ [b] = a, [b + 1] = b }, b, b + 1))
    ]])
  end)

  it("take nothing from the host", function()
    box:inside(FILES .. [[
      read({ [3] = a, [a] = b }, 3)
      equal("A", assert(uv.fs_read(a, 10, 0)))
      equal("B", assert(uv.fs_read(b, 10, 0)))
    ]])
  end)

  it("are inherited besides the standard streams, and nothing else", function()
    local result = box:inside(FILES .. [[
      equal("0\n1\n2\n5\n", shell("ls /proc/$$/fd", { fds = { [5] = a } }).out)
      equal("0\n1\n2\n", shell("ls /proc/$$/fd", { fds = {} }).out)
      equal(true, shell("echo by 7 >&7; echo by 8 >&8", { fds = { [7] = 1, [8] = 2 } }).exit.ok)
    ]])
    assert.equal("by 7\n", result.out)
    assert.truthy(result.err:find("by 8\n", 1, true))
  end)

  it("share with stdin, stdout and stderr", function()
    box:inside(FILES .. [[
      local out = assert(uv.fs_open("out", "w", 420))
      shell("cat; cat <&3; echo err >&2; echo four >&4",
        { stdin = a, stdout = out, stderr = out, fds = { [3] = b, [4] = out } })
      local text <close> = io.open("out")
      equal("ABerr\nfour\n", text:read("a"))
    ]])
  end)

  it("let a child and the script talk in both directions", function()
    box:inside(FILES .. [[
      local pair = assert(uv.socketpair(nil, nil, { nonblock = true }))
      local said, pipe = "", uv.new_pipe()
      pipe:open(pair[1])
      pipe:read_start(function(_, chunk) said = said .. (chunk or " end") end)
      pipe:write("question\n")
      local command = "read word <&3; echo to $word >&3"
      local child = truthy(lunad.spawn { "sh", "-c", command, fds = { [3] = pair[2] } })
      uv.fs_close(pair[2])
      eventually(function() return said == "to question\n end" end)
      equal(true, child:wait().ok)
      pipe:close()
    ]])
  end)

  it("that are not open are a returned error", function()
    box:inside [[
      fails("EBADF", lunad.spawn { "true", fds = { [3] = 777 } })
      fails("EBADF", lunad.exec { "true", fds = { [3] = 777 } })
      equal(true, lunad.exec { "true" }.ok)
    ]]
  end)

  it("refuse what is not a descriptor", function()
    box:inside(REFUSED .. [[
      local many = {}
      for i = 3, 1023 do many[i] = 0 end
      refused("fds", { true, 3, "3", print, { [2] = 1 }, { [-1] = 1 }, { [3.5] = 1 }, { x = 1 },
        { ["3"] = 1 }, { [1024] = 1 }, { [3] = "x" }, { [3] = -1 }, { [3] = 1.5 }, { [3] = true }, many })
    ]])
  end)
end)

describe("user and group", function()
  local box = support.with_box(before_each, after_each)
  local function test(name, body) root_it(it, name, body) end

  -- For scripts: the ids that a child has in /proc.
  local IDS = CHILDREN .. [[
  local function ids(options)
    options[1], options[2] = "cat", "/proc/self/status"
    local out = collect(options).out
    local function list(name)
      return (out:match("\n" .. name .. ":%s*([%d\t ]*)"):gsub("%s+", " "):gsub(" $", ""))
    end
    return list "Uid" .. "; " .. list "Gid" .. "; " .. list "Groups", out
  end
  ]]

  test("are all the ids of the child, by name and by number", function()
    box:inside(IDS .. [[
      for _, nobody in ipairs { "nobody", 65534, "65534" } do
        equal("65534 65534 65534 65534; 65534 65534 65534 65534; 65534", (ids { user = nobody }))
        equal("65534 65534 65534 65534; 1 1 1 1; 1", (ids { user = nobody, group = "daemon" }))
      end
      equal("12345 12345 12345 12345; 54321 54321 54321 54321; ", (ids { user = 12345, group = 54321 }))
    ]])
  end)

  test("leave the child no capability", function()
    box:inside(IDS .. [[
      local _, status = ids { user = "nobody" }
      for _, set in ipairs { "CapPrm", "CapEff", "CapInh", "CapAmb" } do
        equal(("0"):rep(16), status:match(set .. ":%s*(%x+)"))
      end
    ]])
  end)

  test("include the supplementary groups that the user is in", function()
    local line = support.read("/etc/group"):match("\n([^\n:]+:[^\n:]*:%d+:[^\n:,]+[^\n]*)")
    if not line then return pending("needs a user with a supplementary group") end
    local gid, user = line:match(":(%d+):([^,]+)")
    box:inside(IDS .. ([[
      local groups = ids({ user = %q }):match("[^;]*$") .. " "
      truthy(groups:find(" %d ", 1, true), groups)
    ]]):format(user, gid))
  end)

  test("with group alone change the group and nothing else", function()
    box:inside(IDS .. [[
      local own = ids {}
      equal(own:gsub(";.*;", "; 1 1 1 1;"), (ids { group = "daemon" }))
      equal(own, (ids {}))
    ]])
  end)

  test("do not keep the child from dying with the host", function()
    local process = box:spawn { "run", "-n", "victim", "-e", [[
      local lunad = require "lunad"
      print(lunad.spawn { "sleep", "1000", user = "nobody" }.pid)
      lunad.sleep(1000)
    ]] }
    box:await(process, "the pid", function() return process.out():find("\n") end)
    local child = math.tointeger(tonumber(process.out():match("%d+")))
    assert.truthy(support.is_alive(child))
    support.kill(process.pid, "sigkill")
    box:wait_gone(child)
    box:await(process, "the end of the host", process.is_over)
    box:lunad("stop", "victim")
  end)

  test("take effect before the command is searched", function()
    assert(support.uv.fs_mkdir(box:path("mine"), tonumber("700", 8)))
    box:write("mine/tool", "#!/bin/sh\n")
    assert(support.uv.fs_chmod(box:path("mine/tool"), tonumber("755", 8)))
    box:inside([[
      local env = { PATH = lunad.script:gsub("[^/]*$", "mine") }
      equal(true, lunad.exec { "tool", env = env }.ok)
      fails("EACCES", lunad.exec { "tool", env = env, user = "nobody" })
    ]])
  end)

  test("bring HOME, USER and LOGNAME, except where env says otherwise", function()
    box:inside(CHILDREN .. [[
      local function names(options)
        options[1], options[2] = "sh", "-c"
        options[3] = "echo $HOME:${USER-none}:${LOGNAME-none}"
        return (lunad.exec(options).stdout:gsub("\n", ""))
      end
      local home = io.open("/etc/passwd"):read("a"):match("\nnobody:[^\n]*:([^:\n]*):[^:\n]*\n")
      equal("/root:root:root", names {})
      equal(home .. ":nobody:nobody", names { user = "nobody" })
      equal(home .. ":nobody:nobody", names { user = 65534.0, group = "daemon" })
      equal(home .. ":nobody:nobody", names { user = "nobody", clear_env = true })
      equal("/x:me:nobody", names { user = "nobody", env = { HOME = "/x", USER = "me" } })
      equal("/:none:none", names { user = 12345, group = 54321 })
      equal("/root:root:root", names { group = "daemon" })
    ]], { env = { HOME = "/root", USER = "root", LOGNAME = "root" } })
  end)

  it("that do not exist are a returned error", function()
    box:inside [[
      fails("ENOENT", lunad.spawn { "true", user = "no-such-user" })
      fails("ENOENT", lunad.spawn { "true", group = "no-such-group" })
      fails("ENOENT", lunad.exec { "true", user = "root", group = "no-such-group" })
      local _, message = lunad.spawn { "true", user = "no-such-user" }
      truthy(message:find("no-such-user", 1, true), message)
      _, message = lunad.spawn { "true", group = "no-such-group" }
      truthy(message:find("no-such-group", 1, true), message)
      equal(true, lunad.exec { "true" }.ok)
    ]]
  end)

  test("that the host may not become are a returned error", function()
    local result = box:run_as(4242, [[
      print(select(3, lunad.spawn { "true", user = "root" }))
      print(select(3, lunad.spawn { "true", group = "root" }))
      print(lunad.exec { "true" }.ok)
    ]])
    assert.equal("EPERM\nEPERM\ntrue\n", result.out)
  end)

  it("refuse what is neither a name nor a number", function()
    box:inside(REFUSED .. [[
      for _, option in ipairs { "user", "group" } do
        refused(option, { true, {}, print, "", -1, 1.5, "a:b", ("x"):rep(10000) })
      end
    ]])
  end)
end)

describe("umask", function()
  local box = support.with_box(before_each, after_each)

  it("is octal text or a number, and does not change the host's", function()
    box:inside(CHILDREN .. [[
      for umask, expected in pairs { ["027"] = "0027", ["77"] = "0077", ["0"] = "0000", ["0777"] = "0777",
          [23] = "0027", [0] = "0000", [511] = "0777" } do
        equal(expected .. "\n", shell("umask", { umask = umask }).out)
        equal("0022\n", shell("umask").out)
      end
    ]], { args = { "--umask", "022" } })
  end)

  it("applies to files that the child makes", function()
    box:inside(CHILDREN .. [[
      equal("640\n", shell("echo >made; stat -c %a made", { umask = "026" }).out)
    ]])
  end)

  it("refuses what is not a mask", function()
    box:inside(REFUSED .. "refused('umask', { true, {}, '', '8', '-1', '1000', '0x1', -1, 512, 1.5 })")
  end)
end)

describe("nice", function()
  local box = support.with_box(before_each, after_each)

  it("is added to the host's own", function()
    box:inside(CHILDREN .. [[
      local own = tonumber(shell("nice").out)
      for nice = 0, 19 - own, 6 do
        equal(own + nice, tonumber(shell("nice", { nice = nice }).out))
      end
      equal(19, tonumber(shell("nice", { nice = 40 }).out))
      equal(own, tonumber(shell("nice").out))
    ]])
  end)

  root_it(it, "may be below 0 for root, and is a returned error for others", function()
    box:inside(CHILDREN .. [[
      local own = tonumber(shell("nice").out)
      equal(math.max(own - 3, -20), tonumber(shell("nice", { nice = -3 }).out))
    ]])
    local result = box:run_as(4242, [[
      print(select(3, lunad.spawn { "true", nice = -3 }))
      print(lunad.exec { "true", nice = 1 }.ok)
    ]])
    assert.equal("EACCES\ntrue\n", result.out)
  end)

  it("refuses what is not an integer", function()
    box:inside(REFUSED .. "refused('nice', { true, {}, '', 'x', 1.5, 41, -41, 0/0 })")
  end)
end)

describe("rlimit", function()
  local box = support.with_box(before_each, after_each)

  it("sets soft and hard limit, and not the host's", function()
    box:inside(CHILDREN .. [[
      local function limits(option, value)
        return shell(("echo $(ulimit -S%s) $(ulimit -H%s)"):format(option, option), { rlimit = value }).out
      end
      local own = limits("n")
      equal("64 64\n", limits("n", { nofile = 64 }))
      equal("64 64\n", limits("n", { nofile = "64" }))
      equal("64 128\n", limits("n", { nofile = "64:128" }))
      equal("0 0\n", limits("c", { core = 0, nofile = 64 }))
      equal("0 0\n", limits("c", { CORE = 0 }))
      equal("7 9\n", limits("t", { cpu = "7:9" }))
      equal("1048576 1048576\n", limits("v", { as = "1G" }))
      equal(own, limits("n"))
    ]])
  end)

  it("allows descriptors with higher numbers", function()
    box:inside(CHILDREN .. [[
      equal("x\n", shell("echo x", { rlimit = { nofile = 4 }, fds = { [9] = 1 } }).out)
    ]])
  end)

  root_it(it, "above the host's is a returned error for other users", function()
    local result = box:run_as(4242, [[
      print(select(3, lunad.spawn { "true", rlimit = { nofile = "64:512" } }))
      print(lunad.exec { "true", rlimit = { nofile = "64:128" } }.ok)
    ]], "--rlimit", "nofile=128")
    assert.equal("EPERM\ntrue\n", result.out)
  end)

  it("can kill the child, and that is reported", function()
    box:inside(CHILDREN .. [[
      equal("XFSZ", shell("exec head -c 5000 /dev/zero >big", { rlimit = { fsize = 4096 } }).exit.signal)
    ]])
  end)

  it("takes every resource, in any case, and refuses one that is given twice", function()
    box:inside(REFUSED .. [[
      local all = { as = "1G", core = 0, cpu = 10, data = "1G", fsize = "1G", locks = 10, memlock = 4096,
        msgqueue = 0, nice = 0, nofile = 64, nproc = 1000, rss = "1G", rtprio = 0, rttime = 1000000,
        stack = "1M", sigpending = 10 }
      equal(true, collect({ "true", rlimit = all }).exit.ok)
      for name, value in pairs(all) do
        refused("rlimit", { { [name] = value, [name:upper()] = value } })
      end
      for _, name in ipairs { "NOFILE", "Core", "coRe", "AS" } do all[name] = all[name:lower()] end
      refused("rlimit", { all })
    ]])
  end)

  it("refuses what is not a limit", function()
    box:inside(REFUSED .. [[
      refused("rlimit", { true, 64, "nofile=64", { files = 64 }, { 64 }, { [true] = 1 }, { nofile = true },
        { nofile = "x" }, { nofile = "" }, { nofile = -1 }, { nofile = 1.5 }, { nofile = "128:64" },
        { nofile = "1:2:3" }, { nofile = {} } })
      local message = raises("'rlimit'", lunad.spawn, { "true", rlimit = { files = 64 } })
      truthy(message:find("files", 1, true), message)
      message = raises("'rlimit'", lunad.spawn, { "true", rlimit = { nofile = "x" } })
      truthy(message:find("nofile", 1, true), message)
    ]])
  end)
end)

describe("The standard streams", function()
  local box = support.with_box(before_each, after_each)

  -- For scripts: run a command with every form of stdin, stdout and stderr together. What it says on
  -- a stream is "o" or "e" and the number of the combination.
  local EVERY_FORM = CHILDREN .. [[
  local uv = require "luv"
  local input = assert(uv.fs_open(lunad.script, "r", 0))
  local file = assert(uv.fs_open("file", "w", 420))
  local by_function, number = {}, 0
  local function said(chunk) by_function[#by_function + 1] = chunk end
  local function run(stdin, stdout, stderr)
    number = number + 1
    local command = ("cat >/dev/null; echo o%d; echo e%d >&2"):format(number, number)
    local child = truthy(lunad.spawn { "sh", "-c", command, stdin = stdin, stdout = stdout, stderr = stderr })
    if stdin == "pipe" then
      child:write("words")
      child:close_stdin()
    end
    equal(true, child:wait().ok)
  end
  local before = lunad.stats().fds
  local forms = { "log", "null", "inherit", file, said }
  for _, stdin in ipairs { "null", "pipe", input } do
    for _, stdout in ipairs(forms) do
      for _, stderr in ipairs(forms) do run(stdin, stdout, stderr) end
      run(stdin, stdout, "stdout")
    end
  end
  local functions <close> = io.open("functions", "w")
  functions:write(table.concat(by_function))
  functions:close()
  eventually(function() return lunad.stats().fds == before end)
  ]]

  -- What is expected in each place, in order: a table of lists.
  local function expectation()
    local places, number = { log = {}, null = {}, out = {}, err = {}, file = {}, functions = {} }, 0
    local function expect(place, word) table.insert(places[place], word .. number) end
    local forms = { "log", "null", "inherit", "file", "functions" }
    for _ = 1, 3 do
      for _, stdout in ipairs(forms) do
        for _, stderr in ipairs { "log", "null", "inherit", "file", "functions", "stdout" } do
          number = number + 1
          local joined = stderr == "stdout" and (stdout == "inherit" and "out" or stdout)
          expect(stdout == "inherit" and "out" or stdout, "o")
          expect(joined or stderr == "inherit" and "err" or stderr, "e")
        end
      end
    end
    return places
  end

  -- All that matches in a text, sorted.
  local function words(text, pattern)
    local list = {}
    for word in text:gmatch(pattern) do
      list[#list + 1] = word
    end
    table.sort(list)
    return list
  end

  it("work in every combination of their forms, and leave no descriptor behind", function()
    local result = box:inside(EVERY_FORM)
    local got = {
      out = words(result.out, "[oe]%d+"), file = words(box:read "file", "[oe]%d+"),
      functions = words(box:read "functions", "[oe]%d+"),
      log = words(result.err, "inside/sh%[%d+%]: ([oe]%d+)\n"), err = words("\n" .. result.err, "\n(e%d+)"),
    }
    for place, expected in pairs(expectation()) do
      table.sort(expected)
      assert.same(place ~= "null" and expected or nil, got[place], place)
    end
  end)

  it("refuse other values, naming the option", function()
    box:inside(REFUSED .. [[
      refused("stdin", { true, {}, print, "log", "inherit", "stdout", "pipes", "", -1, 1.5 })
      refused("stdout", { true, {}, "pipe", "stdout", "stderr", "", -1, 0.5 })
      refused("stderr", { false, {}, "pipe", "stderr", "x", -1, 1e300 })
    ]])
  end)

  it("'inherit' in a daemon is its log, raw", function()
    box:serve [[
      lunad.spawn { "sh", "-c", "echo raw out; echo raw err >&2", stdout = "inherit", stderr = "inherit" }
    ]]
    box:wait_log("s", "%f[^\n\0]raw out\n")
    box:wait_log("s", "%f[^\n\0]raw err\n")
  end)
end)

describe("A bad value of an option", function()
  local box = support.with_box(before_each, after_each)

  it("is refused, naming the option", function()
    box:inside(REFUSED .. [[
      refused("name", { true, {}, "", ".x", "-x", "a b", "a/b", ("x"):rep(65) })
      refused("cwd", { true, {}, print })
      refused("env", { true, "A=b", { "A=b" }, { ["A=B"] = "c" }, { [""] = "x" }, { A = true }, { A = {} },
        { ["A\0B"] = "x" }, { A = "x\0y" } })
      refused("clear_env", { 1, "yes", {} })
      refused("on_exit", { true, "print", {} })
      refused("timeout", { true, "x", 0, -1, 0/0, 1/0, {} })
      refused("kill_after", { true, "x", -1, 0/0, 1/0, {} })
      refused("detach", { 1, "yes", {} })
      refused("keep", { 1, "yes", {} })
    ]])
  end)

  it("is refused, naming the option, if that is unknown", function()
    box:inside(CHILDREN .. [[
      for _, option in ipairs { "input", "shell", "Name", "std_out", "max_output", "count" } do
        raises(option, lunad.spawn, { "true", [option] = "x" })
      end
      raises("shell", lunad.exec, { "true", shell = true })
      raises("shell", lunad.supervise, { "true", shell = true })
    ]])
  end)

  it("is refused as a command", function()
    box:inside(CHILDREN .. [[
      for _, options in ipairs { {}, { "" }, { true }, { {} }, { "true", {} }, { "true", "a\0b" },
          { "true", false, "x" }, { nil, "true" }, { "true", nil, "x" }, { [0] = "true", "true" } } do
        truthy(raises("spawn", lunad.spawn, options):find("inside.lua:%d"))
      end
      for _, value in ipairs { "true", 1, print } do raises("table expected", lunad.spawn, value) end
      raises("table expected", lunad.spawn)
    ]])
  end)

  it("starts nothing", function()
    box:inside(CHILDREN .. [[
      pcall(lunad.spawn, { "touch", "made", stdout = print, nice = "x" })
      pcall(lunad.spawn, { "touch", "made", keep = true })
      shell("true")
      equal(nil, io.open("made"))
      equal(0, #lunad.stats().children)
    ]])
  end)
end)

describe("PATH", function()
  local box = support.with_box(before_each, after_each)

  -- Make a command in a directory of the box; it says where it is.
  local function make(dir, mode, text)
    support.uv.fs_mkdir(box:path(dir), tonumber("755", 8))
    local path = box:write(dir .. "/tool", text or "#!/bin/sh\necho " .. dir .. "\n")
    assert(support.uv.fs_chmod(path, tonumber(mode or "755", 8)))
  end

  it("is the host's where the child's environment is", function()
    make "host"
    box:inside(CHILDREN .. [[
      equal("host\n", collect({ "tool" }).out)
      equal("host\n", collect({ "tool", env = { OTHER = "x" } }).out)
      fails("ENOENT", lunad.spawn { "tool", clear_env = true })
      fails("ENOENT", lunad.spawn { "tool", env = { PATH = "/bin" } })
      fails("ENOENT", lunad.exec { "tool", env = { PATH = "/bin" } })
    ]], { env = { PATH = box:path("host") .. ":" .. os.getenv("PATH") } })
  end)

  it("is searched in order, and an empty element is the working directory of the child", function()
    make "one"
    make "two"
    box:inside(CHILDREN .. [[
      local dir = lunad.script:gsub("[^/]*$", "")
      local function tool(path, cwd)
        local got = collect { "tool", env = { PATH = path }, cwd = cwd }
        return got.exit.ok and got.out:gsub("\n", "")
      end
      equal("one", tool(dir .. "one:" .. dir .. "two"))
      equal("two", tool(dir .. "two:" .. dir .. "one"))
      for _, path in ipairs { ":/bin", "/no/such::/bin", "/no/such:", "" } do
        equal("two", tool(path, dir .. "two"))
      end
      equal("one", tool("../one:../two", dir .. "two"))
    ]])
  end)

  it("is not searched for a command with a slash", function()
    make "one"
    box:inside(CHILDREN .. [[
      local dir = lunad.script:gsub("/[^/]*$", "")
      fails("ENOENT", lunad.spawn { "./tool", env = { PATH = dir .. "/one" } })
      fails("ENOENT", lunad.spawn { "one/no-tool", env = { PATH = dir } })
      equal("one\n", collect({ "one/tool", env = { PATH = "/no/such" } }).out)
      equal("one\n", collect({ "./tool", cwd = dir .. "/one", env = { PATH = "/no/such" } }).out)
    ]])
  end)

  it("skips what is not a command, and the error names it if there is nothing else", function()
    make("denied", "644")
    make("good")
    make("nonsense", "755", "neither a script nor a program\n")
    support.uv.fs_mkdir(box:path("dir"), tonumber("755", 8))
    support.uv.fs_mkdir(box:path("dir/tool"), tonumber("755", 8))
    box:inside(CHILDREN .. [[
      local dir = lunad.script:gsub("[^/]*$", "")
      local function path(...) return { PATH = dir .. table.concat({ ... }, ":" .. dir) } end
      for _, bad in ipairs { "denied", "dir", "none", "inside.lua" } do
        equal("good\n", collect({ "tool", env = path(bad, "good") }).out)
      end
      fails("EACCES", lunad.spawn { "tool", env = path("denied", "none") })
      fails("EACCES", lunad.spawn { "tool", env = path("dir", "inside.lua") })
      fails("ENOEXEC", lunad.spawn { "tool", env = path("nonsense", "good") })
    ]])
  end)

  it("of many elements works", function()
    box:inside(CHILDREN .. [[
      local path = ("/no/such/directory:"):rep(3000) .. "/bin"
      equal("x\n", collect({ "echo", "x", env = { PATH = path } }).out)
    ]])
  end)
end)

describe("Dispositions and mask", function()
  local box = support.with_box(before_each, after_each)

  it("are default and empty in every kind of child, also for signals that the script handles", function()
    box:inside(CHILDREN .. [[
      for _, name in ipairs { "TERM", "HUP", "USR1", "PIPE", "INT", 34, 64 } do lunad.signal(name, print) end
      local function check(status)
        for _, set in ipairs { "SigBlk", "SigIgn", "SigCgt" } do
          equal("0000000000000000", status:match(set .. ":%s+(%x+)"))
        end
      end
      local status = { "cat", "/proc/self/status" }
      check(lunad.exec(status).stdout)
      for _, options in ipairs { { detach = true }, { stdin = "pipe" }, { fds = { [3] = 1 } } } do
        table.move(status, 1, 2, 1, options)
        check(collect(options).out)
      end
      check(io.popen("exec cat /proc/self/status"):read("a"))
      lunad.stop()
    ]])
  end)

  it("let a child be ended by each signal that ends a process", function()
    box:inside(CHILDREN .. [[
      for name in ("HUP INT PIPE ALRM TERM USR1 USR2 VTALRM PROF"):gmatch "%w+" do
        local child = lunad.spawn { "sleep", "1000" }
        child:kill(name)
        equal(name, child:wait().signal)
      end
    ]])
  end)
end)

describe("A child that writes a lot", function()
  local box = support.with_box(before_each, after_each)

  -- For scripts: how much memory the host uses, in MB; what a child has written.
  local MEMORY = CHILDREN .. ("local is_sanitized = %s\n"):format(support.is_sanitized()) .. [[
  local function memory() return children.proc_number(lunad.pid, "status", "VmRSS") / 1024 end
  local function written(child) return children.proc_number(child.pid, "io", "wchar") end
  local function is_bounded(before, limit)
    local grown = memory() - before
    truthy(is_sanitized or grown < limit, ("%.1f MB more"):format(grown))
  end
  local MANY = 300 * 1024 * 1024
  ]]

  it("costs no memory, however much it writes to a function", function()
    box:inside(MEMORY .. [[
      local before, size, most = memory(), 0, 0
      local child = lunad.spawn { "head", "-c", tostring(MANY), "/dev/zero", stdout = function(chunk)
        size, most = size + #(chunk or ""), math.max(most, #(chunk or ""))
      end }
      equal(true, child:wait().ok)
      equal(MANY, size)
      truthy(most <= 1024 * 1024)
      is_bounded(before, 16)
    ]])
  end)

  it("costs no memory while it is paused: the child waits", function()
    box:inside(MEMORY .. [[
      local before, size, child = memory(), 0, nil
      child = lunad.spawn { "head", "-c", tostring(MANY), "/dev/zero", stdout = function(chunk)
        if size == 0 then child:pause() end
        size = size + #(chunk or "")
      end }
      local last, same = nil, 0
      eventually(function()
        same = size > 0 and last == written(child) and same + 1 or 0
        last = written(child)
        return same > 20
      end)
      truthy(last < 2 * 1024 * 1024, "the child could write on")
      is_bounded(before, 8)
      child:resume()
      equal(true, child:wait().ok)
      equal(MANY, size)
    ]])
  end)

  it("costs no memory while a callback sleeps, and is held back", function()
    box:inside(MEMORY .. [[
      local before, calls, child = memory(), 0, nil
      child = lunad.spawn { "head", "-c", tostring(MANY), "/dev/zero", stdout = function()
        calls = calls + 1
        lunad.sleep(0.01)
      end }
      eventually(function() return calls >= 20 end)
      truthy(written(child) < 20 * 1024 * 1024, "the child could write on")
      is_bounded(before, 8)
      child:kill("KILL")
      equal("KILL", child:wait().signal)
    ]])
  end)

  it("does not delay the loop, however slow its callback is", function()
    box:inside(MEMORY .. [[
      local calls, since, most = 0, 0, 0
      lunad.task(function() while true do lunad.sleep(0) since = 0 end end)
      local child = lunad.spawn { "cat", "/dev/zero", stdout = function()
        local start = lunad.now()
        repeat until lunad.now() - start > 0.001 -- it has said more by then
        calls, since = calls + 1, since + 1
        most = math.max(most, since)
      end }
      eventually(function() return calls >= 100 end)
      child:kill()
      truthy(most <= 2, ("%d chunks were read in one turn"):format(most))
      lunad.stop()
    ]])
  end)

  it("on both streams can be paused and resumed a hundred times, and loses nothing", function()
    box:inside(MEMORY .. [[
      local command = "head -c 5000000 /dev/zero & head -c 5000000 /dev/zero >&2; wait"
      local size, turns, child = 0, 0, nil
      local function count(chunk)
        size = size + #(chunk or "")
        if turns < 100 then
          turns = turns + 1
          child:pause()
          lunad.after(0, child.resume, child)
        end
      end
      child = lunad.spawn { "sh", "-c", command, stdout = count, stderr = count }
      equal(true, child:wait().ok)
      equal(10000000, size)
    ]])
  end)

  it("costs no memory in the log either, without a newline", function()
    box:inside(MEMORY .. [[
      local before = memory()
      equal(true, lunad.spawn { "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x" }:wait().ok)
      is_bounded(before, 8)
    ]], { args = { "--log", box:path("log.txt") } })
    local size = 0
    for line in box:read("log.txt"):gmatch("inside/sh%[%d+%]: (x+)") do size = size + #line end
    assert.equal(20000000, size)
  end)
end)

describe("Writes to a child that reads slowly", function()
  local box = support.with_box(before_each, after_each)

  it("are bounded by flush", function()
    box:inside(CHILDREN .. ("local is_sanitized = %s\n"):format(support.is_sanitized()) .. [[
      local function memory() return children.proc_number(lunad.pid, "status", "VmRSS") / 1024 end
      local child = lunad.spawn { "sh", "-c", "cat >/dev/null", stdin = "pipe" }
      local before, piece = memory(), ("x"):rep(1 << 20)
      for _ = 1, 160 do
        equal(true, child:write(piece))
        equal(true, child:flush())
      end
      truthy(is_sanitized or memory() - before < 16, "it was kept in memory")
      child:close_stdin()
      equal(true, child:wait().ok)
    ]])
  end)

  it("do not delay the loop", function()
    box:inside [[
      local ticks, child = 0, lunad.spawn { "sleep", "1000", stdin = "pipe" }
      lunad.every(0.001, function() ticks = ticks + 1 end)
      equal(true, child:write(("x"):rep(10 << 20)))
      local task = lunad.task(function() return child:flush() end)
      eventually(function() return ticks > 10 end)
      equal(true, task:running())
      child:kill()
      equal("TERM", child:wait().signal)
      fails("EPIPE", task:wait())
      lunad.stop()
    ]]
  end)
end)

describe("A spawn that runs out", function()
  local box = support.with_box(before_each, after_each)

  it("of descriptors is EMFILE, however many are still free, and the next one works", function()
    box:inside(CHILDREN .. [[
      collect { "true", stdin = "pipe" }
      lunad.sleep(0)
      local files, before = {}, lunad.stats().fds
      repeat
        local file = io.open("/dev/null")
        files[#files + 1] = file
      until not file
      local refused = 0
      for _ = 0, 11 do
        local child, _, code = lunad.spawn { "true", stdin = "pipe", stdout = type, stderr = type }
        equal(child == nil and "EMFILE" or nil, code)
        refused = refused + (child and 0 or 1)
        if child then child:wait() end
        table.remove(files):close()
      end
      truthy(refused >= 6 and refused < 12, refused)
      for _, file in ipairs(files) do file:close() end
      equal(true, collect({ "true", stdin = "pipe" }).exit.ok)
      eventually(function() return lunad.stats().fds == before end)
    ]], { args = { "--rlimit", "nofile=64" } })
  end)

  it("of descriptors leaves nothing running", function()
    box:inside(CHILDREN .. [[
      collect { "true" }
      local files = {}
      repeat files[#files + 1] = io.open("/dev/null") or false until not files[#files]
      fails("EMFILE", lunad.spawn { "sleep", "1000", stdout = "null", stderr = "null" })
      fails("EMFILE", lunad.exec { "sleep", "1000" })
      files[1]:close()
      eventually(function()
        local handle <close> = io.open(("/proc/%d/task/%d/children"):format(lunad.pid, lunad.pid))
        return handle:read("a") == ""
      end)
      equal(0, #lunad.stats().children)
    ]], { args = { "--rlimit", "nofile=64" } })
  end)

  it("of descriptors never runs the command if it reports an error", function()
    box:inside(CHILDREN .. [[
      collect { "true" }
      local files = {}
      repeat files[#files + 1] = io.open("/dev/null") or false until not files[#files]
      for _ = 1, 200 do
        fails("EMFILE", lunad.spawn { "/bin/touch", "made", stdout = "null", stderr = "null" })
      end
      files[1]:close()
      equal(true, collect({ "true", stdout = "null", stderr = "null" }).exit.ok)
      files[2]:close()
      equal("ENOENT", (select(2, io.open("made")):gsub(".*No such file.*", "ENOENT")))
    ]], { args = { "--rlimit", "nofile=64" } })
  end)

  root_it(it, "of processes (RLIMIT_NPROC) is EAGAIN, and works when one has ended", function()
    local result = box:run_as(4243, [[
      local children, child, message, code = {}, nil, nil, nil
      repeat
        child, message, code = lunad.spawn { "sleep", "1000" }
        children[#children + 1] = child
      until not child
      print(#children > 0 and #children < 12, code, message:match "^EAGAIN: ")
      print(select(3, lunad.exec { "true" }), select(3, lunad.supervise { "sleep", "1000" }))
      children[1]:kill()
      children[1]:wait()
      print(lunad.exec { "true" }.ok)
      lunad.stop()
    ]], "--rlimit", "nproc=12")
    assert.equal("true\tEAGAIN\tEAGAIN: \nEAGAIN\tEAGAIN\ntrue\n", result.out)
  end)

  it("of memory is ENOMEM, and the next one works", function()
    if support.is_sanitized() then return pending("the sanitizer needs all the memory there is") end
    box:inside(CHILDREN .. [[
      local hog, size, reserve = {}, 1 << 22, ("x"):rep(16000)
      while size >= 4096 do
        local ok, block = pcall(string.rep, "x", size)
        if ok then hog[#hog + 1] = block else collectgarbage() size = size // 2 end
      end
      reserve = #reserve == 0
      collectgarbage()
      fails("ENOMEM", lunad.spawn { "true" })
      hog = nil
      collectgarbage()
      equal(true, collect({ "true" }).exit.ok)
      equal(true, lunad.exec({ "true" }).ok)
    ]], { args = { "--rlimit", "as=64M" }, env = { MALLOC_TOP_PAD_ = "0" } })
  end)
end)

describe("A whole float", function()
  local box = support.with_box(before_each, after_each)

  it("counts as an integer in every option", function()
    box:inside(CHILDREN .. [[
      local uv = require "luv"
      local limits = { rlimit = { nofile = 64.0 }, umask = 18.0 }
      equal("64 0022\n", shell("echo $(ulimit -n) $(umask)", limits).out)
      truthy(lunad.exec { "true", nice = 1.0, user = uv.getuid() + 0.0, group = uv.getgid() + 0.0 }.ok)
      truthy(lunad.exec { "true", stdin = uv.fs_open("/dev/null", "r", 0) + 0.0 }.ok)
      equal("h", lunad.exec { "echo", "hi", max_output = 1.0 }.stdout)
      local lines = {}
      local by_line = lunad.by_line(function(line) lines[#lines + 1] = line end, 2.0)
      by_line("abc\n")
      equal("ab c", table.concat(lines, " "))
      equal(2, #lunad.supervise({ "true", count = 2.0, max_restarts = 1.0, restart = "never" }):children())
      truthy(lunad.kill(lunad.pid + 0.0, 0.0))
      raises("max_output", lunad.exec, { "true", max_output = 1.5 })
      raises("nofile", lunad.spawn, { "true", rlimit = { nofile = 1.5 } })
      raises("user", lunad.spawn, { "true", user = 1.5 })
      raises("count", lunad.supervise, { "true", count = "2" })
      raises("by_line", lunad.by_line, print, "5")
      raises("by_line", lunad.by_line, print, 1e300)
    ]])
  end)
end)

describe("A command that cannot be executed", function()
  local box = support.with_box(before_each, after_each)

  -- Write a file that may be executed.
  local function tool(name, text, mode)
    local path = box:write(name, text)
    assert(support.uv.fs_chmod(path, tonumber(mode or "755", 8)))
    return path
  end

  -- Check the code and the message of a spawn in the box's directory.
  local function check(code, message, command)
    box:inside(([[
      local options = { %s }
      local child, message, code = lunad.spawn(options)
      equal(%q, code)
      truthy(message:find(%q), message)
    ]]):format(command, code, message))
  end

  it("names the interpreter that is missing, wherever the script was found", function()
    tool("tool", "#!/no/such/interpreter -x\n")
    tool("outer", "#!" .. box:path "tool" .. "\n")
    tool("crlf", "#!/bin/sh\r\necho\r\n")
    tool("below", "#!/etc/passwd/x\n")
    check("ENOENT", "interpreter /no/such/interpreter of %./tool$", "'./tool'")
    check("ENOENT", "interpreter /no/such/interpreter of %./tool$", ("'./tool', cwd = %q"):format(box.dir))
    local env = ("{ PATH = %q }"):format(box.dir)
    check("ENOENT", "interpreter /no/such/interpreter of .*/tool$", "'tool', env = " .. env)
    check("ENOENT", "interpreter /no/such/interpreter of .*/tool$", "'./outer'")
    check("ENOENT", "interpreter /bin/sh\\x0D of %./crlf, whose lines end with CR LF$", "'./crlf'")
    check("ENOTDIR", "interpreter /etc/passwd/x of %./below$", "'./below'")
    check("ENOENT", ": no%-such%-command$", "'no-such-command'")
  end)

  it("names the interpreter that cannot be executed", function()
    tool("a", "#!/etc\n")
    tool("b", "#!" .. tool("plain", "#!/bin/sh\n", "644") .. "\n")
    check("EACCES", "interpreter /etc of %./a is a directory$", "'./a'")
    check("EACCES", "interpreter .*/plain of %./b is not executable$", "'./b'")
    check("EACCES", "%./plain is not executable$", "'./plain'")
    check("EACCES", "/etc is a directory$", "'/etc'")
  end)

  it("names what is not a program, and the loader that a program lacks", function()
    tool("text", "echo\n")
    tool("empty", "")
    local elf, count = support.read("/bin/true"):gsub("/lib64/ld%-linux", "/lib64/no-linux")
    check("ENOEXEC", "%./text is neither a program .* nor a script", "'./text'")
    check("ENOEXEC", "%./empty is neither a program .* nor a script", "'./empty'")
    if count > 0 then
      tool("elf", elf)
      check("ENOENT", "loader /lib64/no%-linux.* of %./elf$", "'./elf'")
    end
  end)

  it("names the directory that is missing, and the size of arguments that are too long", function()
    check("ENOENT", "cwd /no/such %(for true%)", "'true', cwd = '/no/such'")
    check("ENOTDIR", "cwd /etc/passwd %(for true%)", "'true', cwd = '/etc/passwd'")
    check("E2BIG", "true: 200006 bytes of words", "'true', ('x'):rep(200000)")
  end)
end)

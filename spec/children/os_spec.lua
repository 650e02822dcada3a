local support = require "support"

describe("os.execute", function()
  local box = support.with_box(before_each, after_each)

  it("returns the status of the command", function()
    box:inside [[
      local function is(ok, kind, status, ...)
        equal(3, select("#", ...))
        local got_ok, got_kind, got_status = ...
        equal(ok, got_ok)
        equal(kind, got_kind)
        equal(status, got_status)
      end
      is(true, "exit", 0, os.execute("true"))
      is(nil, "exit", 1, os.execute("false"))
      is(nil, "exit", 42, os.execute("exit 42"))
      is(nil, "exit", 255, os.execute("exit 255"))
      is(nil, "signal", 9, os.execute("kill -9 $$"))
      is(nil, "signal", 15, os.execute("kill $$"))
      is(nil, "exit", 127, os.execute("no-such-command 2>/dev/null"))
    ]]
  end)

  it("without a command says whether there is a shell", function()
    box:inside [[
      equal(true, os.execute())
      equal(true, os.execute(nil))
    ]]
  end)

  it("shares descriptors 1 and 2, in order with what was printed before", function()
    local result = box:inside [[
      io.write("before ")
      os.execute("printf 'out '; printf oops >&2")
      io.write("after\n")
    ]]
    assert.equal("before out after\n", result.out)
    assert.truthy(result.err:find("oops", 1, true))
  end)

  it("passes on the environment and the working directory", function()
    local result = box:inside("os.execute('echo $WORD; pwd')", { env = { WORD = "given" } })
    assert.equal("given\n" .. box.dir .. "\n", result.out)
  end)

  it("works while children come and go", function()
    box:inside [[
      local ended = 0
      for i = 1, 60 do
        lunad.spawn { "sh", "-c", "exit " .. i % 7, on_exit = function(exit)
          equal(i % 7, exit.code)
          ended = ended + 1
        end }
        equal(i % 5, (select(3, os.execute("exit " .. i % 5))))
      end
      eventually(function() return ended == 60 end)
    ]]
  end)

  it("starts its program with default dispositions, an empty mask and no descriptor of the host", function()
    local result = box:inside [[
      local handle, file = lunad.signal("USR1", print), io.open("/dev/null")
      os.execute("cat /proc/self/status; echo; ls /proc/self/fd")
      handle:stop()
      file:close()
    ]]
    assert.truthy(result.out:find("SigBlk:%s+0+\nSigIgn:%s+0+\nSigCgt:%s+0+\n"), result.out)
    assert.equal("0\n1\n2\n3\n", result.out:match("\n\n(.*)$")) -- 3 is of ls itself
  end)

  it("leaves signals that come meanwhile to be delivered after it", function()
    box:inside [[
      local got
      local handle = lunad.signal("USR1", function(name) got = name end)
      equal(true, os.execute("kill -USR1 " .. lunad.pid))
      eventually(function() return got end)
      handle:stop()
    ]]
  end)

  it("works for programs that use the terminal", function()
    local path = box:write("terminal.lua", "print(os.execute('stty -echo && stty echo'))")
    local result = box:run({ "-qec", support.binary .. " run " .. path, "/dev/null" },
      { program = "/usr/bin/script" })
    assert.truthy(result.out:find("true\texit\t0", 1, true), result.out)
  end)
end)

describe("io.popen", function()
  local box = support.with_box(before_each, after_each)

  it("reads, and close returns the status of the command", function()
    box:inside [[
      local function is(kind, status, command)
        local file = io.popen(command)
        equal("out\n", file:read("a"))
        local ok, got_kind, got_status = file:close()
        equal(kind == "exit" and status == 0 or nil, ok)
        equal(kind, got_kind)
        equal(status, got_status)
      end
      is("exit", 0, "echo out")
      is("exit", 3, "echo out; exit 3")
      is("signal", 9, "echo out; kill -9 $$")
    ]]
  end)

  it("works by lines, io.lines, io.type and the close of a variable", function()
    box:inside [[
      local got = {}
      for line in io.popen("printf 'a\\nb\\nc'"):lines() do got[#got + 1] = line end
      equal("a,b,c", table.concat(got, ","))
      do
        local file <close> = io.popen("echo x")
        equal("file", io.type(file))
        got = file
      end
      equal("closed file", io.type(got))
      raises("closed", got.read, got)
    ]]
  end)

  it("writes, and the command gets end of file", function()
    local path = box:path("written")
    box:inside(([[
      local file = io.popen("cat > %s", "w")
      for i = 1, 20000 do file:write(i, "\n") end
      equal(true, file:close())
      local count = 0
      for line in io.lines("%s") do count = count + 1; equal(count, tonumber(line)) end
      equal(20000, count)
    ]]):format(path, path))
  end)

  it("to a command that does not read fails with EPIPE, and does no harm", function()
    box:inside [[
      local file = io.popen("exec 0<&-; exit 5", "w")
      local chunk, failed = ("x"):rep(65536), nil
      for _ = 1, 100 do
        local ok, message = file:write(chunk)
        failed = failed or not ok and message
      end
      truthy(failed, "nothing failed")
      equal(5, select(3, file:close()))
    ]]
  end)

  it("returns the status of a command that ended long before the close", function()
    box:inside [[
      for status = 1, 50 do
        local file = io.popen("exit " .. status)
        lunad.exec { "true" }
        lunad.exec { "true" }
        equal(status, select(3, file:close()))
      end
    ]]
  end)

  it("many at once, closed in any order, each have their own status", function()
    box:inside [[
      local files = {}
      for i = 1, 50 do files[i] = io.popen("echo " .. i .. "; exit " .. i) end
      for i = 50, 1, -1 do
        equal(i, files[i]:read("n"))
        equal(i, select(3, files[i]:close()))
      end
    ]]
  end)

  it("that is dropped is reaped, and does not block the collector", function()
    box:inside [[
      local pid = io.popen("echo $$; exec sleep 1000"):read("n")
      collectgarbage() -- it would wait for ever
      collectgarbage()
      equal(true, lunad.kill(pid, "KILL"))
      eventually(function() return select(3, lunad.kill(pid, 0)) == "ESRCH" end)
    ]]
  end)

  it("does not pass its pipes on to other children", function()
    box:inside [[
      local file = io.popen("cat", "w")
      local child = lunad.spawn { "sleep", "100" }
      equal(true, file:close()) -- it would wait for ever if the child held the writing end
      child:kill()
      child:wait()
    ]]
  end)

  it("refuses other modes", function()
    box:inside [[
      for _, mode in ipairs { "rw", "a", "r+", "", "x" } do
        raises("invalid mode", io.popen, "true", mode)
      end
    ]]
  end)

  it("leaves no process behind when the script ends", function()
    local result = box:inside "kept = io.popen('echo $$; exec sleep 100') print(kept:read('n'))"
    local pid = math.tointeger(tonumber(result.out))
    assert.falsy(support.is_alive(pid))
  end)
end)

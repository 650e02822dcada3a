local support = require "support"

describe("lunad.exec", function()
  local box = support.with_box(before_each, after_each)

  it("returns ok, code, stdout, stderr, seconds, timed_out and truncated", function()
    box:inside [[
      local result = lunad.exec { "sh", "-c", "echo out; echo err >&2; sleep 0.02" }
      equal(true, result.ok)
      equal(0, result.code)
      equal(nil, result.signal)
      equal("out\n", result.stdout)
      equal("err\n", result.stderr)
      truthy(result.seconds >= 0.02 and result.seconds < 20)
      equal(false, result.timed_out)
      equal(false, result.truncated)
    ]]
  end)

  it("returns the status of a command that fails, and its signal", function()
    box:inside [[
      local result = lunad.exec { "sh", "-c", "echo said; exit 3" }
      equal(false, result.ok)
      equal(3, result.code)
      equal("said\n", result.stdout)
      result = lunad.exec { "sh", "-c", "kill -9 $$" }
      equal(false, result.ok)
      equal(nil, result.code)
      equal("KILL", result.signal)
      equal(127, lunad.exec { "sh", "-c", "exit 127" }.code)
    ]]
  end)

  it("suspends only its own task", function()
    box:inside(([[
      local beats, path, timer = 0, %q, nil
      timer = lunad.every(0.002, function()
        beats = beats + 1
        if beats == 3 then io.open(path, "w"):close() end
      end)
      equal(true, lunad.exec { "sh", "-c", "while [ ! -e " .. path .. " ]; do sleep 0.01; done" }.ok)
      timer:stop()
    ]]):format(box:path("beaten")))
  end)

  it("returns the error of the system, and leaves nothing behind", function()
    box:inside [[
      local fds = lunad.stats().fds
      fails("ENOENT", lunad.exec { "/no/such/command" })
      fails("ENOENT", lunad.exec { "no-such-command-anywhere", input = "x" })
      fails("EACCES", lunad.exec { "/etc/passwd" })
      fails("ENOENT", lunad.exec { "true", cwd = "/no/such/directory" })
      local _, message = lunad.exec { "/no/such/command" }
      equal("ENOENT: no such file or directory: /no/such/command", message)
      lunad.sleep(0)
      equal(fds, lunad.stats().fds)
      equal(0, #lunad.stats().children)
    ]]
  end)

  it("gives the command its input, then end of file", function()
    box:inside [[
      equal("words", lunad.exec { "cat", input = "words" }.stdout)
      equal("", lunad.exec { "cat", input = "" }.stdout)
      equal("", lunad.exec { "cat" }.stdout)
    ]]
  end)

  it("carries large input and output, and every byte", function()
    box:inside [[
      local bytes = {}
      for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
      local block = table.concat(bytes):rep(256)
      local input = block:rep(80) -- 5 MiB
      local result = lunad.exec { "cat", input = input, max_output = #input }
      truthy(result.stdout == input, "it came back changed")
      equal(false, result.truncated)
      equal(block, lunad.exec { "sh", "-c", "cat >&2", input = block }.stderr)
    ]]
  end)

  it("does not mind a command that does not read its input", function()
    box:inside [[
      local input = ("x"):rep(3000000)
      equal(true, lunad.exec { "true", input = input }.ok)
      equal(4, lunad.exec { "sh", "-c", "exec 0<&-; sleep 0.02; exit 4", input = input }.code)
      equal("x", lunad.exec { "head", "-c", "1", input = input }.stdout)
    ]]
  end)

  it("runs several at once", function()
    box:inside [[
      local done = 0
      for i = 1, 20 do
        lunad.task(function()
          equal(i, lunad.exec { "sh", "-c", "sleep 0.1; exit " .. i }.code)
          done = done + 1
        end)
      end
      equal(20, #lunad.stats().children)
      eventually(function() return done == 20 end)
    ]]
  end)

  it("ends the command's group after timeout, and says so", function()
    box:inside [[
      local result = lunad.exec { "sh", "-c", "echo begun; sleep 100 & sleep 100", timeout = 0.4 }
      equal(true, result.timed_out)
      equal(false, result.ok)
      equal("TERM", result.signal)
      equal("begun\n", result.stdout)
      truthy(result.seconds >= 0.4 and result.seconds < 20)
    ]]
  end)

  it("counts timeout from the start of the command, also when the loop was busy before", function()
    box:inside [[
      lunad.sleep(0)
      local beat, start = lunad.every(0.01, function() end), lunad.now()
      while lunad.now() - start < 0.5 do end
      local result = lunad.exec { "sleep", "100", timeout = 0.2 }
      beat:stop()
      truthy(result.seconds >= 0.2, "it timed out early")
    ]]
  end)

  it("kills a command that ignores SIGTERM kill_after seconds later", function()
    box:inside [[
      local result = lunad.exec { "sh", "-c", "trap '' TERM; while :; do sleep 0.02; done",
        timeout = 0.4, kill_after = 0.1 }
      equal(true, result.timed_out)
      equal("KILL", result.signal)
      truthy(result.seconds >= 0.5)
    ]]
  end)

  it("sets timed_out also when the command then exits with 0", function()
    box:inside [[
      local result = lunad.exec { "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.02; done",
        timeout = 0.4 }
      equal(true, result.timed_out)
      equal(0, result.code)
    ]]
  end)

  it("keeps at most max_output of each stream, drops the rest, and lets the command continue", function()
    box:inside [[
      local result = lunad.exec { "sh", "-c",
        "printf 12345678; printf abcdefgh >&2; head -c 500000 /dev/zero; exit 6", max_output = 5 }
      equal("12345", result.stdout)
      equal("abcde", result.stderr)
      equal(true, result.truncated)
      equal(6, result.code)
    ]]
  end)

  it("sets truncated only if output of a stream was dropped", function()
    box:inside [[
      local function truncated(command, max)
        return lunad.exec { "sh", "-c", command, max_output = max }.truncated
      end
      equal(false, truncated("printf 12345", 5))
      equal(true, truncated("printf 123456", 5))
      equal(false, truncated("printf 12345; printf abcde >&2", 5))
      equal(true, truncated("printf 1; printf abcdef >&2", 5))
      equal(false, truncated("true", 0))
      equal(true, truncated("printf 1", 0))
      equal(true, truncated("printf 12345; sleep 0.02; printf 6", 5))
    ]]
  end)

  it("has a max_output of 1 MiB", function()
    box:inside [[
      local result = lunad.exec { "head", "-c", "1048576", "/dev/zero" }
      equal(1048576, #result.stdout)
      equal(false, result.truncated)
      result = lunad.exec { "head", "-c", "1048577", "/dev/zero" }
      equal(1048576, #result.stdout)
      equal(true, result.truncated)
      equal(true, result.ok)
    ]]
  end)

  it("takes the options of spawn", function()
    box:inside [[
      equal("/\n", lunad.exec { "pwd", cwd = "/" }.stdout)
      equal("value\n", lunad.exec { "sh", "-c", "echo $WORD", env = { WORD = "value" } }.stdout)
      equal("A=1\n", lunad.exec { "env", clear_env = true, env = { A = 1 } }.stdout)
      local exit
      equal(true, lunad.exec { "true", name = "quick", on_exit = function(e) exit = e end }.ok)
      eventually(function() return exit end)
    ]]
  end)

  it("lets the streams go elsewhere", function()
    local result = box:inside [[
      local joined = lunad.exec { "sh", "-c", "printf 1; printf 2 >&2; printf 3", stderr = "stdout" }
      equal("123", joined.stdout)
      equal("", joined.stderr)
      equal("", lunad.exec { "echo", "x", stdout = "null" }.stdout)
      equal("", lunad.exec { "echo", "inherited", stdout = "inherit" }.stdout)
      local got = {}
      local own = lunad.exec { "echo", "own", stdout = function(chunk) got[#got + 1] = chunk or "end" end }
      equal("own\n,end", table.concat(got, ","))
      equal("", own.stdout)
    ]]
    assert.equal("inherited\n", result.out)
  end)

  it("does not change the table it is given", function()
    box:inside [[
      local options = { "cat", input = "x", timeout = 5 }
      for _ = 1, 2 do equal("x", lunad.exec(options).stdout) end
      local count = 0
      for key, value in pairs(options) do count = count + 1; truthy(key ~= "stdin" and value ~= nil) end
      equal(3, count)
    ]]
  end)

  it("does not wait for a grandchild that holds the streams open, longer than a second", function()
    box:inside [[
      local result = lunad.exec { "sh", "-c", "sleep 100 & echo $!" }
      equal(0, result.code)
      truthy(lunad.kill(tonumber(result.stdout), "KILL"))
    ]]
  end)

  it("a thousand times leaves nothing behind", function()
    box:inside [[
      local done, fds = 0, lunad.stats().fds
      for _ = 1, 20 do
        lunad.task(function()
          for i = 1, 50 do
            local result = lunad.exec { "sh", "-c", "echo x; exit " .. i % 4 }
            equal(i % 4, result.code)
            equal("x\n", result.stdout)
          end
          done = done + 1
        end)
      end
      eventually(function() return done == 20 end, 60)
      lunad.sleep(0)
      equal(fds, lunad.stats().fds)
    ]]
  end)
end)

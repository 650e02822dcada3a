local support = require "support"

describe("a low limit of open files", function()
  local box = support.with_box(before_each, after_each)

  -- Run the binary with `words` under a limit of LIMIT descriptors.
  local function run_with(limit, ...)
    return box:shell('program=$1; limit=$2; shift 2; ulimit -n "$limit" && exec "$program" "$@"',
      { tostring(limit), ... })
  end

  local users = { {} }
  if support.is_root then
    users[2] = { "--user", "65534" }
  end

  for _, user in ipairs(users) do
    for _, verb in ipairs { "start", "run" } do
      it("makes " .. verb .. " " .. table.concat(user, " ") .. " work, or fail with a reason", function()
        local script = box:write("s.lua", 'require("lunad").after(0, print, "done")')
        local works = 0
        for limit = 4, 40 do
          local words = { verb, table.unpack(user) }
          words[#words + 1] = script
          local result = run_with(limit, table.unpack(words))
          local told = ("%d: exit status %s, signal %s: %s%s"):format(limit, result.code, result.signal,
            result.out, result.err)
          assert.equal(0, result.signal, told)
          if result.code == 0 then
            works = works + 1
            if verb == "start" then
              support.wait_for("its end", function() return box:lunad("status", "s").code == 3 end)
            end
          else
            assert.equal(1, result.code, told)
            -- with fewer the dynamic linker fails
            assert.truthy(result.err:find "^lunad: " or result.err:find "error lunad: ", told)
            assert.truthy(result.err:find("file", 1, true), told)
          end
          assert.same({}, box:left_files(), told)
        end
        assert.is_true(works >= 5)
      end)
    end
  end

  it("is named in the error", function()
    local script = box:idle "s"
    for _, limit in ipairs { 9, 16 } do
      local result = run_with(limit, "start", script)
      assert.equal(1, result.code)
      assert.matches("^lunad: too few file descriptors: .*ulimit %-n.* is " .. limit .. ",", result.err)
    end
    assert.matches("too few file descriptors", box:refused(1, "start", "--rlimit", "nofile=12", script))
    assert.same({}, box:left_files())
  end)
end)

describe("a script that has used up all descriptors", function()
  local box = support.with_box(before_each, after_each)

  local GREEDY = [[
    local files = {}
    local function open_all()
      repeat
        local file = io.open("/dev/null")
        files[#files + 1] = file
      until not file
    end
    lunad.every(0.001, open_all)
    lunad.on_stop(function(reason) print("stopped by " .. reason) end)
    print("generation " .. lunad.generation)
  ]]

  local options = { {} }
  if support.is_root then
    options[2] = { "--user", "65534" }
  end

  -- Start it, and wait until nothing is left for it.
  local function begin(text, ...)
    local pid = box:serve(text .. GREEDY, "--rlimit", "nofile=100", ...)
    support.wait_for("the last descriptor", function() return support.count_fds(pid) >= 94 end)
    return pid
  end

  for _, words in ipairs(options) do
    it("still answers status, reopen and reload, and stops " .. table.concat(words, " "), function()
      local pid = begin("", table.unpack(words))
      for _ = 1, 20 do
        local status = box:status "s"
        assert.is_nil(status.error)
        assert.is_true(status.memory.rss > 0 and status.fds >= 94)
      end
      box:ok("reopen", "s")
      assert.matches("log reopened", box:log "s")
      assert.matches("^s: reloaded", box:ok("reload", "s"))
      box:wait_log("s", "generation 2")
      support.kill(pid, "sigusr1")
      box:wait_log("s", "log reopened.*log reopened")
      support.kill(pid, "sighup")
      box:wait_log("s", "generation 3")
      box:ok("stop", "s")
      assert.matches("stopped by stop\n", box:log "s")
      assert.same({}, box:left_files())
    end)
  end

  it("serves a client that comes while others hold what is left", function()
    begin ""
    for _ = 1, 10 do box:connect "s" end
    for _ = 1, 3 do assert.is_nil(box:status("s").error) end
    box:ok("stop", "s")
  end)

  it("can load a new generation that uses luv", function()
    begin ""
    box:write("s.lua", support.BEAT .. "require('luv').new_timer():start(0, 0, function() print 'luv' end)")
    box:ok("reload", "s")
    box:wait_log("s", "s: luv\n")
  end)

  it("is stopped with its children", function()
    begin 'for _ = 1, 3 do lunad.spawn { "sh", "-c", "setsid sleep 600 & wait" } end '
    box:ok("stop", "s")
    assert.not_matches("could not be ended", box:log "s")
    assert.not_matches("killing", box:log "s")
    assert.same({}, box:left_files())
  end)
end)

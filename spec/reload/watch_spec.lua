-- --watch: a service reloads when a file that it has loaded changes.

local support = require "support"

local uv = support.uv

-- A script that says what its modules are; the state counts generations.
local SCRIPT = support.BEAT .. [[
  local here = arg[0]:match("^.*/")
  local state = lunad.state or { count = 0 }
  state.count = state.count + 1
  lunad.on_reload(function() return state end)
  local has, optional = pcall(require, "optional")
  print("loaded", require "lib.m", has and optional, dofile(here .. "conf.lua"), state.count)
]]

-- How files are saved. Each script has the text to save as $1, and the file is lib/m.lua.
local SAVES = {
  { "writes it", [[printf %s "$1" >lib/m.lua]] },
  { "writes it in pieces", [[printf %s "${1:0:3}" >lib/m.lua; printf %s "${1:3}" >>lib/m.lua]] },
  { "renames a new one to it", [[printf %s "$1" >lib/m.new; mv lib/m.new lib/m.lua]] },
  { "removes and makes it", [[rm lib/m.lua; printf %s "$1" >lib/m.lua]] },
  { "is sed -i", [[printf %s "$1" | sed -i -e '1{r /dev/stdin' -e 'd}' lib/m.lua]] },
  { "is vim, which looks whether it can make a file, and renames the old one", [[
    touch lib/4913; rm lib/4913; mv lib/m.lua lib/m.lua~; printf %s "$1" >lib/m.lua; rm lib/m.lua~]] },
  { "is vim itself", [[command -v vim >/dev/null || { printf %s "$1" >lib/m.lua; exit; }
    export new="$1"
    vim -u NONE -es -c 'set backup backupcopy=no' -c 'call setline(1, $new)' -c wq lib/m.lua]] },
  { "is ed", [[command -v ed >/dev/null || { printf %s "$1" >lib/m.lua; exit; }
    printf '1c\n%s\n.\nw\nq\n' "$1" | ed -s lib/m.lua]] },
  { "keeps a copy, and writes it", [[
    cp -a lib/m.lua lib/m.lua~; touch 'lib/#m.lua#'; printf %s "$1" >lib/m.lua; rm 'lib/#m.lua#']] },
  { "removes the directory and makes it", [[rm -r lib; mkdir lib; printf %s "$1" >lib/m.lua]] },
  { "removes the directory and makes it later", [[
    rm -r lib; sleep 0.2; mkdir lib; printf %s "$1" >lib/m.lua]] },
  { "exchanges the directory", [[
    mkdir lib2; printf %s "$1" >lib2/m.lua; mv lib lib.old; mv lib2 lib; rm -r lib.old]] },
  { "moves it behind a link", [[mkdir -p real; printf %s "$1" >real/x; ln -sf ../real/x lib/m.lua]] },
  { "writes what a link leads to", [[printf %s "$1" >real/x]] },
  { "exchanges what a link leads to", [[printf %s "$1" >real/y; ln -s y real/z; mv real/z real/x]] },
  { "replaces the link", [[rm lib/m.lua; printf %s "$1" >lib/m.lua]] },
  { "makes the directory a link", [[mkdir -p a; printf %s "$1" >a/m.lua; rm -r lib; ln -s a lib]] },
  { "lets the link lead to another release", [[
    mkdir -p b; printf %s "$1" >b/m.lua; ln -s b new; mv -T new lib]] },
}

describe("--watch", function()
  local box = support.with_box(before_each, after_each)

  -- Write the script and its files; returns the path of the script.
  local function write_app()
    assert(uv.fs_mkdir(box:path "app", tonumber("755", 8)))
    assert(uv.fs_mkdir(box:path "app/lib", tonumber("755", 8)))
    box:write("app/lib/m.lua", "return 0")
    box:write("app/conf.lua", "return 'c'")
    return box:write("app/s.lua", SCRIPT)
  end

  local function start(...)
    local words = { "--watch", ... }
    words[#words + 1] = write_app()
    return box:start(table.unpack(words))
  end

  -- Wait for the line that a generation prints; the values in it.
  local function wait_loaded(m, optional, conf)
    local line = ("loaded\t%s\t%s\t%s\t(%%d+)\n"):format(m, optional or "false", conf or "c")
    return box:wait_log("s", line .. ".*reloaded: generation")
  end

  -- Save a file of the app at once.
  local function save(name, text)
    box:write("app/new", text)
    assert(uv.fs_rename(box:path "app/new", box:path("app/" .. name)))
  end

  -- Wait for so long that a reload would have begun.
  local function let_pass()
    uv.sleep(300)
  end

  local function generation()
    return box:status("s").generation
  end

  it("reloads in whatever way a file is saved, and keeps the state", function()
    start()
    for i, way in ipairs(SAVES) do
      local result = box:shell("set -e; shift; " .. way[2], { "return " .. i },
        { cwd = box:path "app" })
      assert.same({ 0, "" }, { result.code, result.err }, way[1])
      assert.is_true(tonumber(wait_loaded(i)) > i, way[1]) -- a save that is interrupted is two
    end
  end)

  it("does not reload for a touch, the same text, other files, or a file that is gone", function()
    start()
    assert.same({ files = 3 }, box:status("s").watch)
    box:shell [[
      cd app; touch lib/m.lua s.lua conf.lua; cp lib/m.lua x; mv x lib/m.lua; touch lib/.m.lua.swp lib/4913
      mv conf.lua conf.old; cp lib/m.lua lib/n.lua; chmod 600 s.lua; rm lib/4913]]
    let_pass()
    save("conf.lua", "return 'c'")
    let_pass()
    box:shell "rm -r app/lib"
    let_pass()
    assert.equal(1, generation())
    assert.not_matches("reloading", box:log "s")
    box:shell "cd app; mkdir new; echo 'return 5' >new/m.lua; mv new lib"
    assert.equal("2", wait_loaded(5))
  end)

  it("joins what changes at once, and says what it was", function()
    local pid = start()
    support.kill(pid, "sigstop")
    for i = 1, 8 do
      box:write("app/lib/m.lua", "return " .. i)
      save("conf.lua", "return 'c" .. i .. "'")
    end
    support.kill(pid, "sigcont")
    assert.equal("2", wait_loaded(8, nil, "c8"))
    box:wait_log("s", "lunad: reloading: [^\n]*/app/[^\n]*%.lua has changed, and 1 more\n")
    let_pass()
    assert.equal(2, generation())
  end)

  it("shows a broken save, waits for the next, and watches what only that has loaded", function()
    start()
    save("lib/m.lua", "return (")
    box:wait_log("s", "refused, generation 1 keeps running: error loading module 'lib.m' from file " ..
      "'[^\n]*/m.lua':\n[^\n]*/m.lua:1: unexpected symbol near <eof>\n    stack traceback:\n")
    box:shell "touch app/lib/m.lua"
    let_pass()
    assert.equal(1, box:status("s").reloads.failed)
    save("lib/m.lua", "return require 'lib.later'")
    box:wait_log("s", "refused[^\n]*module 'lib.later' not found")
    save("lib/later.lua", "error 'not yet'")
    box:wait_log("s", "refused[^\n]*later.lua:1: not yet\n")
    save("lib/later.lua", "return 7")
    assert.equal("2", wait_loaded(7))
    save("optional.lua", "return 'opt'")
    assert.equal("3", wait_loaded(7, "opt"))
    box:wait_log("s", "reloading: [^\n]*/app/optional.lua has appeared\n")
    save("conf.lua", "x = ")
    box:wait_log("s", "refused, generation 3")
    save("conf.lua", "return 'c'")
    box:wait_log("s", "loaded\t7\topt\tc\t4\n")
  end)

  it("watches what is loaded later, and forgets what is not loaded again", function()
    local app = write_app()
    save("late.lua", "return 1")
    box:write("app/s.lua", SCRIPT .. [[
      lunad.after(0.01, function() if lunad.generation < 3 then require "late" end end)]])
    box:ok("start", "--watch", app)
    support.wait_for("a fourth file", function() return box:status("s").watch.files == 4 end)
    save("late.lua", "return 2")
    box:wait_log("s", "reloading: [^\n]*/late.lua has changed\n.*reloaded: generation 2")
    support.wait_for("a fourth file", function() return box:status("s").watch.files == 4 end)
    box:ok("reload", "s")
    support.wait_for("three files", function() return box:status("s").watch.files == 3 end)
    save("late.lua", "return 3")
    let_pass()
    assert.equal(3, generation())
  end)

  it("is not woken by others, nor reloads for its own log and files", function()
    local app = write_app()
    box:write("app/s.lua", SCRIPT .. [[
      local function save()
        local file = io.open(here .. "conf.new", "w")
        file:write("return 'c' --", os.time(), lunad.now()):close()
        assert(os.rename(here .. "conf.new", here .. "conf.lua"))
        io.open(here .. "lib/m.lua", "a"):write("\n"):close()
        print "saved"
      end
      lunad.on_stop(save)
      lunad.signal("USR1", save)
    ]])
    local log = box:path "app/s.log"
    local pid = box:start("--watch", "--log", log, "--run-dir", box:path "app", app)
    local function count()
      local status = support.read(("/proc/%d/status"):format(pid))
      return tonumber(status:match "\nvoluntary_ctxt_switches:%s*(%d+)")
    end
    let_pass() -- the first look is over
    local before = count()
    box:shell "for i in {1..50}; do echo $i >>app/other; sleep 0.001; done"
    assert.is_true(count() - before < 20)
    support.kill(pid, "sigusr1")
    support.wait_for("a save", function() return support.read(log):find "saved" end)
    let_pass()
    box:ok("reload", "--run-dir", box:path "app", "s")
    let_pass()
    assert.matches("generation 2[^\n]*\n[^\n]*saved\n$", support.read(log))
    save("conf.lua", "return 'mine'")
    support.wait_for("a reload", function() return support.read(log):find "loaded\t0\tfalse\tmine" end)
    box:ok("stop", "--run-dir", box:path "app", "s")
  end)

  it("shows errors on the terminal of run, and stops while a change waits", function()
    local run = box:spawn { "run", "--watch", write_app() }
    box:await(run, "the start", function() return run.out():find "loaded\t0" end)
    save("lib/m.lua", "error 'broken'")
    box:await(run, "the error", function()
      return run.err():find "refused[^\n]*m.lua:1: broken\n    stack traceback:\n"
    end)
    save("lib/m.lua", "return 2")
    box:await(run, "the next", function() return run.out():find "loaded\t2\tfalse\tc\t2\n" end)
    local _, count = run.err():gsub("m.lua:1: broken", "")
    assert.equal(1, count)
    save("lib/m.lua", "return 3")
    support.kill(run.pid, "sigint")
    box:await(run, "the end", run.is_over)
    assert.equal(0, run.code)
  end)

  it("watches with the rights of --user", function()
    if not support.is_root then
      pending "needs root"
    end
    start("--user", "nobody")
    save("lib/m.lua", "return 4")
    assert.equal("2", wait_loaded(4))
    box:shell "rm -r app/lib; mkdir app/lib; echo 'return 5' >app/lib/m.lua"
    wait_loaded(5)
  end)

  it("names the sysctl when there are too many watches, and goes on", function()
    local through = { "unshare", "--user", "--map-root-user" }
    local limit = "echo 6 >/proc/sys/user/max_inotify_watches || exit 77; "
    if box:shell(limit, {}, { through = through }).code ~= 0 then
      pending "needs a user namespace"
    end
    write_app()
    local result = box:shell(limit .. [["$1" run --watch app/s.lua 2>err & pid=$!
      for i in {1..1000}; do grep -q inotify: err && break; sleep 0.02; done 2>/dev/null
      "$1" reload s; kill $pid; wait $pid && cat err]], {}, { through = through })
    assert.equal(0, result.code)
    assert.matches("reloaded, generation 2", result.out)
    assert.matches("warn  lunad: %-%-watch: not every change is noticed: inotify: too many watches at " ..
      "/[^\n]*: raise the sysctl fs.inotify.max_user_watches\n", result.out)
  end)
end)

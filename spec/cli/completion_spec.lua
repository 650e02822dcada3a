-- lunad completion, in the shells themselves.

local support = require "support"

describe("lunad completion", function()
  local box = support.with_box(before_each, after_each)

  -- Have a shell complete the last of some words, each list in turn; what it finds, by the words joined.
  local function complete(shell, prologue, lists)
    local script = { prologue, 'source <("$LUNAD" completion ' .. shell .. ")" }
    for _, words in ipairs(lists) do
      local quoted = {}
      for i, word in ipairs(words) do quoted[i] = "'" .. word .. "'" end
      script[#script + 1] = "try " .. table.concat(quoted, " ")
    end
    local path = support.binary:match("^(.*)/") .. ":" .. os.getenv "PATH"
    local result = box:run({ "-c", table.concat(script, "\n") },
      { program = shell, env = { LUNAD = support.binary, PATH = path } })
    assert.equal("", result.err)
    local found = {}
    for line in result.out:gmatch "[^\n]+" do
      local words, names = line:match "^(.-) *%-> *(.-) *$"
      found[words] = names
    end
    return found
  end

  local LISTS = { { "st" }, { "run", "--log-level", "" }, { "stop", "" }, { "stop", "one", "" },
    { "signal", "one", "" }, { "eval", "one", "" }, { "run", "--log", "" },
    { "run", "--log-level", "debug", "" }, { "stop", "--ti" }, { "completion", "" } }

  local function check(found)
    assert.matches("%f[%w]start%f[%W].*%f[%w]stop%f[%W].*%f[%w]status%f[%W]", found.st)
    assert.equal("debug info warn error", found["run --log-level"])
    assert.equal("one two", found.stop)
    assert.equal("one two", found["stop one"])
    assert.matches("%f[%w]TERM%f[%W]", found["signal one"])
    assert.equal("", found["eval one"])
    assert.matches("^syslog stderr none .*x%.lua", found["run --log"])
    assert.matches("x%.lua", found["run --log-level debug"])
    assert.matches("%-%-timeout", found["stop --ti"])
    assert.equal("bash zsh", found.completion)
  end

  local function start()
    box:write("x.lua", "")
    box:start("--name", "two", box:idle "idle")
    box:start("--name", "one", box:idle "idle")
  end

  it("completes verbs, options, their values, names and signals in bash", function()
    start()
    local found = complete("bash", [[
      try() { COMP_WORDS=(lunad "$@"); COMP_CWORD=$#; _lunad; echo "$* -> ${COMPREPLY[*]}"; }]], LISTS)
    check(found)
    assert.equal("start stop status", found.st)
    assert.equal("--timeout", found["stop --ti"])
  end)

  it("does so in zsh", function()
    if not os.execute("zsh -c : 2>/dev/null") then return pending("needs zsh") end
    start()
    check(complete("zsh", [[
      compdef() { test "$*" = "_lunad lunad" || print "$*" }
      compadd() { shift; print -rn -- "$@ " }
      _files() { print -rn -- * "" }
      try() { words=(lunad "$@"); CURRENT=$(($# + 1)); print -n "$* -> "; _lunad; print }]], LISTS))
  end)

  it("knows every verb and option that --help shows", function()
    local text = box:ok("completion", "bash")
    for verb in box:ok("--help"):gmatch "\n  lunad (%a+)" do
      local options = text:match("\n    " .. verb .. '%) echo "([^"]*)" ;;')
      for option in box:ok(verb, "--help"):gmatch "\n +%-?%a?,? *(%-%-[%a-]+)" do
        assert.truthy((options .. " "):find(" " .. option .. " ", 1, true), verb .. option)
      end
    end
  end)

  it("refuses another shell", function()
    assert.matches('"fish" is not one of bash|zsh', box:refused(2, "completion", "fish"))
  end)
end)

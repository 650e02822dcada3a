-- A reload in two steps: the new code is held when it is ready, until the client that asked commits it.

local support = require "support"

local OLD = [[
  local lunad = require "lunad"
  local count = 0
  lunad.every(0.01, function() count = count + 1 end)
  lunad.on_reload(function() return count end)
]]

describe("a reload that is held", function()
  local box = support.with_box(before_each, after_each)

  local function request(client, fields)
    client:send(support.json.encode(fields) .. "\n")
  end

  -- Write the new code, and have it held for a new client.
  local function hold(text)
    box:write("s.lua", support.BEAT .. text)
    local client = box:connect "s"
    request(client, { verb = "reload", hold = true })
    return client, client:answer()
  end

  it("changes nothing until it is committed", function()
    box:serve(OLD)
    local client, held = hold [[ lunad.log.info("state " .. type(lunad.state)) ]]
    assert.same({ true, true, 2 }, { held.ok, held.held, held.generation })
    assert.equal("number", type(held.ms))
    box:wait_log("s", "(state number)")
    local before = box:status "s"
    assert.same({ 1, "reloading", 0 }, { before.generation, before.state, before.reloads.ok })
    support.wait_for("the old code's timer", function()
      return box:status("s").timers[2].runs > before.timers[2].runs
    end)
    request(client, { verb = "status" })
    local answer = client:answer()
    assert.is_false(answer.ok)
    assert.matches("a reload is held for this client", answer.error)
    request(client, { verb = "commit" })
    answer = client:answer()
    assert.same({ true, 2 }, { answer.ok, answer.generation })
    assert.equal(2, box:status("s").generation)
    assert.is_true(client:ask("status").ok)
    assert.matches("no reload is held for this client", client:ask("commit").error)
  end)

  it("is given up when its client goes, and one may be asked for again", function()
    box:serve(OLD)
    local client = hold ""
    client:close()
    box:wait_log("s", "reload refused, generation 1 keeps running: the client that was to commit it has gone")
    assert.same({ "running", 1 }, { box:status("s").state, box:status("s").reloads.failed })
    local held
    client, held = hold ""
    assert.same({ true, 2 }, { held.held, held.generation })
    -- Those that are asked for meanwhile follow it; of those that are to be held, one.
    local later, third, plain = box:connect "s", box:connect "s", box:connect "s"
    request(later, { verb = "reload", hold = true })
    request(third, { verb = "reload", hold = true })
    assert.matches("another reload waits to be held", third:answer().error)
    request(plain, { verb = "reload" })
    request(client, { verb = "commit" })
    assert.equal(2, client:answer().generation)
    assert.same({ true, 3 }, { later:answer().held, later.lines[1] and 3 })
    assert.equal(2, box:status("s").generation)
    request(later, { verb = "commit" })
    assert.equal(3, later:answer().generation)
    assert.equal(3, plain:answer().generation)
  end)

  it("is refused with the reason if the new code fails, before it is ready or held", function()
    box:serve(OLD)
    local _, answer = hold "error 'no database'"
    assert.is_false(answer.ok)
    assert.matches("s%.lua:1: no database", answer.error)
    local client
    client, answer = hold [[ lunad.after(0.05, function() error "it broke" end) ]]
    assert.is_true(answer.held)
    answer = client:answer()
    assert.is_false(answer.ok)
    assert.matches("s%.lua:1: it broke", answer.error)
    assert.same({ 1, "running", 2 }, { box:status("s").generation, box:status("s").state,
      box:status("s").reloads.failed })
    request(client, { verb = "reload", hold = 1 })
    assert.matches('"hold" must be true or false', client:answer().error)
    request(client, { verb = "reload", hold = true, check = true })
    assert.matches("a reload that is only checked cannot be held", client:answer().error)
  end)

  it("is refused if no commit comes, and given up by a stop", function()
    local pid = box:serve(OLD, "--start-timeout", "0.5")
    local client, answer = hold ""
    assert.is_true(answer.held)
    answer = client:answer()
    assert.same({ false, "it was ready, but no commit came in time" }, { answer.ok, answer.error })
    client, answer = hold ""
    assert.is_true(answer.held)
    box:ok("stop", "s")
    answer = client:answer()
    assert.same({ false, "the daemon is stopping" }, { answer.ok, answer.error })
    box:wait_gone(pid)
  end)
end)

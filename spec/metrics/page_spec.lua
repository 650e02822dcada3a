-- The page of the exporter, in a real browser. PICTURES=FOLDER keeps what it looked like.

local browser = require "support.browser"
local net = require "support.net"
local support = require "support"

local EVIL = "<img src=x onerror=\\\"document.title='owned'\\\"><script>document.title='owned'</script>"

describe("the page of the exporter", function()
  if not browser.find() then
    pending "Chromium is not installed (LUNAD_SETUP_BROWSER=1 scripts/setup installs it)"
    return
  end
  local box = support.with_box(before_each, after_each)
  local page

  after_each(function()
    if page then
      page:close()
    end
    page = nil
  end)

  -- The text of what a selector finds, as it is seen.
  local function text(selector)
    return page:eval(("(document.querySelector(%q) || {}).innerText"):format(selector))
  end

  local function wait_text(selector, part)
    return page:wait(("(document.querySelector(%q) || { innerText: '' }).innerText.includes(%q)")
      :format(selector, part))
  end

  -- Keep a picture if they are wanted; it is one in any case.
  local function take_picture(name)
    local data = page:picture()
    assert.equal("iVBORw0KGgo", data:sub(1, 11))
    assert.truthy(#data > 5000)
    if os.getenv "PICTURES" then
      support.write(os.getenv "PICTURES" .. "/" .. name .. ".base64", data)
    end
  end

  it("shows daemons that come and go, live, and takes nothing they say for anything but text", function()
    local port = net.free_port()
    box:start("--env", "EXPORTER_ADDRESS=127.0.0.1:" .. port, support.root .. "/examples/exporter.lua")
    box:start(box:write("busy.lua", ([[
      local lunad = require "lunad"
      lunad.metrics.counter("jobs_total", "Jobs.", { "kind" }):inc("EVIL")
      lunad.status "EVIL"
      lunad.every(0.02, function()
        local stop = os.clock() + math.random() * 0.004
        while os.clock() < stop do end
      end)
      lunad.after(0, function() error "EVIL" end)
    ]]):gsub("EVIL", (EVIL:gsub("%%", "%%%%")))))
    page = browser.start(box:path "browser")
    page:open(("http://127.0.0.1:%d/#busy"):format(port))
    page:resize(1280, 800, "light")
    wait_text("#sum", "2 daemons")
    wait_text("[data-daemon=busy] .lag b", "ms")
    page:wait "document.querySelector('[data-daemon=busy] polyline').points.length > 2"
    local busy = text "[data-daemon=busy]"
    local parts = { "running", "generation 1", "busy.lua", "MiB", "last error", "jobs kind=<img src=x" }
    for _, part in ipairs(parts) do
      assert.truthy(busy:find(part, 1, true), part)
    end
    assert.equal(0, page:eval "document.querySelectorAll('table img, table script').length")
    assert.equal("lunad", page:eval "document.title")
    take_picture "wide"

    local pid = box:start(box:idle "fresh")
    wait_text("#sum", "3 daemons")
    box:ok("reload", "fresh")
    wait_text("[data-daemon=fresh]", "generation 2")
    page:resize(390, 844, "dark")
    assert.truthy(page:eval "document.documentElement.scrollWidth <= 390")
    take_picture "phone"
    support.kill(pid, "sigkill")
    box:wait_gone(pid)
    wait_text("#sum", "1 down")
    wait_text("[data-daemon=fresh]", "it has died")
    page:wait "document.title === '(1 down) lunad'"
    box:ok("stop", "fresh")
    page:wait "!document.querySelector('[data-daemon=fresh]')"

    page:eval "document.querySelector('[data-daemon=exporter] button').click()"
    wait_text("[data-daemon=exporter]", "exporter_clients")
    page:eval "document.querySelector('[data-daemon=exporter] button').click()"
    assert.is_nil(text("[data-daemon=exporter]"):find("exporter_clients", 1, true))
    box:ok("stop", "exporter")
    wait_text("#when", "The exporter does not answer")
  end)
end)

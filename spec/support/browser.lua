-- A headless Chromium for specs, which is asked through its debugging pipe: JSON, a zero byte after each.

local support = require "support"

local uv, json = support.uv, support.json

local browser = {}

-- Where Chromium is; nil if it is not installed.
function browser.find()
  for folder in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    for _, name in ipairs { "chromium", "chromium-browser", "google-chrome" } do
      if uv.fs_access(folder .. "/" .. name, "X") then
        return folder .. "/" .. name
      end
    end
  end
end

local Browser = {}
Browser.__index = Browser

-- Start one, with its files in a folder.
function browser.start(folder)
  local self = setmetatable({ answers = {}, number = 0 }, Browser)
  self.input, self.output = uv.new_pipe(), uv.new_pipe()
  local rest = ""
  self.process, self.pid = assert(uv.spawn(browser.find(), {
    args = { "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
      "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking",
      "--user-data-dir=" .. folder, "--remote-debugging-pipe", "about:blank" },
    stdio = { nil, nil, nil, self.input, self.output },
    detached = true,
  }, function() self.has_ended = true end))
  self.output:read_start(function(_, chunk)
    local from, searched = 1, #rest + 1
    rest = rest .. (chunk or "")
    for stop in function() return rest:find("\0", searched, true) end do
      local answer = json.decode(rest:sub(from, stop - 1))
      self.answers[answer.id or 0] = answer
      from, searched = stop + 1, stop + 1
    end
    rest = rest:sub(from)
  end)
  return self
end

-- Send a command and wait for its result.
function Browser:call(method, params)
  self.number = self.number + 1
  local number = self.number
  self.input:write(json.encode({ id = number, method = method, params = params or setmetatable({}, {
    __jsontype = "object" }), sessionId = self.session }) .. "\0")
  local answer = support.wait_for("the answer to " .. method, function()
    uv.run "nowait"
    return self.answers[number] or self.has_ended and { error = { message = "the browser has ended" } }
  end, 60)
  assert(answer.result, answer.error and answer.error.message)
  return answer.result
end

-- Open a page.
function Browser:open(url)
  local target = self:call("Target.createTarget", { url = "about:blank" }).targetId
  self.session = self:call("Target.attachToTarget", { targetId = target, flatten = true }).sessionId
  self:call("Page.navigate", { url = url })
end

-- Evaluate an expression in the page; returns its value.
function Browser:eval(expression)
  local result = self:call("Runtime.evaluate", { expression = expression, returnByValue = true })
  assert(not result.exceptionDetails, expression)
  return result.result.value
end

-- Wait until an expression is true in the page; returns its value.
function Browser:wait(expression)
  return support.wait_for(expression, function()
    local value = self:eval(expression)
    return value ~= json.null and value or nil
  end, 60)
end

-- Show the page on a screen of this size, light or dark.
function Browser:resize(width, height, scheme)
  self:call("Emulation.setDeviceMetricsOverride", { width = width, height = height, deviceScaleFactor = 1,
    mobile = width < 600 })
  self:call("Emulation.setEmulatedMedia", {
    features = { { name = "prefers-color-scheme", value = scheme } },
  })
end

-- Take a picture; returns PNG as base64.
function Browser:picture()
  return self:call("Page.captureScreenshot", { format = "png" }).data
end

-- End it, and what it has started.
function Browser:close()
  pcall(self.call, self, "Browser.close")
  support.wait_for("the end of the browser", function()
    uv.run "nowait"
    return self.has_ended
  end)
  self.input:close()
  self.output:close()
  self.process:close()
  uv.run "nowait"
end

return browser

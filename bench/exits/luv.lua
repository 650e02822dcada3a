local measure, uv = require "measure", require "luv"
local count = tonumber((...))

local function cost(total)
  local children = {}
  for i = 1, total do
    local child
    child = assert(uv.spawn("/bin/sleep", { args = { "1000" } }, function() child:close() end))
    children[i] = child
  end
  local cpu = measure.cpu()
  for i = 1, total do
    children[i]:kill("sigkill")
  end
  uv.run()
  return (measure.cpu() - cpu) / total
end

local few, many = cost(count // 10), cost(count)
measure.report { cpu = many, growth = many / few }

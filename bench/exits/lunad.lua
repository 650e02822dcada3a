local measure, lunad = require "measure", require "lunad"
local count = tonumber((...))

local function cost(total)
  local children = {}
  for i = 1, total do
    children[i] = assert(lunad.spawn { "/bin/sleep", "1000", stdout = "null", stderr = "null" })
  end
  local cpu = measure.cpu()
  for i = 1, total do
    children[i]:kill("KILL")
  end
  for i = 1, total do
    children[i]:wait()
  end
  return (measure.cpu() - cpu) / total
end

local few, many = cost(count // 10), cost(count)
measure.report { cpu = many, growth = many / few }
lunad.stop()

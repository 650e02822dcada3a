-- Awaits that are answered before their function returns: what every wrapped callback pays at least.
local measure, lunad = require "measure", require "lunad"
local count = tonumber((...))

local function answer(value, done)
  done(value)
end

local cpu = measure.cpu()
for i = 1, count do
  lunad.await(answer, i)
end
measure.report { cpu = (measure.cpu() - cpu) / count }
os.exit()

local measure, lunad = require "measure", require "lunad"
local lines = tonumber((...))
local cpu, wall = measure.cpu(), lunad.now()
for i = 1, lines do
  lunad.log.info("beat", { count = i })
end
measure.report { cpu = (measure.cpu() - cpu) / lines, rate = lines / (lunad.now() - wall) }

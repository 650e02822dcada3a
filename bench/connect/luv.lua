local measure, uv = require "measure", require "luv"
local count, path = ...
count = tonumber(count)

os.remove(path)
local server, served, begun = uv.new_pipe(), 0, 0
local wall, cpu
server:bind(path)
server:listen(128, function()
  local client = uv.new_pipe()
  server:accept(client)
  client:read_start(function(_, chunk)
    if not chunk then
      client:close()
      served = served + 1
      if served == count then
        measure.report { cpu = (measure.cpu() - cpu) / count, wall = (uv.hrtime() - wall) / 1e9 / count }
        os.remove(path)
        os.exit(0, false)
      end
    end
  end)
end)

local function connect()
  if begun < count then
    begun = begun + 1
    local stream = uv.new_pipe()
    stream:connect(path, function(err)
      assert(not err, err)
      stream:close(connect)
    end)
  end
end

wall, cpu = uv.hrtime(), measure.cpu()
connect()
uv.run()

local measure, uv = require "measure", require "luv"
local CONNECTIONS <const> = 2000
local size, path = ...
size = tonumber(size)

local begun, served, opened, start = 0, 0, nil, measure.cpu()

local function name(i)
  return ("%s.%d"):format(path, i)
end

local function finish()
  measure.report { open = (opened - start) / size, connect = (measure.cpu() - opened) / CONNECTIONS }
  for i = 1, size do
    os.remove(name(i))
  end
  os.exit(0, false)
end

local function serve(server)
  local client = uv.new_pipe()
  server:accept(client)
  client:read_start(function(_, chunk)
    if not chunk then
      client:close()
      served = served + 1
      if served == CONNECTIONS then
        finish()
      end
    end
  end)
end

local function connect()
  if begun < CONNECTIONS then
    begun = begun + 1
    local stream = uv.new_pipe()
    stream:connect(name(begun % size + 1), function(err)
      assert(not err, err)
      stream:close(connect)
    end)
  end
end

local servers = {}
for i = 1, size do
  os.remove(name(i))
  servers[i] = uv.new_pipe()
  servers[i]:bind(name(i))
  servers[i]:listen(128, function() serve(servers[i]) end)
end
opened = measure.cpu()
connect()
uv.run()

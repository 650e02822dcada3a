-- examples/http.lua under load: 64 connections that ask as fast as they are answered.
local measure, with_server = require "measure", require "server"
local name, seconds = ...

with_server(name, function(server)
  local cpu = server:cpu()
  local wrk = ("wrk -t 1 -c 64 -d %s http://127.0.0.1:%d/hello"):format(seconds, server.port)
  local pipe = assert(io.popen(wrk))
  local text = pipe:read("a")
  pipe:close()
  local requests = tonumber(text:match("(%d+) requests in"))
  assert(not text:find("Non-2xx", 1, true) and not text:find("Socket errors", 1, true), text)
  measure.report {
    rate = tonumber(text:match("Requests/sec:%s*([%d.]+)")), cpu = (server:cpu() - cpu) / requests,
  }
end)

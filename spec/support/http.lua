-- HTTP for specs: servers for scripts, and clients that send exactly what they are given.

local net = require "support.net"
local support = require "support"

local http = {}

-- For scripts: serve(fn [, options]) is http.serve on a free port, which is logged as "port N".
http.SERVE = [[
local http = require "lunad.http"
local function serve(fn, options)
  local server = assert(http.serve("127.0.0.1:0", fn, options))
  print("port " .. server:address():match ":(%d+)$")
  return server
end
]]

-- Start the daemon "s", whose script can call `serve`; returns the port.
function http.start(box, text, ...)
  box:serve(http.SERVE .. text, ...)
  return net.port(box, "s")
end

-- Reload it with another script; returns the port of its server.
function http.start_again(box, text)
  local result = box:reload(http.SERVE .. text)
  assert(result.code == 0, result.err)
  return net.port(box, "s")
end

local function escape(text)
  return (("%q"):format(#text > 200 and text:sub(1, 200) .. "…" or text))
end

-- Send a text, of which each piece is a packet of its own, and return all that comes back until the server
-- ends the connection.
function http.exchange(port, ...)
  local client = net.connect(port):wait_connected()
  for i = 1, select("#", ...) do
    client:send((select(i, ...)))
    support.uv.run "nowait"
  end
  local answer, err = client:wait_end()
  if err and err ~= "ECONNRESET" then
    error(("%s after %s"):format(err, escape((...))), 2)
  end
  return answer
end

-- Check that a text is answered by one answer alone, of this status, and that the connection ends.
function http.refused(port, status, ...)
  local answer = http.exchange(port, ...)
  local _, answers = answer:gsub("HTTP/1%.1 ", "")
  if answers ~= 1 or not answer:find("^HTTP/1%.1 " .. status .. " ") or
     not answer:find("\r\nConnection: close\r\n", 1, true) then
    local sent = escape(table.concat({ ... }))
    error(("%s: expected %d alone, got %s"):format(sent, status, escape(answer)), 2)
  end
end

-- Take the answers apart that came one after the other: { status, headers (as text), body }.
function http.answers(text)
  local found, at = {}, 1
  while at <= #text do
    local stop = assert(text:find("\r\n\r\n", at, true), "half a head: " .. escape(text:sub(at)))
    local headers = text:sub(at, stop + 1)
    local status = assert(headers:match "^HTTP/1%.1 (%d%d%d) ", "no head: " .. escape(headers))
    local length = tonumber(headers:match "\r\nContent%-Length: (%d+)\r\n" or 0)
    found[#found + 1] = { status = tonumber(status), headers = headers,
      body = text:sub(stop + 4, stop + 3 + length) }
    at = stop + 4 + length
  end
  return found
end

return http

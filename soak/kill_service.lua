-- The daemon of the sweep of kills. VERSION and FLAW are filled in, and the module "version" returns the same
-- version. Each client is told which code answers; the lines of a kept child are written to a file; what is
-- kept is counted.

local lunad = require "lunad"
local uv = require "luv"

local VERSION <const>, FLAW <const> = "@VERSION@", "@FLAW@"
local MODULE <const> = require "version"
local address, lines = ...

local kept = lunad.keep("kept", { count = 0, ballast = {} })
if #kept.ballast == 0 then
  for i = 1, 2000 do
    kept.ballast[i] = { i, tostring(i) }
  end
end
lunad.every(0.01, function() kept.count = kept.count + 1 end)

-- Lines that are numbered, from a child that each generation keeps.
if lunad.worker == 1 then
  local file = assert(io.open(lines, "a"))
  file:setvbuf "no"
  lunad.spawn {
    "sh", "-c", "i=0; while i=$((i + 1)); echo $$ $i; do sleep 0.02; done", name = "ticker", keep = true,
    stdout = lunad.by_line(function(line) file:write(line .. "\n") end),
  }
end

local new_stream = address:find "^unix:" and uv.new_pipe or uv.new_tcp
local server = new_stream()
assert(server:open(assert(lunad.listen(address))))
assert(server:listen(128, function(err)
  local client = new_stream()
  if not err and server:accept(client) then
    client:write(("%s.%s %d %d\n"):format(VERSION, MODULE, lunad.worker, kept.count))
    client:shutdown(function() client:close() end)
  end
end))

if FLAW == "refuses" and (lunad.worker > 1 or lunad.workers == 1) then
  error "as planned"
elseif FLAW == "fails" then
  lunad.after(0.02, function() error "as planned" end)
end

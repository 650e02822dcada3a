-- A web server.
--
--   lunad start examples/http.lua              then: curl http://127.0.0.1:8080/hello?name=you
--   edit a page, then: lunad reload http       no connection is refused, reset or cut
--   HTTP_ADDRESS=127.0.0.1:9000 lunad run examples/http.lua
--
-- The function that http.serve is given is called for each request, in a task: while it waits for something,
-- the others continue.

local lunad = require "lunad"
local http = require "lunad.http"

-- What is kept by a name is still there after a reload.
local served = lunad.keep("served", { count = 0 })

local pages = {}

pages["/hello"] = function(request)
  return 200, ("hello %s\n"):format(request.query.name or "world")
end

pages["/stats"] = function()
  return 200, ("served %d, generation %d\n"):format(served.count, lunad.generation)
end

pages["/echo"] = function(request)
  return 200, request.body, { ["Content-Type"] = request.headers["content-type"] or "text/plain" }
end

pages["/date"] = function()
  return 200, assert(lunad.exec { "date" }).stdout
end

local address = os.getenv "HTTP_ADDRESS" or "127.0.0.1:8080"
assert(http.serve(address, function(request)
  served.count = served.count + 1
  local page = pages[request.path]
  if not page then
    return 404, "there is nothing here\n"
  end
  return page(request)
end))

-- A web server that is asked while it is changed, and a client that asks all the time, to which each answer
-- must come whole. Texts of scripts, for specs and for measurements.

local requests = {}

-- The service, which says where it serves. What comes after it is run when it serves.
requests.SERVICE = [[
  local lunad = require "lunad"
  local http = require "lunad.http"
  local served = lunad.state and lunad.state.served or 0
  local server = assert(http.serve("127.0.0.1:0", function(request)
    served = served + 1
    if request.method == "POST" then
      return 200, request.body
    elseif request.path == "/slow" then
      lunad.sleep(0.03)
    elseif request.path == "/pieces" then
      return 200, function(write)
        for i = 1, 4 do write(("%d"):format(i):rep(500)) lunad.sleep(0.001) end
      end
    end
    return 200, ("generation %d\n"):format(lunad.generation)
  end))
  print("serves " .. server:address())
  lunad.on_reload(function() return { served = served } end)
]]

-- Asks ADDRESS by so many tasks until it is told to stop, and prints how often, and what went wrong. It has
-- a parser of answers of its own.
requests.CLIENT = [[
  local lunad, net = require "lunad", require "lunad.net"
  local ADDRESS, CLIENTS = arg[1], tonumber(arg[2])
  local asked, problems, stopping = 0, {}, false

  local function read_chunks(stream)
    local parts = {}
    repeat
      local size = assert(tonumber(assert(stream:read("line", 30), "cut in a chunk"), 16))
      parts[#parts + 1] = size > 0 and assert(stream:read(size, 30), "cut in a chunk") or nil
      assert(stream:read("line", 30) == "", "no end of a chunk")
    until size == 0
    return table.concat(parts)
  end

  local function read_answer(stream)
    local first = assert(stream:read("line", 30), "no answer")
    assert(first == "HTTP/1.1 200 OK", first)
    local headers = {}
    for line in function() return assert(stream:read("line", 30), "cut in the head") end do
      if line == "" then break end
      local name, value = line:match "^([%w-]+): (.*)$"
      headers[name:lower()] = value
    end
    local length = tonumber(headers["content-length"])
    local body = length and stream:read(length, 30) or not length and read_chunks(stream)
    assert(not length or #body == length, "cut in the body")
    return body, (headers.connection or ""):lower() ~= "close"
  end

  local function is_generation(body) return body:find "^generation %d+\n$" end
  local pieces = ("1"):rep(500) .. ("2"):rep(500) .. ("3"):rep(500) .. ("4"):rep(500)
  local kinds = {
    { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", is_generation },
    { "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n", is_generation },
    { "GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n", function(body) return body == pieces end },
    { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
      function(body) return body == "hello" end },
    { "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
      function(body) return body == "abcde" end },
  }

  local function connect_and_ask(most)
    local stream <close> = assert(net.connect(ADDRESS, { timeout = 30 }))
    for _ = 1, most do
      local kind = kinds[math.random(#kinds)]
      local half = math.random(#kind[1])
      assert(stream:write(kind[1]:sub(1, half)))
      if math.random(10) == 1 then lunad.sleep(0.005) end
      assert(stream:write(kind[1]:sub(half + 1)))
      local body, goes_on = read_answer(stream)
      assert(kind[2](body), body)
      asked = asked + 1
      if not goes_on then break end
    end
  end

  local function ask_again_and_again()
    while not stopping do
      local ok, err = pcall(connect_and_ask, math.random(30))
      if not ok then problems[#problems + 1] = tostring(err) end
    end
  end

  local tasks = {}
  for i = 1, CLIENTS do tasks[i] = lunad.task(ask_again_and_again) end
  lunad.signal("TERM", function() stopping = true end)
  print "asks"
  for _, task in ipairs(tasks) do task:wait() end
  print(("asked %d, failed %d"):format(asked, #problems))
  print(table.concat(problems, "\n", 1, math.min(#problems, 20)))
  lunad.stop()
]]

-- How often a client that has ended has asked, how often that failed, and what went wrong.
function requests.read(out)
  local asked, failed, problems = out:match "asked (%d+), failed (%d+)\n(.*)"
  return tonumber(asked), tonumber(failed), problems
end

return requests

-- Requests to a service of lunad.http that is reloaded all the time, with good code and with bad: each gets
-- its whole answer.

local support = require "support"
local stress = require "support.stress"

local SECONDS = stress.size(6, 300)
local CLIENTS = 8

local SERVICE = [[
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

-- What a service is that is refused, in several ways.
local BROKEN = {
  SERVICE .. " error 'this version is broken'",
  SERVICE .. " local function",
  "lunad.exit_now()",
  "lunad.stop()",
  SERVICE .. " lunad.task(function() os.exit(3) end)",
}

-- Asks until it is told to stop, and prints how often, and what went wrong. Its own parser of answers.
local CLIENT = [[
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
  for _, task in ipairs(tasks) do task:wait() end
  print(("asked %d, failed %d"):format(asked, #problems))
  print(table.concat(problems, "\n", 1, math.min(#problems, 20)))
  lunad.stop()
]]

describe("a service under load", function()
  local box = support.with_box(before_each, after_each)

  it("answers every request, whatever is loaded meanwhile", function()
    box:serve(SERVICE)
    local address = box:wait_log("s", "serves (%S+)")
    local client = box:write("client.lua", CLIENT)
    local load = box:spawn { "run", client, address, tostring(CLIENTS) }
    local deadline = support.uv.hrtime() + SECONDS * 1e9
    local good, bad = 0, 0
    repeat
      load.turn()
      assert.is_nil(load.code, load.err())
      if math.random(3) == 1 then
        local result = box:reload(BROKEN[math.random(#BROKEN)])
        assert.equal(1, result.code, result.err)
        bad = bad + 1
      else
        local result = box:reload(SERVICE)
        assert.equal(0, result.code, result.err)
        good = good + 1
      end
    until support.uv.hrtime() > deadline
    support.kill(load.pid, "sigterm")
    box:await(load, "the end of the clients", load.is_over, 60)
    local asked, failed = load.out():match "asked (%d+), failed (%d+)"
    stress.note("%s requests over %d reloads and %d that were refused, %s failed", asked, good, bad, failed)
    assert.equal("0", failed, load.out() .. load.err())
    assert.truthy(tonumber(asked) > SECONDS * 20, asked)
    assert.equal(0, #box:status("s").errors.places)
  end)
end)

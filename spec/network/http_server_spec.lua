local http = require "support.http"
local net = require "support.net"
local support = require "support"
local uv = support.uv

local HOST = "Host: x\r\n"

-- A request that is the last one of its connection.
local function last(method, path, fields, body)
  return ("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n%s"):format(method, path, fields or "",
    body or "")
end

-- A request after which another one follows.
local function get(path)
  return ("GET %s HTTP/1.1\r\n%s\r\n"):format(path, HOST)
end

-- The body of a chunked answer, and how many chunks it came in.
local function dechunk(text)
  local parts, at = {}, select(2, text:find("\r\n\r\n", 1, true)) + 1
  while true do
    local _, stop, size = text:find("^(%x+)\r\n", at)
    assert(stop, text:sub(at))
    size = tonumber(size, 16)
    assert.equal("\r\n", text:sub(stop + size + 1, stop + size + 2))
    if size == 0 then
      assert.equal(#text, stop + 2)
      return table.concat(parts), #parts
    end
    parts[#parts + 1] = text:sub(stop + 1, stop + size)
    at = stop + size + 3
  end
end

describe("http.serve", function()
  local box = support.with_box(before_each, after_each)

  it("gives the function the request, and the client what it returns", function()
    local port = http.start(box, [[
      serve(function(request)
        local words = {}
        for _, name in ipairs { "method", "target", "path", "version", "body" } do
          words[#words + 1] = name .. "=" .. request[name]
        end
        words[#words + 1] = "q=" .. request.query.q .. " missing=" .. tostring(request.query.r)
        words[#words + 1] = request.headers["x-case"] .. "|" .. request.headers.cookie
        words[#words + 1] = request.peer:match "^127.0.0.1:%d+$" and "local" or "strange"
        return 201, table.concat(words, "\n"), { ["X-One"] = "a", ["x-two"] = 2, ["X-Three"] = { "b", "c" } }
      end)
    ]])
    local answer = http.answers(http.exchange(port, last("POST", "/a%20b/../c%2Fd?q=1+2%263&q=4&&z",
      "X-CASE: \tValue, x \t \r\nX-Case:more\r\nContent-Length: 3\r\nCookie: a=1\r\ncookie: b=2\r\n",
      "abc")))[1]
    assert.equal(201, answer.status)
    assert.equal("method=POST\ntarget=/a%20b/../c%2Fd?q=1+2%263&q=4&&z\npath=/c/d\nversion=1.1\nbody=abc\n" ..
      "q=1 2&3 missing=nil\nValue, x, more|a=1; b=2\nlocal", answer.body)
    for _, line in ipairs { "X-One: a", "x-two: 2", "X-Three: b", "X-Three: c", "Connection: close" } do
      assert.truthy(answer.headers:find("\r\n" .. line .. "\r\n", 1, true), line)
    end
    assert.matches("^HTTP/1.1 201 Created\r\nDate: %u%l%l, %d%d %u%l%l %d%d%d%d %d%d:%d%d:%d%d GMT\r\n",
      answer.headers)
  end)

  it("takes targets with a host in them, and * of OPTIONS", function()
    local port = http.start(box, [[
      serve(function(request) return 200, request.path .. " " .. request.headers.host end)
    ]])
    local function ask(...) return http.answers(http.exchange(port, last(...)))[1].body end
    assert.equal("/a y:80", ask("GET", "http://y:80/a"))
    assert.equal("/ y", ask("GET", "HTTP://y"))
    assert.equal("/ y", ask("GET", "http://y?q"))
    assert.matches("\r\n\r\n/b z$", http.exchange(port, "GET http://z/b HTTP/1.0\r\n\r\n"))
    assert.equal("* x", ask("OPTIONS", "*"))
    assert.equal("/a x", ask("M-SEARCH", "/a"))
  end)

  it("keeps connections, and answers requests that come in one piece in their order", function()
    local port = http.start(box, [[
      serve(function(request)
        if request.path == "/slow" then lunad.sleep(0.05) end
        return 200, request.path .. request.body
      end)
    ]])
    local client = net.connect(port)
    for i = 1, 3 do client:send(get("/" .. i)):wait("\r\n\r\n/" .. i .. "$") end
    client:send(get "/slow" .. "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxy\r\n" .. get "/c" ..
      last("GET", "/d") .. get "/never")
    local answers = http.answers((client:wait_end()))
    local bodies = {}
    for i, answer in ipairs(answers) do bodies[i] = answer.body end
    assert.equal("/1 /2 /3 /slow /bxy /c /d", table.concat(bodies, " "))
    assert.not_matches("Connection", answers[6].headers)
  end)

  it("speaks HTTP/1.0, whose connections end unless asked otherwise", function()
    local port = http.start(box, [[
      serve(function(request)
        if request.path == "/written" then return 200, function(write) write "a" write "b" end end
        return 200, request.version
      end)
    ]])
    assert.matches("Connection: close\r\nContent%-Length: 3\r\n\r\n1.0$",
      http.exchange(port, "GET / HTTP/1.0\r\n\r\n"))
    local answer = http.exchange(port, "GET /written HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert.matches("Connection: close\r\n\r\nab$", answer)
    local client = net.connect(port):send "GET / HTTP/1.0\r\nConnection: Keep-Alive, x\r\n\r\n"
    client:wait "Connection: keep%-alive\r\nContent%-Length: 3\r\n\r\n1.0$"
    client:send "GET / HTTP/1.0\r\n\r\n":wait_end()
    assert.equal(2, #http.answers(client.received))
  end)

  it("resets the connection when a body fails whose end is that of the connection", function()
    local result = box:inside(http.SERVE .. [[
      local server = serve(function()
        return 200, function(write) write "a part" error "there is no more" end
      end)
      local client = require "lunad.net".connect(server:address())
      client:write "GET / HTTP/1.0\r\n\r\n"
      fails("ECONNRESET", client:read "all")
      lunad.stop()
    ]], { errors = true })
    assert.matches("there is no more", result.err)
  end)

  it("answers HEAD, 204 and 304 with heads alone", function()
    local port = http.start(box, [[
      serve(function(request)
        local status = tonumber(request.path:match "%d+")
        if request.path == "/written" then return 200, function(write) write "never" end end
        if request.path == "/large" then return 200, nil, { ["Content-Length"] = 5e9 } end
        return status, "body"
      end)
    ]])
    local client = net.connect(port):send(get "/204" .. get "/304" .. get "/205" ..
      "HEAD /200 HTTP/1.1\r\nHost: x\r\n\r\nHEAD /written HTTP/1.1\r\nHost: x\r\n\r\n" ..
      last("HEAD", "/large"))
    local heads = {}
    for head in client:wait_end():gmatch "(.-\r\n)\r\n" do heads[#heads + 1] = head end
    assert.equal(6, #heads)
    for i, status in ipairs { 204, 304, 205, 200, 200, 200 } do
      assert.matches("^HTTP/1.1 " .. status .. " ", heads[i])
    end
    assert.not_matches("Length", heads[1] .. heads[2])
    assert.matches("\r\nContent%-Length: 0\r\n", heads[3])
    assert.matches("\r\nContent%-Length: 4\r\n", heads[4])
    assert.matches("\r\nTransfer%-Encoding: chunked\r\n", heads[5])
    assert.matches("\r\nContent%-Length: 5000000000\r\n", heads[6])
    assert.not_matches("body", client.received)
  end)

  it("sends in chunks what a function writes, as it is written", function()
    local port = http.start(box, [[
      serve(function(request)
        return 200, function(write)
          truthy = write("one", 2, "") and write "" and write(("x"):rep(100000))
          lunad.sleep(0.05)
          write(truthy and "end" or "failed")
        end
      end)
    ]])
    local client = net.connect(port):send(get "/")
    client:wait "\r\nTransfer%-Encoding: chunked\r\n\r\n4\r\none2\r\n"
    client:wait "3\r\nend\r\n0\r\n\r\n$"
    client:close()
    local body, chunks = dechunk(client.received)
    assert.equal("one2" .. ("x"):rep(100000) .. "end", body)
    assert.equal(3, chunks)
    assert.matches("\r\n\r\n0\r\n\r\n$", (http.exchange(http.start_again(box,
      "serve(function() return 200, function() end end)"), last("GET", "/"))))
  end)

  it("sends it as it is if its length is given, and never another length", function()
    local port = http.start(box, [[
      serve(function(request)
        return 200, function(write)
          for byte in request.path:sub(2):gmatch "." do write(byte) end
        end, { ["content-length"] = 3 }
      end)
    ]])
    assert.matches("\r\nContent%-Length: 3\r\n\r\nabc$", http.exchange(port, last("GET", "/abc")))
    assert.not_matches("Transfer", http.exchange(port, last("GET", "/abc")))
    assert.matches("\r\n\r\nab$", http.exchange(port, get "/ab")) -- and then the end
    assert.matches("\r\n\r\nabc$", http.exchange(port, get "/abcd"))
    box:wait_log("s", "uncaught error in .*the body has 2 bytes, its Content%-Length says 3")
    box:wait_log("s", "uncaught error in .*write: more than the Content%-Length of 3 bytes")
  end)

  it("reads bodies in chunks, however they are cut", function()
    local port = http.start(box, "serve(function(request) return 200, request.body end)")
    local body = "5\r\nhello\r\n1;ext=\"a b\"\r\n \r\n00000A \t;x\r\n0123456789\r\n" ..
      "0\r\nX: y\r\nTrailer: z\r\n\r\n"
    local request = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n" .. body
    local client = net.connect(port)
    for cut = 1, #request - 1, 7 do
      client.received = ""
      client:send(request:sub(1, cut))
      uv.run "nowait"
      client:send(request:sub(cut + 1)):wait "\r\n\r\nhello 0123456789$"
    end
    client:close()
  end)

  it("sends large bodies back whole, also to a client that has closed its sending side", function()
    local port = http.start(box, "serve(function(request) return 200, request.body end)")
    local body = ("0123456789abcde\n"):rep(60000)
    local request = ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"):format(#body) .. body
    local answer, err = net.connect(port):send(request:rep(10)):finish():wait_end()
    assert.is_nil(err)
    local answers = http.answers(answer)
    assert.equal(10, #answers)
    for _, one in ipairs(answers) do assert.is_true(one.body == body) end
  end)

  it("sends 100 Continue only to a client that waits for it", function()
    local port = http.start(box, "serve(function(request) return 200, request.body end, { max_body = 10 })")
    local expect = "Expect: 100-Continue\r\nContent-Length: "
    local client = net.connect(port):send(last("POST", "/", expect .. "3\r\n"))
    client:wait "^HTTP/1.1 100 Continue\r\n\r\n$"
    assert.matches("^HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n.*\r\n\r\nabc$",
      client:send("abc"):wait_end())
    assert.matches("^HTTP/1.1 200 ", http.exchange(port, last("POST", "/", expect .. "3\r\n", "abc")))
    assert.matches("^HTTP/1.1 200 ", http.exchange(port, last("POST", "/", expect .. "0\r\n")))
    http.refused(port, 413, last("POST", "/", expect .. "11\r\n"))
  end)

  it("answers 500 for an error of the function, reports it as that of any callback, and goes on", function()
    local port = http.start(box, [[
      lunad.on_error(function(message, trace) print("seen " .. message) end)
      serve(function(request)
        if request.path == "/error" then error "oops" end
        if request.path == "/object" then error {} end
        lunad.sleep(0)
        return 200, "fine"
      end)
    ]])
    local answers = http.answers(http.exchange(port, get "/error" .. get "/" .. get "/error" ..
      get "/object" ..
      last("GET", "/")))
    for i, status in ipairs { 500, 200, 500, 500, 200 } do assert.equal(status, answers[i].status) end
    assert.not_matches("oops", answers[1].body)
    assert.matches("\r\nContent%-Type: text/plain\r\n", answers[1].headers)
    box:wait_log("s", "uncaught error in a function of http.serve: [^\n]*:%d+: oops\n" ..
      "    stack traceback:\n    \t%[C%]: in function 'error'\n    \t[^\n]*:%d+: in function <[^\n]+>\n%d")
    box:wait_log("s", "seen [^\n]*oops\n")
    assert.equal(3, box:status("s").errors.count)
  end)

  it("stops the daemon at such an error with --on-error exit, which an answer precedes", function()
    local port = http.start(box, "serve(function() error 'oops' end)", "--on-error", "exit")
    assert.matches("^HTTP/1.1 500 ", http.exchange(port, get "/"))
    box:wait_log("s", "stopped")
  end)

  it("answers 500 for results that cannot be sent, and says what is wrong with them", function()
    local port = http.start(box, [[
      lunad.on_error(print)
      local results = {
        nothing = {}, text = { "200" }, low = { 100 }, high = { 600 }, half = { 200.5 }, nan = { 0/0 },
        flag = { 200, true }, tab = { 200, {} }, headers = { 200, "", "X: y" },
        name = { 200, "", { ["X Y"] = 1 } }, empty = { 200, "", { [""] = 1 } },
        list = { 200, "", { "X: y" } },
        value = { 200, "", { X = "a\r\nSet-Cookie: b" } }, zero = { 200, "", { X = "a\0" } },
        type = { 200, "", { X = true } }, coding = { 200, "", { ["transfer-encoding"] = "chunked" } },
        length = { 200, "abc", { ["Content-Length"] = 4 } },
        number = { 200, "", { ["Content-Length"] = "x" } },
        split = { 200, "", { ["X\r\nY"] = "z" } }, nested = { 200, "", { X = { "a", "b\n" } } },
      }
      serve(function(request) return table.unpack(results[request.path:sub(2)]) end)
    ]])
    for name, words in pairs {
      nothing = "the function returned nil as status", text = 'returned "200" as status',
      low = "returned 100",
      high = "returned 600", half = "returned 200.5", nan = "nan as status",
      flag = "a body that is a boolean",
      tab = "a body that is a table", headers = "headers that are not a table (string)",
      name = "'X Y' is not the name", empty = "'' is not the name", list = "'1' is not the name",
      value = "the field 'X' has a control character", zero = "the field 'X' has a control character",
      type = "the field 'X': string expected, got boolean",
      coding = "'Transfer-Encoding' is set by http.serve",
      length = "the body has 3 bytes, its Content-Length says 4", number = "'Content-Length' is not a number",
      split = "'X\\x0D\\x0AY' is not the name of a field", nested = "the field 'X' has a control character",
    } do
      local answer = http.exchange(port, last("GET", "/" .. name))
      assert.matches("^HTTP/1.1 500 ", answer)
      assert.not_matches("Set%-Cookie", answer)
      box:wait_log("s", "s: http%.serve: [^\n]*" .. support.pattern(words))
    end
  end)

  it("takes other results for what they mean", function()
    local port = http.start(box, [[
      local callable = setmetatable({}, { __call = function(_, write) write "called" end })
      local results = {
        ["/float"] = { 200.0, 12 }, ["/empty"] = { 404 }, ["/callable"] = { 200, callable },
        ["/close"] = { 200, "", { Connection = "Close" } }, ["/date"] = { 200, "", { date = "today" } },
        ["/unknown"] = { 299, "x" },
        ["/same"] = { 200, "abc", { ["Content-Length"] = "3", X = "tab\t\228" } },
      }
      serve(setmetatable({}, {
        __call = function(_, request) return table.unpack(results[request.path]) end,
      }))
    ]])
    local function ask(path) return http.exchange(port, last("GET", path)) end
    assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\n12$", ask "/float")
    assert.matches("^HTTP/1.1 404 Not Found\r\n.*\r\nContent%-Length: 0\r\n\r\n$", ask "/empty")
    assert.equal("called", (dechunk(ask "/callable")))
    assert.matches("\r\nConnection: close\r\n", http.exchange(port, get "/close"))
    assert.equal(1, select(2, ask("/date"):gsub("[dD]ate: ", "")))
    assert.matches("^HTTP/1.1 299 \r\n", ask "/unknown")
    assert.matches("\r\nX: tab\t\228\r\n", ask "/same")
  end)

  it("cuts an answer off whose function fails in the middle, and answers 500 before it", function()
    local port = http.start(box, [[
      serve(function(request)
        return 200, function(write)
          if request.path == "/late" then write "begun" end
          error "oops"
        end
      end)
    ]])
    assert.matches("5\r\nbegun\r\n$", http.exchange(port, last("GET", "/late")))
    http.refused(port, 500, last("GET", "/early"))
    assert.equal(2, box:status("s").errors.count)
  end)

  it("raises for a write after the answer, and returns an error when the client has gone", function()
    local port = http.start(box, [[
      local kept
      serve(function(request)
        if request.path == "/kept" then
          local ok, err = pcall(kept, "late")
          return 200, tostring(err)
        end
        return 200, function(write)
          kept = write
          local ok, err, code = true, nil, nil
          if request.path == "/gone" then
            while ok do
              ok, err, code = write(("x"):rep(10000))
              lunad.sleep(0.001)
            end
            print("write returned " .. tostring(ok) .. " " .. code)
          end
        end
      end)
    ]])
    local client = net.connect(port):send(get "/" .. last("GET", "/kept"))
    assert.matches("write: this response is over", (client:wait_end()))
    client = net.connect(port):send(get "/gone")
    client:wait "xxx"
    client:close()
    box:wait_log("s", "write returned nil E%u+")
  end)

  it("ends the connection of a request whose function is interrupted", function()
    local port = http.start(box, [[
      serve(function(request)
        if request.path == "/loop" then print "loops" while true do end end
        return 200
      end)
    ]], "--stuck-after", "0.1")
    local client = net.connect(port):send(get "/loop")
    box:wait_log("s", "loops")
    box:ok("reload", "s")
    assert.equal("", (client:wait_end()))
    assert.matches("^HTTP/1.1 200 ", http.exchange(port, last("GET", "/")))
    support.wait_for("the end of the old one", function() return #box:status("s").retiring == 0 end)
  end)

  it("refuses wrong arguments and unknown options", function()
    box:inside [[
      local http = require "lunad.http"
      local function fn() return 200 end
      raises("bad argument #1 to 'serve' (string expected, got number)", http.serve, 80, fn)
      raises("bad argument #2 to 'serve' (function expected, got nil)", http.serve, "127.0.0.1:0")
      raises("bad argument #3 to 'serve'", http.serve, "127.0.0.1:0", fn, 5)
      raises("serve: unknown option 'timeout'", http.serve, "127.0.0.1:0", fn, { timeout = 5 })
      raises("serve: option 'idle': number expected, got string", http.serve,
        "127.0.0.1:0", fn, { idle = "5" })
      raises("serve: option 'idle'", http.serve, "127.0.0.1:0", fn, { idle = -1 })
      raises("serve: option 'head_timeout'", http.serve, "127.0.0.1:0", fn, { head_timeout = math.huge })
      raises("serve: option 'max_head'", http.serve, "127.0.0.1:0", fn, { max_head = 0 })
      raises("serve: option 'max_body'", http.serve, "127.0.0.1:0", fn, { max_body = 0/0 })
      raises("serve: option 'max'", http.serve, "127.0.0.1:0", fn, { max = 0 })
      raises("serve: option 'stream'", http.serve, "127.0.0.1:0", fn, { stream = 1 })
      local server = assert(http.serve("127.0.0.1:0", fn))
      truthy(server:address():match "^127%.0%.0%.1:%d+$")
      equal(0, server:clients())
      raises("bad argument #1 to 'clients'", server.clients, {})
      server:close()
      server:close()
    ]]
  end)

  it("serves on a Unix socket", function()
    local path = box:path "u.sock"
    box:serve(([[
      require("lunad.http").serve("unix:%s", function(request) return 200, request.peer end)
    ]]):format(path))
    assert.matches("\r\n\r\nunix:" .. support.pattern(path) .. "$", http.exchange(path, last("GET", "/")))
  end)

  it("counts its clients, and lets them finish when it is closed", function()
    local port = http.start(box, [[
      local server
      server = serve(function(request)
        if request.path == "/close" then server:close() lunad.sleep(0.05) end
        return 200, server:clients() .. " clients"
      end)
    ]])
    local other = net.connect(port):send(get "/")
    other:wait "1 clients$"
    local client = net.connect(port):send(get "/close" .. get "/")
    local answers = http.answers((client:wait_end()))
    assert.equal("2 clients", answers[2].body)
    assert.matches("Connection: close", answers[2].headers)
    assert.not_matches("Connection: close", answers[1].headers)
    assert.matches("Connection: close\r\n.*1 clients$", (other:send(get "/"):wait_end()))
  end)
end)

describe("the times and sizes of http.serve", function()
  local box = support.with_box(before_each, after_each)

  it("answer 408 when a head or a body does not come, however slowly it is dripped", function()
    local port = http.start(box, [[
      serve(function(request) return 200, request.body end, { head_timeout = 0.2, body_timeout = 0.2 })
    ]])
    http.refused(port, 408, "GET / HTTP/1.1\r\n")
    http.refused(port, 408, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab")
    http.refused(port, 408, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1")
    local post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    for _, begin in ipairs { "GET / HTTP/1.1\r\nX: ", post } do
      local client = net.connect(port):send(begin)
      support.wait_for("the end", function()
        if not client.ended then client:send "x" end
        uv.run "nowait"
        return client.ended
      end)
      assert.matches("^HTTP/1.1 408 Request Timeout\r\n", (client:wait_end()))
    end
  end)

  it("close idle connections without a word, also those that have said nothing yet", function()
    local port = http.start(box, "serve(function() return 200, 'x' end, { idle = 0.2 })")
    assert.equal("", http.exchange(port, ""))
    assert.equal(1, #http.answers(http.exchange(port, get "/")))
  end)

  it("close the connection of a client that takes no answer", function()
    local port = http.start(box, [[
      serve(function(request)
        return 200, function(write)
          local ok, err, code
          repeat ok, err, code = write(("x"):rep(100000)) until not ok
          print("gave up: " .. code .. err)
        end
      end, { write_timeout = 0.2 })
    ]])
    local socket = uv.new_tcp()
    local connected
    socket:connect("127.0.0.1", port, function(err) connected = not err end)
    support.wait_for("a connection", function() uv.run "nowait" return connected end)
    socket:write(get "/")
    uv.run "nowait"
    box:wait_log("s", "gave up: ETIMEDOUT")
    socket:close()
    uv.run "nowait"
  end)

  it("bound what is kept of a client that sends more than is served", function()
    local port = http.start(box, [[
      serve(function(request) lunad.sleep(3600) return 200 end, { max_head = 1000000 })
    ]], "--stop-timeout", "0.1")
    local pid = box:status("s").pid
    local before = tonumber(support.proc_status(pid).VmRSS:match "%d+")
    local client = net.connect(port):send(get "/")
    local stopped = false
    client.stream:write(("x"):rep(64 * 1024 * 1024), function() stopped = true end)
    support.wait_for("what it takes", function()
      local queued = client.stream:get_write_queue_size()
      uv.run "nowait"
      uv.sleep(50)
      uv.run "nowait"
      return stopped or client.stream:get_write_queue_size() == queued
    end)
    assert.is_false(stopped)
    assert.is_true(tonumber(support.proc_status(pid).VmRSS:match "%d+") - before < 8000)
    client:close()
  end)

  it("let at most `max` clients in, and the next ones when one has gone", function()
    local port = http.start(box, "serve(function() return 200, 'x' end, { max = 2 })")
    local clients = {}
    for i = 1, 3 do clients[i] = net.connect(port):send(get "/") end
    clients[1]:wait "\r\n\r\nx$"
    clients[2]:wait "\r\n\r\nx$"
    assert.equal("", clients[3].received)
    clients[1]:close()
    clients[3]:wait "\r\n\r\nx$"
    for i = 2, 3 do clients[i]:close() end
  end)

  it("can be none: 0 bytes of a body", function()
    local port = http.start(box, "serve(function(request) return 200, request.body end, { max_body = 0 })")
    http.refused(port, 413, last("POST", "/", "Content-Length: 1\r\n", "x"))
    http.refused(port, 413, last("POST", "/", "Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n"))
    assert.matches("^HTTP/1.1 200 ",
      http.exchange(port, last("POST", "/", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n")))
  end)
end)

describe("a request whose body is not read for the function", function()
  local box = support.with_box(before_each, after_each)

  it("is read by it piece by piece, with any length", function()
    local port = http.start(box, [[
      serve(function(request)
        local size, pieces = 0, 0
        for piece in function() return request:read(10000) end do
          size, pieces = size + #piece, pieces + 1
          assert(#piece <= 10000)
        end
        return 200, ("%d in %s: %s"):format(size, pieces > 10 and "pieces" or "few", tostring(request.body))
      end, { stream = true, max_body = math.huge })
    ]])
    local body = ("x"):rep(5000000)
    assert.matches("\r\n\r\n5000000 in pieces: nil$", http.exchange(port, last("POST", "/",
      "Content-Length: 5000000\r\n", body)))
    assert.matches("\r\n\r\n5000000 in pieces: nil$", http.exchange(port, last("POST", "/",
      "Transfer-Encoding: chunked\r\n", ("4C4B40\r\n%s\r\n0\r\n\r\n"):format(body))))
    assert.matches("\r\n\r\n0 in few: nil$", http.exchange(port, last("GET", "/")))
  end)

  it("is read whole on demand, and 100 Continue is sent when it is read", function()
    local port = http.start(box, [[
      serve(function(request)
        if request.path == "/no" then return 403, "no" end
        return 200, request:read "all" .. tostring(request:read()) .. request:read "all"
      end, { stream = true })
    ]])
    local expect = "Expect: 100-continue\r\nContent-Length: 3\r\n"
    local client = net.connect(port):send("POST / HTTP/1.1\r\nHost: x\r\n" .. expect .. "\r\n")
    client:wait "^HTTP/1.1 100 Continue\r\n\r\n$"
    client:send "abc":wait "\r\n\r\nabcnil$"
    client:send("POST /no HTTP/1.1\r\nHost: x\r\n" .. expect .. "\r\n")
    assert.matches("HTTP/1.1 403 Forbidden\r\n.*Connection: close\r\n", (client:wait_end()))
    assert.equal(1, select(2, client.received:gsub("100 Continue", "")))
  end)

  it("is skipped if it is there already, or else ends the connection", function()
    local port = http.start(box, "serve(function(request) return 200, request.path end, { stream = true })")
    local post = "POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
    local answers = http.answers(http.exchange(port, post:format("a", 3, "abc") ..
      post:format("b", 100000, "GET /")))
    assert.equal("/a", answers[1].body)
    assert.not_matches("close", answers[1].headers)
    assert.equal("/b", answers[2].body)
    assert.matches("Connection: close", answers[2].headers)
  end)

  it("that is broken is an error of read, and is answered for the function", function()
    local port = http.start(box, [[
      local kept
      serve(function(request)
        if kept then print(pcall(kept.read, kept)) end
        kept = request
        local data, err, code = request:read "all"
        print("read", data, code, err)
        return 200
      end, { stream = true, max_body = 10, body_timeout = 0.2 })
    ]])
    local chunked = "Transfer-Encoding: chunked\r\n"
    http.refused(port, 400, last("POST", "/", chunked, "x\r\n"))
    box:wait_log("s", "read\tnil\tEPROTO\tEPROTO: [^\n]*a chunk has no valid size")
    http.refused(port, 413, last("POST", "/", chunked, "FF\r\n"))
    box:wait_log("s", "false\t[^\n]*read: this request has been answered")
    assert.matches("^HTTP/1.1 200 ", http.exchange(port, last("POST", "/", chunked, "1\r\n")))
    box:wait_log("s", "read\tnil\tETIMEDOUT")
    net.connect(port):send(last("POST", "/", chunked, "1\r\n")):close()
    box:wait_log("s", "read\tnil\tEPIPE")
  end)

  it("can be sent back while it is read", function()
    local port = http.start(box, [[
      serve(function(request)
        return 200, function(write)
          for piece in function() return request:read() end do write(piece:upper()) end
        end
      end, { stream = true })
    ]])
    local post = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    local client = net.connect(port):send(post)
    client:wait "3\r\nABC\r\n$"
    client:send "2\r\nde\r\n":wait "2\r\nDE\r\n$"
    client:send "0\r\n\r\n":wait "0\r\n\r\n$"
    client:send(get "/"):wait "0\r\n\r\n$"
    client:close()
  end)
end)

local http = require "support.http"
local support = require "support"

-- For scripts: `ask` is http.request, and canned(texts) a server that answers each request with the next
-- text, and ends the connection after those that `ends` is true for. It returns the URL of the server, and
-- the list of requests that have come; its `connections` says on how many.
local CANNED = [[
local net, http = require "lunad.net", require "lunad.http"
local ask = http.request
local servers = 0
local function canned(texts, ends)
  local requests = { connections = 0 }
  servers = servers + 1 -- of one address there is one socket
  local server = truthy(net.serve(("127.0.0.%d:0"):format(servers), function(stream)
    requests.connections = requests.connections + 1
    while true do
      local head, length = "", 0
      for line in stream:lines() do
        head = head .. line .. "\n"
        length = tonumber(line:match "^Content%-Length: (%d+)") or length
        if line == "" then break end
      end
      if head == "" then return end
      requests[#requests + 1] = head .. (length > 0 and stream:read(length) or "")
      local text = texts[#requests]
      if type(text) == "function" then text = text(stream) end
      if text then stream:write(text) end
      if not text or ends and ends[#requests] then return end
    end
  end))
  return "http://" .. server:address(), requests
end
local function body(text, fields)
  return ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s"):format(#text, fields or "", text)
end
local function redirect(status, place)
  return ("HTTP/1.1 %d Elsewhere\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n"):format(status, place)
end
]]

describe("http.request", function()
  local box = support.with_box(before_each, after_each)

  local function inside(text, options)
    return box:inside(CANNED .. text .. " lunad.stop()", options)
  end

  it("asks, and returns status, reason, headers, body and URL", function()
    inside [[
      local url, requests = canned { "HTTP/1.1 201 Made it\r\nX-A: 1\r\nx-a: 2\r\nSet-Cookie: a=1, x\r\n" ..
        "Set-Cookie: b=2\r\nContent-Length: 5\r\n\r\nhello" }
      local response = truthy(ask(url .. "/a%20b?q#top"))
      equal(201, response.status)
      equal("Made it", response.reason)
      equal("1, 2", response.headers["x-a"])
      equal("a=1, x\nb=2", response.headers["set-cookie"])
      equal("hello", response.body)
      equal(url .. "/a%20b?q", response.url)
      equal("GET /a%20b?q HTTP/1.1\nHost: " .. url:match "//(.*)" .. "\nUser-Agent: lunad\nAccept: */*\n\n",
        requests[1])
    ]]
  end)

  it("sends what it is told to", function()
    inside [[
      local url, requests = canned { body "", body "", body "", body "" }
      ask { url = url, method = "PUT", body = "abc", headers = { ["x-list"] = { 1, "two" }, HOST = "other",
        ["User-Agent"] = "me" } }
      equal("PUT / HTTP/1.1\nAccept: */*\nContent-Length: 3\n", requests[1]:match "^(PUT.-Length: 3\n)")
      truthy(requests[1]:find "\nx%-list: 1\nx%-list: two\n" and requests[1]:find "\nHOST: other\n")
      truthy(requests[1]:find "\nUser%-Agent: me\n" and not requests[1]:find "User%-Agent: lunad")
      truthy(requests[1]:find "\n\nabc$")
      ask { url = url .. "/", body = 12 }
      truthy(requests[2]:find "^POST / " and requests[2]:find "\n\n12$")
      ask { url = url, method = "POST" }
      truthy(requests[3]:find "\nContent%-Length: 0\n")
      ask { url = url:gsub("//", "//me:p%%40ss@") }
      truthy(requests[4]:find "\nAuthorization: Basic bWU6cEBzcw==\n", requests[4])
    ]]
  end)

  it("encodes names and passwords of any length", function()
    inside [[
      for name, coded in pairs { a = "YTo=", ab = "YWI6", abc = "YWJjOg==", ["\255\254"] = "//46" } do
        local url, requests = canned { body "" }
        ask(url:gsub("//", "//" .. name .. ":@"))
        equal(coded, requests[1]:match "Basic (%S+)")
      end
    ]]
  end)

  it("reads bodies by their length, in chunks, and to the end of the connection", function()
    inside [[
      local url = canned({
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x\r\n!\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nto the end", "HTTP/1.0 200\r\n\r\n",
          "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
      }, { [2] = true, [3] = true })
      equal("hello!", ask(url).body)
      equal("to the end", ask(url).body)
      local response = ask(url)
      equal("", response.body)
      equal("", response.reason)
      equal("1.0", response.version)
      equal("", ask(url).body)
    ]]
  end)

  it("reads no body where there is none, and skips what comes before the response", function()
    inside [[
      local url = canned { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n",
          "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nX: y\r\n\r\n" .. body "ok" }
      local response = ask { url = url, method = "HEAD", timeout = 5 }
      equal("", response.body)
      equal("5", response.headers["content-length"])
      equal(204, ask(url).status)
      equal(304, ask(url).status)
      equal("ok", ask(url).body)
    ]]
  end)

  it("refuses responses that are malformed or too large", function()
    inside [[
      for _, text in ipairs { "garbage\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", "\0",
          "HTTP/1.1 101 S\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
          ("HTTP/1.1 100 C\r\n\r\n"):rep(30),
        "HTTP/1.1 200 OK\r\n" .. ("X: y\r\n"):rep(200) .. "\r\n", "HTTP/1.1 200 OK\r\nX: " ..
          ("x"):rep(70000) } do
        fails("EPROTO", ask { url = canned { text }, timeout = 10 })
      end
      for _, text in ipairs { body(("x"):rep(11)), "HTTP/1.1 200 OK\r\n\r\n" .. ("x"):rep(11),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nB\r\n01234567890\r\n0\r\n\r\n" } do
        fails("EMSGSIZE", ask { url = canned { text }, max_body = 10, timeout = 10 })
      end
    ]]
  end)

  it("returns an error for a response that is cut off", function()
    inside [[
      for _, text in ipairs { "", "HTTP/1.1 200 OK\r\nX", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n" } do
        fails("EPIPE", ask { url = (canned({ text }, { true })), timeout = 10 })
      end
      fails("ECONNREFUSED", ask("http://127.0.0.1:1/"))
      fails("EAI_NONAME", ask("http://no-such-host.invalid/"))
    ]]
  end)

  it("gives up when the time is over, wherever it is", function()
    inside [[
      local function wait() lunad.sleep(60) end
      for _, text in ipairs { wait, "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab" } do
        local result, err, code = ask { url = canned { text }, timeout = 0.1 }
        fails("ETIMEDOUT", result, err, code)
        truthy(err:find "127.0.0.%d:%d+/ has not answered within 0.1 s", err)
      end
      local dripped = canned { function(stream)
        stream:write "HTTP/1.1 200 OK\r\n\r\n"
        while stream:write "x" do lunad.sleep(0.01) end
      end }
      fails("ETIMEDOUT", ask { url = dripped, timeout = 0.2 })
    ]]
  end)

  it("follows redirects of all kinds", function()
    inside [[
      local other = canned { body "there" }
      for _, case in ipairs { { "/a/b", "/x/y?z", "/x/y?z" }, { "/a/b", "c", "/a/c" }, { "/a/b/", "../c?d",
        "/a/c?d" },
        { "/a?b", "?c", "/a?c" }, { "/a/b", "./../../../c", "/c" }, { "/a", "#top", "/a" }, { "/a", "",
          "/a" } } do
        local url, requests = canned { redirect(302, case[2]), body "here" }
        local response = ask(url .. case[1])
        equal("here", response.body)
        equal(url .. case[3], response.url)
        equal(case[3], requests[2]:match "^GET (%S+)")
      end
      equal("there", ask((canned { redirect(301, other) })).body)
      equal(301, ask { url = canned { redirect(301, other) }, redirects = 0 }.status)
      equal(300, ask(canned { "HTTP/1.1 300 M\r\nLocation: /\r\nContent-Length: 0\r\n\r\n" }).status)
      equal(302, ask(canned { "HTTP/1.1 302 F\r\nContent-Length: 0\r\n\r\n" }).status)
    ]]
  end)

  it("keeps or changes the method of a redirect as browsers do", function()
    inside [[
      for status, methods in pairs { [301] = "GET PUT HEAD", [302] = "GET PUT HEAD", [303] = "GET GET HEAD",
        [307] = "POST PUT HEAD", [308] = "POST PUT HEAD" } do
        local expected = methods:gmatch "%u+"
        for _, method in ipairs { "POST", "PUT", "HEAD" } do
          local url, requests = canned { redirect(status, "/b"), body "" }
          if method == "HEAD" then url, requests = canned { redirect(status, "/b"),
            "HTTP/1.1 200 OK\r\n\r\n" } end
          ask { url = url, method = method, body = method ~= "HEAD" and "data" or nil,
            headers = { ["Content-Type"] = "text/x", ["X-Y"] = "z" } }
          local want = expected()
          equal(want, requests[2]:match "^%u+")
          truthy(requests[2]:find "X%-Y: z")
          equal(want ~= "GET" and want ~= "HEAD", requests[2]:find "\n\ndata$" ~= nil)
          equal(want ~= "GET", requests[2]:find "text/x" ~= nil)
        end
      end
    ]]
  end)

  it("tells another server no secrets, and the same one again", function()
    inside [[
      local secrets = { Authorization = "a", Cookie = "b", ["X-Other"] = "c" }
      local other, requests = canned { body "" }
      ask { url = canned { redirect(302, other) }, headers = secrets }
      truthy(requests[1]:find "X%-Other: c")
      truthy(not requests[1]:find "Authorization" and not requests[1]:find "Cookie")
      local same, again = canned { redirect(302, "/x"), body "" }
      ask { url = same, headers = secrets }
      truthy(again[2]:find "Authorization: a" and again[2]:find "Cookie: b")
      local other2, requests2 = canned { body "" }
      ask((canned { redirect(302, other2) }):gsub("//", "//u:p@"))
      truthy(not requests2[1]:find "Authorization")
    ]]
  end)

  it("does not follow redirects for ever, nor to strange places", function()
    inside [[
      local texts = {}
      for i = 1, 20 do texts[i] = redirect(302, "/" .. i) end
      local url, requests = canned(texts)
      fails("ELOOP", ask(url))
      equal(11, #requests)
      for _, place in ipairs { "ftp://x/", "file:///etc/passwd", "http://", "http://[x/", "javascript:1",
        "/a b" } do
        fails("EPROTO", ask(canned { redirect(302, place) }))
      end
    ]]
  end)

  it("keeps connections, and sends again what a closed one has not answered", function()
    inside [[
      local texts = {}
      for i = 1, 20 do texts[i] = body(tostring(i)) end
      local ends = { [5] = true }
      local url, requests = canned(texts, ends)
      for i = 1, 4 do equal(tostring(i), ask(url).body) end
      equal(1, requests.connections)
      equal("5", ask(url).body) -- then the server closes it
      equal("6", ask(url).body)
      equal(2, requests.connections)
      texts[7] = function(stream) stream:close() end -- closed without an answer: it is sent again
      equal("8", ask(url).body)
      equal(3, requests.connections)
      equal("9", ask { url = url, body = "x" }.body) -- never on a kept one, as it could not be sent again
      equal(4, requests.connections)
      equal("10", ask { url = url, body = "x", headers = { ["Idempotency-Key"] = "1" } }.body)
      equal(4, requests.connections)
      equal("11", ask { url = url, headers = { Connection = "close" } }.body)
      equal("12", ask(url).body)
      local before = #requests
      texts[before + 1] = function(stream) stream:write "HTTP/1.1 2" stream:close() end
      fails("EPIPE", ask(url)) -- something had come: it may have been served
    ]]
  end)

  it("keeps no connection on which more comes than the response", function()
    inside [[
      local url, requests = canned { body "a" .. "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        body "b" }
      equal("a", ask(url).body)
      equal("b", ask(url).body)
      equal(2, requests.connections)
    ]]
  end)

  it("does not keep a script alive, nor a generation, by the connections that it keeps", function()
    local port = http.start(box, "serve(function() return 200, 'x' end)")
    local ask = ([[
      local function ask() return assert(http.request "http://127.0.0.1:%d/").body end
    ]]):format(port)
    local result = box:run({ "run", "-e", 'local http = require "lunad.http" ' .. ask ..
      "print(ask() .. ask())" })
    assert.equal(0, result.code)
    assert.equal("xx\n", result.out)
    box:start(box:write("c.lua", support.BEAT .. 'local http = require "lunad.http" ' .. ask ..
      "print(ask())"))
    box:ok("reload", "c")
    support.wait_for("the end of the old one", function() return #box:status("c").retiring == 0 end)
  end)

  it("refuses wrong arguments", function()
    box:inside [[
      local ask = require("lunad.http").request
      raises("bad argument #1 to 'request' (table expected, got number)", ask, 5)
      raises("option 'url': string expected, got nil", ask, {})
      raises("unknown option 'ulr'", ask, { ulr = "http://x/" })
      raises("option 'timeout'", ask, { url = "http://x/", timeout = -1 })
      raises("option 'max_body'", ask, { url = "http://x/", max_body = -1 })
      raises("option 'method': 'A B' cannot be asked for", ask, { url = "http://x/", method = "A B" })
      raises("option 'headers': the field 'X' has a control character", ask,
        { url = "http://x/", headers = { X = "a\r\nY: b" } })
      raises("'X\\x0AY' is not the name of a field", ask, { url = "http://x/", headers = { ["X\nY"] = "b" } })
      raises("the field 'content-length' is set by http.request", ask,
        { url = "http://x/", headers = { ["content-length"] = 1 } })
      for _, url in ipairs { "", "x", "/x", "http:/x", "http://", "ftp://x/", "http://a b/",
        "http://x:99999/",
        "http://x:1:2/", "http://a\r\nb/", "http://x/\0" } do
        raises("is not a URL: it ", ask, url)
      end
      local task = coroutine.wrap(function() return pcall(ask, "http://127.0.0.1:1/") end)
      truthy(select(2, task()):find "it cannot suspend here")
    ]]
  end)
end)

describe("A response that ends too early", function()
  local box = support.with_box(before_each, after_each)

  it("is an error that names what was asked", function()
    box:inside [[
      local net, http = require "lunad.net", require "lunad.http"
      local head = "HTTP/1.1 200 OK\r\n"
      for _, rest in ipairs { "Content-Length: 9\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n9\r\nab" } do
        local server = truthy(net.serve("127.0.0.1:0", function(s)
          s:read "line"
          s:write(head, rest)
          s:read(40)
        end))
        local url = "http://" .. server:address() .. "/x"
        local response, err, code = http.request(url)
        fails("EPIPE", response, err, code)
        truthy(err:find(url .. ": the response ended before its end", 1, true), err)
        server:close()
      end
      lunad.stop()
    ]]
  end)
end)

describe("http.parse_query and http.encode", function()
  local box = support.with_box(before_each, after_each)

  it("take a query apart, and make a part of one", function()
    box:inside [[
      local http = require "lunad.http"
      local query = http.parse_query "a=1&b=%26+x&a=2&c&=d&%zz=100%&e=f=g"
      equal("1", query.a)
      equal("& x", query.b)
      equal("", query.c)
      equal("d", query[""])
      equal("100%", query["%zz"])
      equal("f=g", query.e)
      equal("a%20%26%2F%C3%A4-._~", http.encode "a &/ä-._~")
      equal("a &/ä", http.parse_query("x=" .. http.encode "a &/ä").x)
      for name, words in pairs { parse_query = "got nil", encode = "got nil" } do
        local err = raises(("bad argument #1 to '%s' (string expected, %s)"):format(name, words), http[name])
        truthy(not err:find "^lunad/", err)
      end
    ]]
  end)
end)

describe("HTTPS", function()
  local box = support.with_box(before_each, after_each)
  local has_luasec = pcall(require, "ssl")

  local function inside(text)
    if not has_luasec then
      pending "LuaSec is not installed (Debian: lua-sec)"
      return
    end
    local made = box:shell([[
      cd "$2" && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout x.key \
        -out x.pem -days 30 -subj "/CN=x" -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" 2>&1
    ]], { box.dir })
    assert.equal(0, made.code, made.out)
    box:inside(("local D = %q "):format(box.dir .. "/") .. [[
      local http = require "lunad.http"
      local tls, trust = { cert = D .. "x.pem", key = D .. "x.key" }, { ca = D .. "x.pem" }
    ]] .. text .. " lunad.stop()")
  end

  it("is served and asked for, with connections that are kept", function()
    inside [[
      local peers = {}
      local server = assert(http.serve("127.0.0.1:0", function(request)
        peers[#peers + 1] = request.peer
        if request.path == "/written" then
          return 200, function(write) write "a" lunad.sleep(0.01) write "b" end
        end
        local fields = request.path == "/close" and { Connection = "close" } or nil
        return 200, request.method .. request.body, fields
      end, { tls = tls, max_body = 3000000 }))
      local url = "https://" .. server:address()
      equal("GET", truthy(http.request { url = url, tls = trust }).body)
      local long = ("x"):rep(2000000)
      equal("PUT" .. long, truthy(http.request { url = url, tls = trust, method = "PUT", body = long }).body)
      equal(peers[1], peers[2])
      equal("ab", truthy(http.request { url = url .. "/written", tls = trust }).body)
      equal("GET", truthy(http.request { url = url .. "/close", tls = trust }).body)
      equal("GET", truthy(http.request { url = url .. "/close", tls = trust }).body)
      equal(peers[1], peers[4])
      truthy(peers[5] ~= peers[4])
    ]]
  end)

  it("is not what is asked of a server that cannot be trusted", function()
    inside [[
      local server = assert(http.serve("127.0.0.1:0", function() return 200 end, { tls = tls }))
      local url = "https://" .. server:address()
      fails("EPROTO", http.request(url))
      equal(200, truthy(http.request { url = url, tls = { verify = false } }).status)
      fails("EPIPE", http.request { url = url:gsub("https", "http"), timeout = 10 })
      raises("unknown", http.request, { url = url, tls = { verfy = false } })
    ]]
  end)

  it("is never left for HTTP by a redirect", function()
    inside [[
      local asked = 0
      local plain = assert(http.serve("127.0.0.2:0", function() asked = asked + 1 return 200 end))
      local server = assert(http.serve("127.0.0.1:0", function()
        return 302, nil, { Location = "http://" .. plain:address() }
      end, { tls = tls }))
      fails("EPROTO", http.request { url = "https://" .. server:address(), tls = trust })
      equal(0, asked)
    ]]
  end)
end)

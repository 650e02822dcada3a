local http = require "support.http"
local support = require "support"

-- A server that counts the requests it is given, and shows the count.
local COUNT = [[
  local count = 0
  serve(function(request)
    count = count + 1
    return 200, ("%d %s %s"):format(count, request.path, request.body)
  end, { max_body = 1000, max_head = 2000, head_timeout = 5 })
]]

local HOST = "Host: x\r\n"

describe("http.serve", function()
  local box = support.with_box(before_each, after_each)
  local port

  before_each(function() port = http.start(box, COUNT) end)

  -- Check that each text is refused, and that none of them has reached the function.
  local function refused(status, texts)
    for _, text in ipairs(texts) do
      http.refused(port, status, text)
    end
    assert.matches("\r\n\r\n1 / $", http.exchange(port, "GET / HTTP/1.0\r\n\r\n"))
  end

  it("refuses what is not the line of a request", function()
    refused(400, {
      "\0\1\2\r\n\r\n",
      "\22\3\1\2\0\1\0\1\252\3\3", -- the first bytes of TLS
      "GET\r\n\r\n",
      "GET /\r\n\r\n", -- HTTP/0.9
      "GET / \r\n\r\n",
      "GET  / HTTP/1.1\r\n" .. HOST .. "\r\n",
      "GET /  HTTP/1.1\r\n" .. HOST .. "\r\n",
      "GET\t/ HTTP/1.1\r\n" .. HOST .. "\r\n",
      " GET / HTTP/1.1\r\n" .. HOST .. "\r\n",
      "GET / HTTP/1.1 \r\n" .. HOST .. "\r\n",
      "GET / http/1.1\r\n" .. HOST .. "\r\n",
      "GET / HTTP/1\r\n" .. HOST .. "\r\n",
      "GET / HTTP/11.1\r\n" .. HOST .. "\r\n",
      "GET / HTTP/1.10\r\n" .. HOST .. "\r\n",
      "GET / HTTP/+1.1\r\n" .. HOST .. "\r\n",
      "GET / HTPP/1.1\r\n" .. HOST .. "\r\n",
      "G@T / HTTP/1.1\r\n" .. HOST .. "\r\n",
      "G\195\132T / HTTP/1.1\r\n" .. HOST .. "\r\n",
      "\r\n\r\nGET / HTTP/1.1\r\n" .. HOST .. "\r\n",
      "\rGET / HTTP/1.1\r\n" .. HOST .. "\r\n",
    })
  end)

  it("refuses targets that are not valid", function()
    local texts = {}
    for _, target in ipairs {
      "x", "x/y", "*", "/a b", "/a\tb", "/a\0b", "/a\127", "/\195\164", "/a#b", "/%", "/%2", "/%zz", "/%00",
      "/..", "/../etc/passwd", "/a/../../b", "/%2e%2e/x", "/a/%2e%2e/..", "http://", "http:///x", "ftp://x/",
      "http://u@x/", "http://x y/", "x:80",
    } do
      texts[#texts + 1] = ("GET %s HTTP/1.1\r\n%s\r\n"):format(target, HOST)
    end
    texts[#texts + 1] = "GET http://a,b;:x/ HTTP/1.1\r\n" .. HOST .. "\r\n"
    refused(400, texts)
  end)

  it("refuses versions that it does not speak, and methods that it cannot serve", function()
    http.refused(port, 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    http.refused(port, 505, "GET / HTTP/2.0\r\n" .. HOST .. "\r\n")
    http.refused(port, 505, "GET / HTTP/0.9\r\n\r\n")
    http.refused(port, 501, "CONNECT x:443 HTTP/1.1\r\n" .. HOST .. "\r\n")
  end)

  it("refuses lines that are not fields", function()
    local texts = {}
    for _, line in ipairs {
      "broken", ": x", "X : y", "X\t: y", " X: y", "\tX: y", "X\0: y", "X: a\0b", "X: a\rb", "X: a\127b",
      "X: a\1b",
      "X: \27[31m", "(x): y", "X;: y", "X\195\164: y", "\"X\": y", "X: a\r\n b", "X: a\r\n\tb", "X: a\r\n ",
      "X: a\11b", "X: a\12b", "X", "Host: y", "host: x", "\r: x",
    } do
      texts[#texts + 1] = ("GET / HTTP/1.1\r\n%s%s\r\n\r\n"):format(HOST, line)
    end
    refused(400, texts)
  end)

  it("refuses lines that do not end with CR LF", function()
    refused(400, {
      "GET / HTTP/1.1\nHost: x\n\n",
      "GET / HTTP/1.1\n\n",
      "GET / HTTP/1.1\r\nHost: x\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\n\n",
      "GET / HTTP/1.1\r\nHost: x\r\nX: y\n\r\n\r\n",
      "GET / HTTP/1.1\rHost: x\r\r",
      "\n",
      "GET / HTTP/1.1\r\nHost: x\r\n\rX: y\r\n\r\n",
    })
  end)

  it("refuses requests without one valid Host", function()
    local texts = { "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nX: y\r\n\r\n",
      "GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n" }
    for _, host in ipairs { "x y", "x/y", "x:y", "x@y", "x,y z", "[::1", "[x]", "::1", "x\\y", "x#", "x?",
      ("1"):rep(400) } do
      texts[#texts + 1] = ("GET / HTTP/1.1\r\nHost: %s\r\n\r\n"):format(host)
    end
    refused(400, texts)
  end)

  it("refuses bodies whose end could be found in two ways", function()
    local texts = {}
    for _, fields in ipairs {
      "Content-Length: 3\r\nContent-Length: 0", "Content-Length: 3\r\ncontent-length: 3",
      "Content-Length: 3, 3",
      "Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3",
      "Content-Length: +3", "Content-Length: -1", "Content-Length: 0x3", "Content-Length: 3x",
      "Content-Length:",
      "Content-Length: 1e1", "Content-Length: 3.0", "Content-Length: 3 3", "Content-Length: \"3\"",
      "Content-Length: 3\r\nContent-Length:",
    } do
      texts[#texts + 1] = ("POST / HTTP/1.1\r\n%s%s\r\n\r\nabcGET /smuggled HTTP/1.1\r\n%s\r\n"):format(HOST,
        fields, HOST)
    end
    refused(400, texts)
  end)

  it("refuses transfer codings whose end it cannot find, or that it does not know", function()
    local function post(coding, version)
      return ("POST / HTTP/%s\r\n%sTransfer-Encoding: %s\r\n\r\n0\r\n\r\n"):format(version or "1.1", HOST,
        coding) .. "GET /smuggled HTTP/1.1\r\n" .. HOST .. "\r\n"
    end
    refused(400, {
      post "identity", post "gzip", post "xchunked", post "chunked, identity", post "chunked, chunked",
      post "chunked\r\nTransfer-Encoding: chunked", post "chunked\r\nTransfer-Encoding: gzip", post "",
      post "\"chunked\"", post "chunked;q=1", post("chunked", "1.0"), post(("gzip, "):rep(50) .. "chunked"),
      post "chunk\1ed",
    })
    http.refused(port, 501, post "gzip, chunked")
    http.refused(port, 501, post "gzip\r\nTransfer-Encoding: chunked")
  end)

  it("refuses chunks that are not valid", function()
    local texts = {}
    for _, chunks in ipairs {
      "x\r\n", "\r\n", "-1\r\n", "+1\r\na\r\n", "0x1\r\na\r\n", " 1\r\na\r\n", "1 \r\na\r\n", "1\na\r\n",
      "1\ra\r\n", "1\r\nab\r\n0\r\n\r\n", "1\r\na0\r\n\r\n", "1\r\na\n0\r\n\r\n", "1;\1\r\na\r\n",
      "1,\r\na\r\n",
      "1\r\na\r\n\r\n",
      "0\r\nbroken\r\n\r\n", "0\r\n: x\r\n\r\n", "0\r\n folded\r\n\r\n", "0\n\n", "0\r\nX: y\n\n", "\0",
      "0\r\nX: \0\r\n\r\n",
    } do
      texts[#texts + 1] = "POST / HTTP/1.1\r\n" .. HOST .. "Transfer-Encoding: chunked\r\n\r\n" ..
        chunks .. "GET /smuggled HTTP/1.1\r\n" .. HOST .. "\r\n"
    end
    refused(400, texts)
  end)

  it("refuses what is too large before it is there", function()
    local post = "POST / HTTP/1.1\r\n" .. HOST
    for _, length in ipairs { "1001", "999999999999", "99999999999999999999999999", ("9"):rep(1000) } do
      http.refused(port, 413, post .. "Content-Length: " .. length .. "\r\n\r\n")
    end
    for _, size in ipairs { "3e9", "FFFFFFFF", "7FFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFF", "10000000000000000",
      ("F"):rep(500) } do
      http.refused(port, 413, post .. "Transfer-Encoding: chunked\r\n\r\n" .. size .. "\r\n")
    end
    http.refused(port, 413, post .. "Transfer-Encoding: chunked\r\n\r\n" ..
      ("64\r\n" .. ("x"):rep(100) .. "\r\n"):rep(11) .. "0\r\n\r\n")
  end)

  it("refuses heads that are too large", function()
    http.refused(port, 414, "GET /" .. ("x"):rep(2000) .. " HTTP/1.1\r\n" .. HOST .. "\r\n")
    http.refused(port, 414, "GET /" .. ("x"):rep(100000))
    http.refused(port, 431, "GET / HTTP/1.1\r\n" .. HOST .. "X: " .. ("x"):rep(2000) .. "\r\n\r\n")
    http.refused(port, 431, "GET / HTTP/1.1\r\n" .. HOST .. ("X: y\r\n"):rep(500))
    http.refused(port, 431, "GET / HTTP/1.1\r\n" .. HOST .. ("X: y\r\n"):rep(100) .. "\r\n")
    assert.matches("^HTTP/1.1 200 ", http.exchange(port,
      "GET / HTTP/1.1\r\n" .. HOST .. "Connection: close\r\n" .. ("X: y\r\n"):rep(98) .. "\r\n"))
  end)

  it("refuses extensions and trailers of chunks that are too large", function()
    local post = "POST / HTTP/1.1\r\n" .. HOST .. "Transfer-Encoding: chunked\r\n\r\n"
    http.refused(port, 431, post .. "1;" .. ("x"):rep(2000) .. "\r\na\r\n0\r\n\r\n")
    http.refused(port, 431, post .. ("1;" .. ("x"):rep(900) .. "\r\na\r\n"):rep(20) .. "0\r\n\r\n")
    http.refused(port, 431, post .. ("0"):rep(2000) .. "1\r\na\r\n")
    http.refused(port, 431, post .. "0\r\nX: " .. ("x"):rep(20000) .. "\r\n\r\n")
    http.refused(port, 431, post .. "0\r\n" .. ("X: y\r\n"):rep(101) .. "\r\n")
  end)

  it("refuses expectations that it cannot meet", function()
    http.refused(port, 417, "POST / HTTP/1.1\r\n" .. HOST .. "Content-Length: 3\r\nExpect: magic\r\n\r\nabc")
  end)

  it("takes none of it for another thing if it comes byte by byte", function()
    local function bytes(text)
      local list = {}
      for byte in text:gmatch "." do list[#list + 1] = byte end
      return table.unpack(list)
    end
    http.refused(port, 400, bytes "GET / HTTP/1.1\nHost: x\n\n")
    http.refused(port, 400, bytes "GET / HTTP/1.1\r\nHost : x\r\n\r\n")
    http.refused(port, 400, bytes("POST / HTTP/1.1\r\n" .. HOST ..
      "Transfer-Encoding: chunked\r\n\r\n1\r\nab"))
    assert.matches("\r\n\r\n1 /a b$", http.exchange(port, bytes("\r\nPOST /a HTTP/1.1\r\nHost: x\r\n" ..
      "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n001;x=\"y\"\r\nb\r\n0\r\nX: y\r\n\r\n")))
  end)

  it("serves what comes before, and nothing after", function()
    local good = "GET /%s HTTP/1.1\r\n" .. HOST .. "\r\n"
    local answers = http.answers(http.exchange(port, good:format "a" .. good:format "b" ..
      "GET / HTTP/1.1\r\nHost : x\r\n\r\n" .. good:format "c"))
    assert.equal(3, #answers)
    assert.equal("1 /a ", answers[1].body)
    assert.equal("2 /b ", answers[2].body)
    assert.equal(400, answers[3].status)
  end)

  it("spends on a bad head no more time than it is long", function()
    port = http.start_again(box, "serve(function() return 200 end, { max_head = 1000000 })")
    local before = support.cpu_of(box:status("s").pid)
    local long = (" "):rep(500000)
    http.refused(port, 400, "GET / HTTP/1.1\r\n" .. HOST .. "X:" .. long .. "\1\r\n\r\n")
    http.refused(port, 400, "GET / HTTP/1.1\r\n" .. HOST .. "X: a" .. long .. "b\1\r\n\r\n")
    http.refused(port, 400, "GET / HTTP/1.1\r\nHost: " .. ("1"):rep(500000) .. "@\r\n\r\n")
    http.refused(port, 400, "GET /" .. ("?"):rep(500000) .. "# HTTP/1.1\r\n" .. HOST .. "\r\n")
    http.refused(port, 400, "POST / HTTP/1.1\r\n" .. HOST .. "Transfer-Encoding: a" .. long .. "b\r\n\r\n")
    http.refused(port, 400, "GET / HTTP/1.1\r\n" .. HOST .. ("x"):rep(500000) .. "\r\n\r\n")
    assert.is_true(support.cpu_of(box:status("s").pid) - before < 3)
  end)
end)

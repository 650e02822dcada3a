-- One client of an HTTP server: its requests, one after the other, and their answers.
--
-- A connection has no task while nothing is to be done. When something has come, the task of the callback of
-- luv that brought it serves the requests, and ends.
--
--   state    what it waits for              when the time is up
--   idle     the first byte of a request    it is closed
--   head     the rest of a head             408
--   busy     nothing: requests are served   -
--   linger   the client ends, after the     it is closed
--            last answer

local core = ...

local head = core.load "http_head.lua"
local new_body = core.load "http_body.lua"
local reply = core.load "http_reply.lua"
local streams = core.load "stream.lua"

local byte, sub = string.byte, string.sub
local find_end, parse_request = head.find_end, head.parse_request
local send_data, fill, on_data = streams.write, streams.fill, streams.on_data
local now = core.now

local LINGER = 2 -- seconds for a client to take its last answer and to end
local BODY_RATE = 1000 -- bytes of a body that give the client another second
local PIECE = 65536 -- bytes that request:read returns at most

local QUIET = 0.3 -- seconds of silence after which nothing is on its way, most likely

local Connection = {}
Connection.__index = Connection

local OWN_FIELDS = { ["Content-Type"] = "text/plain" } -- of answers that the function has not given

-- Errors of the function

local trace, where -- of the last error; nil if memory ran out, as then no handler is called

-- Note where an error comes from. The handler of xpcall.
local function explain(err)
  where = core.where()
  trace = debug.traceback("", 2):gsub("^\n", "")
  trace = trace:match "^(.*)\n\t%[C%]: in function 'xpcall'" or trace -- the rest is our own
  local cause = core.cause(err, trace)
  trace = cause and trace .. "\n" .. cause or trace
  return err
end

-- Report what went wrong with a request, unless its task was cancelled.
local function report(err)
  local err_trace, err_where = trace, where
  trace, where = nil, nil
  if err == "cancelled" then
    error(err, 0)
  end
  core.report("a function of http.serve", err, err_trace, err_where)
end

-- Report that the function has returned what cannot be sent.
local function report_results(connection, words)
  local fn = connection.server.fn
  where = core.place(fn)
  trace = "stack traceback:\n\t" .. where .. ": in the function that http.serve was given"
  report("http.serve: " .. words)
end

-- Time

-- Close a connection at once.
local function close(connection)
  if connection.state ~= "closed" then
    connection.state = "closed"
    if connection.timer then
      connection.timer:stop()
    end
    connection.stream:close()
    connection.server:forget(connection)
  end
end

-- Wait for something until a time.
local function expect(connection, state, deadline)
  connection.state, connection.deadline = state, deadline
  if connection.due > deadline then
    connection.due = deadline
    local left = math.max(deadline - now(), 0)
    if connection.timer then
      connection.timer:again(left)
    else
      connection.timer = core.after(left, connection.on_timer, connection)
    end
  end
end

-- Writing

-- Send data; returns true, or nil if the client has gone or is too slow.
local function send(connection, data)
  if connection.state == "closed" then
    return nil, "EPIPE: broken pipe: the connection is closed", "EPIPE"
  end
  local ok, words, code = send_data(connection.stream, data)
  if ok then
    return true
  end
  close(connection)
  return nil, words, code
end

-- Whether nothing is left of the body of the request, which would be taken for the next request.
local function is_read(connection)
  return not connection.body or connection.body:is_over()
end

-- Wait until the client ends the connection; what else it sends is dropped.
local function wait_for_end(connection)
  local stream = connection.stream
  stream.buffer = ""
  if stream.ended or connection.state == "closed" then
    close(connection)
  else
    on_data(stream, function() wait_for_end(connection) end)
  end
end

-- End a connection after its last answer: announce the end, and let the client close it. If it were closed
-- while the client still sends, the client could lose the answer.
local function finish(connection)
  if connection.state == "closed" then
    return
  end
  local stream = connection.stream
  local is_done = is_read(connection) and connection.at > #stream.buffer
  expect(connection, "linger", now() + (is_done and connection.server.is_stopping and QUIET or LINGER))
  if not stream:shutdown() and is_done then
    close(connection) -- TLS has no end of one side alone
  end
  if connection.state ~= "closed" then
    wait_for_end(connection)
  end
end

-- Answer what is not a request that can be served, and end the connection.
local function refuse(connection, status, words, request)
  connection.state = "busy"
  local data = reply.refusal(status, words)
  if request and request.method == "HEAD" then
    data = reply.without_body(data)
  end
  if send(connection, data) then
    finish(connection)
  end
end

-- The time is up, or was before more came.
function Connection.on_timer(connection)
  local state = connection.state
  connection.due = math.huge
  if state == "busy" or state == "closed" then
    return
  elseif connection.deadline > now() then
    expect(connection, state, connection.deadline)
  elseif state == "head" then
    refuse(connection, 408, "the head has not come within the time for it")
  else
    close(connection)
  end
end

-- Bodies of requests

-- Wait for more of a body.
local function wait_body(connection)
  local stream = connection.stream
  if connection.state == "closed" then
    return nil, "EPIPE: broken pipe: the connection is closed", "EPIPE"
  end
  if connection.expects then
    connection.expects = false
    if not send(connection, "HTTP/1.1 100 Continue\r\n\r\n") then
      return nil
    end
  end
  local server, body = connection.server, connection.body
  local begun = now()
  local left = server.body_timeout + body.got / BODY_RATE - connection.waited
  local ok, words, code = fill(stream, math.max(left, 0))
  connection.waited = connection.waited + (now() - begun)
  return ok, words, code
end

-- Begin with the body of a request; returns true, or nil, status, words.
local function begin_body(connection, request, length)
  local server = connection.server
  if length ~= "chunked" and length > server.max_body then
    return nil, 413, ("the body has more than %.0f bytes"):format(server.max_body)
  end
  local expectation = request.headers.expect
  if expectation and expectation:lower() ~= "100-continue" then
    return nil, 417, "only 100-continue can be expected"
  end
  local stream = connection.stream
  stream.buffer, connection.at = sub(stream.buffer, connection.at), 1
  connection.expects = expectation and request.version == "1.1" and stream.buffer == ""
  connection.waited = 0
  connection.body = new_body(stream, length, server.max_body, wait_body, connection)
  return true
end

-- The status that answers what is wrong with a body, or nil if no client is there to be answered.
local function status_of(code)
  return type(code) == "number" and code or code == "ETIMEDOUT" and 408 or nil
end

-- Read the body of a request before it is served; returns true, or nil if the connection is over.
local function read_body(connection, request)
  local text, words, code = connection.body:read_all()
  if text then
    request.body = text
    return true
  end
  local status = status_of(code)
  if status then
    refuse(connection, status, words, request)
  else
    close(connection)
  end
end

-- A request whose body is not read for it: it has `read`.
local Request = {}
Request.__index = Request

local connections = setmetatable({}, { __mode = "k" }) -- request -> connection

-- request:read([n | "all"]) -> data | nil (the end) | nil, error, code
function Request:read(what)
  local connection = connections[self]
  local size = what == nil and PIECE or what ~= "all" and type(what) == "number" and math.tointeger(what)
  if not connection then
    core.raise "read: this request has been answered"
  elseif what ~= "all" and (not size or size < 1) then
    core.raise "bad argument #1 to 'read' (a number of bytes above 0 or \"all\" expected)"
  end
  local body = connection.body
  if not body then
    return what == "all" and "" or nil
  end
  local data, words, code
  if what == "all" then
    data, words, code = body:read_all()
  else
    data, words, code = body:read(size)
  end
  if words and type(code) == "number" then
    connection.broken = code
    return nil, "EPROTO: protocol error: " .. words, "EPROTO"
  end
  return data, words, code
end

-- Serving

-- Call the function with a request; returns status, body, headers, or 500 after an error.
local function call(connection, request)
  local ok, status, body, headers = xpcall(connection.server.fn, explain, request)
  if ok then
    return status, body, headers
  end
  report(status)
  return 500, reply.text(500), OWN_FIELDS
end

-- Send a body that a function writes, after its head. Returns whether all has gone well.
local function send_written(connection, answer)
  local is_over, sent, size = false, false, 0
  local begin, is_chunked, length = answer.head, answer.is_chunked, answer.length
  local function write(...)
    local data = streams.join(...)
    if is_over then
      core.raise "write: this response is over"
    elseif data == "" then
      return true
    end
    size = size + #data
    if length and size > length then
      core.raise(("write: more than the Content-Length of %d bytes"):format(length))
    end
    if is_chunked then
      data = ("%x\r\n%s\r\n"):format(#data, data)
    end
    if not sent then
      sent, data = true, begin .. data
    end
    return send(connection, data)
  end
  local ok, err = xpcall(answer.body, explain, write)
  is_over = true
  if not ok then
    report(err)
    if not sent then
      answer.is_kept = false
      send(connection, reply.refusal(500))
    else
      core.reset_at_close(connection.stream.handle:fileno()) -- the client must see that something is missing
      close(connection)
    end
    return
  elseif length and size < length then
    report_results(connection, ("the body has %d bytes, its Content-Length says %d"):format(size, length))
    return close(connection)
  end
  send(connection, (sent and "" or begin) .. (is_chunked and "0\r\n\r\n" or ""))
end

-- Whether the client may send another request: a generation that has been replaced, or a service that stops,
-- serves only what its clients have sent already.
local function is_welcome(connection)
  return not connection.server.is_ending or connection.at <= #connection.stream.buffer
end

-- Call the function, and send what it returns; returns whether the connection continues.
local function answer(connection, request, is_kept)
  local status, body, headers = call(connection, request)
  -- The function that writes a body may read that of the request, which then is over later.
  is_kept = is_kept and is_welcome(connection) and (type(body) == "function" or is_read(connection))
  if connection.broken then
    status, body, headers, is_kept = connection.broken, reply.text(connection.broken), OWN_FIELDS, false
  end
  local data = reply.simple(request, status, body, headers, is_kept)
  if data then
    return send(connection, data) and is_kept
  end
  local made, words = reply.make(request, status, body, headers, is_kept)
  if not made then
    report_results(connection, words)
    made = reply.make(request, 500, reply.text(500), OWN_FIELDS, is_kept)
  end
  if made.body then
    send_written(connection, made)
    return made.is_kept and is_read(connection)
  end
  return send(connection, made.head) and made.is_kept
end

-- Serve one request; returns whether the connection continues.
local function serve_one(connection, request, length, is_kept)
  request.peer = connection.stream.address
  connection.body, connection.broken = nil, nil
  if length ~= 0 then
    local ok, status, words = begin_body(connection, request, length)
    if not ok then
      refuse(connection, status, words, request)
      return false
    end
  end
  if not connection.server.is_streaming then
    if connection.body and not read_body(connection, request) then
      return false
    end
    return answer(connection, request, is_kept)
  end
  setmetatable(request, Request)
  connections[request] = connection
  request.body = nil
  local goes_on = answer(connection, request, is_kept)
  connections[request] = nil
  return goes_on
end

-- Skip an empty line before a request, which some clients send after a body; returns where the request
-- begins, or nil if more must come first.
local function skip_line(connection, text, at)
  if byte(text, at) == 13 and not connection.has_skipped then
    if at == #text then
      return nil
    elseif byte(text, at + 1) == 10 then
      connection.has_skipped = true
      return at + 2
    end
  end
  return at
end

-- Serve the requests that have come; returns whether more can come.
local function serve_all(connection)
  local stream, server = connection.stream, connection.server
  while true do
    local text = stream.buffer
    local at = skip_line(connection, text, connection.at)
    if not at or at > #text then
      connection.at = at or connection.at
      return true
    end
    local stop, searched, status, words = find_end(text, at, connection.searched or 1, server.max_head)
    if not stop then
      connection.at, connection.searched = at, searched
      if status then
        refuse(connection, status, words)
      end
      return not status
    end
    local request, length, is_kept = parse_request(text, at, stop)
    if not request then
      refuse(connection, length, is_kept)
      return false
    end
    connection.at = stop + 2
    connection.searched, connection.has_skipped, connection.head_deadline = nil, nil, nil
    if not serve_one(connection, request, length, is_kept) then
      finish(connection)
      return false
    end
  end
end

-- Drop what has been served, and wait for more.
local function wait_for_more(connection)
  local stream, server, at = connection.stream, connection.server, connection.at
  if at > #stream.buffer then
    stream.buffer = ""
  elseif at > 1 then
    stream.buffer = sub(stream.buffer, at)
    connection.searched = connection.searched and math.max(connection.searched - at + 1, 1)
  end
  connection.at = 1
  if stream.ended then
    return close(connection)
  elseif stream.buffer == "" then
    connection.head_deadline, connection.body = nil, nil
    expect(connection, "idle", now() + (server.is_stopping and QUIET or server.idle))
  else
    connection.head_deadline = connection.head_deadline or now() + server.head_timeout
    expect(connection, "head", connection.head_deadline)
  end
  on_data(stream, connection.serve)
end

-- A task that is interrupted sees no error, and leaves the connection busy.
function Connection:__close()
  if self.state == "busy" then
    close(self)
  end
end

-- Serve what has come.
local function serve(connection)
  if connection.state == "closed" then
    return
  end
  local guarded <close> = connection
  connection.state = "busy"
  if serve_all(guarded) then
    wait_for_more(connection)
  end
end

-- Begin with the client of a stream.
local function begin(server, stream)
  local connection = setmetatable({
    server = server, stream = stream, state = "idle", due = math.huge, deadline = 0, at = 1, timer = false,
    serve = false,
  }, Connection)
  stream.idle = server.write_timeout
  stream:peer() -- while it is connected
  connection.serve = function() serve(connection) end
  server:note(connection)
  wait_for_more(connection)
end

-- Whether the next generation can continue with a connection: no request of it is being served.
local function is_movable(connection)
  return connection.state == "idle" or connection.state == "head"
end

-- Go on with a connection whose server ends: the timers of a generation that was replaced have been closed,
-- and a service that stops does not wait for idle clients.
local function end_soon(connection)
  local state, deadline = connection.state, connection.deadline
  connection.timer, connection.due = false, math.huge
  if connection.stream.moved then
    return close(connection)
  end
  if state == "idle" and connection.server.is_stopping then
    deadline = deadline - connection.server.idle + QUIET
  elseif state == "head" and connection.server.is_stopping then
    deadline = math.min(deadline, now() + LINGER)
  end
  if state ~= "busy" and state ~= "closed" then
    expect(connection, state, deadline)
  end
end

return { begin = begin, is_movable = is_movable, end_soon = end_soon }

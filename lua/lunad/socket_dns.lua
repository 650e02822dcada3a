-- Names for lunad.socket, with LuaSocket's results and messages. luv asks in a thread of its own.

local core = ...

local timeout = core.load("branches.lua").timeout

-- What LuaSocket says, by the code of libuv.
local messages = {
  EAI_ADDRFAMILY = "Address family for hostname not supported",
  EAI_AGAIN = "temporary failure in name resolution",
  EAI_BADFLAGS = "invalid value for ai_flags",
  EAI_BADHINTS = "invalid value for hints",
  EAI_FAIL = "non-recoverable failure in name resolution",
  EAI_FAMILY = "ai_family not supported",
  EAI_MEMORY = "memory allocation failure",
  EAI_NODATA = "No address associated with hostname",
  EAI_NONAME = "host or service not provided, or not known",
  EAI_OVERFLOW = "argument buffer overflow",
  EAI_PROTOCOL = "resolved protocol is unknown",
  EAI_SERVICE = "service not supported for socket type",
  EAI_SOCKTYPE = "ai_socktype not supported",
}

-- The same for the older functions of the C library, which toip and tohostname show.
local host_messages = {
  EAI_ADDRFAMILY = "host not found", EAI_AGAIN = "Host name lookup failure",
  EAI_FAIL = "Unknown server error", EAI_NODATA = "No address associated with name",
  EAI_NONAME = "host not found",
}

local Request = {}

-- A task that is cancelled, or whose time is up, gives up the question unless a thread is at it already.
function Request.__close(request)
  if request.request and not request.is_over then
    require("luv").cancel(request.request)
  end
end

-- Ask luv: the answer, or nil and the code of an error.
local function ask(name, ...)
  local request <close> = setmetatable({}, Request)
  local arguments = table.pack(...)
  local err, answer, service = core.await(function(done)
    arguments[arguments.n + 1] = done
    local begun, _, code = require("luv")[name](table.unpack(arguments, 1, arguments.n + 1))
    request.request = begun
    if not begun then -- a name that cannot be one
      done(code == "EINVAL" and "EAI_NONAME" or code)
    end
  end)
  request.is_over = true
  if err then
    return nil, err
  end
  return answer, service
end

-- The same, for at most `seconds` (nil: as long as it takes); the code of an error is "ETIMEDOUT" then.
local function ask_within(seconds, ...)
  if not seconds then
    return ask(...)
  end
  local answer, err, code = timeout(seconds, ask, ...)
  return answer, code or err
end

local function is_ip4(text)
  local a, b, c, d = text:match "^(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)$"
  return a and tonumber(a) < 256 and tonumber(b) < 256 and tonumber(c) < 256 and tonumber(d) < 256
end

-- How many groups of an IPv6 address a text has, which may end with an IPv4 address; nil if it is none.
local function count_groups(text)
  local count, rest = 0, text
  while rest ~= "" do
    local group, after = rest:match "^(%x%x?%x?%x?)(.*)$"
    if is_ip4(rest) then
      return count + 2
    elseif not group or after ~= "" and not after:find "^:." then
      return nil
    end
    count, rest = count + 1, after:sub(2)
  end
  return count
end

local function is_ip6(text)
  local head, tail = text:match "^([^%%]*)::([^%%]*)"
  local before, after = count_groups(head or text:match "^[^%%]*"), count_groups(tail or "")
  return before and after and (head and before + after < 8 or not head and before == 8)
end

-- Whether an address needs no resolver.
local function is_address(text)
  return is_ip4(text) or is_ip6(text)
end

-- The addresses of a host and a port or service, as a list of { addr =, port =, family = }; or nil and
-- LuaSocket's message. `limits`: family, socktype, seconds, passive.
local function resolve(host, service, limits, method)
  if is_address(host) then
    return { { addr = host, port = service } }
  end
  core.check_task(method)
  local hints = { socktype = limits.socktype, family = limits.family, passive = limits.passive }
  local list, code = ask_within(limits.seconds, "getaddrinfo", host, service, hints)
  if not list then
    return nil, code == "ETIMEDOUT" and "timeout" or messages[code] or code
  end
  return list
end

-- Check an argument of a function of this module.
local function check_text(value, name)
  if type(value) ~= "string" and type(value) ~= "number" then
    core.raise(("bad argument #1 to '%s' (string expected, got %s)"):format(name,
      value == nil and "no value" or type(value)))
  end
  return tostring(value)
end

local dns = {}

-- dns.getaddrinfo(host) -> list of { family =, addr = } | nil, error
function dns.getaddrinfo(host)
  host = check_text(host, "getaddrinfo")
  core.check_task "getaddrinfo"
  local list, code = ask("getaddrinfo", host, nil, { socktype = "stream" })
  if not list then
    return nil, messages[code] or code
  end
  local found = {}
  for i, entry in ipairs(list) do
    found[i] = { family = entry.family, addr = entry.addr }
  end
  return found
end

-- dns.getnameinfo(host, service) -> list of names [, name of the service] | nil, error
function dns.getnameinfo(host, service)
  if host == nil and service == nil then
    core.raise "host and serv cannot be both nil"
  end
  core.check_task "getnameinfo"
  local list, code = ask("getaddrinfo", host, service and tostring(service), { socktype = "stream" })
  if not list then
    return nil, messages[code] or code
  end
  local names, service_name = {}, nil
  for i, entry in ipairs(list) do
    local name, known_as = ask("getnameinfo", { ip = entry.addr, port = entry.port, family = entry.family })
    if host ~= nil then
      names[i] = name or entry.addr
    end
    service_name = name and known_as or service_name
  end
  if service ~= nil then
    return names, service_name
  end
  return names
end

-- What is known of an IPv4 address: { name =, ip =, alias = }, or nil and an error.
local function find_address(ip)
  local name, code = ask("getnameinfo", { ip = ip, family = "inet" })
  if not name or name == ip then -- its number is all that is known of it
    return nil, name and "host not found" or host_messages[code] or code
  end
  return { name = name, ip = { ip }, alias = {} }
end

-- The same for a name.
local function find_name(host)
  local list, code = ask("getaddrinfo", host, nil, { socktype = "stream", family = "inet", canonname = true })
  if not list then
    return nil, host_messages[code] or code
  end
  local found = { name = list[1].canonname or host, ip = {}, alias = {} }
  for i, entry in ipairs(list) do
    found.ip[i] = entry.addr
  end
  return found
end

local function find(host, name)
  host = check_text(host, name)
  core.check_task(name)
  return (is_ip4(host) and find_address or find_name)(host)
end

-- dns.toip(host) -> address, { name =, ip =, alias = } | nil, error
function dns.toip(host)
  local found, err = find(host, "toip")
  if not found then
    return nil, err
  end
  return found.ip[1], found
end

-- dns.tohostname(host) -> name, { name =, ip =, alias = } | nil, error
function dns.tohostname(host)
  local found, err = find(host, "tohostname")
  if not found then
    return nil, err
  end
  return found.name, found
end

return { resolve = resolve, functions = dns }

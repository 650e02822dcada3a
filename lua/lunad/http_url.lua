-- URLs of http and https, taken apart and resolved (RFC 3986).

local core = ...

local target = core.load "http_target.lua"

local PORTS = { http = 80, https = 443 }

-- Take host and port apart; nil if they are not valid.
local function parse_authority(text, scheme)
  local host, port = text:match "^(%[[%x:.]+%]):?(%d*)$"
  if not host then
    host, port = text:match "^([%w._~-]+):?(%d*)$"
  end
  if not host or #port > 5 then
    return nil
  end
  port = port == "" and PORTS[scheme] or tonumber(port)
  if port > 65535 then
    return nil
  end
  return host:lower(), port
end

-- Take a URL apart: { scheme, host, port, target, origin, address, user }; or nil and what is wrong with it.
local function parse(text)
  if text:find "[%c ]" then
    return nil, "it has a space or a control character in it"
  end
  local scheme, rest = text:match "^(%a[%w+.-]*)://([^#]*)"
  scheme = scheme and scheme:lower()
  if not PORTS[scheme or ""] then
    return nil, "it begins neither with http:// nor with https://"
  end
  local authority, path = rest:match "^([^/?]*)(.*)$"
  local user, place = authority:match "^(.*)@([^@]*)$"
  local host, port = parse_authority(place or authority, scheme)
  if not host then
    return nil, "it has no valid host"
  end
  path = path:gsub("[\x80-\xFF]", target.encode)
  local where, query = path:match "^([^?]*)(.*)$"
  local is_usual = port == PORTS[scheme]
  local name = is_usual and host or host .. ":" .. port
  local url = {
    scheme = scheme, host = host, port = port, user = user and target.decode(user), name = name,
    target = (where == "" and "/" or where) .. query, address = host .. ":" .. port,
  }
  url.origin = scheme .. "://" .. name
  url.text = url.origin .. url.target
  return url
end

-- Resolve a reference, as of a Location field, against a URL; returns what parse returns.
local function resolve(base, reference)
  if reference:find "^%a[%w+.-]*:" then
    return parse(reference)
  elseif reference:find "^//" then
    return parse(base.scheme .. ":" .. reference)
  end
  local path, query = reference:match "^([^?#]*)(%??[^#]*)"
  local base_path, base_query = base.target:match "^([^?]*)(.*)$"
  if path == "" then
    return parse(base.origin .. base_path .. (query ~= "" and query or base_query))
  elseif not path:find "^/" then
    path = base_path:match "^(.*/)" .. path
  end
  return parse(base.origin .. target.resolve(path, true) .. query)
end

return { parse = parse, resolve = resolve }

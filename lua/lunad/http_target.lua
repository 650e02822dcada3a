-- Targets of requests: a path and a query, decoded.

local byte, char, find, gmatch, gsub = string.byte, string.char, string.find, string.gmatch, string.gsub
local match = string.match

-- Decode %XX.
local function decode(text)
  return (gsub(text, "%%(%x%x)", function(digits) return char(tonumber(digits, 16)) end))
end

-- Decode a name or a value of a query: a "+" is a space. A "%" that begins nothing stands for itself.
local function decode_form(text)
  if find(text, "[+%%]") then
    return decode((gsub(text, "%+", " ")))
  end
  return text
end

-- Take a query apart, or a form: a table of the first value of each name.
local function parse_query(text)
  local query = {}
  for piece in gmatch(text, "[^&]+") do
    local name, value = match(piece, "^([^=]*)=?(.*)$")
    name = decode_form(name)
    if query[name] == nil then
      query[name] = decode_form(value)
    end
  end
  return query
end

-- Resolve "." and ".." in a path. One that leads out of the root is nil, or with `stays`, goes no further up.
local function resolve(path, stays)
  if not find(path, "/.", 1, true) then
    return path
  end
  local parts, last = {}, nil
  for part in gmatch(path, "/([^/]*)") do
    last = part
    if part == ".." then
      if #parts == 0 and not stays then
        return nil
      end
      parts[#parts] = nil
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  if last == "." or last == ".." then
    parts[#parts + 1] = ""
  end
  return "/" .. table.concat(parts, "/")
end

-- Take a target that begins with "/" apart: the path, decoded, and the query, or nil for none. Returns nil
-- alone for what is not valid.
local function split(target)
  if not find(target, "[?%%#]") then
    return resolve(target)
  end
  if find(target, "#", 1, true) then
    return nil -- a fragment is not for servers
  end
  local path, query = match(target, "^([^?]*)%??(.*)$")
  if find(path, "%", 1, true) then
    if find(gsub(path, "%%%x%x", ""), "%", 1, true) then
      return nil
    end
    path = decode(path)
    if find(path, "\0", 1, true) then
      return nil -- C would end a file's name there
    end
  end
  return resolve(path), query ~= "" and parse_query(query) or nil
end

-- Take the target of a request apart; returns path, query and, if the target has one, the host. Returns nil
-- for what is not valid.
local function parse(method, target)
  if byte(target) == 47 then
    return split(target)
  elseif target == "*" and method == "OPTIONS" then
    return "*"
  end
  local host, rest = match(target, "^[hH][tT][tT][pP][sS]?://([^/?#@]+)(.*)$")
  if not host or find(rest, "^[^/?]") then
    return nil
  end
  local path, query = split(byte(rest) == 47 and rest or "/" .. rest)
  return path, query, host
end

-- Encode everything but letters, digits and "-._~".
local function encode(text)
  return (gsub(text, "[^%w%-._~]", function(c) return ("%%%02X"):format(byte(c)) end))
end

return {
  parse = parse, resolve = resolve, parse_query = parse_query, decode = decode, encode = encode,
}

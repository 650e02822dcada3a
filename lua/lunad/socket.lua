-- lunad.socket: LuaSocket, with calls that suspend the task instead of blocking the loop.

local core = ...

local wrap = core.load "socket_object.lua"
local waits = core.load "socket_wait.lua"
local dns = core.load "socket_dns.lua"
local select = core.load "socket_select.lua"

-- Require a module of LuaSocket's package.
local function require_part(name)
  local ok, part = pcall(require, name)
  if ok then
    return part
  elseif tostring(part):find(("module '%s' not found"):format(name), 1, true) then
    core.raise(("lunad.socket needs LuaSocket, and there is no '%s' (Debian: lua-socket)"):format(name))
  end
  error(part, 0)
end

-- A copy of a table: install() replaces functions in the original.
local function copy(original)
  local new = {}
  for key, value in pairs(original) do
    new[key] = value
  end
  return new
end

local raw = copy(require_part "socket.core")

-- LuaSocket marks an error that protect is to return by a metatable that only its own functions know.
local _, marked = pcall(raw.newtry(), nil, "")
local Marked = debug.getmetatable(marked)

local own = { dns = copy(raw.dns), select = select }

for name, fn in pairs(dns.functions) do
  own.dns[name] = fn
end

-- A function that makes objects of a kind, from one that makes their originals.
local function maker(make, kind, family)
  return function()
    local original, err = make()
    if not original then
      return nil, err
    end
    local object = wrap(original, kind, family)
    object.make = make
    return object
  end
end

own.tcp, own.udp = maker(raw.tcp, "tcp"), maker(raw.udp, "udp")
own.tcp4, own.udp4 = maker(raw.tcp4, "tcp", "inet"), maker(raw.udp4, "udp", "inet")
own.tcp6, own.udp6 = maker(raw.tcp6, "tcp", "inet6"), maker(raw.udp6, "udp", "inet6")

local Attempt = {}

-- A connection that was not made leaves no socket.
function Attempt.__close(attempt)
  if not attempt.is_made then
    attempt.object:close()
  end
end

local makers = { unspec = own.tcp, inet = own.tcp4, inet6 = own.tcp6 }

-- connect(address, port [, local address [, local port [, "inet" | "inet6"]]]) -> socket | nil, error
function own.connect(address, port, local_address, local_port, family)
  local make = makers[family == nil and "unspec" or family]
  if not make then
    core.raise(("bad argument #5 to 'connect' (invalid option '%s')"):format(tostring(family)))
  end
  address, port = waits.check_text(address, 1, "connect"), waits.check_text(port, 2, "connect")
  local object, err = make()
  if not object then
    return nil, err
  end
  local attempt <close> = setmetatable({ object = object }, Attempt)
  local ok = true
  if local_address ~= nil then
    ok, err = object:bind(local_address, local_port == nil and "0" or local_port)
  end
  if ok then
    ok, err = object:connect(address, port)
  end
  if not ok then
    return nil, err
  end
  attempt.is_made = true
  return object
end

-- sleep(seconds)
function own.sleep(seconds)
  seconds = waits.check_number(seconds, nil, 1, "sleep")
  if not seconds then
    core.raise "bad argument #1 to 'sleep' (number expected, got no value)"
  end
  core.sleep(math.min(math.max(seconds, 0), waits.FOREVER))
end

-- newtry([finalizer]) -> a function that returns its arguments, or if the first is nil or false calls the
-- finalizer, which may suspend, and raises the second for protect to return.
function own.newtry(finalizer)
  return function(...)
    if (...) then
      return ...
    end
    if finalizer then
      finalizer()
    end
    local _, err = ...
    error(setmetatable({ err }, Marked), 0)
  end
end

local function unmark(ok, ...)
  if ok then
    return ...
  end
  local err = ...
  if type(err) == "table" and debug.getmetatable(err) == Marked then
    return nil, err[1]
  end
  error(err, 0)
end

-- protect(fn) -> fn that returns nil and an error where fn raises one of a try
function own.protect(fn)
  return function(...)
    return unmark(pcall(fn, ...))
  end
end

-- Run LuaSocket's own Lua, which completes socket.core, over a table in its place.
local function complete(module)
  local path, message = package.searchpath("socket", package.path)
  if not path then
    core.raise("lunad.socket needs LuaSocket's socket.lua (Debian: lua-socket):" .. message)
  end
  local environment = setmetatable({ require = function(name)
    return name == "socket.core" and module or require(name)
  end }, { __index = _G })
  assert(loadfile(path, "t", environment))()
  return module
end

local socket = copy(raw)
for name, value in pairs(own) do
  socket[name] = value
end
complete(socket)
own.try = socket.try

-- Replace functions of a module.
local function patch(module, functions)
  for name, fn in pairs(functions) do
    module[name] = fn
  end
  return module
end

-- Functions for socket.unix: its originals make blocking ones.
local function unix_functions(unix)
  local stream = maker(unix.stream, "unixstream")
  local functions = { stream = stream, tcp = stream, __call = function() return stream() end }
  functions.dgram = unix.dgram and maker(unix.dgram, "unixdgram")
  functions.udp = functions.dgram
  return functions
end

-- Functions for LuaSec. lunad.net continues with the original.
local function ssl_functions(ssl)
  local original = ssl.wrap
  core.luasec_wrap = original
  return { wrap = function(object, context)
    local connection, err = original(object, context)
    if not connection then
      return nil, err
    end
    return wrap(connection, "tls")
  end }
end

-- Replace functions of a module that is loaded, or as soon as it is.
local function patch_when_loaded(name, make_functions)
  if package.loaded[name] then
    patch(package.loaded[name], make_functions(package.loaded[name]))
    return
  end
  local before = package.preload[name]
  local function load_patched()
    package.preload[name] = before
    local ok, module = pcall(require, name)
    if not ok then
      package.preload[name] = load_patched
      error(module, 0)
    end
    return patch(module, make_functions(module))
  end
  package.preload[name] = load_patched
end

local is_installed = false

-- install() -> what `require "socket"` returns, whose functions are from now on those of this module. Scripts
-- and libraries that have required it before have the same table. A second call does nothing.
function socket.install()
  local module = require_part "socket"
  if not is_installed then
    is_installed = true
    patch(module, own)
    patch_when_loaded("socket.unix", unix_functions)
    patch_when_loaded("ssl", ssl_functions)
  end
  return module
end

-- `socket.unix` is there when it is first used, if LuaSocket has it.
return setmetatable(socket, { __index = function(_, key)
  if key ~= "unix" then
    return nil
  end
  local unix = require_part "socket.unix"
  if not is_installed then
    unix = patch(copy(unix), unix_functions(unix))
    setmetatable(unix, unix)
  end
  socket.unix = unix
  return unix
end })

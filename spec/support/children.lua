-- Children for scripts that specs run inside lunad.

local lunad, _, truthy, _, _, eventually = require("inside")()

local children = {}

-- Start a child and wait for its end: { out =, err =, exit =, pid = }, the arguments of its callbacks.
function children.collect(options)
  local got = { out = "", err = "" }
  for _, stream in ipairs { "stdout", "stderr" } do
    local key = stream:sub(4)
    if options[stream] == nil then
      options[stream] = function(chunk) got[key] = got[key] .. (chunk or "") end
    end
  end
  options.on_exit = function(exit) got.exit = exit end
  local child, message = lunad.spawn(options)
  got.pid = truthy(child, message).pid
  eventually(function() return got.exit end)
  return got
end

-- The same for a command of the shell.
function children.shell(command, options)
  options = options or {}
  options[1], options[2], options[3] = "sh", "-c", command
  return children.collect(options)
end

-- Whether a process is gone, and reaped.
function children.gone(pid)
  return select(3, lunad.kill(pid, 0)) == "ESRCH"
end

-- A number from /proc, such as the kilobytes of `field` in a process's status.
function children.proc_number(pid, file, field)
  local handle <close> = assert(io.open(("/proc/%d/%s"):format(pid, file)))
  return math.tointeger(tonumber((handle:read("a"):match(field .. ":%s*(%d+)"))))
end

return children

-- lunad.exec: run a command to its end and collect its output.

local core = ...

local DEFAULT_MAX_OUTPUT = 1024 * 1024

local own_options = { input = true, max_output = true }

local function fail(name, expected, value)
  core.raise(("option '%s': %s expected, got %s"):format(name, expected, type(value)))
end

-- Check the options of exec itself; returns a copy of those for lunad.spawn, and exec's own.
local function split_options(options)
  if type(options) ~= "table" then
    core.raise("bad argument #1 to 'exec' (table expected, got " .. type(options) .. ")")
  end
  local input, max = options.input, options.max_output
  if input ~= nil and type(input) ~= "string" then
    fail("input", "string", input)
  end
  if max ~= nil then
    max = type(max) == "number" and math.tointeger(max)
    if not max or max < 0 then
      core.raise("option 'max_output': a whole number of bytes expected")
    end
  end
  if input ~= nil and options.stdin ~= nil then
    core.raise("option 'stdin': it cannot be given together with 'input'")
  end
  local spawn = {}
  for key, value in pairs(options) do
    if not own_options[key] then
      core.check_likely(key, own_options, "exec")
      spawn[key] = value
    end
  end
  return spawn, input, max or DEFAULT_MAX_OUTPUT
end

-- An output callback that keeps at most `max` bytes, and a function that returns them.
local function collector(max, on_truncate)
  local parts, size = {}, 0
  local function add(chunk)
    if chunk == nil or size == max then
      if chunk ~= nil and #chunk > 0 then
        on_truncate()
      end
      return
    end
    if size + #chunk > max then
      chunk = chunk:sub(1, max - size)
      on_truncate()
    end
    parts[#parts + 1] = chunk
    size = size + #chunk
  end
  return add, function() return table.concat(parts) end
end

-- Start the command, write its input and wait for its end; returns what lunad.spawn returns for an error.
local function run(spawn, input)
  local child, err, code
  -- If an error leaves this function (a cancelled task gets one), end the command.
  local _ <close> = setmetatable({}, { __close = function()
    if child then
      core.end_child(child)
    end
  end })
  child, err, code = core.spawn(spawn)
  if not child then
    return nil, err, code
  end
  core.note_command(child)
  if input then
    child:write(input) -- the command may end before it has read all
    child:close_stdin()
  end
  return child:wait()
end

return function(options)
  local spawn, input, max = split_options(options)
  core.check_task("exec")
  local truncated = false
  local function on_truncate() truncated = true end
  local add_out, stdout = collector(max, on_truncate)
  local add_err, stderr = collector(max, on_truncate)
  spawn.stdout = spawn.stdout == nil and add_out or spawn.stdout
  spawn.stderr = spawn.stderr == nil and add_err or spawn.stderr
  if input then
    spawn.stdin = "pipe"
  end
  local result, err, code = run(spawn, input)
  if not result then
    return nil, err, code
  end
  result.stdout, result.stderr, result.truncated = stdout(), stderr(), truncated
  return result
end

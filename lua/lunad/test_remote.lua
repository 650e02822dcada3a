-- What a spec asks of a service that it runs, by `eval`.

local core = ...

local pack = core.load "test_pack.lua"

local remote = {}

function remote.freeze(real)
  core.clock_freeze(real)
end

function remote.release()
  core.clock_release()
end

-- Move the clock forward by whole nanoseconds.
function remote.advance(span)
  local now = core.clock_now()
  local ok, why = core.clock_advance(now + span)
  if not ok then
    error(why, 0)
  end
end

-- Use these fakes: the rules by command, and where the spec is.
function remote.fake(path, rules)
  core.fakes = path and { path = path, rules = rules } or nil
end

-- Run a chunk of Lua with arguments; its results as text that load reads.
function remote.run(text, ...)
  local head = "local lunad = package.loaded.lunad; "
  local chunk, err = load(head .. "return " .. text, "=eval", "t")
  if not chunk then
    chunk, err = load(head .. text, "=eval", "t")
  end
  if not chunk then
    error(err, 0)
  end
  local results = table.pack(chunk(...))
  local parts = {}
  for i = 1, results.n do
    parts[i] = pack(results[i], "result")
  end
  return table.concat(parts, ",")
end

return remote

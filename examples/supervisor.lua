-- Keep three workers running, with their output in the log.
--
--   lunad start examples/supervisor.lua
--   lunad logs -f supervisor        each line names its worker and the worker's pid
--   kill one of them, and see it come back (0.1 s later, then 0.2 s, 0.4 s, ...)
--   lunad signal supervisor USR2    restarts them one after the other, each when the last one is ready
--   lunad reload supervisor         this file is loaded again; the workers do not notice
--
-- With `keep` a worker survives a reload if the new generation asks for the same command under the
-- same name. Change COMMAND and reload: now the old workers are replaced.

local lunad = require "lunad"

local COMMAND = [[
  echo "hello"
  trap 'echo "goodbye"; exit 0' TERM
  while :; do sleep 1 & wait $!; done
]]

local workers = assert(lunad.supervise {
  "sh", "-c", COMMAND,
  name = "worker", count = 3, keep = true,
  backoff = { 0.1, 30 },          -- seconds before a restart: doubling, at most 30
  max_restarts = 5, within = 10,  -- more than five restarts in ten seconds are hopeless
  ready = "^hello$",              -- a worker is ready when it says so in a line of its output
  on_give_up = function()
    lunad.log.error("the workers do not stay up: stopping")
    lunad.stop(1)
  end,
})

lunad.signal("USR2", function()
  local ok, err = workers:restart()
  lunad.log.info(ok and "all workers were restarted" or "the restart has stopped", { error = err })
end)

-- Report on the workers from time to time.
lunad.every(60, function()
  lunad.log.info("workers", { running = #workers:children() })
end)

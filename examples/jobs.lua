-- A job runner: commands in a queue, two at a time, each with a time limit.
--
--   lunad run examples/jobs.lua
--
-- Each runner is a task: lunad.exec suspends only the task that calls it. When the last job is done
-- nothing of the script is left, and it finishes by itself.

local lunad = require "lunad"

local RUNNERS = 2

local jobs = {
  { "echo", "a quick one" },
  { "sh", "-c", "sleep 0.3; echo slower" },
  { "sleep", "60", timeout = 0.5 },               -- too slow: SIGTERM, and SIGKILL 5 s later
  { "sh", "-c", "echo oops >&2; exit 3" },
  { "sort", input = "pear\napple\nfig\n" },
  { "/no/such/command" },                         -- an error as a value, not an exit of 127
}

local function report(job, result, err)
  local name = table.concat(job, " ")
  if not result then
    lunad.log.error("cannot be run", { job = name, error = err })
  elseif result.timed_out then
    lunad.log.warn("timed out", { job = name, seconds = result.seconds })
  elseif not result.ok then
    lunad.log.warn("failed", { job = name, code = result.code, stderr = result.stderr })
  else
    lunad.log.info("done", { job = name, output = result.stdout })
  end
end

-- A stop ends the running jobs, and a generation that has ended cannot start new ones.
lunad.on_stop(function() jobs = {} end)

for runner = 1, RUNNERS do
  lunad.task(function()
    while #jobs > 0 do
      local job = table.remove(jobs, 1)
      report(job, lunad.exec(job))
    end
    lunad.log.info("nothing left to do", { runner = runner })
  end)
end

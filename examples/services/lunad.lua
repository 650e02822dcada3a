-- Two services that belong together: lunad start --config examples/services/lunad.lua --all
--
-- status, reload, restart and stop take the same --config. Paths are relative to this file. The variable
-- LUNAD_EXAMPLE_PORT chooses the port.

local address = "127.0.0.1:" .. (os.getenv "LUNAD_EXAMPLE_PORT" or "8080")

return {
  -- What both have in common.
  log_level = "info",
  stop_timeout = 5,
  env = { QUEUE_NAME = "mail" },

  services = {
    -- Answers over HTTP.
    web = {
      script = "web.lua",
      listen = address,
      args = { address },
      rlimit = { nofile = "1024:4096" },
    },

    -- Works in the background. It is started when web is ready, and stopped before it.
    worker = {
      script = "worker.lua",
      after = { "web" },
      args = { 0.5 }, -- seconds between looks
      restart = "on-failure",
    },
  },
}

-- The contenders. One whose program `PROGRAM` is in a scenario's directory takes part in it; in a
-- scenario with a driver, the driver says which take part. `needs` is a shell command that succeeds if
-- the peer is installed; with `where` it takes part only in scenarios that have that field.

local function module(name)
  return ("lua5.4 -e 'require %q'"):format(name)
end

return {
  { name = "libuv", program = "libuv.c", title = "C, libuv" },
  { name = "c", program = "c.c", title = "C alone" },
  { name = "lunad", program = "lunad.lua", command = "$LUNAD run" },
  { name = "generational", program = "lunad.lua", command = "$LUNAD run bench/lib/generational.lua",
    title = "lunad, generational collector", where = "collector" },
  { name = "callbacks", title = "lunad, callbacks of luv" },
  { name = "lua", program = "lua.lua", command = "lua5.4", title = "lua5.4 alone" },
  { name = "luv", program = "luv.lua", command = "lua5.4", title = "lua5.4 + luv", needs = module "luv" },
  { name = "cqueues", program = "cqueues.lua", command = "lua5.4", title = "lua5.4 + cqueues",
    needs = module "cqueues" },
  { name = "node", program = "node.js", command = "node", needs = "command -v node" },
  { name = "daemonize", title = "daemonize + lua5.4", needs = "command -v daemonize" },
  { name = "daemon", title = "libslack daemon + lua5.4", needs = "command -v daemon" },
  { name = "php", title = "PHP double fork", needs = "command -v php" },
  { name = "runit", title = "runit + lua5.4", needs = "command -v runsv" },
  { name = "supervisor", title = "supervisor + lua5.4", needs = "command -v supervisord" },
  { name = "nginx", title = "nginx + Lua",
    needs = "command -v nginx && test -e /usr/lib/nginx/modules/ngx_http_lua_module.so" },
  { name = "tarantool", needs = "command -v tarantool" },
  { name = "pm2", title = "pm2 + node", needs = "command -v pm2" },
  { name = "s6-log", needs = "command -v s6-log" },
  { name = "workerman", title = "Workerman", needs = "false" },
}

-- luacheck: ignore 113
box.cfg {
  background = true, pid_file = "@BOX@/tarantool.pid", log = "@BOX@/tarantool.log", wal_mode = "none",
  memtx_memory = 32 * 1024 * 1024, work_dir = "@BOX@",
}
local fio, fiber = require "fio", require "fiber"
local out = "@OUT@" ~= "" and fio.open("@OUT@", { "O_WRONLY" })

local function beat()
  if out then
    out:write("@VERSION@")
  end
end

beat()
fiber.create(function()
  while true do
    fiber.sleep(tonumber("@PERIOD@"))
    beat()
  end
end)

---@meta lunad.socket

---LuaSocket for tasks: its functions suspend the task instead of holding up the loop. For the rest see the
---annotations of LuaSocket.
---@class lunad.socket
---@field unix table the functions of `socket.unix`, if LuaSocket has it
local socket = {}

---Put these functions into the module that `require "socket"` returns, and connections that suspend into
---`ssl.wrap` of LuaSec. A second call does nothing.
---@return table socket the module `socket`
function socket.install() end

return socket

---@meta lunad.exporter

---A server of the metrics of all daemons, and of a page that shows them.
local exporter = {}

---@class lunad.exporter_options
---@field names? string[] the daemons to show (all)
---@field run_dir? string where they are (where this one is)
---@field hosts? string[] further names under which it is asked
---@field timeout? number seconds that a daemon has for its answer (2)
---@field tls? lunad.tls_server serve HTTPS

---@param address string|integer "127.0.0.1:9100", or a port, which is on 127.0.0.1
---@param options? lunad.exporter_options
---@return lunad.http_server? server
---@return string? err
---@return lunad.code? code
function exporter.serve(address, options) end

return exporter

std = "lua54"
max_line_length = 110
files["spec"] = { std = "lua54+busted" }
files["spec/support/inside.lua"] = { std = "lua54" }
files["lua/meta"] = { ignore = { "212", "241" } } -- annotations: nothing has a body
exclude_files = { "build/**" }

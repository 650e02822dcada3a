std = "lua54"
max_line_length = 110
files["spec"] = { std = "lua54+busted" }
files["spec/support/inside.lua"] = { std = "lua54" }
exclude_files = { "build/**" }

std = "lua54"
max_line_length = 110
files["spec"] = { std = "lua54+busted" }
files["spec/support/inside.lua"] = { std = "lua54" }
files["lua/meta"] = { ignore = { "212", "241" } } -- annotations: nothing has a body
files["examples/spec"] = { std = "lua54+busted" }
files["lua/new/new_spec.lua"] = { std = "lua54+busted" }
files["lua/lunad/test_*.lua"] = { globals = { "arg", "os" } } -- what specs see of them
files["suites"] = { globals = { "arg", "ARG", "T", "_nomsg", "_port" } } -- what the suites look at
exclude_files = { "build/**" }

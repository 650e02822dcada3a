# Write OUTPUT, a C file with the contents of FILES (a list), for src/api/embedded.h.

set(text "/* Made by scripts/embed.cmake. */\n#include \"api/embedded.h\"\n\n")
set(rows "")
foreach(file IN LISTS FILES)
  get_filename_component(name "${file}" NAME)
  string(MAKE_C_IDENTIFIER "${name}" id)
  file(READ "${file}" hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND text "static const char ${id}[] = {${bytes}0};\n")
  string(APPEND rows "    {\"${name}\", ${id}, sizeof ${id} - 1},\n")
endforeach()
string(APPEND text "\nconst struct ld_embedded ld_embedded[] = {\n${rows}    {NULL, NULL, 0},\n};\n")
file(WRITE "${OUTPUT}" "${text}")

# Lua and jansson within the binary, where their archives are beside their shared libraries: a start maps
# and relocates two libraries less, and a call into Lua goes through no table. LUNAD_LIBLUA and LUNAD_LIBJANSSON
# are what to link, LUNAD_LINK_FILES what that reads besides.
include(CheckCSourceCompiles)

# Set RESULT to what links the archive beside a shared library, ARCHIVE in the items that are given, if FUNCTION
# can be had from it in the way in which lunad is linked; say so otherwise.
function(lunad_archive result library function)
  string(REGEX REPLACE "[.]so$" ".a" archive "${library}")
  string(REPLACE ARCHIVE "${archive}" items "${ARGN}")
  set(CMAKE_REQUIRED_LIBRARIES ${items} m ${CMAKE_DL_LIBS})
  set(CMAKE_REQUIRED_FLAGS -fPIE)
  set(CMAKE_REQUIRED_LINK_OPTIONS -pie)
  set(CMAKE_REQUIRED_QUIET ON)
  if(archive MATCHES "[.]a$" AND EXISTS "${archive}")
    check_c_source_compiles("void ${function}(void); int main(void) { ${function}(); return 0; }" ${result}_LINKS)
  endif()
  if(${result}_LINKS)
    set(${result} ${items} PARENT_SCOPE)
    set(LUNAD_LINK_FILES ${LUNAD_LINK_FILES} ${archive} PARENT_SCOPE)
  else()
    message(STATUS "Linked as a shared library: ${library} (${archive} is missing, or cannot be linked)")
  endif()
endfunction()

# Write linker scripts after which a binary exports what a shared library does, under the same versions: C
# modules that are linked with that library find the functions of the binary, and what has another version
# of Lua inside does not. FLAGS are those that use them; what cannot be read leads to flags that fail.
function(lunad_export_as flags library)
  execute_process(COMMAND ${CMAKE_NM} -D --defined-only ${library} OUTPUT_VARIABLE table ERROR_QUIET)
  string(REGEX MATCHALL "[B-Z] [A-Za-z0-9_]+(@@[A-Za-z0-9_.]+)?" symbols "${table}")
  set(all "")
  set(versions "")
  foreach(symbol IN LISTS symbols)
    string(REGEX MATCH "^. ([^@]+)(@@(.+))?$" symbol "${symbol}")
    string(APPEND all "  ${CMAKE_MATCH_1};\n")
    string(APPEND of_${CMAKE_MATCH_3} "  ${CMAKE_MATCH_1};\n")
    list(APPEND versions ${CMAKE_MATCH_3})
  endforeach()
  list(REMOVE_DUPLICATES versions)
  foreach(version IN LISTS versions)
    string(APPEND script "${version} {\n${of_${version}}};\n")
  endforeach()
  if(NOT all)
    set(all "no symbols in ${library}")
  endif()
  file(WRITE ${PROJECT_BINARY_DIR}/lua.exports "{\n${all}};\n")
  set(list -Wl,--dynamic-list=${PROJECT_BINARY_DIR}/lua.exports)
  if(versions)
    file(WRITE ${PROJECT_BINARY_DIR}/lua.versions "${script}")
    list(APPEND list -Wl,--version-script=${PROJECT_BINARY_DIR}/lua.versions)
  endif()
  set(${flags} ${list} PARENT_SCOPE)
endfunction()

set(LUNAD_LIBLUA PkgConfig::LUA)
set(LUNAD_LIBJANSSON PkgConfig::JANSSON)
set(LUNAD_LINK_FILES "")

if(LUNAD_STATIC)
  list(GET LUA_LINK_LIBRARIES 0 library)
  lunad_export_as(exports ${library})
  lunad_archive(LUNAD_LIBLUA ${library} lua_newstate
                -Wl,--whole-archive,ARCHIVE,--no-whole-archive ${exports} ${CMAKE_DL_LIBS})
  list(GET JANSSON_LINK_LIBRARIES 0 library)
  lunad_archive(LUNAD_LIBJANSSON ${library} json_object ARCHIVE)
endif()

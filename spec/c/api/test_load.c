#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/module.h"
#include "check.h"
#include "support.h"

static struct ld_texts *texts;
static struct ld_source source;
static struct ld_setup setup;

/* Open the part of the module that is tested, and nothing else. */
static int open_part(lua_State *L) {
    char path[1000];
    lua_pushcfunction(L, ld_api_load_part.open);
    lua_call(L, 0, 0);
    snprintf(path, sizeof path, "package.path = '%s' package.cpath = '' dir = '%s/'",
             box_path("lib/?.lua"), box_path("."));
    REQUIRE(luaL_dostring(L, path) == LUA_OK);
    return 0;
}

/* Make a generation, from MEMORY or (NULL) from the disk, and run its chunk: what it returns as a string, or why it
 * fails. */
static struct ld_script *generate(struct ld_memory *memory, char *result, size_t size) {
    struct ld_script *script = NULL;
    struct ld_text why = {0};
    REQUIRE(ld_script_new(&script, &setup, 1, &why) == 0);
    if (memory != NULL) {
        ld_script_recall(script, memory);
    }
    if (ld_script_load(script, &why) == 0) {
        lua_pcall(script->L, 0, 1, 0);
        snprintf(result, size, "%s", luaL_tolstring(script->L, -1, NULL));
        lua_settop(script->L, 0);
    } else {
        snprintf(result, size, "%s", ld_text_string(&why));
    }
    ld_text_fini(&why);
    return script;
}

/* Make the files of a program. */
static void write_program(void) {
    static char path[1000];
    mkdir(box_path("v1"), 0755);
    write_file(box_path("v1/m.lua"), "local name, path = ... return name .. #path");
    CHECK_INT(0, symlink("v1", box_path("lib")));
    write_file(box_path("conf.lua"), "\xEF\xBB\xBF#!\nreturn ' conf'");
    write_file(
        box_path("main.lua"),
        "local m, path = require 'm'\n"
        "return m .. (path == dir .. 'lib/m.lua' and '' or path) .. dofile(dir .. 'conf.lua')\n"
        "  .. loadfile(dir .. 'conf.lua')() .. tostring(pcall(require, 'later'))");
    snprintf(path, sizeof path, "%s", box_path("./main.lua"));
    texts = ld_texts_new();
    source = (struct ld_source){.path = path};
    setup = (struct ld_setup){
        .source = &source, .texts = texts, .name = "test", .open_libraries = open_part};
}

/* Change all of them: nothing of the program is as it was. */
static void change_program(void) {
    CHECK_INT(0, unlink(box_path("v1/m.lua")));
    CHECK_INT(0, rmdir(box_path("v1")));
    CHECK_INT(0, unlink(box_path("lib")));
    CHECK_INT(0, mkdir(box_path("lib"), 0755));
    write_file(box_path("lib/m.lua"), "this is not Lua");
    CHECK_INT(0, unlink(box_path("conf.lua")));
    write_file(box_path("main.lua"), "return require 'm'");
}

static void test_recall(void) {
    char first[200];
    char second[200];
    write_program();
    struct ld_script *old = generate(NULL, first, sizeof first);
    CHECK(strstr(first, " conf conffalse") != NULL);
    CHECK_INT(3, ld_memory_count(old->memory));
    struct ld_memory *memory = ld_memory_hold(old->memory);
    ld_script_close(old);
    change_program();
    struct ld_script *again = generate(memory, second, sizeof second);
    CHECK_STR(first, second);
    CHECK_INT(3, ld_texts_count(texts)); /* they share them */
    ld_memory_drop(memory);
    memory = ld_memory_hold(again->memory); /* which is as good */
    ld_script_close(again);
    again = generate(memory, second, sizeof second);
    CHECK_STR(first, second);
    ld_script_close(again);
    ld_memory_drop(memory);
    old = generate(NULL, second, sizeof second);
    CHECK(strstr(second, "error loading module 'm' from file") != NULL);
    ld_script_close(old);
    CHECK_INT(0, ld_texts_count(texts));
    ld_texts_free(texts);
}

static void test_what_memory_has_not(void) {
    char result[200];
    write_program();
    struct ld_memory *memory = ld_memory_new(texts, false);
    struct ld_script *script = generate(memory, result, sizeof result);
    CHECK(strstr(result, " conf conffalse") != NULL);
    ld_script_close(script);
    ld_memory_drop(memory);
    ld_texts_free(texts);
}

static const struct check_case cases[] = {
    {"a generation is made again from memory", test_recall},
    {"what the memory does not have is read", test_what_memory_has_not},
};

CHECK_MAIN(cases)

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "script/source.h"
#include "support.h"

/* Load a source and run it: what it returns as a string, or why it does not load. */
static const char *result_of(const struct ld_source *source, int expected) {
    static char result[1000];
    struct ld_text why = {0};
    lua_State *L = luaL_newstate();
    REQUIRE(L != NULL);
    luaL_openlibs(L);
    CHECK_INT(expected, ld_source_load(L, source, &why));
    CHECK_INT(expected, ld_source_check(source, &(struct ld_text){.failed = true}));
    CHECK_INT(expected == 0, lua_gettop(L));
    if (expected == 0) {
        lua_pcall(L, 0, 1, 0);
        snprintf(result, sizeof result, "%s", luaL_tolstring(L, -1, NULL));
        CHECK_STR("", ld_text_string(&why));
    } else {
        snprintf(result, sizeof result, "%s", ld_text_string(&why));
    }
    lua_close(L);
    ld_text_fini(&why);
    return result;
}

/* The result of a given text. */
static const char *text_result(const char *text, size_t size, int expected) {
    struct ld_source source = {.text = text, .size = size, .title = "=(command line)"};
    return result_of(&source, expected);
}

/* The result of a file with this text. */
static const char *file_result(const char *text, int expected) {
    write_file(box_path("x.lua"), text);
    struct ld_source source = {.path = box_path("x.lua")};
    return result_of(&source, expected);
}

#define TEXT(string) (string), sizeof(string) - 1

static void test_text(void) {
    CHECK_STR("7", text_result(TEXT("return 7"), 0));
    CHECK_STR("nil", text_result(TEXT(""), 0));
    CHECK_STR("(command line):2: x", text_result(TEXT("\nerror 'x'"), 0));
    CHECK_STR("3", text_result(TEXT("return #'a\0b'"), 0));
    CHECK_STR("(command line):1: unexpected symbol near '='", text_result(TEXT("= 7"), -EINVAL));
}

static void test_preface(void) {
    CHECK_STR("7", text_result(TEXT("#!/usr/bin/lunad run\nreturn 7"), 0));
    CHECK_STR("(command line):2: x", text_result(TEXT("#!/usr/bin/lunad run\nerror 'x'"), 0));
    CHECK_STR("7", text_result(TEXT("\xEF\xBB\xBFreturn 7"), 0));
    CHECK_STR("7", text_result(TEXT("\xEF\xBB\xBF#!x\nreturn 7"), 0));
    CHECK_STR("nil", text_result(TEXT("#"), 0));
    CHECK_STR("nil", text_result(TEXT("#!/usr/bin/lunad run"), 0));
    CHECK_STR("nil", text_result(TEXT("\xEF\xBB\xBF"), 0));
}

static void test_bytecode(void) {
    static const char reason[] = "(command line): it is bytecode, and a script must be text";
    CHECK_STR(reason, text_result(TEXT("\x1BLua"), -EINVAL));
    CHECK_STR(reason, text_result(TEXT("\x1B"), -EINVAL));
    text_result(TEXT("#!x\n\x1BLua"), -EINVAL);
}

static void test_file(void) {
    char expected[300];
    CHECK_STR("7", file_result("return 7", 0));
    CHECK_STR("7", file_result("#!/usr/bin/lunad run\nreturn 7", 0));
    snprintf(expected, sizeof expected, "%s:2: x", box_path("x.lua"));
    CHECK_STR(expected, file_result("\nerror('x')", 0));
    snprintf(expected, sizeof expected, "%s:3: unexpected symbol near '}'", box_path("x.lua"));
    CHECK_STR(expected, file_result("\n\n}", -EINVAL));
    CHECK_STR("8", file_result("return 8", 0)); /* it is read again */
}

/* Check why a path cannot be had. */
static void check_refusal(const char *path, bool as_root, int code, const char *reason) {
    char expected[300];
    struct ld_source source = {.path = path, .as_root = as_root};
    snprintf(expected, sizeof expected, "%s: %s", path, reason);
    CHECK_STR(expected, result_of(&source, code));
}

static void test_refusals(void) {
    static const char by_group[] =
        "it would run as root, and its group may write to it: chmod g-w it";
    static const char by_all[] =
        "it would run as root, and everyone may write to it: chmod go-w it";
    static const char no_file[] =
        "it is not a regular file (lunad run - reads a script from stdin)";
    check_refusal(box_path("gone.lua"), false, -ENOENT, "there is no such script");
    check_refusal(box_path(""), false, -EISDIR, "it is a directory, not a script");
    check_refusal("/dev/null", false, -EINVAL, no_file);
    REQUIRE(mkfifo(box_path("fifo"), 0600) == 0);
    check_refusal(box_path("fifo"), false, -EINVAL, no_file); /* and nobody waits */
    write_file(box_path("x.lua"), "return 7");
    check_refusal(box_path("x.lua/y"), false, -ENOTDIR, "Not a directory");
    REQUIRE(chmod(box_path("x.lua"), 0664) == 0);
    if (geteuid() == 0) {
        CHECK_STR("7",
                  result_of(&(struct ld_source){.path = box_path("x.lua"), .as_root = true}, 0));
        REQUIRE(chown(box_path("x.lua"), 0, 1) == 0);
    }
    check_refusal(box_path("x.lua"), true, -EPERM, by_group);
    REQUIRE(chmod(box_path("x.lua"), 0646) == 0);
    check_refusal(box_path("x.lua"), true, -EPERM, by_all);
    CHECK_STR("7", result_of(&(struct ld_source){.path = box_path("x.lua")}, 0));
    REQUIRE(chmod(box_path("x.lua"), 0644) == 0);
    CHECK_STR("7", result_of(&(struct ld_source){.path = box_path("x.lua"), .as_root = true}, 0));
}

/* A list by which one more user may write to a file of mode 0664. */
static void test_access_list(void) {
    static const struct {
        uint32_t version;
        struct {
            uint16_t tag;
            uint16_t permissions;
            uint32_t id;
        } entries[5];
    } list = {2,
              {{0x01, 6, ~0U}, {0x02, 6, 65534}, {0x04, 6, ~0U}, {0x10, 6, ~0U}, {0x20, 4, ~0U}}};
    write_file(box_path("x.lua"), "return 7");
    if (geteuid() == 0 &&
        setxattr(box_path("x.lua"), "system.posix_acl_access", &list, sizeof list, 0) == 0) {
        check_refusal(
            box_path("x.lua"), true, -EPERM,
            "it would run as root, and its access list lets others write to it: setfacl -b it");
    }
}

static void test_controls(void) {
    const char *result = text_result(TEXT("x = 'a\x1B[31m\n"), -EINVAL);
    CHECK(strchr(result, '\x1B') == NULL);
    CHECK(strstr(result, "\\x1B[31m") != NULL);
}

static const struct check_case cases[] = {
    {"a given text", test_text},
    {"what may stand before Lua", test_preface},
    {"bytecode is refused", test_bytecode},
    {"a file", test_file},
    {"what is no script, or not to be trusted", test_refusals},
    {"an access list", test_access_list},
    {"no message acts on a terminal", test_controls},
};

CHECK_MAIN(cases)

#include <string.h>
#include <sys/prctl.h>

#include "check.h"
#include "posix/title.h"
#include "support.h"

/* What ps would show. */
static const char *command_line(void) {
    return read_file("/proc/self/cmdline");
}

/* Words as the kernel lays them out, with the environment after them. */
static void set_title(void) {
    static char memory[] = "lunad\0start\0x.lua\0HOME=/root\0";
    char *words[] = {memory, memory + 6, memory + 12, NULL};
    char name[17] = "";
    ld_title_init(3, words);
    ld_title_set("lunad: x");
    CHECK(memcmp(memory, "lunad: x\0\0\0\0\0\0\0\0\0\0HOME=/root\0", sizeof memory) == 0);
    prctl(PR_GET_NAME, name);
    CHECK_STR("lunad: x", name);
    ld_title_set("");
    CHECK_STR("", memory);
    CHECK_STR("HOME=/root", memory + 18);
}

static void set_long_title(void) {
    static char memory[] = "l\0HOME=/root\0";
    static char longest[300];
    char *words[] = {memory, NULL};
    char name[17] = "";
    ld_title_init(1, words);
    ld_title_set("lunad: a long name that has no room");
    CHECK_STR("lunad: a long name that has no room", command_line());
    prctl(PR_GET_NAME, name);
    CHECK_STR("lunad: a long n", name);
    CHECK_STR("l", memory);
    memset(longest, 'x', sizeof longest - 1);
    ld_title_set(longest);
    CHECK_INT(127, strlen(command_line()));
    ld_title_set("short");
    CHECK_STR("short", command_line());
    CHECK_STR("HOME=/root", memory + 2);
}

static void test_title(void) {
    check_in_child(set_title);
}

static void test_long_title(void) {
    check_in_child(set_long_title);
}

static const struct check_case cases[] = {
    {"the title replaces the words", test_title},
    {"the title is elsewhere if it is longer than the words", test_long_title},
};

CHECK_MAIN(cases)

#include "check.h"
#include "engine/command_path.h"
#include "support.h"

/* Check the files that COMMAND can mean with one variable in the environment. */
static void check_search(const char *command, char *variable, const char *expected) {
    char *const envp[] = {(char[]){"HOME=/x"}, (char[]){"XPATH=/no"}, (char[]){"PATH2=/no"},
                          variable, NULL};
    struct ld_text joined = {0};
    char **paths = ld_command_path_list(command, envp);
    REQUIRE(paths != NULL);
    for (char **path = paths; *path != NULL; path++) {
        ld_text_puts(&joined, *path);
        ld_text_puts(&joined, "|");
    }
    CHECK_STR(expected, ld_text_string(&joined));
    ld_text_fini(&joined);
    ld_command_path_free(paths);
}

static void test_path(void) {
    check_search("ls", (char[]){"PATH=/bin"}, "/bin/ls|");
    check_search("ls", (char[]){"PATH=/bin:/usr/bin:/x y"}, "/bin/ls|/usr/bin/ls|/x y/ls|");
    check_search("ls", (char[]){"PATH=bin:../x"}, "bin/ls|../x/ls|");
    check_search("a=b", (char[]){"PATH=/bin"}, "/bin/a=b|");
}

static void test_empty_elements(void) {
    check_search("ls", (char[]){"PATH="}, "ls|"); /* the current directory */
    check_search("ls", (char[]){"PATH=:/bin"}, "ls|/bin/ls|");
    check_search("ls", (char[]){"PATH=/bin:"}, "/bin/ls|ls|");
    check_search("ls", (char[]){"PATH=/a::/b"}, "/a/ls|ls|/b/ls|");
}

static void test_no_path(void) {
    check_search("ls", NULL, "/usr/local/bin/ls|/usr/bin/ls|/bin/ls|");
    check_search("ls", (char[]){"PATH"}, "/usr/local/bin/ls|/usr/bin/ls|/bin/ls|");
}

static void test_slash(void) {
    check_search("/bin/ls", (char[]){"PATH=/a:/b"}, "/bin/ls|");
    check_search("./ls", (char[]){"PATH=/a:/b"}, "./ls|");
    check_search("a/b", (char[]){"PATH="}, "a/b|");
    check_search("", (char[]){"PATH=/a:/b"}, "|"); /* which is not there */
}

static void test_free(void) {
    ld_command_path_free(NULL);
}

static const struct check_case cases[] = {
    {"a command is looked for along PATH", test_path},
    {"an empty element is the current directory", test_empty_elements},
    {"without PATH the usual directories are searched", test_no_path},
    {"a command with a slash is a path", test_slash},
    {"no list can be freed", test_free},
};

CHECK_MAIN(cases)

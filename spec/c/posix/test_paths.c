#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "posix/paths.h"
#include "support.h"

#define NOBODY 65534

/* Check a path that a function gave, and free it. */
static void check_path(const char *expected, char *got) {
    CHECK_STR(expected, got);
    free(got);
}

/* Check that a path is BELOW the directory DIR, and free it. */
static void check_below(const char *dir, const char *below, char *got) {
    char expected[512];
    snprintf(expected, sizeof expected, "%s/%s", dir, below);
    check_path(expected, got);
}

/* Forget every variable that has a say. */
static void clear_variables(void) {
    static const char *const names[] = {"LUNAD_RUN_DIR", "LUNAD_LOG_DIR", "XDG_RUNTIME_DIR",
                                        "XDG_STATE_HOME", "HOME"};
    for (size_t i = 0; i < LD_COUNT(names); i++) {
        unsetenv(names[i]);
    }
}

static void make_absolute(void) {
    REQUIRE(chdir("/usr") == 0);
    check_path("/x", ld_paths_absolute("/x"));
    check_path("/x/../y/", ld_paths_absolute("/x/../y/"));
    check_path("/usr/x", ld_paths_absolute("x"));
    check_path("/usr/x/y", ld_paths_absolute("x/y"));
    check_path("/usr/x", ld_paths_absolute("./x"));
    check_path("/usr/x", ld_paths_absolute(".//.///x"));
    check_path("/usr/../x", ld_paths_absolute("../x"));
    check_path("/usr/.x", ld_paths_absolute(".x"));
    REQUIRE(chdir("/") == 0);
    check_path("/x", ld_paths_absolute("x"));
    check_path("/x", ld_paths_absolute("./x"));
}

static void test_absolute(void) {
    check_in_child(make_absolute);
}

/* In a directory that has been removed there is no absolute path. */
static void lose_directory(void) {
    char dir[] = "/tmp/lunad-check-gone-XXXXXX";
    REQUIRE(mkdtemp(dir) != NULL && chdir(dir) == 0 && rmdir(dir) == 0);
    CHECK(ld_paths_absolute("x") == NULL);
    CHECK(strstr(ld_paths_why_not(), "working directory has been removed") != NULL);
    setenv("LUNAD_RUN_DIR", "x", 1);
    ld_paths_fix_environment();
    CHECK_STR("x", getenv("LUNAD_RUN_DIR"));
    CHECK(ld_paths_run_dir(NULL) == NULL);
    CHECK(ld_paths_search("x", "DIR/?.lua") == NULL);
    check_path("/x", ld_paths_absolute("/x"));
}

static void test_lost_directory(void) {
    check_in_child(lose_directory);
}

static void find_run_dir_as_root(void) {
    clear_variables();
    REQUIRE(chdir("/usr") == 0);
    check_path("/run/lunad", ld_paths_run_dir(NULL));
    setenv("XDG_RUNTIME_DIR", "/run/user/0", 1);
    check_path("/run/lunad", ld_paths_run_dir(NULL)); /* not for root */
    setenv("LUNAD_RUN_DIR", "/var/x", 1);
    check_path("/var/x", ld_paths_run_dir(NULL));
    setenv("LUNAD_RUN_DIR", "x/y//", 1);
    check_path("/usr/x/y", ld_paths_run_dir(NULL));
    check_path("/chosen", ld_paths_run_dir("/chosen"));
    check_path("/usr/chosen", ld_paths_run_dir("./chosen/"));
    check_path("/", ld_paths_run_dir("/"));
    check_path("/", ld_paths_run_dir("///"));
    setenv("LUNAD_RUN_DIR", "", 1); /* says nothing */
    check_path("/run/lunad", ld_paths_run_dir(NULL));
}

static void find_run_dir_as_user(void) {
    char home[256];
    clear_variables();
    snprintf(home, sizeof home, "%s/home", box_path("."));
    REQUIRE(mkdir(home, 0755) == 0 && chown(home, NOBODY, NOBODY) == 0);
    REQUIRE(chmod(box_path("."), 0755) == 0 && chdir(home) == 0 && seteuid(NOBODY) == 0);
    check_path("/tmp/lunad-65534", ld_paths_run_dir(NULL)); /* its home is /nonexistent */
    setenv("XDG_RUNTIME_DIR", home, 1);
    check_path("/tmp/lunad-65534", ld_paths_run_dir(NULL));
    setenv("XDG_STATE_HOME", "state", 1); /* relative ones say nothing */
    setenv("HOME", ".", 1);
    check_path("/tmp/lunad-65534", ld_paths_run_dir(NULL));
    setenv("HOME", "/", 1);
    check_path("/tmp/lunad-65534", ld_paths_run_dir(NULL));
    setenv("HOME", home, 1);
    check_below(home, ".local/state/lunad/run", ld_paths_run_dir(NULL));
    setenv("XDG_STATE_HOME", "/usr/x/y", 1);
    check_path("/tmp/lunad-65534", ld_paths_run_dir(NULL));
    setenv("XDG_STATE_HOME", home, 1);
    check_below(home, "lunad/run", ld_paths_run_dir(NULL));
    setenv("LUNAD_RUN_DIR", "/var/x", 1);
    check_path("/var/x", ld_paths_run_dir(NULL));
    check_path("/chosen", ld_paths_run_dir("/chosen"));
}

static void fix_environment(void) {
    clear_variables();
    REQUIRE(chdir("/usr") == 0);
    ld_paths_fix_environment();
    CHECK(getenv("LUNAD_RUN_DIR") == NULL && getenv("LUNAD_LOG_DIR") == NULL);
    setenv("LUNAD_RUN_DIR", "./x", 1);
    setenv("LUNAD_LOG_DIR", "/y", 1);
    ld_paths_fix_environment();
    CHECK_STR("/usr/x", getenv("LUNAD_RUN_DIR"));
    CHECK_STR("/y", getenv("LUNAD_LOG_DIR"));
    setenv("LUNAD_LOG_DIR", "", 1);
    ld_paths_fix_environment();
    CHECK_STR("", getenv("LUNAD_LOG_DIR"));
}

static void test_environment(void) {
    check_in_child(fix_environment);
}

static void find_log_as_root(void) {
    clear_variables();
    REQUIRE(chdir("/usr") == 0);
    check_path("/var/log/lunad/beat.log", ld_paths_log_file("beat"));
    setenv("XDG_STATE_HOME", "/state", 1);
    check_path("/var/log/lunad/beat.log", ld_paths_log_file("beat"));
    setenv("LUNAD_LOG_DIR", "/logs", 1);
    check_path("/logs/beat.log", ld_paths_log_file("beat"));
    setenv("LUNAD_LOG_DIR", "logs", 1);
    check_path("/usr/logs/beat.log", ld_paths_log_file("beat"));
    setenv("LUNAD_LOG_DIR", "", 1);
    check_path("/var/log/lunad/beat.log", ld_paths_log_file("beat"));
}

static void find_log_as_user(void) {
    clear_variables();
    REQUIRE(seteuid(NOBODY) == 0);
    check_path("/nonexistent/.local/state/lunad/beat.log", ld_paths_log_file("beat"));
    setenv("HOME", "/home/n", 1);
    check_path("/home/n/.local/state/lunad/beat.log", ld_paths_log_file("beat"));
    setenv("XDG_STATE_HOME", "state", 1);
    check_path("/home/n/.local/state/lunad/beat.log", ld_paths_log_file("beat"));
    setenv("HOME", "n", 1);
    check_path("/nonexistent/.local/state/lunad/beat.log", ld_paths_log_file("beat"));
    setenv("XDG_STATE_HOME", "/state", 1);
    check_path("/state/lunad/beat.log", ld_paths_log_file("beat"));
    setenv("LUNAD_LOG_DIR", "/logs", 1);
    check_path("/logs/beat.log", ld_paths_log_file("beat"));
}

static void test_run_dir_as_root(void) {
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    check_in_child(find_run_dir_as_root);
}

static void test_run_dir_as_user(void) {
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    box_path(""); /* it is this process that removes it */
    check_in_child(find_run_dir_as_user);
}

static void test_log_as_root(void) {
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    check_in_child(find_log_as_root);
}

static void test_log_as_user(void) {
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    check_in_child(find_log_as_user);
}

static void find_search(void) {
    static const char templates[] = "DIR/?.lua;DIR/?/init.lua";
    REQUIRE(chdir("/usr") == 0);
    check_path("/a/?.lua;/a/?/init.lua;", ld_paths_search("/a", templates));
    check_path("/a/?.lua;/a/?/init.lua;", ld_paths_search("/a//", templates));
    check_path("/usr/lib/?.lua;/usr/lib/?/init.lua;", ld_paths_search("lib", templates));
    check_path("/a/?.luac;", ld_paths_search("/a/?.luac", templates));
    check_path("/usr/x/?.lua;", ld_paths_search("./x/?.lua", templates));
    check_path("/a/?.x;/b/?.lua;/b/?/init.lua;", ld_paths_search("/a/?.x;/b", templates));
    check_path("/b/?.so;/usr/c/?.so;", ld_paths_search(";;/b;;c;", "DIR/?.so"));
    check_path("", ld_paths_search("", templates));
    check_path("", ld_paths_search(";", templates));
    check_path("/DIR/?.lua;/DIR/?/init.lua;", ld_paths_search("/DIR", templates));
    check_path("/a b/?.so;", ld_paths_search("/a b", "DIR/?.so"));
}

static void test_search(void) {
    check_in_child(find_search);
}

static void test_script_name(void) {
    check_path("beat", ld_paths_script_name("beat.lua"));
    check_path("beat", ld_paths_script_name("/a/b.lua/beat.lua"));
    check_path("beat", ld_paths_script_name("beat"));
    check_path("beat.sh", ld_paths_script_name("./beat.sh"));
    check_path("beat.lua", ld_paths_script_name("beat.lua.lua"));
    check_path("beat.LUA", ld_paths_script_name("beat.LUA"));
    check_path("a.b", ld_paths_script_name("x/a.b.lua"));
    check_path("", ld_paths_script_name("dir/"));
    check_path(".lua", ld_paths_script_name("dir/.lua")); /* which is not a name */
}

static void test_is_script(void) {
    CHECK(ld_paths_is_script("beat.lua"));
    CHECK(ld_paths_is_script("./beat"));
    CHECK(ld_paths_is_script("/"));
    CHECK(ld_paths_is_script("a/b"));
    CHECK(!ld_paths_is_script("beat"));
    CHECK(!ld_paths_is_script("beat.luac"));
    CHECK(!ld_paths_is_script("lua"));
    CHECK(!ld_paths_is_script("xlua"));
}

/* Open a run directory and check what is said about it. */
static int open_run_dir(const char *path, bool create, const char *reason) {
    struct ld_text why = {0};
    int rc = ld_paths_open_run_dir(path, create, &why);
    if (strstr(ld_text_string(&why), reason) == NULL || (reason[0] == '\0' && why.size > 0)) {
        CHECK_STR(reason, ld_text_string(&why));
    }
    CHECK(rc >= 0 || strstr(ld_text_string(&why), path) != NULL);
    ld_text_fini(&why);
    if (rc >= 0) {
        CHECK_INT(FD_CLOEXEC, fcntl(rc, F_GETFD));
        close(rc);
        return 0;
    }
    return rc;
}

/* The mode of a file, or -1. */
static int mode_of(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 ? (int)(facts.st_mode & 07777) : -1;
}

static void test_run_dir_is_made(void) {
    static const mode_t masks[] = {0, 022, 077, 0777};
    for (size_t i = 0; i < LD_COUNT(masks); i++) {
        char name[32];
        snprintf(name, sizeof name, "%zu/up/run", i);
        umask(masks[i]);
        CHECK_INT(0, open_run_dir(box_path(name), true, ""));
        CHECK_INT(masks[i], umask(022)); /* which it leaves alone */
        CHECK_INT(geteuid() == 0 ? 0755 : 0700, mode_of(box_path(name)));
        CHECK_INT(0, open_run_dir(box_path(name), true, ""));
        CHECK_INT(0, open_run_dir(box_path(name), false, ""));
    }
    CHECK_INT(-ENOENT, open_run_dir(box_path("none"), false, "No such file"));
    CHECK_INT(-1, mode_of(box_path("none")));
}

static void test_run_dir_is_refused(void) {
    REQUIRE(mkdir(box_path("dir"), 0755) == 0);
    REQUIRE(symlink(box_path("dir"), box_path("link")) == 0);
    REQUIRE(symlink(box_path("none"), box_path("dangling")) == 0);
    write_file(box_path("file"), "");
    CHECK(open_run_dir(box_path("link"), true, "it is a symbolic link") < 0);
    CHECK(open_run_dir(box_path("link"), false, "it is a symbolic link") < 0);
    CHECK(open_run_dir(box_path("dangling"), true, "it is a symbolic link") < 0);
    CHECK_INT(-1, mode_of(box_path("none")));
    CHECK_INT(-ENOTDIR, open_run_dir(box_path("file"), true, "Not a directory"));
    CHECK_INT(-ENOTDIR, open_run_dir(box_path("file/x"), true, "Not a directory"));
    static const mode_t modes[] = {0775, 0757, 0777, 01777, 0720, 0702};
    for (size_t i = 0; i < LD_COUNT(modes); i++) {
        REQUIRE(chmod(box_path("dir"), modes[i]) == 0);
        CHECK_INT(-EPERM, open_run_dir(box_path("dir"), true, "others may write to it"));
    }
    REQUIRE(chmod(box_path("dir"), 0755) == 0);
    CHECK_INT(0, open_run_dir(box_path("dir"), true, ""));
}

static void test_run_dir_of_others(void) {
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    REQUIRE(mkdir(box_path("dir"), 0755) == 0);
    REQUIRE(chown(box_path("dir"), NOBODY, 0) == 0);
    CHECK_INT(-EPERM, open_run_dir(box_path("dir"), true, "belongs to another user (nobody)"));
    REQUIRE(chown(box_path("dir"), 1234567, 0) == 0);
    CHECK_INT(-EPERM, open_run_dir(box_path("dir"), true, "belongs to another user (unknown)"));
    CHECK_INT(0, open_run_dir(box_path("dir"), false, "")); /* root may look */
    REQUIRE(chmod(box_path("."), 0755) == 0 && seteuid(NOBODY) == 0);
    CHECK_INT(-EPERM, open_run_dir(box_path("dir"), false, "belongs to another user"));
    REQUIRE(seteuid(0) == 0 && chown(box_path("dir"), 0, 0) == 0 && seteuid(NOBODY) == 0);
    CHECK_INT(0, open_run_dir(box_path("dir"), false, ""));
    REQUIRE(seteuid(0) == 0);
}

static const struct check_case cases[] = {
    {"a path is made absolute", test_absolute},
    {"in a directory that is gone no path can be", test_lost_directory},
    {"the run directory of root", test_run_dir_as_root},
    {"the run directory of a user", test_run_dir_as_user},
    {"relative directories of the environment are made absolute", test_environment},
    {"the log file of root", test_log_as_root},
    {"the log file of a user", test_log_as_user},
    {"search templates", test_search},
    {"the name that a script implies", test_script_name},
    {"what means a script's path", test_is_script},
    {"a run directory is made for its owner alone, whatever the umask", test_run_dir_is_made},
    {"a link, a file and what others may write to are refused", test_run_dir_is_refused},
    {"a run directory of others is refused", test_run_dir_of_others},
};

CHECK_MAIN(cases)

#include "engine/path_watch.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "support.h"

static uv_loop_t loop;
static struct ld_path_watch *watch;
static int changes;

/* Count what changes. */
static void on_change(void *arg) {
    CHECK(arg == &changes);
    changes++;
}

/* Have the loop turn as long as there are events. */
static bool has_changed(void *arg) {
    (void)arg;
    uv_run(&loop, UV_RUN_NOWAIT);
    return changes > 0;
}

/* Check that the events so far, which the kernel has queued by now, mean a change; or that they mean none. */
static void check_change(bool expected) {
    if (expected) {
        CHECK(wait_until(has_changed, NULL));
    } else {
        CHECK(!has_changed(NULL));
    }
    while (has_changed(NULL)) { /* all of them */
        changes = 0;
    }
}

/* Watch one path, or two. */
static void begin(const char *path, const char *other) {
    const char *where;
    REQUIRE(uv_loop_init(&loop) == 0);
    changes = 0;
    REQUIRE(ld_path_watch_open(&watch, &loop, on_change, &changes) == 0);
    CHECK_INT(0, ld_path_watch_add(watch, path));
    CHECK_INT(0, ld_path_watch_update(watch, &where));
    if (other != NULL) {
        CHECK_INT(0, ld_path_watch_add(watch, other));
        CHECK_INT(0, ld_path_watch_update(watch, &where));
    }
}

static void end(void) {
    ld_path_watch_close(watch);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(0, uv_loop_close(&loop));
}

static void test_file(void) {
    write_file(box_path("x"), "1");
    write_file(box_path("y"), "1");
    begin(box_path("x"), NULL);
    check_change(false);
    write_file(box_path("x"), "2");
    check_change(true);
    write_file(box_path("y"), "2");
    write_file(box_path("z"), "2");
    check_change(false);
    CHECK_INT(0, rename(box_path("y"), box_path("x")));
    check_change(true);
    write_file(box_path("x"), "3"); /* the new one */
    check_change(true);
    CHECK_INT(0, unlink(box_path("x")));
    check_change(true);
    write_file(box_path("x"), "4");
    check_change(true);
    CHECK_INT(0, rename(box_path("x"), box_path("x~")));
    check_change(true);
    write_file(box_path("x~"), "5");
    check_change(false);
    end();
}

static void test_way(void) {
    begin(box_path("a/b/c/x"), box_path("a/./b/../b/c/y"));
    CHECK_INT(0, mkdir(box_path("n"), 0755));
    check_change(false);
    CHECK_INT(0, mkdir(box_path("a"), 0755));
    CHECK_INT(0, mkdir(box_path("a/b"), 0755));
    check_change(true);
    CHECK_INT(0, mkdir(box_path("a/b/c"), 0755));
    check_change(true);
    write_file(box_path("a/b/c/x"), "1");
    check_change(true);
    write_file(box_path("a/b/c/y"), "1");
    check_change(true);
    write_file(box_path("a/b/z"), "1");
    check_change(false);
    CHECK_INT(0, rename(box_path("a"), box_path("moved")));
    check_change(true);
    write_file(box_path("moved/b/c/x"), "2");
    check_change(false);
    CHECK_INT(0, rename(box_path("moved"), box_path("a")));
    check_change(true);
    write_file(box_path("a/b/c/y"), "2");
    check_change(true);
    end();
}

static void test_links(void) {
    CHECK_INT(0, mkdir(box_path("one"), 0755));
    CHECK_INT(0, mkdir(box_path("two"), 0755));
    write_file(box_path("one/x"), "1");
    write_file(box_path("two/x"), "1");
    CHECK_INT(0, symlink("one", box_path("link")));
    CHECK_INT(0, symlink("two", box_path("new")));
    CHECK_INT(0, symlink("loop", box_path("loop")));
    begin(box_path("link/x"), box_path("loop/x"));
    write_file(box_path("two/x"), "2");
    check_change(false);
    write_file(box_path("one/x"), "2");
    check_change(true);
    CHECK_INT(0, rename(box_path("new"), box_path("link")));
    check_change(true);
    write_file(box_path("one/x"), "3");
    check_change(false);
    write_file(box_path("two/x"), "3");
    check_change(true);
    CHECK_INT(0, symlink("../one/x", box_path("two/new")));
    CHECK_INT(0, rename(box_path("two/new"), box_path("two/x")));
    check_change(true);
    write_file(box_path("one/x"), "4");
    check_change(true);
    end();
}

static void test_clear(void) {
    const char *where;
    write_file(box_path("x"), "1");
    write_file(box_path("y"), "1");
    begin(box_path("x"), NULL);
    size_t count = ld_path_watch_count(watch);
    ld_path_watch_clear(watch);
    CHECK_INT(0, ld_path_watch_add(watch, box_path("y")));
    CHECK_INT(0, ld_path_watch_update(watch, &where));
    CHECK_INT((long long)count, (long long)ld_path_watch_count(watch));
    write_file(box_path("x"), "2");
    check_change(false);
    write_file(box_path("y"), "2");
    check_change(true);
    end();
}

static void test_many(void) {
    const char *where;
    char name[32];
    begin(box_path("0"), NULL);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "%d", i);
        write_file(box_path(name), "1");
        CHECK_INT(0, ld_path_watch_add(watch, box_path(name)));
    }
    CHECK_INT(0, ld_path_watch_update(watch, &where));
    check_change(true); /* the first */
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "%d", i);
        write_file(box_path("new"), "2");
        CHECK_INT(0, rename(box_path("new"), box_path(name)));
        check_change(true);
        write_file(box_path(name), "3");
        check_change(true);
    }
    CHECK(ld_path_watch_count(watch) < 330);
    end();
}

static const struct check_case cases[] = {
    {"a file that is written, replaced, removed and made", test_file},
    {"directories on the way", test_way},
    {"links on the way", test_links},
    {"other paths", test_clear},
    {"many files in one directory", test_many},
};

CHECK_MAIN(cases)

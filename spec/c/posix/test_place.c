#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "posix/place.h"
#include "support.h"

#define NOBODY  65534
#define MEMBERS 60001 /* a group that the user has, but not as its primary one */
#define OTHERS  60002 /* one that it has not */
#define THIRD   60003 /* another user */

static gid_t user_groups[] = {NOBODY, MEMBERS};
static const struct ld_user nobody = {
    .uid = NOBODY, .gid = NOBODY, .groups = user_groups, .group_count = 2};

/* Check that this process touches files with its own rights. */
static void check_rights(void) {
    CHECK_INT((int)geteuid(), setfsuid((uid_t)-1));
    CHECK_INT((int)getegid(), setfsgid((gid_t)-1));
}

/* Open the place of a path for USER; 0 or a negative errno. */
static int find_for(const struct ld_user *user, const char *path, bool make) {
    struct ld_place place;
    int rc = ld_place_open(&place, path, user, make);
    CHECK(rc <= 0);
    CHECK((rc == 0) == (place.dir >= 0));
    check_rights();
    ld_place_close(&place);
    CHECK_INT(-1, place.dir);
    ld_place_close(&place); /* twice does nothing */
    return rc;
}

/* Check which directory and name the place of PATH has, and whether it is the user's. */
static void check_place(const struct ld_user *user, const char *path, const char *dir,
                        const char *name, bool is_users) {
    struct ld_place place;
    struct stat expected = {0};
    struct stat got = {0};
    int rc = ld_place_open(&place, path, user, false);
    check_rights();
    if (!CHECK(rc == 0)) {
        printf("    %s: %s\n", path, strerror(-rc));
        return;
    }
    CHECK(stat(dir, &expected) == 0 && fstat(place.dir, &got) == 0);
    CHECK(expected.st_ino == got.st_ino && expected.st_dev == got.st_dev);
    CHECK_STR(name, place.name);
    CHECK_INT(FD_CLOEXEC, fcntl(place.dir, F_GETFD));
    if (!CHECK(place.is_users == is_users)) {
        printf("    %s\n", path);
    }
    ld_place_close(&place);
}

/* Make a directory in the box, with an owner and a mode. */
static void make_dir(const char *name, uid_t uid, gid_t gid, mode_t mode) {
    REQUIRE(mkdir(box_path(name), 0700) == 0);
    if (geteuid() == 0) {
        REQUIRE(chown(box_path(name), uid, gid) == 0);
    }
    REQUIRE(chmod(box_path(name), mode) == 0);
}

/* Make a link in the box to TARGET, with an owner. */
static void make_link(const char *name, const char *target, uid_t uid) {
    REQUIRE(symlink(target, box_path(name)) == 0);
    if (geteuid() == 0) {
        REQUIRE(lchown(box_path(name), uid, 0) == 0);
    }
}

/* Let others search the box. */
static void open_box(void) {
    REQUIRE(chmod(box_path(""), 0755) == 0);
}

static void test_paths(void) {
    make_dir("a", 0, 0, 0755);
    make_dir("a/b", 0, 0, 0755);
    make_dir("c", 0, 0, 0755);
    make_link("a/up", "..", 0);
    make_link("a/across", "../c", 0);
    make_link("chain", "a/across", 0);
    make_link("absolute", box_path("a/b"), 0);
    make_link("slashes", "a//b/", 0);
    make_link("file-link", "nothing", 0);
    check_place(NULL, box_path("file"), box_path(""), "file", false);
    check_place(NULL, box_path("a/b/file"), box_path("a/b"), "file", false);
    check_place(NULL, box_path("a//b///file"), box_path("a/b"), "file", false);
    check_place(NULL, box_path("a/./b/../file"), box_path("a"), "file", false);
    check_place(NULL, box_path("a/b/../../c/file"), box_path("c"), "file", false);
    check_place(NULL, box_path("a/up/c/file"), box_path("c"), "file", false);
    check_place(NULL, box_path("a/across/file"), box_path("c"), "file", false);
    check_place(NULL, box_path("chain/file"), box_path("c"), "file", false);
    check_place(NULL, box_path("absolute/file"), box_path("a/b"), "file", false);
    check_place(NULL, box_path("absolute/../file"), box_path("a"), "file", false);
    check_place(NULL, box_path("slashes/file"), box_path("a/b"), "file", false);
    check_place(NULL, box_path("file-link"), box_path(""), "file-link", false); /* not followed */
    check_place(NULL, "/../../file", "/", "file", false);
    check_place(NULL, "//file", "/", "file", false);
}

static void test_no_place(void) {
    static const char *const none[] = {"", ".", "file", "./file", "a/b", "../x"};
    for (size_t i = 0; i < LD_COUNT(none); i++) {
        CHECK_INT(-EINVAL, find_for(NULL, none[i], true));
    }
    write_file(box_path("file"), "");
    make_link("dangling", "nothing", 0);
    make_link("to-file", "file", 0);
    make_link("self", "self", 0);
    make_link("ping", "pong/x", 0);
    make_link("pong", "ping", 0);
    CHECK_INT(-EISDIR, find_for(NULL, "/", false));
    CHECK_INT(-EISDIR, find_for(NULL, "///", true));
    CHECK_INT(-ENOENT, find_for(NULL, box_path("none/x"), false));
    CHECK_INT(-ENOENT, find_for(NULL, box_path("dangling/x"), false));
    CHECK_INT(-ENOTDIR, find_for(NULL, box_path("file/x"), true));
    CHECK_INT(-ENOTDIR, find_for(NULL, box_path("to-file/x"), true));
    CHECK_INT(-ELOOP, find_for(NULL, box_path("self/x"), true));
    CHECK(find_for(NULL, box_path("ping/x"), false) < 0);
}

static void test_many_links(void) {
    char name[16];
    char target[16];
    make_dir("l0", 0, 0, 0755);
    for (int i = 1; i <= 41; i++) {
        snprintf(name, sizeof name, "l%d", i);
        snprintf(target, sizeof target, "l%d", i - 1);
        make_link(name, target, 0);
    }
    check_place(NULL, box_path("l40/x"), box_path("l0"), "x", false);
    CHECK_INT(-ELOOP, find_for(NULL, box_path("l41/x"), false));
    check_place(NULL, box_path("l40/../l0/x"), box_path("l0"), "x", false);
}

static void test_long_names(void) {
    static char path[PATH_MAX + 64];
    static char target[PATH_MAX];
    char name[NAME_MAX + 2];
    memset(name, 'n', sizeof name - 1);
    name[NAME_MAX + 1] = '\0';
    snprintf(path, sizeof path, "%s/%s", box_path(""), name);
    CHECK_INT(-ENAMETOOLONG, find_for(NULL, path, true));
    snprintf(path, sizeof path, "%s/%s/x", box_path(""), name);
    CHECK_INT(-ENAMETOOLONG, find_for(NULL, path, true));
    name[NAME_MAX] = '\0';
    snprintf(path, sizeof path, "%s/%s", box_path(""), name);
    check_place(NULL, path, box_path(""), name, false);
    REQUIRE(mkdir(path, 0755) == 0);
    snprintf(path, sizeof path, "%s/%s/%s", box_path(""), name, name);
    CHECK_INT(0, find_for(NULL, path, false));
    memset(path, '/', sizeof path); /* 4095 bytes are a path, 4096 are none */
    path[PATH_MAX - 1] = '\0';
    path[PATH_MAX - 2] = 'x';
    CHECK_INT(0, find_for(NULL, path, false));
    path[PATH_MAX - 1] = 'x';
    path[PATH_MAX] = '\0';
    CHECK_INT(-ENAMETOOLONG, find_for(NULL, path, false));
    memset(target, '/', sizeof target);
    target[PATH_MAX - 1] = '\0';
    make_link("long", target, 0);
    CHECK_INT(-ENAMETOOLONG, find_for(NULL, box_path("long/x"), false)); /* with what follows */
}

static void test_make(void) {
    struct stat facts = {0};
    mode_t mask = umask(0);
    CHECK_INT(0, find_for(NULL, box_path("a/b/c/file"), true));
    umask(mask);
    CHECK(stat(box_path("a/b/c"), &facts) == 0 && (facts.st_mode & 07777) == 0755);
    CHECK(stat(box_path("a"), &facts) == 0 && (facts.st_mode & 07777) == 0755);
    CHECK(access(box_path("a/b/c/file"), F_OK) < 0); /* the file is not */
    make_link("link", "new/deep", 0);
    CHECK_INT(0, find_for(NULL, box_path("link/file"), true)); /* where a link says */
    CHECK(access(box_path("new/deep"), F_OK) == 0);
    CHECK_INT(-ENOENT, find_for(NULL, box_path("x/y/file"), false));
    CHECK(access(box_path("x"), F_OK) < 0);
}

static void test_same_user(void) {
    const struct ld_user self = {.uid = geteuid(), .gid = getegid()};
    make_dir("own", geteuid(), getegid(), 0777);
    check_place(&self, box_path("own/file"), box_path("own"), "file", false); /* gives nothing up */
    CHECK_INT(0, find_for(&self, box_path("own/new/file"), true));
}

/* Whether we are root; skips the case otherwise. */
static bool needs_root(void) {
    if (geteuid() != 0) {
        check_skip("needs root");
        return false;
    }
    open_box();
    return true;
}

static void test_directories(void) {
    static const struct {
        const char *name;
        uid_t uid;
        gid_t gid;
        mode_t mode;
        bool is_users;
    } rows[] = {
        {"roots", 0, 0, 0755, false},
        {"own", NOBODY, NOBODY, 0755, true},
        {"own-read-only", NOBODY, NOBODY, 0555, true}, /* its owner can change the mode */
        {"own-group", NOBODY, 0, 0700, true},
        {"members", 0, MEMBERS, 0775, true},
        {"primary", 0, NOBODY, 0775, true},
        {"members-read", 0, MEMBERS, 0755, false},
        {"others", 0, OTHERS, 0775, false},
        {"third", THIRD, THIRD, 0755, false},
        {"world", 0, 0, 0777, true},
        {"world-write", 0, 0, 0703, true},
        {"sticky", 0, 0, 01777, false},
        {"sticky-members", 0, MEMBERS, 01775, false},
        {"sticky-own", NOBODY, 0, 01777, true},
        {"set-group", 0, MEMBERS, 02775, true},
    };
    if (!needs_root()) {
        return;
    }
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        char path[64];
        char deep[64];
        make_dir(rows[i].name, rows[i].uid, rows[i].gid, rows[i].mode);
        snprintf(path, sizeof path, "%s/file", rows[i].name);
        check_place(&nobody, box_path(path), box_path(rows[i].name), "file", rows[i].is_users);
        check_place(NULL, box_path(path), box_path(rows[i].name), "file", false);
        snprintf(deep, sizeof deep, "%s/deep", rows[i].name);
        make_dir(deep, 0, 0, 0755); /* root's, in a directory that need not be */
        snprintf(path, sizeof path, "%s/deep/file", rows[i].name);
        check_place(&nobody, box_path(path), box_path(deep), "file", rows[i].is_users);
    }
}

static void test_sticky(void) {
    if (!needs_root()) {
        return;
    }
    make_dir("sticky", 0, 0, 01777);
    write_file(box_path("sticky/roots"), "");
    write_file(box_path("sticky/own"), "");
    write_file(box_path("sticky/third"), "");
    REQUIRE(chown(box_path("sticky/own"), NOBODY, 0) == 0);
    REQUIRE(chown(box_path("sticky/third"), THIRD, 0) == 0);
    check_place(&nobody, box_path("sticky/none"), box_path("sticky"), "none", false);
    check_place(&nobody, box_path("sticky/roots"), box_path("sticky"), "roots", false);
    check_place(&nobody, box_path("sticky/third"), box_path("sticky"), "third", true);
    check_place(&nobody, box_path("sticky/own"), box_path("sticky"), "own", true);
    make_dir("sticky/dir", 0, 0, 0755);
    make_dir("sticky/own-dir", NOBODY, 0, 0755);
    make_dir("secret", 0, 0, 0700);
    make_link("sticky/link", "../secret", 0);
    make_link("sticky/own-link", "../secret", NOBODY);
    check_place(&nobody, box_path("sticky/dir/x"), box_path("sticky/dir"), "x", false);
    check_place(&nobody, box_path("sticky/own-dir/x"), box_path("sticky/own-dir"), "x", true);
    check_place(&nobody, box_path("sticky/link/x"), box_path("secret"), "x", false);
    check_place(NULL, box_path("sticky/own-link/x"), box_path("secret"), "x", false);
    check_place(&nobody, box_path("sticky/own-link"), box_path("sticky"), "own-link", true);
    CHECK_INT(-EACCES, find_for(&nobody, box_path("sticky/own-link/deep/x"), true));
}

static void test_links(void) {
    if (!needs_root()) {
        return;
    }
    make_dir("own", NOBODY, 0, 0755);
    make_dir("own/deep", NOBODY, 0, 0755);
    make_dir("roots", 0, 0, 0755);
    make_dir("secret", 0, 0, 0700);
    make_dir("secret/deep", 0, 0, 0755);
    make_link("to-own", "own", 0);
    make_link("to-roots", "roots", 0);
    make_link("to-deep", box_path("own/deep"), 0);
    make_link("bent", "roots", NOBODY); /* made when the directory was the user's */
    make_link("own/link", "../roots", NOBODY);
    make_link("own/absolute", box_path("roots"), NOBODY);
    make_link("own/roots-link", "../roots", 0);
    make_link("own/to-secret", "../secret/deep", NOBODY);
    check_place(&nobody, box_path("to-own/x"), box_path("own"), "x", true);
    check_place(&nobody, box_path("to-deep/x"), box_path("own/deep"), "x", true);
    check_place(&nobody, box_path("to-roots/x"), box_path("roots"), "x", false);
    check_place(&nobody, box_path("bent/x"), box_path("roots"), "x", true);
    check_place(&nobody, box_path("own/link/x"), box_path("roots"), "x", true);
    check_place(&nobody, box_path("own/absolute/x"), box_path("roots"), "x", true);
    check_place(&nobody, box_path("own/roots-link/x"), box_path("roots"), "x", true);
    check_place(&nobody, box_path("own/../roots/x"), box_path("roots"), "x", true);
    CHECK_INT(-EACCES, find_for(&nobody, box_path("own/to-secret/x"), false));
    CHECK_INT(-EACCES, find_for(&nobody, box_path("own/../secret/deep/x"), true));
    CHECK_INT(0, find_for(NULL, box_path("own/to-secret/x"), false));
    check_place(&nobody, box_path("secret/deep/x"), box_path("secret/deep"), "x", false);
}

/* Check whose a directory is, and its mode. */
static void check_owner(const char *name, uid_t uid, gid_t gid) {
    struct stat facts = {.st_uid = 99};
    CHECK(stat(box_path(name), &facts) == 0);
    CHECK_INT(uid, facts.st_uid);
    CHECK_INT(gid, facts.st_gid);
    CHECK_INT(0755, facts.st_mode & 07777);
}

static void test_make_as(void) {
    if (!needs_root()) {
        return;
    }
    make_dir("own", NOBODY, 0, 0755);
    make_dir("roots", 0, 0, 0755);
    make_dir("sticky", 0, 0, 01777);
    make_link("own/link", "../roots/new", NOBODY);
    make_link("to-own", "own/far", 0);
    mode_t mask = umask(022);
    CHECK_INT(0, find_for(&nobody, box_path("roots/a/b/x"), true));
    check_owner("roots/a/b", 0, 0);
    CHECK_INT(0, find_for(&nobody, box_path("own/a/b/x"), true));
    check_owner("own/a", NOBODY, NOBODY);
    check_owner("own/a/b", NOBODY, NOBODY);
    CHECK_INT(0, find_for(&nobody, box_path("to-own/x"), true));
    check_owner("own/far", NOBODY, NOBODY);
    CHECK_INT(0, find_for(&nobody, box_path("sticky/a/b/x"), true));
    check_owner("sticky/a", 0, 0); /* no one can take it away */
    CHECK_INT(-EACCES, find_for(&nobody, box_path("own/link/x"), true));
    CHECK(access(box_path("roots/new"), F_OK) < 0);
    CHECK_INT(-EACCES, find_for(&nobody, box_path("own/../roots/other/x"), true));
    CHECK(access(box_path("roots/other"), F_OK) < 0);
    umask(mask);
}

/* Make a file at the place of PATH with the rights that it has; its owner. */
static int owner_of_new(const char *path) {
    struct ld_place place;
    struct stat facts = {0};
    int fd = -1;
    REQUIRE(ld_place_open(&place, path, &nobody, false) == 0);
    int rc = ld_place_enter(&place);
    if (rc == 0) {
        fd = openat(place.dir, place.name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        rc = fd < 0 ? -errno : fstat(fd, &facts) < 0 ? -errno : (int)facts.st_uid;
        ld_place_leave(&place);
    }
    if (fd >= 0) {
        close(fd);
    }
    check_rights();
    ld_place_close(&place);
    return rc;
}

static void test_rights(void) {
    if (!needs_root()) {
        return;
    }
    make_dir("own", NOBODY, 0, 0755);
    make_dir("roots", 0, 0, 0755);
    make_link("own/link", "../roots", NOBODY);
    make_dir("members", 0, MEMBERS, 0770);
    CHECK_INT(0, owner_of_new(box_path("roots/file")));
    CHECK_INT(NOBODY, owner_of_new(box_path("own/file")));
    CHECK_INT(NOBODY, owner_of_new(box_path("members/file"))); /* with its groups */
    CHECK_INT(-EACCES, owner_of_new(box_path("own/link/new")));
}

/* Let the user swap a link to the secret directory in and out, and check that it is never walked with
 * root's rights. */
static void race(void) {
    struct ld_place place;
    int bent = 0;
    pid_t pid = fork_bound();
    if (pid == 0) {
        REQUIRE(setresuid(NOBODY, NOBODY, NOBODY) == 0);
        for (;;) {
            (void)!symlink("../secret", box_path("sticky/x"));
            unlink(box_path("sticky/x"));
        }
    }
    uint64_t end = now_ns() + 1000000000U;
    while (now_ns() < end) {
        if (ld_place_open(&place, box_path("sticky/x/file"), &nobody, false) == 0) {
            bent += !place.is_users;
            ld_place_close(&place);
        }
    }
    CHECK_INT(0, bent);
    check_rights();
    end_child(pid);
}

static void test_race(void) {
    if (!needs_root()) {
        return;
    }
    make_dir("sticky", 0, 0, 01777);
    make_dir("secret", 0, 0, 0755);
    race();
}

static const struct check_case cases[] = {
    {"a path is walked to its directory", test_paths},
    {"a path without a place is refused", test_no_place},
    {"forty links are followed", test_many_links},
    {"long names and paths", test_long_names},
    {"missing directories are made", test_make},
    {"who gives no rights up bends nothing", test_same_user},
    {"directories that the user can rename in are the user's", test_directories},
    {"in a sticky directory what neither root nor its owner has made is", test_sticky},
    {"links of root's lead on, those of the user are the user's", test_links},
    {"directories are made with the rights of the way", test_make_as},
    {"a file is touched with the rights of its place", test_rights},
    {"a link that comes meanwhile is not followed with root's rights", test_race},
};

CHECK_MAIN(cases)

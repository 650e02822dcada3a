#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "posix/user.h"
#include "support.h"

/* Find SPEC and check what is said about it if it cannot be found ("": it can). */
static struct ld_user find(const char *spec, int expected, const char *reason) {
    struct ld_user user;
    struct ld_text why = {0};
    CHECK_INT(expected, ld_user_find(&user, spec, &why));
    CHECK_STR(reason, ld_text_string(&why));
    ld_text_fini(&why);
    return user;
}

static void test_by_name_and_number(void) {
    static const char *const specs[] = {"root", "0", "root:root", "0:0", "root:0", "0:root"};
    for (size_t i = 0; i < LD_COUNT(specs); i++) {
        struct ld_user user = find(specs[i], 0, "");
        CHECK_INT(0, user.uid);
        CHECK_INT(0, user.gid);
        CHECK_STR("root", user.name);
        CHECK_STR("/root", user.home);
        CHECK(user.group_count > 0);
        ld_user_fini(&user);
    }
}

static void test_groups(void) {
    struct passwd *entry;
    setpwent();
    while ((entry = getpwent()) != NULL) {
        gid_t expected[256];
        int count = 256;
        char name[64];
        gid_t gid = entry->pw_gid;
        uid_t uid = entry->pw_uid;
        snprintf(name, sizeof name, "%s", entry->pw_name);
        getgrouplist(name, gid, expected, &count);
        struct ld_user user = find(name, 0, "");
        CHECK_INT(uid, user.uid);
        CHECK_INT(gid, user.gid);
        CHECK_INT(count, user.group_count);
        CHECK(memcmp(expected, user.groups, (size_t)count * sizeof *expected) == 0);
        ld_user_fini(&user);
    }
    endpwent();
}

static void test_group_chosen(void) {
    struct ld_user user = find("root:12345", 0, "");
    CHECK_INT(0, user.uid);
    CHECK_INT(12345, user.gid);
    CHECK_INT(12345, user.groups[0]);
    ld_user_fini(&user);
    user = find("1234567:7654321", 0, ""); /* in no database */
    CHECK_INT(1234567, user.uid);
    CHECK_INT(7654321, user.gid);
    CHECK(user.name == NULL);
    CHECK_INT(0, user.group_count);
    ld_user_fini(&user);
}

static void test_unknown(void) {
    static const struct {
        const char *spec;
        const char *reason;
    } rows[] = {
        {"nobody-of-that-name", "there is no user \"nobody-of-that-name\""},
        {"", "there is no user \"\""},
        {":root", "there is no user \"\""},
        {"root:", "there is no group \"\""},
        {"root:no-such-group", "there is no group \"no-such-group\""},
        {"root:root:root", "there is no group \"root:root\""},
        {"-1", "there is no user \"-1\""},
        {"root:-1", "there is no group \"-1\""},
        {"4294967295", "there is no user \"4294967295\""}, /* which would mean "as we are" */
        {"root:4294967295", "there is no group \"4294967295\""},
        {"1e3", "there is no user \"1e3\""},
        {" root", "there is no user \" root\""},
        {"1234567", "user 1234567 is not in the user database: give USER:GROUP"},
    };
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        struct ld_user user = find(rows[i].spec, -ENOENT, rows[i].reason);
        CHECK(user.name == NULL && user.groups == NULL);
        ld_user_fini(&user);
    }
}

static void test_find_group(void) {
    gid_t gid = 77;
    CHECK_INT(0, ld_user_find_group("root", &gid));
    CHECK_INT(0, gid);
    CHECK_INT(0, ld_user_find_group("54321", &gid));
    CHECK_INT(54321, gid);
    CHECK_INT(-ENOENT, ld_user_find_group("no-such-group", &gid));
    CHECK_INT(54321, gid);
}

/* Check who we are, and that it is for good. */
static void check_dropped(const struct ld_user *user) {
    uid_t uids[3];
    gid_t gids[3];
    gid_t groups[256];
    getresuid(&uids[0], &uids[1], &uids[2]);
    getresgid(&gids[0], &gids[1], &gids[2]);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(user->uid, uids[i]);
        CHECK_INT(user->gid, gids[i]);
    }
    CHECK_INT(user->group_count, getgroups(256, groups));
    CHECK(setuid(0) < 0);
    CHECK(seteuid(0) < 0);
    CHECK(setgid(0) < 0);
}

static const char *drop_to;

/* Drop to a user. */
static void drop(void) {
    struct ld_text why = {0};
    const gid_t more[2] = {0, 4};
    struct ld_user user = find(drop_to, 0, "");
    REQUIRE(setgroups(2, more) == 0);
    CHECK_INT(0, ld_user_become(&user, &why));
    CHECK_STR("", ld_text_string(&why));
    check_dropped(&user);
    CHECK_INT(0, ld_user_become(&user, &why)); /* again: an unprivileged user names itself */
    ld_user_fini(&user);
    ld_text_fini(&why);
}

static void test_become(void) {
    static const char *const specs[] = {"nobody", "daemon:adm", "1234567:7654321"};
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    for (size_t i = 0; i < LD_COUNT(specs); i++) {
        drop_to = specs[i];
        check_in_child(drop);
    }
}

/* Without the right to. */
static void fail_to_drop(void) {
    struct ld_text why = {0};
    struct ld_user nobody = find("nobody", 0, "");
    struct ld_user root = find("root", 0, "");
    REQUIRE(ld_user_become(&nobody, &why) == 0);
    CHECK_INT(-EPERM, ld_user_become(&root, &why));
    CHECK_STR("setgroups: Operation not permitted", ld_text_string(&why));
    ld_user_fini(&nobody);
    ld_user_fini(&root);
    ld_text_fini(&why);
}

/* A drop that leaves a way back is none. */
static void keep_a_way_back(void) {
    struct ld_text why = {0};
    struct ld_user user = find("nobody", 0, "");
    REQUIRE(prctl(PR_SET_SECUREBITS, 4 /* SECBIT_NO_SETUID_FIXUP */, 0, 0, 0) == 0);
    CHECK_INT(-EPERM, ld_user_become(&user, &why));
    CHECK_STR("root could be regained after the drop", ld_text_string(&why));
    ld_user_fini(&user);
    ld_text_fini(&why);
}

static void test_become_fails(void) {
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    check_in_child(fail_to_drop);
    check_in_child(keep_a_way_back);
}

/* Check by which ids files are checked now. */
static void check_fs_ids(uid_t uid, gid_t gid) {
    CHECK_INT((int)uid, setfsuid((uid_t)-1));
    CHECK_INT((int)gid, setfsgid((gid_t)-1));
}

/* Check our supplementary groups. */
static void check_groups(const gid_t *groups, int count) {
    gid_t got[16];
    CHECK_INT(count, getgroups(16, got));
    CHECK(memcmp(groups, got, (size_t)count * sizeof *groups) == 0);
}

/* Touch files with the rights of a user for a while. */
static void enter_and_leave(void) {
    const gid_t own[] = {0, 60007};
    gid_t groups[] = {60001, 65534}; /* sorted, as the kernel does */
    const struct ld_user user = {.uid = 65534, .gid = 65534, .groups = groups, .group_count = 2};
    struct stat facts = {0};
    REQUIRE(setgroups(2, own) == 0 && chmod(box_path(""), 0777) == 0);
    write_file(box_path("secret"), "x");
    REQUIRE(chmod(box_path("secret"), 0600) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(0, ld_user_enter(&user));
        check_fs_ids(65534, 65534);
        check_groups(groups, 2);
        CHECK_INT(0, geteuid()); /* for signals and all else it is still root */
        CHECK(open(box_path("secret"), O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
        CHECK(mkdir(box_path("made"), 0700) == 0);
        ld_user_leave(&user);
        check_fs_ids(0, 0);
        check_groups(own, 2);
        CHECK(stat(box_path("made"), &facts) == 0 && facts.st_uid == 65534 &&
              facts.st_gid == 65534);
        CHECK(rmdir(box_path("made")) == 0);
        CHECK_STR("x", read_file(box_path("secret")));
    }
    ld_user_leave(&user); /* without having entered */
    check_groups(own, 2);
}

/* With nothing to give up nothing changes. */
static void enter_nothing(void) {
    const struct ld_user root = {.uid = 0, .gid = 5};
    const struct ld_user user = {.uid = 65534, .gid = 65534};
    const gid_t own[] = {60007};
    CHECK(!ld_user_is_lesser(NULL) && !ld_user_is_lesser(&root) && ld_user_is_lesser(&user));
    REQUIRE(setgroups(1, own) == 0);
    CHECK_INT(0, ld_user_enter(NULL));
    CHECK_INT(0, ld_user_enter(&root));
    check_fs_ids(0, 0);
    check_groups(own, 1);
    ld_user_leave(&root);
    ld_user_leave(NULL);
    REQUIRE(setresgid(60004, 60004, 60004) == 0 && setresuid(60004, 60004, 60004) == 0);
    CHECK(!ld_user_is_lesser(&user));
    CHECK_INT(0, ld_user_enter(&user));
    check_fs_ids(60004, 60004);
    ld_user_leave(&user);
    check_groups(own, 1);
}

/* A user that cannot be entered changes nothing. */
static void enter_in_vain(void) {
    const gid_t own[] = {60007};
    gid_t groups[] = {65534};
    const struct ld_user user = {.uid = 65534, .gid = 65534, .groups = groups, .group_count = 1};
    static gid_t too_many[65537];
    const struct ld_user many = {
        .uid = 65534, .gid = 65534, .groups = too_many, .group_count = LD_COUNT(too_many)};
    REQUIRE(setgroups(1, own) == 0);
    CHECK_INT(-EINVAL, ld_user_enter(&many));
    check_fs_ids(0, 0);
    check_groups(own, 1);
    deny_syscall(SYS_setfsuid, EPERM);
    CHECK_INT(-EPERM, ld_user_enter(&user));
    CHECK_INT(0, setfsgid((gid_t)-1));
    check_groups(own, 1);
}

static void test_enter(void) {
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    box_path(""); /* the box is ours, not the child's */
    check_in_child(enter_and_leave);
    check_in_child(enter_nothing);
    check_in_child(enter_in_vain);
}

static void test_can_rename_in(void) {
    gid_t groups[] = {7, 60001};
    const struct ld_user user = {.uid = 100, .gid = 200, .groups = groups, .group_count = 2};
    static const struct {
        uid_t uid;
        gid_t gid;
        mode_t mode;
        bool expected;
    } rows[] = {
        {0, 0, 0755, false},     {100, 0, 0555, true},    {100, 0, 0, true},
        {0, 0, 0757, true},      {0, 0, 0702, true},      {0, 200, 0775, true},
        {0, 60001, 0775, true},  {0, 7, 0720, true},      {0, 8, 0775, false},
        {0, 200, 0755, false},   {101, 201, 0775, false}, {0, 0, 01777, true},
        {200, 100, 0770, false}, {0, 60001, 0705, false},
    };
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        const char *path = box_path("dir");
        REQUIRE(mkdir(path, 0700) == 0 && chown(path, rows[i].uid, rows[i].gid) == 0 &&
                chmod(path, rows[i].mode) == 0);
        int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (!CHECK(ld_user_can_rename_in(&user, dir) == rows[i].expected)) {
            printf("    row %zu\n", i);
        }
        close(dir);
        rmdir(path);
    }
}

static const struct check_case cases[] = {
    {"a user is found by name and by number", test_by_name_and_number},
    {"the supplementary groups come with the user", test_groups},
    {"a group can be chosen", test_group_chosen},
    {"what is unknown is named", test_unknown},
    {"a group is found by name and by number", test_find_group},
    {"a drop is of all ids and groups, and for good", test_become},
    {"a drop that fails, or leaves a way back, says so", test_become_fails},
    {"files are touched with a user's rights until they are left", test_enter},
    {"who may change the names in a directory", test_can_rename_in},
};

CHECK_MAIN(cases)

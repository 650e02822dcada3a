#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "check.h"
#include "support.h"
#include "user.h"

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

static const struct check_case cases[] = {
    {"a user is found by name and by number", test_by_name_and_number},
    {"the supplementary groups come with the user", test_groups},
    {"a group can be chosen", test_group_chosen},
    {"what is unknown is named", test_unknown},
    {"a group is found by name and by number", test_find_group},
    {"a drop is of all ids and groups, and for good", test_become},
    {"a drop that fails, or leaves a way back, says so", test_become_fails},
};

CHECK_MAIN(cases)

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "daemon/state_file.h"
#include "support.h"

#define NOBODY 65534

static const char *const parts[LD_STATE_PARTS] = {"given", "", "unasked\n"};

/* Write the parts as the state of SERVICE; what finishing returns. */
static int save(const char *path, const char *service, struct ld_text *why) {
    struct ld_state_draft draft;
    uint64_t size = 0;
    int rc = ld_state_draft_open(&draft, path, service, why);
    for (int i = 0; rc == 0 && i < LD_STATE_PARTS; i++) {
        struct ld_text half = {0};
        struct ld_text rest = {0};
        ld_text_add(&half, parts[i], strlen(parts[i]) / 2);
        ld_text_puts(&rest, parts[i] + strlen(parts[i]) / 2);
        rc = ld_state_draft_add(&draft, (enum ld_state_part)i, &half, why);
        rc = rc == 0 ? ld_state_draft_add(&draft, (enum ld_state_part)i, &rest, why) : rc;
        ld_text_fini(&half);
        ld_text_fini(&rest);
    }
    rc = rc == 0 ? ld_state_draft_finish(&draft, &size, why) : rc;
    ld_state_draft_fini(&draft);
    struct stat facts;
    if (rc >= 0) {
        CHECK(stat(path, &facts) == 0 && (uint64_t)facts.st_size == size);
        CHECK_INT(0600, facts.st_mode & 07777);
    }
    return rc;
}

/* Check that saving ends like this, with WORDS in the reason, and leaves no draft. */
static void check_save(int expected, const char *path, const char *words) {
    struct ld_text why = {0};
    char draft[4200];
    CHECK_INT(expected, save(path, "x", &why));
    if (strstr(ld_text_string(&why), words) == NULL) {
        CHECK_STR(words, ld_text_string(&why));
    }
    snprintf(draft, sizeof draft, "%s" LD_STATE_DRAFT, path);
    CHECK(access(draft, F_OK) < 0);
    ld_text_fini(&why);
}

/* Check that reading ends like this, with WORDS in the reason. */
static void check_read(int expected, const char *path, const char *words) {
    struct ld_state_file file;
    struct ld_text why = {0};
    CHECK_INT(expected, ld_state_file_read(&file, path, "x", &why));
    if (strstr(ld_text_string(&why), words) == NULL) {
        CHECK_STR(words, ld_text_string(&why));
    }
    for (int i = 0; expected == 0 && i < LD_STATE_PARTS; i++) {
        CHECK(file.parts[i].size == strlen(parts[i]) &&
              memcmp(file.parts[i].data, parts[i], file.parts[i].size) == 0);
    }
    ld_state_file_fini(&file);
    ld_text_fini(&why);
}

/* Write bytes. */
static void put(const char *path, const char *bytes, size_t size, mode_t mode) {
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && fchmod(fd, mode) == 0);
    close(fd);
}

static void test_round_trip(void) {
    const char *path = box_path("new/folder/x.state");
    struct stat folder;
    mode_t mask = umask(0);
    check_read(-ENOENT, path, "");
    check_save(1, path, "");
    check_read(0, path, "");
    CHECK(stat(box_path("new/folder"), &folder) == 0 && (folder.st_mode & 07777) == 0700);
    check_save(0, path, ""); /* nothing has changed */
    put(box_path("new/folder/x.state" LD_STATE_DRAFT), "lunad-state 1 x ", 16, 0600);
    unlink(path);
    check_save(1, path, "");
    umask(mask);
}

/* What has the name of a draft and is none is in the way: it is not lost. A draft of which nothing was written is. */
static void test_draft_of_others(void) {
    const char *path = box_path("x.state");
    const char *draft = box_path("x.state" LD_STATE_DRAFT);
    struct ld_text why = {0};
    put(draft, "mine", 4, 0600);
    CHECK_INT(-EEXIST, save(path, "x", &why));
    CHECK(strstr(ld_text_string(&why), "is in the way, and no draft of a state file") != NULL);
    CHECK(access(draft, F_OK) == 0 && access(path, F_OK) < 0);
    CHECK(unlink(draft) == 0 && symlink("elsewhere", draft) == 0);
    CHECK_INT(-EEXIST, save(path, "x", &why));
    put(draft, "lun", 3, 0600);
    check_save(1, path, "");
    put(draft, "", 0, 0600);
    check_save(0, path, "");
    ld_text_fini(&why);
}

/* Each beginning of a file and each wrong bit is noticed; then nothing of it is handed out. */
static void test_damage(void) {
    const char *path = box_path("x.state");
    char bytes[1000];
    check_save(1, path, "");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = read(fd, bytes, sizeof bytes);
    REQUIRE(size > 50 && (size_t)size < sizeof bytes);
    close(fd);
    for (ssize_t i = 0; i < size; i++) {
        put(path, bytes, (size_t)i, 0600);
        check_read(-EBADMSG, path, i == 0 ? "damaged: it is empty" : "damaged: it is cut off");
        struct ld_state_file file;
        struct ld_text why = {0};
        bytes[i] ^= 1;
        put(path, bytes, (size_t)size, 0600);
        int rc = ld_state_file_read(&file, path, "x", &why);
        CHECK(rc == -EBADMSG || rc == -EPERM || (rc == 0 && bytes[i] >= '0' && bytes[i] <= '9'));
        CHECK(rc < 0 ? file.parts[0].data == NULL || rc == -EBADMSG : i < 30); /* of the time */
        bytes[i] ^= 1;
        ld_state_file_fini(&file);
        ld_text_fini(&why);
    }
    bytes[size] = 'x';
    put(path, bytes, (size_t)size + 1, 0600);
    check_read(-EBADMSG, path, "damaged");
}

static void test_aside(void) {
    struct ld_text kept = {0};
    const char *path = box_path("x.state");
    for (int i = 1; i <= 3; i++) {
        put(path, "damaged", 7, 0600);
        CHECK_INT(0, ld_state_file_put_aside(path, &kept));
        char name[100];
        snprintf(name, sizeof name, "x.state.damaged.%d", i);
        CHECK_STR(box_path(name), ld_text_string(&kept));
        CHECK_STR("damaged", read_file(box_path(name)));
    }
    CHECK_INT(-ENOENT, ld_state_file_put_aside(path, &kept));
    static const char torn[] = "lunad-state 1 x 00";
    put(path, torn, sizeof torn - 1, 0600); /* while the service runs */
    check_save(1, path, "");
    check_read(0, path, "");
    CHECK_STR(torn, read_file(box_path("x.state.damaged.4")));
    ld_text_fini(&kept);
}

/* One process begins while another one still writes, which was to be dead: the last one wins, whole. */
static void test_two(void) {
    struct ld_state_draft first;
    struct ld_state_draft second;
    struct ld_text why = {0};
    struct ld_text bytes = {0};
    uint64_t size;
    const char *path = box_path("x.state");
    ld_text_puts(&bytes, parts[0]);
    CHECK_INT(0, ld_state_draft_open(&first, path, "x", &why));
    CHECK_INT(0, ld_state_draft_open(&second, path, "x", &why));
    CHECK_INT(0, ld_state_draft_add(&second, LD_STATE_GIVEN, &bytes, &why));
    CHECK_INT(-ESTALE, ld_state_draft_finish(&first, &size, &why));
    CHECK(strstr(ld_text_string(&why), "another process has begun to write it") != NULL);
    CHECK(access(path, F_OK) < 0);
    ld_state_draft_fini(&first);
    CHECK_INT(1, ld_state_draft_finish(&second, &size, &why));
    ld_state_draft_fini(&second);
    struct ld_state_file file;
    CHECK_INT(0, ld_state_file_read(&file, path, "x", &why));
    CHECK_INT(strlen(parts[0]), file.parts[0].size);
    ld_state_file_fini(&file);
    ld_text_fini(&bytes);
    ld_text_fini(&why);
}

static void test_foreign(void) {
    static const char text[] = "root:x:0:0:root\n";
    static const char later[] = "lunad-state 2 x 0000000000000 0000000000000000 0000000000000000 "
                                "0000000000000000 cbf29ce484222325\n";
    const char *path = box_path("x.state");
    struct ld_text why = {0};
    put(path, text, sizeof text - 1, 0600);
    check_read(-EPERM, path, "it is not a state file of lunad");
    check_save(-EPERM, path, "it is not a state file of lunad");
    CHECK_STR(text, read_file(path));
    put(path, "", 0, 0600);
    check_read(-EBADMSG, path, "it is damaged: it is empty");
    put(path, "lunad-st", 8, 0600);
    check_read(-EBADMSG, path, "it is damaged: it is cut off");
    put(path, later, sizeof later - 1, 0600);
    check_read(-EPERM, path, "it has format 2, and this lunad reads format 1");
    check_save(-EPERM, path, "it has format 2");
    put(path, "lunad-state 3 x, otherwise\n", 27, 0600); /* not a damaged one, to be put aside */
    check_read(-EPERM, path, "it has format 3, and this lunad reads format 1");
    check_save(-EPERM, path, "it has format 3");
    unlink(path);
    CHECK_INT(1, save(path, "other", &why));
    check_read(-EPERM, path, "it is the state of \"other\", not of \"x\"");
    check_save(-EPERM, path, "it is the state of \"other\", not of \"x\"");
    ld_text_fini(&why);
}

static void test_kinds(void) {
    const char *path = box_path("x.state");
    check_save(1, path, "");
    CHECK_INT(0, chmod(path, 0620));
    check_read(-EPERM, path, "others may write it");
    check_save(-EPERM, path, "others may write it");
    unlink(path);
    CHECK_INT(0, symlink("/etc/passwd", path));
    check_read(-EPERM, path, "it is a symbolic link");
    check_save(-ELOOP, path, "it cannot be opened, and is not replaced");
    unlink(path);
    CHECK_INT(0, mkfifo(path, 0600));
    check_read(-EPERM, path, "it is not a regular file");
    check_save(-EPERM, path, "it is not a regular file");
    unlink(path);
    CHECK_INT(0, mkdir(path, 0700));
    check_read(-EPERM, path, "it is not a regular file");
    CHECK_INT(0, rmdir(path));
    check_save(-ENOTDIR, "/dev/null/x.state", "its folder cannot be opened");
    check_save(-EINVAL, "/tmp/", "it cannot be the name of a file");
    if (geteuid() == 0) {
        check_save(1, path, "");
        CHECK_INT(0, chown(path, NOBODY, NOBODY));
        check_read(-EPERM, path, "it belongs to another user (uid 65534)");
        check_save(-EPERM, path, "it belongs to another user (uid 65534)");
    }
}

/* As NOBODY, who may not write the folder; a file of root may be read. */
static void be_nobody(void) {
    const char *path = box_path("x.state");
    REQUIRE(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
    check_read(0, path, "");
    check_save(-EACCES, path, "a new file cannot be made beside it: Permission denied");
}

static void test_rights(void) {
    if (geteuid() != 0) {
        check_skip("not root");
        return;
    }
    const char *path = box_path("x.state");
    check_save(1, path, "");
    CHECK_INT(0, chmod(path, 0644));
    CHECK_INT(0, chmod(box_path(""), 0755));
    check_in_child(be_nobody);
}

static const struct check_case cases[] = {
    {"what is saved is read again, and stays if it is the same", test_round_trip},
    {"only a draft is removed for a draft", test_draft_of_others},
    {"what is damaged is noticed", test_damage},
    {"what is damaged is kept under another name", test_aside},
    {"two write one file", test_two},
    {"what is of others is neither taken nor replaced", test_foreign},
    {"links, pipes, folders, and what others may write", test_kinds},
    {"with the rights of this process", test_rights},
};

CHECK_MAIN(cases)

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "check.h"
#include "daemon/record.h"
#include "support.h"

#define NOBODY 65534

static const char good[] =
    "{\"format\":1,\"words\":[\"lunad\",\"start\",\"\xc3\xbf\"],\"environment\":[\"A=1\",\"B=\"],"
    "\"cwd\":\"/tmp\",\"script\":\"/s.lua\",\"text\":null,\"log\":\"/x.log\",\"start_timeout\":1.5,"
    "\"stop_timeout\":10}";

/* The box as a run directory. */
static int open_dir(void) {
    int dir = open(box_path(""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(dir >= 0);
    return dir;
}

/* Write the record's file as its owner does. */
static void put(const char *bytes, size_t size, mode_t mode) {
    unlink(box_path("x.start"));
    int fd = open(box_path("x.start"), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && fchmod(fd, mode) == 0);
    close(fd);
}

/* Load the record; return the error. */
static int load(int dir) {
    struct ld_record record;
    int rc = ld_record_load(&record, dir, "x");
    ld_record_fini(&record);
    return rc;
}

/* Make the fields of a record. */
static json_t *make_fields(void) {
    static const char words[] = "w\x01\x7f\x80\xc3\xa9\xff";
    json_t *fields = json_pack("{s:[o,o], s:[], s:o, s:n, s:f}", "words", ld_json_bytes("lunad"),
                               ld_json_bytes(words), "environment", "cwd", ld_json_bytes(words),
                               "script", "stop_timeout", 2.5);
    REQUIRE(fields != NULL);
    return fields;
}

static void test_round_trip(void) {
    struct ld_record record;
    struct stat facts = {0};
    int dir = open_dir();
    json_t *fields = make_fields();
    CHECK_INT(-ENOENT, load(dir));
    CHECK_INT(-ENOENT, load(-1));
    mode_t mask = umask(0);
    CHECK_INT(0, ld_record_save(dir, "x", fields));
    umask(0777);
    CHECK_INT(0, ld_record_save(dir, "x", fields)); /* it replaces the one that is there */
    umask(mask);
    CHECK(json_object_get(fields, "format") == NULL); /* what is borrowed is not changed */
    CHECK(fstatat(dir, "x.start", &facts, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK_INT(S_IFREG | 0600, facts.st_mode);
    CHECK_INT(0, ld_record_load(&record, dir, "x"));
    CHECK_INT(geteuid(), record.uid);
    CHECK_STR("lunad", record.words[0]);
    CHECK_STR("w\x01\x7f\x80\xc3\xa9\xff", record.words[1]); /* every byte is kept */
    CHECK(record.words[2] == NULL && record.environment[0] == NULL);
    CHECK_STR("w\x01\x7f\x80\xc3\xa9\xff", record.cwd);
    CHECK(record.script == NULL && record.text == NULL && record.log == NULL);
    CHECK(fabs(record.stop_timeout - 2.5) < 1e-9 && fabs(record.died) < 1e-9);
    CHECK(record.death == NULL);
    ld_record_fini(&record);
    ld_record_fini(&record); /* twice does nothing */
    ld_record_remove(dir, "x");
    CHECK_INT(-ENOENT, load(dir));
    ld_record_remove(dir, "x");
    json_decref(fields);
    close(dir);
}

static void test_save_fails(void) {
    int dir = open_dir();
    json_t *fields = make_fields();
    REQUIRE(mkdir(box_path("x.start"), 0700) == 0);
    CHECK_INT(-EISDIR, ld_record_save(dir, "x", fields));
    REQUIRE(rmdir(box_path("x.start")) == 0); /* the box is empty: no draft is left */
    CHECK_INT(0, rmdir(box_path("")));
    CHECK_INT(-ENOENT, ld_record_save(dir, "x", fields));
    REQUIRE(mkdir(box_path(""), 0700) == 0);
    CHECK_INT(-ENOMEM, ld_record_save(dir, "x", NULL));
    CHECK_INT(-EBADF, ld_record_save(-1, "x", fields));
    json_decref(fields);
    close(dir);
}

static void test_link_is_replaced(void) {
    int dir = open_dir();
    json_t *fields = make_fields();
    write_file(box_path("precious"), "keep");
    REQUIRE(symlink(box_path("precious"), box_path("x.start")) == 0);
    CHECK_INT(-EPERM, load(dir));
    ld_record_note_death(dir, "x", "killed by SIGKILL", NULL);
    CHECK_INT(0, ld_record_save(dir, "x", fields));
    CHECK_INT(0, load(dir));
    CHECK_STR("keep", read_file(box_path("precious")));
    json_decref(fields);
    close(dir);
}

static void test_death(void) {
    struct ld_record record;
    struct ld_text text = {0};
    int dir = open_dir();
    ld_record_note_death(dir, "x", "killed by SIGKILL", NULL);
    CHECK_INT(-ENOENT, load(dir)); /* none is made */
    put(good, sizeof good - 1, 0600);
    time_t before = time(NULL);
    ld_record_note_death(dir, "x", "killed by SIGKILL", NULL);
    CHECK_INT(0, ld_record_load(&record, dir, "x"));
    CHECK(record.died >= (double)before && record.died <= (double)time(NULL) + 1); /* which lags */
    CHECK_STR("killed by SIGKILL", record.death);
    CHECK_STR("\xff", record.words[2]); /* the rest is as it was */
    CHECK_STR("/x.log", record.log);
    record.died = 1e9;
    ld_record_describe_death(&text, &record, dir, "x");
    CHECK_STR("was killed by SIGKILL at 2001-09-09T01:46:40Z", ld_text_string(&text));
    ld_record_fini(&record);
    ld_text_fini(&text);
    close(dir);
}

static void test_unseen_death(void) {
    static const struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    static const struct timespec later[2] = {{.tv_sec = 1000000060}, {.tv_sec = 1000000060}};
    static const char start[] =
        "died (killed, or the machine went down); its last sign of life was at ";
    struct ld_record record = {.log = NULL};
    struct ld_text text = {0};
    int dir = open_dir();
    put(good, sizeof good - 1, 0600);
    REQUIRE(utimensat(dir, "x.start", times, 0) == 0);
    ld_record_describe_death(&text, &record, dir, "x");
    CHECK(strncmp(start, ld_text_string(&text), strlen(start)) == 0);
    CHECK_STR("2001-09-09T01:46:40Z", ld_text_string(&text) + strlen(start));
    write_file(box_path("log"), "");
    REQUIRE(utimensat(AT_FDCWD, box_path("log"), later, 0) == 0);
    record.log = (char *)(size_t)box_path("log");
    ld_text_clear(&text);
    ld_record_describe_death(&text, &record, dir, "x");
    CHECK_STR("2001-09-09T01:47:40Z", ld_text_string(&text) + strlen(start));
    ld_text_fini(&text);
    close(dir);
}

static void test_files(void) {
    static const mode_t open_to_others[] = {0640, 0604, 0620, 0602, 0610, 0601, 0644, 0666, 0777};
    static const mode_t private[] = {0600, 0400, 0700};
    int dir = open_dir();
    for (size_t i = 0; i < LD_COUNT(open_to_others); i++) {
        put(good, sizeof good - 1, open_to_others[i]);
        CHECK_INT(-EPERM, load(dir));
    }
    for (size_t i = 0; i < LD_COUNT(private); i++) {
        put(good, sizeof good - 1, private[i]);
        CHECK_INT(0, load(dir));
    }
    REQUIRE(link(box_path("x.start"), box_path("other")) == 0);
    CHECK_INT(-EPERM, load(dir)); /* it has a second name */
    REQUIRE(unlink(box_path("other")) == 0);
    CHECK_INT(0, load(dir));
    REQUIRE(unlink(box_path("x.start")) == 0);
    REQUIRE(symlink("nothing", box_path("x.start")) == 0);
    CHECK_INT(-EPERM, load(dir));
    REQUIRE(unlink(box_path("x.start")) == 0);
    REQUIRE(mkfifo(box_path("x.start"), 0600) == 0); /* which does not block */
    CHECK_INT(-EPERM, load(dir));
    REQUIRE(unlink(box_path("x.start")) == 0);
    REQUIRE(mkdir(box_path("x.start"), 0700) == 0);
    CHECK_INT(-EPERM, load(dir));
    close(dir);
}

static void test_sizes(void) {
    int dir = open_dir();
    put("", 0, 0600);
    CHECK_INT(-EPROTO, load(dir));
    put(good, sizeof good - 1, 0600);
    REQUIRE(truncate(box_path("x.start"), (16 << 20) + 1) == 0);
    CHECK_INT(-EPROTO, load(dir));
    REQUIRE(truncate(box_path("x.start"), (off_t)1 << 40) == 0); /* no memory is allocated for it */
    CHECK_INT(-EPROTO, load(dir));
    for (size_t size = 0; size < sizeof good - 1; size++) { /* half of it */
        put(good, size, 0600);
        CHECK_INT(-EPROTO, load(dir));
    }
    close(dir);
}

static void test_own_death(void) {
    struct ld_record record;
    struct ld_text text = {0};
    int dir = open_dir();
    ld_record_note_own_death(dir, "x", "killed by SIGSEGV", NULL);
    CHECK_INT(-ENOENT, load(dir)); /* none is made */
    put(good, sizeof good - 1, 0600);
    ld_record_note_own_death(dir, "x", "killed by SIGSEGV", "/a \"b\"\n\xff\xc3\xa4.crash");
    CHECK_INT(0, ld_record_load(&record, dir, "x"));
    CHECK(record.died > 1e9);
    CHECK_STR("killed by SIGSEGV", record.death);
    CHECK_STR("/a \"b\"\n\xff\xc3\xa4.crash", record.report);
    CHECK_STR("\xff", record.words[2]); /* the rest is as it was */
    ld_record_describe_death(&text, &record, dir, "x");
    CHECK(strstr(ld_text_string(&text), "was killed by SIGSEGV at ") != NULL);
    CHECK(strstr(ld_text_string(&text), "Z, report in /a \"b\"") != NULL);
    ld_text_fini(&text);
    ld_record_fini(&record);
    ld_record_note_death(dir, "x", "killed by SIGKILL", NULL); /* replaces it */
    CHECK_INT(0, ld_record_load(&record, dir, "x"));
    CHECK_STR("killed by SIGKILL", record.death);
    CHECK(record.report == NULL);
    ld_record_fini(&record);
    close(dir);
}

static void test_torn_note(void) {
    struct ld_record record;
    int dir = open_dir();
    put(good, sizeof good - 1, 0600);
    ld_record_note_own_death(dir, "x", "killed by SIGSEGV", "/x.crash");
    size_t size = strlen(read_file(box_path("x.start")));
    REQUIRE(truncate(box_path("x.start"), (off_t)size - 5) == 0);
    CHECK_INT(0, ld_record_load(&record, dir, "x"));
    CHECK(record.death == NULL && record.report == NULL && record.died == 0);
    ld_record_fini(&record);
    close(dir);
}

/* Load as another user. */
static void load_as_nobody(void) {
    int dir = open_dir();
    REQUIRE(setresuid(NOBODY, NOBODY, NOBODY) == 0);
    CHECK_INT(-EACCES, load(dir)); /* by the kernel, or by its owner */
}

/* Load a record of the same user. */
static void load_own(void) {
    struct ld_record record;
    int dir = open_dir();
    REQUIRE(setresuid(NOBODY, NOBODY, NOBODY) == 0);
    CHECK_INT(0, ld_record_load(&record, dir, "x"));
    CHECK_INT(NOBODY, record.uid);
    ld_record_fini(&record);
    ld_record_note_death(dir, "x", "killed by SIGSEGV", NULL);
    CHECK_INT(0, ld_record_load(&record, dir, "x"));
    CHECK_STR("killed by SIGSEGV", record.death);
    ld_record_fini(&record);
}

static void test_owners(void) {
    struct ld_record record;
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    int dir = open_dir();
    REQUIRE(fchmod(dir, 0755) == 0);
    put(good, sizeof good - 1, 0600);
    check_in_child(load_as_nobody);
    put(good, sizeof good - 1, 0644);
    check_in_child(load_as_nobody);
    put(good, sizeof good - 1, 0600);
    REQUIRE(chown(box_path("x.start"), NOBODY, 0) == 0);
    CHECK_INT(-EPERM, ld_record_load(&record, dir, "x")); /* its owner does not own the directory */
    REQUIRE(fchown(dir, NOBODY, 0) == 0);
    check_in_child(load_own);
    CHECK_INT(0, ld_record_load(&record, dir, "x"));
    CHECK_INT(NOBODY, record.uid); /* root learns the owner */
    ld_record_fini(&record);
    close(dir);
}

static void test_contents(void) {
#define HEAD "{\"format\":1,\"words\":[\"a\",\"b\"],\"environment\":[]"
    static const char *const wrong[] = {
        "1",
        "\"x\"",
        "[]",
        "{}",
        "null",
        "{\"format\":1}",
        "{\"format\":2,\"words\":[\"a\",\"b\"],\"environment\":[]}",
        "{\"format\":\"1\",\"words\":[\"a\",\"b\"],\"environment\":[]}",
        "{\"format\":1,\"words\":[\"a\"],\"environment\":[]}",
        "{\"format\":1,\"words\":[],\"environment\":[]}",
        "{\"format\":1,\"words\":[\"a\",1],\"environment\":[]}",
        "{\"format\":1,\"words\":[\"a\",\"b\",null,\"c\"],\"environment\":[]}",
        "{\"format\":1,\"words\":[1,\"a\",\"b\"],\"environment\":[]}",
        "{\"format\":1,\"words\":\"ab\",\"environment\":[]}",
        "{\"format\":1,\"words\":{\"a\":\"b\"},\"environment\":[]}",
        "{\"format\":1,\"words\":[\"a\",\"b\"],\"environment\":[\"A=1\",{},\"B=1\"]}",
        "{\"format\":1,\"words\":[\"a\",\"b\"],\"environment\":null}",
        "{\"format\":1,\"words\":[\"a\",\"b\"]}",
        HEAD "} x",
        HEAD,
        HEAD ",}",
        HEAD ",\"cwd\":\"a\\u0000b\"}",
        HEAD ",\"cwd\":\"\xff\"}",
        HEAD ",\"died\":1e300,\"death\":\"x\"}",
        HEAD ",\"died\":-1,\"death\":\"x\"}",
        HEAD ",\"stop_timeout\":-5}",
        HEAD ",\"start_timeout\":1e18}",
    };
    static const char *const fine[] = {
        HEAD "}",
        HEAD ",\"cwd\":5,\"script\":[],\"died\":\"x\",\"death\":false}",
        HEAD ",\"more\":{\"of\":[\"a\",\"later\",\"version\"]}}",
        HEAD ",\"cwd\":\"\xe4\xb8\xad\xf0\x9f\x98\x80\"}",
    };
#undef HEAD
    int dir = open_dir();
    for (size_t i = 0; i < LD_COUNT(wrong); i++) {
        put(wrong[i], strlen(wrong[i]), 0600);
        if (!CHECK(load(dir) == -EPROTO)) {
            printf("    %s\n", wrong[i]);
        }
    }
    for (size_t i = 0; i < LD_COUNT(fine); i++) {
        put(fine[i], strlen(fine[i]), 0600);
        CHECK_INT(0, load(dir));
    }
    close(dir);
}

/* Change a good record at random. */
static size_t mutate(char *bytes, size_t size, size_t room) {
    static const char *const pieces[] = {"\"",
                                         "[",
                                         "]",
                                         "{",
                                         "}",
                                         ",",
                                         ":",
                                         "null",
                                         "1e308",
                                         "-1",
                                         "\\u0000",
                                         "\\ud800",
                                         "\xc3",
                                         "\xff",
                                         "\\",
                                         "[[[[",
                                         "0",
                                         "\"format\":1,",
                                         "\"words\":[],",
                                         "\"died\":1e19,"};
    for (uint64_t edits = random_below(4); edits > 0 && size > 1; edits--) {
        const char *piece = pieces[random_below(LD_COUNT(pieces))];
        size_t at = random_below(size);
        size_t longest = random_below(4) == 0 || size - at < 3 ? size - at : 3;
        size_t cut = random_below(2) == 0 ? 0 : random_below(longest + 1);
        size_t added = random_below(3) == 0 ? 0 : strlen(piece);
        if (size - cut + added >= room) {
            continue;
        }
        memmove(bytes + at + added, bytes + at + cut, size - at - cut);
        memcpy(bytes + at, piece, added);
        size = size - cut + added;
    }
    return size;
}

/* Read every field of a record, as `restart` does. */
static void check_sane(const struct ld_record *record, int dir) {
    const char *strings[] = {record->cwd, record->script, record->text, record->log, record->death};
    struct ld_text text = {0};
    size_t total = 0;
    REQUIRE(record->words != NULL && record->environment != NULL);
    CHECK(record->words[0] != NULL && record->words[1] != NULL);
    for (char **at = record->words; *at != NULL; at++) {
        total += strlen(*at);
    }
    for (char **at = record->environment; *at != NULL; at++) {
        total += strlen(*at);
    }
    for (size_t i = 0; i < LD_COUNT(strings); i++) {
        total += strings[i] != NULL ? strlen(strings[i]) : 0;
    }
    CHECK(total < 4096);
    CHECK(isfinite(record->died) && isfinite(record->start_timeout));
    CHECK(record->stop_timeout >= 0);
    ld_record_describe_death(&text, record, dir, "x");
    CHECK(text.size > 0);
    ld_text_fini(&text);
}

static void test_fuzz(void) {
    int dir = open_dir();
    int loaded = 0;
    int before = check_descriptors();
    for (int i = 0; i < 5000; i++) {
        char bytes[2048];
        struct ld_record record;
        memcpy(bytes, good, sizeof good - 1);
        put(bytes, mutate(bytes, sizeof good - 1, sizeof bytes), 0600);
        int rc = ld_record_load(&record, dir, "x");
        CHECK(rc == 0 || rc == -EPROTO);
        if (rc == 0) {
            loaded++;
            check_sane(&record, dir);
        } else {
            CHECK(record.words == NULL && record.environment == NULL && record.cwd == NULL);
        }
        ld_record_fini(&record);
    }
    CHECK(loaded > 500 && loaded < 4500);
    CHECK_INT(before, check_descriptors());
    close(dir);
}

static const struct check_case cases[] = {
    {"a record is loaded as it was saved", test_round_trip},
    {"a record that cannot be saved leaves nothing", test_save_fails},
    {"a link in its place is replaced, and never followed", test_link_is_replaced},
    {"a death is added", test_death},
    {"the service itself can note its death", test_own_death},
    {"a note that was not written whole counts for nothing", test_torn_note},
    {"an unseen death is described by the last sign of life", test_unseen_death},
    {"a file that others may have written is refused", test_files},
    {"files that are too short or too long are refused", test_sizes},
    {"only its owner and root can load a record", test_owners},
    {"a file that is not a record is refused", test_contents},
    {"a record that was changed at random is loaded whole or refused", test_fuzz},
};

CHECK_MAIN(cases)

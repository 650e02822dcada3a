#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"
#include "engine/log_lines.h"
#include "support.h"

#define LONGEST 65536

static struct ld_log_lines lines;

/* Begin with a log of our own. */
static void begin(bool warn) {
    struct ld_log_config config = {.sink = LD_LOG_FILE, .path = box_path("log")};
    REQUIRE(ld_log_open(&config) == 0);
    ld_log_lines_init(&lines, "beat", "child", 42, warn);
}

/* End it, and check what was logged, without times. */
static void end(const char *expected) {
    struct ld_text got = {0};
    ld_log_lines_fini(&lines);
    ld_log_close();
    const char *text = read_file(box_path("log"));
    for (const char *next; *text != '\0'; text = next) {
        next = strchr(text, '\n') + 1;
        ld_text_add(&got, text + 25, (size_t)(next - text - 25));
    }
    CHECK_STR(expected, ld_text_string(&got));
    ld_text_fini(&got);
    unlink(box_path("log"));
}

/* Add a string. */
static void add(const char *string) {
    ld_log_lines_add(&lines, string, strlen(string));
}

static void test_whole(void) {
    begin(false);
    add("one\ntwo\n\nfour\n");
    ld_log_lines_add(&lines, NULL, 0);
    end("info  beat/child[42]: one\ninfo  beat/child[42]: two\ninfo  beat/child[42]: \n"
        "info  beat/child[42]: four\n");
}

static void test_level(void) {
    begin(true);
    add("one\n");
    end("warn  beat/child[42]: one\n");
}

static void test_pieces(void) {
    begin(false);
    add("o");
    add("n");
    add("e\ntw");
    add("");
    add("o");
    add("\n");
    add("last");
    ld_log_lines_add(&lines, NULL, 0);
    ld_log_lines_add(&lines, NULL, 0);
    end("info  beat/child[42]: one\ninfo  beat/child[42]: two\ninfo  beat/child[42]: last\n");
}

static void test_nothing(void) {
    begin(false);
    add("");
    ld_log_lines_add(&lines, NULL, 0);
    end("");
}

static void test_end_in_the_middle_is_dropped_by_fini(void) {
    begin(false);
    add("one\nnot a line");
    end("info  beat/child[42]: one\n");
}

static void test_controls(void) {
    begin(false);
    ld_log_lines_add(&lines, "a\0b\r\x1B\n", 6);
    end("info  beat/child[42]: a\\x00b\\x0D\\x1B\n");
}

/* Check what follows a message: the mark of a piece, unless its NUMBER is 0. */
static void check_mark(const char *text, size_t number, bool is_cut) {
    char mark[64] = "";
    if (number > 0) {
        snprintf(mark, sizeof mark, " part=%zu%s", number, is_cut ? " cut=true" : "");
    }
    size_t length = strcspn(text, "\n");
    CHECK(length == strlen(mark) && memcmp(text, mark, length) == 0);
}

/* Log a line of SIZE bytes in chunks, between two others, and check that every byte is there and
 * that no line came of nothing. */
static void check_long(size_t size, size_t chunk) {
    char *bytes = malloc(size + 1);
    memset(bytes, 'x', size);
    bytes[size] = '\n';
    begin(false);
    add("before\n");
    for (size_t at = 0; at < size + 1; at += chunk) {
        ld_log_lines_add(&lines, bytes + at, size + 1 - at < chunk ? size + 1 - at : chunk);
    }
    add("after\n");
    ld_log_lines_fini(&lines);
    ld_log_close();
    const char *text = read_file(box_path("log"));
    size_t found = 0;
    size_t count = 0;
    size_t pieces = (size + LONGEST - 1) / LONGEST;
    for (const char *next; *text != '\0'; text = next, count++) {
        next = strchr(text, '\n') + 1;
        text += strlen("2026-11-22T10:11:12.123Z info  beat/child[42]: ");
        size_t length = strcspn(text, " \n");
        CHECK(length <= LONGEST);
        CHECK(length > 0);
        found += length;
        check_mark(text + length, count >= 1 && count <= pieces && pieces > 1 ? count : 0,
                   count < pieces);
    }
    CHECK_INT(strlen("before") + size + strlen("after"), found);
    CHECK_INT(2 + pieces, count);
    unlink(box_path("log"));
    free(bytes);
}

static void test_long(void) {
    static const size_t sizes[] = {LONGEST - 1, LONGEST + 1, LONGEST + 4096, 3 * LONGEST - 1,
                                   200000};
    static const size_t chunks[] = {LONGEST, 4096, 1000};
    for (size_t i = 0; i < LD_COUNT(sizes); i++) {
        for (size_t j = 0; j < LD_COUNT(chunks); j++) {
            check_long(sizes[i], chunks[j]);
        }
    }
}

static void test_exactly_the_longest(void) {
    check_long(LONGEST, LONGEST);
    check_long(LONGEST, 4096);
    check_long(2 * LONGEST, 1000);
}

static void test_long_in_one_chunk(void) {
    check_long(200000, 1000000);
}

/* Log a line of SIZE bytes that repeats CHARACTER after SHIFT others, and check that none is cut. */
static void check_characters(const char *character, size_t shift, size_t chunk) {
    size_t size = shift + (size_t)70000 / strlen(character) * strlen(character);
    char *bytes = malloc(size + 1);
    memset(bytes, '.', shift);
    for (size_t at = shift; at < size; at++) {
        bytes[at] = character[(at - shift) % strlen(character)];
    }
    bytes[size] = '\n';
    begin(false);
    for (size_t at = 0; at < size + 1; at += chunk) {
        ld_log_lines_add(&lines, bytes + at, size + 1 - at < chunk ? size + 1 - at : chunk);
    }
    ld_log_lines_fini(&lines);
    ld_log_close();
    const char *text = read_file(box_path("log"));
    CHECK(strchr(text, '\\') == NULL);
    CHECK(strstr(text, " part=1 cut=true\n") != NULL && strstr(text, " part=2\n") != NULL);
    unlink(box_path("log"));
    free(bytes);
}

static void test_characters(void) {
    static const char *const characters[] = {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t i = 0; i < LD_COUNT(characters); i++) {
        for (size_t shift = 0; shift < 4; shift++) {
            check_characters(characters[i], shift, 1000000);
            check_characters(characters[i], shift, 4096);
            check_characters(characters[i], shift, 1001);
        }
    }
}

static void test_bytes_that_are_no_characters(void) {
    char *bytes = malloc(LONGEST + 100);
    for (int lead = 0x80; lead < 0x100; lead += 0x11) {
        memset(bytes, lead, LONGEST + 100);
        begin(false);
        ld_log_lines_add(&lines, bytes, LONGEST + 100);
        ld_log_lines_add(&lines, NULL, 0);
        ld_log_close();
        size_t found = 0;
        for (const char *at = read_file(box_path("log")); *at != '\0'; at++) {
            found += *at == '\\';
        }
        CHECK_INT(LONGEST + 100, found);
        unlink(box_path("log"));
    }
    free(bytes);
}

static const struct check_case cases[] = {
    {"whole lines are logged at once", test_whole},
    {"stderr is logged as warn", test_level},
    {"a line may come in pieces, the last one without its end", test_pieces},
    {"no output is no line", test_nothing},
    {"what is given up is freed", test_end_in_the_middle_is_dropped_by_fini},
    {"controls are escaped", test_controls},
    {"a line over 64 KiB is logged in pieces", test_long},
    {"a line of exactly 64 KiB is followed by no empty one", test_exactly_the_longest},
    {"no character is cut, and pieces are marked", test_characters},
    {"bytes that are no characters are all logged", test_bytes_that_are_no_characters},
    {"a line over 64 KiB in one chunk is logged in pieces", test_long_in_one_chunk},
};

CHECK_MAIN(cases)

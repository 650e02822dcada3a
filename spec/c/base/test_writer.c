#include "base/writer.h"

#include <string.h>
#include <time.h>

#include "base/log_ring.h"
#include "base/time.h"
#include "check.h"
#include "support.h"

static char buffer[64];
static char out[LD_LOG_RING_SIZE + 1];
static size_t out_size;

/* Take what a writer drains. */
static void drain(void *arg, const char *bytes, size_t size) {
    (void)arg;
    REQUIRE(out_size + size < sizeof out);
    memcpy(out + out_size, bytes, size);
    out_size += size;
}

/* A writer into OUT, by a buffer of SIZE bytes. */
static struct ld_writer make(size_t size) {
    out_size = 0;
    return (struct ld_writer){.buffer = buffer, .capacity = size, .drain = drain};
}

/* What was written. */
static const char *take(struct ld_writer *writer) {
    ld_writer_flush(writer);
    out[out_size] = '\0';
    return out;
}

static void test_buffer(void) {
    for (size_t size = 1; size < 10; size++) {
        struct ld_writer writer = make(size);
        ld_writer_puts(&writer, "in pieces ");
        ld_writer_decimal(&writer, -12, 1);
        CHECK_STR("in pieces -12", take(&writer));
        CHECK_INT(0, writer.size);
    }
    struct ld_writer writer = {.buffer = buffer, .capacity = 4};
    ld_writer_puts(&writer, "too much");
    ld_writer_flush(&writer);
    CHECK_INT(4, writer.size); /* without a drain the rest is dropped */
    CHECK(memcmp(buffer, "too ", 4) == 0);
}

static void test_numbers(void) {
    struct ld_writer writer = make(sizeof buffer);
    ld_writer_decimal(&writer, 0, 1);
    ld_writer_puts(&writer, " ");
    ld_writer_decimal(&writer, 7, 3);
    ld_writer_puts(&writer, " ");
    ld_writer_decimal(&writer, -9223372036854775807LL - 1, 1);
    ld_writer_puts(&writer, " ");
    ld_writer_hex(&writer, UINT64_MAX);
    CHECK_STR("0 007 -9223372036854775808 0xffffffffffffffff", take(&writer));
}

/* Check one time against the C library. */
static void check_time(int64_t seconds) {
    char expected[40];
    struct tm parts;
    time_t time = (time_t)seconds;
    struct ld_writer writer = make(sizeof buffer);
    gmtime_r(&time, &parts);
    strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S.007Z", &parts);
    ld_writer_time(&writer, seconds * LD_TIME_SECOND + 7999999);
    CHECK_STR(expected, take(&writer));
}

static void test_times(void) {
    static const int64_t days[] = {0, 58, 59, 11015, 11016, 11017, 47540, 47541, 100000};
    for (size_t i = 0; i < sizeof days / sizeof days[0]; i++) {
        check_time(days[i] * 86400);
        check_time(days[i] * 86400 + 86399);
    }
    for (int i = 0; i < 10000; i++) {
        check_time((int64_t)random_below(9000000000));
    }
    struct ld_writer writer = make(sizeof buffer);
    ld_writer_time(&writer, -1);
    CHECK_STR("1970-01-01T00:00:00.000Z", take(&writer));
}

static void test_escapes(void) {
    static const char foreign[] = "a\tb\n\x1b[31m\x7f \xc3\xa4 \xc2\x9b \xff\xc3";
    struct ld_writer writer = make(sizeof buffer);
    ld_writer_escaped(&writer, foreign, sizeof foreign - 1);
    CHECK_STR("a\tb\\x0A\\x1B[31m\\x7F \xc3\xa4 \\xC2\\x9B \\xFF\\xC3", take(&writer));
    writer = make(sizeof buffer);
    ld_writer_json(&writer, "\"\\\n\0\xc3\xa4\xff", 7);
    CHECK_STR("\"\\\"\\\\\\u000a\\u0000\xc3\xa4\xef\xbf\xbd\"", take(&writer));
}

/* What the ring has. */
static const char *ring(void) {
    struct ld_writer writer = make(sizeof buffer);
    ld_log_ring_write(&writer);
    return take(&writer);
}

static void test_ring(void) {
    char line[100];
    ld_log_ring_clear();
    CHECK_STR("", ring());
    ld_log_ring_keep("one\n", 4);
    ld_log_ring_keep("two", 3);
    CHECK_STR("one\ntwo\n", ring());
    for (int i = 0; i < 10000; i++) {
        int size = snprintf(line, sizeof line, "%d %0*d\n", i, (int)random_below(80) + 1, i);
        ld_log_ring_keep(line, (size_t)size);
        const char *lines = ring();
        const char *last = strlen(lines) > (size_t)size ? lines + strlen(lines) - size : lines;
        CHECK_STR(line, last);
        CHECK(i < 1000 || (lines[0] >= '0' && lines[0] <= '9')); /* the first line is whole */
        CHECK(i < 1000 || strlen(lines) > LD_LOG_RING_SIZE - 200);
    }
}

static void test_long_lines(void) {
    static char line[3 * LD_LOG_RING_SIZE];
    memset(line, 'x', sizeof line);
    ld_log_ring_clear();
    ld_log_ring_keep(line, sizeof line);
    ld_log_ring_keep("after\n", 6);
    const char *lines = ring();
    CHECK_INT(LD_LOG_RING_LINE + 4 + 6, strlen(lines));
    CHECK_STR("x...\nafter\n", lines + LD_LOG_RING_LINE - 1);
    ld_log_ring_clear();
}

static const struct check_case cases[] = {
    {"a writer empties its buffer whenever that is full", test_buffer},
    {"numbers are written in decimal and hexadecimal", test_numbers},
    {"times are those of the C library", test_times},
    {"foreign bytes are escaped, for a line and for JSON", test_escapes},
    {"the last lines of the log are kept, whole", test_ring},
    {"of a long line the beginning is kept", test_long_lines},
};

CHECK_MAIN(cases)

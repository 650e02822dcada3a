#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log_line.h"
#include "check.h"
#include "famine.h"
#include "support.h"

#define BYTES(string) (string), sizeof(string) - 1
#define TEXT_FIELD(name, string)                                                                   \
    {                                                                                              \
        .key = (name), .type = LD_FIELD_TEXT, .value.text = {(string), sizeof(string) - 1 }        \
    }

/* Check that LINE begins with a time that is now, and return what follows. */
static const char *after_time(const char *line) {
    struct tm utc = {0};
    const char *rest = strptime(line, "%Y-%m-%dT%H:%M:%S", &utc);
    REQUIRE(rest != NULL);
    CHECK(rest[0] == '.' && isdigit(rest[1]) && isdigit(rest[2]) && isdigit(rest[3]));
    CHECK(rest[4] == 'Z');
    CHECK_INT(24, rest + 5 - line);
    time_t said = timegm(&utc);
    struct timespec now; /* not by time(), which lags by up to a tick of the kernel */
    clock_gettime(CLOCK_REALTIME, &now);
    CHECK(said <= now.tv_sec && said > now.tv_sec - 60);
    return rest + 5;
}

/* The text form of an event, after the time. */
static const char *text_of(const struct ld_log_event *event) {
    static struct ld_text line;
    ld_text_clear(&line);
    ld_log_line_text(&line, event);
    return after_time(ld_text_string(&line));
}

/* The JSON form of an event. */
static json_t *json_of(const struct ld_log_event *event) {
    struct ld_text line = {0};
    ld_log_line_json(&line, event);
    REQUIRE(line.size > 0 && line.data[line.size - 1] == '\n');
    CHECK(strchr(line.data, '\n') == line.data + line.size - 1); /* one line */
    json_t *object = json_loads(line.data, JSON_ALLOW_NUL, NULL);
    REQUIRE(json_is_object(object));
    ld_text_fini(&line);
    return object;
}

/* An event without fields. */
static struct ld_log_event event_of(const char *message, size_t size) {
    return (struct ld_log_event){
        .level = LD_LOG_INFO, .source = "beat", .message = message, .size = size};
}

static void test_text(void) {
    static const char *const levels[] = {"debug", "info ", "warn ", "error"};
    for (int level = LD_LOG_DEBUG; level <= LD_LOG_ERROR; level++) {
        char expected[64];
        struct ld_log_event event = event_of("hello", 5);
        event.level = (enum ld_log_level)level;
        snprintf(expected, sizeof expected, " %s beat: hello\n", levels[level]);
        CHECK_STR(expected, text_of(&event));
    }
}

static void test_text_messages(void) {
    static const struct {
        const char *message;
        size_t size;
        const char *expected;
    } rows[] = {
        {BYTES("one\ntwo"), " info  beat: one\n    two\n"},
        {BYTES("one\n\n"), " info  beat: one\n"},
        {BYTES(""), " info  beat: \n"},
        {BYTES("\n"), " info  beat: \n"},
        {BYTES("a\0b"), " info  beat: a\\x00b\n"},
        {BYTES("x\r\n2026-11-22T10:11:12.123Z error lunad: forged"),
         " info  beat: x\\x0D\n    2026-11-22T10:11:12.123Z error lunad: forged\n"},
        {BYTES("\x1B[2J\xC2\x9B\x7F\tz\xFF"), " info  beat: \\x1B[2J\\x9B\\x7F\tz\\xFF\n"},
    };
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        struct ld_log_event event = event_of(rows[i].message, rows[i].size);
        CHECK_STR(rows[i].expected, text_of(&event));
    }
}

static void test_text_source(void) {
    struct ld_log_event event = event_of("m", 1);
    event.source = "beat/child[12]";
    CHECK_STR(" info  beat/child[12]: m\n", text_of(&event));
    event.source = "x\ny";
    CHECK_STR(" info  x\\x0Ay: m\n", text_of(&event));
}

static void test_text_fields(void) {
    static const struct ld_log_field fields[] = {
        {.key = "count", .type = LD_FIELD_INTEGER, .value.integer = -3},
        {.key = "ratio", .type = LD_FIELD_NUMBER, .value.number = 0.25},
        {.key = "whole", .type = LD_FIELD_NUMBER, .value.number = 3},
        {.key = "yes", .type = LD_FIELD_BOOLEAN, .value.boolean = true},
        {.key = "no", .type = LD_FIELD_BOOLEAN, .value.boolean = false},
        TEXT_FIELD("bare", "caf\xC3\xA9/x"),
        TEXT_FIELD("spaced", "two words"),
        TEXT_FIELD("quote", "say \"hi\" \\ there"),
        TEXT_FIELD("equal", "a=b"),
        TEXT_FIELD("empty", ""),
        TEXT_FIELD("lines", "a\nb"),
        TEXT_FIELD("bad", "\xFF"),
        TEXT_FIELD("back", "\\xFF"),
        TEXT_FIELD("odd key=\n", "v"),
    };
    struct ld_log_event event = event_of("tick\n", 5);
    event.fields = fields;
    event.field_count = LD_COUNT(fields);
    CHECK_STR(" info  beat: tick count=-3 ratio=0.25 whole=3 yes=true no=false "
              "bare=caf\xC3\xA9/x spaced=\"two words\" quote=\"say \\\"hi\\\" \\\\ there\" "
              "equal=\"a=b\" empty=\"\" lines=\"a\\x0Ab\" bad=\\xFF back=\"\\\\xFF\" odd_key__=v\n",
              text_of(&event));
}

static void test_fields_alone(void) {
    static const struct ld_log_field fields[] = {TEXT_FIELD("a", "1"), TEXT_FIELD("b", "2 3")};
    struct ld_log_event event = {.fields = fields, .field_count = 2};
    struct ld_text line = {0};
    ld_log_line_fields(&line, &event);
    CHECK_STR(" a=1 b=\"2 3\"", ld_text_string(&line));
    ld_text_fini(&line);
}

static void test_json(void) {
    struct ld_log_event event = event_of("hello", 5);
    event.level = LD_LOG_WARN;
    json_t *object = json_of(&event);
    CHECK_INT(5, json_object_size(object));
    CHECK_STR("warn", json_string_value(json_object_get(object, "level")));
    CHECK_STR("beat", json_string_value(json_object_get(object, "source")));
    CHECK_STR("hello", json_string_value(json_object_get(object, "message")));
    CHECK_INT(getpid(), json_integer_value(json_object_get(object, "pid")));
    CHECK_STR("", after_time(json_string_value(json_object_get(object, "time"))));
    json_decref(object);
}

static void test_json_message(void) {
    static const struct {
        const char *message;
        size_t size;
        const char *expected;
        size_t expected_size;
    } rows[] = {
        {BYTES("one\ntwo\n"), BYTES("one\ntwo\n")}, /* verbatim, the last newline too */
        {BYTES("a\0b\x1B\x7F"), BYTES("a\0b\x1B\x7F")},
        {BYTES("\"\\/"), BYTES("\"\\/")},
        {BYTES("x\xFF\xC0\xAF"), BYTES("x\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD")},
        {BYTES("\xED\xA0\x80"), BYTES("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD")},
        {BYTES("\xF0\x9F\x98\x80\xEF\xBF\xBF"), BYTES("\xF0\x9F\x98\x80\xEF\xBF\xBF")},
        {BYTES(""), BYTES("")},
    };
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        struct ld_log_event event = event_of(rows[i].message, rows[i].size);
        json_t *object = json_of(&event);
        const json_t *message = json_object_get(object, "message");
        CHECK_INT(rows[i].expected_size, json_string_length(message));
        CHECK(memcmp(json_string_value(message), rows[i].expected, rows[i].expected_size) == 0);
        json_decref(object);
    }
}

static void test_json_fields(void) {
    static const struct ld_log_field fields[] = {
        {.key = "count", .type = LD_FIELD_INTEGER, .value.integer = 9007199254740993},
        {.key = "ratio", .type = LD_FIELD_NUMBER, .value.number = 0.1},
        {.key = "nan", .type = LD_FIELD_NUMBER, .value.number = NAN},
        {.key = "huge", .type = LD_FIELD_NUMBER, .value.number = INFINITY},
        {.key = "yes", .type = LD_FIELD_BOOLEAN, .value.boolean = true},
        TEXT_FIELD("text", "two words\n"),
        TEXT_FIELD("nul", "a\0b"),
        TEXT_FIELD("bad\xFF", "\xFF"),
    };
    struct ld_log_event event = event_of("m", 1);
    event.fields = fields;
    event.field_count = LD_COUNT(fields);
    json_t *object = json_of(&event);
    CHECK_INT(5 + LD_COUNT(fields), json_object_size(object));
    CHECK(json_integer_value(json_object_get(object, "count")) == 9007199254740993);
    CHECK(json_real_value(json_object_get(object, "ratio")) == 0.1);
    CHECK(json_is_null(json_object_get(object, "nan")));
    CHECK(json_is_null(json_object_get(object, "huge")));
    CHECK(json_is_true(json_object_get(object, "yes")));
    CHECK_STR("two words\n", json_string_value(json_object_get(object, "text")));
    CHECK_INT(3, json_string_length(json_object_get(object, "nul")));
    CHECK_STR("\xEF\xBF\xBD", json_string_value(json_object_get(object, "bad\xEF\xBF\xBD")));
    json_decref(object);
}

static void test_json_fields_beside(void) {
    static const struct ld_log_field fields[] = {
        TEXT_FIELD("time", "t"),  TEXT_FIELD("message", "m"),  TEXT_FIELD("pid", "p"),
        TEXT_FIELD("level", "l"), TEXT_FIELD("source", "s"),   TEXT_FIELD("twice", "1"),
        TEXT_FIELD("twice", "2"), TEXT_FIELD("message_", "n"),
    };
    struct ld_log_event event = event_of("true message", 12);
    event.fields = fields;
    event.field_count = LD_COUNT(fields);
    json_t *object = json_of(&event);
    CHECK_INT(5 + LD_COUNT(fields), json_object_size(object)); /* none is lost */
    CHECK_STR("true message", json_string_value(json_object_get(object, "message")));
    CHECK_STR("info", json_string_value(json_object_get(object, "level")));
    CHECK_STR("beat", json_string_value(json_object_get(object, "source")));
    CHECK_INT(getpid(), json_integer_value(json_object_get(object, "pid")));
    json_decref(object);
}

/* A line comes whole or not at all, wherever memory runs out. (For good: jansson overlooks a single
 * failure while it writes a key.) */
static void check_famine(const struct ld_log_event *event, const char *expected) {
    struct ld_text line = {0};
    long refused = 1;
    for (long spared = 0; refused > 0; spared++) {
        famine_begin(spared, FAMINE_FOR_GOOD);
        ld_log_line_json(&line, event);
        refused = famine_end();
        bool is_whole = strstr(ld_text_string(&line), expected) != NULL;
        CHECK(line.failed || is_whole);
        ld_text_fini(&line);
    }
}

static void test_json_famine(void) {
    static const struct ld_log_field fields[] = {
        TEXT_FIELD("one", "1"),
        TEXT_FIELD("two", "2"),
        TEXT_FIELD("", "3"),
        TEXT_FIELD("message", "4"),
    };
    struct ld_log_event event = event_of("a message", 9);
    event.fields = fields;
    event.field_count = LD_COUNT(fields);
    static const char whole[] =
        "\"message\":\"a message\",\"one\":\"1\",\"two\":\"2\",\"\":\"3\",\"message_\":\"4\"}\n";
    famine_init();
    check_famine(&event, whole);
}

static const struct check_case cases[] = {
    {"text: time, level, source and message", test_text},
    {"text: no message forges a line", test_text_messages},
    {"text: the source", test_text_source},
    {"text: fields, quoted where they must be", test_text_fields},
    {"text: fields alone", test_fields_alone},
    {"JSON: time, level, source, pid and message", test_json},
    {"JSON: the message is verbatim, invalid UTF-8 replaced", test_json_message},
    {"JSON: fields of every type", test_json_fields},
    {"JSON: fields stand beside the members, never over them", test_json_fields_beside},
    {"JSON: without memory no line is made, not even a part", test_json_famine},
};

CHECK_MAIN(cases)

#include <stdint.h>
#include <string.h>

#include "base/text.h"
#include "check.h"
#include "support.h"

#define BYTES(string) (string), sizeof(string) - 1

void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);

static bool out_of_memory;

/* The realloc of what is tested. */
void *__wrap_realloc(void *block, size_t size) {
    return out_of_memory ? NULL : __real_realloc(block, size);
}

static void test_empty(void) {
    struct ld_text text = {0};
    CHECK_STR("", ld_text_string(&text));
    ld_text_add(&text, NULL, 0);
    CHECK_STR("", ld_text_string(&text));
    ld_text_fini(&text);
    CHECK(text.data == NULL);
    CHECK_INT(0, text.size);
    ld_text_clear(&text);
    CHECK_STR("", ld_text_string(&text));
    ld_text_fini(&text);
}

static void test_growth(void) {
    struct ld_text text = {0};
    static char model[100000];
    size_t size = 0;
    while (size < sizeof model - 700) {
        size_t piece = (size_t)random_below(700);
        for (size_t i = 0; i < piece; i++) {
            model[size + i] = (char)next_random();
        }
        ld_text_add(&text, model + size, piece);
        size += piece;
        CHECK_INT(size, text.size);
        CHECK(text.capacity > text.size);
        CHECK_INT(0, text.data[text.size]);
    }
    CHECK(memcmp(text.data, model, size) == 0);
    CHECK(!text.failed);
    ld_text_fini(&text);
}

static void test_pieces(void) {
    struct ld_text text = {0};
    ld_text_puts(&text, "a");
    ld_text_putc(&text, 'b');
    ld_text_puts(&text, "");
    ld_text_add(&text, "c\0d", 3);
    ld_text_format(&text, "%d-%s", 7, "e");
    CHECK_INT(8, text.size);
    CHECK(memcmp(text.data, "abc\0d7-e", 9) == 0);
    ld_text_clear(&text);
    CHECK_STR("", ld_text_string(&text));
    CHECK(text.capacity > 0);
    ld_text_puts(&text, "again");
    CHECK_STR("again", ld_text_string(&text));
    ld_text_fini(&text);
}

static void test_format_at_every_length(void) {
    static char filler[3000];
    memset(filler, 'x', sizeof filler - 1);
    for (int length = 0; length < 2999; length++) {
        struct ld_text text = {0};
        ld_text_puts(&text, "0123456789");
        ld_text_format(&text, "%.*s", length, filler);
        CHECK_INT(10 + length, text.size);
        CHECK_INT(10 + length, strlen(text.data));
        ld_text_fini(&text);
    }
}

static void test_out_of_memory(void) {
    struct ld_text text = {0};
    static char filler[2000];
    memset(filler, 'y', sizeof filler - 1);
    ld_text_puts(&text, "kept");
    out_of_memory = true;
    ld_text_puts(&text, " room");
    CHECK(!text.failed);
    ld_text_puts(&text, filler);
    CHECK(text.failed);
    CHECK_STR("kept room", ld_text_string(&text));
    out_of_memory = false;
    ld_text_puts(&text, "!");
    ld_text_format(&text, "%s", "!");
    CHECK_STR("kept room", ld_text_string(&text)); /* nothing after a gap */
    ld_text_clear(&text);
    CHECK(!text.failed);
    ld_text_puts(&text, "anew");
    CHECK_STR("anew", ld_text_string(&text));
    ld_text_fini(&text);
    out_of_memory = true;
    ld_text_format(&text, "%s", filler);
    ld_text_add_escaped(&text, "\1", 1, false);
    ld_text_add_utf8(&text, "\xFF", 1);
    CHECK(text.failed);
    CHECK(!ld_text_is_empty(&text));
    CHECK_STR("not enough memory", ld_text_string(&text));
    out_of_memory = false;
    ld_text_fini(&text);
}

/* Decode as RFC 3629 describes it: by value, and not by tables of bytes. */
static size_t decode(const unsigned char *at, size_t size) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = at[0] < 0x80         ? 1
                    : at[0] >> 5 == 0x06 ? 2
                    : at[0] >> 4 == 0x0E ? 3
                    : at[0] >> 3 == 0x1E ? 4
                                         : 0;
    if (length == 0 || length > size) {
        return 0;
    }
    uint32_t value = length == 1 ? at[0] : at[0] & (0x7FU >> length);
    for (size_t i = 1; i < length; i++) {
        if (at[i] >> 6 != 2) {
            return 0;
        }
        value = value << 6 | (at[i] & 0x3F);
    }
    bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    return value < least[length] || value > 0x10FFFF || surrogate ? 0 : length;
}

static void test_utf8_edges(void) {
    static const struct {
        const char *bytes;
        size_t size;
        size_t length;
    } rows[] = {
        {BYTES(""), 0},
        {BYTES("\0"), 1},
        {BYTES("\x7F"), 1},
        {BYTES("\x80"), 0},
        {BYTES("\xBF"), 0},
        {BYTES("\xC0\x80"), 0}, /* overlong */
        {BYTES("\xC1\xBF"), 0},
        {BYTES("\xC2\x80"), 2},
        {BYTES("\xDF\xBF"), 2},
        {BYTES("\xC2"), 0},
        {BYTES("\xC2\x7F"), 0},
        {BYTES("\xC2\xC0"), 0},
        {BYTES("\xE0\x9F\xBF"), 0}, /* overlong */
        {BYTES("\xE0\xA0\x80"), 3},
        {BYTES("\xED\x9F\xBF"), 3},
        {BYTES("\xED\xA0\x80"), 0}, /* the first surrogate */
        {BYTES("\xED\xBF\xBF"), 0}, /* the last */
        {BYTES("\xEE\x80\x80"), 3},
        {BYTES("\xEF\xBF\xBD"), 3},
        {BYTES("\xEF\xBF\xBF"), 3}, /* a noncharacter is valid */
        {BYTES("\xE2\x82"), 0},
        {BYTES("\xF0\x8F\xBF\xBF"), 0}, /* overlong */
        {BYTES("\xF0\x90\x80\x80"), 4},
        {BYTES("\xF4\x8F\xBF\xBF"), 4}, /* U+10FFFF */
        {BYTES("\xF4\x90\x80\x80"), 0},
        {BYTES("\xF0\x9F\x98"), 0},
        {BYTES("\xF5\x80\x80\x80"), 0},
        {BYTES("\xF8\x88\x80\x80\x80"), 0},
        {BYTES("\xFC\x84\x80\x80\x80\x80"), 0},
        {BYTES("\xFE"), 0},
        {BYTES("\xFF"), 0},
        {BYTES("a\xFF"), 1},
    };
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        CHECK_INT(rows[i].length, ld_text_utf8_length(rows[i].bytes, rows[i].size));
    }
}

static void test_utf8_all_sequences(void) {
    static const unsigned char tails[] = {0x00, 0x7F, 0x80, 0x8F, 0x90,
                                          0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    size_t wrong = 0;
    for (unsigned first = 0; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            for (size_t i = 0; i < sizeof tails * sizeof tails; i++) {
                const unsigned char bytes[4] = {(unsigned char)first, (unsigned char)second,
                                                tails[i / sizeof tails], tails[i % sizeof tails]};
                for (size_t size = 1; size <= 4; size++) {
                    wrong += ld_text_utf8_length((const char *)bytes, size) != decode(bytes, size);
                }
            }
        }
    }
    CHECK_INT(0, wrong);
}

static void test_escaped(void) {
    static const struct {
        const char *bytes;
        size_t size;
        bool indent;
        const char *expected;
    } rows[] = {
        {BYTES("plain \t text"), false, "plain \t text"},
        {BYTES("a\nb"), false, "a\\x0Ab"},
        {BYTES("a\nb\n\nc"), true, "a\n    b\n    \n    c"},
        {BYTES("a\rb"), true, "a\\x0Db"},
        {BYTES("\0\x01\x1B[31m\x1F"), false, "\\x00\\x01\\x1B[31m\\x1F"},
        {BYTES("\x7F"), false, "\\x7F"},
        {BYTES("\xC2\x80\xC2\x85\xC2\x9F"), false, "\\x80\\x85\\x9F"}, /* C1 */
        {BYTES("\xC2\xA0\xC3\xA9\xE2\x82\xAC"), false, "\xC2\xA0\xC3\xA9\xE2\x82\xAC"},
        {BYTES("\xF0\x9F\x98\x80"), false, "\xF0\x9F\x98\x80"},
        {BYTES("\x85"), false, "\\x85"},
        {BYTES("a\xFFz"), false, "a\\xFFz"},
        {BYTES("\xE2\x82"), false, "\\xE2\\x82"},
        {BYTES("\xED\xA0\x80"), false, "\\xED\\xA0\\x80"},
        {BYTES("\\"), false, "\\"},
        {BYTES(""), true, ""},
        {NULL, 0, false, ""},
    };
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        struct ld_text text = {0};
        ld_text_add_escaped(&text, rows[i].bytes, rows[i].size, rows[i].indent);
        CHECK_STR(rows[i].expected, ld_text_string(&text));
        CHECK_INT(strlen(rows[i].expected), text.size);
        ld_text_fini(&text);
    }
}

static void test_escaped_is_always_safe(void) {
    struct ld_text text = {0};
    for (int round = 0; round < 20000; round++) {
        char bytes[12];
        size_t size = (size_t)random_below(sizeof bytes + 1);
        for (size_t i = 0; i < size; i++) {
            bytes[i] = (char)next_random();
        }
        ld_text_clear(&text);
        ld_text_add_escaped(&text, bytes, size, false);
        for (size_t i = 0, length; i < text.size; i += length) {
            unsigned char byte = (unsigned char)text.data[i];
            length = ld_text_utf8_length(text.data + i, text.size - i);
            REQUIRE(length > 0);
            REQUIRE(length > 1 || byte == '\t' || (byte >= 0x20 && byte != 0x7F));
            REQUIRE(length != 2 || byte != 0xC2 || (unsigned char)text.data[i + 1] >= 0xA0);
        }
    }
    ld_text_fini(&text);
}

/* Each byte is escaped alike, wherever it is. */
static void test_escaped_at_each_place(void) {
    char bytes[20];
    struct ld_text alone = {0};
    struct ld_text text = {0};
    for (int round = 0; round < 256 * (int)sizeof bytes; round++) {
        size_t place = (size_t)round % sizeof bytes;
        memset(bytes, 'x', sizeof bytes);
        bytes[place] = (char)(round / (int)sizeof bytes);
        ld_text_clear(&alone);
        ld_text_add(&alone, bytes, place);
        ld_text_add_escaped(&alone, bytes + place, 1, false);
        ld_text_add(&alone, bytes + place + 1, sizeof bytes - place - 1);
        ld_text_clear(&text);
        ld_text_add_escaped(&text, bytes, sizeof bytes, false);
        CHECK_STR(ld_text_string(&alone), ld_text_string(&text));
    }
    ld_text_fini(&alone);
    ld_text_fini(&text);
}

static void test_replaced(void) {
    static const struct {
        const char *bytes;
        const char *expected;
    } rows[] = {
        {"caf\xC3\xA9\n", "caf\xC3\xA9\n"},
        {"a\xFFz", "a\xEF\xBF\xBDz"},
        {"\xE2\x82", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xE2\x82\xAC\x80", "\xE2\x82\xAC\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        struct ld_text text = {0};
        ld_text_add_utf8(&text, rows[i].bytes, strlen(rows[i].bytes));
        CHECK_STR(rows[i].expected, ld_text_string(&text));
        ld_text_fini(&text);
    }
}

/* How many bytes of a string are to be taken. */
static size_t cut(const char *bytes) {
    return ld_text_cut(bytes, strlen(bytes));
}

static void test_cut(void) {
    CHECK_INT(0, cut(""));
    CHECK_INT(1, cut("a"));
    CHECK_INT(2, cut("ab"));
    CHECK_INT(3, cut("a\xC3\xA9"));
    CHECK_INT(1, cut("a\xC3"));
    CHECK_INT(1, cut("a\xE2\x82"));
    CHECK_INT(4, cut("a\xE2\x82\xAC"));
    CHECK_INT(1, cut("a\xF0\x9F\x98"));
    CHECK_INT(5, cut("a\xF0\x9F\x98\x80"));
    CHECK_INT(1, cut("\xC3")); /* something is always taken */
    CHECK_INT(2, cut("\xE2\x82"));
    CHECK_INT(5, cut("a\x80\x80\x80\x80")); /* of what is not UTF-8, all */
    CHECK_INT(2, cut("a\xFF"));
    CHECK_INT(2, cut("a\xC0"));
}

static const struct check_case cases[] = {
    {"a text is cut between characters", test_cut},
    {"an empty text is the empty string", test_empty},
    {"a text grows and always ends with NUL", test_growth},
    {"bytes, strings and formats are added at the end", test_pieces},
    {"a format of any length fits", test_format_at_every_length},
    {"out of memory keeps what is there", test_out_of_memory},
    {"UTF-8: the edges of RFC 3629", test_utf8_edges},
    {"UTF-8: all first and second bytes", test_utf8_all_sequences},
    {"controls and invalid bytes are escaped", test_escaped},
    {"what is escaped can act on no terminal", test_escaped_is_always_safe},
    {"a byte is escaped alike at each place", test_escaped_at_each_place},
    {"invalid bytes are replaced by U+FFFD", test_replaced},
};

CHECK_MAIN(cases)

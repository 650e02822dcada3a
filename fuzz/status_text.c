/* The report for people, whatever a daemon answers: one that gave up its rights may be asked by root. */
#include "host/status_text.h"

#include "fuzz.h"

/* Check that no line of a report is anything but what lunad shows: two spaces, or the first line. */
static void check(const struct ld_text *text) {
    const char *line = ld_text_string(text);
    const char *end = line + text->size;
    while (line < end) {
        const char *newline = line;
        while (newline < end && *newline != '\n') {
            newline++;
        }
        fuzz_check_line(line, (size_t)(newline - line));
        FUZZ_CHECK(line == text->data || (line[0] == ' ' && line[1] == ' '));
        line = newline + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ld_text text = {0};
    json_t *report = json_loadb((const char *)data, size, JSON_ALLOW_NUL, NULL);
    if (json_is_object(report)) {
        ld_status_text(&text, report);
        FUZZ_CHECK(text.size > 0);
        check(&text);
    }
    json_decref(report);
    ld_text_fini(&text);
    return 0;
}

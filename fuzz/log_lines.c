/* What a child writes, as lines of the log: however it comes in pieces, each line is in the log once, and
 * nothing else is. */
#include "engine/log_lines.h"

#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "fuzz.h"

#define WHOLE_MAX 70000 /* bytes: more than a piece of a line */

static int fd; /* of the log, a file in memory */

/* Open the log, as JSON, so that messages come back as they were. */
static void open_log(void) {
    fd = memfd_create("log", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    const struct ld_log_config config = {.sink = LD_LOG_STDERR, .json = true, .fd = fd};
    FUZZ_CHECK(ld_log_open(&config) == 0);
}

/* Read the log and empty it. */
static void take_log(struct ld_text *text) {
    char bytes[65536];
    ssize_t size;
    off_t at = 0;
    while ((size = pread(fd, bytes, sizeof bytes, at)) > 0) {
        ld_text_add(text, bytes, (size_t)size);
        at += size;
    }
    FUZZ_CHECK(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
}

/* Put the lines of the log together again; pieces of one line are joined. */
static void join(const struct ld_text *log, struct ld_text *output) {
    const char *line = ld_text_string(log);
    const char *newline;
    for (; (newline = strchr(line, '\n')) != NULL; line = newline + 1) {
        json_t *event = json_loadb(line, (size_t)(newline - line), JSON_ALLOW_NUL, NULL);
        const json_t *message = json_object_get(event, "message");
        FUZZ_CHECK(json_is_string(message));
        FUZZ_CHECK(json_string_length(message) <= 3 * 65536);
        ld_text_add(output, json_string_value(message), json_string_length(message));
        if (!json_is_true(json_object_get(event, "cut"))) {
            ld_text_putc(output, '\n');
        }
        json_decref(event);
    }
    FUZZ_CHECK(*line == '\0');
}

/* Give the input to the log, in pieces, some of them again and again. */
static void feed(struct fuzz_input *input, struct ld_text *whole) {
    struct ld_log_lines lines = {0};
    ld_log_lines_init(&lines, "d", "c", 7, false);
    while (input->left > 0) {
        size_t size;
        size_t times = fuzz_byte(input) % 16 == 0 ? fuzz_number(input, 2) % 4096 + 1 : 1;
        const char *bytes = fuzz_bytes(input, 255, &size);
        for (size_t i = 0; i < times && whole->size < WHOLE_MAX; i++) {
            ld_text_add(whole, bytes, size);
            ld_log_lines_add(&lines, bytes, size);
        }
    }
    ld_log_lines_add(&lines, NULL, 0);
    ld_log_lines_fini(&lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct ld_text whole = {0};
    struct ld_text wanted = {0};
    struct ld_text log = {0};
    struct ld_text output = {0};
    if (fd == 0) {
        open_log();
    }
    feed(&input, &whole);
    ld_text_add_utf8(&wanted, ld_text_string(&whole), whole.size);
    if (whole.size > 0 && whole.data[whole.size - 1] != '\n') {
        ld_text_putc(&wanted, '\n');
    }
    take_log(&log);
    join(&log, &output);
    FUZZ_CHECK(output.size == wanted.size &&
               memcmp(ld_text_string(&output), ld_text_string(&wanted), wanted.size) == 0);
    ld_text_fini(&whole);
    ld_text_fini(&wanted);
    ld_text_fini(&log);
    ld_text_fini(&output);
    return 0;
}

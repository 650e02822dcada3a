#include "cli/answer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/say.h"
#include "base/text.h"

/* Print text of the daemon. */
int ld_answer_print(const char *bytes, size_t size) {
    struct ld_text shown = {0};
    const char *end = bytes + size;
    if (!isatty(STDOUT_FILENO)) {
        ld_text_add(&shown, bytes, size);
    }
    while (shown.size == 0 && bytes < end) {
        const char *newline = memchr(bytes, '\n', (size_t)(end - bytes));
        const char *stop = newline != NULL ? newline : end;
        ld_text_add_escaped(&shown, bytes, (size_t)(stop - bytes), false);
        bytes = stop;
        if (newline != NULL) {
            ld_text_putc(&shown, '\n');
            bytes++;
        }
        fwrite(shown.data, 1, shown.size, stdout);
        ld_text_clear(&shown);
    }
    fwrite(ld_text_string(&shown), 1, shown.size, stdout);
    int code = shown.failed ? ENOMEM : fflush(stdout) != 0 ? errno : 0;
    ld_text_fini(&shown);
    if (code != 0 || ferror(stdout)) {
        ld_say_error("stdout: %s", strerror(code != 0 ? code : EIO));
        return -ECANCELED;
    }
    return 0;
}

/* Make a line of the values in an answer. */
int ld_answer_values(const json_t *answer, struct ld_text *line) {
    const json_t *values = json_object_get(answer, "values");
    bool is_right = json_is_array(values);
    for (size_t i = 0; is_right && i < json_array_size(values); i++) {
        const json_t *value = json_array_get(values, i);
        is_right = json_is_string(value);
        if (is_right) {
            ld_text_puts(line, i > 0 ? "\t" : "");
            ld_text_add(line, json_string_value(value), json_string_length(value));
        }
    }
    if (is_right && json_array_size(values) > 0) {
        ld_text_putc(line, '\n');
    }
    return !is_right ? -EPROTO : line->failed ? -ENOMEM : 0;
}

/* Print the values in an answer. */
int ld_answer_print_values(const json_t *answer) {
    struct ld_text line = {0};
    int rc = ld_answer_values(answer, &line);
    if (rc == 0 && line.size > 0) {
        rc = ld_answer_print(ld_text_string(&line), line.size);
    }
    ld_text_fini(&line);
    return rc;
}

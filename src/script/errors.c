#include "script/errors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/time.h"
#include "script/tally.h"

/* Replace the text. */
static void set_text(struct ld_text *text, const char *bytes, size_t size) {
    ld_text_clear(text);
    ld_text_add(text, bytes, size);
}

/* Find "file:line" at the beginning of a message, where Lua puts it; 0 if it is not there, else its
 * length. */
static size_t place_length(const char *message) {
    size_t line_end = strcspn(message, "\n");
    for (size_t at = strcspn(message, ":"); at < line_end; at++) {
        size_t digits = message[at] == ':' ? strspn(message + at + 1, "0123456789") : 0;
        if (digits > 0 && message[at + 1 + digits] == ':') {
            return at + 1 + digits;
        }
    }
    return 0;
}

/* Fill in where an error was from its message, if its stack was gone already. */
static void find_place(struct ld_error *error, char *where, size_t size) {
    size_t length = place_length(ld_text_string(error->trace));
    if (strcmp(error->where, "?") == 0 && length > 0 && length < size) {
        snprintf(where, size, "%.*s", (int)length, ld_text_string(error->trace));
        error->where = where;
    }
}

/* Keep when an error was. */
static void note_time(struct ld_errors *errors, uint64_t now) {
    if (errors->times == NULL) {
        errors->times = calloc(LD_ERRORS_TIMES, sizeof(uint64_t));
    }
    if (errors->times != NULL) {
        errors->times[errors->count % LD_ERRORS_TIMES] = now;
    }
}

/* Count the errors of a span of time. */
uint64_t ld_errors_count_since(const struct ld_errors *errors, uint64_t ns) {
    uint64_t now = ld_time_coarse();
    uint64_t kept = errors->count < LD_ERRORS_TIMES ? errors->count : LD_ERRORS_TIMES;
    uint64_t found = 0;
    uint64_t oldest = now;
    for (uint64_t i = 0; errors->times != NULL && i < kept; i++) {
        bool is_recent = now - errors->times[i] <= ns;
        found += is_recent;
        oldest = is_recent && errors->times[i] < oldest ? errors->times[i] : oldest;
    }
    bool is_all = found < LD_ERRORS_TIMES;
    uint64_t span = now - oldest > 0 ? now - oldest : 1;
    return is_all ? found : (uint64_t)((double)found * ((double)ns / (double)span));
}

/* Log, count and keep an error. */
void ld_errors_note(struct ld_errors *errors, const struct ld_error *error) {
    const struct ld_text *trace = error->trace;
    bool is_first = ld_text_is_empty(&errors->first);
    if (errors->tally != NULL) {
        char where[LD_ERROR_WHERE];
        struct ld_error placed = *error;
        find_place(&placed, where, sizeof where);
        ld_tally_note(errors->tally, &placed, errors->generation, ld_time_coarse());
    } else if (!is_first || !errors->holds_first) {
        ld_log_with(LD_LOG_ERROR, trace, "uncaught error in %s: ", error->what);
    }
    note_time(errors, ld_time_coarse());
    errors->count++;
    errors->last_time = (double)ld_time_real() / LD_TIME_SECOND;
    set_text(&errors->last, ld_text_string(trace), error->message_size);
    if (is_first) {
        set_text(&errors->first, ld_text_string(trace), trace->size);
    }
}

/* Free what is kept. */
void ld_errors_fini(struct ld_errors *errors) {
    ld_text_fini(&errors->last);
    ld_text_fini(&errors->first);
    free(errors->times);
}

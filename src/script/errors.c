#include "script/errors.h"

#include "base/log.h"
#include "base/time.h"

/* Replace the text. */
static void set_text(struct ld_text *text, const char *bytes, size_t size) {
    ld_text_clear(text);
    ld_text_add(text, bytes, size);
}

/* Log, count and keep an error. */
void ld_errors_note(struct ld_errors *errors, const char *what, const struct ld_text *trace,
                    size_t message_size) {
    bool is_first = ld_text_is_empty(&errors->first);
    if (!is_first || !errors->holds_first) {
        ld_log_with(LD_LOG_ERROR, trace, "uncaught error in %s: ", what);
    }
    errors->count++;
    if (errors->also_count != NULL) {
        (*errors->also_count)++;
    }
    errors->last_time = (double)ld_time_real() / LD_TIME_SECOND;
    set_text(&errors->last, ld_text_string(trace), message_size);
    if (is_first) {
        set_text(&errors->first, ld_text_string(trace), trace->size);
    }
}

/* Free what is kept. */
void ld_errors_fini(struct ld_errors *errors) {
    ld_text_fini(&errors->last);
    ld_text_fini(&errors->first);
}

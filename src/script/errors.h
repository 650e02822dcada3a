/* Errors of a generation that nothing caught: what the log, the status report and the host are told. */
#ifndef LD_SCRIPT_ERRORS_H
#define LD_SCRIPT_ERRORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

struct ld_errors {
    int handler;      /* reference to the on_error function, or LUA_NOREF */
    bool is_handling; /* that function runs, and has not been suspended */
    bool holds_first; /* the first one is not logged: it is told as why start or reload failed */
    uint64_t count;
    uint64_t *also_count; /* counts them too, or NULL */
    struct ld_text first; /* with its traceback */
    struct ld_text last;  /* without */
    double last_time;     /* Unix time */
};

/* Log, count and keep an error. WHAT says where it happened ("a timer"), TRACE is the message with
 * its traceback, MESSAGE_SIZE of it the message. */
void ld_errors_note(struct ld_errors *errors, const char *what, const struct ld_text *trace,
                    size_t message_size);

/* Free what is kept. */
void ld_errors_fini(struct ld_errors *errors);

#endif

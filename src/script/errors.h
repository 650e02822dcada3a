/* Errors of a generation that nothing caught: what the log, the status report and the host are told. */
#ifndef LD_SCRIPT_ERRORS_H
#define LD_SCRIPT_ERRORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

#define LD_ERROR_WHERE  272
#define LD_ERRORS_TIMES 1024

/* An error that nothing caught. */
struct ld_error {
    const char *what;            /* it has ended: "a timer" */
    const char *where;           /* "file:line", or "?"; of fewer than LD_ERROR_WHERE bytes */
    const struct ld_text *trace; /* the message with its traceback */
    size_t message_size;         /* of it */
};

struct ld_tally;

struct ld_errors {
    int handler;      /* reference to the on_error function, or LUA_NOREF */
    bool is_handling; /* that function runs, and has not been suspended */
    bool holds_first; /* the first one is not logged: it is told as why start or reload failed */
    uint64_t count;
    struct ld_tally *tally; /* of the daemon, once this generation is the service; else NULL */
    unsigned generation;
    struct ld_text first; /* with its traceback */
    struct ld_text last;  /* without */
    double last_time;     /* Unix time */
    uint64_t *
        times; /* of the last LD_ERRORS_TIMES, ld_time_coarse, in a ring; NULL: there were none, or no memory */
};

/* Log, count and keep an error. */
void ld_errors_note(struct ld_errors *errors, const struct ld_error *error);

/* How many there were in the last NS nanoseconds. Where so many times are not kept, their rate is taken for all. */
uint64_t ld_errors_count_since(const struct ld_errors *errors, uint64_t ns);

/* Free what is kept. */
void ld_errors_fini(struct ld_errors *errors);

#endif

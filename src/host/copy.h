/* A copy of this process, made by fork, which computes something for it while the service goes on. It owns nothing (see
 * posix/forked.h), writes a report to a pipe, and is killed when it is not wanted any more, when it takes too long,
 * and with this process. */
#ifndef LD_HOST_COPY_H
#define LD_HOST_COPY_H

#include <stddef.h>
#include <uv.h>

#include "base/text.h"

struct ld_copy;

struct ld_copy_job {
    /* Called in the copy, which ends when it returns: write the report. */
    void (*run)(void *arg, struct ld_text *report);

    /* Called here when the copy has written its report, of REPORT_MOST bytes at most, or has died: it is empty, or
     * torn. The copy is gone after it. */
    void (*done)(void *arg, const struct ld_text *report);

    void *arg;
    size_t report_most;
    unsigned cpu_seconds; /* the kernel kills a copy that has used so much */
};

/* Make a copy: 0 or a negative errno. JOB is copied. */
int ld_copy_make(struct ld_copy **out, uv_loop_t *loop, const struct ld_copy_job *job);

/* Kill it, without a call of done; NULL does nothing. */
void ld_copy_end(struct ld_copy *copy);

/* For how many milliseconds this process stood still while it was made. */
double ld_copy_fork_ms(const struct ld_copy *copy);

#endif

/* Reports from a starting daemon to the process that a person started, over a SOCK_SEQPACKET pair:
 * that it exists, how its start went, and then (unless READY) the end of the channel when
 * everything is cleaned up. Only the sender of the first report, which the kernel names, is to be
 * trusted; the rest is shown. */
#ifndef LD_DAEMON_START_REPORT_H
#define LD_DAEMON_START_REPORT_H

#include <sys/types.h>

#include "base/text.h"

enum ld_start_report_kind {
    LD_START_REPORT_READY = 'r', /* status: the daemon's pid; text: a warning, or ""; for people */
    LD_START_REPORT_FINISHED = 'f', /* the script has already finished */
    LD_START_REPORT_FAILED = 'e',   /* status: the exit status to take; text: why */
    LD_START_REPORT_BORN = 'b',     /* the first: the kernel says who sends it */
};

/* Send a report; a channel of -1, or one without a reader, is not an error. A text over 60,000
 * bytes is cut. */
void ld_start_report_send(int channel, enum ld_start_report_kind kind, int status,
                          const char *text);

/* A report as it was received. Free its text with ld_text_fini. */
struct ld_start_report {
    enum ld_start_report_kind kind;
    int status;
    struct ld_text text;
    pid_t sender; /* as the kernel says; 0: it does not */
};

/* Make the pair, the receiving end first; that end is told who sends. 0 or a negative errno. */
int ld_start_report_open(int ends[2]);

/* Receive one report into REPORT: 1, 0 at the end of the channel, or a negative errno. */
int ld_start_report_receive(int channel, struct ld_start_report *report);

#endif

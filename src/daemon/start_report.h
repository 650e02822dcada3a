/* What a daemon in the making tells the process that a person started, over a SOCK_SEQPACKET pair:
 * that it lives, then how its start went, then (but for READY) the end of the channel when everything
 * is cleaned up. All but the sender of the first packet, which the kernel names, is data to show. */
#ifndef LD_DAEMON_START_REPORT_H
#define LD_DAEMON_START_REPORT_H

#include <sys/types.h>

#include "base/text.h"

enum ld_start_report_kind {
    LD_START_REPORT_READY = 'r',    /* status: the daemon's pid, for people */
    LD_START_REPORT_FINISHED = 'f', /* the script has finished already */
    LD_START_REPORT_FAILED = 'e',   /* status: the exit status to take; text: why */
    LD_START_REPORT_BORN = 'b',     /* the first: the kernel says who sends it */
};

/* Send a report; an absent or gone reader is no error. A text over 60,000 bytes is cut. */
void ld_start_report_send(int channel, enum ld_start_report_kind kind, int status,
                          const char *text);

/* One report as it was received. Free with ld_text_fini of its text. */
struct ld_start_report {
    enum ld_start_report_kind kind;
    int status;
    struct ld_text text;
    pid_t sender; /* as the kernel says; 0: it does not */
};

/* Make the pair: the receiving end first, which is told the senders. 0 or a negative errno. */
int ld_start_report_open(int ends[2]);

/* Receive one report into REPORT: 1, 0 at the end of the channel, or a negative errno. */
int ld_start_report_receive(int channel, struct ld_start_report *report);

#endif

/* What a daemon in the making tells the process that a person started, over a SOCK_SEQPACKET pair:
 * one packet, then (but for READY) the end of the channel when everything is cleaned up. */
#ifndef LD_REPORT_H
#define LD_REPORT_H

#include "text.h"

enum ld_report_kind {
    LD_REPORT_READY = 'r',    /* status: the daemon's pid */
    LD_REPORT_FINISHED = 'f', /* the script has finished already */
    LD_REPORT_FAILED = 'e',   /* status: the exit status to take; text: why */
    LD_REPORT_PID = 'p',      /* status: the daemon's pid, which is not ready yet */
};

/* Send a report; an absent or gone reader is no error. A text over 60,000 bytes is cut. */
void ld_report_send(int channel, enum ld_report_kind kind, int status, const char *text);

/* Receive one report: 1, 0 at the end of the channel, or a negative errno. */
int ld_report_receive(int channel, enum ld_report_kind *kind, int *status, struct ld_text *text);

#endif

/* The boxes of all workers (see mail.h), which the master keeps. It tells each worker through its box where
 * those of the others are; where a box is full, it does so when there is room. */
#ifndef LD_ENGINE_MAILBOXES_H
#define LD_ENGINE_MAILBOXES_H

#include <stdbool.h>
#include <uv.h>

struct ld_mailboxes;

/* Make an empty set on LOOP; NULL when memory ran out. */
struct ld_mailboxes *ld_mailboxes_new(uv_loop_t *loop);

/* Close all boxes. The memory is freed when the loop has closed its handles. NULL: do nothing. */
void ld_mailboxes_close(struct ld_mailboxes *boxes);

/* A process is about to be started for worker NUMBER (1 to LD_MAIL_WORKERS_MAX), which knows nothing yet: tell it
 * where the others' boxes are. Its own box, which is made if it has none, and then the others are told; the set owns it, and the
 * process reads a duplicate. Or a negative errno. */
int ld_mailboxes_hand_out(struct ld_mailboxes *boxes, unsigned number);

/* For a program that goes on in this process: the ends of the box of a worker, to read and to write, and what is to be told
 * to it about another one, in numbers of this file's own (0: nothing). False if it has none. */
bool ld_mailboxes_describe(const struct ld_mailboxes *boxes, unsigned number, int ends[2]);
unsigned ld_mailboxes_news(const struct ld_mailboxes *boxes, unsigned number, unsigned about);

/* Take such a box over; the ends in any case. 0 or a negative errno. News go into it from ld_mailboxes_resume on. */
int ld_mailboxes_restore(struct ld_mailboxes *boxes, unsigned number, const int ends[2]);
void ld_mailboxes_owe(struct ld_mailboxes *boxes, unsigned number, unsigned about, unsigned news);
void ld_mailboxes_resume(struct ld_mailboxes *boxes);

/* No process follows that of a worker: close its box, with what is in it, and tell the others. Does nothing if it
 * has none. */
void ld_mailboxes_drop(struct ld_mailboxes *boxes, unsigned number);

/* In a copy of the process: replace the descriptors by copies of BLANK. Async-signal-safe. */
void ld_mailboxes_give_up(const struct ld_mailboxes *boxes, int blank);

#endif

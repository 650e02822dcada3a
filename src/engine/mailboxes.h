/* The boxes of all workers (see mail.h), which the master keeps. It tells each worker through its box where
 * those of the others are; where a box is full, it does so when there is room. */
#ifndef LD_ENGINE_MAILBOXES_H
#define LD_ENGINE_MAILBOXES_H

#include <uv.h>

struct ld_mailboxes;

/* Make an empty set on LOOP; NULL when memory ran out. */
struct ld_mailboxes *ld_mailboxes_new(uv_loop_t *loop);

/* Close all boxes. The memory is freed when the loop has closed its handles. NULL: do nothing. */
void ld_mailboxes_close(struct ld_mailboxes *boxes);

/* Have a box for each of COUNT workers (to LD_MAIL_WORKERS_MAX): those that are missing are made, those of more
 * workers are closed with what is in them, and the others are told. 0 or a negative errno; then those
 * that there were are left. */
int ld_mailboxes_resize(struct ld_mailboxes *boxes, unsigned count);

/* A process is about to be started for worker NUMBER, which knows nothing yet: tell it where the others'
 * boxes are. Its own box, which the set owns, to be read by that process from a duplicate; -ENOENT if it has none. */
int ld_mailboxes_hand_out(struct ld_mailboxes *boxes, unsigned number);

/* In a copy of the process: replace the descriptors by copies of BLANK. Async-signal-safe. */
void ld_mailboxes_give_up(const struct ld_mailboxes *boxes, int blank);

#endif

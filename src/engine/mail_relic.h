/* What waits in the end of a worker for messages, in bytes: it is left to another program that goes on in this process.
 * Messages in the boxes themselves are in the kernel. */
#ifndef LD_ENGINE_MAIL_RELIC_H
#define LD_ENGINE_MAIL_RELIC_H

#include "base/text.h"
#include "engine/mail.h"

/* Called for a descriptor: it is left open, with OUT for the number by which it is known; or FD is such a number, and it
 * returns a descriptor that the end owns, or -1. */
typedef int ld_mail_relic_fd(void *arg, int fd);

/* Write all of it; nothing changes. Fails as OUT does. */
void ld_mail_relic_write(const struct ld_mail *mail, struct ld_text *out, ld_mail_relic_fd *leave,
                         void *arg);

/* Read it into an end that was just made. Nothing of it is sent before ld_mail_relic_start. 0, -EPROTO if it is
 * something else, or another negative errno. */
int ld_mail_relic_read(struct ld_mail *mail, const char *bytes, size_t size, ld_mail_relic_fd *take,
                       void *arg);
void ld_mail_relic_start(struct ld_mail *mail);

/* A process goes on beside that program, a copy of this one: what waits is sent by the program, and the boxes are read
 * by it. In the copy both are forgotten, what is sent is told apart by the number of the process, and what goes to the
 * worker itself goes to FD, a box that the end owns from now on. The program reads that: 0 or a negative errno. */
void ld_mail_relic_disown(struct ld_mail *mail, int fd);
int ld_mail_relic_hear(struct ld_mail *mail, int fd);

#endif

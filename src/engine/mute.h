/* Listening sockets from which no client is accepted yet: those of a generation that is not the
 * service. The clients wait in the queue, for the old generation or for this one when it is
 * ready. One list a process. */
#ifndef LD_ENGINE_MUTE_H
#define LD_ENGINE_MUTE_H

#include <stdbool.h>

/* Accept no client from FD on any guest; 0 or a negative errno. */
int ld_mute_start(int fd);

/* Accept clients from FD again; does nothing if it was not muted. */
void ld_mute_stop(int fd);

/* Whether FD is muted and nothing may be accepted from it. Its guest does not poll it until it is
 * unmuted. */
bool ld_mute_refuse(int fd);

#endif

/* Listening sockets that take no client yet: those of a generation that is not the service. The
 * clients wait in the queue, for the old generation or for this one when it has become ready. */
#ifndef LD_ENGINE_MUTE_H
#define LD_ENGINE_MUTE_H

/* Take no client from FD on any guest; 0 or a negative errno. */
int ld_mute_start(int fd);

/* Take clients from FD from now on; nothing if it was not muted. */
void ld_mute_stop(int fd);

#endif

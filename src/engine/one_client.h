/* Listening sockets from which several processes accept clients: one client for each time that the loop finds the socket
 * readable, so that the others have their turn. libuv would take all that wait. */
#ifndef LD_ENGINE_ONE_CLIENT_H
#define LD_ENGINE_ONE_CLIENT_H

#include <stdbool.h>

/* Note whether FD is such a socket; its number may have been another's. Without memory it is none. */
void ld_one_client_note(int fd, bool is_common);

/* Whether no client is to be accepted from FD now, because one was just before. */
bool ld_one_client_refuse(int fd);

/* Note that a client was accepted from FD, or that none waits. */
void ld_one_client_accepted(int fd, bool any);

#endif

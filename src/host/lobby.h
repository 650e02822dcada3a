/* Clients of the control socket while the loop is stuck: a thread that watches the loop accepts them and
 * answers what it can. What it cannot answer it leaves unread in the socket, for the loop.
 *
 * A request is taken by the receive call that removes it from the socket, so that loop and thread never
 * both answer it. The descriptors are shared: under a mutex that neither holds while it waits. */
#ifndef LD_HOST_LOBBY_H
#define LD_HOST_LOBBY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct ld_lobby;

/* Make it; root and OWNER may send requests. NULL if there is no memory. */
struct ld_lobby *ld_lobby_new(uid_t owner);

/* Close clients that the loop has not taken over. The thread has ended. */
void ld_lobby_free(struct ld_lobby *lobby);

/* In the loop: use another listening socket, -1: none. The one before may be closed then. */
void ld_lobby_set_listener(struct ld_lobby *lobby, int fd);

/* In the loop: the client on FD, whose descriptor stays the caller's, may be answered: nothing has been
 * read that is not answered. Or not any longer; after that its descriptor may be closed. */
void ld_lobby_enter(struct ld_lobby *lobby, int fd);
void ld_lobby_leave(struct ld_lobby *lobby, int fd);

/* In the loop: take over a client that the thread has accepted; -1 if there is none. */
int ld_lobby_take(struct ld_lobby *lobby);

/* In the loop: whether the thread has told a client that the daemon stops, or that it opens its log again.
 * Each is returned once. */
bool ld_lobby_wants_stop(struct ld_lobby *lobby);
bool ld_lobby_wants_reopen(struct ld_lobby *lobby);

/* What the thread tells clients. */
struct ld_lobby_news {
    const char *name;
    const char *state;
    const char *where;   /* FILE:LINE; "" if no Lua code runs; NULL: not known yet, do not answer */
    double seconds;      /* that the loop has been held */
    double stop_timeout; /* of the daemon */
    bool refuses_reload; /* it waited long enough */
};

/* What clients want, and how many there are. */
struct ld_lobby_wishes {
    bool stop; /* one of them, since the loop has last turned */
    bool reload;
    size_t clients;
};

/* In the thread: the listening socket; -1 if there is none, or a client waits that cannot be accepted. */
int ld_lobby_listener(struct ld_lobby *lobby);

/* In the thread: accept clients and answer them, without waiting. */
void ld_lobby_serve(struct ld_lobby *lobby, const struct ld_lobby_news *news,
                    struct ld_lobby_wishes *wishes);

/* In the thread: forget what clients wanted; the loop has turned, and serves them. */
void ld_lobby_end_turn(struct ld_lobby *lobby);

/* Add the words for "busy in FILE:LINE for 7 s" to BYTES. */
void ld_lobby_say_busy(char *bytes, size_t size, const struct ld_lobby_news *news);

#endif

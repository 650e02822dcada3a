/* The keeper at the control socket, while no host lives that could answer there: a few clients at once, a line
 * each way, as in host/control.h but without a loop. Whatever clients do, no call here waits for them. */
#ifndef LD_DAEMON_KEEPER_DESK_H
#define LD_DAEMON_KEEPER_DESK_H

#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/text.h"

/* At once; one more takes the place of the one that came first. (poll fails if there are more than the limit of
 * descriptors, and a start needs only few.) */
#define LD_KEEPER_DESK_CLIENTS 8

/* Answer the request VERB: a new reference. */
typedef json_t *ld_keeper_desk_answer(void *arg, const char *verb);

struct ld_keeper_desk_client {
    int fd; /* -1: none */
    bool served;
    double since; /* when it came, or sent its last request */
    struct ld_text input;
};

struct ld_keeper_desk {
    int listener;      /* borrowed; -1: none */
    double deaf_until; /* clients are not accepted */
    uid_t owner;
    ld_keeper_desk_answer *answer;
    void *arg;
    struct ld_keeper_desk_client clients[LD_KEEPER_DESK_CLIENTS];
};

/* Begin to answer clients of LISTENER, root and OWNER, with ANSWER. */
void ld_keeper_desk_open(struct ld_keeper_desk *desk, int listener, uid_t owner,
                         ld_keeper_desk_answer *answer, void *arg);

/* Close the connections of all clients. */
void ld_keeper_desk_close(struct ld_keeper_desk *desk);

/* How many descriptors ld_keeper_desk_poll fills in. */
#define LD_KEEPER_DESK_POLLS (LD_KEEPER_DESK_CLIENTS + 1)

/* Fill in what to poll; unused ones are -1. */
void ld_keeper_desk_poll(const struct ld_keeper_desk *desk, struct pollfd *polls);

/* Serve what POLLS, as filled in before, shows. */
void ld_keeper_desk_serve(struct ld_keeper_desk *desk, const struct pollfd *polls);

/* Whether a client has come since the time SINCE (ld_time_seconds), and has not been served yet. */
bool ld_keeper_desk_is_busy(const struct ld_keeper_desk *desk, double since);

#endif

/* The control socket: one JSON object a line each way. It knows no Lua, and of the host only
 * what it is given here. Whatever clients do delays the script by one turn of the loop at most. */
#ifndef LD_HOST_CONTROL_H
#define LD_HOST_CONTROL_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "base/text.h"

/* A client, or another part, that waits for the end of a reload, an eval, a profile or a walk over the heap. */
struct ld_waiter {
    struct ld_waiter *next;
    /* Called once, with a new reference to the answer. */
    void (*done)(struct ld_waiter *waiter, json_t *answer);
    /* The same for an answer that is a line already; its text is taken over, unless it is not whole. */
    void (*done_text)(struct ld_waiter *waiter, struct ld_text *answer);
    /* Whether the client has read what was sent before, so that it can be told a part. NULL for one that is told none. */
    bool (*can_tell)(const struct ld_waiter *waiter);
    /* Send a PART before that, whose reference is taken over; false if the client has not read what was sent
     * before. A client that has gone is forgotten inside. Likewise. */
    bool (*tell)(struct ld_waiter *waiter, json_t *part);
};

/* Each answer is a new reference, to be sent. */
struct ld_control_ops {
    /* Answer a REQUEST for the status: true with the line in ANSWER, or WAITER is told in a later turn of the loop. */
    bool (*status)(void *host, struct ld_waiter *waiter, const json_t *request,
                   struct ld_text *answer);
    json_t *(*stop)(void *host);
    json_t *(*reopen)(void *host);
    /* Reload as a REQUEST of the client on FD asks. NULL: WAITER is told in a later turn of the loop how that
     * ended. A part of the answer with "held": true means that the client is to commit it. */
    json_t *(*reload)(void *host, struct ld_waiter *waiter, const json_t *request, int fd);
    /* Commit the reload that is held for WAITER; false if none is. */
    bool (*commit)(void *host, const struct ld_waiter *waiter);
    /* Restart the worker of a REQUEST: the answer. */
    json_t *(*restart)(void *host, struct ld_waiter *waiter, const json_t *request, int fd);
    /* Run the chunk of a REQUEST of the client on FD. NULL: WAITER is told in a later turn of the loop how that
     * ended. */
    json_t *(*eval)(void *host, struct ld_waiter *waiter, const json_t *request, int fd);
    /* Count what runs for the seconds of a REQUEST; and walk the heap in a copy of the process. Likewise. */
    json_t *(*profile)(void *host, struct ld_waiter *waiter, const json_t *request, int fd);
    json_t *(*heap)(void *host, struct ld_waiter *waiter, const json_t *request, int fd);
    /* Collect the metrics of the service for a REQUEST of the client on FD; as eval. */
    json_t *(*metrics)(void *host, struct ld_waiter *waiter, const json_t *request, int fd);
    /* Have this process become another program for a REQUEST; as eval. */
    json_t *(*upgrade)(void *host, struct ld_waiter *waiter, const json_t *request, int fd);
    /* Interrupt what runs for a waiter of an "interactive" eval, whose client has said that it will send
     * nothing more, or has gone. */
    void (*interrupt)(void *host, struct ld_waiter *waiter);
    /* Forget a waiter whose client has gone. */
    void (*forget)(void *host, struct ld_waiter *waiter);
};

struct ld_control;
struct ld_lobby;

/* Listen on LISTENER, which is taken over. Root and OWNER may send requests. Clients are in the LOBBY too,
 * which lives longer. 0 or a negative errno. */
int ld_control_open(struct ld_control **out, uv_loop_t *loop, int listener, uid_t owner,
                    struct ld_lobby *lobby);

/* Listen on FD, which is taken over, instead of the socket before: the clients that are connected
 * stay. 0 or a negative errno, and then the one before stays in use. */
int ld_control_listen(struct ld_control *control, int fd);

/* Take over clients that were accepted in the lobby; to be called once in a turn of the loop. */
void ld_control_take_over(struct ld_control *control);

/* Set what requests do; to be called before the loop turns. */
void ld_control_serve(struct ld_control *control, const struct ld_control_ops *ops, void *host);

/* The descriptor of the socket; -1: none. */
int ld_control_fd(const struct ld_control *control);

/* A client that another program in this process can go on with. */
struct ld_control_client {
    int fd;
    const char *input; /* that it has sent and that is not served */
    size_t size;
    const struct ld_waiter *waiter; /* NULL: it does not wait for an answer */
};

/* Whether answers are being written that clients have not read yet: they cannot be handed on. */
bool ld_control_is_answering(const struct ld_control *control);

/* Call EACH for every such client: not for one that is refused, or does not read its answers. */
void ld_control_each(const struct ld_control *control,
                     void (*each)(void *arg, const struct ld_control_client *client), void *arg);

/* Go on with a client that an earlier program had; its descriptor is taken over. NULL unless it WAITS: then what is
 * to be told. */
struct ld_waiter *ld_control_restore(struct ld_control *control,
                                     const struct ld_control_client *client, bool waits);

/* Close the socket and all clients; the loop must turn once to free them. */
void ld_control_close(struct ld_control *control);

#endif

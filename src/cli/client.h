/* The client's end of the control socket. */
#ifndef LD_CLI_CLIENT_H
#define LD_CLI_CLIENT_H

#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/text.h"

#define LD_CLIENT_REQUEST_MAX ((size_t)1024 * 1024) /* bytes that a daemon takes */
#define LD_CLIENT_SECONDS     2.0                   /* for an answer of a daemon whose loop turns */

/* A request to a daemon. */
struct ld_request {
    int run_fd; /* the run directory */
    const char *name;
    const char *verb;
    double seconds; /* to wait for the answer */
    pid_t pid;      /* of the daemon, to find out why it does not answer; 0: unknown */
    bool patient;   /* wait even for a stopped daemon */

    /* What else the request says, or NULL. Such a request is sent only once. */
    const json_t *body;
    /* Called with each part that comes before the answer, an object with an "output", and then with the answer
     * itself, if it is not NULL. A negative errno ends the exchange. */
    int (*on_part)(void *arg, const json_t *part);
    /* Called in place of poll, if it is not NULL: wait for POLLER for at most MS milliseconds, as poll does; what
     * it returns and its errno end a wait in the same way. */
    int (*wait)(void *arg, struct pollfd *poller, int ms);
    bool is_list; /* parts can be of another kind, and there is as much time for each */
    void *arg;    /* of both */
};

/* Ask a daemon and wait for its answer. 0 with a new reference in *ANSWER, which says "ok": true;
 * or a negative errno with the reason in WHY: -EREMOTEIO if the daemon refused, -ETIMEDOUT if it
 * did not answer, -EAGAIN if it did not even take the connection, -ECONNREFUSED if no process listens, -ECONNRESET if it died, -EMSGSIZE if its
 * answer has no end, -E2BIG if the request is too large, -EPERM if the socket belongs to another user than the directory. */
int ld_client_ask(const struct ld_request *request, json_t **answer, struct ld_text *why);

#endif

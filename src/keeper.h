/* The keeper: a small process with the starter's rights that is the host's parent, where the host
 * gives its own rights up. It opens the log for the host, ends what the host leaves behind, and
 * cleans up after it. */
#ifndef LD_KEEPER_H
#define LD_KEEPER_H

#include <stdbool.h>

#include "service.h"
#include "socket.h"

/* What the keeper asks of the host. */
enum ld_keeper_word {
    LD_KEEPER_NOTHING, /* it said something that was an answer */
    LD_KEEPER_STOP,    /* somebody has asked the keeper to stop */
    LD_KEEPER_GONE,    /* the keeper has died */
};

/* Fork the host. In the host: -1, with service->keeper set. In the keeper, when everything is over
 * and cleaned up: the exit status to take. */
int ld_keeper_fork(struct ld_service *service);

/* In the host: tell the keeper that the script is ready. */
void ld_keeper_say_ready(const struct ld_service *service);

/* In the host: open the log by the keeper; a descriptor or a negative errno. For
 * ld_log_set_opener; ARG is the service. */
int ld_keeper_open_log(void *arg);

/* In the host: have the keeper listen on ADDRESS; likewise. Without OPTIONS: have it remove the
 * file of what it has made there; at its end it does so by itself. For ld_listeners_set_helper. */
int ld_keeper_listen_on(void *arg, const char *address, const struct ld_listen_options *options);

/* In the host, when service->keeper is readable: what it says. */
enum ld_keeper_word ld_keeper_listen(struct ld_service *service);

#endif

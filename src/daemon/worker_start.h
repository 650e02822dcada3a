/* How a worker is started: its command line, and what its master tells it first. A worker is a program of its own,
 * this one, with the channel to its master as descriptor LD_WORKER_CHANNEL. */
#ifndef LD_DAEMON_WORKER_START_H
#define LD_DAEMON_WORKER_START_H

#include <jansson.h>

#include "daemon/service.h"

#define LD_WORKER_VERB    "worker"
#define LD_WORKER_CHANNEL 3
#define LD_WORKER_LOG     4 /* of a log that was open when the master was started */

/* What the master sends without being asked, first of all: the facts, and with MEMORY the image of the memory that the
 * worker is made from. */
#define LD_WORKER_WORD_BEGIN  "begin"
#define LD_WORKER_WORD_MEMORY "memory"

/* Make service->worker_words of a master: what all workers are started by, beside their name, which follows
 * the second word. False if memory ran out. */
bool ld_worker_start_make_words(struct ld_service *service);

/* Make the facts for one worker, a text to be freed; with HAS_MEMORY a packet with that follows; RESTARTS, which is
 * taken over, is how those before it ended: {count, message, seconds, time}. NULL if memory ran out. */
char *ld_worker_start_describe(const struct ld_service *service, int worker, bool has_memory,
                               json_t *restarts);

/* In the worker: ask the master for the witness of the pidfile, and for the control socket, which goes to
 * service->listener; 0 or a negative errno. */
int ld_worker_start_ask_for_files(struct ld_service *service);

/* In the worker: receive that. To be called before ld_service_init, for what has to be known by then (DAEMON), and
 * after it for the rest. 0, or 1 with the reason in WHY. */
struct ld_worker_facts {
    json_t *fields;
    int memory; /* -1: none */
};
int ld_worker_start_receive(struct ld_worker_facts *facts, struct ld_text *why);
int ld_worker_start_apply(struct ld_worker_facts *facts, struct ld_service *service,
                          struct ld_text *why);
void ld_worker_start_fini(struct ld_worker_facts *facts);

#endif

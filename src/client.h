/* The other end of the control socket. */
#ifndef LD_CLIENT_H
#define LD_CLIENT_H

#include <jansson.h>

#include "text.h"

/* Ask the daemon NAME of RUN_DIR for VERB and wait for its answer, SECONDS at most (below 0: as
 * long as it lives). 0 with a new reference in *ANSWER, which says "ok": true; or a negative errno
 * with the reason in WHY: -EREMOTEIO if the daemon refused, -ETIMEDOUT if it did not answer,
 * -ECONNREFUSED if there is nobody, -ECONNRESET if it died. */
int ld_client_ask(const char *run_dir, const char *name, const char *verb, double seconds,
                  json_t **answer, struct ld_text *why);

#endif

/* What the chunk of a master can do with its workers (lua/lunad/workers.lua), and what every script knows of
 * them. */
#ifndef LD_API_WORKERS_H
#define LD_API_WORKERS_H

#include "script/script.h"

/* What a worker has said, or that it has gone. */
struct ld_api_workers_event {
    int worker;
    unsigned long number; /* of the request that it answers; 0: none */
    const char *word;
    const char *text;
    size_t size;
};

/* Tell the function of a script that core.on_worker was given, if there is one. */
void ld_api_workers_tell(struct ld_script *script, const struct ld_api_workers_event *event);

#endif

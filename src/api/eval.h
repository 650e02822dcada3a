/* A chunk that is run in a live script for a client: as a task, so it may suspend. */
#ifndef LD_API_EVAL_H
#define LD_API_EVAL_H

#include <jansson.h>

#include "script/caller.h"
#include "script/script.h"

struct ld_eval {
    struct ld_caller caller; /* entered by the owner */
    const char *chunk;       /* the owner's, until it is begun */
    size_t size;
    bool
        completes; /* the chunk is the beginning of a line: the values are the names that may come next */
    const char
        *own; /* a function of lunad's own Lua that is called instead, if there is one of that
                        name; its one result becomes the "values", as JSON. NULL: the chunk */

    /* Called once, when it has ended, perhaps inside of ld_eval_begin, and outside of Lua code. The ANSWER is a
     * new reference: {"ok": true, "values": [...]} or {"ok": false, "error": "..."}; NULL if the task was
     * ended with its generation. From then on nothing uses the eval. */
    void (*done)(struct ld_eval *eval, json_t *answer);

    /* The rest is set here. */
    struct ld_task *task; /* that runs for it */
    struct ld_text why;   /* the chunk does not compile */
    bool is_incomplete;   /* as it ends too early */
};

/* Compile the chunk, an expression or a statement, and run it in SCRIPT until it first suspends. Not from
 * inside a call. */
void ld_eval_begin(struct ld_eval *eval, struct ld_script *script);

/* Cancel what runs for an eval that has begun; it ends now, or when it next suspends. Not from inside a
 * call. */
void ld_eval_cancel(struct ld_eval *eval);

/* Add where an eval that has begun is suspended: "in sleep at eval:1". */
void ld_eval_add_place(const struct ld_eval *eval, struct ld_text *text);

#endif

/* The half of a Lua object that is outside Lua: memory of its own, which libuv knows until it is
 * closed, and which points to its script as long as the other half exists. Either may end first:
 * the Lua half by __gc, this one when its child, timer or socket has ended. When the script is closed,
 * all that are left are dropped, which needs no turn of the loop. */
#ifndef LD_SCRIPT_HANDLE_H
#define LD_SCRIPT_HANDLE_H

#include <sys/queue.h>

#include "script/state.h"

struct ld_handle {
    struct ld_script *script; /* NULL: the Lua half is gone */
    LIST_ENTRY(ld_handle) link;
    /* Called when the script is closed; the handle is detached already. */
    void (*drop)(struct ld_handle *handle);
};

/* Make HANDLE one of the script's, which keeps it alive. */
void ld_handle_attach(struct ld_handle *handle, struct ld_script *script,
                      void (*drop)(struct ld_handle *));

/* Take it out of its script; twice does nothing. */
void ld_handle_detach(struct ld_handle *handle);

/* Drop every handle of a script. */
void ld_handle_drop_all(struct ld_script *script);

#endif

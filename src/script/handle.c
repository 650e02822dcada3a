#include "script/handle.h"

/* Make a handle one of the script's. */
void ld_handle_attach(struct ld_handle *handle, struct ld_script *script,
                      void (*drop)(struct ld_handle *)) {
    handle->script = script;
    handle->drop = drop;
    LIST_INSERT_HEAD(&script->handles, handle, link);
    script->keepers++;
}

/* Take a handle out of its script. */
void ld_handle_detach(struct ld_handle *handle) {
    struct ld_script *script = handle->script;
    if (script == NULL) {
        return;
    }
    LIST_REMOVE(handle, link);
    handle->script = NULL;
    script->keepers--;
}

/* Drop every handle of a script. */
void ld_handle_drop_all(struct ld_script *script) {
    struct ld_handle *handle;
    while ((handle = LIST_FIRST(&script->handles)) != NULL) {
        ld_handle_detach(handle);
        handle->drop(handle);
    }
}

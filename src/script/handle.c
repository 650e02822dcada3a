#include "script/handle.h"

/* Make a handle one of the script's. */
void ld_handle_attach(struct ld_handle *handle, struct ld_script *script,
                      void (*drop)(struct ld_handle *)) {
    handle->script = script;
    handle->drop = drop;
    handle->previous = NULL;
    handle->next = script->handles;
    if (handle->next != NULL) {
        handle->next->previous = handle;
    }
    script->handles = handle;
    script->keepers++;
}

/* Take a handle out of its script. */
void ld_handle_detach(struct ld_handle *handle) {
    struct ld_script *script = handle->script;
    if (script == NULL) {
        return;
    }
    if (handle->previous != NULL) {
        handle->previous->next = handle->next;
    } else {
        script->handles = handle->next;
    }
    if (handle->next != NULL) {
        handle->next->previous = handle->previous;
    }
    handle->script = NULL;
    script->keepers--;
}

/* Drop every handle of a script. */
void ld_handle_drop_all(struct ld_script *script) {
    struct ld_handle *handle;
    while ((handle = script->handles) != NULL) {
        ld_handle_detach(handle);
        handle->drop(handle);
    }
}

/* The Lua heap of a generation: Lua's allocator, which counts, and the limit of --memory-limit. */
#ifndef LD_SCRIPT_HEAP_H
#define LD_SCRIPT_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "script/arena.h"

struct ld_script;

/* Who allocates. The limit is for all of it together; code of the script leaves a little to the others,
 * so that they still work when the script has used up what it may have. */
enum ld_heap_user {
    LD_HEAP_SCRIPT, /* code of the script, and what it calls */
    LD_HEAP_HOST, /* lunad itself, when it begins a callback; supervisors; the on_error function */
    LD_HEAP_LAST, /* reports of errors; on_reload and on_stop functions; a generation that ends */
    LD_HEAP_EXEMPT, /* the traceback of an error, a string where none could be caught: beyond the limit */
    LD_HEAP_USERS,
};

struct ld_heap {
    struct ld_arena arena;
    size_t size; /* bytes that Lua has */
    size_t
        most[LD_HEAP_USERS]; /* what it may have after an allocation of each; SIZE_MAX: no limit */
    enum ld_heap_user allocates; /* at least, whatever task runs */
    bool has_refused;            /* an allocation, since this was last read */
};

/* Set the limit of SCRIPT, in bytes; 0: none. Before its state is made. */
void ld_heap_init(struct ld_script *script, uint64_t limit);

/* Lua's allocator. SCRIPT is a struct ld_script. */
void *ld_heap_allocate(void *script, void *block, size_t old_size, size_t new_size);

/* The limit in bytes; 0: none. */
size_t ld_heap_limit(const struct ld_script *script);

/* Allocate for USER, if that may have more than the current one; returns what was set before, which is to
 * be restored by ld_heap_restore. */
enum ld_heap_user ld_heap_lend(struct ld_script *script, enum ld_heap_user user);
void ld_heap_restore(struct ld_script *script, enum ld_heap_user before);

/* Add that the limit was reached, in brackets, if MESSAGE says that memory ran out, and an allocation has
 * been refused since this was last called. */
void ld_heap_explain(struct ld_script *script, struct ld_text *text, const char *message);

/* Add a number of bytes as a person would say it: "64 MB". */
void ld_heap_say(struct ld_text *text, uint64_t bytes);

#endif

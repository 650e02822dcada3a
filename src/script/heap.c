#include "script/heap.h"

#include <stdlib.h>
#include <string.h>

#include "script/state.h"

#define KEPT_PART 8                    /* of the limit, this part is kept back */
#define KEPT_MOST ((size_t)128 * 1024) /* but no more than this */
#define EXEMPT    ((size_t)64 * 1024)  /* beyond the limit */

/* Set the limit. */
void ld_heap_init(struct ld_script *script, uint64_t limit) {
    size_t *most = script->heap.most;
    ld_arena_init(&script->heap.arena);
    bool is_limited = limit > 0 && limit < SIZE_MAX / 2;
    size_t kept = limit / KEPT_PART < KEPT_MOST ? (size_t)limit / KEPT_PART : KEPT_MOST;
    most[LD_HEAP_SCRIPT] = is_limited ? (size_t)limit - kept : SIZE_MAX;
    most[LD_HEAP_HOST] = is_limited ? (size_t)limit - kept / 2 : SIZE_MAX;
    most[LD_HEAP_LAST] = is_limited ? (size_t)limit : SIZE_MAX;
    most[LD_HEAP_EXEMPT] = is_limited ? (size_t)limit + EXEMPT : SIZE_MAX;
}

/* The limit. */
size_t ld_heap_limit(const struct ld_script *script) {
    size_t limit = script->heap.most[LD_HEAP_LAST];
    return limit == SIZE_MAX ? 0 : limit;
}

/* Who allocates now. */
static enum ld_heap_user find_user(const struct ld_script *script) {
    const struct ld_task *task = script->tasks.current;
    enum ld_heap_user user = task != NULL ? task->heap_user : LD_HEAP_HOST;
    if (ld_stage_is_ending(script->stage) && user < LD_HEAP_LAST) {
        user = LD_HEAP_LAST;
    }
    return user > script->heap.allocates ? user : script->heap.allocates;
}

/* Whether the heap may grow to SIZE. */
static bool is_allowed(struct ld_script *script, size_t size) {
    if (size <= script->heap.most[LD_HEAP_SCRIPT] || size <= script->heap.most[find_user(script)]) {
        return true;
    }
    script->heap.has_refused = true;
    return false;
}

/* Allocate for Lua: from the arena, or as the setup says. What is refused Lua asks for again, after a
 * full collection. It never asks for more than half of the address space, so nothing overflows. */
void *ld_heap_allocate(void *arg, void *block, size_t old_size, size_t new_size) {
    struct ld_script *script = arg;
    size_t before = block != NULL ? old_size : 0;
    void *result = NULL;
    if (new_size > before && !is_allowed(script, script->heap.size + (new_size - before))) {
        return NULL;
    }
    if (script->setup->alloc != NULL) {
        result = script->setup->alloc(script->setup->alloc_arg, block, old_size, new_size);
    } else {
        result = ld_arena_allocate(&script->heap.arena, block, before, new_size);
    }
    if (result != NULL || new_size == 0) {
        script->heap.size += new_size - before;
    }
    return result;
}

/* Allocate for another user. */
enum ld_heap_user ld_heap_lend(struct ld_script *script, enum ld_heap_user user) {
    enum ld_heap_user before = script->heap.allocates;
    script->heap.allocates = user > before ? user : before;
    return before;
}

/* Allocate for the one before. */
void ld_heap_restore(struct ld_script *script, enum ld_heap_user before) {
    script->heap.allocates = before;
}

/* Say that it was the limit. */
void ld_heap_explain(struct ld_script *script, struct ld_text *text, const char *message) {
    bool has_refused = script->heap.has_refused;
    if (message == NULL || strcmp(message, "not enough memory") != 0) {
        return;
    }
    script->heap.has_refused = false;
    if (has_refused) {
        ld_text_puts(text, " (the Lua heap has reached its --memory-limit of ");
        ld_heap_say(text, ld_heap_limit(script));
        ld_text_puts(text, ")");
    }
}

/* Say a number of bytes. */
void ld_heap_say(struct ld_text *text, uint64_t bytes) {
    static const char *const units[] = {"bytes", "KB", "MB", "GB"};
    double number = (double)bytes;
    size_t unit = 0;
    while (number >= 1024 && unit + 1 < LD_COUNT(units)) {
        number /= 1024;
        unit++;
    }
    ld_text_format(text, "%.*f %s", number < 10 && number != (double)(long)number ? 1 : 0, number,
                   units[unit]);
}

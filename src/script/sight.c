#include "script/sight.h"

#include <stdlib.h>
#include <string.h>

#include "script/luax.h"
#include "script/trace.h"

#define CALLS_MAX 22 /* of one coroutine */

/* Copy a string, or its end if it is too long: that of a path says more. */
static void copy(char *to, size_t size, const char *from) {
    size_t length = strlen(from);
    const char *at = length < size ? from : from + length - (size - 1);
    memcpy(to, at, strlen(at) + 1);
}

/* Copy a call. */
static void add_call(void *arg, const struct ld_trace_call *call) {
    struct ld_sight *sight = arg;
    if (sight->count == LD_SIGHT_MAX) {
        return;
    }
    struct ld_sight_call *to = &sight->calls[sight->count++];
    copy(to->path, sizeof to->path, call->path);
    copy(to->name, sizeof to->name, call->name != NULL ? call->name : "");
    copy(to->kind, sizeof to->kind, call->kind);
    to->coroutine = call->coroutine;
    to->skipped = call->skipped;
    to->line = call->line;
    to->begins = call->begins;
    to->is_main = call->is_main;
}

/* Copy where a script is, without our own first functions. */
void ld_sight_take(struct ld_sight *sight, const struct ld_script *script, bool is_c) {
    const struct ld_task *task = script != NULL ? script->tasks.current : NULL;
    sight->what = task != NULL ? task->what : NULL;
    sight->is_c = is_c;
    sight->count = 0;
    if (script != NULL) {
        ld_trace_walk(script, CALLS_MAX, add_call, sight);
    }
    while (sight->count > 1 && sight->calls[sight->count - 1].line == 0 &&
           sight->calls[sight->count - 1].name[0] == '\0') {
        sight->count--;
    }
}

/* Find the innermost call in the script's own Lua. */
const struct ld_sight_call *ld_sight_place(const struct ld_sight *sight) {
    for (size_t i = 0; i < sight->count; i++) {
        const struct ld_sight_call *call = &sight->calls[i];
        if (call->line > 0 && strncmp(call->path, LX_OWN_CHUNK, strlen(LX_OWN_CHUNK)) != 0) {
            return call;
        }
    }
    return NULL;
}

/* Add a call. */
static void add_line(struct ld_text *text, const struct ld_sight_call *call) {
    if (call->skipped != 0) {
        ld_text_format(text, "\n\t... (skipping %s%d levels)",
                       call->skipped < 0 ? "more than " : "", abs(call->skipped));
    }
    if (call->line > 0) {
        ld_text_format(text, "\n\t%s:%d: in ", call->path, call->line);
    } else {
        ld_text_puts(text, "\n\t[C]: in ");
    }
    if (call->name[0] != '\0') {
        bool is_function = call->kind[0] == '\0' || strcmp(call->kind, "global") == 0;
        ld_text_format(text, "%s '%s'", is_function ? "function" : call->kind, call->name);
    } else if (call->is_main) {
        ld_text_puts(text, "main chunk");
    } else if (call->line == 0) {
        ld_text_putc(text, '?');
    } else {
        ld_text_format(text, "function <%s:%d>", call->path, call->begins);
    }
}

/* Add all calls. */
void ld_sight_add(struct ld_text *text, const struct ld_sight *sight) {
    int coroutine = 0;
    ld_text_puts(text, "\nstack traceback:");
    for (size_t i = 0; i < sight->count; i++) {
        const struct ld_sight_call *call = &sight->calls[i];
        if (call->coroutine != coroutine) {
            ld_text_puts(text, "\n\t(a coroutine that was resumed by)");
            coroutine = call->coroutine;
        }
        add_line(text, call);
    }
}

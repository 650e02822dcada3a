/* Children that live through a reload. A new generation claims the running child that it would start;
 * when it becomes the service, it receives the child's output, beginning with the unfinished line that
 * the old generation has read. */
#include "api/child_keep.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "api/child_box.h"
#include "api/child_events.h"
#include "api/core.h"
#include "script/luax.h"

/* An unfinished line that is being moved. */
struct partial {
    const struct ld_child_half *half;
    int stream;
    struct ld_text text;
};

/* Whether an earlier program in this process has started the child, and no script owns it. */
static bool is_relic(const struct ld_child *child) {
    struct ld_child_facts facts;
    ld_child_describe(child, &facts);
    return facts.is_relic;
}

/* Whether a running child is what a request asks for. One that was started without a socket for READY=1
 * cannot get it. */
static bool is_as_asked(const struct ld_child *child, const struct ld_spawn_request *request) {
    struct ld_child_facts facts;
    ld_child_describe(child, &facts);
    return strcmp(ld_child_identity(child), request->config.identity) == 0 &&
           (request->config.ready_kind != LD_READY_BY_NOTIFY || facts.has_ready_socket);
}

/* Whether a child is held for a generation that asks for it. */
static bool is_parked(const struct ld_child *child) {
    struct ld_child_facts facts;
    ld_child_describe(child, &facts);
    return facts.parked;
}

/* Find the child to claim. */
struct ld_child *ld_api_child_keep_find(lua_State *L, const struct ld_spawn_request *request) {
    const struct ld_script *script = ld_state_script(L);
    struct ld_children *children = script->setup->children;
    struct ld_child *found = NULL;
    struct ld_child *child = NULL;
    while ((child = ld_children_next_kept(children, request->name, child)) != NULL) {
        const struct ld_child_half *owner = ld_child_owner(child);
        const struct ld_child_half *claimant = ld_child_claimant(child);
        bool is_ours = (owner != NULL && owner->handle.script == script) ||
                       (claimant != NULL && claimant->handle.script == script);
        if (is_ours) {
            lx_error(L, "option 'keep': the name '%s' is in use by another child", request->name);
        }
        bool is_free = owner == NULL ? is_parked(child) || is_relic(child)
                                     : owner->handle.script->stage == LD_STAGE_SERVICE;
        bool is_wanted = is_free && claimant == NULL && is_as_asked(child, request);
        if (found == NULL && is_wanted) {
            found = child;
        }
    }
    return ld_stage_is_new(script->stage) ? found : NULL;
}

/* Take the unfinished line from a by_line callback. Runs protected. */
static int take_partial(lua_State *L) {
    struct partial *partial = lua_touserdata(L, 1);
    size_t size;
    ld_api_core_push(L);
    if (lua_getfield(L, -1, "take_partial") == LUA_TNIL) {
        return 0; /* the script does not use by_line */
    }
    ld_api_child_box_push(L, partial->half);
    lua_getiuservalue(L, -1, partial->stream == 1 ? LD_CHILD_ON_STDOUT : LD_CHILD_ON_STDERR);
    lua_replace(L, -2);
    lua_call(L, 1, 1);
    const char *bytes = lua_tolstring(L, -1, &size);
    ld_text_add(&partial->text, bytes, size);
    return 0;
}

/* Take the unfinished line of a stream from the old owner; NULL: an earlier program, whose lines were handed on
 * with the child. */
static void take_line(struct ld_child *child, struct partial *partial) {
    if (partial->half == NULL || partial->half->to_log[partial->stream - 1]) {
        ld_child_take_line(child, partial->stream, &partial->text);
    } else {
        ld_state_protect(partial->half->handle.script, take_partial, partial, NULL);
    }
}

/* Close the box of the old owner. */
static void close_half(struct ld_child_half *half) {
    ld_task_strand(&half->waiters); /* they are cancelled with their script */
    ld_task_strand(&half->flushers);
    for (int i = 0; i < 2; i++) {
        if (half->calling[i] != NULL) {
            half->calling[i]->on_end = NULL;
        }
    }
    half->box->half = NULL;
    half->handle.script->commands -= half->command;
    ld_api_child_box_unpin(half->handle.script->L, half);
    ld_handle_detach(&half->handle);
    free(half);
}

/* Give a claim up. */
bool ld_api_child_keep_drop_claim(struct ld_child_half *half) {
    bool claims = half->claims;
    if (claims) {
        ld_child_claim(half->child, NULL);
        close_half(half);
    }
    return claims;
}

/* Make the claimant of CHILD its owner. */
static void change_hands(struct ld_child *child, struct ld_child_half *claimant) {
    struct ld_child_half *old = ld_child_owner(child);
    struct partial partials[2] = {{.half = old, .stream = 1}, {.half = old, .stream = 2}};
    for (int i = 0; i < 2; i++) {
        take_line(child, &partials[i]);
    }
    if (old != NULL) {
        close_half(old);
    }
    claimant->claims = false;
    ld_child_hand_over(child, claimant->to_log, claimant->ready_kind);
    if (claimant->ready != LD_READY_UNKNOWN) {
        ld_child_note_ready(child, claimant->ready == LD_READY_NOW);
    }
    if (claimant->box->stdin_closed) {
        ld_child_close_stdin(child);
    }
    for (int i = 0; i < 2; i++) {
        if (partials[i].text.size > 0) {
            ld_child_put_output(child, i + 1, partials[i].text.data, partials[i].text.size);
        }
        ld_text_fini(&partials[i].text);
    }
    struct ld_child_facts facts;
    ld_child_describe(child, &facts);
    if (facts.ready == LD_READY_NOW) { /* perhaps only since the claim */
        ld_api_child_events.on_ready(claimant);
    }
    ld_child_settle(child);
}

/* Hold a child that its owner keeps. */
void ld_api_child_keep_park(struct ld_child_half *half) {
    struct ld_child *child = half->child;
    struct partial partials[2] = {{.half = half, .stream = 1}, {.half = half, .stream = 2}};
    struct ld_text texts[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        if (!half->to_log[i]) {
            take_line(child, &partials[i]);
            texts[i] = partials[i].text;
        }
    }
    close_half(half);
    ld_child_park(child, texts);
}

/* Move what a script's own by_line has of an unfinished line. */
void ld_api_child_keep_take_line(struct ld_child *child, int stream, struct ld_text *text) {
    struct ld_child_half *half = ld_child_owner(child);
    struct partial partial = {.half = half, .stream = stream};
    if (half != NULL && !half->to_log[stream - 1]) {
        ld_state_protect(half->handle.script, take_partial, &partial, NULL);
        ld_text_append(text, &partial.text);
        ld_text_fini(&partial.text);
    }
}

/* Forget a running child, unless it is another script's, or a command. One that has ended may still be read. */
static void let_go(const struct ld_script *script, struct ld_child *child) {
    struct ld_child_half *half = ld_child_owner(child);
    struct ld_child_facts facts;
    ld_child_describe(child, &facts);
    bool is_left = half != NULL && (half->handle.script != script || half->command);
    if (!facts.running || is_left) {
        return;
    }
    if (half != NULL) {
        close_half(half);
    }
    ld_child_abandon(child);
}

/* Forget the children of a script but its commands. */
void ld_api_child_keep_let_go(struct ld_script *script) {
    struct ld_child *child = NULL;
    struct ld_child *next = ld_children_next(script->setup->children, NULL);
    while ((child = next) != NULL) {
        next = ld_children_next(script->setup->children, child);
        let_go(script, child);
    }
}

/* Make the script the owner of what it claims. */
void ld_api_child_keep_take_over(struct ld_script *script) {
    struct ld_child *child = NULL;
    struct ld_child *next = ld_children_next(script->setup->children, NULL);
    while ((child = next) != NULL) {
        struct ld_child_half *claimant = ld_child_claimant(child);
        next = ld_children_next(script->setup->children, child);
        if (claimant != NULL && claimant->handle.script == script) {
            change_hands(child, claimant);
        }
    }
}

/* Connections that are handed on to the next generation: stream:hand_on and net.taken of lunad.net. What a
 * stream is, lua/lunad/parcel.lua knows. It calls these functions, and at the steps of a reload its own are
 * called: freeze_parcels, thaw_parcels, offer_last, release_parcel, receive_parcel, adopt_parcel. */
#include "api/parcel.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

#include "api/core.h"
#include "api/module.h"
#include "engine/parcels.h"
#include "posix/reserve.h"
#include "script/luax.h"
#include "script/task.h"

static const char loaded_key; /* in the registry: whether parcel.lua is loaded */

#define KEY_MAX 1000 /* bytes, as in parcel.lua */

/* The key of a parcel that may go meanwhile. */
struct key {
    size_t size;
    char bytes[KEY_MAX];
};

/* A call of a function of parcel.lua, a field of core. */
struct call {
    const char *function;
    const struct key *key; /* its argument, or NULL */
};

/* Push what is called, and its argument. */
static int push_call(lua_State *co, void *arg) {
    const struct call *call = arg;
    ld_api_core_push(co);
    lua_getfield(co, -1, call->function);
    lua_remove(co, -2);
    if (call->key != NULL) {
        lua_pushlstring(co, call->key->bytes, call->key->size);
        return 1;
    }
    return 0;
}

/* Call a function of parcel.lua, if that is loaded; it may not suspend. */
static void call_lua(struct ld_script *script, const char *function, const struct key *key) {
    struct call call = {.function = function, .key = key};
    if (lua_rawgetp(script->L, LUA_REGISTRYINDEX, &loaded_key) != LUA_TNIL) {
        struct ld_task *task = ld_task_take_or_report(script, "the hand-over of a connection");
        if (task != NULL) {
            task->heap_user = LD_HEAP_LAST;
            ld_task_start_with(task, push_call, &call);
        }
    }
    lua_pop(script->L, 1);
}

/* The set of the host. */
static struct ld_parcels *parcels_of(lua_State *L) {
    return ld_state_script(L)->setup->parcels;
}

/* Let the host call parcel.lua: use_parcels() */
static int l_use_parcels(lua_State *L) {
    lua_pushboolean(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &loaded_key);
    return 0;
}

/* Offer a connection at the next reload: offer(key, peer, is_unix) -> true, whether that has begun |
 * nil, error, code */
static int l_offer(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    size_t size;
    const char *key = luaL_checklstring(L, 1, &size);
    const char *peer = luaL_checkstring(L, 2);
    struct ld_parcel *parcel;
    luaL_argcheck(L, size <= KEY_MAX, 1, "the key is too long");
    ld_state_check_current(L, "hand_on");
    int rc = ld_parcels_offer(parcels_of(L), script, key, size, &parcel);
    if (rc < 0) {
        return lx_fail(L, rc, rc == -EEXIST ? "another connection is handed on as '%s'" : "%s",
                       key);
    }
    ld_text_puts(&parcel->peer, peer);
    parcel->is_unix = lua_toboolean(L, 3);
    lua_pushboolean(L, 1);
    lua_pushboolean(L, script->is_being_replaced);
    return 2;
}

/* Take an offer back: take_back(key) */
static int l_take_back(lua_State *L) {
    size_t size;
    const char *key = luaL_checklstring(L, 1, &size);
    struct ld_parcels *parcels =
        parcels_of(L); /* NULL: the process ends, and a stream is collected */
    struct ld_parcel *parcel =
        parcels != NULL ? ld_parcels_find_offer(parcels, ld_state_script(L), key, size) : NULL;
    if (parcel != NULL) {
        ld_parcels_take(parcels, parcel, -1);
    }
    return 0;
}

/* Set a text to a string argument; false when memory ran out. */
static bool keep_bytes(lua_State *L, int arg, struct ld_text *text) {
    size_t size;
    const char *bytes = luaL_checklstring(L, arg, &size);
    ld_text_clear(text);
    ld_text_add(text, bytes, size);
    return !text->failed;
}

/* Duplicate a descriptor, by one of the reserve if there is no other; or a negative errno. */
static int duplicate(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int rc = copy < 0 ? -errno : copy;
    if (rc == -EMFILE) {
        ld_reserve_lend();
        copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        rc = copy < 0 ? -errno : copy;
        ld_reserve_take_back();
    }
    return rc;
}

/* Give an offered connection to the host, at the commit: hand_over(key, fd, received, unsent) -> true |
 * nil, error, code. The caller still owns its descriptor. */
static int l_hand_over(lua_State *L) {
    size_t size;
    const char *key = luaL_checklstring(L, 1, &size);
    int fd = (int)luaL_checkinteger(L, 2);
    struct ld_parcel *parcel = ld_parcels_find_offer(parcels_of(L), ld_state_script(L), key, size);
    if (parcel == NULL) {
        return lx_fail(L, -ENOENT, "%s", key);
    }
    if (!keep_bytes(L, 3, &parcel->received) || !keep_bytes(L, 4, &parcel->unsent)) {
        return lx_fail(L, -ENOMEM, "%s", key);
    }
    int copy = duplicate(fd);
    if (copy < 0) {
        return lx_fail(L, copy, "%s", key);
    }
    ld_parcels_take(parcels_of(L), parcel, copy);
    lua_pushboolean(L, 1);
    return 1;
}

/* Push a text. */
static void push_text(lua_State *L, const struct ld_text *text) {
    lua_pushlstring(L, ld_text_string(text), text->size);
}

/* Take a connection that was handed on: taken(key) -> a descriptor that the caller owns, peer, is_unix,
 * received, unsent. If the reload is not over: false, peer, is_unix; then core.receive_parcel(key) is called
 * at its end. Nothing if there is none. */
static int l_taken(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    bool is_new = ld_stage_is_new(script->stage);
    size_t size;
    const char *key = luaL_checklstring(L, 1, &size);
    ld_state_check_current(L, "taken");
    struct ld_parcel *parcel = ld_parcels_find(parcels_of(L), script, is_new, key, size);
    if (parcel == NULL) {
        return 0;
    }
    lua_settop(L, 1);
    lua_pushboolean(L, 0);
    push_text(L, &parcel->peer);
    lua_pushboolean(L, parcel->is_unix);
    if (is_new) {
        parcel->claimant = script;
        return 3;
    }
    push_text(L, &parcel->received);
    push_text(L, &parcel->unsent);
    int fd = parcel->fd; /* nothing may raise from here on */
    ld_parcels_forget(parcels_of(L), parcel);
    if (fd < 0) {
        return 0;
    }
    lua_pushinteger(L, fd);
    lua_replace(L, 2);
    return 5;
}

/* Stop reading connections that are handed on. */
void ld_api_parcel_begin(struct ld_script *script) {
    script->is_being_replaced = true;
    call_lua(script, "freeze_parcels", NULL);
}

/* Read them again. */
void ld_api_parcel_give_back(struct ld_script *script) {
    if (script != NULL && script->is_being_replaced) {
        script->is_being_replaced = false;
        ld_parcels_forget_owner(script->setup->parcels, script);
        call_lua(script, "thaw_parcels", NULL);
    }
}

/* Offer what is offered at the last moment. */
void ld_api_parcel_offer_last(struct ld_script *old) {
    call_lua(old, "offer_last", NULL);
}

/* Copy the key of a parcel. */
static struct key key_of(const struct ld_parcel *parcel) {
    struct key key = {.size = parcel->key.size};
    memcpy(key.bytes, ld_text_string(&parcel->key), key.size);
    return key;
}

/* Give a connection to the generation that has claimed it, or ask whether that wants it unclaimed. */
static void deliver(struct ld_script *script, const struct key *key) {
    struct ld_parcels *parcels = script->setup->parcels;
    struct ld_parcel *parcel = ld_parcels_find(parcels, script, false, key->bytes, key->size);
    if (parcel == NULL || parcel->claimant != script) {
        if (parcel != NULL) {
            call_lua(script, "adopt_parcel", key);
        }
        return;
    }
    call_lua(script, "receive_parcel", key);
    parcel = ld_parcels_find(parcels, script, false, key->bytes, key->size);
    if (parcel != NULL && parcel->claimant == script) { /* it had no memory for it */
        if (parcel->fd >= 0) {
            close(parcel->fd);
        }
        ld_parcels_forget(parcels, parcel);
    }
}

/* Hand over one connection. If that fails, the old generation serves it on. */
static void hand_over(struct ld_script *old, struct ld_script *next, const struct key *key) {
    struct ld_parcels *parcels = old->setup->parcels;
    call_lua(old, "release_parcel", key);
    struct ld_parcel *left = ld_parcels_find_offer(parcels, old, key->bytes, key->size);
    if (left != NULL) {
        ld_parcels_take(parcels, left, -1);
    }
    deliver(next, key);
}

/* Give a generation what it has claimed of what the host has. */
void ld_api_parcel_deliver(struct ld_script *script) {
    struct ld_parcels *parcels = script->setup->parcels;
    const struct ld_parcel *parcel;
    while ((parcel = ld_parcels_first_claim(parcels, script)) != NULL) {
        struct key key = key_of(parcel);
        deliver(script, &key);
    }
}

/* Hand over all connections, one after the other, so that not all of their bytes are in memory twice, and one
 * more descriptor suffices. */
void ld_api_parcel_commit(struct ld_script *old, struct ld_script *next) {
    struct ld_parcels *parcels = old->setup->parcels;
    const struct ld_parcel *parcel;
    old->is_being_replaced = false;
    ld_reserve_lend_last();
    while ((parcel = ld_parcels_first_offer(parcels, old)) != NULL) {
        struct key key = key_of(parcel);
        hand_over(old, next, &key);
    }
    ld_reserve_take_back_last();
    ld_api_parcel_deliver(next);
}

/* Forget what a generation wanted that does not become the service. */
static void discard(struct ld_script *script) {
    ld_parcels_forget_owner(script->setup->parcels, script);
}

static const luaL_Reg own[] = {
    {"use_parcels", l_use_parcels}, {"offer", l_offer}, {"take_back", l_take_back},
    {"hand_over", l_hand_over},     {"taken", l_taken}, {NULL, NULL},
};

const struct ld_part ld_api_parcel_part = {
    .name = "parcel",
    .own = own,
    .discard = discard,
};

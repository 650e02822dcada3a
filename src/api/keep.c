/* lunad.keep: values by name that the next generation gets. */
#include "api/keep.h"

#include <lauxlib.h>

#include "api/module.h"
#include "script/luax.h"
#include "script/pack.h"
#include "script/transfer.h"

static const char kept_key;   /* of the table of what this generation keeps in the registry */
static const char before_key; /* of what the one before has kept, and this has not asked for yet */

/* Push the value of the name in argument 1 in a table of the registry; true if there is one. */
static bool push_from(lua_State *L, const void *key) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    lua_pushvalue(L, 1);
    bool any = lua_rawget(L, -2) != LUA_TNIL;
    lua_remove(L, -2);
    return any;
}

/* Forget that the generation before has kept the name in argument 1. */
static void forget_before(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &before_key);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* keep(name, default) -> value */
static int l_keep(lua_State *L) {
    luaL_checkstring(L, 1);
    lua_settop(L, 2);
    ld_state_check_current(L, "keep");
    if (push_from(L, &kept_key)) {
        return 1;
    }
    if (!push_from(L, &before_key)) {
        lua_pushvalue(L, 2);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &kept_key);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    forget_before(L);
    return 1;
}

/* Copy what a generation keeps. */
int ld_api_keep_copy(struct ld_script *from, lua_State *to, uint64_t deadline,
                     struct ld_text *why) {
    lua_rawgetp(from->L, LUA_REGISTRYINDEX, &kept_key);
    int rc = ld_transfer_value(from->L, to, deadline, "keep", why);
    lua_pop(from->L, 1);
    return rc;
}

/* Copy what a generation keeps into the next one. */
int ld_api_keep_hand_on(struct ld_script *from, struct ld_script *to, uint64_t deadline,
                        struct ld_text *why) {
    int rc = ld_api_keep_copy(from, to->L, deadline, why);
    if (rc == 0) {
        lua_rawsetp(to->L, LUA_REGISTRYINDEX, &before_key); /* the key is there */
    }
    return rc;
}

/* Give a generation what was copied. */
int ld_api_keep_set(struct ld_script *to, lua_State *from, uint64_t deadline, struct ld_text *why) {
    int rc = ld_transfer_value(from, to->L, deadline, "keep", why);
    if (rc == 0) {
        lua_rawsetp(to->L, LUA_REGISTRYINDEX, &before_key);
    }
    return rc;
}

/* Push what a generation keeps, or what it has not asked for. */
void ld_api_keep_push(const struct ld_script *script, bool is_asked) {
    lua_rawgetp(script->L, LUA_REGISTRYINDEX, is_asked ? &kept_key : &before_key);
}

/* Pack what a generation keeps. */
int ld_api_keep_pack(struct ld_script *from, struct ld_text *out, uint64_t deadline,
                     struct ld_text *why) {
    ld_api_keep_push(from, true);
    int rc = ld_pack_value(from->L, "keep", out, deadline, why);
    lua_pop(from->L, 1);
    return rc;
}

/* Add the pairs of the table in argument 1 to what the generation before has kept. Runs protected. */
static int add_before(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &before_key);
    lua_pushnil(L);
    while (lua_next(L, 1) != 0) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, 2);
    }
    return 0;
}

/* Give a generation what is packed. */
int ld_api_keep_unpack(struct ld_script *script, const struct ld_text *packed,
                       struct ld_text *why) {
    lua_State *L = script->L;
    int rc = ld_unpack_value(L, ld_text_string(packed), packed->size, why);
    if (rc == 0) {
        lua_pushcfunction(L, add_before);
        lua_insert(L, -2);
        rc = lua_pcall(L, 1, 0, 0) == LUA_OK ? 0 : -1;
        if (rc < 0) {
            ld_text_puts(why, lua_tostring(L, -1));
            lua_pop(L, 1);
        }
    }
    return rc;
}

static const luaL_Reg functions[] = {
    {"keep", l_keep},
    {NULL, NULL},
};

/* Open this part. */
static int set_up(lua_State *L) {
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_key);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &before_key);
    return 0;
}

const struct ld_part ld_api_keep_part = {
    .name = "keep",
    .functions = functions,
    .open = set_up,
};

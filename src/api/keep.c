/* lunad.keep: values by name that the next generation gets. */
#include "api/keep.h"

#include <lauxlib.h>

#include "api/module.h"
#include "script/luax.h"
#include "script/transfer.h"

static const char kept_key;   /* of the table of what this generation keeps in the registry */
static const char before_key; /* of what the one before has kept */

/* Push the value of the name in argument 1 in a table of the registry; true if there is one. */
static bool push_from(lua_State *L, const void *key) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    lua_pushvalue(L, 1);
    bool any = lua_rawget(L, -2) != LUA_TNIL;
    lua_remove(L, -2);
    return any;
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
    return 1;
}

/* Copy what a generation keeps into the next one. */
int ld_api_keep_hand_on(struct ld_script *from, struct ld_script *to, uint64_t deadline,
                        struct ld_text *why) {
    lua_rawgetp(from->L, LUA_REGISTRYINDEX, &kept_key);
    int rc = ld_transfer_value(from->L, to->L, deadline, "keep", why);
    lua_pop(from->L, 1);
    if (rc == 0) {
        lua_rawsetp(to->L, LUA_REGISTRYINDEX, &before_key); /* the key is there */
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

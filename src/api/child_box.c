#include "api/child_box.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/parse.h"
#include "script/luax.h"

static const char boxes_key; /* of the table from halves to boxes in the registry */

/* The box in the first argument. */
struct ld_child_box *ld_api_child_box_check(lua_State *L) {
    return luaL_checkudata(L, 1, LD_CHILD_TYPE);
}

/* Make the table of boxes. */
void ld_api_child_box_open(lua_State *L) {
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &boxes_key);
}

/* Pin a box. */
void ld_api_child_box_pin(lua_State *L, int box, struct ld_child_half *half) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    lua_pushlightuserdata(L, half);
    lua_pushvalue(L, box);
    half->box->half = half; /* from here on __gc frees it */
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* Push the box of a half. */
void ld_api_child_box_push(lua_State *L, const struct ld_child_half *half) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    lua_rawgetp(L, -1, half);
    lua_remove(L, -2);
}

/* Unpin the box of a half: the key is there, so nothing is allocated. */
void ld_api_child_box_unpin(lua_State *L, const struct ld_child_half *half) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    lua_pushnil(L);
    lua_rawsetp(L, -2, half);
    lua_pop(L, 1);
}

/* Push the table that says how a child ended. */
void ld_api_child_box_push_exit(lua_State *L, const struct ld_child_box *box) {
    lua_createtable(L, 0, 5);
    lua_pushboolean(L, !box->exit.signaled && box->exit.status == 0);
    lua_setfield(L, -2, "ok");
    if (box->exit.signaled) {
        lua_pushstring(L, ld_parse_signal_name(box->exit.status));
        lua_setfield(L, -2, "signal");
    } else {
        lua_pushinteger(L, box->exit.status);
        lua_setfield(L, -2, "code");
    }
    lua_pushboolean(L, box->exit.core);
    lua_setfield(L, -2, "core");
    lua_pushnumber(L, box->seconds);
    lua_setfield(L, -2, "seconds");
    lua_pushboolean(L, box->timed_out);
    lua_setfield(L, -2, "timed_out");
}

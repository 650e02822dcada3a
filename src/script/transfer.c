#include "script/transfer.h"

#include <errno.h>
#include <lauxlib.h>
#include <uv.h>

#include "script/data_path.h"

#define UNTIMED 1024 /* values between two readings of the clock */

/* A copy under way. In TO, stack index 1 is a table from the addresses of copied tables in FROM to
 * their copies. Reading FROM never allocates; everything that does happens protected in TO. */
struct copy {
    lua_State *from;
    lua_State *to;
    struct ld_text *why;
    uint64_t deadline;
    unsigned untimed; /* values since the last reading of the clock */
    bool late;
    const char *name; /* of the root */
    struct step {     /* how the current value was reached */
        const struct step *parent;
        int key; /* its stack index in FROM; 0: the root */
    } root;
};

static void copy_value(struct copy *copy, const struct step *step);

/* Add the path of a value: "state.list[2].x". */
static void add_path(const struct copy *copy, const struct step *step) {
    if (step->key == 0) {
        ld_text_puts(copy->why, copy->name);
        return;
    }
    add_path(copy, step->parent);
    ld_data_path_add(copy->why, copy->from, step->key);
}

/* Give up, naming the value. */
_Noreturn static void refuse(struct copy *copy, const struct step *step, const char *reason) {
    add_path(copy, step);
    ld_text_puts(copy->why, reason);
    lua_pushnil(copy->to);
    lua_error(copy->to);
    abort(); /* not reached */
}

/* Push the copy of a table that was met before; false if there is none. */
static bool push_known(struct copy *copy) {
    if (lua_rawgetp(copy->to, 1, lua_topointer(copy->from, -1)) != LUA_TNIL) {
        return true;
    }
    lua_pop(copy->to, 1);
    return false;
}

/* Count the steps between a value and the root. */
static int depth_of(const struct step *step) {
    int depth = 0;
    for (; step->key != 0; step = step->parent) {
        depth++;
    }
    return depth;
}

/* Push a copy of the table at the top of FROM. */
static void copy_table(struct copy *copy, const struct step *step) {
    lua_State *from = copy->from;
    lua_State *to = copy->to;
    if (push_known(copy)) {
        return;
    }
    if (depth_of(step) >= LD_TRANSFER_DEPTH_MAX) {
        refuse(copy, step, ": tables are nested deeper than 200");
    }
    luaL_checkstack(to, 4, "state");
    if (!lua_checkstack(from, 4)) {
        refuse(copy, step, ": not enough memory");
    }
    lua_newtable(to);
    lua_pushvalue(to, -1);
    lua_rawsetp(to, 1, lua_topointer(from, -1));
    int table = lua_gettop(from);
    lua_pushnil(from);
    while (lua_next(from, table) != 0) {
        const struct step inner = {.parent = step, .key = table + 1};
        lua_pushvalue(from, table + 1);
        copy_value(copy, &inner); /* the key */
        lua_pop(from, 1);
        copy_value(copy, &inner);
        lua_pop(from, 1);
        lua_rawset(to, -3);
    }
}

/* Give up when the time is over. */
static void check_time(struct copy *copy) {
    if (++copy->untimed < UNTIMED) {
        return;
    }
    copy->untimed = 0;
    if (uv_hrtime() >= copy->deadline) {
        copy->late = true;
        lua_pushnil(copy->to);
        lua_error(copy->to);
    }
}

/* Push a copy of the value at the top of FROM. */
static void copy_value(struct copy *copy, const struct step *step) {
    size_t size;
    const char *string;
    char reason[64];
    check_time(copy);
    switch (lua_type(copy->from, -1)) {
    case LUA_TNIL:
        lua_pushnil(copy->to);
        break;
    case LUA_TBOOLEAN:
        lua_pushboolean(copy->to, lua_toboolean(copy->from, -1));
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(copy->from, -1)) {
            lua_pushinteger(copy->to, lua_tointeger(copy->from, -1));
        } else {
            lua_pushnumber(copy->to, lua_tonumber(copy->from, -1));
        }
        break;
    case LUA_TSTRING:
        string = lua_tolstring(copy->from, -1, &size);
        copy->untimed += (unsigned)(size / UNTIMED); /* a long string takes time */
        lua_pushlstring(copy->to, string, size);
        break;
    case LUA_TTABLE:
        copy_table(copy, step);
        break;
    default:
        snprintf(reason, sizeof reason, " is a %s, and only plain data can be handed on",
                 luaL_typename(copy->from, -1));
        refuse(copy, step, reason);
    }
}

/* Copy; the light userdata argument is the copy. Runs protected in TO. */
static int run(lua_State *L) {
    struct copy *copy = lua_touserdata(L, 1);
    lua_newtable(L);
    lua_replace(L, 1);
    copy_value(copy, &copy->root);
    return 1;
}

/* Copy a value. */
int ld_transfer_value(lua_State *from, lua_State *to, uint64_t deadline, const char *root,
                      struct ld_text *why) {
    struct copy copy = {.from = from, .to = to, .deadline = deadline, .name = root, .why = why};
    int top = lua_gettop(from);
    lua_pushcfunction(to, run);
    lua_pushlightuserdata(to, &copy);
    int rc = lua_pcall(to, 1, 1, 0) == LUA_OK ? 0 : -1;
    lua_settop(from, top);
    if (copy.late) {
        lua_pop(to, 1);
        rc = -ETIME;
    } else if (rc < 0) {
        const char *message = lua_tostring(to, -1);
        if (ld_text_is_empty(why)) {
            ld_text_puts(why, message != NULL ? message : "the state cannot be copied");
        }
        lua_pop(to, 1);
    }
    return rc;
}

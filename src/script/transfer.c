#include "script/transfer.h"

#include <errno.h>
#include <lauxlib.h>
#include <uv.h>

#include "script/data_path.h"
#include "script/numbering.h"

#define UNTIMED    1024                              /* values between two readings of the clock */
#define RECENT     256                               /* strings */
#define STACK_MOST ((LD_TRANSFER_DEPTH_MAX + 1) * 3) /* values of tables that are in each other */
#define ROOM_MOST  (INT32_MAX / 64)                  /* of a new table */

enum { COPIES = 1, RECENT_COPIES }; /* stack indices in TO */

/* A copy under way. In TO, the list of the copies of tables by their numbers, and the copies of some strings that were
 * met lately are on the stack. Reading FROM never allocates; everything that does happens protected in TO. */
struct copy {
    lua_State *from;
    lua_State *to;
    struct ld_text *why;
    uint64_t deadline;
    unsigned untimed; /* values since the last reading of the clock */
    bool late;
    const char *name;        /* of the root */
    struct ld_numbering met; /* tables */
    const char *recent[RECENT];
    struct step {                  /* how the current value was reached */
        const struct step *parent; /* NULL: it is the root */
        int depth;
        int key;           /* its stack index in FROM, or 0 */
        lua_Integer index; /* else it is this */
    } root;
};

static void copy_value(struct copy *copy, const struct step *step, int type);

/* Add the path of a value: "state.list[2].x". */
static void add_path(const struct copy *copy, const struct step *step) {
    if (step->parent == NULL) {
        ld_text_puts(copy->why, copy->name);
        return;
    }
    add_path(copy, step->parent);
    if (step->key != 0) {
        ld_data_path_add(copy->why, copy->from, step->key);
    } else {
        ld_text_format(copy->why, "[%lld]", (long long)step->index);
    }
}

/* Give up, naming the value. */
_Noreturn static void refuse(struct copy *copy, const struct step *step, const char *reason) {
    add_path(copy, step);
    ld_text_puts(copy->why, reason);
    lua_pushnil(copy->to);
    lua_error(copy->to);
    abort(); /* not reached */
}

/* Give up when the time is over; SIZE is what was done meanwhile, in values. */
static void check_time(struct copy *copy, size_t size) {
    copy->untimed += (unsigned)(size < UNTIMED ? size : UNTIMED);
    if (copy->untimed < UNTIMED) {
        return;
    }
    copy->untimed = 0;
    if (uv_hrtime() >= copy->deadline) {
        copy->late = true;
        lua_pushnil(copy->to);
        lua_error(copy->to);
    }
}

/* Push a copy of the string at an index in FROM. To find one by what is in it takes long, and names of fields come
 * again and again. */
static void copy_string(struct copy *copy, int index) {
    size_t size;
    const char *string = lua_tolstring(copy->from, index, &size);
    size_t place = ((uintptr_t)string >> 4 ^ (uintptr_t)string >> 12) % RECENT;
    if (copy->recent[place] == string) {
        lua_pushvalue(copy->to, RECENT_COPIES + (int)place);
        return;
    }
    check_time(copy, size / UNTIMED); /* a long one takes time */
    lua_pushlstring(copy->to, string, size);
    lua_copy(copy->to, -1, RECENT_COPIES + (int)place);
    copy->recent[place] = string;
}

/* Count the pairs of the table at the top of FROM. */
static lua_Unsigned count_pairs(struct copy *copy) {
    lua_State *from = copy->from;
    lua_Unsigned count = 0;
    int table = lua_gettop(from);
    lua_pushnil(from);
    while (lua_next(from, table) != 0) {
        count++;
        lua_settop(from, table + 1);
        check_time(copy, 1);
    }
    return count;
}

/* Push a new table with room for a list and other pairs, and give it the number of the one that was met last. */
static void push_table(struct copy *copy, lua_Unsigned list, lua_Unsigned others) {
    lua_State *to = copy->to;
    lua_createtable(to, list < ROOM_MOST ? (int)list : ROOM_MOST,
                    others < ROOM_MOST ? (int)others : ROOM_MOST);
    lua_pushvalue(to, -1);
    lua_rawseti(to, COPIES, copy->met.count);
}

/* Copy the values of the keys 1 to LIST of the table at the top of FROM to the one at the top of TO; return how many
 * there were. */
static lua_Unsigned copy_list(struct copy *copy, const struct step *step, lua_Unsigned list) {
    lua_State *from = copy->from;
    lua_Unsigned count = 0;
    int table = lua_gettop(from);
    struct step inner = {.parent = step, .depth = step->depth + 1};
    for (inner.index = 1; inner.index <= (lua_Integer)list; inner.index++) {
        int type = lua_rawgeti(from, table, inner.index);
        if (type != LUA_TNIL) {
            copy_value(copy, &inner, type);
            lua_rawseti(copy->to, -2, inner.index);
            count++;
        }
        lua_settop(from, table);
    }
    return count;
}

/* Push a copy of the key that is below the top of FROM. */
static void copy_key(struct copy *copy, const struct step *inner) {
    int type = lua_type(copy->from, -2);
    if (type == LUA_TSTRING) {
        copy_string(copy, -2);
        return;
    }
    lua_pushvalue(copy->from, -2);
    copy_value(copy, inner, type);
    lua_pop(copy->from, 1);
}

/* Whether a key is from 1 to LIST. */
static bool is_in_list(lua_State *L, int index, lua_Unsigned list) {
    return list > 0 && lua_isinteger(L, index) && (lua_Unsigned)lua_tointeger(L, index) - 1 < list;
}

/* Copy the pairs of the table at the top of FROM to the one at the top of TO, but for the keys 1 to LIST. */
static void copy_pairs(struct copy *copy, const struct step *step, lua_Unsigned list) {
    lua_State *from = copy->from;
    int table = lua_gettop(from);
    const struct step inner = {.parent = step, .depth = step->depth + 1, .key = table + 1};
    lua_pushnil(from);
    while (lua_next(from, table) != 0) {
        if (!is_in_list(from, -2, list)) {
            copy_key(copy, &inner);
            copy_value(copy, &inner, lua_type(from, -1));
            lua_rawset(copy->to, -3);
        }
        lua_settop(from, table + 1);
    }
}

/* Copy what is in the table at the top of FROM, and push the copy. Many tables are lists, and most of the others
 * small: a list is read by its numbers, and room for all is made at once. */
static void copy_content(struct copy *copy, const struct step *step) {
    lua_Unsigned list = lua_rawlen(copy->from, -1); /* if it is one */
    lua_Unsigned count = count_pairs(copy);
    if (list > count) {
        list = 0;
    }
    push_table(copy, list, count - list);
    if (copy_list(copy, step, list) < count) {
        copy_pairs(copy, step, list);
    }
}

/* Push a copy of the table at the top of FROM. */
static void copy_table(struct copy *copy, const struct step *step) {
    lua_State *from = copy->from;
    int64_t number = ld_numbering_meet(&copy->met, lua_topointer(from, -1));
    if (number > 0) {
        lua_rawgeti(copy->to, COPIES, number);
        return;
    }
    if (step->depth >= LD_TRANSFER_DEPTH_MAX) {
        refuse(copy, step, ": tables are nested deeper than 200");
    }
    if (number < 0) {
        refuse(copy, step, ": not enough memory");
    }
    copy_content(copy, step);
}

/* Push a copy of the value at the top of FROM, which has this type. */
static void copy_value(struct copy *copy, const struct step *step, int type) {
    char reason[64];
    check_time(copy, 1);
    switch (type) {
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
        copy_string(copy, -1);
        break;
    case LUA_TTABLE:
        copy_table(copy, step);
        break;
    default:
        snprintf(reason, sizeof reason, " is a %s, and only plain data can be handed on",
                 lua_typename(copy->from, type));
        refuse(copy, step, reason);
    }
}

/* Copy; the light userdata argument is the copy. Runs protected in TO. */
static int run(lua_State *L) {
    struct copy *copy = lua_touserdata(L, 1);
    luaL_checkstack(L, RECENT + STACK_MOST, "state");
    lua_newtable(L);
    lua_replace(L, COPIES);
    lua_settop(L, RECENT_COPIES + RECENT - 1);
    copy_value(copy, &copy->root, lua_type(copy->from, -1));
    return 1;
}

/* Copy a value. */
int ld_transfer_value(lua_State *from, lua_State *to, uint64_t deadline, const char *root,
                      struct ld_text *why) {
    struct copy copy = {.from = from, .to = to, .deadline = deadline, .name = root, .why = why};
    int top = lua_gettop(from);
    if (!lua_checkstack(from, STACK_MOST)) {
        ld_text_puts(why, "not enough memory");
        return -1;
    }
    bool collects = lua_gc(to, LUA_GCISRUNNING);
    lua_gc(to, LUA_GCSTOP); /* all that is made is in use: it would be looked at again and again */
    lua_pushcfunction(to, run);
    lua_pushlightuserdata(to, &copy);
    int rc = lua_pcall(to, 1, 1, 0) == LUA_OK ? 0 : -1;
    if (collects) {
        lua_gc(to, LUA_GCRESTART);
    }
    lua_settop(from, top);
    ld_numbering_fini(&copy.met);
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

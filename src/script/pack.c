/* The format: the mark, its number in a byte, and a value. A value is a byte that says its type, and
 *
 *     N  T  F          nil, true, false
 *     I number         an integer, zigzag
 *     D 8 bytes        a float, the lowest byte first
 *     S size bytes     a string; from MET_MIN bytes on it gets the next number, from 1
 *     { list others    a table, which gets the next number: so many values of the keys 1, 2, ..., and so many
 *                      pairs of a key and a value after them
 *     = number         what has got this number
 *
 * A number is in groups of 7 bits, the lowest first, each but the last with bit 7 set, without a last group of
 * zeros. */
#include "script/pack.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "script/data_path.h"
#include "script/numbering.h"

#define FORMAT      1
#define UNTIMED     1024 /* values between two readings of the clock */
#define MET_MIN     3    /* bytes of a string that is longer than its number */
#define NUMBER_SIZE 10   /* of a number at most */

static const char mark[] = {'L', 'D', 'P', FORMAT};

/* What is packed next of a table. */
enum part {
    PART_NEXT,  /* the pair after the key at the top */
    PART_VALUE, /* the value at the top, whose key is packed */
};

/* A table that is being packed. The key of the pair is above it on the stack, and the value above that. */
struct frame {
    int table; /* its stack index */
    enum part part;
    uint64_t list; /* values that follow without a key */
};

struct ld_packer {
    lua_State *L;
    const char *root;
    struct ld_text *out;
    struct ld_text *why;
    struct ld_numbering met; /* tables and strings */
    uint64_t deadline;
    unsigned untimed; /* values since the last reading of the clock */
    bool begun;
    int top;   /* the stack index of the value */
    int depth; /* of the frames in use */
    struct frame frames[LD_PACK_DEPTH_MAX];
};

/* Add a number. */
static void put_number(struct ld_text *out, uint64_t number) {
    char bytes[NUMBER_SIZE];
    size_t size = 0;
    for (; number >= 0x80; number >>= 7) {
        bytes[size++] = (char)(number | 0x80);
    }
    bytes[size++] = (char)number;
    ld_text_add(out, bytes, size);
}

/* Add a byte that says a type, and a number. */
static void put_typed(struct ld_text *out, char type, uint64_t number) {
    ld_text_putc(out, type);
    put_number(out, number);
}

/* Give up for a REASON about the value at the top. */
static int refuse(struct ld_packer *packer, const char *reason) {
    ld_text_puts(packer->why, packer->root);
    for (int i = 0; i < packer->depth; i++) {
        ld_data_path_add(packer->why, packer->L, packer->frames[i].table + 1);
    }
    ld_text_puts(packer->why, reason);
    return -1;
}

/* Note that COUNT values were looked at; -ETIME if the time is over. */
static int check_time(struct ld_packer *packer, size_t count) {
    packer->untimed += (unsigned)(count < UNTIMED ? count : UNTIMED);
    if (packer->untimed < UNTIMED) {
        return 0;
    }
    packer->untimed = 0;
    return uv_hrtime() >= packer->deadline ? -ETIME : 0;
}

/* Add the number of the table or string at ADDRESS if it was met before: 1; else 0, and it has the next one. */
static int put_met(struct ld_packer *packer, const void *address) {
    int64_t number = ld_numbering_meet(&packer->met, address);
    if (number > 0) {
        put_typed(packer->out, '=', (uint64_t)number);
    }
    return number < 0 ? refuse(packer, ": not enough memory") : number > 0;
}

/* Add the string at the top. */
static int put_string(struct ld_packer *packer) {
    size_t size;
    const char *string = lua_tolstring(packer->L, -1, &size);
    int met = size >= MET_MIN ? put_met(packer, string) : 0;
    if (met == 0) {
        put_typed(packer->out, 'S', size);
        ld_text_add(packer->out, string, size);
        met = check_time(packer, size / UNTIMED); /* a long one takes time */
    }
    return met < 0 ? met : 0;
}

/* Add a number of Lua. */
static void put_lua_number(struct ld_packer *packer) {
    lua_State *L = packer->L;
    if (lua_isinteger(L, -1)) {
        uint64_t bits = (uint64_t)lua_tointeger(L, -1);
        put_typed(packer->out, 'I', bits << 1 ^ (bits >> 63 != 0 ? UINT64_MAX : 0));
        return;
    }
    lua_Number number = lua_tonumber(L, -1);
    uint64_t bits;
    _Static_assert(sizeof number == sizeof bits, "a float of Lua has 8 bytes");
    memcpy(&bits, &number, sizeof bits);
    char bytes[9] = {'D'};
    for (size_t i = 0; i < sizeof bits; i++) {
        bytes[i + 1] = (char)(bits >> (8 * i));
    }
    ld_text_add(packer->out, bytes, sizeof bytes);
}

/* Count the pairs of the table at the top: those that begin with the keys 1, 2, ... in this order, and the
 * others. */
static int count_pairs(struct ld_packer *packer, uint64_t *list, uint64_t *others) {
    lua_State *L = packer->L;
    int table = lua_gettop(L);
    int rc = 0;
    *list = 0;
    *others = 0;
    lua_pushnil(L);
    while (rc == 0 && lua_next(L, table) != 0) {
        bool is_next =
            *others == 0 && lua_isinteger(L, -2) && (uint64_t)lua_tointeger(L, -2) == *list + 1;
        *list += is_next;
        *others += !is_next;
        lua_pop(L, 1);
        rc = check_time(packer, 1);
    }
    lua_settop(L, table);
    return rc;
}

/* Begin the table at the top: 1, and it stays there until it is packed; 0 if it was met before. */
static int begin_table(struct ld_packer *packer) {
    lua_State *L = packer->L;
    int rc = put_met(packer, lua_topointer(L, -1));
    if (rc != 0) {
        return rc < 0 ? rc : 0;
    }
    if (packer->depth >= LD_PACK_DEPTH_MAX) {
        return refuse(packer, ": tables are nested deeper than 200");
    }
    if (!lua_checkstack(L, 5)) {
        return refuse(packer, ": not enough memory");
    }
    struct frame *frame = &packer->frames[packer->depth];
    *frame = (struct frame){.table = lua_gettop(L), .part = PART_NEXT};
    uint64_t others;
    rc = count_pairs(packer, &frame->list, &others);
    if (rc < 0) {
        return rc;
    }
    put_typed(packer->out, '{', frame->list);
    put_number(packer->out, others);
    lua_pushnil(L);
    packer->depth++;
    return 1;
}

/* Add the value at the top, and pop it unless it is a table that begins with it. */
static int put_value(struct ld_packer *packer) {
    lua_State *L = packer->L;
    char reason[80];
    int rc = check_time(packer, 1);
    if (rc < 0) {
        return rc;
    }
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        ld_text_putc(packer->out, 'N');
        break;
    case LUA_TBOOLEAN:
        ld_text_putc(packer->out, lua_toboolean(L, -1) ? 'T' : 'F');
        break;
    case LUA_TNUMBER:
        put_lua_number(packer);
        break;
    case LUA_TSTRING:
        rc = put_string(packer);
        break;
    case LUA_TTABLE:
        rc = begin_table(packer);
        break;
    default:
        snprintf(reason, sizeof reason, " is a %s, and only plain data can be handed on",
                 luaL_typename(L, -1));
        return refuse(packer, reason);
    }
    if (rc == 0) {
        lua_pop(L, 1);
    }
    return rc < 0 ? rc : 0;
}

/* Continue with the table that was begun last. */
static int continue_table(struct ld_packer *packer) {
    lua_State *L = packer->L;
    struct frame *frame = &packer->frames[packer->depth - 1];
    if (frame->part == PART_VALUE) {
        frame->part = PART_NEXT;
        return put_value(packer);
    }
    if (lua_next(L, frame->table) == 0) {
        packer->depth--;
        lua_settop(L, frame->table - 1);
        return 0;
    }
    if (frame->list > 0) {
        frame->list--;
    } else {
        frame->part = PART_VALUE;
        lua_pushvalue(L, -2);
    }
    return put_value(packer);
}

/* Begin. */
struct ld_packer *ld_packer_new(lua_State *L, const char *root, struct ld_text *out,
                                struct ld_text *why) {
    struct ld_packer *packer = malloc(sizeof *packer);
    if (packer != NULL) {
        packer->L = L;
        packer->root = root;
        packer->out = out;
        packer->why = why;
        packer->met = (struct ld_numbering){0};
        packer->untimed = 0;
        packer->begun = false;
        packer->top = lua_gettop(L);
        packer->depth = 0;
    }
    return packer;
}

/* Pack a slice. */
int ld_packer_step(struct ld_packer *packer, size_t size, uint64_t deadline) {
    int rc = 0;
    packer->deadline = deadline;
    if (!packer->begun) {
        packer->begun = true;
        ld_text_add(packer->out, mark, sizeof mark);
        if (!lua_checkstack(packer->L, 2)) {
            return refuse(packer, ": not enough memory");
        }
        lua_pushvalue(packer->L, packer->top);
        rc = put_value(packer);
    }
    while (rc == 0 && packer->depth > 0 && packer->out->size < size) {
        rc = continue_table(packer);
    }
    if (rc == 0 && packer->out->failed) {
        rc = refuse(packer, ": not enough memory");
    }
    return rc < 0 ? rc : packer->depth > 0;
}

/* End, at any time. */
void ld_packer_free(struct ld_packer *packer) {
    if (packer != NULL) {
        lua_settop(packer->L, packer->top);
        ld_numbering_fini(&packer->met);
        free(packer);
    }
}

/* Pack a value as a whole. */
int ld_pack_value(lua_State *L, const char *root, struct ld_text *out, uint64_t deadline,
                  struct ld_text *why) {
    struct ld_packer *packer = ld_packer_new(L, root, out, why);
    if (packer == NULL) {
        ld_text_puts(why, "not enough memory");
        return -1;
    }
    int rc = ld_packer_step(packer, SIZE_MAX, deadline);
    ld_packer_free(packer);
    return rc;
}

/* A reader. In L, stack index 1 is the list of what has got a number. */
struct reader {
    lua_State *L;
    const unsigned char *bytes;
    size_t size;
    size_t at;
    uint64_t promised; /* values of tables that are begun, each a byte or more of what is left */
    lua_Integer met;   /* how many numbers are given */
    int depth;
    struct ld_text *why;
};

/* Give up for a REASON. */
_Noreturn static void fail(struct reader *reader, const char *reason) {
    ld_text_format(reader->why, "the packed data is damaged at byte %zu: %s", reader->at, reason);
    lua_pushnil(reader->L);
    lua_error(reader->L);
    abort(); /* not reached */
}

/* Take SIZE bytes. */
static const unsigned char *take(struct reader *reader, uint64_t size) {
    if (size > reader->size - reader->at) {
        fail(reader, "it is cut off");
    }
    const unsigned char *bytes = reader->bytes + reader->at;
    reader->at += (size_t)size;
    return bytes;
}

/* Take a number. */
static uint64_t take_number(struct reader *reader) {
    uint64_t number = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint64_t byte = *take(reader, 1);
        uint64_t bits = byte & 0x7F;
        if ((bits << shift) >> shift != bits || (byte == 0 && shift > 0)) {
            break;
        }
        number |= bits << shift;
        if (byte < 0x80) {
            return number;
        }
    }
    fail(reader, "a number has bits that do not belong to it");
}

/* Give the value at the top the next number. */
static void meet(struct reader *reader) {
    lua_pushvalue(reader->L, -1);
    lua_rawseti(reader->L, 1, ++reader->met);
}

/* Push an integer. */
static void push_integer(struct reader *reader) {
    uint64_t bits = take_number(reader);
    bits = bits >> 1 ^ ((bits & 1) != 0 ? UINT64_MAX : 0);
    lua_Integer integer;
    memcpy(&integer, &bits, sizeof integer);
    lua_pushinteger(reader->L, integer);
}

/* Push a float. */
static void push_float(struct reader *reader) {
    const unsigned char *bytes = take(reader, 8);
    uint64_t bits = 0;
    for (size_t i = 0; i < 8; i++) {
        bits |= (uint64_t)bytes[i] << (8 * i);
    }
    lua_Number number;
    memcpy(&number, &bits, sizeof number);
    lua_pushnumber(reader->L, number);
}

/* Push a string. */
static void push_string(struct reader *reader) {
    uint64_t size = take_number(reader);
    lua_pushlstring(reader->L, (const char *)take(reader, size), (size_t)size);
    if (size >= MET_MIN) {
        meet(reader);
    }
}

/* Push what was met before. */
static void push_met(struct reader *reader) {
    uint64_t number = take_number(reader);
    if (number == 0 || number > (uint64_t)reader->met) {
        fail(reader, "it refers to something that has not come");
    }
    lua_rawgeti(reader->L, 1, (lua_Integer)number);
}

/* Check that COUNT values can be in what is left beside those that were promised before, so that no few bytes
 * make us allocate much; they are promised now. */
static void promise(struct reader *reader, uint64_t count) {
    uint64_t left = reader->size - reader->at;
    if (count > left || reader->promised > left - count) {
        fail(reader, "a table would have more values than there are bytes");
    }
    reader->promised += count;
}

static void push_value(struct reader *reader);

/* Push a value that was promised, for a table. */
static void push_promised(struct reader *reader) {
    reader->promised--;
    push_value(reader);
    if (lua_isnil(reader->L, -1)) {
        fail(reader, "nil in a table");
    }
}

/* Fill the table at the top. */
static void fill(struct reader *reader, uint64_t list, uint64_t others) {
    lua_State *L = reader->L;
    for (uint64_t i = 1; i <= list; i++) {
        push_promised(reader);
        lua_rawseti(L, -2, (lua_Integer)i);
    }
    for (; others > 0; others--) {
        push_promised(reader);
        if (lua_type(L, -1) == LUA_TNUMBER && !lua_rawequal(L, -1, -1)) {
            fail(reader, "a key is NaN");
        }
        push_promised(reader);
        lua_rawset(L, -3);
    }
}

/* Push a table. */
static void push_table(struct reader *reader) {
    uint64_t list = take_number(reader);
    uint64_t others = take_number(reader);
    if (++reader->depth > LD_PACK_DEPTH_MAX) {
        fail(reader, "tables are nested deeper than 200");
    }
    promise(reader, list);
    promise(reader, others);
    promise(reader, others);
    luaL_checkstack(reader->L, 5, NULL);
    lua_createtable(reader->L, list < INT32_MAX ? (int)list : INT32_MAX,
                    others < INT32_MAX / 64 ? (int)others : INT32_MAX / 64);
    meet(reader);
    fill(reader, list, others);
    reader->depth--;
}

/* Push the next value. */
static void push_value(struct reader *reader) {
    switch (*take(reader, 1)) {
    case 'N':
        lua_pushnil(reader->L);
        break;
    case 'T':
        lua_pushboolean(reader->L, true);
        break;
    case 'F':
        lua_pushboolean(reader->L, false);
        break;
    case 'I':
        push_integer(reader);
        break;
    case 'D':
        push_float(reader);
        break;
    case 'S':
        push_string(reader);
        break;
    case '{':
        push_table(reader);
        break;
    case '=':
        push_met(reader);
        break;
    default:
        reader->at--;
        fail(reader, "no value begins like this");
    }
}

/* Read; the light userdata argument is the reader. Runs protected. */
static int read_value(lua_State *L) {
    struct reader *reader = lua_touserdata(L, 1);
    lua_newtable(L);
    lua_replace(L, 1);
    push_value(reader);
    if (reader->at < reader->size) {
        fail(reader, "something follows its end");
    }
    return 1;
}

/* Check the mark at the beginning. */
static bool check_mark(const char *bytes, size_t size, struct ld_text *why) {
    if (size < sizeof mark || memcmp(bytes, mark, sizeof mark - 1) != 0) {
        ld_text_puts(why, "it is not packed data of lunad");
        return false;
    }
    unsigned format = (unsigned char)bytes[sizeof mark - 1];
    if (format != FORMAT) {
        ld_text_format(why, "it is packed in format %u, and this lunad reads format %d", format,
                       FORMAT);
        return false;
    }
    return true;
}

/* Push a packed value. */
int ld_unpack_value(lua_State *L, const char *bytes, size_t size, struct ld_text *why) {
    struct reader reader = {.bytes = (const unsigned char *)bytes, .size = size, .why = why};
    if (!check_mark(bytes, size, why)) {
        return -1;
    }
    if (!lua_checkstack(L, 2)) {
        ld_text_puts(why, "not enough memory");
        return -1;
    }
    reader.L = L;
    reader.at = sizeof mark;
    lua_pushcfunction(L, read_value);
    lua_pushlightuserdata(L, &reader);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
        return 0;
    }
    if (ld_text_is_empty(why)) {
        const char *message = lua_tostring(L, -1);
        ld_text_puts(why, message != NULL ? message : "not enough memory");
    }
    lua_pop(L, 1);
    return -1;
}

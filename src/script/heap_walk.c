/* Breadth first, so that the path of an object is the shortest. The values wait in a Lua table, by the number of
 * their node; what was seen is a set of addresses. No metamethod is called. */
#include "script/heap_walk.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "base/json.h"
#include "base/time.h"
#include "script/luax.h"

#define OBJECTS_MOST 20000000
#define LARGE        4096 /* bytes of a string that has a node of its own */
#define PATHS_MOST   60
#define PATH_SIZE    600
#define LABEL_SIZE   120
#define CODES_MOST   20000
#define LOOK_EACH    4096 /* nodes between looks at the clock */

/* Bytes of the structures of Lua 5.4 on 64 bits. */
enum {
    STRING_SIZE = 25,
    TABLE_SIZE = 56,
    SLOT_SIZE = 16,
    ENTRY_SIZE = 24,
    CLOSURE_SIZE = 32,
    UPVALUE_SIZE = 40,
    USERDATA_SIZE = 40,
    THREAD_SIZE = 208,
    CALL_SIZE = 64,
    STACK_LEAST = 45,
};

enum kind {
    KIND_STRING,
    KIND_TABLE,
    KIND_FUNCTION,
    KIND_USERDATA,
    KIND_THREAD,
    KIND_CODE,
    KIND_COUNT,
};

static const char *const kind_names[] = {"string",   "table",     "function",
                                         "userdata", "coroutine", "code"};

/* How one value leads to another. */
enum edge {
    EDGE_ROOT,
    EDGE_GLOBAL,
    EDGE_MODULE,
    EDGE_CALLBACK,
    EDGE_SIGNAL,
    EDGE_FIELD, /* the key is below the value on the stack */
    EDGE_KEY,
    EDGE_META,
    EDGE_NAMED, /* a local variable, or an upvalue */
};

/* An object that may lead to others. Its own bytes have those of small strings that it led to first. */
struct node {
    uint32_t parent;
    uint32_t objects; /* that it leads to, with itself */
    uint64_t bytes;   /* of itself; at the end of all that it leads to */
    uint8_t kind;
    uint8_t edge; /* for the children of a root */
};

/* Code that was dumped: functions inside of it are in that. */
struct code {
    const char *source;
    int first;
    int last;
    uint64_t bytes;
};

struct walk {
    lua_State *L;
    struct node *nodes; /* 0 is the root of all */
    size_t count;
    uintptr_t *seen;
    size_t seen_count;
    size_t seen_size; /* a power of two */
    struct code codes[CODES_MOST];
    size_t code_count;
    uint64_t totals[KIND_COUNT];
    uint64_t counts[KIND_COUNT];
    uint32_t at; /* the node whose children are walked over */
    bool is_incomplete;

    /* Called with the value at the top. */
    void (*each)(struct walk *walk, enum edge edge, const char *name);
    const void *wanted;
    char label[LABEL_SIZE]; /* of what was wanted */
};

/* Double the set. */
static bool grow_seen(struct walk *walk) {
    size_t size = walk->seen_size > 0 ? walk->seen_size * 2 : 65536;
    uintptr_t *grown = calloc(size, sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    for (size_t i = 0; i < walk->seen_size; i++) {
        size_t place = (walk->seen[i] >> 4) * 0x9E3779B97F4A7C15U & (size - 1);
        while (walk->seen[i] != 0 && grown[place] != 0) {
            place = (place + 1) & (size - 1);
        }
        if (walk->seen[i] != 0) {
            grown[place] = walk->seen[i];
        }
    }
    free(walk->seen);
    walk->seen = grown;
    walk->seen_size = size;
    return true;
}

/* Note an address; false if it was seen, or there is no room. */
static bool note(struct walk *walk, uintptr_t address) {
    if (walk->seen_count * 2 >= walk->seen_size && !grow_seen(walk)) {
        walk->is_incomplete = true;
        return false;
    }
    size_t mask = walk->seen_size - 1;
    size_t place = (address >> 4) * 0x9E3779B97F4A7C15U & mask;
    while (walk->seen[place] != 0) {
        if (walk->seen[place] == address) {
            return false;
        }
        place = (place + 1) & mask;
    }
    walk->seen[place] = address;
    walk->seen_count++;
    return true;
}

/* Count bytes of a kind, for the node NUMBER. */
static void count_bytes(struct walk *walk, enum kind kind, uint32_t number, uint64_t bytes) {
    walk->totals[kind] += bytes;
    walk->nodes[number].bytes += bytes;
}

/* Make a node for the value at the top, and have it wait. */
static void push_node(struct walk *walk, enum kind kind, enum edge edge) {
    struct node *grown = ld_grow(walk->nodes, walk->count, sizeof *grown);
    if (grown == NULL || walk->count >= OBJECTS_MOST) {
        walk->nodes = grown != NULL ? grown : walk->nodes;
        walk->is_incomplete = true;
        return;
    }
    walk->nodes = grown;
    grown[walk->count] = (struct node){
        .parent = walk->at, .objects = 1, .kind = (uint8_t)kind, .edge = (uint8_t)edge};
    lua_pushvalue(walk->L, -1);
    lua_rawseti(walk->L, 1, (lua_Integer)walk->count);
    walk->count++;
    walk->counts[kind]++;
}

/* The least power of two that is not below N. */
static uint64_t round_up(uint64_t n) {
    uint64_t power = 1;
    while (power < n) {
        power *= 2;
    }
    return n > 0 ? power : 0;
}

/* Count the bytes that a chunk is dumped to. */
static int count_dump(lua_State *L, const void *bytes, size_t size, void *arg) {
    (void)L;
    (void)bytes;
    *(uint64_t *)arg += size;
    return 0;
}

/* Note the code of the function at the top, once. */
static void note_code(struct walk *walk) {
    lua_Debug ar;
    struct code code = {.bytes = 0};
    lua_pushvalue(walk->L, -1);
    lua_getinfo(walk->L, ">S", &ar);
    code.source = ar.source;
    code.first = ar.linedefined;
    code.last = ar.linedefined == 0 ? INT32_MAX : ar.lastlinedefined;
    uintptr_t mark =
        ((uintptr_t)ar.source << 3) * 31 + (uintptr_t)code.first * 8191 + (uintptr_t)code.last;
    if (walk->code_count < CODES_MOST && note(walk, mark | 1)) {
        lua_dump(walk->L, count_dump, &code.bytes, 0);
        walk->codes[walk->code_count++] = code;
    }
}

/* Add a string, at the top. */
static void add_string(struct walk *walk, enum edge edge) {
    uint64_t bytes = STRING_SIZE + lua_rawlen(walk->L, -1);
    if (bytes >= LARGE) {
        uint32_t number = (uint32_t)walk->count;
        push_node(walk, KIND_STRING, edge);
        if (walk->count > number) {
            count_bytes(walk, KIND_STRING, number, bytes);
        }
    } else {
        walk->counts[KIND_STRING]++;
        walk->nodes[walk->at].objects++;
        count_bytes(walk, KIND_STRING, walk->at, bytes);
    }
}

/* Add the value at the top, if it was not seen. */
static void add_value(struct walk *walk, enum edge edge, const char *name) {
    static const enum kind kinds[LUA_NUMTYPES] = {[LUA_TTABLE] = KIND_TABLE,
                                                  [LUA_TFUNCTION] = KIND_FUNCTION,
                                                  [LUA_TUSERDATA] = KIND_USERDATA,
                                                  [LUA_TTHREAD] = KIND_THREAD};
    int type = lua_type(walk->L, -1);
    bool is_object = type == LUA_TTABLE || type == LUA_TUSERDATA || type == LUA_TTHREAD ||
                     type == LUA_TSTRING || type == LUA_TFUNCTION;
    (void)name;
    if (!is_object || walk->is_incomplete || !note(walk, (uintptr_t)lua_topointer(walk->L, -1))) {
        return;
    }
    if (type == LUA_TSTRING) {
        add_string(walk, edge);
        return;
    }
    push_node(walk, kinds[type], edge);
}

/* Whether the table at AT does not hold its keys (WHAT is 'k'), or values ('v'). */
static bool is_weak(lua_State *L, int at, char what) {
    bool weak = false;
    if (lua_getmetatable(L, at)) {
        lua_pushliteral(L, "__mode");
        lua_rawget(L, -2);
        weak = lua_type(L, -1) == LUA_TSTRING && strchr(lua_tostring(L, -1), what) != NULL;
        lua_pop(L, 2);
    }
    return weak;
}

/* Walk over the table at AT; return what its parts take. */
static uint64_t walk_table(struct walk *walk, int at, enum edge edge) {
    lua_State *L = walk->L;
    bool has_keys = !is_weak(L, at, 'k');
    bool has_values = !is_weak(L, at, 'v');
    uint64_t entries = 0;
    uint64_t listed = lua_rawlen(L, at);
    lua_pushnil(L);
    while (lua_next(L, at)) {
        entries++;
        if (has_values) {
            walk->each(walk, edge, NULL);
        }
        lua_pop(L, 1);
        if (has_keys) {
            walk->each(walk, EDGE_KEY, NULL);
        }
    }
    uint64_t hashed = entries > listed ? entries - listed : 0;
    return listed * SLOT_SIZE + round_up(hashed) * ENTRY_SIZE;
}

/* Walk over the upvalues of the function at AT; return what the closure takes. */
static uint64_t walk_function(struct walk *walk, int at) {
    lua_State *L = walk->L;
    bool is_c = lua_iscfunction(L, at);
    uint64_t bytes = 0;
    int count = 0;
    const char *name;
    while ((name = lua_getupvalue(L, at, count + 1)) != NULL) {
        walk->each(walk, EDGE_NAMED, is_c ? "(upvalue)" : name);
        lua_pop(L, 1);
        count++;
        if (!is_c && walk->wanted == NULL && note(walk, (uintptr_t)lua_upvalueid(L, at, count))) {
            bytes += UPVALUE_SIZE;
        }
    }
    if (is_c) {
        return count > 0 ? CLOSURE_SIZE + (uint64_t)count * SLOT_SIZE : 0;
    }
    return bytes + CLOSURE_SIZE + (uint64_t)count * sizeof(void *);
}

/* Walk over the value at the top of another coroutine, which is taken from it. */
static void walk_moved(struct walk *walk, lua_State *co, const char *name) {
    lua_xmove(co, walk->L, 1);
    walk->each(walk, EDGE_NAMED, name);
    lua_pop(walk->L, 1);
}

/* Walk over the variables of the coroutine at AT; return what it takes. */
static uint64_t walk_thread(struct walk *walk, int at) {
    lua_State *co = lua_tothread(walk->L, at);
    lua_Debug ar;
    uint64_t slots = 0;
    int level = 0;
    if (co == walk->L || !lua_checkstack(co, 2)) {
        return THREAD_SIZE;
    }
    for (; lua_getstack(co, level, &ar); level++) {
        const char *name;
        for (int n = 1; (name = lua_getlocal(co, &ar, n)) != NULL; n++, slots++) {
            walk_moved(walk, co, name);
        }
        for (int n = -1; lua_getlocal(co, &ar, n) != NULL; n--, slots++) {
            walk_moved(walk, co, "(vararg)");
        }
    }
    int top = level == 0 ? lua_gettop(co) : 0;
    for (int n = 1; n <= top; n++, slots++) {
        lua_pushvalue(co, n);
        walk_moved(walk, co, "(stack)");
    }
    slots = slots < STACK_LEAST ? STACK_LEAST : slots;
    return THREAD_SIZE + slots * SLOT_SIZE + (uint64_t)level * CALL_SIZE;
}

/* Walk over the user values of the userdata at AT; return what it takes. */
static uint64_t walk_userdata(struct walk *walk, int at) {
    uint64_t bytes = USERDATA_SIZE + lua_rawlen(walk->L, at);
    for (int n = 1; lua_getiuservalue(walk->L, at, n) != LUA_TNONE; n++) {
        walk->each(walk, EDGE_NAMED, "(user value)");
        lua_pop(walk->L, 1);
        bytes += SLOT_SIZE;
    }
    lua_pop(walk->L, 1);
    return bytes;
}

/* Walk over what the value at the top leads to, and return what it takes itself. The fields of a root have its
 * EDGE. */
static uint64_t walk_children(struct walk *walk, enum edge edge) {
    int at = lua_gettop(walk->L);
    int type = lua_type(walk->L, at);
    if ((type == LUA_TTABLE || type == LUA_TUSERDATA) && lua_getmetatable(walk->L, at)) {
        walk->each(walk, EDGE_META, NULL);
        lua_pop(walk->L, 1);
    }
    switch (type) {
    case LUA_TTABLE:
        return TABLE_SIZE + walk_table(walk, at, edge);
    case LUA_TFUNCTION:
        return walk_function(walk, at);
    case LUA_TTHREAD:
        return walk_thread(walk, at);
    case LUA_TUSERDATA:
        return walk_userdata(walk, at);
    default:
        return 0;
    }
}

/* The edge of the fields of a node: those of a root have names of their own. */
static enum edge edge_below(const struct walk *walk, uint32_t number) {
    const struct node *node = &walk->nodes[number];
    return node->parent == 0 && node->edge != EDGE_ROOT ? (enum edge)node->edge : EDGE_FIELD;
}

/* Walk over all that waits. */
static void walk_all(struct walk *walk, uint64_t end) {
    for (size_t i = 1; i < walk->count && !walk->is_incomplete; i++) {
        enum kind kind = (enum kind)walk->nodes[i].kind;
        walk->at = (uint32_t)i;
        lua_rawgeti(walk->L, 1, (lua_Integer)i);
        if (kind == KIND_FUNCTION && !lua_iscfunction(walk->L, -1)) {
            note_code(walk);
        }
        uint64_t bytes = walk_children(walk, edge_below(walk, (uint32_t)i));
        if (kind != KIND_STRING) {
            count_bytes(walk, kind, (uint32_t)i, bytes);
        }
        lua_settop(walk->L, 1);
        if (i % LOOK_EACH == 0 && ld_time_coarse() > end) {
            walk->is_incomplete = true;
        }
    }
}

/* Compare codes: by source, then the outer one first. */
static int compare_codes(const void *a, const void *b) {
    const struct code *one = a;
    const struct code *other = b;
    if (one->source != other->source) {
        return one->source < other->source ? -1 : 1;
    }
    return one->first != other->first ? (one->first < other->first ? -1 : 1)
                                      : (one->last > other->last ? -1 : one->last < other->last);
}

/* Count the code that is not inside of other code. */
static void count_codes(struct walk *walk) {
    const struct code *outer = NULL;
    qsort(walk->codes, walk->code_count, sizeof walk->codes[0], compare_codes);
    for (size_t i = 0; i < walk->code_count; i++) {
        const struct code *code = &walk->codes[i];
        if (outer == NULL || outer->source != code->source || code->last > outer->last) {
            outer = code;
            walk->totals[KIND_CODE] += code->bytes;
        }
    }
    walk->counts[KIND_CODE] = walk->code_count;
}

/* Add what each object leads to: its parent has a lower number. */
static void sum_up(struct walk *walk) {
    for (size_t i = walk->count - 1; i > 0; i--) {
        struct node *parent = &walk->nodes[walk->nodes[i].parent];
        parent->bytes += walk->nodes[i].bytes;
        parent->objects += walk->nodes[i].objects;
    }
}

/* Whether a text can be written as a name after a dot. */
static bool is_name(const char *text, size_t size) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    bool is_first = size > 0 && size < LABEL_SIZE / 2 && strchr(letters, text[0]) != NULL;
    for (size_t i = 1; is_first && i < size; i++) {
        if (text[i] == '\0' ||
            (strchr(letters, text[i]) == NULL && (text[i] < '0' || text[i] > '9'))) {
            return false;
        }
    }
    return is_first && text[0] != '\0';
}

/* Write the key below the value at the top as a label. */
static void label_field(struct walk *walk, enum edge edge) {
    lua_State *L = walk->L;
    size_t size = 0;
    char *label = walk->label;
    if (lua_type(L, -2) == LUA_TSTRING) {
        const char *key = lua_tolstring(L, -2, &size);
        bool is_module = edge == EDGE_MODULE;
        bool is_quoted = is_module || !is_name(key, size);
        const char *before = is_module             ? "require \""
                             : is_quoted           ? "[\""
                             : edge == EDGE_GLOBAL ? ""
                                                   : ".";
        const char *after = is_module ? "\"" : is_quoted ? "\"]" : "";
        size = size > LABEL_SIZE / 2 ? LABEL_SIZE / 2 : size;
        snprintf(label, LABEL_SIZE, "%s%.*s%s", before, (int)size, key, after);
    } else if (lua_isinteger(L, -2)) {
        bool is_signal = edge == EDGE_SIGNAL;
        snprintf(label, LABEL_SIZE, "%s%lld%s", is_signal ? " " : "[",
                 (long long)lua_tointeger(L, -2), is_signal ? "" : "]");
    } else {
        snprintf(label, LABEL_SIZE, "[%s]", luaL_typename(L, -2));
    }
}

/* Write the function at the top, which has no name, as a label. */
static void label_callback(struct walk *walk) {
    lx_push_function_place(walk->L, -1);
    const char *place = lua_tostring(walk->L, -1);
    if (strcmp(place, "?") == 0) {
        snprintf(walk->label, LABEL_SIZE, " > (function)");
    } else {
        size_t length = strlen(place);
        snprintf(walk->label, LABEL_SIZE, " at %s",
                 length > LABEL_SIZE / 2 ? place + length - LABEL_SIZE / 2 : place);
    }
    lua_pop(walk->L, 1);
}

/* Name the value at the top, if it is the one that is looked for. */
static void match(struct walk *walk, enum edge edge, const char *name) {
    if (walk->label[0] != '\0' || lua_topointer(walk->L, -1) != walk->wanted) {
        return;
    }
    switch (edge) {
    case EDGE_CALLBACK:
        if (lua_isfunction(walk->L, -1)) {
            label_callback(walk);
        } else {
            label_field(walk, EDGE_FIELD);
        }
        return;
    case EDGE_KEY:
        snprintf(walk->label, LABEL_SIZE, " > (key)");
        return;
    case EDGE_META:
        snprintf(walk->label, LABEL_SIZE, " > (metatable)");
        return;
    case EDGE_ROOT:
    case EDGE_NAMED:
        if (lua_isfunction(walk->L, -1) && name != NULL && name[0] == '(') {
            label_callback(walk);
            return;
        }
        snprintf(walk->label, LABEL_SIZE, " > %.80s", name != NULL ? name : "?");
        return;
    case EDGE_GLOBAL:
    case EDGE_MODULE:
    case EDGE_SIGNAL:
    case EDGE_FIELD:
        label_field(walk, edge);
        return;
    }
}

/* The roots, in the order of their nodes from 1 on: see add_roots. */
static const char *const root_names[] = {"(globals)", "(modules)", "timer", "signal", "(registry)"};

/* Find the label of a node below its parent. */
static void find_label(struct walk *walk, uint32_t number) {
    walk->label[0] = '\0';
    lua_rawgeti(walk->L, 1, (lua_Integer)number);
    walk->wanted = lua_topointer(walk->L, -1);
    lua_pop(walk->L, 1);
    lua_rawgeti(walk->L, 1, (lua_Integer)walk->nodes[number].parent);
    walk_children(walk, edge_below(walk, walk->nodes[number].parent));
    lua_settop(walk->L, 1);
}

/* Write the path of a node, from the end: the beginning is cut off if it is too long. */
static const char *find_path(struct walk *walk, uint32_t number, char path[PATH_SIZE]) {
    char *at = path + PATH_SIZE - 1;
    *at = '\0';
    for (uint32_t i = number; i != 0; i = walk->nodes[i].parent) {
        uint32_t parent = walk->nodes[i].parent;
        const char *label = walk->label;
        if (parent == 0) {
            label = root_names[i - 1];
            bool is_hidden = (i == 1 || i == 2) && number != i;
            label = is_hidden ? "" : label;
        } else {
            find_label(walk, i);
        }
        size_t length = strlen(label);
        if (length > (size_t)(at - path)) {
            break;
        }
        at -= length;
        memcpy(at, label, length);
    }
    return at;
}

static const struct node *sorted_nodes; /* for compare_nodes */

/* Compare nodes: the larger one first. */
static int compare_nodes(const void *a, const void *b) {
    const struct node *one = &sorted_nodes[*(const uint32_t *)a];
    const struct node *other = &sorted_nodes[*(const uint32_t *)b];
    if (one->bytes != other->bytes) {
        return one->bytes > other->bytes ? -1 : 1;
    }
    return one < other ? -1 : one > other;
}

/* Report the paths that hold most. */
static json_t *report_paths(struct walk *walk) {
    json_t *list = json_array();
    uint32_t *order = malloc(walk->count * sizeof *order);
    uint64_t least = walk->nodes[0].bytes / 500;
    size_t count = 0;
    for (size_t i = 1; order != NULL && i < walk->count; i++) {
        if (walk->nodes[i].bytes >= least) {
            order[count++] = (uint32_t)i;
        }
    }
    sorted_nodes = walk->nodes;
    if (count > 0) {
        qsort(order, count, sizeof *order, compare_nodes);
    }
    walk->each = match;
    for (size_t i = 0; i < count && i < PATHS_MOST; i++) {
        char path[PATH_SIZE];
        const struct node *node = &walk->nodes[order[i]];
        const char *text = find_path(walk, order[i], path);
        json_array_append_new(
            list, json_pack("{s:o, s:s, s:I, s:I}", "path", ld_json_text(text, strlen(text)),
                            "type", kind_names[node->kind], "bytes", (json_int_t)node->bytes,
                            "objects", (json_int_t)node->objects));
    }
    free(order);
    return list;
}

/* Find the kind with the most bytes that is not in the set DONE. */
static int find_largest(const struct walk *walk, unsigned done) {
    int best = -1;
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        bool is_left = (done & (1U << kind)) == 0;
        if (is_left && (best < 0 || walk->totals[kind] > walk->totals[best])) {
            best = kind;
        }
    }
    return best;
}

/* Report what there is of each type, the largest first. */
static json_t *report_types(const struct walk *walk) {
    json_t *list = json_array();
    unsigned done = 0;
    for (int best = find_largest(walk, 0); best >= 0; best = find_largest(walk, done)) {
        done |= 1U << best;
        json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "type", kind_names[best], "count",
                                              (json_int_t)walk->counts[best], "bytes",
                                              (json_int_t)walk->totals[best]));
    }
    return list;
}

/* Add a root, at the top, which is popped; its children have names of this EDGE. */
static void add_root(struct walk *walk, enum edge edge) {
    size_t before = walk->count;
    add_value(walk, edge, NULL);
    if (walk->count == before) { /* each root has its number */
        lua_newtable(walk->L);
        add_value(walk, edge, NULL);
        lua_pop(walk->L, 1);
    }
    lua_pop(walk->L, 1);
}

/* Add the roots: what has a name first. */
static void add_roots(struct walk *walk) {
    lua_State *L = walk->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    add_root(walk, EDGE_GLOBAL);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    add_root(walk, EDGE_MODULE);
    ld_state_push_shelved(L, LD_SHELF_CALLBACKS);
    add_root(walk, EDGE_CALLBACK);
    ld_state_push_shelved(L, LD_SHELF_SIGNALS);
    add_root(walk, EDGE_SIGNAL);
    lua_pushvalue(L, LUA_REGISTRYINDEX);
    add_root(walk, EDGE_ROOT);
}

/* What the walk is given, and gives. */
struct order {
    struct walk *walk;
    uint64_t end;
    json_t *report;
};

/* Walk. Runs protected. */
static int do_walk(lua_State *L) {
    struct order *order = lua_touserdata(L, 1);
    struct walk *walk = order->walk;
    walk->L = L;
    walk->each = add_value;
    lua_settop(L, 0);
    lua_newtable(L);
    note(walk, (uintptr_t)lua_topointer(L, 1));
    luaL_checkstack(L, 20, NULL);
    add_roots(walk);
    walk_all(walk, order->end);
    count_codes(walk);
    sum_up(walk);
    order->report = json_pack("{s:b, s:I, s:o, s:o}", "complete", !walk->is_incomplete, "objects",
                              (json_int_t)walk->seen_count, "types", report_types(walk), "paths",
                              report_paths(walk));
    return 0;
}

/* Walk over the heap. */
json_t *ld_heap_walk(struct ld_script *script, double seconds) {
    struct walk *walk = calloc(1, sizeof *walk);
    struct order order = {.walk = walk};
    size_t size = script->heap.size;
    for (int i = 0; i < LD_HEAP_USERS; i++) {
        script->heap.most[i] = SIZE_MAX;
    }
    order.end = ld_time_coarse() + (uint64_t)(seconds * LD_TIME_SECOND);
    lua_gc(script->L, LUA_GCSTOP);
    lua_sethook(script->L, NULL, 0, 0); /* the script may have set one on the main coroutine, too */
    if (walk != NULL && (walk->nodes = ld_grow(NULL, 0, sizeof *walk->nodes)) != NULL) {
        walk->nodes[0] = (struct node){0};
        walk->count = 1;
        lua_pushcfunction(script->L, do_walk);
        lua_pushlightuserdata(script->L, &order);
        if (lua_pcall(script->L, 1, 0, 0) != LUA_OK) {
            lua_pop(script->L, 1);
        }
        free(walk->nodes);
        free(walk->seen);
    }
    free(walk);
    if (order.report != NULL) {
        json_object_set_new(order.report, "lua", json_integer((json_int_t)size));
        json_object_set_new(order.report, "generation",
                            json_integer((json_int_t)script->generation));
    }
    return order.report;
}

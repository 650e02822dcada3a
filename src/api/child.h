/* What the two halves of a child in Lua are, for lib_child.c (how it begins), lib_child_events.c (what
 * happens to it), lib_child_keep.c (how it changes hands) and lib_child_methods.c.
 *
 * The box is what a script holds; the half is what the child engine knows. While the child runs the
 * box is pinned in the registry; when it has finished, the half goes and the box keeps the facts. */
#ifndef LD_API_CHILD_H
#define LD_API_CHILD_H

#include "engine/child.h"
#include "script/handle.h"
#include "script/task.h"

#define LD_CHILD_TYPE "lunad.child"

/* The user values of a box. */
enum { LD_CHILD_ON_STDOUT = 1, LD_CHILD_ON_STDERR, LD_CHILD_ON_EXIT };

struct ld_child_half {
    struct ld_handle handle;
    struct ld_child *child;
    struct ld_child_box *box;
    bool command;               /* of lunad.exec */
    bool late;                  /* started when the script had been replaced */
    bool claims;                /* the child is another generation's until this one is ready */
    bool to_log[2];             /* which outputs go to the log */
    struct ld_task *waiters;    /* for the end */
    struct ld_task *flushers;   /* for the writing */
    struct ld_task *calling[2]; /* output callbacks that are not done yet */
    bool held[2];               /* and whose streams are held for them */
};

struct ld_child_box {
    struct ld_child_half *half; /* NULL: it has finished, or the script is closed */
    bool finished;
    bool adopted;      /* it was started by an earlier generation */
    bool stdin_closed; /* by the script */
    bool has_stdin;
    bool timed_out;
    double seconds;
    struct ld_exit exit;
    uint64_t mark;  /* of what it starts; 0: none */
    uint64_t start; /* uv_hrtime */
    pid_t pid;
    char name[80];
};

/* The box in the first argument; raises for anything else. */
struct ld_child_box *ld_api_child_check_box(lua_State *L);

/* What the child engine calls; the owner is the half. */
extern const struct ld_child_ops ld_child_events;

/* Make the table that pins boxes; pin the box at index BOX to the half that it gets. */
void ld_api_child_make_boxes(lua_State *L);
void ld_api_child_pin(lua_State *L, int box, struct ld_child_half *half);

/* Push the box of a half, on any coroutine of its script; unpin it (which does not raise). */
void ld_api_child_push_box(lua_State *L, const struct ld_child_half *half);
void ld_api_child_unpin(lua_State *L, const struct ld_child_half *half);

/* Push the table that says how a child ended. */
void ld_api_child_push_exit(lua_State *L, const struct ld_child_box *box);

/* Push the metatable of children with its methods. */
void ld_api_child_set_methods(lua_State *L);

/* strays(child [, signal]) -> count, for lunad's own Lua: how many processes a supervised child that
 * has ended has left behind, detached ones excepted. With "TERM" they are asked to end, with "KILL"
 * they are ended, and all that descends from them. */
int ld_child_strays(lua_State *L);

/* drop_claim(child) -> boolean, for lunad's own Lua: give a claim up, so that the child stays the
 * old generation's; whether it was one. */
int ld_api_child_drop_claim(lua_State *L);

/* Find the kept child that another generation runs under NAME and that is what IDENTITY says; NULL
 * if there is none, or it cannot be claimed any more. Raises if the script itself keeps a child of
 * that name. */
struct ld_child *ld_api_child_find_kept(lua_State *L, const char *name, const char *identity);

#endif

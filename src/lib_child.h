/* What the two halves of a child in Lua are, for lib_child.c (its life) and lib_child_methods.c.
 *
 * The box is what a script holds; the half is what the child engine knows. While the child runs the
 * box is pinned in the registry; when it has finished, the half goes and the box keeps the facts. */
#ifndef LD_LIB_CHILD_H
#define LD_LIB_CHILD_H

#include "child.h"
#include "handle.h"
#include "task.h"

#define LD_CHILD_TYPE "lunad.child"

struct ld_child_half {
    struct ld_handle handle;
    struct ld_child *child;
    struct ld_child_box *box;
    struct ld_task *waiters;  /* for the end */
    struct ld_task *flushers; /* for the writing */
    bool calling[2];          /* an output callback is not done yet */
    bool held[2];             /* and its stream is held for it */
};

struct ld_child_box {
    struct ld_child_half *half; /* NULL: it has finished, or the script is closed */
    bool finished;
    bool stdin_closed; /* by the script */
    bool has_stdin;
    bool timed_out;
    double seconds;
    struct ld_exit exit;
    pid_t pid;
    char name[80];
};

/* The box in the first argument; raises for anything else. */
struct ld_child_box *ld_child_check_box(lua_State *L);

/* Push the table that says how a child ended. */
void ld_child_push_exit(lua_State *L, const struct ld_child_box *box);

/* Push the metatable of children with its methods. */
void ld_child_set_methods(lua_State *L);

#endif

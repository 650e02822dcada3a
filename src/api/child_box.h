/* The two halves of a child in Lua. The box is what a script holds; the half is what the child engine
 * knows. While the child runs the box is pinned in the registry; when it has finished, the half is freed
 * and the box keeps the facts. */
#ifndef LD_API_CHILD_BOX_H
#define LD_API_CHILD_BOX_H

#include "engine/child.h"
#include "script/handle.h"
#include "script/task.h"

#define LD_CHILD_TYPE "lunad.child"

/* The user values of a box. */
enum { LD_CHILD_ON_STDOUT = 1, LD_CHILD_ON_STDERR, LD_CHILD_ON_EXIT, LD_CHILD_ON_READY };

struct ld_child_half {
    struct ld_handle handle;
    struct ld_child *child;
    struct ld_child_box *box;
    bool command;                  /* of lunad.exec */
    bool late;                     /* started after the script was replaced */
    bool claims;                   /* the child is another generation's until this one is ready */
    bool to_log[2];                /* which outputs go to the log */
    enum ld_ready_kind ready_kind; /* how the child is to say that it is ready */
    enum ld_ready ready;           /* as noted while the child is claimed */
    struct ld_task_queue waiters;  /* for the end */
    struct ld_task_queue flushers; /* for the writing */
    struct ld_task *calling[2];    /* output callbacks that are not done yet */
    bool held[2];                  /* and whose streams are held for them */
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

/* Make the table that pins boxes. */
void ld_api_child_box_open(lua_State *L);

/* The box in the first argument; raises for any other value. */
struct ld_child_box *ld_api_child_box_check(lua_State *L);

/* Pin the box at index BOX to its half. Raises if there is no memory. */
void ld_api_child_box_pin(lua_State *L, int box, struct ld_child_half *half);

/* Push the box of a half, on any coroutine of its script. */
void ld_api_child_box_push(lua_State *L, const struct ld_child_half *half);

/* Unpin the box of a half. Does not raise. */
void ld_api_child_box_unpin(lua_State *L, const struct ld_child_half *half);

/* Push the table that says how a child ended. */
void ld_api_child_box_push_exit(lua_State *L, const struct ld_child_box *box);

#endif

/* The ends of child processes. Each watched child has a pidfd in an epoll set of our own, so
 * that the cost of one exit does not grow with the number of children. A walk over all children
 * after SIGCHLD, rationed, finds those that are not watched (adopted ones), and all of them
 * where there are no pidfds. */
#ifndef LD_ENGINE_REAPER_H
#define LD_ENGINE_REAPER_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct ld_reaper;

/* How a process ended. */
struct ld_exit {
    bool signaled;
    int status; /* the exit status, or the signal */
    bool core;
};

/* A wait for the end of a child; embedded in a structure of the owner. */
struct ld_watch {
    pid_t pid;
    int pidfd; /* negative: SIGCHLD announces the end */
    struct ld_watch *next;
    /* Called from the loop, once, when the child is reaped. The watch is no longer in use. */
    void (*on_exit)(struct ld_watch *watch, const struct ld_exit *exit);
};

/* Make a reaper on LOOP; 0 or a negative errno. This process becomes the subreaper of its
 * descendants. Without USE_PIDFDS it relies on SIGCHLD alone. */
int ld_reaper_new(struct ld_reaper **out, uv_loop_t *loop, bool use_pidfds);
void ld_reaper_close(struct ld_reaper *reaper);

/* Leave ended children alone that IS_FOREIGN says other code will reap. */
void ld_reaper_set_foreign(struct ld_reaper *reaper, bool (*is_foreign)(pid_t pid));

/* Watch PID, a child that has not been waited for, by PIDFD, which belongs to the watch even if
 * this fails; -1: open one. 0 or a negative errno. */
int ld_reaper_watch(struct ld_reaper *reaper, struct ld_watch *watch, pid_t pid, int pidfd);

/* The watch of PID; NULL if there is none. */
struct ld_watch *ld_reaper_find(const struct ld_reaper *reaper, pid_t pid);

/* Stop watching; the child is reaped all the same. */
void ld_reaper_unwatch(struct ld_reaper *reaper, struct ld_watch *watch);

/* Block until a watched child ends; its on_exit is not called. */
void ld_reaper_wait(struct ld_reaper *reaper, struct ld_watch *watch, struct ld_exit *exit);

/* Leave children that are not watched unreaped while HOLDS; then those that have ended are reaped. */
void ld_reaper_hold(struct ld_reaper *reaper, bool holds);

/* Reap what has ended. Call it after SIGCHLD has arrived. */
void ld_reaper_sweep(struct ld_reaper *reaper);

/* In a copy of the process: stop watching the children of the original. Async-signal-safe. */
void ld_reaper_give_up(struct ld_reaper *reaper);

/* Whether this process has any child. */
bool ld_reaper_has_children(void);

#endif

/* The ends of child processes. Each watched child is learnt of by itself, through a pidfd in an
 * epoll set of our own, so that the cost of one does not grow with the number of the others; a walk
 * over all children after SIGCHLD, rationed, finds those that nobody watches (adopted ones), and
 * all of them where pidfds are missing. */
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

/* Somebody who waits for the end of a child; embedded in what belongs to the owner. */
struct ld_watch {
    pid_t pid;
    int pidfd; /* -1: learnt of by SIGCHLD */
    struct ld_watch *next;
    /* Called from the loop, once, when the child is reaped. The watch is not in use any more. */
    void (*on_exit)(struct ld_watch *watch, const struct ld_exit *exit);
};

/* Make a reaper on LOOP; 0 or a negative errno. This process becomes the one that adopts orphans
 * among its descendants. Without USE_PIDFDS everything is learnt by SIGCHLD. */
int ld_reaper_new(struct ld_reaper **out, uv_loop_t *loop, bool use_pidfds);
void ld_reaper_close(struct ld_reaper *reaper);

/* Leave children alone, when they have ended, that IS_FOREIGN says somebody else will reap. */
void ld_reaper_set_foreign(struct ld_reaper *reaper, bool (*is_foreign)(pid_t pid));

/* Watch PID, a child that has not been waited for, by PIDFD, which is the watch's now whatever comes of
 * it; if that is -1 it is opened. 0 or a negative errno. */
int ld_reaper_watch(struct ld_reaper *reaper, struct ld_watch *watch, pid_t pid, int pidfd);

/* Who watches PID; NULL for nobody. */
struct ld_watch *ld_reaper_find(const struct ld_reaper *reaper, pid_t pid);

/* Watch no more; the child is reaped all the same. */
void ld_reaper_unwatch(struct ld_reaper *reaper, struct ld_watch *watch);

/* Wait here and now for the end of a watched child; its on_exit is not called. */
void ld_reaper_wait(struct ld_reaper *reaper, struct ld_watch *watch, struct ld_exit *exit);

/* To be called after SIGCHLD has arrived. */
void ld_reaper_sweep(struct ld_reaper *reaper);

/* In a copy of the process: watch nothing any more; what the original watches is not ours. May do only
 * what a signal handler may. */
void ld_reaper_give_up(struct ld_reaper *reaper);

/* Whether this process has any child at all. */
bool ld_reaper_has_children(void);

#endif

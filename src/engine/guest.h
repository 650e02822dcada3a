/* A guest loop: a libuv loop of its own that the host's loop drives, so that a library which
 * needs a loop of its own (luv) can share the thread with everything else. All guests are in one
 * list, once a process. */
#ifndef LD_ENGINE_GUEST_H
#define LD_ENGINE_GUEST_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct ld_guest;

/* Make a guest in the loop HOST; 0 or a negative errno. */
int ld_guest_open(struct ld_guest **out, uv_loop_t *host);

/* The loop for the library. Nothing but the library's handles may be on it. */
uv_loop_t *ld_guest_loop(struct ld_guest *guest);

/* Before a callback of the host's loop calls into what uses the library: bring the time of the
 * guest's loop up to date, as the library's own loop would be. Otherwise its timers would count
 * from an old time. */
void ld_guest_refresh(struct ld_guest *guest);

/* Arm all guests again after the host's loop, while it prepares to wait, has called into a
 * library: their own preparations may have run before. */
void ld_guest_arm_all(void);

/* Whether anything is left on it that keeps a loop alive: handles, requests, handles that close. */
bool ld_guest_is_alive(const struct ld_guest *guest);

/* Whether a request on it is pending: what a thread does (a file, a name), or a write. */
bool ld_guest_has_requests(const struct ld_guest *guest);

/* How many handles are open on it. */
size_t ld_guest_count(const struct ld_guest *guest);

/* Call EACH for every kind of open handle ("tcp", "timer") with how many there are. */
void ld_guest_count_kinds(const struct ld_guest *guest,
                          void (*each)(void *arg, const char *kind, size_t count), void *arg);

/* Whether so many handles are active on it that it is not to be searched in each turn of the loop. */
bool ld_guest_is_large(const struct ld_guest *guest);

/* Whether a stream on it is connected. */
bool ld_guest_is_connected(const struct ld_guest *guest);

/* Add "connection with ADDRESS" for each, the number of those past a limit, with ", " between, also after
 * earlier text. */
struct ld_text;
void ld_guest_name_connected(const struct ld_guest *guest, struct ld_text *text);

/* Whether a stream on it has the descriptor FD. */
bool ld_guest_has_fd(const struct ld_guest *guest, int fd);

/* Which handle, of all loops, has the descriptor FD, or whether a loop itself has it. */
enum ld_guest_fd {
    LD_GUEST_FD_NONE,
    LD_GUEST_FD_OWN,   /* a handle on GUEST that would close it */
    LD_GUEST_FD_OTHER, /* a handle on another guest */
    LD_GUEST_FD_HOST,  /* a handle on the host's loop, or a loop */
};
enum ld_guest_fd ld_guest_find_fd(const struct ld_guest *guest, int fd);

/* The loop of the guest on which a stream has the descriptor FD; NULL for none. */
uv_loop_t *ld_guest_loop_of_fd(int fd);

/* Whether SET is the epoll set of the guest whose loop is running now. */
bool ld_guest_is_running(int set);

/* Close all streams on it that listen; or everything. No callback of the library is called. */
void ld_guest_close_listeners(struct ld_guest *guest);
void ld_guest_close_handles(struct ld_guest *guest);

/* Call ENDED(ARG) from the host's loop as soon as nothing is alive on it. */
void ld_guest_on_end(struct ld_guest *guest, void (*ended)(void *arg), void *arg);

/* Close a guest whose library is closed; the host's loop must turn once to free it. Handles that
 * the library left open are closed. */
void ld_guest_close(struct ld_guest *guest);

/* In a copy of the process: replace the descriptors that both processes have by copies of BLANK,
 * and restore the default of signals that a library caught. Async-signal-safe. */
void ld_guest_give_up_all(int blank);

/* Whether PID is a child of a library on any guest, which reaps it itself. */
bool ld_guest_has_child(pid_t pid);

#endif

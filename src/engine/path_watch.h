/* Watches what some paths lead to, by inotify: a file that is written, replaced, removed or made, also where a
 * directory or a link on the way to it is. Other files in the same directories wake nothing, but when they are
 * made, removed or renamed. */
#ifndef LD_ENGINE_PATH_WATCH_H
#define LD_ENGINE_PATH_WATCH_H

#include <stddef.h>
#include <uv.h>

struct ld_path_watch;

/* Make a watch of no paths; CHANGED is called with ARG, in the loop, after something of them may have changed. 0
 * or a negative errno. */
int ld_path_watch_open(struct ld_path_watch **out, uv_loop_t *loop, void (*changed)(void *arg),
                       void *arg);

/* Close it: CHANGED is not called again, and the loop frees it. */
void ld_path_watch_close(struct ld_path_watch *watch);

/* Forget all paths; add one, which is absolute (0 or -ENOMEM). Neither has an effect before an update. */
void ld_path_watch_clear(struct ld_path_watch *watch);
int ld_path_watch_add(struct ld_path_watch *watch, const char *path);

/* Begin to watch the paths that were added since the last update; or all of them, as they are now, and nothing
 * else, after they were cleared. 0, or the first error of what cannot be watched, a negative errno
 * (-ENOSPC: the user has no more watches, -ENOMEM), with its path in *WHERE, which lives until the next
 * update; the rest is watched all the same. */
int ld_path_watch_update(struct ld_path_watch *watch, const char **where);

/* How many watches of the kernel it has. */
size_t ld_path_watch_count(const struct ld_path_watch *watch);

#endif

/* Changes of the real-time clock: it was set, the machine was asleep, or the system's time zone has
 * changed. */
#ifndef LD_ENGINE_WALL_CLOCK_H
#define LD_ENGINE_WALL_CLOCK_H

#include <stdint.h>
#include <uv.h>

struct ld_wall_clock;

/* Call CHANGED(ARG) from LOOP after each change, sometimes without one. 0 or a negative errno.
 * Without inotify, a change of the zone is not noticed. */
int ld_wall_clock_open(struct ld_wall_clock **out, uv_loop_t *loop, void (*changed)(void *arg),
                       void *arg);

/* Stop watching; the loop must turn once to free it. */
void ld_wall_clock_close(struct ld_wall_clock *clock);

/* Call all of them, because ld_clock_real was set or released. */
void ld_wall_clock_note_set(void);

#endif

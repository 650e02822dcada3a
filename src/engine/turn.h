/* The time that callbacks of one kind may take in one turn of the loop. What takes longer goes on in
 * the next turn, so that signals, requests and I/O are served between. One callback is never cut. */
#ifndef LD_ENGINE_TURN_H
#define LD_ENGINE_TURN_H

#include <stdint.h>

#define LD_TURN_NS 2000000 /* far more than a turn of the loop costs, and soon for a person */

/* The time of uv_hrtime at the last tick of the kernel, up to 10 ms ago: cheap enough to be read after
 * each callback. */
uint64_t ld_turn_now(void);

#endif

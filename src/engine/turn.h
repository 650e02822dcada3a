/* The time that callbacks of one kind may take in one turn of the loop. What takes longer
 * continues in the next turn, so that signals, requests and I/O are served between. One callback
 * is never cut. ld_time_coarse is cheap enough to be asked after every callback. */
#ifndef LD_ENGINE_TURN_H
#define LD_ENGINE_TURN_H

#define LD_TURN_NS 2000000 /* far more than a turn of the loop costs, and soon for a person */

#endif

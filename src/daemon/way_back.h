/* The way back of an upgrade: until the script is ready in the new program, whatever ends this process brings the
 * old one back, which is executed again, with the same paper. One a process. */
#ifndef LD_DAEMON_WAY_BACK_H
#define LD_DAEMON_WAY_BACK_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/handover.h"

/* Open the way: from now on a crash, an exit, or SECONDS that pass bring back the old program of HANDOVER. If nothing
 * could, it is brought back now. A negative errno if that fails too. */
int ld_way_back_open(const struct ld_handover *handover, double seconds);

/* Let SECONDS pass from now on before it is brought back. */
void ld_way_back_wait(double seconds);

/* Bring the old program back, for the reason WHY. Returns if the way is not open, or if that fails. A signal
 * handler may call this, on any thread. */
void ld_way_back_go(const char *why);

/* Do that in the handler of a crash; returns likewise. */
void ld_way_back_on_crash(int signo);

/* Close it: there is none from now on. */
void ld_way_back_close(void);

/* Whether it is open. */
bool ld_way_back_is_open(void);

#endif

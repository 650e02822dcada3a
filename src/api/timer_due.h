/* What happens when timers are due. */
#ifndef LD_API_TIMER_DUE_H
#define LD_API_TIMER_DUE_H

#include "engine/timers.h"

/* Call what the timers that are due call, and wake those tasks that slept. SCRIPT is a struct ld_script. */
void ld_api_timer_due(void *script, struct ld_timers *timers);

#endif

/* Signals that scripts handle. */
#ifndef LD_API_SIGNAL_H
#define LD_API_SIGNAL_H

#include "script/script.h"

/* Deliver a signal to the script's own handlers; false if it has none. */
bool ld_api_signal_deliver(struct ld_script *script, int signo);

#endif

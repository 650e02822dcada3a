/* The options of lunad.listen. */
#ifndef LD_API_LISTEN_H
#define LD_API_LISTEN_H

#include "script/luax.h"

/* The rows of the options; the last has no name. */
extern const struct lx_row ld_api_listen_rows[];

#endif

/* The files of lua/lunad, which are in the binary. embedded.c is made when lunad is built. */
#ifndef LD_API_EMBEDDED_H
#define LD_API_EMBEDDED_H

#include <stddef.h>

struct ld_embedded {
    const char *name; /* "init.lua"; NULL after the last */
    const char *text;
    size_t size;
};

extern const struct ld_embedded ld_embedded[];

#endif

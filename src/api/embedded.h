/* The files of lua/lunad, which are in the binary. embedded.c is made when lunad is built. */
#ifndef LD_API_EMBEDDED_H
#define LD_API_EMBEDDED_H

#include <stddef.h>

struct ld_embedded {
    const char *name; /* "init.lua"; NULL after the last */
    const char *text;
    size_t size;
    const char *code; /* compiled, by the liblua of the build, if it is Lua that runs in services */
    size_t code_size; /* 0: there is none */
};

extern const struct ld_embedded ld_embedded[];

#endif

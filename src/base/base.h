/* What every file may use: counts, containers, and the one way to say "cannot happen". */
#ifndef LD_BASE_BASE_H
#define LD_BASE_BASE_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define LD_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define LD_CONTAINER_OF(pointer, type, member)                                                     \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Abort with a message if COND is false. Only for what no input and no failing system call can
 * cause. */
#define LD_ASSERT(cond)                                                                            \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "lunad: bug: %s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define LD_PRINTF(string, first) __attribute__((format(printf, string, first)))

#endif

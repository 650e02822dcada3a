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
            ld_base_abort(&(const struct ld_bug){__FILE__, #cond, __LINE__});                      \
        }                                                                                          \
    } while (0)

/* What was false, and where. */
struct ld_bug {
    const char *file;
    const char *condition;
    int line;
};

/* Print a bug on stderr, and abort. */
_Noreturn void ld_base_abort(const struct ld_bug *bug);

/* The bug that this process aborts for, or NULL. A signal handler may ask. */
const struct ld_bug *ld_base_bug(void);

#define LD_PRINTF(string, first) __attribute__((format(printf, string, first)))

#endif

#include "famine.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static bool on;
static long spared;
static long length;
static long refused;

/* The C library's functions, and their replacements. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
char *__real_strdup(const char *string);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
char *__wrap_strdup(const char *string);
FILE *__real_fdopen(int fd, const char *mode);
FILE *__wrap_fdopen(int fd, const char *mode);

/* Whether the next allocation is refused. */
static bool is_refused(void) {
    if (!on || spared-- > 0 || length == 0) {
        return false;
    }
    length--;
    refused++;
    return true;
}

/* Replace malloc. */
void *__wrap_malloc(size_t size) {
    return is_refused() ? NULL : __real_malloc(size);
}

/* Replace calloc. */
void *__wrap_calloc(size_t count, size_t size) {
    return is_refused() ? NULL : __real_calloc(count, size);
}

/* Replace realloc; shrinking may fail like anything else. */
void *__wrap_realloc(void *block, size_t size) {
    return is_refused() ? NULL : __real_realloc(block, size);
}

/* Replace strdup. */
char *__wrap_strdup(const char *string) {
    return is_refused() ? NULL : __real_strdup(string);
}

/* Replace fdopen, which allocates too. */
FILE *__wrap_fdopen(int fd, const char *mode) {
    if (is_refused()) {
        errno = ENOMEM;
        return NULL;
    }
    return __real_fdopen(fd, mode);
}

/* Make the allocations of jansson fail too. */
void famine_init(void) {
    json_set_alloc_funcs(__wrap_malloc, free);
}

/* Begin a famine. */
void famine_begin(long grant, long refuse) {
    on = true;
    spared = grant;
    length = refuse;
    refused = 0;
}

/* End it. */
long famine_end(void) {
    on = false;
    return refused;
}

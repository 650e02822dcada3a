/* A flame graph as SVG, of stacks like "a;b;c" and how often each was seen. It needs nothing else: a browser
 * that opens it can enlarge a frame, and search. */
#ifndef LD_CLI_FLAME_H
#define LD_CLI_FLAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

struct ld_flame;

/* Make an empty one; NULL without memory. */
struct ld_flame *ld_flame_new(void);
void ld_flame_free(struct ld_flame *flame);

/* Add a stack. Without memory, a part of it is left out. */
void ld_flame_add(struct ld_flame *flame, const char *stack, size_t size, uint64_t count);

/* Write it; all of its texts may be anything. TITLE stands above it. */
void ld_flame_write(struct ld_flame *flame, const char *title, struct ld_text *svg);

#endif

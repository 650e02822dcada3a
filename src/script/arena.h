/* The memory of one Lua state: blocks up to 32 KiB in spans of one size each, without a header, since Lua says the size of
 * what it frees; large ones from the C library. What a state had goes back to the kernel when it is closed, and what is empty
 * for long before that. One thread only. Where a sanitizer is to see each block, all are the C library's. */
#ifndef LD_SCRIPT_ARENA_H
#define LD_SCRIPT_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#define LD_ARENA_CLASSES                                                                           \
    65 /* of small blocks: multiples of 16 bytes up to 1 KiB; more than of others */
#define LD_ARENA_LARGEST ((size_t)32 * 1024) /* bytes of a block that is in a span */

struct ld_arena_region;
struct ld_arena_span;

/* Spans for small blocks, or for others. */
struct ld_arena_pool {
    struct ld_arena_span *spans[LD_ARENA_CLASSES]; /* with free blocks, the first is taken from */
    struct ld_arena_span *empty;                   /* that have no block, and no class */
    size_t empty_count;
    char *fresh; /* memory for spans that was never used */
    char *fresh_end;
};

struct ld_arena {
    struct ld_arena_pool small;
    struct ld_arena_pool medium;
    struct ld_arena_region *regions;
    bool is_dropping;
};

/* Make an empty arena. */
void ld_arena_init(struct ld_arena *arena);

/* Allocate, change, or free (NEW_SIZE 0) a block as a lua_Alloc does. A block that shrinks may need new memory. */
void *ld_arena_allocate(struct ld_arena *arena, void *block, size_t old_size, size_t new_size);

/* From now on blocks in spans are freed by ld_arena_free_region alone. */
void ld_arena_drop(struct ld_arena *arena);

/* Free a region, with all blocks in it; false if there was none left. */
bool ld_arena_free_region(struct ld_arena *arena);

#endif

#include "script/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GRAIN       16
#define PAGE        4096
#define REGION      ((size_t)1024 * 1024)
#define SMALL_SPAN  ((size_t)16 * 1024)
#define MEDIUM_SPAN ((size_t)256 * 1024)
#define SMALL       ((size_t)(LD_ARENA_CLASSES - 1) * GRAIN)
#define STEPS       8 /* classes of medium blocks from one power of two to the next */
#define KEPT_MOST   ((size_t)256 * 1024) /* bytes of empty spans that keep their memory */

/* A free block. */
struct block {
    struct block *next;
};

/* Memory of the kernel. The note of it is the beginning of its first span. */
struct ld_arena_region {
    struct ld_arena_region *next;
    uintptr_t padding; /* so that blocks are aligned */
};

/* A span: room for the note of a region, this, and blocks of one size. */
struct ld_arena_span {
    struct block *free;
    uint32_t used;
    uint32_t size; /* of a block */
    uint32_t class;
    char *unused; /* blocks from here on have never been handed out */
    char *end;
    struct ld_arena_span *next; /* of its class that has free blocks, or of the empty ones */
    struct ld_arena_span *previous;
    bool is_listed;
};

static struct ld_arena_span none; /* ends each list of a class: it has nothing to give */

/* Make an empty arena. */
void ld_arena_init(struct ld_arena *arena) {
    *arena = (struct ld_arena){0};
    for (size_t i = 0; i < LD_ARENA_CLASSES; i++) {
        arena->small.spans[i] = &none;
        arena->medium.spans[i] = &none;
    }
}

/* The size of the spans of a pool. */
static inline size_t span_size(const struct ld_arena *arena, const struct ld_arena_pool *pool) {
    return pool == &arena->small ? SMALL_SPAN : MEDIUM_SPAN;
}

/* Map a region, at a multiple of the size of a span. */
static bool add_region(struct ld_arena *arena, struct ld_arena_pool *pool) {
    size_t size = span_size(arena, pool);
    char *memory =
        mmap(NULL, REGION + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    size_t skipped = (size - (uintptr_t)memory % size) % size;
    if (skipped > 0) {
        munmap(memory, skipped);
    }
    memory += skipped;
    munmap(memory + REGION, size - skipped);
    struct ld_arena_region *region = (struct ld_arena_region *)(void *)memory;
    region->next = arena->regions;
    arena->regions = region;
    pool->fresh = memory;
    pool->fresh_end = memory + REGION;
    return true;
}

/* Free a region. */
bool ld_arena_free_region(struct ld_arena *arena) {
    struct ld_arena_region *region = arena->regions;
    if (region == NULL) {
        return false;
    }
    arena->regions = region->next;
    munmap(region, REGION);
    return true;
}

/* Free no block in a span by itself any more. */
void ld_arena_drop(struct ld_arena *arena) {
    arena->is_dropping = true;
}

/* The span of SIZE that a block is in. */
static inline struct ld_arena_span *span_of(const void *block, size_t size) {
    char *base = (char *)block - (uintptr_t)block % size;
    return (struct ld_arena_span *)(void *)(base + sizeof(struct ld_arena_region));
}

/* The beginning of the memory of a span. */
static char *base_of(struct ld_arena_span *span) {
    return (char *)span - sizeof(struct ld_arena_region);
}

/* Take a span that has no class; NULL when memory ran out. */
static struct ld_arena_span *take_span(struct ld_arena *arena, struct ld_arena_pool *pool) {
    struct ld_arena_span *span = pool->empty;
    if (span != NULL) {
        pool->empty = span->next;
        pool->empty_count--;
        return span;
    }
    if (pool->fresh == pool->fresh_end && !add_region(arena, pool)) {
        return NULL;
    }
    span = span_of(pool->fresh, span_size(arena, pool));
    pool->fresh += span_size(arena, pool);
    return span;
}

/* The class of a small block. */
static inline size_t find_small_class(size_t size) {
    return (size + GRAIN - 1) / GRAIN;
}

/* The class of a medium block, and the size of the blocks of that. */
static size_t find_medium_class(size_t size, size_t *block_size) {
    size_t power = SMALL;
    size_t class = 0;
    while (size > 2 * power) {
        power *= 2;
        class += STEPS;
    }
    size_t step = (size - 1 - power) / (power / STEPS);
    *block_size = power + (step + 1) * (power / STEPS);
    return class + step;
}

/* Give a span a class of blocks of SIZE, and make it the first of that; NULL when memory ran out. */
static struct ld_arena_span *add_span(struct ld_arena *arena, struct ld_arena_pool *pool,
                                      size_t class, size_t size) {
    struct ld_arena_span *span = take_span(arena, pool);
    if (span == NULL) {
        return NULL;
    }
    size_t head = (sizeof(struct ld_arena_region) + sizeof *span + GRAIN - 1) / GRAIN * GRAIN;
    *span = (struct ld_arena_span){.size = (uint32_t)size,
                                   .class = (uint32_t) class,
                                   .unused = base_of(span) + head,
                                   .end = base_of(span) + span_size(arena, pool),
                                   .next = &none,
                                   .is_listed = true};
    pool->spans[class] = span;
    return span;
}

/* Free blocks that were never handed out, those of a page: memory is touched as it is needed. */
static void carve(struct ld_arena_span *span) {
    char *stop = span->unused - (uintptr_t)span->unused % PAGE + PAGE;
    struct block **last = &span->free;
    do {
        struct block *block = (struct block *)(void *)span->unused;
        *last = block;
        last = &block->next;
        span->unused += span->size;
    } while (span->unused + span->size <= span->end && span->unused < stop);
    *last = NULL;
}

/* Take a block of SIZE where the first span has none: take full spans off the list, and add one if none is left. */
static __attribute__((noinline)) void *
take_slowly(struct ld_arena *arena, struct ld_arena_pool *pool, size_t class, size_t size) {
    struct ld_arena_span *span = pool->spans[class];
    while (span != &none && span->free == NULL && span->unused + span->size > span->end) {
        span->is_listed = false;
        span = span->next;
        span->previous = NULL;
        pool->spans[class] = span;
    }
    if (span == &none) {
        span = add_span(arena, pool, class, size);
    }
    if (span == NULL) {
        return NULL;
    }
    if (span->free == NULL) {
        carve(span);
    }
    struct block *block = span->free;
    span->free = block->next;
    span->used++;
    return block;
}

/* Take a small block; NULL when memory ran out. */
static inline void *take_small(struct ld_arena *arena, size_t size) {
    size_t class = find_small_class(size);
    struct ld_arena_span *span = arena->small.spans[class];
    struct block *block = span->free;
    if (block == NULL) {
        return take_slowly(arena, &arena->small, class, class * GRAIN);
    }
    span->free = block->next;
    span->used++;
    return block;
}

/* Take a block; NULL when memory ran out. */
static void *take(struct ld_arena *arena, size_t size) {
    if (size <= SMALL) {
        return take_small(arena, size);
    }
    if (size > LD_ARENA_LARGEST) {
        return malloc(size);
    }
    size_t block_size;
    size_t class = find_medium_class(size, &block_size);
    return take_slowly(arena, &arena->medium, class, block_size);
}

/* Put a span that was full on the list of its class, after the first. */
static void list(struct ld_arena_pool *pool, struct ld_arena_span *span) {
    struct ld_arena_span *first = pool->spans[span->class];
    span->is_listed = true;
    if (first == &none) {
        span->next = &none;
        span->previous = NULL;
        pool->spans[span->class] = span;
        return;
    }
    span->next = first->next;
    span->previous = first;
    span->next->previous = span;
    first->next = span;
}

/* Take a span without blocks from its class. Many of them give their memory back, but for their first page. */
static void retire(struct ld_arena_pool *pool, struct ld_arena_span *span) {
    size_t size = (size_t)(span->end - base_of(span));
    span->previous->next = span->next;
    span->next->previous = span->previous;
    if (pool->empty_count * size >= KEPT_MOST) {
        madvise(base_of(span) + PAGE, size - PAGE, MADV_DONTNEED);
    }
    span->next = pool->empty;
    pool->empty = span;
    pool->empty_count++;
}

/* Handle that a span was full, or has become empty. The first of a class stays. */
static __attribute__((noinline)) void note_free(struct ld_arena_pool *pool,
                                                struct ld_arena_span *span) {
    if (!span->is_listed) {
        list(pool, span);
    }
    if (span->used == 0 && pool->spans[span->class] != span) {
        retire(pool, span);
    }
}

/* Free a block that is in a span. */
static inline void give(struct ld_arena_pool *pool, struct ld_arena_span *span, void *memory) {
    struct block *block = memory;
    block->next = span->free;
    span->free = block;
    span->used--;
    if (span->used == 0 || !span->is_listed) {
        note_free(pool, span);
    }
}

/* Free a block. */
static inline void release(struct ld_arena *arena, void *block, size_t size) {
    if (size > LD_ARENA_LARGEST) {
        free(block);
    } else if (arena->is_dropping) {
        return;
    } else if (size <= SMALL) {
        give(&arena->small, span_of(block, SMALL_SPAN), block);
    } else {
        give(&arena->medium, span_of(block, MEDIUM_SPAN), block);
    }
}

/* Whether two sizes are of one kind of block: small, medium or large. */
static bool is_same_kind(size_t a, size_t b) {
    return (a <= SMALL) == (b <= SMALL) && (a <= LD_ARENA_LARGEST) == (b <= LD_ARENA_LARGEST);
}

/* Whether a block in a span is right for two sizes of its kind. */
static bool is_same_class(size_t a, size_t b) {
    size_t block_size;
    return a <= SMALL ? find_small_class(a) == find_small_class(b)
                      : find_medium_class(a, &block_size) == find_medium_class(b, &block_size);
}

/* Move a block to one of another kind or class. */
static void *move(struct ld_arena *arena, void *block, size_t old_size, size_t new_size) {
    void *moved = take(arena, new_size);
    if (moved == NULL) {
        bool can_stay = new_size < old_size && is_same_kind(old_size, new_size);
        return can_stay ? block : NULL; /* it stays in its span, which knows its class */
    }
    memcpy(moved, block, old_size < new_size ? old_size : new_size);
    release(arena, block, old_size);
    return moved;
}

/* Allocate, change or free a block of one state. */
static void *allocate(struct ld_arena *arena, void *block, size_t old_size, size_t new_size) {
    if (block == NULL) {
        return new_size > 0 ? take(arena, new_size) : NULL;
    }
    if (new_size == 0) {
        release(arena, block, old_size);
        return NULL;
    }
    if (old_size > LD_ARENA_LARGEST && new_size > LD_ARENA_LARGEST) {
        return realloc(block, new_size);
    }
    bool fits = is_same_kind(old_size, new_size) && is_same_class(old_size, new_size);
    return fits ? block : move(arena, block, old_size, new_size);
}

/* Allocate, change or free a block. */
void *ld_arena_allocate(struct ld_arena *arena, void *block, size_t old_size, size_t new_size) {
#if defined(__SANITIZE_ADDRESS__)
    (void)allocate;
    (void)arena;
    (void)old_size;
    if (new_size == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, new_size);
#else
    return allocate(arena, block, old_size, new_size);
#endif
}

#include "script/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GRAIN     16
#define PAGE      4096
#define SPAN      ((size_t)16 * 1024)
#define REGION    ((size_t)1024 * 1024)
#define LARGEST   ((size_t)(LD_ARENA_CLASSES - 1) * GRAIN)
#define KEPT_MOST 16 /* empty spans that keep their memory */

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
    char *unused;  /* blocks from here on have never been handed out */
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
        arena->spans[i] = &none;
    }
}

/* Map a region, at a multiple of the size of a span. */
static bool add_region(struct ld_arena *arena) {
    char *memory =
        mmap(NULL, REGION + SPAN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    size_t skipped = (SPAN - (uintptr_t)memory % SPAN) % SPAN;
    if (skipped > 0) {
        munmap(memory, skipped);
    }
    memory += skipped;
    munmap(memory + REGION, SPAN - skipped);
    struct ld_arena_region *region = (struct ld_arena_region *)(void *)memory;
    region->next = arena->regions;
    arena->regions = region;
    arena->fresh = memory;
    arena->fresh_end = memory + REGION;
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

/* Free no small block by itself any more. */
void ld_arena_drop(struct ld_arena *arena) {
    arena->is_dropping = true;
}

/* The memory that a block or the head of its span is in. */
static char *base_of(const void *address) {
    return (char *)address - (uintptr_t)address % SPAN;
}

/* The span of a block. */
static struct ld_arena_span *span_of(const void *block) {
    return (struct ld_arena_span *)(void *)(base_of(block) + sizeof(struct ld_arena_region));
}

/* Take a span that has no class; NULL when memory ran out. */
static struct ld_arena_span *take_span(struct ld_arena *arena) {
    struct ld_arena_span *span = arena->empty;
    if (span != NULL) {
        arena->empty = span->next;
        arena->empty_count--;
        return span;
    }
    if (arena->fresh == arena->fresh_end && !add_region(arena)) {
        return NULL;
    }
    span = span_of(arena->fresh);
    arena->fresh += SPAN;
    return span;
}

/* Give a span a class, and make it the first of that; NULL when memory ran out. */
static struct ld_arena_span *add_span(struct ld_arena *arena, size_t class) {
    struct ld_arena_span *span = take_span(arena);
    if (span == NULL) {
        return NULL;
    }
    size_t head = (sizeof(struct ld_arena_region) + sizeof *span + GRAIN - 1) / GRAIN * GRAIN;
    *span = (struct ld_arena_span){.size = (uint32_t)(class * GRAIN),
                                   .unused = base_of(span) + head,
                                   .end = base_of(span) + SPAN,
                                   .next = &none,
                                   .is_listed = true};
    arena->spans[class] = span;
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

/* Take a block where the first span has none: take full spans off the list, and add one if none is left. */
static __attribute__((noinline)) void *take_slowly(struct ld_arena *arena, size_t class) {
    struct ld_arena_span *span = arena->spans[class];
    while (span != &none && span->free == NULL && span->unused + span->size > span->end) {
        span->is_listed = false;
        span = span->next;
        span->previous = NULL;
        arena->spans[class] = span;
    }
    if (span == &none) {
        span = add_span(arena, class);
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
static inline void *take(struct ld_arena *arena, size_t size) {
    size_t class = (size + GRAIN - 1) / GRAIN;
    struct ld_arena_span *span = arena->spans[class];
    struct block *block = span->free;
    if (block == NULL) {
        return take_slowly(arena, class);
    }
    span->free = block->next;
    span->used++;
    return block;
}

/* Put a span that was full on the list of its class, after the first. */
static void list(struct ld_arena *arena, struct ld_arena_span *span) {
    struct ld_arena_span *first = arena->spans[span->size / GRAIN];
    span->is_listed = true;
    if (first == &none) {
        span->next = &none;
        span->previous = NULL;
        arena->spans[span->size / GRAIN] = span;
        return;
    }
    span->next = first->next;
    span->previous = first;
    span->next->previous = span;
    first->next = span;
}

/* Take a span without blocks from its class. Many of them give their memory back, but for their first page. */
static void retire(struct ld_arena *arena, struct ld_arena_span *span) {
    span->previous->next = span->next;
    span->next->previous = span->previous;
    if (arena->empty_count >= KEPT_MOST) {
        madvise(base_of(span) + PAGE, SPAN - PAGE, MADV_DONTNEED);
    }
    span->next = arena->empty;
    arena->empty = span;
    arena->empty_count++;
}

/* Handle that a span was full, or has become empty. The first of a class stays. */
static __attribute__((noinline)) void note_free(struct ld_arena *arena,
                                                struct ld_arena_span *span) {
    if (!span->is_listed) {
        list(arena, span);
    }
    if (span->used == 0 && arena->spans[span->size / GRAIN] != span) {
        retire(arena, span);
    }
}

/* Free a small block. */
static inline void release(struct ld_arena *arena, void *memory) {
    struct block *block = memory;
    struct ld_arena_span *span = span_of(block);
    if (arena->is_dropping) {
        return;
    }
    block->next = span->free;
    span->free = block;
    span->used--;
    if (span->used == 0 || !span->is_listed) {
        note_free(arena, span);
    }
}

/* Move a block to one of another kind or class. */
static void *move(struct ld_arena *arena, void *block, size_t old_size, size_t new_size) {
    bool was_small = old_size <= LARGEST;
    void *moved = new_size <= LARGEST ? take(arena, new_size) : malloc(new_size);
    if (moved == NULL) {
        return was_small && new_size < old_size ? block : NULL; /* it stays in its span */
    }
    memcpy(moved, block, old_size < new_size ? old_size : new_size);
    if (was_small) {
        release(arena, block);
    } else {
        free(block);
    }
    return moved;
}

/* Allocate, change or free a block of one state. */
static void *allocate(struct ld_arena *arena, void *block, size_t old_size, size_t new_size) {
    if (block == NULL) {
        return new_size == 0         ? NULL
               : new_size <= LARGEST ? take(arena, new_size)
                                     : malloc(new_size);
    }
    if (new_size == 0) {
        if (old_size <= LARGEST) {
            release(arena, block);
        } else {
            free(block);
        }
        return NULL;
    }
    if (old_size > LARGEST && new_size > LARGEST) {
        return realloc(block, new_size);
    }
    bool fits =
        old_size <= LARGEST && (old_size + GRAIN - 1) / GRAIN == (new_size + GRAIN - 1) / GRAIN;
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

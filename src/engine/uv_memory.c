#include "engine/uv_memory.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/base.h"

#define BLOCK_SIZE ((size_t)128 * 1024) /* for 16,000 descriptors */
#define BLOCKS     8                    /* a loop has one at most: the host's, and those of luv */

/* Memory that costs nothing until it is written to. Threads of libuv use this too. */
static struct {
    _Alignas(max_align_t) char bytes[BLOCKS][BLOCK_SIZE];
    atomic_bool is_taken[BLOCKS];
} spare;

/* Which spare block is at an address; -1: none. */
static int block_at(const void *memory) {
    uintptr_t offset = (uintptr_t)memory - (uintptr_t)spare.bytes;
    return offset < sizeof spare.bytes ? (int)(offset / BLOCK_SIZE) : -1;
}

/* Take a spare block of at least SIZE; NULL if there is none. */
static void *take_block(size_t size) {
    for (size_t i = 0; i < BLOCKS && size <= BLOCK_SIZE; i++) {
        if (!atomic_exchange(&spare.is_taken[i], true)) {
            return spare.bytes[i];
        }
    }
    return NULL;
}

/* Free memory of either kind. */
static void release(void *memory) {
    int block = block_at(memory);
    if (block >= 0) {
        atomic_store(&spare.is_taken[block], false);
    } else {
        free(memory);
    }
}

/* Give a spare block another size: it goes back to the C library's memory if there is any. */
static void *move_block(void *block, size_t size) {
    void *moved = malloc(size);
    if (moved == NULL) {
        return size <= BLOCK_SIZE ? block : NULL;
    }
    memcpy(moved, block, size < BLOCK_SIZE ? size : BLOCK_SIZE);
    release(block);
    return moved;
}

/* Change the size of memory. */
static void *resize(void *memory, size_t size) {
    if (memory != NULL && block_at(memory) >= 0) {
        return move_block(memory, size);
    }
    size_t old_size = malloc_usable_size(memory);
    void *resized = realloc(memory, size);
    if (resized != NULL || size == 0) {
        return resized;
    }
    void *block = take_block(size);
    if (block != NULL && memory != NULL) {
        memcpy(block, memory, old_size < size ? old_size : size);
        free(memory);
    }
    return block;
}

/* Have libuv allocate by this. */
void ld_uv_memory_install(void) {
    int rc = uv_replace_allocator(malloc, resize, calloc, release);
    LD_ASSERT(rc == 0);
}

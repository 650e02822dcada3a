#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "script/arena.h"
#include "support.h"

enum { BLOCKS = 20000, LARGEST = 40000 };

static struct ld_arena arena;

/* A block, which is filled with a byte of its own. */
static struct {
    unsigned char *bytes;
    size_t size;
} blocks[BLOCKS];

/* Check that a block is as it was filled, in its first SIZE bytes. */
static void check_block(size_t i, size_t size) {
    for (size_t k = 0; k < size; k++) {
        if (blocks[i].bytes[k] != (unsigned char)i) {
            CHECK(false);
            return;
        }
    }
}

/* Give a block another size, and check what it keeps. */
static void resize(size_t i, size_t size) {
    size_t kept = size < blocks[i].size ? size : blocks[i].size;
    blocks[i].bytes = ld_arena_allocate(&arena, blocks[i].bytes, blocks[i].size, size);
    CHECK((blocks[i].bytes == NULL) == (size == 0));
    CHECK((uintptr_t)blocks[i].bytes % 16 == 0);
    blocks[i].size = size;
    check_block(i, kept);
    if (size > 0) {
        memset(blocks[i].bytes, (int)(unsigned char)i, size);
    }
}

/* A number, small ones more often. */
static size_t any_size(void) {
    size_t most = rand() % 4 > 0 ? 200 : rand() % 4 > 0 ? 3000 : LARGEST;
    return (size_t)rand() % most + 1;
}

static void test_blocks(void) {
    srand(1);
    memset(blocks, 0, sizeof blocks);
    ld_arena_init(&arena);
    for (int turn = 0; turn < 5; turn++) {
        for (size_t n = 0; n < BLOCKS; n++) {
            resize((size_t)rand() % BLOCKS, rand() % 3 == 0 ? 0 : any_size());
        }
        for (size_t i = 0; i < BLOCKS; i++) { /* all of some sizes: whole spans are emptied */
            check_block(i, blocks[i].size);
            if (blocks[i].size % 5 == (size_t)turn) {
                resize(i, 0);
            }
        }
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        resize(i, 0);
    }
    size_t before = arena.small.empty_count;
    for (size_t i = 0; i < BLOCKS; i++) { /* what was emptied is used again */
        resize(i, 64);
    }
    CHECK(before == 0 || arena.small.empty_count < before); /* 0: under a sanitizer */
    for (size_t i = 0; i < BLOCKS; i++) {
        resize(i, 0);
    }
    while (ld_arena_free_region(&arena)) {
    }
}

static void test_vectors(void) {
    memset(blocks, 0, sizeof blocks);
    ld_arena_init(&arena);
    for (size_t i = 0; i < 1000; i++) {
        resize(i, i % 2 == 0 ? 16384 : 1536);
    }
    for (size_t i = 0; i < 1000; i++) {
        resize(i, i < 10 ? 1537 : 0);
    }
    CHECK(arena.medium.empty_count > 10 || arena.regions == NULL); /* so under a sanitizer */
    for (size_t i = 0; i < 10; i++) {
        resize(i, 0);
    }
    while (ld_arena_free_region(&arena)) {
    }
}

static void test_drop(void) {
    memset(blocks, 0, sizeof blocks);
    ld_arena_init(&arena);
    for (size_t i = 0; i < BLOCKS; i++) {
        resize(i, i % LARGEST + 1);
    }
    ld_arena_drop(&arena);
    for (size_t i = 0; i < BLOCKS; i++) {
        check_block(i, blocks[i].size);
        resize(i, 0);
    }
    while (ld_arena_free_region(&arena)) {
    }
    CHECK(arena.regions == NULL);
}

static const struct check_case cases[] = {
    {"blocks of all sizes keep what is in them", test_blocks},
    {"spans of larger ones are emptied, and used for other sizes", test_vectors},
    {"regions are freed with what is in them", test_drop},
};

CHECK_MAIN(cases)

#include "base/grow.h"

#include <stdint.h>
#include <stdlib.h>

#include "check.h"

void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);

static bool out_of_memory;
static int calls;

/* Count the calls, and fail when asked to. */
void *__wrap_realloc(void *block, size_t size) {
    calls++;
    return out_of_memory ? NULL : __real_realloc(block, size);
}

static void test_one_at_a_time(void) {
    int *list = NULL;
    calls = 0;
    for (size_t count = 0; count < 1000; count++) {
        int *grown = ld_grow(list, count, sizeof *list);
        REQUIRE(grown != NULL);
        list = grown;
        list[count] = (int)count;
    }
    CHECK_INT(9, calls); /* 4, 8, ... 1024 */
    for (size_t i = 0; i < 1000; i++) {
        CHECK_INT((int)i, list[i]);
    }
    free(list);
}

static void test_no_memory(void) {
    int *list = ld_grow(NULL, 0, sizeof *list);
    REQUIRE(list != NULL);
    list[0] = 1;
    out_of_memory = true;
    CHECK(ld_grow(list, 3, sizeof *list) == list); /* there is room */
    CHECK(ld_grow(list, 4, sizeof *list) == NULL);
    CHECK_INT(1, list[0]);
    out_of_memory = false;
    CHECK(ld_grow(list, SIZE_MAX / 2 + 1, sizeof *list) == NULL);
    free(list);
}

static void test_to_a_size(void) {
    size_t capacity = 0;
    int *list = ld_grow_to(NULL, &capacity, 1, sizeof *list);
    REQUIRE(list != NULL);
    CHECK_INT(64, capacity);
    CHECK(ld_grow_to(list, &capacity, 64, sizeof *list) == list);
    int *grown = ld_grow_to(list, &capacity, 1000, sizeof *list);
    REQUIRE(grown != NULL);
    CHECK_INT(1024, capacity);
    out_of_memory = true;
    CHECK(ld_grow_to(grown, &capacity, 1025, sizeof *list) == NULL);
    out_of_memory = false;
    CHECK(ld_grow_to(grown, &capacity, SIZE_MAX, sizeof *list) == NULL);
    CHECK_INT(1024, capacity);
    free(grown);
}

static const struct check_case cases[] = {
    {"an array grows by one element at a time", test_one_at_a_time},
    {"without memory an array stays as it is", test_no_memory},
    {"an array grows to a given size", test_to_a_size},
};

CHECK_MAIN(cases)

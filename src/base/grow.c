#include "base/grow.h"

#include <stdint.h>
#include <stdlib.h>

#define SMALLEST       4
#define SMALLEST_BYTES 255

/* Make room for one more element: the array is full at every power of two. */
void *ld_grow(void *array, size_t count, size_t size) {
    size_t capacity = count < SMALLEST ? SMALLEST : count * 2;
    if (count != 0 && (count < SMALLEST || (count & (count - 1)) != 0)) {
        return array;
    }
    return count <= SIZE_MAX / 2 / size ? realloc(array, capacity * size) : NULL;
}

/* Make room for NEEDED elements, at least by doubling. */
void *ld_grow_to(void *array, size_t *capacity, size_t needed, size_t size) {
    size_t larger = *capacity > 0 ? *capacity : SMALLEST_BYTES / size + 1;
    if (needed <= *capacity) {
        return array;
    }
    while (larger < needed && larger <= SIZE_MAX / 2) {
        larger *= 2;
    }
    void *grown =
        larger >= needed && larger <= SIZE_MAX / size ? realloc(array, larger * size) : NULL;
    if (grown != NULL) {
        *capacity = larger;
    }
    return grown;
}

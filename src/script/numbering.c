/* A hash table with open addressing, at most half full. */
#include "script/numbering.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_SIZE 64

struct ld_numbering_slot {
    uintptr_t address; /* 0: free */
    uint64_t number;
};

/* Free it and make it empty. */
void ld_numbering_fini(struct ld_numbering *numbering) {
    free(numbering->slots);
    *numbering = (struct ld_numbering){0};
}

/* Find the slot of an address, or the free one where it belongs. */
static struct ld_numbering_slot *find(struct ld_numbering_slot *slots, size_t size,
                                      uintptr_t address) {
    /* The lowest bits are the same for all, and the highest of the product depend on every other one. */
    size_t place = ((uint64_t)(address >> 3) * 0x9E3779B97F4A7C15U >> 20) & (size - 1);
    while (slots[place].address != 0 && slots[place].address != address) {
        place = (place + 1) & (size - 1);
    }
    return &slots[place];
}

/* Double the room. 0 or -ENOMEM. */
static int grow(struct ld_numbering *numbering) {
    size_t size = numbering->size > 0 ? numbering->size * 2 : FIRST_SIZE;
    struct ld_numbering_slot *slots = calloc(size, sizeof *slots);
    if (slots == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < numbering->size; i++) {
        const struct ld_numbering_slot *slot = &numbering->slots[i];
        if (slot->address != 0) {
            *find(slots, size, slot->address) = *slot;
        }
    }
    free(numbering->slots);
    numbering->slots = slots;
    numbering->size = size;
    return 0;
}

/* Number an address. */
int64_t ld_numbering_meet(struct ld_numbering *numbering, const void *address) {
    if (numbering->count * 2 >= numbering->size && grow(numbering) < 0) {
        return -ENOMEM;
    }
    struct ld_numbering_slot *slot = find(numbering->slots, numbering->size, (uintptr_t)address);
    if (slot->address != 0) {
        return (int64_t)slot->number;
    }
    *slot = (struct ld_numbering_slot){(uintptr_t)address, ++numbering->count};
    return 0;
}

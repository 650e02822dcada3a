/* Numbers for objects, in the order in which they are met. */
#ifndef LD_SCRIPT_NUMBERING_H
#define LD_SCRIPT_NUMBERING_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed means empty; free with ld_numbering_fini. */
struct ld_numbering {
    struct ld_numbering_page *pages;
    size_t size; /* of pages: a power of two, or 0 */
    size_t page_count;
    uintptr_t last_address; /* of the page that was used last; 0: none */
    uint32_t *last_numbers;
    uint32_t count;
};

void ld_numbering_fini(struct ld_numbering *numbering);

/* The number of the object at ADDRESS, which is not in the first page of memory, and in a block of its own that malloc or an
 * arena has given: 1 or more if it was met before; 0 if not, and then it has the next number from now on, the new count.
 * -ENOMEM if memory ran out. The numbers take up to a quarter of the memory that the objects are in. */
int64_t ld_numbering_meet(struct ld_numbering *numbering, const void *address);

#endif

/* Numbers for addresses, in the order in which they are met. */
#ifndef LD_SCRIPT_NUMBERING_H
#define LD_SCRIPT_NUMBERING_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed means empty; free with ld_numbering_fini. */
struct ld_numbering {
    struct ld_numbering_slot *slots;
    size_t size; /* of slots: a power of two, or 0 */
    uint64_t count;
};

void ld_numbering_fini(struct ld_numbering *numbering);

/* The number of ADDRESS, which is not NULL: 1 or more if it was met before; 0 if not, and then it has the next
 * number from now on, the new count. -ENOMEM if there is no room for it. */
int64_t ld_numbering_meet(struct ld_numbering *numbering, const void *address);

#endif

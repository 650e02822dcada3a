/* Arrays that grow. */
#ifndef LD_BASE_GROW_H
#define LD_BASE_GROW_H

#include <stddef.h>

/* Make room for one more element in ARRAY, which has COUNT elements of SIZE bytes and was only ever
 * grown by this function (NULL at first): the array, perhaps at another address, to be freed by the
 * caller; or NULL if memory ran out, and then ARRAY is as it was. The capacity follows from COUNT, so
 * it need not be stored. */
void *ld_grow(void *array, size_t count, size_t size);

/* Make room for NEEDED elements in ARRAY, which has room for *CAPACITY (0 at first) and may be emptied
 * and filled again: the array and its new capacity, or NULL as above. */
void *ld_grow_to(void *array, size_t *capacity, size_t needed, size_t size);

#endif

/* Pages of numbers, for a page of memory each, in a hash table with open addressing, at most half full: objects that were
 * made one after the other lie beside each other, and so do their numbers. */
#include "script/numbering.h"

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>

#define FIRST_SIZE 64
#define PAGE       ((uintptr_t)4096)
#define GRAIN      ((uintptr_t)16) /* no two objects begin in the same one */

_Static_assert(alignof(max_align_t) % GRAIN == 0, "blocks of memory begin at multiples of 16");

struct ld_numbering_page {
    uintptr_t address; /* divided by the size of a page; 0: free */
    uint32_t *numbers; /* of its grains; 0: not met */
};

/* Free it and make it empty. */
void ld_numbering_fini(struct ld_numbering *numbering) {
    for (size_t i = 0; i < numbering->size; i++) {
        free(numbering->pages[i].numbers);
    }
    free(numbering->pages);
    *numbering = (struct ld_numbering){0};
}

/* Find a page, or the free place where it belongs. */
static struct ld_numbering_page *find(struct ld_numbering_page *pages, size_t size,
                                      uintptr_t address) {
    /* The highest bits of the product depend on every other one. */
    size_t place = ((uint64_t)address * 0x9E3779B97F4A7C15U >> 20) & (size - 1);
    while (pages[place].address != 0 && pages[place].address != address) {
        place = (place + 1) & (size - 1);
    }
    return &pages[place];
}

/* Double the room. 0 or -ENOMEM. */
static int grow(struct ld_numbering *numbering) {
    size_t size = numbering->size > 0 ? numbering->size * 2 : FIRST_SIZE;
    struct ld_numbering_page *pages = calloc(size, sizeof *pages);
    if (pages == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < numbering->size; i++) {
        const struct ld_numbering_page *page = &numbering->pages[i];
        if (page->address != 0) {
            *find(pages, size, page->address) = *page;
        }
    }
    free(numbering->pages);
    numbering->pages = pages;
    numbering->size = size;
    return 0;
}

/* The numbers of a page, which is added if it is not there; NULL if memory ran out. */
static uint32_t *take_page(struct ld_numbering *numbering, uintptr_t address) {
    if (numbering->page_count * 2 >= numbering->size && grow(numbering) < 0) {
        return NULL;
    }
    struct ld_numbering_page *page = find(numbering->pages, numbering->size, address);
    if (page->address == 0) {
        uint32_t *numbers = calloc(PAGE / GRAIN, sizeof *numbers);
        if (numbers == NULL) {
            return NULL;
        }
        *page = (struct ld_numbering_page){address, numbers};
        numbering->page_count++;
    }
    numbering->last_address = address;
    numbering->last_numbers = page->numbers;
    return page->numbers;
}

/* Number an address. */
int64_t ld_numbering_meet(struct ld_numbering *numbering, const void *address) {
    uintptr_t page = (uintptr_t)address / PAGE;
    uint32_t *numbers =
        page == numbering->last_address ? numbering->last_numbers : take_page(numbering, page);
    if (numbers == NULL || numbering->count == UINT32_MAX) {
        return -ENOMEM;
    }
    uint32_t *number = &numbers[(uintptr_t)address % PAGE / GRAIN];
    if (*number != 0) {
        return *number;
    }
    *number = ++numbering->count;
    return 0;
}

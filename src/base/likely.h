/* What was probably meant by a word that is not known: the name that is most like it. */
#ifndef LD_BASE_LIKELY_H
#define LD_BASE_LIKELY_H

#include <stdbool.h>
#include <stddef.h>

#define LD_LIKELY_MAX 32 /* no word or name that is as long is like another */

/* A search; zeroed but for the word. */
struct ld_likely {
    const char *word;
    bool prefixes;    /* a name that begins with the word is meant before all others */
    const char *best; /* the name that is most like it so far, or NULL; borrowed */
    size_t distance;  /* of that */
};

/* Try a NAME. Case is ignored; two letters may be missing, wrong or exchanged, in a word of up to three one. */
void ld_likely_try(struct ld_likely *likely, const char *name);

#endif

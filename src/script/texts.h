/* Texts that are kept once, however many want them: a new generation shares the unchanged files of the one
 * before it. */
#ifndef LD_SCRIPT_TEXTS_H
#define LD_SCRIPT_TEXTS_H

#include <stddef.h>
#include <stdint.h>

struct ld_texts;

struct ld_texts_item {
    const char *data;
    size_t size;
    uint64_t hash; /* ld_text_hash of it */
};

/* Make an empty set; NULL if memory ran out. It is freed after everything that was held is dropped. */
struct ld_texts *ld_texts_new(void);
void ld_texts_free(struct ld_texts *texts);

/* Hold the text BYTES, which are copied unless the set has them; NULL if memory ran out. To be dropped. */
struct ld_texts_item *ld_texts_hold(struct ld_texts *texts, const char *bytes, size_t size);

/* Hold once more what is held. */
struct ld_texts_item *ld_texts_hold_again(struct ld_texts_item *item);

void ld_texts_drop(struct ld_texts *texts, struct ld_texts_item *item);

/* How many different texts are held. */
size_t ld_texts_count(const struct ld_texts *texts);

#endif

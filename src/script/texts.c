#include "script/texts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/base.h"
#include "base/text.h"

#define BUCKETS 256

/* A text, which follows the struct. */
struct kept {
    struct ld_texts_item item;
    size_t holders;
    LIST_ENTRY(kept) link;
    char bytes[];
};

struct ld_texts {
    LIST_HEAD(, kept) buckets[BUCKETS];
    size_t count;
};

/* Make an empty set. */
struct ld_texts *ld_texts_new(void) {
    return calloc(1, sizeof(struct ld_texts));
}

/* Free a set that has nothing. */
void ld_texts_free(struct ld_texts *texts) {
    LD_ASSERT(texts->count == 0);
    free(texts);
}

/* Find the text that is kept of an item. */
static struct kept *kept_of(struct ld_texts_item *item) {
    return LD_CONTAINER_OF(item, struct kept, item);
}

/* Find a text; NULL if it is not kept. */
static struct kept *find(struct ld_texts *texts, const struct ld_texts_item *wanted) {
    struct kept *kept;
    LIST_FOREACH(kept, &texts->buckets[wanted->hash % BUCKETS], link) {
        if (kept->item.hash == wanted->hash && kept->item.size == wanted->size &&
            memcmp(kept->bytes, wanted->data, wanted->size) == 0) {
            return kept;
        }
    }
    return NULL;
}

/* Keep a copy of a text; NULL if memory ran out. */
static struct kept *keep(struct ld_texts *texts, const struct ld_texts_item *wanted) {
    struct kept *kept = malloc(sizeof *kept + wanted->size + 1);
    if (kept == NULL) {
        return NULL;
    }
    memcpy(kept->bytes, wanted->data, wanted->size);
    kept->bytes[wanted->size] = '\0';
    kept->item = *wanted;
    kept->item.data = kept->bytes;
    kept->holders = 0;
    LIST_INSERT_HEAD(&texts->buckets[wanted->hash % BUCKETS], kept, link);
    texts->count++;
    return kept;
}

/* Hold a text. */
struct ld_texts_item *ld_texts_hold(struct ld_texts *texts, const char *bytes, size_t size) {
    struct ld_texts_item wanted = {bytes, size, ld_text_hash(bytes, size)};
    struct kept *kept = find(texts, &wanted);
    kept = kept != NULL ? kept : keep(texts, &wanted);
    return kept != NULL ? ld_texts_hold_again(&kept->item) : NULL;
}

/* Hold a text once more. */
struct ld_texts_item *ld_texts_hold_again(struct ld_texts_item *item) {
    kept_of(item)->holders++;
    return item;
}

/* Drop a text. */
void ld_texts_drop(struct ld_texts *texts, struct ld_texts_item *item) {
    struct kept *kept = item != NULL ? kept_of(item) : NULL;
    if (kept != NULL && --kept->holders == 0) {
        LIST_REMOVE(kept, link);
        texts->count--;
        free(kept);
    }
}

/* Count the texts. */
size_t ld_texts_count(const struct ld_texts *texts) {
    return texts->count;
}

#include "api/groups.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

#define LISTS       1024
#define NAMED_MOST  1000 /* groups; then names are not told apart */
#define MOST        2000 /* groups */
#define REPORT_MOST 100
#define TAIL        24 /* bytes of a path that are hashed */

struct entry {
    struct ld_group group;
    struct entry *next; /* of its list */
    uint64_t hash;
    size_t number;           /* in the order in which they were made */
    struct ld_group_key key; /* whose texts are its own, and follow it */
};

struct ld_groups {
    struct entry *lists[LISTS];
    struct entry *last; /* that something was counted in */
    struct entry *all[MOST];
    size_t used;
    uint64_t others;
};

/* Make an empty set. */
struct ld_groups *ld_api_groups_new(void) {
    return calloc(1, sizeof(struct ld_groups));
}

/* Free a set. */
void ld_api_groups_free(struct ld_groups *groups) {
    for (size_t i = 0; groups != NULL && i < groups->used; i++) {
        free(groups->all[i]->group.shown);
        free(groups->all[i]);
    }
    free(groups);
}

/* Mix a text into a hash: the end of a path tells it from others. */
static uint64_t mix(uint64_t hash, const char *bytes, size_t size, int line) {
    size_t tail = size < TAIL ? size : TAIL;
    uint64_t own = bytes != NULL ? ld_text_hash(bytes + size - tail, tail) : 0;
    return (hash ^ own ^ (uint64_t)line) * 0x9E3779B97F4A7C15ULL;
}

/* Hash a key. */
static uint64_t hash_key(const struct ld_group_key *key) {
    uint64_t hash = mix((uintptr_t)key->kind, key->file, key->size, key->line);
    hash = mix(hash, key->name, key->name != NULL ? strlen(key->name) : 0, 0);
    return mix(hash, key->root, key->root_size, key->root_line);
}

/* Whether two texts are the same. */
static bool is_same(const char *one, size_t one_size, const char *other, size_t other_size) {
    return one_size == other_size && (one == NULL) == (other == NULL) &&
           (one == NULL || memcmp(one, other, one_size) == 0);
}

/* Whether two keys are the same. */
static bool equals(const struct ld_group_key *one, const struct ld_group_key *other) {
    bool has_name = one->name != NULL;
    return one->line == other->line && one->kind == other->kind &&
           one->root_line == other->root_line && has_name == (other->name != NULL) &&
           is_same(one->file, one->size, other->file, other->size) &&
           is_same(one->root, one->root_size, other->root, other->root_size) &&
           (!has_name || strcmp(one->name, other->name) == 0);
}

/* Copy a text to *AT, which is moved on, with a zero byte after it; NULL for NULL. */
static const char *copy(char **at, const char *bytes, size_t size) {
    char *to = *at;
    if (bytes == NULL) {
        return NULL;
    }
    memcpy(to, bytes, size);
    to[size] = '\0';
    *at += size + 1;
    return to;
}

/* Make the group of a key; NULL when memory ran out. */
static struct entry *make(struct ld_groups *groups, const struct ld_group_key *key, uint64_t hash) {
    size_t name_size = key->name != NULL ? strlen(key->name) : 0;
    struct entry *entry = calloc(1, sizeof *entry + key->size + key->root_size + name_size + 3);
    if (entry == NULL) {
        return NULL;
    }
    char *at = (char *)(entry + 1);
    entry->key = *key;
    entry->key.file = copy(&at, key->file, key->size);
    entry->key.name = copy(&at, key->name, name_size);
    entry->key.root = copy(&at, key->root, key->root_size);
    entry->hash = hash;
    entry->number = groups->used;
    entry->next = groups->lists[hash % LISTS];
    groups->lists[hash % LISTS] = entry;
    groups->all[groups->used++] = entry;
    return entry;
}

/* Find the group of a key; NULL if there is none. */
static struct entry *find(const struct ld_groups *groups, const struct ld_group_key *key,
                          uint64_t hash) {
    struct entry *entry = groups->last;
    if (entry != NULL && equals(&entry->key, key)) {
        return entry;
    }
    for (entry = groups->lists[hash % LISTS]; entry != NULL; entry = entry->next) {
        if (entry->hash == hash && equals(&entry->key, key)) {
            return entry;
        }
    }
    return NULL;
}

/* Find the group of a key, or make it if there is room. */
static struct entry *find_or_make(struct ld_groups *groups, struct ld_group_key *key) {
    uint64_t hash = hash_key(key);
    struct entry *entry = find(groups, key, hash);
    bool has_parts = key->name != NULL || key->root != NULL;
    if (entry == NULL && groups->used >= NAMED_MOST && has_parts) {
        key->name = NULL;
        key->root = NULL;
        key->root_size = 0;
        key->root_line = -1; /* no other group has that */
        hash = hash_key(key);
        entry = find(groups, key, hash);
    }
    return entry == NULL && groups->used < MOST ? make(groups, key, hash) : entry;
}

/* Count a thing. */
struct ld_group *ld_api_groups_count(struct ld_groups *groups, const struct ld_group_key *key) {
    struct ld_group_key wanted = *key;
    struct entry *entry = groups->last != NULL && equals(&groups->last->key, key)
                              ? groups->last
                              : find_or_make(groups, &wanted);
    if (entry == NULL) {
        groups->others++;
        return NULL;
    }
    groups->last = entry;
    entry->group.is_new = entry->group.count++ == 0;
    entry->group.is_merged = entry->key.root_line < 0;
    return &entry->group;
}

/* Compare two groups: the one with more members comes first, then the one that was met first. */
static int compare(const void *a, const void *b) {
    const struct entry *one = *(const struct entry *const *)a;
    const struct entry *other = *(const struct entry *const *)b;
    if (one->group.count != other->group.count) {
        return one->group.count > other->group.count ? -1 : 1;
    }
    return one->number < other->number ? -1 : one->number > other->number;
}

/* Make the JSON of the place of a key. */
json_t *ld_api_groups_place(const struct ld_group_key *key) {
    struct ld_text where = {0};
    if (key->file == NULL) {
        return json_null();
    }
    bool is_cut = key->size > LD_GROUP_FILE;
    size_t size = is_cut ? LD_GROUP_FILE : key->size;
    ld_text_puts(&where, is_cut ? "..." : "");
    ld_text_add(&where, key->file + key->size - size, size);
    if (key->line > 0) {
        ld_text_format(&where, ":%d", key->line);
    }
    json_t *place = ld_json_text(ld_text_string(&where), where.size);
    ld_text_fini(&where);
    return place;
}

/* Make the JSON of a group. */
static json_t *report_group(const struct entry *entry) {
    const struct ld_group_key *key = &entry->key;
    return json_pack("{s:o, s:s, s:o, s:I}", "where", ld_api_groups_place(key), "kind", key->kind,
                     "name", ld_json_string(key->name != NULL ? key->name : entry->group.shown),
                     "count", (json_int_t)entry->group.count);
}

/* Report the greatest groups. */
json_t *ld_api_groups_report(const struct ld_groups *groups, uint64_t *others) {
    struct entry *sorted[MOST];
    json_t *list = json_array();
    memcpy(sorted, groups->all, groups->used * sizeof(void *));
    qsort(sorted, groups->used, sizeof(void *), compare);
    *others = groups->others;
    for (size_t i = 0; i < groups->used; i++) {
        if (i < REPORT_MOST) {
            json_array_append_new(list, report_group(sorted[i]));
        } else {
            *others += sorted[i]->group.count;
        }
    }
    return list;
}

/* Things counted by what they have in common: their place, kind and name. Their number is bounded, whatever there is: see
 * ld_api_groups_count. */
#ifndef LD_API_GROUPS_H
#define LD_API_GROUPS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "script/errors.h"

#define LD_GROUP_FILE                                                                              \
    (LD_ERROR_WHERE - sizeof "...:2147483647") /* bytes of a file that are shown */

struct ld_groups;

/* What the members of a group have in common. */
struct ld_group_key {
    const char *file; /* SIZE bytes; NULL: they have no place */
    size_t size;
    int line;
    const char *kind; /* static */
    const char *name; /* that was given, or NULL */

    /* The function that they have begun with, where that is another one than that of the place. */
    const char *root; /* ROOT_SIZE bytes, or NULL */
    size_t root_size;
    int root_line;
};

struct ld_group {
    uint64_t count;
    bool is_new;    /* it has only the member that was counted last */
    bool is_merged; /* it has members of several names, or beginnings */
    char *shown;    /* the name of the function, to be set by whoever counts; or NULL */
};

/* Make an empty set; NULL when memory ran out. */
struct ld_groups *ld_api_groups_new(void);
void ld_api_groups_free(struct ld_groups *groups); /* NULL does nothing */

/* Count a thing; its group, valid until the next is counted. When there are many groups, names and beginnings are no longer told
 * apart; when there are very many, a thing of none is counted as one of the others: NULL. */
struct ld_group *ld_api_groups_count(struct ld_groups *groups, const struct ld_group_key *key);

/* Make the JSON of the place of a key, "FILE:LINE", or "FILE" without a line; null for none. Of a long file, the end. */
json_t *ld_api_groups_place(const struct ld_group_key *key);

/* Report the greatest groups, the greatest first, as a list of {where, kind, name, count}; and in *OTHERS how many things
 * are in none of them. A new reference; NULL when memory ran out. */
json_t *ld_api_groups_report(const struct ld_groups *groups, uint64_t *others);

#endif

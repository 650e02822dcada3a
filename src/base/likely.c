#include "base/likely.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* Return the least of three numbers. */
static size_t least_of(size_t a, size_t b, size_t c) {
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Whether two letters are the same. */
static bool is_same(char a, char b) {
    return (tolower)((unsigned char)a) == (tolower)((unsigned char)b);
}

/* Count the letters that must be inserted, removed, changed or exchanged with their neighbour to turn A into B,
 * ignoring case. Both are shorter than LD_LIKELY_MAX. */
static size_t distance(const char *a, const char *b) {
    size_t known[LD_LIKELY_MAX + 1][LD_LIKELY_MAX + 1]; /* the distances of their prefixes */
    size_t rows = strlen(a);
    size_t columns = strlen(b);
    for (size_t i = 0; i <= rows; i++) {
        known[i][0] = i;
    }
    for (size_t j = 0; j <= columns; j++) {
        known[0][j] = j;
    }
    for (size_t at = 0; at < rows * columns; at++) {
        size_t i = at / columns + 1;
        size_t j = at % columns + 1;
        size_t changed = !is_same(a[i - 1], b[j - 1]);
        size_t least =
            least_of(known[i - 1][j] + 1, known[i][j - 1] + 1, known[i - 1][j - 1] + changed);
        if (i > 1 && j > 1 && is_same(a[i - 2], b[j - 1]) && is_same(a[i - 1], b[j - 2])) {
            least = least_of(least, known[i - 2][j - 2] + 1, least);
        }
        known[i][j] = least;
    }
    return known[rows][columns];
}

/* Try a name. */
void ld_likely_try(struct ld_likely *likely, const char *name) {
    size_t length = strlen(likely->word);
    size_t limit = likely->best != NULL ? likely->distance : length < 4 ? 2 : 3;
    if (length < 2 || length >= LD_LIKELY_MAX || strlen(name) >= LD_LIKELY_MAX) {
        return;
    }
    bool begins = likely->prefixes && strncasecmp(name, likely->word, length) == 0;
    size_t far = begins ? 0 : distance(likely->word, name);
    if (far < limit && (far < length || begins)) {
        likely->best = name;
        likely->distance = far;
    }
}

/* Strings in JSON, which are UTF-8, from bytes that need not be. */
#ifndef LD_BASE_JSON_H
#define LD_BASE_JSON_H

#include <jansson.h>
#include <stddef.h>

/* A string of BYTES, with U+FFFD for what is not UTF-8; a new reference, NULL when memory ran out. */
json_t *ld_json_text(const char *bytes, size_t size);

/* The same of the first MOST bytes, or a little less, with "…" after them if there are more. */
json_t *ld_json_cut(const char *bytes, size_t size, size_t most);

/* The same as ld_json_text of a C string; null for NULL. */
json_t *ld_json_string(const char *string);

/* A string that keeps every byte, as a code point each; null for NULL. A new reference. */
json_t *ld_json_bytes(const char *string);

/* The C string that ld_json_bytes was made of, to be freed; NULL for anything else. */
char *ld_json_take_bytes(const json_t *value);

#endif

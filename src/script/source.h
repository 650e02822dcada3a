/* A script's text: from a file, read again at each load, or given once. */
#ifndef LD_SCRIPT_SOURCE_H
#define LD_SCRIPT_SOURCE_H

#include <lua.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/text.h"

/* Where the text comes from. Strings are borrowed. */
struct ld_source {
    const char *path;  /* absolute; NULL if the text is given */
    const char *text;  /* given text */
    size_t size;       /* of it */
    const char *title; /* of given text, for messages: "=(command line)" */
    bool as_root;      /* it will run as root: refuse a file that others than root and its
                           owner may write */
};

/* Read the file of the source, with all checks, into TEXT. 0 or a negative errno with the reason in WHY. */
int ld_source_read(const struct ld_source *source, struct ld_text *text, struct ld_text *why);

/* Compile BYTES, the text of the file of the source; as ld_source_load. */
int ld_source_compile(lua_State *L, const struct ld_source *source, const char *bytes, size_t size,
                      struct ld_text *why);

/* Compile the source and push the function. 0, or a negative errno with the reason in WHY: -EINVAL
 * for a text that does not compile, bytecode included. Does not raise. */
int ld_source_load(lua_State *L, const struct ld_source *source, struct ld_text *why);

/* Why others than root and its owner may write to the open file, or folder, with these FACTS; NULL if they may not. */
const char *ld_source_other_writers(int fd, const struct stat *facts);

/* Whether the source compiles; as above, in a state of its own. */
int ld_source_check(const struct ld_source *source, struct ld_text *why);

#endif

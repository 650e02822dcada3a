/* The memory of a generation: the files that it was made of, with their texts. A generation that is made from
 * the memory of another one gets the same code, whatever the disk has by then. */
#ifndef LD_SCRIPT_MEMORY_H
#define LD_SCRIPT_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "script/texts.h"

/* What is remembered at most: a service that loads ever new files (jobs, say) must not grow for ever. */
#define LD_MEMORY_FILES 10000
#define LD_MEMORY_BYTES (64U << 20)

enum ld_memory_kind {
    LD_MEMORY_MISSING, /* it was looked for, and could not be read */
    LD_MEMORY_PATH,    /* a C module, or a very large file: its text is not remembered */
    LD_MEMORY_TEXT,
};

struct ld_memory_file {
    enum ld_memory_kind kind;
    char *path;                 /* as it was asked for */
    char *module;               /* that require loaded from it, or NULL */
    char *absolute;             /* the path from the root, perhaps through links */
    char *real;                 /* the one without links, when it was noted first; NULL: none */
    struct ld_texts_item *text; /* as it was read last; NULL unless the kind is LD_MEMORY_TEXT */
    struct ld_memory_file *next;
};

struct ld_memory;

/* Make an empty memory that is held once, with its texts in TEXTS; with WANTS_MISSING, what is missing is noted
 * too. NULL if memory ran out. */
struct ld_memory *ld_memory_new(struct ld_texts *texts, bool wants_missing);

/* Hold it once more; drop it (NULL does nothing). The last one to drop it frees it. */
struct ld_memory *ld_memory_hold(struct ld_memory *memory);
void ld_memory_drop(struct ld_memory *memory);

/* Note a file that was loaded, or looked for: its PATH, the MODULE that it is, or NULL, and its TEXT, or NULL. A
 * text that was read again replaces the one before. When the memory is full, nothing is noted, and it is partial
 * from then on. 0 or -ENOMEM. */
int ld_memory_note(struct ld_memory *memory, enum ld_memory_kind kind, const char *path,
                   const char *module, struct ld_texts_item *text);

/* Add a FILE with all of its names as they are, the text held once more; 0, -ENOMEM, -EEXIST for a path and module
 * that was noted, -E2BIG if there is no room. */
int ld_memory_add(struct ld_memory *memory, const struct ld_memory_file *file);

/* Add the files of OTHER that were not noted here; what there is no room or memory for is left out. */
void ld_memory_fill(struct ld_memory *memory, const struct ld_memory *other);

/* Whether what is missing is noted. */
bool ld_memory_wants_missing(const struct ld_memory *memory);

/* Find the text that PATH had, by whatever name of the file; and the one that require loaded MODULE from. NULL
 * if it is not remembered. */
const struct ld_memory_file *ld_memory_find(const struct ld_memory *memory, const char *path);
const struct ld_memory_file *ld_memory_find_module(const struct ld_memory *memory,
                                                   const char *module);

/* The file at INDEX, in the order in which they were first noted; NULL after the last. */
const struct ld_memory_file *ld_memory_at(const struct ld_memory *memory, size_t index);
size_t ld_memory_count(const struct ld_memory *memory);

/* Whether something was not noted because it was full. */
bool ld_memory_is_partial(const struct ld_memory *memory);

#endif

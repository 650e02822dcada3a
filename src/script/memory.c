#include "script/memory.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/grow.h"
#include "base/text.h"

#define BUCKETS 256

struct ld_memory {
    struct ld_texts *texts;
    size_t holders;
    bool wants_missing;
    bool is_partial;
    struct ld_memory_file **files;
    size_t count;
    size_t bytes;                            /* of all texts */
    struct ld_memory_file *buckets[BUCKETS]; /* by path */
};

/* Make an empty memory. */
struct ld_memory *ld_memory_new(struct ld_texts *texts, bool wants_missing) {
    struct ld_memory *memory = calloc(1, sizeof *memory);
    if (memory != NULL) {
        memory->texts = texts;
        memory->wants_missing = wants_missing;
        memory->holders = 1;
    }
    return memory;
}

/* Hold a memory once more. */
struct ld_memory *ld_memory_hold(struct ld_memory *memory) {
    memory->holders++;
    return memory;
}

/* Free a file. */
static void free_file(struct ld_memory *memory, struct ld_memory_file *file) {
    ld_texts_drop(memory->texts, file->text);
    free(file->path);
    free(file->module);
    free(file->absolute);
    free(file->real);
    free(file);
}

/* Drop a memory. */
void ld_memory_drop(struct ld_memory *memory) {
    if (memory == NULL || --memory->holders > 0) {
        return;
    }
    for (size_t i = 0; i < memory->count; i++) {
        free_file(memory, memory->files[i]);
    }
    free(memory->files);
    free(memory);
}

/* Make a path absolute, without a look at links; NULL if memory ran out. */
static char *make_absolute(const char *path) {
    char *directory = path[0] != '/' ? getcwd(NULL, 0) : NULL;
    if (directory == NULL) {
        return strdup(path); /* one that the directory is unknown of stays as it is */
    }
    size_t size = strlen(directory) + strlen(path) + 2;
    char *absolute = malloc(size);
    if (absolute != NULL) {
        snprintf(absolute, size, "%s/%s", directory, path);
    }
    free(directory);
    return absolute;
}

/* Find the bucket of a path. */
static struct ld_memory_file **bucket_of(struct ld_memory *memory, const char *path) {
    return &memory->buckets[ld_text_hash(path, strlen(path)) % BUCKETS];
}

/* Whether two names are the same, or both missing. */
static bool is_same(const char *one, const char *other) {
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

/* Find the file of a path and module; NULL if it was not noted. */
static struct ld_memory_file *find_noted(struct ld_memory *memory, const char *path,
                                         const char *module) {
    struct ld_memory_file *file = *bucket_of(memory, path);
    while (file != NULL && (strcmp(file->path, path) != 0 || !is_same(file->module, module))) {
        file = file->next;
    }
    return file;
}

/* Put a copy of a string, or of none, into PLACE; false if memory ran out. */
static bool copy(char **place, const char *string) {
    *place = string != NULL ? strdup(string) : NULL;
    return *place != NULL || string == NULL;
}

/* Add a file with the NAMES of another, and nothing else of it; NULL if memory ran out. */
static struct ld_memory_file *add_names(struct ld_memory *memory,
                                        const struct ld_memory_file *names) {
    struct ld_memory_file **files = ld_grow(memory->files, memory->count, sizeof(void *));
    memory->files = files != NULL ? files : memory->files;
    struct ld_memory_file *file = files != NULL ? calloc(1, sizeof *file) : NULL;
    if (file == NULL) {
        return NULL;
    }
    if (!copy(&file->path, names->path) || !copy(&file->module, names->module) ||
        !copy(&file->absolute, names->absolute) || !copy(&file->real, names->real)) {
        free_file(memory, file);
        return NULL;
    }
    struct ld_memory_file **bucket = bucket_of(memory, names->path);
    file->next = *bucket;
    *bucket = file;
    files[memory->count++] = file;
    return file;
}

/* Add a file, of which nothing but the names is known; NULL if memory ran out. */
static struct ld_memory_file *add_file(struct ld_memory *memory, const char *path,
                                       const char *module) {
    char *absolute = make_absolute(path);
    const struct ld_memory_file names = {
        .path = (char *)path, .module = (char *)module, .absolute = absolute};
    struct ld_memory_file *file = absolute != NULL ? add_names(memory, &names) : NULL;
    free(absolute);
    return file;
}

/* Whether there is no room for a file, new or not, with a text. */
static bool is_full(const struct ld_memory *memory, const struct ld_memory_file *file,
                    const struct ld_texts_item *text) {
    size_t before = file != NULL && file->text != NULL ? file->text->size : 0;
    size_t after = text != NULL ? text->size : 0;
    return (file == NULL && memory->count >= LD_MEMORY_FILES) ||
           memory->bytes - before + after > LD_MEMORY_BYTES;
}

/* Note a file. */
int ld_memory_note(struct ld_memory *memory, enum ld_memory_kind kind, const char *path,
                   const char *module, struct ld_texts_item *text) {
    struct ld_memory_file *file = find_noted(memory, path, module);
    if (kind == LD_MEMORY_MISSING && (file != NULL || !memory->wants_missing)) {
        return 0;
    }
    if (is_full(memory, file, text)) {
        memory->is_partial = true;
        return 0;
    }
    file = file != NULL ? file : add_file(memory, path, module);
    if (file == NULL) {
        return -ENOMEM;
    }
    file->kind = kind;
    if (file->real == NULL && kind != LD_MEMORY_MISSING) {
        file->real = realpath(file->absolute, NULL);
    }
    memory->bytes += text != NULL ? text->size : 0;
    memory->bytes -= file->text != NULL ? file->text->size : 0;
    struct ld_texts_item *before = file->text;
    file->text = text != NULL ? ld_texts_hold_again(text) : NULL;
    ld_texts_drop(memory->texts, before);
    return 0;
}

/* Add a file. */
int ld_memory_add(struct ld_memory *memory, const struct ld_memory_file *file) {
    if (find_noted(memory, file->path, file->module) != NULL) {
        return -EEXIST;
    }
    if (is_full(memory, NULL, file->text)) {
        return -E2BIG;
    }
    struct ld_memory_file *made = add_names(memory, file);
    if (made == NULL) {
        return -ENOMEM;
    }
    made->kind = file->kind;
    made->text = file->text != NULL ? ld_texts_hold_again(file->text) : NULL;
    memory->bytes += file->text != NULL ? file->text->size : 0;
    return 0;
}

/* Add the files of another memory. */
void ld_memory_fill(struct ld_memory *memory, const struct ld_memory *other) {
    for (size_t i = 0; i < other->count; i++) {
        ld_memory_add(memory, other->files[i]); /* unless it is there */
    }
}

/* Whether what is missing is noted. */
bool ld_memory_wants_missing(const struct ld_memory *memory) {
    return memory->wants_missing;
}

/* Whether a file has a text and is called so, absolutely or really. */
static bool is_called(const struct ld_memory_file *file, const char *absolute, const char *real) {
    return file->text != NULL && ((absolute != NULL && strcmp(file->absolute, absolute) == 0) ||
                                  (real != NULL && is_same(file->real, real)));
}

/* Find the text of a path: as it is written, or else as a path of the same file. */
const struct ld_memory_file *ld_memory_find(const struct ld_memory *memory, const char *path) {
    const struct ld_memory_file *found = NULL;
    char *absolute = make_absolute(path);
    char *real = absolute != NULL ? realpath(absolute, NULL) : NULL;
    for (size_t i = 0; i < memory->count && found == NULL; i++) {
        found = is_called(memory->files[i], absolute, NULL) ? memory->files[i] : NULL;
    }
    for (size_t i = 0; i < memory->count && found == NULL; i++) {
        found = is_called(memory->files[i], NULL, real) ? memory->files[i] : NULL;
    }
    free(real);
    free(absolute);
    return found;
}

/* Find the text of a module. */
const struct ld_memory_file *ld_memory_find_module(const struct ld_memory *memory,
                                                   const char *module) {
    for (size_t i = 0; i < memory->count; i++) {
        const struct ld_memory_file *file = memory->files[i];
        if (file->text != NULL && file->module != NULL && strcmp(file->module, module) == 0) {
            return file;
        }
    }
    return NULL;
}

/* Get a file by its index. */
const struct ld_memory_file *ld_memory_at(const struct ld_memory *memory, size_t index) {
    return index < memory->count ? memory->files[index] : NULL;
}

/* Count the files. */
size_t ld_memory_count(const struct ld_memory *memory) {
    return memory->count;
}

/* Whether the memory is partial. */
bool ld_memory_is_partial(const struct ld_memory *memory) {
    return memory->is_partial;
}

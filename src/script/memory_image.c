#include "script/memory_image.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define HEAD    "lunad-memory 1 "
#define ABSENT  SIZE_MAX
#define STRINGS 4 /* that a file has beside its text */

/* What is being read. */
struct reader {
    const char *bytes;
    size_t size;
    size_t at;
    const char *expected; /* what should have been at AT; NULL: all is well so far */
};

/* Add the size of a string that there may not be. */
static void add_size(struct ld_text *out, const char *string) {
    if (string != NULL) {
        ld_text_format(out, " %zu", strlen(string));
    } else {
        ld_text_puts(out, " -");
    }
}

/* Add a file. */
static void add_file(struct ld_text *out, const struct ld_memory_file *file) {
    const char *const strings[STRINGS] = {file->path, file->module, file->absolute, file->real};
    ld_text_puts(out, file->kind == LD_MEMORY_TEXT ? "text" : "path");
    for (size_t i = 0; i < STRINGS; i++) {
        add_size(out, strings[i]);
    }
    if (file->text != NULL) {
        ld_text_format(out, " %zu\n", file->text->size);
    } else {
        ld_text_puts(out, " -\n");
    }
    for (size_t i = 0; i < STRINGS; i++) {
        ld_text_puts(out, strings[i] != NULL ? strings[i] : "");
    }
    if (file->text != NULL) {
        ld_text_add(out, file->text->data, file->text->size);
    }
    ld_text_putc(out, '\n');
}

/* Add a memory. */
int ld_memory_image_write(const struct ld_memory *memory, struct ld_text *out) {
    const struct ld_memory_file *file;
    size_t before = out->size;
    size_t count = 0;
    for (size_t i = 0; (file = ld_memory_at(memory, i)) != NULL; i++) {
        count += file->kind != LD_MEMORY_MISSING;
    }
    ld_text_format(out, HEAD "%zu\n", count);
    for (size_t i = 0; (file = ld_memory_at(memory, i)) != NULL; i++) {
        if (file->kind != LD_MEMORY_MISSING) {
            add_file(out, file);
        }
    }
    ld_text_puts(out, "end\n");
    if (!out->failed && out->size - before > LD_MEMORY_IMAGE_MAX) {
        out->size = before;
        return -E2BIG;
    }
    return out->failed ? -ENOMEM : 0;
}

/* Take what must be a fixed string. */
static bool take(struct reader *reader, const char *string) {
    size_t size = strlen(string);
    bool is_there = reader->expected == NULL && reader->size - reader->at >= size &&
                    memcmp(reader->bytes + reader->at, string, size) == 0;
    if (is_there) {
        reader->at += size;
    } else if (reader->expected == NULL) {
        reader->expected = string;
    }
    return is_there;
}

/* Take a string if it is there. */
static bool take_if(struct reader *reader, const char *string) {
    const struct reader before = *reader;
    bool is_there = take(reader, string);
    if (!is_there) {
        *reader = before;
    }
    return is_there;
}

/* Take a number from 0 to MOST, without leading zeros. */
static size_t take_number(struct reader *reader, size_t most) {
    size_t first = reader->at;
    size_t number = 0;
    size_t at = first;
    for (; at < reader->size && reader->bytes[at] >= '0' && reader->bytes[at] <= '9'; at++) {
        size_t digit = (size_t)(reader->bytes[at] - '0');
        if (number > (most - digit) / 10 || (at > first && reader->bytes[first] == '0')) {
            break;
        }
        number = number * 10 + digit;
    }
    bool is_whole =
        at > first && (at == reader->size || reader->bytes[at] < '0' || reader->bytes[at] > '9');
    if (reader->expected == NULL && !is_whole) {
        reader->expected = "a number that is not too large";
    }
    reader->at = reader->expected == NULL ? at : reader->at;
    return number;
}

/* Take a size, or that there is nothing. */
static size_t take_size(struct reader *reader) {
    take(reader, " ");
    return take_if(reader, "-") ? ABSENT : take_number(reader, reader->size);
}

/* Take so many bytes; NULL if there are not as many. */
static const char *take_bytes(struct reader *reader, size_t size) {
    if (reader->expected == NULL && size > reader->size - reader->at) {
        reader->expected = "more bytes";
    }
    if (reader->expected != NULL) {
        return NULL;
    }
    reader->at += size;
    return reader->bytes + reader->at - size;
}

/* Take a string of so many bytes, which is copied to TO; NULL if it is absent, or not as it should be. */
static const char *take_string(struct reader *reader, size_t size, struct ld_text *to) {
    const char *bytes = size != ABSENT ? take_bytes(reader, size) : NULL;
    if (bytes == NULL) {
        return NULL;
    }
    if (size == 0 || memchr(bytes, '\0', size) != NULL) {
        reader->at -= size;
        reader->expected = "a name";
        return NULL;
    }
    ld_text_add(to, bytes, size);
    return ld_text_string(to);
}

/* Take the line of a file; SIZES has the sizes of its strings and its text. */
static enum ld_memory_kind take_line(struct reader *reader, size_t sizes[STRINGS + 1]) {
    bool is_text = take_if(reader, "text");
    if (!is_text) {
        take(reader, "path");
    }
    for (size_t i = 0; i < STRINGS + 1; i++) {
        sizes[i] = take_size(reader);
    }
    bool is_sound =
        sizes[0] != ABSENT && sizes[2] != ABSENT && is_text == (sizes[STRINGS] != ABSENT);
    if (reader->expected == NULL && !is_sound) {
        reader->expected = "a file with a path, and with a text if it is one";
    }
    take(reader, "\n");
    return is_text ? LD_MEMORY_TEXT : LD_MEMORY_PATH;
}

/* Take a file, and add it to a memory; 0 or -ENOMEM. */
static int take_file(struct reader *reader, struct ld_texts *texts, struct ld_memory *memory) {
    struct ld_text names[STRINGS] = {0};
    size_t sizes[STRINGS + 1];
    const char *strings[STRINGS];
    enum ld_memory_kind kind = take_line(reader, sizes);
    int rc = 0;
    bool failed = false;
    for (size_t i = 0; i < STRINGS; i++) {
        strings[i] = take_string(reader, sizes[i], &names[i]);
        failed = failed || names[i].failed;
    }
    size_t size = kind == LD_MEMORY_TEXT ? sizes[STRINGS] : 0;
    const char *bytes = take_bytes(reader, size);
    take(reader, "\n");
    if (reader->expected == NULL) {
        struct ld_texts_item *text =
            kind == LD_MEMORY_TEXT ? ld_texts_hold(texts, bytes, size) : NULL;
        bool has_text = text != NULL || kind != LD_MEMORY_TEXT;
        const struct ld_memory_file file = {kind,
                                            (char *)strings[0],
                                            (char *)strings[1],
                                            (char *)strings[2],
                                            (char *)strings[3],
                                            text,
                                            NULL};
        rc = !failed && has_text ? ld_memory_add(memory, &file) : -ENOMEM;
        ld_texts_drop(texts, text);
    }
    for (size_t i = 0; i < STRINGS; i++) {
        ld_text_fini(&names[i]);
    }
    return rc;
}

/* Take everything; 0 or -ENOMEM. */
static int take_memory(struct reader *reader, struct ld_texts *texts, struct ld_memory *memory) {
    take(reader, HEAD);
    size_t count = take_number(reader, LD_MEMORY_FILES);
    take(reader, "\n");
    for (size_t i = 0; i < count && reader->expected == NULL; i++) {
        int rc = take_file(reader, texts, memory);
        if (rc == -EEXIST || rc == -E2BIG) {
            reader->expected = rc == -EEXIST ? "another file" : "less text";
        } else if (rc < 0) {
            return rc;
        }
    }
    take(reader, "end\n");
    if (reader->expected == NULL && reader->at < reader->size) {
        reader->expected = "its end";
    }
    return 0;
}

/* Say what is wrong. */
static void explain(const struct reader *reader, struct ld_text *why) {
    ld_text_format(why, "byte %zu of the remembered code should begin ", reader->at);
    ld_text_add_escaped(why, reader->expected, strcspn(reader->expected, "\n"), false);
}

/* Read a memory. */
int ld_memory_image_read(struct ld_texts *texts, const char *bytes, size_t size,
                         struct ld_memory **memory, struct ld_text *why) {
    struct reader reader = {bytes, size, 0, NULL};
    struct ld_memory *made = ld_memory_new(texts, false);
    int rc = made != NULL ? take_memory(&reader, texts, made) : -ENOMEM;
    if (rc == 0 && reader.expected != NULL) {
        explain(&reader, why);
        rc = -EPROTO;
    } else if (rc < 0) {
        ld_text_puts(why, strerror(-rc));
    }
    if (rc == 0) {
        *memory = made;
    } else {
        ld_memory_drop(made);
    }
    return rc;
}

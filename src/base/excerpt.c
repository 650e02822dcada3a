#include "base/excerpt.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

#define SIZE_MOST ((off_t)4 << 20) /* of a file */
#define LINE_MOST 160              /* bytes of the line that are shown */

/* A place in a message. */
struct place {
    char path[PATH_MAX];
    size_t line;
    const char *rest; /* of the message, after it */
};

/* Read the place at the beginning of a message; false if there is none. */
static bool read_place(struct place *place, const char *message) {
    size_t end = strcspn(message, "\n");
    for (size_t at = strcspn(message, ":"); at > 0 && at < end && at < sizeof place->path; at++) {
        size_t digits = message[at] == ':' ? strspn(message + at + 1, "0123456789") : 0;
        if (digits > 0 && digits < 9 && message[at + 1 + digits] == ':') {
            memcpy(place->path, message, at);
            place->path[at] = '\0';
            place->line = strtoul(message + at + 1, NULL, 10);
            place->rest = message + at + 2 + digits;
            return true;
        }
    }
    return false;
}

/* Replace a path whose beginning Lua has left out by that of the script, if it ends in the same way. */
static void complete_path(struct place *place, const char *script) {
    static const char dots[] = "...";
    size_t size = strlen(place->path) - strspn(place->path, ".");
    if (script == NULL) {
        return;
    }
    size_t length = strlen(script);
    if (strncmp(place->path, dots, sizeof dots - 1) == 0 && length >= size &&
        length < sizeof place->path &&
        strcmp(script + length - size, place->path + strspn(place->path, ".")) == 0) {
        memcpy(place->path, script, length + 1);
    }
}

/* Read a line of a file into TEXT; false if there is none. */
static bool read_line(const struct place *place, struct ld_text *text) {
    struct stat facts;
    char *line = NULL;
    size_t room = 0;
    ssize_t size = -1;
    int fd = open(place->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    bool is_file = fd >= 0 && fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode);
    FILE *file = is_file && facts.st_size <= SIZE_MOST ? fdopen(fd, "r") : NULL;
    for (size_t number = 0; file != NULL && number < place->line; number++) {
        size = getline(&line, &room, file);
        if (size < 0) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    } else if (fd >= 0) {
        close(fd);
    }
    size_t shown = size > 0 && line != NULL ? strcspn(line, "\r\n") : 0;
    shown = shown > LINE_MOST ? ld_text_cut(line, LINE_MOST) : shown;
    if (shown > 0) {
        ld_text_add_escaped(text, line, shown, false);
    }
    free(line);
    return shown > 0;
}

/* Find WORD of SIZE bytes in a line, not as a part of a longer one; NULL if it is not there. */
static const char *find_word(const char *line, const char *word, size_t size) {
    static const char letters[] = "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    bool is_sign = strchr(letters, word[0]) == NULL;
    for (const char *at = line; size > 0 && *at != '\0'; at++) {
        if (strncmp(at, word, size) != 0) {
            continue;
        }
        bool begins = at == line || strchr(letters, at[-1]) == NULL;
        bool ends = at[size] == '\0' || strchr(letters, at[size]) == NULL;
        if (is_sign || (begins && ends)) {
            return at;
        }
    }
    return NULL;
}

/* Find what stands in quotes after WORDS in the first line of a message, in the source line; NULL if it is not
 * there. */
static const char *find_quoted(const char *message, const char *words, const char *line,
                               size_t *size) {
    const char *word = strstr(message, words);
    if (word == NULL || (size_t)(word - message) >= strcspn(message, "\n")) {
        return NULL;
    }
    word += strlen(words);
    *size = strcspn(word, "'\n");
    return find_word(line, word, *size);
}

/* Find what the rest of a message names in the line; all of the line's text if that is not known. */
static const char *find_cause(const char *rest, const char *line, size_t *size) {
    static const char *const before[] = {"(field '",   "(global '",   "(local '", "(method '",
                                         "(upvalue '", "(constant '", "near '",   "module '"};
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        const char *found = find_quoted(rest, before[i], line, size);
        if (found != NULL) {
            return found;
        }
    }
    const char *first = line + strspn(line, " \t");
    *size = strlen(first);
    return first;
}

/* Print the line, and the caret below it. */
static void print(const struct place *place, const char *line) {
    const char *no_color = getenv("NO_COLOR");
    bool has_color = no_color == NULL || no_color[0] == '\0';
    size_t size;
    const char *cause = find_cause(place->rest, line, &size);
    int width = fprintf(stderr, "%5zu | %s\n", place->line, line) > 0 ? 5 : 0;
    fprintf(stderr, "%*s | ", width, "");
    for (const char *at = line; at < cause; at++) {
        if (((unsigned char)*at & 0xC0) != 0x80) {
            fputc(*at == '\t' ? '\t' : ' ', stderr);
        }
    }
    fputs(has_color ? "\033[1;31m^" : "^", stderr);
    for (size_t i = 1; i < size; i++) {
        if (((unsigned char)cause[i] & 0xC0) != 0x80) {
            fputc('~', stderr);
        }
    }
    fputs(has_color ? "\033[0m\n" : "\n", stderr);
    fflush(stderr);
}

/* Print an excerpt. */
void ld_excerpt_print(const char *message, const char *script) {
    struct place place;
    struct ld_text line = {0};
    if (!isatty(STDERR_FILENO) || !read_place(&place, message)) {
        return;
    }
    complete_path(&place, script);
    if (read_line(&place, &line) && !line.failed) {
        print(&place, ld_text_string(&line));
    }
    ld_text_fini(&line);
}

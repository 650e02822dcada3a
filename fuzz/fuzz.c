#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

static char directory[64];

/* Say what is not true, and end. */
void fuzz_fail(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
    abort();
}

/* Take a byte. */
uint8_t fuzz_byte(struct fuzz_input *input) {
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->at++;
}

/* Take a number. */
uint64_t fuzz_number(struct fuzz_input *input, size_t size) {
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        number = number << 8 | fuzz_byte(input);
    }
    return number;
}

/* Take SIZE bytes as a C string. */
static char *take(struct fuzz_input *input, size_t size) {
    char *string = strndup((const char *)input->at, size);
    FUZZ_CHECK(string != NULL);
    input->at += size;
    input->left -= size;
    return string;
}

/* Take a string. */
char *fuzz_string(struct fuzz_input *input, char end) {
    const uint8_t *found = input->left > 0 ? memchr(input->at, end, input->left) : NULL;
    char *string = take(input, found != NULL ? (size_t)(found - input->at) : input->left);
    fuzz_byte(input);
    return string;
}

/* Take bytes. */
const char *fuzz_bytes(struct fuzz_input *input, size_t most, size_t *size) {
    size_t wanted = fuzz_byte(input);
    const char *bytes = (const char *)input->at;
    wanted = wanted < most ? wanted : most;
    *size = wanted < input->left ? wanted : input->left;
    input->at += *size;
    input->left -= *size;
    return bytes;
}

/* Take everything. */
char *fuzz_rest(struct fuzz_input *input) {
    return take(input, input->left);
}

/* Whether the sequence of LENGTH bytes is a control character other than TAB. */
static bool is_control(const char *bytes, size_t length) {
    unsigned char first = (unsigned char)bytes[0];
    if (length == 1) {
        return (first < 0x20 && first != '\t') || first == 0x7F;
    }
    return length == 2 && first == 0xC2 && (unsigned char)bytes[1] < 0xA0;
}

/* Check a line. */
void fuzz_check_line(const char *text, size_t size) {
    for (size_t i = 0; i < size;) {
        size_t length = ld_text_utf8_length(text + i, size - i);
        FUZZ_CHECK(length > 0);
        FUZZ_CHECK(!is_control(text + i, length));
        i += length;
    }
}

/* Check lines. */
void fuzz_check_lines(const char *text, size_t size) {
    const char *end = text + size;
    for (;;) {
        const char *newline = size > 0 ? memchr(text, '\n', (size_t)(end - text)) : NULL;
        fuzz_check_line(text, (size_t)((newline != NULL ? newline : end) - text));
        if (newline == NULL) {
            return;
        }
        text = newline + 1;
        FUZZ_CHECK(end - text >= 4 && memcmp(text, "    ", 4) == 0);
    }
}

/* The lowest free descriptor. */
int fuzz_free_fd(void) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    close(fd);
    return fd;
}

/* Remove the directory. */
static void remove_directory(void) {
    DIR *items = opendir(directory);
    const struct dirent *item;
    while (items != NULL && (item = readdir(items)) != NULL) {
        unlinkat(dirfd(items), item->d_name, 0);
    }
    if (items != NULL) {
        closedir(items);
    }
    rmdir(directory);
}

/* Make the directory. */
int fuzz_directory(const char **path) {
    snprintf(directory, sizeof directory, "%s/lunad-fuzz.XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    FUZZ_CHECK(mkdtemp(directory) != NULL);
    atexit(remove_directory);
    if (path != NULL) {
        *path = directory;
    }
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    return fd;
}

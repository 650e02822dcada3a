#include "daemon/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/version.h"
#include "posix/reserve.h"

static const char *const part_names[] = {"state", "kept", "code", "mail"};

/* Note what is wrong, if nothing was before. */
void ld_handover_blame(struct ld_handover *handover, const char *key, const char *what) {
    if (ld_text_is_empty(&handover->why)) {
        ld_text_format(&handover->why, "what the old program leaves cannot be read: \"%s\" is %s",
                       key, what);
    }
}

/* Find a member; NULL, and that is noted, if it is not of the kind. */
static const json_t *find(struct ld_handover *handover, const json_t *object, const char *key,
                          bool is_right, const char *kind) {
    const json_t *value = json_object_get(object, key);
    if (value == NULL || !is_right) {
        ld_handover_blame(handover, key, value == NULL ? "missing" : kind);
        return NULL;
    }
    return value;
}

/* Set a member. */
void ld_handover_set(struct ld_handover *handover, json_t *object, const char *key, json_t *value) {
    handover->is_incomplete |= json_object_set_new(object, key, value) < 0;
}

/* Add to a list. */
void ld_handover_add(struct ld_handover *handover, json_t *list, json_t *value) {
    handover->is_incomplete |= json_array_append_new(list, value) < 0;
}

/* Read an integer. */
long long ld_handover_int(struct ld_handover *handover, const json_t *object, const char *key) {
    bool is_right = json_is_integer(json_object_get(object, key));
    return json_integer_value(find(handover, object, key, is_right, "not a whole number"));
}

/* Read one that has bounds. */
long long ld_handover_within(struct ld_handover *handover, const json_t *object, const char *key,
                             long long least, long long most) {
    long long value = ld_handover_int(handover, object, key);
    if (value < least || value > most) {
        ld_handover_blame(handover, key, "out of its bounds");
        value = 0;
    }
    return value;
}

/* Read the number of a process, which may be signalled: 1 stands for all. */
pid_t ld_handover_pid(struct ld_handover *handover, const json_t *object, const char *key) {
    return (pid_t)ld_handover_within(handover, object, key, 2, INT_MAX);
}

/* Read a number. */
double ld_handover_real(struct ld_handover *handover, const json_t *object, const char *key) {
    bool is_right = json_is_number(json_object_get(object, key));
    return json_number_value(find(handover, object, key, is_right, "not a number"));
}

/* Read a truth value. */
bool ld_handover_bool(struct ld_handover *handover, const json_t *object, const char *key) {
    bool is_right = json_is_boolean(json_object_get(object, key));
    return json_is_true(find(handover, object, key, is_right, "neither true nor false"));
}

/* Whether it is a string of code points that stand for bytes; for zeros only where it MAY have them. */
static bool is_bytes(const json_t *value, bool may_have_zeros) {
    const char *at = json_string_value(value);
    size_t size = json_string_length(value);
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)at[i] > 0xC3 || (at[i] == '\0' && !may_have_zeros)) {
            return false;
        }
    }
    return at != NULL;
}

/* Read a string or null. */
char *ld_handover_string(struct ld_handover *handover, const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    bool is_right = is_bytes(value, false) || json_is_null(value);
    char *string = ld_json_take_bytes(find(handover, object, key, is_right, "not a string"));
    if (string == NULL && is_right && json_is_string(value)) {
        ld_handover_blame(handover, key, "too much for the memory");
    }
    return string;
}

/* Read a list. */
const json_t *ld_handover_array(struct ld_handover *handover, const json_t *object,
                                const char *key) {
    bool is_right = json_is_array(json_object_get(object, key));
    return find(handover, object, key, is_right, "not a list");
}

/* Copy a descriptor. The one that was left stays for the way back. */
int ld_handover_fd(struct ld_handover *handover, const json_t *object, const char *key) {
    long long number = ld_handover_int(handover, object, key);
    if (number < -1 || number > INT_MAX) {
        ld_handover_blame(handover, key, "out of its bounds");
    }
    bool is_right =
        number >= -1 && number <= INT_MAX && json_is_integer(json_object_get(object, key));
    int fd = is_right && !handover->is_trial ? (int)number : -1;
    int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (fd >= 0 && copy < 0) {
        ld_handover_blame(handover, key,
                          errno == EBADF ? "not an open descriptor" : strerror(errno));
    }
    return copy;
}

/* Make a string that keeps every byte, zeros too. */
json_t *ld_handover_bytes(const struct ld_text *text) {
    struct ld_text out = {0};
    for (size_t i = 0; i < text->size; i++) {
        unsigned char byte = (unsigned char)text->data[i];
        if (byte >= 0x80) {
            ld_text_putc(&out, (char)(0xC0 | byte >> 6));
        }
        ld_text_putc(&out, (char)(byte >= 0x80 ? 0x80 | (byte & 0x3F) : byte));
    }
    json_t *value =
        text->failed || out.failed ? NULL : json_stringn(ld_text_string(&out), out.size);
    ld_text_fini(&out);
    return value;
}

/* Read such a string. */
void ld_handover_text(struct ld_handover *handover, const json_t *object, const char *key,
                      struct ld_text *out) {
    bool is_right = is_bytes(json_object_get(object, key), true);
    const json_t *value = find(handover, object, key, is_right, "not a string");
    const char *from = json_string_value(value);
    size_t size = json_string_length(value);
    for (size_t i = 0; from != NULL && i < size; i++) {
        unsigned char byte = (unsigned char)from[i];
        if (byte >= 0xC2 && byte <= 0xC3 && i + 1 < size) {
            byte = (unsigned char)(byte << 6 | (from[++i] & 0x3F));
        }
        ld_text_putc(out, (char)byte);
    }
    if (out->failed) {
        ld_handover_blame(handover, key, "too much for the memory");
    }
}

/* Note a descriptor. */
json_t *ld_handover_leave_fd(struct ld_handover *handover, int fd) {
    if (fd >= 0) {
        ld_handover_add(handover, json_object_get(handover->root, "fds"), json_integer(fd));
    }
    return json_integer(fd);
}

/* Make a list of strings. */
json_t *ld_handover_strings(struct ld_handover *handover, char *const *strings) {
    json_t *array = json_array();
    for (char *const *at = strings; at != NULL && *at != NULL; at++) {
        ld_handover_add(handover, array, ld_json_bytes(*at));
    }
    return array;
}

/* Read a list of strings. */
char **ld_handover_list(struct ld_handover *handover, const json_t *object, const char *key) {
    const json_t *array = ld_handover_array(handover, object, key);
    const json_t *item;
    size_t i;
    char **list = array != NULL ? calloc(json_array_size(array) + 1, sizeof *list) : NULL;
    if (list == NULL) {
        ld_handover_blame(handover, key, "too much for the memory");
        return NULL;
    }
    json_array_foreach(array, i, item) {
        list[i] = is_bytes(item, false) ? ld_json_take_bytes(item) : NULL;
        if (list[i] == NULL) {
            ld_handover_blame(handover, key, "not a list of strings");
            ld_handover_free_list(list);
            return NULL;
        }
    }
    return list;
}

/* Free a list of strings. */
void ld_handover_free_list(char **list) {
    for (char **at = list; at != NULL && *at != NULL; at++) {
        free(*at);
    }
    free(list);
}

/* Write which file of a Unix socket is ours to remove; null: none. */
json_t *ld_handover_leave_file(const struct ld_socket_file *file) {
    return file->noted ? json_pack("{s:I, s:I}", "device", (json_int_t)file->device, "inode",
                                   (json_int_t)file->inode)
                       : json_null();
}

/* Note the file at ADDRESS again, if it is the one that VALUE says. */
void ld_handover_file(struct ld_handover *handover, const json_t *value, const char *address,
                      const struct ld_user *user, struct ld_socket_file *file) {
    struct ld_address parsed;
    *file = (struct ld_socket_file){.noted = false};
    if (!json_is_object(value)) {
        return;
    }
    dev_t device = (dev_t)ld_handover_int(handover, value, "device");
    ino_t inode = (ino_t)ld_handover_int(handover, value, "inode");
    if (address != NULL && ld_address_parse(address, &parsed) &&
        ld_socket_file_note(file, &parsed, user) &&
        (file->device != device || file->inode != inode)) {
        ld_socket_file_forget(file);
    }
}

/* Make one to write into. */
struct ld_handover *ld_handover_new(void) {
    struct ld_handover *handover = calloc(1, sizeof *handover);
    if (handover != NULL) {
        handover->paper = -1;
        handover->root = json_pack("{s:i, s:s, s:[]}", "format", LD_HANDOVER_FORMAT, "version",
                                   ld_version_text, "fds");
        handover->is_incomplete = handover->root == NULL;
    }
    return handover;
}

/* Free it. */
void ld_handover_free(struct ld_handover *handover) {
    if (handover != NULL) {
        if (handover->paper >= 0) {
            close(handover->paper);
        }
        ld_handover_fini(handover);
        free(handover);
    }
}

/* Write the line and the parts. */
static int write_paper(const struct ld_handover *handover) {
    char *line = json_dumps(handover->root, JSON_COMPACT);
    int rc = line == NULL ? -ENOMEM : ld_file_write(handover->paper, line, strlen(line));
    rc = rc == 0 ? ld_file_write(handover->paper, "\n", 1) : rc;
    for (size_t i = 0; i < LD_HANDOVER_PARTS && rc == 0; i++) {
        const struct ld_text *part = &handover->parts[i];
        rc = part->failed ? -ENOMEM
                          : ld_file_write(handover->paper, ld_text_string(part), part->size);
    }
    free(line);
    return rc;
}

/* Make the paper. */
int ld_handover_write(struct ld_handover *handover, int program) {
    handover->paper = memfd_create("lunad-handover", MFD_CLOEXEC);
    if (handover->paper < 0) {
        return -errno;
    }
    json_t *sizes = json_object();
    for (size_t i = 0; i < LD_HANDOVER_PARTS; i++) {
        ld_handover_set(handover, sizes, part_names[i],
                        handover->has[i] ? json_integer((json_int_t)handover->parts[i].size)
                                         : json_null());
    }
    ld_handover_set(handover, handover->root, "parts", sizes);
    ld_handover_set(handover, handover->root, "program", ld_handover_leave_fd(handover, program));
    json_decref(ld_handover_leave_fd(handover, handover->paper));
    size_t count = json_array_size(json_object_get(handover->root, "fds"));
    int rc = handover->is_incomplete ? -ENOMEM : ld_reserve_check(count);
    return rc == 0 ? write_paper(handover) : rc;
}

/* Take the parts, which begin at AT and are all that is left up to END. */
static void take_parts(struct ld_handover *handover, const char *at, const char *end) {
    const json_t *sizes = json_object_get(handover->root, "parts");
    for (size_t i = 0; i < LD_HANDOVER_PARTS; i++) {
        const json_t *value = json_object_get(sizes, part_names[i]);
        json_int_t size = json_integer_value(value);
        handover->has[i] = json_is_integer(value);
        if ((!handover->has[i] && !json_is_null(value)) || size < 0 || size > end - at) {
            ld_handover_blame(handover, part_names[i], "not the size of what follows");
            return;
        }
        ld_text_add(&handover->parts[i], at, (size_t)size);
        at += size;
        if (handover->parts[i].failed) {
            ld_handover_blame(handover, part_names[i], "too much for the memory");
        }
    }
    if (at != end) {
        ld_handover_blame(handover, "parts", "less than what follows");
    }
}

/* Check that what is left are numbers of descriptors. */
static void check_fds(struct ld_handover *handover) {
    const json_t *array = ld_handover_array(handover, handover->root, "fds");
    const json_t *fd;
    size_t i;
    json_array_foreach(array, i, fd) {
        if (!json_is_integer(fd) || json_integer_value(fd) < 0 ||
            json_integer_value(fd) > INT_MAX) {
            ld_handover_blame(handover, "fds", "not a list of descriptors");
        }
    }
    ld_handover_within(handover, handover->root, "program", -1, INT_MAX);
}

/* Parse the paper. */
static void parse(struct ld_handover *handover, const struct ld_text *all) {
    json_error_t error = {.text = "it has no end"};
    const char *end = all->size > 0 ? memchr(all->data, '\n', all->size) : NULL;
    if (end != NULL) {
        handover->root = json_loadb(all->data, (size_t)(end - all->data),
                                    JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    }
    if (!json_is_object(handover->root)) {
        ld_text_format(&handover->why, "what the old program leaves cannot be read: %s",
                       error.text);
        return;
    }
    json_int_t format = ld_handover_int(handover, handover->root, "format");
    if (ld_text_is_empty(&handover->why) && format != LD_HANDOVER_FORMAT) {
        ld_text_format(&handover->why,
                       "the old program leaves format %lld, and lunad %s reads format %d", format,
                       ld_version_text, LD_HANDOVER_FORMAT);
    } else if (ld_text_is_empty(&handover->why)) {
        handover->is_trial = json_object_get(handover->root, "trial") != NULL;
        check_fds(handover);
        take_parts(handover, end + 1, all->data + all->size);
    }
}

/* Read the paper. */
bool ld_handover_read(struct ld_handover *handover, int fd, const char *back) {
    struct ld_text all = {0};
    *handover = (struct ld_handover){.paper = fd};
    handover->back = back != NULL ? strdup(back) : NULL;
    int rc = lseek(fd, 0, SEEK_SET) < 0 ? -errno : ld_file_read(fd, &all);
    if (rc < 0 || all.failed || (back != NULL && handover->back == NULL)) {
        ld_text_format(&handover->why, "what the old program leaves cannot be read: %s",
                       strerror(rc < 0 ? -rc : ENOMEM));
    } else {
        parse(handover, &all);
    }
    ld_text_fini(&all);
    return ld_text_is_empty(&handover->why);
}

/* The descriptor of the old program. */
int ld_handover_old_program(const struct ld_handover *handover) {
    const json_t *program = json_object_get(handover->root, "program");
    json_int_t fd = json_is_integer(program) ? json_integer_value(program) : -1;
    return fd >= 0 && fd <= INT_MAX ? (int)fd : -1;
}

/* List what is left. */
size_t ld_handover_list_fds(const struct ld_handover *handover, int *fds, size_t most) {
    const json_t *fd;
    size_t i;
    json_array_foreach(json_object_get(handover->root, "fds"), i, fd) {
        if (i < most) {
            fds[i] = (int)json_integer_value(fd);
        }
    }
    return json_array_size(json_object_get(handover->root, "fds"));
}

/* Mark what is left. */
void ld_handover_expose(const struct ld_handover *handover, bool exposes) {
    const json_t *fd;
    size_t i;
    json_array_foreach(json_object_get(handover->root, "fds"), i, fd) {
        int number = (int)json_integer_value(fd);
        if (number > STDERR_FILENO) { /* these are never close-on-exec: children have them too */
            fcntl(number, F_SETFD, exposes ? 0 : FD_CLOEXEC);
        }
    }
}

/* Whether a descriptor that was left is in use under its number. */
static bool keeps_number(const struct ld_handover *handover, int fd) {
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(handover->root, "sockets"), i, item) {
        if (json_integer_value(json_object_get(item, "fd")) == fd) {
            return true;
        }
    }
    json_array_foreach(json_object_get(handover->root, "inherited"), i, item) {
        if (json_integer_value(item) == fd) {
            return true;
        }
    }
    return json_integer_value(json_object_get(handover->root, "log_number")) == fd;
}

/* Close what is left and not in use. */
void ld_handover_close_left(const struct ld_handover *handover) {
    const json_t *fd;
    size_t i;
    json_array_foreach(json_object_get(handover->root, "fds"), i, fd) {
        int number = (int)json_integer_value(fd);
        if (number > STDERR_FILENO && !keeps_number(handover, number)) {
            close(number);
        }
    }
}

/* Free it. */
void ld_handover_fini(struct ld_handover *handover) {
    json_decref(handover->root);
    handover->root = NULL;
    for (size_t i = 0; i < LD_HANDOVER_PARTS; i++) {
        ld_text_fini(&handover->parts[i]);
    }
    ld_text_fini(&handover->why);
    free(handover->back);
    handover->back = NULL;
    if (handover->words != NULL) {
        ld_options_fini(&handover->options);
    }
    ld_handover_free_list(handover->words);
    handover->words = NULL;
}

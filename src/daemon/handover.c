#include "daemon/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/version.h"
#include "posix/notify.h"

static const char *const part_names[] = {"state", "kept", "code", "mail"};

/* Note what is wrong, if nothing was before. */
static void blame(struct ld_handover *handover, const char *key, const char *what) {
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
        blame(handover, key, value == NULL ? "missing" : kind);
        return NULL;
    }
    return value;
}

/* Read an integer. */
long long ld_handover_int(struct ld_handover *handover, const json_t *object, const char *key) {
    bool is_right = json_is_integer(json_object_get(object, key));
    return json_integer_value(find(handover, object, key, is_right, "not a whole number"));
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

/* Read a string or null. */
char *ld_handover_string(struct ld_handover *handover, const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    bool is_right = json_is_string(value) || json_is_null(value);
    char *string = ld_json_take_bytes(find(handover, object, key, is_right, "not a string"));
    if (string == NULL && json_is_string(value)) {
        blame(handover, key, "too much for the memory");
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
    int fd = (int)ld_handover_int(handover, object, key);
    if (handover->is_trial || !json_is_integer(json_object_get(object, key))) {
        return -1;
    }
    int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (fd >= 0 && copy < 0) {
        blame(handover, key, errno == EBADF ? "not an open descriptor" : strerror(errno));
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
    bool is_right = json_is_string(json_object_get(object, key));
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
}

/* Note a descriptor. */
json_t *ld_handover_leave_fd(struct ld_handover *handover, int fd) {
    if (fd >= 0) {
        json_array_append_new(json_object_get(handover->root, "fds"), json_integer(fd));
    }
    return json_integer(fd);
}

/* Make a list of strings. */
json_t *ld_handover_strings(char *const *strings) {
    json_t *array = json_array();
    for (char *const *at = strings; at != NULL && *at != NULL; at++) {
        json_array_append_new(array, ld_json_bytes(*at));
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
        blame(handover, key, "too much for the memory");
        return NULL;
    }
    json_array_foreach(array, i, item) {
        list[i] = ld_json_take_bytes(item);
        if (list[i] == NULL) {
            blame(handover, key, "not a list of strings");
            list[i] = strdup("");
        }
    }
    return list;
}

/* Free a list of strings. */
void ld_handover_free(char **list) {
    for (char **at = list; at != NULL && *at != NULL; at++) {
        free(*at);
    }
    free(list);
}

/* The members of a service that are read as they are written. */
enum kind { BOOL, INT, LONG, UNSIGNED, REAL, STRING, FD };

static const struct member {
    const char *key;
    enum kind kind;
    size_t offset;
} members[] = {
#define MEMBER(key, kind, field)                                                                   \
    { key, kind, offsetof(struct ld_service, field) }
    MEMBER("daemon", BOOL, daemon),
    MEMBER("is_bare", BOOL, is_bare),
    MEMBER("worker", INT, worker),
    MEMBER("workers", INT, workers),
    MEMBER("master", STRING, master),
    MEMBER("is_dropped", BOOL, is_dropped),
    MEMBER("has_terminal", BOOL, has_terminal),
    MEMBER("needs_reader", BOOL, needs_reader),
    MEMBER("ignores_hup", BOOL, ignores_hup),
    MEMBER("name", STRING, name),
    MEMBER("run_dir", STRING, run_dir),
    MEMBER("run_fd", FD, run_fd),
    MEMBER("script", STRING, script),
    MEMBER("script_word", INT, script_word),
    MEMBER("log_path", STRING, log_path),
    MEMBER("state_path", STRING, state_path),
    MEMBER("path", STRING, path),
    MEMBER("cpath", STRING, cpath),
    MEMBER("has_user", BOOL, has_user),
    MEMBER("user_name", STRING, user.name),
    MEMBER("user_home", STRING, user.home),
    MEMBER("uid", UNSIGNED, user.uid),
    MEMBER("gid", UNSIGNED, user.gid),
    MEMBER("starter_uid", UNSIGNED, starter_uid),
    MEMBER("cwd", STRING, cwd),
    MEMBER("instance", LONG, instance),
    MEMBER("notify_socket", STRING, notify_socket),
    MEMBER("watchdog", REAL, watchdog),
    MEMBER("restarts", UNSIGNED, restarts.count),
    MEMBER("restart_seconds", REAL, restarts.seconds),
    MEMBER("restart_time", REAL, restarts.time),
    MEMBER("crash_path", STRING, crash_path),
    MEMBER("crash_fd", FD, crash_fd),
    MEMBER("pidfile_fd", FD, pidfile.fd),
    MEMBER("claim", FD, claim),
    MEMBER("file_watch", FD, file_watch),
    MEMBER("keeper", FD, keeper),
#undef MEMBER
};

/* Write a member. */
static json_t *write_member(struct ld_handover *handover, enum kind kind, const void *field) {
    switch (kind) {
    case BOOL:
        return json_boolean(*(const bool *)field);
    case INT:
        return json_integer(*(const int *)field);
    case LONG:
        return json_integer(*(const long *)field);
    case UNSIGNED:
        return json_integer(*(const unsigned *)field);
    case REAL:
        return json_real(*(const double *)field);
    case STRING:
        return ld_json_bytes(*(char *const *)field);
    case FD:
        return ld_handover_leave_fd(handover, *(const int *)field);
    }
    return NULL;
}

/* Read a member. */
static void read_member(struct ld_handover *handover, const struct member *member, void *field) {
    const json_t *root = handover->root;
    const char *key = member->key;
    switch (member->kind) {
    case BOOL:
        *(bool *)field = ld_handover_bool(handover, root, key);
        break;
    case INT:
        *(int *)field = (int)ld_handover_int(handover, root, key);
        break;
    case LONG:
        *(long *)field = (long)ld_handover_int(handover, root, key);
        break;
    case UNSIGNED:
        *(unsigned *)field = (unsigned)ld_handover_int(handover, root, key);
        break;
    case REAL:
        *(double *)field = ld_handover_real(handover, root, key);
        break;
    case STRING:
        *(char **)field = ld_handover_string(handover, root, key);
        break;
    case FD:
        *(int *)field = ld_handover_fd(handover, root, key);
        break;
    }
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

/* Write the sockets that were open before the script. They keep their numbers, which a script may name. */
static json_t *write_sockets(struct ld_handover *handover, const struct ld_service *service) {
    json_t *list = json_array();
    for (size_t i = 0; i < service->socket_count; i++) {
        const struct ld_service_socket *at = &service->sockets[i];
        json_array_append_new(list, json_pack("{s:o, s:o, s:i, s:o, s:o}", "name",
                                              ld_json_bytes(at->name), "address",
                                              ld_json_bytes(at->address), "worker", at->worker,
                                              "fd", ld_handover_leave_fd(handover, at->fd), "file",
                                              ld_handover_leave_file(&at->file)));
    }
    return list;
}

/* Find an address of --listen among the options, which have its string. */
static const char *find_address(const struct ld_options *options, const char *address) {
    for (size_t i = 0; address != NULL && i < options->listen_count; i++) {
        if (strcmp(options->listen[i], address) == 0) {
            return options->listen[i];
        }
    }
    return NULL;
}

/* Read the sockets. */
static void read_sockets(struct ld_handover *handover, struct ld_service *service) {
    const json_t *item;
    size_t i;
    json_array_foreach(ld_handover_array(handover, handover->root, "sockets"), i, item) {
        char *address = ld_handover_string(handover, item, "address");
        struct ld_service_socket socket = {.name = ld_handover_string(handover, item, "name"),
                                           .address = find_address(service->options, address),
                                           .worker = (int)ld_handover_int(handover, item, "worker"),
                                           .fd = (int)ld_handover_int(handover, item, "fd")};
        ld_handover_file(handover, json_object_get(item, "file"), address,
                         ld_service_lesser(service), &socket.file);
        free(address);
        if ((socket.name == NULL && socket.address == NULL) ||
            !ld_service_add_socket(service, &socket)) {
            blame(handover, "sockets", "not what the options say");
            ld_socket_file_forget(&socket.file);
            free(socket.name);
        }
    }
}

/* Write the groups of the user. */
static json_t *write_groups(const struct ld_user *user) {
    json_t *list = json_array();
    for (int i = 0; i < user->group_count; i++) {
        json_array_append_new(list, json_integer(user->groups[i]));
    }
    return list;
}

/* Read the groups. */
static void read_groups(struct ld_handover *handover, struct ld_user *user) {
    const json_t *array = ld_handover_array(handover, handover->root, "groups");
    const json_t *item;
    size_t i;
    user->groups = calloc(json_array_size(array) + 1, sizeof *user->groups);
    json_array_foreach(array, i, item) {
        if (user->groups != NULL) {
            user->groups[user->group_count++] = (gid_t)json_integer_value(item);
        }
    }
}

/* Begin to write. */
int ld_handover_begin(struct ld_handover *handover, const struct ld_service *service) {
    json_t *root = json_pack("{s:i, s:s, s:[]}", "format", LD_HANDOVER_FORMAT, "version",
                             ld_version_text, "fds");
    handover->root = root;
    for (size_t i = 0; i < LD_COUNT(members); i++) {
        const void *field = (const char *)service + members[i].offset;
        json_object_set_new(root, members[i].key, write_member(handover, members[i].kind, field));
    }
    json_object_set_new(root, "is_master", json_boolean(service->is_master));
    json_object_set_new(root, "worker_words", ld_handover_strings(service->worker_words));
    json_object_set_new(root, "sink", json_integer(service->sink));
    json_object_set_new(root, "log_number", json_integer(service->log_fd));
    json_object_set_new(root, "log_fd", ld_handover_leave_fd(handover, ld_log_fd()));
    json_object_set_new(root, "notify_fd", ld_handover_leave_fd(handover, ld_notify_fd()));
    json_object_set_new(root, "dumpable", json_boolean(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1));
    json_object_set_new(root, "text", ld_handover_bytes(&service->text));
    json_object_set_new(root, "text_title", ld_json_bytes(service->text_title));
    json_object_set_new(root, "words", ld_handover_strings(service->words));
    json_object_set_new(root, "environment", ld_handover_strings(service->environment));
    json_object_set_new(root, "groups", write_groups(&service->user));
    json_object_set_new(root, "restart_message", ld_handover_bytes(&service->restarts.message));
    json_object_set_new(root, "restart_reported", json_boolean(service->restarts.report != NULL));
    json_object_set_new(root, "pidfile_name", ld_json_bytes(service->pidfile.name));
    json_object_set_new(root, "socket_file", ld_handover_leave_file(&service->socket_file));
    json_object_set_new(root, "sockets", write_sockets(handover, service));
    json_object_set_new(root, "record",
                        service->record != NULL ? json_incref(service->record) : json_null());
    if (service->log_fd > STDERR_FILENO) {
        json_decref(ld_handover_leave_fd(handover, service->log_fd));
    }
    return root != NULL && json_object_get(root, "record") != NULL ? 0 : -ENOMEM;
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
        json_object_set_new(sizes, part_names[i],
                            handover->has[i] ? json_integer((json_int_t)handover->parts[i].size)
                                             : json_null());
    }
    json_object_set_new(handover->root, "parts", sizes);
    json_object_set_new(handover->root, "program", ld_handover_leave_fd(handover, program));
    json_decref(ld_handover_leave_fd(handover, handover->paper));
    return write_paper(handover);
}

/* Take the parts, which begin at AT and are all that is left up to END. */
static void take_parts(struct ld_handover *handover, const char *at, const char *end) {
    const json_t *sizes = json_object_get(handover->root, "parts");
    for (size_t i = 0; i < LD_HANDOVER_PARTS; i++) {
        const json_t *value = json_object_get(sizes, part_names[i]);
        json_int_t size = json_integer_value(value);
        handover->has[i] = json_is_integer(value);
        if ((!handover->has[i] && !json_is_null(value)) || size < 0 || size > end - at) {
            blame(handover, part_names[i], "not the size of what follows");
            return;
        }
        ld_text_add(&handover->parts[i], at, (size_t)size);
        at += size;
        if (handover->parts[i].failed) {
            blame(handover, part_names[i], "too much for the memory");
        }
    }
    if (at != end) {
        blame(handover, "parts", "less than what follows");
    }
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
        take_parts(handover, end + 1, all->data + all->size);
    }
}

/* Read the paper. */
bool ld_handover_read(struct ld_handover *handover, int fd, const char *back) {
    struct ld_text all = {0};
    *handover = (struct ld_handover){.paper = fd};
    if (back != NULL) {
        handover->back = strdup(back);
    }
    int rc = lseek(fd, 0, SEEK_SET) < 0 ? -errno : ld_file_read(fd, &all);
    if (rc < 0 || all.failed) {
        ld_text_format(&handover->why, "what the old program leaves cannot be read: %s",
                       strerror(rc < 0 ? -rc : ENOMEM));
    } else {
        parse(handover, &all);
    }
    ld_text_fini(&all);
    return ld_text_is_empty(&handover->why);
}

/* Parse the options that the service was started with. */
static bool read_options(struct ld_handover *handover) {
    bool is_worker = ld_handover_int(handover, handover->root, "worker") > 0;
    bool has_chunk = is_worker || !ld_handover_bool(handover, handover->root, "daemon");
    unsigned groups =
        LD_OPTIONS_SERVICE | LD_OPTIONS_CONFIG | (has_chunk ? LD_OPTIONS_CHUNK : LD_OPTIONS_ALL);
    struct ld_text why = {0};
    handover->words = ld_handover_list(handover, handover->root, "words");
    bool has_verb =
        handover->words != NULL && handover->words[0] != NULL && handover->words[1] != NULL;
    if (has_verb && ld_options_parse(&handover->options, groups, handover->words + 1, &why) < 0) {
        ld_text_format(&handover->why,
                       "it was started with options that lunad %s does not take: %s",
                       ld_version_text, ld_text_string(&why));
    } else if (!has_verb) {
        blame(handover, "words", "no command line");
    }
    ld_text_fini(&why);
    handover->options.notify_fd = -1; /* it was told long ago */
    return ld_text_is_empty(&handover->why);
}

/* Read what is no plain member. */
static void read_rest(struct ld_handover *handover, struct ld_service *service) {
    const json_t *root = handover->root;
    json_t *record = json_object_get(root, "record");
    char *title = ld_handover_string(handover, root, "text_title");
    char *pidfile = ld_handover_string(handover, root, "pidfile_name");
    if (title != NULL) {
        snprintf(service->fd_title, sizeof service->fd_title, "%s", title);
        service->text_title = service->fd_title;
    }
    snprintf(service->pidfile.name, sizeof service->pidfile.name, "%s",
             pidfile != NULL ? pidfile : "");
    free(title);
    free(pidfile);
    service->pidfile.dir = service->run_fd;
    service->sink = (enum ld_log_sink)ld_handover_int(handover, root, "sink");
    service->log_fd = (int)ld_handover_int(handover, root, "log_number");
    service->environment = ld_handover_list(handover, root, "environment");
    if (service
            ->is_master) { /* which are the same in every version: by them it knows its workers */
        service->worker_words = ld_handover_list(handover, root, "worker_words");
    }
    service->record = json_is_object(record) ? json_incref(record) : NULL;
    ld_handover_text(handover, root, "text", &service->text);
    ld_handover_text(handover, root, "restart_message", &service->restarts.message);
    if (ld_handover_bool(handover, root, "restart_reported")) {
        service->restarts.report = service->crash_path;
    }
    read_groups(handover, &service->user);
    read_sockets(handover, service);
    struct ld_text address = {0};
    ld_text_format(&address, "unix:%s/%s.sock", service->run_dir != NULL ? service->run_dir : "",
                   service->name != NULL ? service->name : "");
    ld_handover_file(handover, json_object_get(root, "socket_file"), ld_text_string(&address),
                     ld_service_lesser(service), &service->socket_file);
    ld_text_fini(&address);
}

/* Fill in a service. */
bool ld_handover_read_service(struct ld_handover *handover, struct ld_service *service) {
    *service = (struct ld_service){.options = &handover->options,
                                   .run_fd = -1,
                                   .log_place = {.dir = -1},
                                   .pidfile = {.fd = -1},
                                   .claim = -1,
                                   .crash_fd = -1,
                                   .file_watch = -1,
                                   .listener = -1,
                                   .channel = -1,
                                   .keeper = -1,
                                   .mailbox = -1,
                                   .memory_fd = -1,
                                   .workers = 1,
                                   .notify_fd = -1,
                                   .handover = handover};
    if (!read_options(handover)) {
        return false;
    }
    for (size_t i = 0; i < LD_COUNT(members); i++) {
        read_member(handover, &members[i], (char *)service + members[i].offset);
    }
    service->words = handover->words;
    if (ld_handover_bool(handover, handover->root, "is_master")) {
        ld_service_make_master(service);
    }
    read_rest(handover, service);
    if (service->name == NULL || (service->script == NULL && service->text_title == NULL)) {
        blame(handover, "name", "missing");
    }
    return ld_text_is_empty(&handover->why);
}

/* The descriptor of the old program. */
int ld_handover_old_program(const struct ld_handover *handover) {
    const json_t *program = json_object_get(handover->root, "program");
    return json_is_integer(program) ? (int)json_integer_value(program) : -1;
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
        fcntl((int)json_integer_value(fd), F_SETFD, exposes ? 0 : FD_CLOEXEC);
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
    ld_handover_free(handover->words);
    handover->words = NULL;
}

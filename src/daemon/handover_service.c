#include "daemon/handover_service.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/version.h"
#include "posix/notify.h"

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
        *(int *)field = (int)ld_handover_within(handover, root, key, INT_MIN, INT_MAX);
        break;
    case LONG:
        *(long *)field = (long)ld_handover_int(handover, root, key);
        break;
    case UNSIGNED:
        *(unsigned *)field = (unsigned)ld_handover_within(handover, root, key, 0, UINT_MAX);
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

/* Write the sockets that were open before the script. They keep their numbers, which a script may name. */
static json_t *write_sockets(struct ld_handover *handover, const struct ld_service *service) {
    json_t *list = json_array();
    for (size_t i = 0; i < service->socket_count; i++) {
        const struct ld_service_socket *at = &service->sockets[i];
        ld_handover_add(handover, list,
                        json_pack("{s:o, s:o, s:i, s:o, s:o}", "name", ld_json_bytes(at->name),
                                  "address", ld_json_bytes(at->address), "worker", at->worker, "fd",
                                  ld_handover_leave_fd(handover, at->fd), "file",
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
        struct ld_service_socket socket = {
            .name = ld_handover_string(handover, item, "name"),
            .address = find_address(service->options, address),
            .worker = (int)ld_handover_within(handover, item, "worker", 0, INT_MAX),
            .fd = (int)ld_handover_within(handover, item, "fd", 0, INT_MAX)};
        ld_handover_file(handover, json_object_get(item, "file"), address,
                         ld_service_lesser(service), &socket.file);
        free(address);
        if ((socket.name == NULL && socket.address == NULL) ||
            !ld_service_add_socket(service, &socket)) {
            ld_handover_blame(handover, "sockets", "not what the options say");
            ld_socket_file_forget(&socket.file);
            free(socket.name);
        }
    }
}

/* Write the groups of the user. */
static json_t *write_groups(struct ld_handover *handover, const struct ld_user *user) {
    json_t *list = json_array();
    for (int i = 0; i < user->group_count; i++) {
        ld_handover_add(handover, list, json_integer(user->groups[i]));
    }
    return list;
}

/* Read the groups. */
static void read_groups(struct ld_handover *handover, struct ld_user *user) {
    const json_t *array = ld_handover_array(handover, handover->root, "groups");
    const json_t *item;
    size_t i;
    user->groups = calloc(json_array_size(array) + 1, sizeof *user->groups);
    if (user->groups == NULL) {
        ld_handover_blame(handover, "groups", "too much for the memory");
        return;
    }
    json_array_foreach(array, i, item) {
        if (!json_is_integer(item) || json_integer_value(item) < 0 ||
            json_integer_value(item) >= UINT_MAX) {
            ld_handover_blame(handover, "groups", "not a list of groups");
        }
        user->groups[user->group_count++] = (gid_t)json_integer_value(item);
    }
}

/* Write what a table of members has not. */
static void write_rest(struct ld_handover *handover, const struct ld_service *service) {
    const struct {
        const char *key;
        json_t *value;
    } rest[] = {
        {"is_master", json_boolean(service->is_master)},
        {"worker_words", ld_handover_strings(handover, service->worker_words)},
        {"sink", json_integer(service->sink)},
        {"log_number", json_integer(service->log_fd)},
        {"log_fd", ld_handover_leave_fd(handover, ld_log_fd())},
        {"notify_fd", ld_handover_leave_fd(handover, ld_notify_fd())},
        {"dumpable", json_boolean(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1)},
        {"text", ld_handover_bytes(&service->text)},
        {"text_title", ld_json_bytes(service->text_title)},
        {"words", ld_handover_strings(handover, service->words)},
        {"environment", ld_handover_strings(handover, service->environment)},
        {"groups", write_groups(handover, &service->user)},
        {"restart_message", ld_handover_bytes(&service->restarts.message)},
        {"restart_reported", json_boolean(service->restarts.report != NULL)},
        {"pidfile_name", ld_json_bytes(service->pidfile.name)},
        {"socket_file", ld_handover_leave_file(&service->socket_file)},
        {"sockets", write_sockets(handover, service)},
        {"record", service->record != NULL ? json_incref(service->record) : json_null()},
    };
    for (size_t i = 0; i < LD_COUNT(rest); i++) {
        ld_handover_set(handover, handover->root, rest[i].key, rest[i].value);
    }
}

/* Write a service. */
void ld_handover_service_write(struct ld_handover *handover, const struct ld_service *service) {
    for (size_t i = 0; i < LD_COUNT(members); i++) {
        const void *field = (const char *)service + members[i].offset;
        ld_handover_set(handover, handover->root, members[i].key,
                        write_member(handover, members[i].kind, field));
    }
    write_rest(handover, service);
    if (service->log_fd > STDERR_FILENO) {
        json_decref(ld_handover_leave_fd(handover, service->log_fd));
    }
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
        ld_handover_blame(handover, "words", "no command line");
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
    service->sink = (enum ld_log_sink)ld_handover_within(handover, root, "sink", 0, LD_LOG_SYSLOG);
    service->log_fd = (int)ld_handover_within(handover, root, "log_number", -1, INT_MAX);
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
bool ld_handover_service_read(struct ld_handover *handover, struct ld_service *service) {
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
                                   .generation = 1,
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
        ld_handover_blame(handover, "name", "missing");
    }
    return ld_text_is_empty(&handover->why);
}

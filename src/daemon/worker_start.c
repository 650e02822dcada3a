#include "daemon/worker_start.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "daemon/keeper_channel.h"
#include "posix/packet.h"

#define PATIENCE_MS 10000 /* for what the master sends, which it does before it starts the worker */

/* The list that is being made. */
struct list {
    char **words;
    size_t count;
    const char *cwd; /* of the start */
    bool failed;
};

/* Add a word, which is taken over. */
static void add(struct list *list, char *word) {
    list->words[list->count] = word;
    list->failed = list->failed || word == NULL;
    list->count += word != NULL;
}

/* Add a formatted word. */
static void add_pair(struct list *list, const char *name, const char *value) {
    char *word = NULL;
    if (asprintf(&word, "--%s=%s", name, value) < 0) {
        word = NULL;
    }
    add(list, word);
}

/* Whether a worker has an option from its master: by inheritance, by the channel, or by a word of its own. */
static bool is_of_master(const char *name) {
    static const char *const names[] = {"name",    "user",        "chdir",     "log",     "run-dir",
                                        "restart", "listen",      "notify-fd", "workers", "config",
                                        "env",     "path",        "clear-env", "cpath",   "rlimit",
                                        "all",     "no-new-privs"};
    for (size_t i = 0; i < LD_COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Add an option of the command line. */
static void add_option(void *arg, const struct ld_option_facts *facts, const char *value) {
    struct list *list = arg;
    char *word = NULL;
    if (is_of_master(facts->name)) {
        return;
    }
    if (value == NULL) {
        add(list, asprintf(&word, "--%s", facts->name) < 0 ? NULL : word);
    } else if (facts->is_path && value[0] != '/' && list->cwd != NULL) {
        add(list, asprintf(&word, "--%s=%s/%s", facts->name, list->cwd, value) < 0 ? NULL : word);
    } else {
        add_pair(list, facts->name, value);
    }
}

/* Add where the log goes. */
static void add_log(struct list *list, const struct ld_service *service) {
    char stream[32];
    snprintf(stream, sizeof stream, "/dev/fd/%d", LD_WORKER_LOG);
    switch (service->sink) {
    case LD_LOG_FILE:
        add_pair(list, "log", service->log_path);
        break;
    case LD_LOG_STDERR:
        add_pair(list, "log", service->log_fd > STDERR_FILENO ? stream : "stderr");
        break;
    case LD_LOG_SYSLOG:
        add_pair(list, "log", "syslog");
        break;
    case LD_LOG_NONE:
        add_pair(list, "log", "none");
        break;
    }
}

/* Add the script and its arguments. */
static void add_script(struct list *list, const struct ld_service *service) {
    char **rest = service->words + service->script_word;
    rest += *rest != NULL;
    if (service->options->chunk != NULL) {
        add(list, strdup("-e"));
        add(list, strdup(service->options->chunk));
        add(list, strdup("--"));
    } else {
        add(list, strdup("--"));
        add(list, strdup(service->script != NULL ? service->script : "-"));
    }
    for (; *rest != NULL; rest++) {
        add(list, strdup(*rest));
    }
}

/* Make the words. */
bool ld_worker_start_make_words(struct ld_service *service) {
    struct list list = {.cwd = service->cwd};
    const struct ld_option_visitor visitor = {.each = add_option, .arg = &list};
    size_t most = 16;
    for (char **at = service->words; *at != NULL; at++) {
        most++;
    }
    list.words = calloc(most, sizeof *list.words);
    if (list.words == NULL) {
        return false;
    }
    service->worker_words = list.words;
    add(&list, strdup("/proc/self/exe"));
    add(&list, strdup(LD_WORKER_VERB));
    add_pair(&list, "run-dir", service->run_dir);
    add_log(&list, service);
    if (service->path != NULL) {
        add_pair(&list, "path", service->path);
    }
    if (service->cpath != NULL) {
        add_pair(&list, "cpath", service->cpath);
    }
    ld_options_visit(LD_OPTIONS_SERVICE | LD_OPTIONS_CHUNK | LD_OPTIONS_CONFIG, LD_OPTIONS_SERVICE,
                     service->words + 1, &visitor);
    add_script(&list, service);
    return !list.failed;
}

/* Make the facts. */
char *ld_worker_start_describe(const struct ld_service *service, int worker, bool has_memory,
                               json_t *restarts) {
    json_t *fields = json_pack(
        "{s:i, s:i, s:i, s:s, s:b, s:b, s:I, s:b, s:s, s:o}", "generation", service->generation,
        "worker", worker, "workers", service->workers, "master", service->name, "daemon",
        service->daemon, "dropped", service->keeper >= 0 && service->has_user, "owner",
        (json_int_t)service->starter_uid, "memory", has_memory, "title",
        service->text_title != NULL ? service->text_title : "", "restarts", restarts);
    char *text = fields != NULL ? json_dumps(fields, JSON_COMPACT) : NULL;
    json_decref(fields);
    return text;
}

/* Receive the next packet of the master, in time. */
static int receive(struct ld_packet *packet) {
    struct pollfd poller = {.fd = LD_WORKER_CHANNEL, .events = POLLIN};
    return poll(&poller, 1, PATIENCE_MS) > 0 ? ld_packet_receive(LD_WORKER_CHANNEL, packet)
                                             : -ETIMEDOUT;
}

/* Receive the facts. */
int ld_worker_start_receive(struct ld_worker_facts *facts, struct ld_text *why) {
    struct ld_packet packet = {.fd = -1};
    *facts = (struct ld_worker_facts){.memory = -1};
    if (receive(&packet) == 1 && strcmp(packet.word, LD_WORKER_WORD_BEGIN) == 0) {
        facts->fields = json_loadb(packet.text, packet.size, 0, NULL);
    }
    if (facts->fields != NULL && json_is_true(json_object_get(facts->fields, "memory")) &&
        receive(&packet) == 1 && strcmp(packet.word, LD_WORKER_WORD_MEMORY) == 0) {
        facts->memory = packet.fd;
    }
    bool is_whole = facts->fields != NULL &&
                    (facts->memory >= 0) == json_is_true(json_object_get(facts->fields, "memory"));
    if (!is_whole) {
        ld_text_puts(why, "worker: it is started by its master alone: lunad start --workers N");
    }
    return is_whole ? 0 : 1;
}

/* Ask the master for the files of a worker. */
int ld_worker_start_ask_for_files(struct ld_service *service) {
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    int fd = ld_keeper_channel_ask(service, LD_KEEPER_WORD_LOCK, pid);
    int rc = fd < 0 ? fd : ld_pidfile_adopt(&service->pidfile, fd);
    int listener = rc == 0 ? ld_keeper_channel_ask(service, LD_KEEPER_WORD_CONTROL, "") : rc;
    if (listener >= 0 && service->listener >= 0) {
        close(service->listener);
    }
    service->listener = listener >= 0 ? listener : service->listener;
    return listener < 0 ? listener : 0;
}

/* Ask for them, or explain why there are none. */
static int get_files(struct ld_service *service, struct ld_text *why) {
    int rc = ld_worker_start_ask_for_files(service);
    if (rc < 0) {
        ld_text_format(why, "the files of %s: %s", service->name,
                       rc == -EBUSY ? "another daemon has this name" : strerror(-rc));
    }
    return rc < 0 ? 1 : 0;
}

/* Give each worker a file of --state: the first has the one that was given. */
static bool number_state(struct ld_service *service) {
    char *path = service->state_path;
    if (path == NULL || service->worker == 1) {
        return true;
    }
    if (asprintf(&service->state_path, "%s.%d", path, service->worker) < 0) {
        service->state_path = NULL;
    }
    free(path);
    return service->state_path != NULL;
}

/* Note how those before this one have ended. */
static void take_restarts(struct ld_restarts *restarts, const json_t *fields) {
    const char *how = json_string_value(json_object_get(fields, "message"));
    restarts->count = (unsigned)json_integer_value(json_object_get(fields, "count"));
    restarts->seconds = json_number_value(json_object_get(fields, "seconds"));
    restarts->time = json_number_value(json_object_get(fields, "time"));
    ld_text_puts(&restarts->message, restarts->count > 0 && how != NULL ? how : "");
}

/* Make a service a worker. */
int ld_worker_start_apply(struct ld_worker_facts *facts, struct ld_service *service,
                          struct ld_text *why) {
    const json_t *fields = facts->fields;
    service->keeper = LD_WORKER_CHANNEL;
    service->worker = (int)json_integer_value(json_object_get(fields, "worker"));
    service->workers = (int)json_integer_value(json_object_get(fields, "workers"));
    service->generation = (int)json_integer_value(json_object_get(fields, "generation"));
    service->starter_uid = (uid_t)json_integer_value(json_object_get(fields, "owner"));
    service->is_dropped = json_is_true(json_object_get(fields, "dropped"));
    service->master = strdup(json_string_value(json_object_get(fields, "master")));
    service->run_dir = strdup(service->options->run_dir);
    service->memory_fd = facts->memory;
    facts->memory = -1;
    service->notify_fd = -1;
    take_restarts(&service->restarts, json_object_get(fields, "restarts"));
    if (service->master == NULL || service->run_dir == NULL || !number_state(service)) {
        ld_text_puts(why, strerror(ENOMEM));
        return 1;
    }
    return get_files(service, why);
}

/* Free the facts. */
void ld_worker_start_fini(struct ld_worker_facts *facts) {
    json_decref(facts->fields);
    if (facts->memory >= 0) {
        close(facts->memory);
    }
}

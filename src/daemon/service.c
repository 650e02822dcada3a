#include "daemon/service.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/grow.h"
#include "base/json.h"
#include "base/parse.h"
#include "daemon/state_file.h"
#include "posix/inherit.h"
#include "posix/paths.h"

#define MASTER_S 2.0 /* how much longer than its workers a master may take */

/* Explain that memory ran out. */
static int no_memory(struct ld_text *why) {
    ld_text_puts(why, strerror(ENOMEM));
    return 1;
}

/* Explain why a path could not be made absolute. */
static int no_path(const char *path, struct ld_text *why) {
    ld_text_format(why, "%s: %s", path, ld_paths_why_not());
    return 1;
}

/* Derive the name from the script, and the number of the instance, if any; NULL: no memory. */
static char *name_of_script(const char *script, long instance) {
    char *name = ld_paths_script_name(script);
    char *numbered = NULL;
    if (instance == 0 || name == NULL) {
        return name;
    }
    int rc = asprintf(&numbered, "%s-%ld", name, instance);
    free(name);
    return rc < 0 ? NULL : numbered;
}

/* Return the script as the command line names it; NULL with -e. */
static const char *operand_of(const struct ld_service *service) {
    return service->options->chunk == NULL ? service->words[service->script_word] : NULL;
}

/* Check whether the operand names an open stream, which can be read only once. */
static bool is_stream(const char *operand) {
    return strcmp(operand, "-") == 0 || ld_paths_descriptor(operand) >= 0;
}

/* Find the name: --name, or from the script, or from our pid. */
static int find_name(struct ld_service *service, struct ld_text *why) {
    const char *operand = operand_of(service);
    char number[32];
    if (service->options->name != NULL) {
        service->name = strdup(service->options->name);
    } else if (operand == NULL || is_stream(operand)) {
        snprintf(number, sizeof number, "lunad-%d", (int)getpid());
        service->name = strdup(number);
    } else {
        service->name = name_of_script(operand, service->instance);
    }
    if (service->name == NULL) {
        return no_memory(why);
    }
    if (!ld_parse_is_name(service->name)) {
        ld_text_puts(why, "\"");
        ld_text_add_escaped(why, service->name, strlen(service->name), false);
        ld_text_puts(why, "\" cannot be a daemon's name (1 to 64 of A-Z a-z 0-9 . _ -, no leading "
                          "dot or dash): give one by --name");
        return 2;
    }
    return 0;
}

/* Read the script from a stream. */
static int read_stream(struct ld_service *service, const char *operand) {
    int fd = ld_paths_descriptor(operand);
    if (fd <= STDIN_FILENO) {
        service->text_title = "=stdin";
        return ld_file_read(STDIN_FILENO, &service->text);
    }
    snprintf(service->fd_title, sizeof service->fd_title, "=/dev/fd/%d", fd);
    service->text_title = service->fd_title;
    int rc = ld_file_read(fd, &service->text);
    if (fd > STDERR_FILENO) {
        close(fd);
    }
    return rc;
}

/* Find the script: a file, a text on the command line, or a text on stdin. */
static int find_script(struct ld_service *service, struct ld_text *why) {
    const char *operand = operand_of(service);
    const char *chunk = service->options->chunk;
    if (operand == NULL) {
        service->text_title = "=(command line)";
        ld_text_puts(&service->text, chunk);
    } else if (is_stream(operand)) {
        int rc = read_stream(service, operand);
        if (rc < 0) {
            ld_text_format(why, "%s: %s", service->text_title + 1, strerror(-rc));
            return 1;
        }
    } else {
        service->script = ld_paths_absolute(operand);
        return service->script != NULL ? 0 : no_path(operand, why);
    }
    return service->text.failed ? no_memory(why) : 0;
}

/* Log to an open descriptor that --log names by its path. */
static int find_log_stream(struct ld_service *service, const char *log, struct ld_text *why) {
    int fd = ld_paths_descriptor(log);
    if (service->daemon) {
        ld_text_format(
            why, "--log: %s is for run: a daemon has no terminal; give a file, syslog or none",
            log);
        return 2;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) {
        ld_text_format(why, "--log: %s: %s", log,
                       flags < 0 ? strerror(errno) : "it is not open for writing");
        return 1;
    }
    service->sink = LD_LOG_STDERR;
    service->log_fd = fd;
    return 0;
}

/* Find where the log goes. */
static int find_log(struct ld_service *service, struct ld_text *why) {
    static const struct {
        const char *word;
        enum ld_log_sink sink;
    } words[] = {{"stderr", LD_LOG_STDERR}, {"syslog", LD_LOG_SYSLOG}, {"none", LD_LOG_NONE}};
    const char *log = service->options->log;
    if (log == NULL && !service->daemon) {
        log = "stderr";
    }
    service->sink = LD_LOG_FILE;
    for (size_t i = 0; log != NULL && i < LD_COUNT(words); i++) {
        if (strcmp(log, words[i].word) == 0) {
            service->sink = words[i].sink;
        }
    }
    if (service->sink == LD_LOG_STDERR && service->daemon) {
        ld_text_puts(why, "--log: \"stderr\" is for run: a daemon has no terminal");
        return 2;
    }
    if (service->sink != LD_LOG_FILE) {
        return 0;
    }
    if (log != NULL && ld_paths_descriptor(log) >= 0) {
        return find_log_stream(service, log, why);
    }
    service->log_path = log != NULL ? ld_paths_absolute(log) : ld_paths_log_file(service->name);
    return service->log_path != NULL ? 0 : no_path(log != NULL ? log : "log", why);
}

/* Check whether the user dropped to could replace the run directory, in which files are made and
 * removed with the rights of the starter. */
static bool can_be_replaced(const struct ld_service *service) {
    struct ld_place place;
    if (ld_service_lesser(service) == NULL) {
        return false;
    }
    int rc = ld_place_open(&place, service->run_dir, ld_service_lesser(service), false);
    if (rc == 0) {
        ld_place_close(&place);
    }
    return place.is_users;
}

/* Find the run directory, and make it if it is missing. */
static int find_run_dir(struct ld_service *service, struct ld_text *why) {
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    service->run_dir = ld_paths_run_dir(service->options->run_dir);
    if (service->run_dir == NULL) {
        return no_path("run directory", why);
    }
    if (ld_paths_socket(path, sizeof path, service->run_dir, service->name) < 0) {
        ld_text_format(why,
                       "%s/%s" LD_PATHS_SOCKET
                       ": a socket's path can have at most %zu bytes: choose a shorter "
                       "--run-dir or --name",
                       service->run_dir, service->name, sizeof path - 1);
        return 1;
    }
    if (can_be_replaced(service)) {
        ld_text_format(why, "run directory %s: user %s can change the way to it: choose another",
                       service->run_dir, service->options->user);
        return 1;
    }
    service->run_fd = ld_paths_open_run_dir(service->run_dir, true, why);
    return service->run_fd < 0 ? 1 : 0;
}

/* Find the user to become. */
static int find_user(struct ld_service *service, struct ld_text *why) {
    if (service->options->user == NULL) {
        return 0;
    }
    struct ld_text reason = {0};
    int rc = ld_user_find(&service->user, service->options->user, &reason);
    if (rc < 0) {
        ld_text_format(why, "--user: %s", ld_text_string(&reason));
    }
    ld_text_fini(&reason);
    service->has_user = rc == 0;
    return rc < 0 ? 1 : 0;
}

/* Copy the environment. */
static char **copy_environment(void) {
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char **copy = calloc(count + 1, sizeof *copy);
    for (size_t i = 0; copy != NULL && i < count; i++) {
        copy[i] = strdup(environ[i]);
    }
    return copy;
}

/* Add a listening socket. */
bool ld_service_add_socket(struct ld_service *service, const struct ld_service_socket *socket) {
    struct ld_service_socket *sockets =
        ld_grow(service->sockets, service->socket_count, sizeof *sockets);
    if (sockets == NULL) {
        return false;
    }
    service->sockets = sockets;
    sockets[service->socket_count++] = *socket;
    return true;
}

/* Note the sockets that a service manager has passed, with their names. */
static bool note_passed(struct ld_service *service) {
    int count = ld_inherit_passed_fds();
    bool ok = true;
    for (int i = 0; ok && i < count; i++) {
        const struct ld_service_socket socket = {.name = ld_inherit_passed_name(i),
                                                 .fd = LD_PASSED_FIRST + i};
        ok = socket.name != NULL && ld_service_add_socket(service, &socket);
        if (!ok) {
            free(socket.name);
        }
    }
    return ok;
}

/* Find how often a service manager wants to hear from this process, in seconds; 0: never. */
static double find_watchdog(void) {
    const char *usec = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    long number;
    if (pid != NULL && (!ld_parse_whole(pid, 1, INT_MAX, &number) || number != (long)getpid())) {
        return 0;
    }
    return usec != NULL && ld_parse_whole(usec, 1, LONG_MAX, &number) ? (double)number / 1e6 : 0;
}

/* Note how we were started. */
static int note_origin(struct ld_service *service, struct ld_text *why) {
    const char *notify = getenv("NOTIFY_SOCKET");
    service->starter_uid = geteuid();
    if (notify != NULL) {
        service->notify_socket = strdup(notify);
    }
    service->watchdog = find_watchdog();
    const char *instance = getenv(LD_INSTANCE_VARIABLE);
    if (instance != NULL) {
        ld_parse_whole(instance, 1, 1000000, &service->instance);
    }
    bool ok = note_passed(service);
    ld_inherit_clean_environment();
    service->cwd = getcwd(NULL, 0); /* NULL if it was removed; not every start needs it */
    service->environment = copy_environment();
    return ok && service->environment != NULL ? 0 : no_memory(why);
}

/* Make the search templates of --path and --cpath. */
static int find_paths(struct ld_service *service, struct ld_text *why) {
    const struct ld_options *options = service->options;
    if (options->path != NULL) {
        service->path = ld_paths_search(options->path, "DIR/?.lua;DIR/?/init.lua");
    }
    if (options->cpath != NULL) {
        service->cpath = ld_paths_search(options->cpath, "DIR/?.so");
    }
    bool failed = (options->path != NULL && service->path == NULL) ||
                  (options->cpath != NULL && service->cpath == NULL);
    return failed ? no_path("--path or --cpath", why) : 0;
}

/* Make this the service of a master: it gives the workers the time to do what the options say. */
void ld_service_make_master(struct ld_service *service) {
    struct ld_options *own = &service->master_options;
    *own = *service->options;
    own->wait_ready = true;
    own->watch = false;
    own->memory_limit = 0;
    own->recycle_every = 0;
    own->recycle_memory = 0;
    own->slow = 0;
    own->on_error = LD_ON_ERROR_CONTINUE;
    own->start_timeout =
        4 * own->start_timeout + MASTER_S; /* to give a state and to load, the first one alone */
    own->stop_timeout += MASTER_S;
    service->options = own;
    service->is_master = true;
}

/* Make this the service of a master, if there are workers. */
static int find_workers(struct ld_service *service, struct ld_text *why) {
    char last[LD_NAME_MAX + 16];
    service->workers = service->options->workers > 0 ? service->options->workers : 1;
    if (service->workers == 1 || service->is_bare || service->spec != NULL) {
        return 0;
    }
    snprintf(last, sizeof last, "%s-%d", service->name, service->workers);
    if (strlen(last) > LD_NAME_MAX) {
        ld_text_format(why, "the name \"%s\" is too long for that of a worker: give one by --name",
                       last);
        return 2;
    }
    ld_service_make_master(service);
    return 0;
}

/* Find the file of --state. A master has none: its workers have one each. */
static int find_state(struct ld_service *service, struct ld_text *why) {
    const char *path = service->options->state;
    const char *operand = operand_of(service);
    if (path == NULL) {
        return 0;
    }
    if (service->options->name == NULL && (operand == NULL || is_stream(operand))) {
        ld_text_puts(why,
                     "--state: the next start of this script would have another name, as it is "
                     "not in a file: give one by --name");
        return 2;
    }
    size_t length = strlen(path);
    size_t suffix = sizeof LD_STATE_DRAFT - 1;
    if (length >= suffix && strcmp(path + length - suffix, LD_STATE_DRAFT) == 0) {
        ld_text_format(
            why, "--state: %s: a file is called so while lunad writes it: give another name", path);
        return 2;
    }
    if (service->is_master) {
        return 0;
    }
    service->state_path = ld_paths_absolute(path);
    return service->state_path != NULL ? 0 : no_path(path, why);
}

/* Take steps. */
int ld_service_take_steps(struct ld_service *service, ld_service_step *const *steps,
                          struct ld_text *why) {
    int status = 0;
    for (size_t i = 0; status == 0 && steps[i] != NULL; i++) {
        status = steps[i](service, why);
    }
    return status;
}

/* Look up everything that the options name. */
int ld_service_init(struct ld_service *service, const struct ld_options *options, char **argv,
                    int operand, struct ld_text *why) {
    static ld_service_step *const steps[] = {
        note_origin, find_name,    find_log,   find_script, find_user,
        find_paths,  find_workers, find_state, NULL,
    };
    *service = (struct ld_service){.options = options,
                                   .daemon = service->daemon,
                                   .is_bare = service->is_bare,
                                   .spec = service->spec,
                                   .words = argv - 1,
                                   .script_word = options->chunk == NULL ? operand + 1 : operand,
                                   .run_fd = -1,
                                   .log_place = {.dir = -1},
                                   .pidfile = {.fd = -1},
                                   .claim = -1,
                                   .file_watch = -1,
                                   .listener = -1,
                                   .channel = -1,
                                   .keeper = -1,
                                   .mailbox = -1,
                                   .memory_fd = -1,
                                   .generation = 1,
                                   .crash_fd = -1,
                                   .notify_fd = options->notify_fd};
    int status = ld_service_take_steps(service, steps, why);
    return status == 0 && !service->is_bare ? find_run_dir(service, why) : status;
}

/* Free a service. */
void ld_service_fini(struct ld_service *service) {
    free(service->name);
    free(service->run_dir);
    free(service->master);
    for (char **word = service->worker_words; word != NULL && *word != NULL; word++) {
        free(*word);
    }
    free(service->worker_words);
    free(service->script);
    ld_text_fini(&service->text);
    free(service->log_path);
    free(service->state_path);
    free(service->crash_path);
    free(service->path);
    free(service->cpath);
    ld_user_fini(&service->user);
    free(service->cwd);
    for (char **variable = service->environment; variable != NULL && *variable != NULL;
         variable++) {
        free(*variable);
    }
    free(service->environment);
    free(service->notify_socket);
    for (size_t i = 0; i < service->socket_count; i++) {
        free(service->sockets[i].name);
    }
    free(service->sockets);
    ld_text_fini(&service->restarts.message);
    ld_text_fini(&service->facts);
    json_decref(service->record);
    ld_place_close(&service->log_place);
    if (service->run_fd >= 0) {
        close(service->run_fd);
    }
}

/* Tell whoever reads the descriptor of --notify-fd. */
void ld_service_announce(struct ld_service *service) {
    struct pollfd poller = {.fd = service->notify_fd, .events = POLLOUT};
    if (service->notify_fd < 0) {
        return;
    }
    errno = EAGAIN;
    if (poll(&poller, 1, 0) <= 0 || write(service->notify_fd, "\n", 1) != 1) {
        ld_log(LD_LOG_WARN, "--notify-fd %d: it was not told that this is ready: %s",
               service->notify_fd, strerror(errno));
    }
    close(service->notify_fd);
    service->notify_fd = -1;
}

/* Check whether a keeper stays behind. */
bool ld_service_has_keeper(const struct ld_service *service) {
    return service->has_user || service->options->restart != LD_RESTART_NO;
}

/* Check whether a host that ends with STATUS is started again. */
bool ld_service_restarts(const struct ld_service *service, int status) {
    int restart = service->options->restart;
    return restart == LD_RESTART_ALWAYS || (restart == LD_RESTART_ON_FAILURE && status != 0);
}

/* Report on restarts. */
json_t *ld_service_report_restarts(const struct ld_service *service, double due) {
    const struct ld_restarts *restarts = &service->restarts;
    json_t *last = json_null();
    if (!ld_text_is_empty(&restarts->message)) {
        last = json_pack("{s:o, s:o, s:f, s:f}", "message",
                         ld_json_text(ld_text_string(&restarts->message), restarts->message.size),
                         "report", ld_json_string(restarts->report), "seconds", restarts->seconds,
                         "time", restarts->time);
    }
    return json_pack("{s:I, s:o, s:o}", "count", (json_int_t)restarts->count, "due",
                     due >= 0 ? json_real(due) : json_null(), "last", last);
}

/* Return the user whose rights the host will have. */
const struct ld_user *ld_service_lesser(const struct ld_service *service) {
    return service->has_user && ld_user_is_lesser(&service->user) ? &service->user : NULL;
}

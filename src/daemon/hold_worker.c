#include "daemon/hold_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/grow.h"
#include "base/json.h"
#include "base/log.h"
#include "daemon/hold_files.h"
#include "posix/paths.h"

/* The files of one worker, as those of a service of that name. */
struct ld_hold_worker {
    struct ld_service files;
    int worker;
    pid_t pid;  /* in the pidfile */
    bool waits; /* it has no process */
};

/* Find what is held for a worker, or NULL. */
static struct ld_hold_worker *find(const struct ld_service *service, int worker) {
    for (size_t i = 0; i < service->held_count; i++) {
        if (service->held[i]->worker == worker) {
            return service->held[i];
        }
    }
    return NULL;
}

/* Free what is held for a worker. Its files are closed or removed before. */
static void free_held(struct ld_hold_worker *held) {
    free(held->files.name);
    json_decref(held->files.record);
    free(held);
}

/* Begin to hold the files of a worker; NULL if memory ran out. */
static struct ld_hold_worker *add(struct ld_service *service, int worker) {
    struct ld_hold_worker **grown = ld_grow(service->held, service->held_count, sizeof(void *));
    struct ld_hold_worker *held = calloc(1, sizeof *held);
    if (grown != NULL) {
        service->held = grown;
    }
    if (grown == NULL || held == NULL ||
        asprintf(&held->files.name, "%s-%d", service->name, worker) < 0) {
        free(held);
        return NULL;
    }
    struct ld_service *files = &held->files;
    held->worker = worker;
    files->worker = worker;
    files->options = service->options;
    files->run_dir = service->run_dir;
    files->run_fd = service->run_fd;
    files->script = service->script;
    files->words = service->words;
    files->environment = service->environment;
    files->cwd = service->cwd;
    files->log_path = service->log_path;
    files->starter_uid = service->starter_uid;
    files->pidfile.fd = files->claim = files->listener = files->file_watch = -1;
    service->held[service->held_count++] = held;
    return held;
}

/* Take the files of a worker that has none. 0, or the exit status to take, with the reason in WHY. */
static int take(struct ld_service *service, int worker, struct ld_text *why) {
    struct ld_hold_worker *held = add(service, worker);
    if (held == NULL) {
        ld_text_puts(why, strerror(ENOMEM));
        return 1;
    }
    int status = ld_hold_files_take(&held->files, why);
    if (status != 0) {
        ld_hold_worker_drop(service, worker);
    } else {
        ld_hold_worker_wait(service, worker);
    }
    return status;
}

/* Take those of all workers. */
int ld_hold_worker_take_all(struct ld_service *service, struct ld_text *why) {
    int status = 0;
    for (int worker = 1; worker <= service->workers && status == 0; worker++) {
        status = take(service, worker, why);
    }
    return status;
}

/* Write the pid of a worker into its pidfile, and open that for the worker. */
int ld_hold_worker_lock(struct ld_service *service, int worker, pid_t pid) {
    struct ld_text why = {0};
    int status = find(service, worker) == NULL ? take(service, worker, &why) : 0;
    if (status != 0) {
        ld_log(LD_LOG_ERROR, "worker %d: %s", worker, ld_text_string(&why));
        ld_text_fini(&why);
        return status == 4 ? -EBUSY : -EIO;
    }
    ld_text_fini(&why);
    struct ld_hold_worker *held = find(service, worker);
    held->pid = pid;
    held->waits = false;
    ld_pidfile_show_waiting(&held->files.pidfile, false);
    int rc = ld_pidfile_write(&held->files.pidfile, pid);
    return rc < 0 ? rc : ld_pidfile_open_witness(&held->files.pidfile);
}

/* Hand out the control socket of a worker. */
int ld_hold_worker_socket(const struct ld_service *service, int worker) {
    const struct ld_hold_worker *held = find(service, worker);
    int fd = held != NULL ? fcntl(held->files.listener, F_DUPFD_CLOEXEC, 3) : -1;
    return held == NULL ? -ENOENT : fd < 0 ? -errno : fd;
}

/* Show that a worker has no process. */
void ld_hold_worker_wait(const struct ld_service *service, int worker) {
    struct ld_hold_worker *held = find(service, worker);
    if (held != NULL) {
        held->waits = true;
        ld_pidfile_show_waiting(&held->files.pidfile, true);
    }
}

/* Remove the files of a worker. */
void ld_hold_worker_drop(struct ld_service *service, int worker) {
    struct ld_hold_worker *held = find(service, worker);
    size_t kept = 0;
    if (held == NULL) {
        return;
    }
    for (size_t i = 0; i < service->held_count; i++) {
        if (service->held[i] != held) {
            service->held[kept++] = service->held[i];
        }
    }
    service->held_count = kept;
    ld_hold_files_release(&held->files, false);
    free_held(held);
}

/* Remove the files of all workers. */
void ld_hold_worker_release(struct ld_service *service) {
    while (service->held_count > 0) {
        ld_hold_worker_drop(service, service->held[service->held_count - 1]->worker);
    }
    free(service->held);
    service->held = NULL;
}

/* Close the files of a worker, which another process keeps. */
static void close_files(const struct ld_service *files) {
    const int fds[] = {files->pidfile.fd, files->claim, files->listener};
    for (size_t i = 0; i < LD_COUNT(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* Close what was inherited. */
void ld_hold_worker_forget(struct ld_service *service) {
    for (size_t i = 0; i < service->held_count; i++) {
        close_files(&service->held[i]->files);
        free_held(service->held[i]);
    }
    free(service->held);
    service->held = NULL;
    service->held_count = 0;
}

/* Make the removed files of one worker again; true if it has to ask for them. */
static bool restore(struct ld_hold_worker *held) {
    struct ld_service *files = &held->files;
    int before = files->listener;
    files->listener = -1;
    bool has_pidfile = ld_hold_files_restore(files, held->pid, 0);
    bool has_socket = files->listener >= 0;
    if (has_pidfile) {
        ld_pidfile_show_waiting(&files->pidfile, held->waits);
    }
    if (!has_socket) {
        files->listener = before;
    } else if (before >= 0) {
        close(before);
    }
    return has_pidfile || has_socket;
}

/* Make removed files of workers again. */
bool ld_hold_worker_restore(struct ld_service *service) {
    bool any = false;
    for (size_t i = 0; i < service->held_count; i++) {
        any |= restore(service->held[i]);
    }
    return any;
}

/* Write what is held for a worker. */
static json_t *write_held(struct ld_handover *handover, const struct ld_hold_worker *held) {
    const struct ld_service *files = &held->files;
    return json_pack("{s:i, s:i, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "worker", held->worker, "pid",
                     (int)held->pid, "waits", held->waits, "pidfile_name",
                     ld_json_bytes(files->pidfile.name), "pidfile_fd",
                     ld_handover_leave_fd(handover, files->pidfile.fd), "claim",
                     ld_handover_leave_fd(handover, files->claim), "listener",
                     ld_handover_leave_fd(handover, files->listener), "socket_file",
                     ld_handover_leave_file(&files->socket_file), "record",
                     files->record != NULL ? json_incref(files->record) : json_null());
}

/* Leave what is held. */
json_t *ld_hold_worker_leave(struct ld_handover *handover, const struct ld_service *service) {
    json_t *list = json_array();
    for (size_t i = 0; i < service->held_count; i++) {
        ld_handover_add(handover, list, write_held(handover, service->held[i]));
    }
    return list;
}

/* Read what was held for a worker. */
static void read_held(struct ld_handover *handover, const json_t *item, struct ld_hold_worker *held,
                      const struct ld_user *user) {
    struct ld_service *files = &held->files;
    json_t *record = json_object_get(item, "record");
    char *name = ld_handover_string(handover, item, "pidfile_name");
    struct ld_text address = {0};
    held->pid = (pid_t)ld_handover_within(handover, item, "pid", 0, INT_MAX);
    held->waits = ld_handover_bool(handover, item, "waits");
    files->pidfile.dir = files->run_fd;
    files->pidfile.fd = ld_handover_fd(handover, item, "pidfile_fd");
    snprintf(files->pidfile.name, sizeof files->pidfile.name, "%s", name != NULL ? name : "");
    files->claim = ld_handover_fd(handover, item, "claim");
    files->listener = ld_handover_fd(handover, item, "listener");
    files->record = json_is_object(record) ? json_incref(record) : NULL;
    ld_text_format(&address, "unix:%s/%s" LD_PATHS_SOCKET, files->run_dir, files->name);
    ld_handover_file(handover, json_object_get(item, "socket_file"), ld_text_string(&address), user,
                     &files->socket_file);
    ld_text_fini(&address);
    free(name);
}

/* Hold again what was held. */
int ld_hold_worker_take_over(struct ld_handover *handover, const json_t *list,
                             struct ld_service *service) {
    const json_t *item;
    size_t i;
    json_array_foreach(list, i, item) {
        int worker = (int)ld_handover_within(handover, item, "worker", 1, LD_WORKERS_MAX);
        struct ld_hold_worker *held =
            worker >= 1 && worker <= LD_WORKERS_MAX && find(service, worker) == NULL
                ? add(service, worker)
                : NULL;
        if (held == NULL) {
            return -EINVAL;
        }
        read_held(handover, item, held, ld_service_lesser(service));
    }
    return 0;
}

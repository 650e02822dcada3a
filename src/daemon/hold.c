#include "daemon/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/parse.h"
#include "daemon/crash_file.h"
#include "daemon/hold_files.h"
#include "daemon/hold_log.h"
#include "daemon/hold_worker.h"
#include "posix/claim.h"
#include "posix/inherit.h"
#include "posix/paths.h"
#include "posix/reserve.h"

/* Set a variable, or unset it for NULL. */
static void set_or_unset(const char *name, const char *value) {
    if (value != NULL) {
        setenv(name, value, 1);
    } else {
        unsetenv(name);
    }
}

/* Set the environment as the options say. */
static int set_environment(struct ld_service *service, struct ld_text *why) {
    const struct ld_options *options = service->options;
    (void)why;
    if (options->clear_env) {
        clearenv();
    }
    if (service->has_user) {
        setenv("HOME", service->user.home != NULL ? service->user.home : "/", 1);
        set_or_unset("USER", service->user.name);
        set_or_unset("LOGNAME", service->user.name);
    }
    for (size_t i = 0; i < options->env_count; i++) {
        putenv((char *)(uintptr_t)options->env[i]);
    }
    return 0;
}

/* Open /dev/null as stdin of a daemon. */
static int close_stdin(struct ld_service *service, struct ld_text *why) {
    if (service->daemon && ld_inherit_null_stdin() < 0) {
        ld_text_format(why, "/dev/null: %s", strerror(errno));
        return 1;
    }
    return 0;
}

/* Clear the file mode mask, so that our own files get exact modes. */
static int clear_mask(struct ld_service *service, struct ld_text *why) {
    (void)service;
    (void)why;
    umask(0);
    return 0;
}

/* Set the file mode mask. */
static int set_mask(struct ld_service *service, struct ld_text *why) {
    (void)why;
    umask(service->options->umask);
    return 0;
}

/* Change to a directory. Where USER can change the path to it, use the rights of USER alone,
 * because the working directory gives access to what is in it. */
static int enter_dir(const struct ld_user *user, const char *dir) {
    struct ld_place place;
    char *way = NULL;
    if (user == NULL) {
        return chdir(dir) < 0 ? -errno : 0;
    }
    char *absolute = ld_paths_absolute(dir);
    if (absolute == NULL || asprintf(&way, "%s/.", absolute) < 0) {
        free(absolute);
        return -ENOMEM;
    }
    int rc = ld_place_open(&place, way, user, false);
    free(absolute);
    free(way);
    if (rc < 0) {
        return rc;
    }
    rc = fchdir(place.dir) < 0 ? -errno : 0;
    ld_place_close(&place);
    return rc;
}

/* Change to the working directory. */
static int change_dir(struct ld_service *service, struct ld_text *why) {
    const char *dir = service->options->chdir;
    if (dir == NULL && service->worker == 0) { /* else it is in that of its master */
        dir = service->daemon ? "/" : NULL;
    }
    int rc = dir == NULL ? 0 : enter_dir(ld_service_lesser(service), dir);
    if (rc < 0) {
        ld_text_format(why, "--chdir %s: %s", dir, strerror(-rc));
        return 1;
    }
    return 0;
}

/* Whether a service manager has passed a socket that listens on an address. */
static bool is_passed(const struct ld_service *service, const struct ld_address *address) {
    for (size_t i = 0; i < service->socket_count; i++) {
        const struct ld_service_socket *socket = &service->sockets[i];
        int listens = 0;
        socklen_t size = sizeof listens;
        if (socket->name != NULL && ld_address_is_of(address, socket->fd) &&
            getsockopt(socket->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens) {
            return true;
        }
    }
    return false;
}

/* Bind a socket to an address for each worker, the first of them to be sure that no other process has it; 0 or a
 * negative errno. */
static int bind_for_workers(struct ld_service *service, const char *text,
                            const struct ld_address *address) {
    struct ld_listen_options options = {.mode = -1, .is_bound_only = true};
    int fd = ld_socket_listen(address, &options);
    for (int worker = 1; fd >= 0 && worker <= service->workers; worker++) {
        if (worker == 1) {
            close(fd);
        }
        options.reuse_port = true;
        fd = ld_socket_listen(address, &options);
        const struct ld_service_socket made = {.address = text, .worker = worker, .fd = fd};
        if (fd >= 0 && !ld_service_add_socket(service, &made)) {
            close(fd);
            fd = -ENOMEM;
        }
    }
    return fd < 0 ? fd : 0;
}

/* Listen on one address of --listen; 0 or a negative errno. */
static int listen_on(struct ld_service *service, const char *text) {
    static const struct ld_listen_options plain = {.mode = -1};
    struct ld_service_socket made = {.address = text};
    struct ld_address address;
    if (!ld_address_parse(text, &address)) {
        return -EINVAL;
    }
    if (is_passed(service, &address)) {
        return 0;
    }
    if (service->is_master && ld_address_path(&address) == NULL) {
        return bind_for_workers(service, text, &address);
    }
    made.fd = ld_socket_listen_for(ld_service_lesser(service), &address, &plain, &made.file);
    if (made.fd < 0 || ld_service_add_socket(service, &made)) {
        return made.fd < 0 ? made.fd : 0;
    }
    ld_socket_file_remove(&made.file);
    close(made.fd);
    return -ENOMEM;
}

/* Listen on every address of --listen. */
static int listen_all(struct ld_service *service, struct ld_text *why) {
    for (size_t i = 0; i < service->options->listen_count; i++) {
        int rc = listen_on(service, service->options->listen[i]);
        if (rc < 0) {
            ld_text_format(why, "--listen %s: %s", service->options->listen[i], strerror(-rc));
            return 1;
        }
    }
    return 0;
}

/* Close all sockets, and remove the files of those that were made for --listen. */
static void release_sockets(struct ld_service *service) {
    for (size_t i = 0; i < service->socket_count; i++) {
        ld_socket_file_remove(&service->sockets[i].file);
        close(service->sockets[i].fd);
        free(service->sockets[i].name);
    }
    service->socket_count = 0;
}

/* Watch the run directory for removed files. If that fails, they are not made again. */
static void watch_files(struct ld_service *service) {
    char path[32];
    if (service->file_watch < 0) {
        service->file_watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    }
    if (service->file_watch >= 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", service->run_fd);
        inotify_add_watch(service->file_watch, path,
                          IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF);
    }
}

/* Check that the loop can open enough descriptors. */
static int check_descriptors(struct ld_service *service, struct ld_text *why) {
    (void)service;
    return ld_reserve_check_start(why) < 0 ? 1 : 0;
}

/* Explain a failure by the lack of descriptors, if they are too few. */
static void blame_descriptors(struct ld_text *why) {
    struct ld_text few = {0};
    if (ld_reserve_check_start(&few) < 0) {
        ld_text_clear(why);
        ld_text_append(why, &few);
    }
    ld_text_fini(&few);
}

/* Make the files of the run directory. */
static int make_files(struct ld_service *service, struct ld_text *why) {
    int status = service->is_bare ? 0 : ld_hold_files_take(service, why);
    if (status == 0 && service->is_master) {
        status = ld_hold_worker_take_all(service, why);
    }
    if (status == 0 && !service->is_bare) {
        watch_files(service);
    }
    return status;
}

/* Find where the report of a crash goes. A service without a run directory tells the log. */
static int find_crash_file(struct ld_service *service, struct ld_text *why) {
    return service->is_bare ? 0 : ld_crash_file_find(service, why);
}

/* Take hold of everything that must be held before the script runs. */
int ld_hold_take(struct ld_service *service, struct ld_text *why) {
    static ld_service_step *const steps[] = {
        close_stdin,       /* for start */
        clear_mask,        /* for what is made here */
        ld_hold_log_take,  /* from here on a failure is logged as well */
        find_crash_file,   /* beside it */
        set_mask,          /* --umask */
        set_environment,   /* --env, --clear-env */
        change_dir,        /* --chdir */
        make_files,        /* and the lock */
        listen_all,        /* --listen */
        check_descriptors, /* for the loop */
        NULL,
    };
    int status = ld_service_take_steps(service, steps, why);
    if (status == 1) {
        blame_descriptors(why);
    }
    return status;
}

/* Set the resource limits. */
static int set_limits(struct ld_service *service, struct ld_text *why) {
    const struct ld_options *options = service->options;
    for (size_t i = 0; i < options->rlimit_count; i++) {
        if (setrlimit(options->rlimits[i].resource, &options->rlimits[i].limit) < 0) {
            ld_text_format(why, "--rlimit %s: %s", options->rlimits[i].text, strerror(errno));
            return 1;
        }
    }
    return 0;
}

/* Write the pid of this process into the pidfile. */
static int write_pid(struct ld_service *service, struct ld_text *why) {
    int rc = service->is_bare ? 0 : ld_pidfile_write(&service->pidfile, getpid());
    return rc < 0 ? ld_hold_files_blame_pidfile(service, rc, why) : 0;
}

/* Below a keeper, close what only the keeper may have, and exchange the lock for its witness. */
static int leave_to_keeper(struct ld_service *service, struct ld_text *why) {
    if (service->keeper < 0 || service->worker > 0) {
        return 0;
    }
    int *fds[] = {&service->run_fd, &service->claim, &service->file_watch, &service->channel,
                  &service->notify_fd};
    int rc = ld_pidfile_witness(&service->pidfile);
    for (size_t i = 0; i < LD_COUNT(fds); i++) {
        if (*fds[i] >= 0) {
            close(*fds[i]);
            *fds[i] = -1;
        }
    }
    ld_place_close(&service->log_place);
    ld_hold_worker_forget(service);
    ld_socket_file_forget(&service->socket_file);
    for (size_t i = 0; i < service->socket_count; i++) {
        ld_socket_file_forget(&service->sockets[i].file);
    }
    return rc < 0 ? ld_hold_files_blame_pidfile(service, rc, why) : 0;
}

/* Become the user of --user, whose other processes must not be able to trace this one. */
static int become_user(struct ld_service *service, struct ld_text *why) {
    struct ld_text reason = {0};
    if (!service->has_user) {
        return 0;
    }
    bool is_lesser = ld_service_lesser(service) != NULL;
    int rc = ld_user_become(&service->user, &reason);
    if (rc == 0 && is_lesser && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
        ld_text_format(&reason, "prctl: %s", strerror(errno));
        rc = -errno;
    }
    if (rc < 0) {
        ld_text_format(why, "--user %s: %s", service->options->user, ld_text_string(&reason));
    }
    ld_text_fini(&reason);
    return rc < 0 ? 1 : 0;
}

/* Set PR_SET_NO_NEW_PRIVS if --no-new-privs was given. */
static int renounce_rights(struct ld_service *service, struct ld_text *why) {
    if (service->options->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        ld_text_format(why, "--no-new-privs: %s", strerror(errno));
        return 1;
    }
    return 0;
}

/* Become what the script runs as. */
int ld_hold_drop(struct ld_service *service, struct ld_text *why) {
    static ld_service_step *const steps[] = {
        write_pid,       /* of the host */
        leave_to_keeper, /* what only the keeper may have */
        set_limits,      /* --rlimit */
        become_user,     /* --user */
        renounce_rights, /* --no-new-privs */
        NULL,
    };
    return ld_service_take_steps(service, steps, why);
}

/* Check that the service could be held and dropped. */
int ld_hold_check(struct ld_service *service, struct ld_text *why) {
    static ld_service_step *const steps[] = {ld_hold_log_check, change_dir, set_limits, become_user,
                                             NULL};
    return ld_service_take_steps(service, steps, why);
}

/* Open the run directory again if another one is at its path: 1 then, 0, or a negative errno. */
static int follow_run_dir(struct ld_service *service) {
    struct ld_text why = {0};
    struct stat opened;
    struct stat there;
    if (fstat(service->run_fd, &opened) == 0 && lstat(service->run_dir, &there) == 0 &&
        opened.st_dev == there.st_dev && opened.st_ino == there.st_ino) {
        return 0;
    }
    int fd = ld_paths_open_run_dir(service->run_dir, true, &why);
    ld_text_fini(&why);
    if (fd < 0) {
        return fd;
    }
    int rc = dup3(fd, service->run_fd, O_CLOEXEC) < 0 ? -errno : 0;
    close(fd);
    watch_files(service);
    ld_socket_file_forget(&service->socket_file);
    return rc < 0 ? rc : 1;
}

/* Make removed files again, and log that. */
bool ld_hold_restore_files(struct ld_service *service, pid_t host) {
    char events[4096];
    while (read(service->file_watch, events, sizeof events) > 0) {
    }
    int rc = follow_run_dir(service);
    bool has_pidfile = ld_hold_files_restore(service, host, rc);
    service->has_new_files |= rc >= 0 && ld_hold_worker_restore(service);
    return has_pidfile;
}

/* Write the record without the death that was noted in it. */
void ld_hold_forget_death(const struct ld_service *service) {
    if (service->record != NULL && ld_pidfile_is_current(&service->pidfile)) {
        ld_record_save(service->run_fd, service->name, service->record);
    }
}

/* Remove the files and close what is held. */
void ld_hold_release(struct ld_service *service, bool died) {
    ld_hold_worker_release(service);
    if (service->file_watch >= 0) {
        close(service->file_watch);
        service->file_watch = -1;
    }
    release_sockets(service);
    ld_hold_files_release(service, died);
}

/* Remove the files of a dead daemon, whose pidfile this process has locked. */
static void remove_files(struct ld_pidfile *file, int dir, const char *name) {
    char socket[LD_NAME_MAX + 24];
    snprintf(socket, sizeof socket, "%s" LD_PATHS_SOCKET, name);
    ld_file_remove(dir, socket);
    ld_record_remove(dir, name);
    ld_pidfile_remove(file);
}

/* Whether the record of a daemon says that it is this worker. */
static bool is_worker(int dir, const char *name, int worker) {
    struct ld_record record;
    bool is = false;
    if (ld_record_load(&record, dir, name) == 0) {
        is = json_integer_value(json_object_get(record.fields, "worker")) == worker;
        ld_record_fini(&record);
    }
    return is;
}

/* Remove what a dead daemon left, and with a master what its workers left. */
void ld_hold_remove_stale(int dir, const char *name) {
    struct ld_pidfile file;
    struct ld_pidfile other;
    char worker[LD_NAME_MAX + 16];
    if (ld_pidfile_acquire(&file, dir, name) < 0) {
        return;
    }
    for (int number = 1; number <= LD_WORKERS_MAX; number++) {
        snprintf(worker, sizeof worker, "%s-%d", name, number);
        if (is_worker(dir, worker, number) && ld_pidfile_acquire(&other, dir, worker) == 0) {
            remove_files(&other, dir, worker);
        }
    }
    remove_files(&file, dir, name);
}

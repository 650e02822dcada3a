#include "daemon/hold_files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/json.h"
#include "base/parse.h"
#include "posix/claim.h"
#include "posix/paths.h"

/* Explain that another process holds the pidfile, or only the claim. */
static int say_running(const struct ld_service *service, bool is_claimed, struct ld_text *why) {
    struct ld_holder holder;
    ld_text_format(why, "%s is already running", service->name);
    if (is_claimed) {
        ld_text_format(why, ", and its pidfile was removed from %s", service->run_dir);
    } else if (ld_pidfile_inspect(&holder, service->run_fd, service->name) < 0) {
        return 4;
    } else if (holder.waiting) {
        ld_text_format(why, ": its keeper (pid %d) is about to start it again", (int)holder.pid);
    } else if (holder.pid > 0) {
        ld_text_format(why, " (pid %d)", (int)holder.pid);
    }
    return 4;
}

/* Explain what is wrong with the pidfile. */
int ld_hold_files_blame_pidfile(const struct ld_service *service, int rc, struct ld_text *why) {
    ld_text_format(why, "pidfile %s/%s" LD_PATHS_PIDFILE ": %s", service->run_dir, service->name,
                   rc == -ELOOP ? "it is a symbolic link: remove it" : strerror(-rc));
    return 1;
}

/* Take the pidfile and the claim, which another daemon still holds if its pidfile was removed. If
 * the claim cannot be taken for another reason, start without that protection. */
static int take_pidfile(struct ld_service *service, struct ld_text *why) {
    int rc = ld_pidfile_acquire(&service->pidfile, service->run_fd, service->name);
    if (rc == -EWOULDBLOCK) {
        return say_running(service, false, why);
    }
    if (rc < 0) {
        return ld_hold_files_blame_pidfile(service, rc, why);
    }
    int claim = ld_claim_take(service->run_dir, service->name);
    if (claim == -EWOULDBLOCK) {
        ld_pidfile_remove(&service->pidfile);
        return say_running(service, true, why);
    }
    service->claim = claim >= 0 ? claim : -1;
    rc = ld_service_has_keeper(service) ? 0 : ld_pidfile_write(&service->pidfile, getpid());
    return rc < 0 ? ld_hold_files_blame_pidfile(service, rc, why) : 0;
}

/* Make a JSON array of strings that preserve every byte. */
static json_t *to_strings(char *const *strings) {
    json_t *array = json_array();
    for (char *const *at = strings; *at != NULL; at++) {
        json_array_append_new(array, ld_json_bytes(*at));
    }
    return array;
}

/* Log how the service ended the last time, if it died. */
static void tell_last_death(const struct ld_service *service) {
    struct ld_record last;
    if (ld_record_load(&last, service->run_fd, service->name) == 0) {
        struct ld_text text = {0};
        ld_record_describe_death(&text, &last, service->run_fd, service->name);
        ld_log(LD_LOG_WARN, "the last run of %s %s", service->name, ld_text_string(&text));
        ld_text_fini(&text);
        ld_record_fini(&last);
    }
}

/* Write the record of how the service was started. */
static int write_record(struct ld_service *service, struct ld_text *why) {
    const struct ld_options *options = service->options;
    tell_last_death(service);
    service->record = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f}", "words", to_strings(service->words),
        "environment", to_strings(service->environment), "cwd", ld_json_bytes(service->cwd),
        "script", ld_json_bytes(service->script), "text", ld_json_bytes(options->chunk), "log",
        ld_json_bytes(service->log_path), "start_timeout", options->start_timeout, "stop_timeout",
        options->stop_timeout, "probation", options->probation);
    if (service->worker > 0) {
        json_object_set_new(service->record, "worker", json_integer(service->worker));
    }
    int rc = service->record != NULL
                 ? ld_record_save(service->run_fd, service->name, service->record)
                 : -ENOMEM;
    if (rc < 0) {
        ld_text_format(why, "%s/%s" LD_PATHS_RECORD ": %s", service->run_dir, service->name,
                       strerror(-rc));
        return 1;
    }
    return 0;
}

/* Make the control socket. A file at its path is stale, because we hold the pidfile. */
static int bind_socket(struct ld_service *service) {
    struct ld_address address = {.size = sizeof(struct sockaddr_un)};
    struct sockaddr_un *path = (struct sockaddr_un *)&address.storage;
    path->sun_family = AF_UNIX;
    ld_paths_socket(path->sun_path, sizeof path->sun_path, service->run_dir, service->name);
    unlink(path->sun_path);
    ld_socket_file_forget(&service->socket_file);
    service->listener = ld_socket_listen_for(
        NULL, &address, &(struct ld_listen_options){.mode = 0600}, &service->socket_file);
    return service->listener < 0 ? service->listener : 0;
}

/* Make the control socket, or explain why not. */
static int make_socket(struct ld_service *service, struct ld_text *why) {
    int rc = bind_socket(service);
    if (rc < 0) {
        ld_text_format(why, "control socket %s/%s" LD_PATHS_SOCKET ": %s", service->run_dir,
                       service->name, strerror(-rc));
    }
    return rc < 0 ? 1 : 0;
}

/* Take the files of the run directory. */
int ld_hold_files_take(struct ld_service *service, struct ld_text *why) {
    static ld_service_step *const steps[] = {
        take_pidfile, /* and its lock: one winner among simultaneous starts */
        write_record, /* for restart */
        make_socket,  /* for control */
        NULL,
    };
    return ld_service_take_steps(service, steps, why);
}

/* Make the pidfile again if it is missing: 1 then, else 0, or a negative errno. */
static int restore_pidfile(struct ld_service *service, pid_t host) {
    struct ld_pidfile file;
    if (ld_pidfile_is_current(&service->pidfile)) {
        return 0;
    }
    int rc = ld_pidfile_acquire(&file, service->run_fd, service->name);
    if (rc == 0) {
        rc = ld_pidfile_write(&file, host);
        close(service->pidfile.fd);
        service->pidfile = file;
    }
    return rc < 0 ? rc : 1;
}

/* Make the control socket again if it is missing; likewise. */
static int restore_socket(struct ld_service *service) {
    if (ld_socket_file_is_current(&service->socket_file)) {
        return 0;
    }
    int rc = bind_socket(service);
    return rc < 0 ? rc : 1;
}

/* Make the record again if it is missing; likewise. */
static int restore_record(struct ld_service *service) {
    char file[LD_NAME_MAX + 8];
    snprintf(file, sizeof file, "%s" LD_PATHS_RECORD, service->name);
    if (faccessat(service->run_fd, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        return 0;
    }
    int rc = ld_record_save(service->run_fd, service->name, service->record);
    return rc < 0 ? rc : 1;
}

/* Make removed files again, and log that. */
bool ld_hold_files_restore(struct ld_service *service, pid_t host, int rc) {
    mode_t mask = umask(022);
    int pidfile = rc >= 0 ? restore_pidfile(service, host) : rc;
    int record = pidfile >= 0 ? restore_record(service) : 0;
    int socket = pidfile >= 0 ? restore_socket(service) : 0;
    umask(mask);
    rc = pidfile < 0 ? pidfile : record < 0 ? record : socket;
    if (rc < 0) {
        ld_log(
            LD_LOG_ERROR, "files of this daemon were removed from %s and cannot be made again: %s",
            service->run_dir, rc == -EWOULDBLOCK ? "another daemon has the name" : strerror(-rc));
    } else if (pidfile > 0 || record > 0 || socket > 0) {
        ld_log(LD_LOG_WARN, "files of this daemon were removed from %s: they were made again",
               service->run_dir);
    }
    return pidfile > 0;
}

/* Remove the files and close what is held; the lock of the pidfile last, because who gets that takes the claim too. */
void ld_hold_files_release(struct ld_service *service, bool died) {
    ld_socket_file_remove(&service->socket_file);
    if (service->listener >= 0) {
        close(service->listener);
        service->listener = -1;
    }
    if (service->record != NULL && !died && ld_pidfile_is_current(&service->pidfile)) {
        ld_record_remove(service->run_fd, service->name);
    }
    if (service->claim >= 0) {
        close(service->claim);
        service->claim = -1;
    }
    ld_pidfile_remove(&service->pidfile);
}

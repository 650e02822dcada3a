#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon.h"
#include "file.h"
#include "parse.h"
#include "service.h"
#include "socket.h"

/* Set a variable, or take it out for NULL. */
static void set_or_unset(const char *name, const char *value) {
    if (value != NULL) {
        setenv(name, value, 1);
    } else {
        unsetenv(name);
    }
}

/* Make the environment that was asked for. */
static void set_environment(const struct ld_service *service) {
    const struct ld_options *options = service->options;
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
}

/* Open the log. The user dropped to may read it: his group has it when it is made. */
static int open_log(const struct ld_service *service, struct ld_text *why) {
    int rc = 0;
    if (service->sink == LD_LOG_FILE) {
        long gid = service->has_user ? (long)service->user.gid : -1;
        int fd = ld_file_open_log(service->log_path, gid);
        rc = fd < 0 ? fd : 0;
        if (fd >= 0) {
            close(fd);
        }
    }
    struct ld_log_config config = {.sink = service->sink,
                                   .level = (enum ld_log_level)service->options->log_level,
                                   .json = service->options->log_format == 1,
                                   .capture = service->daemon,
                                   .fd = service->log_fd,
                                   .path = service->log_path,
                                   .ident = service->name};
    rc = rc == 0 ? ld_log_open(&config) : rc;
    if (rc < 0) {
        ld_text_format(why, "log %s: %s",
                       service->log_path != NULL ? service->log_path : service->options->log,
                       rc == -ELOOP ? "it is a symbolic link" : strerror(-rc));
        return 1;
    }
    return 0;
}

/* Go to the working directory. */
static int change_dir(const struct ld_service *service, struct ld_text *why) {
    const char *dir = service->options->chdir;
    if (dir == NULL) {
        dir = service->daemon ? "/" : NULL;
    }
    if (dir != NULL && chdir(dir) < 0) {
        ld_text_format(why, "--chdir %s: %s", dir, strerror(errno));
        return 1;
    }
    return 0;
}

/* Say that somebody else holds the pidfile. */
static int say_running(const struct ld_service *service, struct ld_text *why) {
    struct ld_holder holder;
    if (ld_pidfile_inspect(&holder, service->run_fd, service->name) == 0 && holder.pid > 0) {
        ld_text_format(why, "%s is already running (pid %d)", service->name, (int)holder.pid);
    } else {
        ld_text_format(why, "%s is already running", service->name);
    }
    return 4;
}

/* Say what is wrong with the pidfile. */
static int blame_pidfile(const struct ld_service *service, int rc, struct ld_text *why) {
    ld_text_format(why, "pidfile %s/%s.pid: %s", service->run_dir, service->name,
                   rc == -ELOOP ? "it is a symbolic link: remove it" : strerror(-rc));
    return 1;
}

/* Take the pidfile. */
static int take_pidfile(struct ld_service *service, struct ld_text *why) {
    int rc = ld_pidfile_acquire(&service->pidfile, service->run_fd, service->name);
    if (rc == -EWOULDBLOCK) {
        return say_running(service, why);
    }
    return rc < 0 ? blame_pidfile(service, rc, why) : 0;
}

/* The path of a control socket. */
int ld_service_socket_path(char *path, size_t size, const char *run_dir, const char *name) {
    int length = snprintf(path, size, "%s/%s.sock", run_dir, name);
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

/* Make the control socket. What is there is stale: we hold the pidfile. */
static int make_socket(struct ld_service *service, struct ld_text *why) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    ld_service_socket_path(address.sun_path, sizeof address.sun_path, service->run_dir,
                           service->name);
    unlink(address.sun_path);
    mode_t mask = umask(0177);
    service->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool failed = service->listener < 0 ||
                  bind(service->listener, (struct sockaddr *)&address, sizeof address) < 0 ||
                  listen(service->listener, SOMAXCONN) < 0;
    int code = errno;
    umask(mask);
    service->holds_socket = !failed;
    if (failed) {
        ld_text_format(why, "control socket %s: %s", address.sun_path, strerror(code));
        return 1;
    }
    return 0;
}

/* Listen on what --listen names. */
static int listen_all(struct ld_service *service, struct ld_text *why) {
    static const struct ld_listen_options plain = {.mode = -1};
    struct ld_address address;
    for (size_t i = 0; i < service->options->listen_count; i++) {
        const char *text = service->options->listen[i];
        int fd = ld_address_parse(text, &address) ? ld_socket_listen(&address, &plain) : -EINVAL;
        if (fd >= 0 && !ld_service_add_socket(service, fd, NULL, text)) {
            close(fd);
            fd = -ENOMEM;
        }
        if (fd < 0) {
            ld_text_format(why, "--listen %s: %s", text, strerror(-fd));
            return 1;
        }
    }
    return 0;
}

/* Remove the files of Unix sockets that were made for --listen, and close all sockets. */
static void release_sockets(struct ld_service *service) {
    struct ld_address address;
    for (size_t i = 0; i < service->socket_count; i++) {
        const struct ld_service_socket *at = &service->sockets[i];
        if (at->address != NULL && ld_address_parse(at->address, &address) &&
            ld_address_path(&address) != NULL) {
            unlink(ld_address_path(&address));
        }
        close(at->fd);
        free(at->name);
    }
    service->socket_count = 0;
}

/* Take hold of everything that must be held before the script runs. */
int ld_service_hold(struct ld_service *service, struct ld_text *why) {
    if (service->daemon && ld_daemon_null_stdin() < 0) {
        ld_text_format(why, "/dev/null: %s", strerror(errno));
        return 1;
    }
    umask(0);
    int rc = open_log(service, why);
    umask(service->options->umask);
    set_environment(service);
    rc = rc == 0 ? change_dir(service, why) : rc;
    rc = rc == 0 ? take_pidfile(service, why) : rc;
    rc = rc == 0 ? make_socket(service, why) : rc;
    return rc == 0 ? listen_all(service, why) : rc;
}

/* Set the resource limits. */
static int set_limits(const struct ld_service *service, struct ld_text *why) {
    const struct ld_options *options = service->options;
    for (size_t i = 0; i < options->rlimit_count; i++) {
        if (setrlimit(options->rlimits[i].resource, &options->rlimits[i].limit) < 0) {
            ld_text_format(why, "--rlimit %s: %s", options->rlimits[i].text, strerror(errno));
            return 1;
        }
    }
    return 0;
}

/* Become what the script runs as. */
int ld_service_drop(const struct ld_service *service, struct ld_text *why) {
    int rc = ld_pidfile_write(&service->pidfile, getpid());
    if (rc < 0) {
        return blame_pidfile(service, rc, why);
    }
    rc = set_limits(service, why);
    if (rc == 0 && service->has_user) {
        struct ld_text reason = {0};
        if (ld_user_become(&service->user, &reason) < 0) {
            ld_text_format(why, "--user %s: %s", service->options->user, ld_text_string(&reason));
            rc = 1;
        }
        ld_text_fini(&reason);
    }
    return rc;
}

/* Remove socket and pidfile. */
void ld_service_release(struct ld_service *service) {
    if (service->holds_socket) {
        char file[LD_NAME_MAX + 8];
        snprintf(file, sizeof file, "%s.sock", service->name);
        unlinkat(service->run_fd, file, 0);
        service->holds_socket = false;
    }
    if (service->listener >= 0) {
        close(service->listener);
        service->listener = -1;
    }
    release_sockets(service);
    ld_pidfile_remove(&service->pidfile);
}

/* Notices what others write to a log that is rotated. The log counts its own lines only; io.write, C code and
 * children with its descriptor write to the file directly. The kernel tells once that the file has been
 * modified, and is asked again when that was looked at: an idle service is not woken. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/log.h"
#include "host/internal.h"

#define LOOK_MS 1000 /* from a modification to a look at the size */

/* Ask to be told once that the file has been modified. One that may not be read is looked at again and again while
 * the loop turns anyway. */
static void arm(struct ld_host *host) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ld_log_rotated_fd(&host->log_watch.count));
    if (inotify_add_watch(host->log_watch.fd, path, IN_MODIFY | IN_ONESHOT) < 0) {
        host->log_watch.look_at = uv_now(&host->loop) + LOOK_MS;
    }
}

/* Note that the file has been modified. */
static void on_modified(uv_poll_t *poll, int status, int events) {
    struct ld_host *host = LD_CONTAINER_OF(poll, struct ld_host, log_watch.poll);
    char bytes[1024];
    (void)status;
    (void)events;
    while (read(host->log_watch.fd, bytes, sizeof bytes) > 0) {
    }
    if (host->log_watch.look_at == 0) {
        host->log_watch.look_at = uv_now(&host->loop) + LOOK_MS;
    }
    ld_alarm_wake_at(host, host->log_watch.look_at);
}

/* Look at the size of the file, after the watch has begun again: nothing is missed in between. */
static void look(struct ld_host *host) {
    host->log_watch.look_at = 0;
    arm(host);
    ld_log_check_size();
}

/* Look at the size of the file when it is time, and watch a new file. */
void ld_log_watch_step(struct ld_host *host) {
    uint64_t count;
    uint64_t look_at = host->log_watch.look_at;
    if (host->log_watch.fd < 0) {
        return;
    }
    if (look_at > 0 && uv_now(&host->loop) >= look_at) {
        look(host);
    }
    ld_log_rotated_fd(&count);
    if (count != host->log_watch.count) {
        arm(host);
    }
}

/* Begin to watch, if the log is rotated. */
int ld_log_watch_open(struct ld_host *host) {
    if (ld_log_rotated_fd(&host->log_watch.count) < 0) {
        return 0;
    }
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0) {
        ld_log(LD_LOG_WARN,
               "what others write to the log is not counted for its rotation: inotify: %s",
               strerror(errno));
        return 0;
    }
    host->log_watch.fd = fd;
    int rc = uv_poll_init(&host->loop, &host->log_watch.poll, fd);
    if (rc < 0) {
        close(fd);
        host->log_watch.fd = -1;
        return rc;
    }
    arm(host);
    return uv_poll_start(&host->log_watch.poll, UV_READABLE, on_modified);
}

/* Close the descriptor with its handle. */
static void on_closed(uv_handle_t *handle) {
    struct ld_host *host = LD_CONTAINER_OF((uv_poll_t *)handle, struct ld_host, log_watch.poll);
    close(host->log_watch.fd);
    host->log_watch.fd = -1;
}

/* Stop. */
void ld_log_watch_close(struct ld_host *host) {
    if (host->log_watch.fd >= 0) {
        uv_close((uv_handle_t *)&host->log_watch.poll, on_closed);
    }
}

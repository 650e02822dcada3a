#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "service.h"

#define ANSWER_MAX (16 << 20) /* bytes of an answer: a daemon with very much to tell has a few */
#define RETRY_MS   10         /* between tries to connect to a socket whose queue is full */

/* Milliseconds on the monotonic clock. */
static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What is left until DEADLINE for poll; -1 for ever. */
static int time_left(int64_t deadline) {
    if (deadline < 0) {
        return -1;
    }
    int64_t left = deadline - now_ms();
    return left < 0 ? 0 : (int)(left < 1000000 ? left : 1000000);
}

/* Wait for EVENTS; 0 or a negative errno. */
static int wait_for(int fd, short events, int64_t deadline) {
    struct pollfd poller = {.fd = fd, .events = events};
    for (;;) {
        int rc = poll(&poller, 1, time_left(deadline));
        if (rc > 0) {
            return 0;
        }
        if (rc == 0 && time_left(deadline) == 0) {
            return -ETIMEDOUT;
        }
        if (rc < 0 && errno != EINTR) {
            return -errno;
        }
    }
}

/* Check that whoever listens is of the user whose directory this is: there a name of root's socket
 * could have been put, to have our request go to another daemon. */
static int check_peer(int fd, int run_fd) {
    struct stat dir;
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (fstat(run_fd, &dir) < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
        return -errno;
    }
    return dir.st_uid == 0 || peer.uid == dir.st_uid ? 0 : -EPERM;
}

/* Connect to a daemon; a descriptor or a negative errno. */
static int connect_to(int run_fd, const char *name, int64_t deadline) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char dir[32];
    snprintf(dir, sizeof dir, "/proc/self/fd/%d", run_fd);
    int rc = ld_service_socket_path(address.sun_path, sizeof address.sun_path, dir, name);
    if (rc < 0) {
        return rc;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        rc = -errno;
        if (rc != -EAGAIN || time_left(deadline) == 0) {
            close(fd);
            return rc == -EAGAIN ? -ETIMEDOUT : rc == -ENOENT ? -ECONNREFUSED : rc;
        }
        poll(NULL, 0, RETRY_MS);
    }
    rc = check_peer(fd, run_fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

/* Send the request. */
static int send_request(int fd, const char *verb, int64_t deadline) {
    char line[64];
    int size = snprintf(line, sizeof line, "{\"verb\": \"%s\"}\n", verb);
    int rc = wait_for(fd, POLLOUT, deadline);
    if (rc == 0 && send(fd, line, (size_t)size, MSG_NOSIGNAL) != size) {
        rc = errno == EPIPE ? -ECONNRESET : -errno;
    }
    return rc;
}

/* Receive a line. */
static int receive_line(int fd, struct ld_text *line, int64_t deadline) {
    char bytes[16384];
    for (;;) {
        int rc = wait_for(fd, POLLIN, deadline);
        if (rc < 0) {
            return rc;
        }
        ssize_t size = recv(fd, bytes, sizeof bytes, 0);
        if (size == 0) {
            return -ECONNRESET;
        }
        if (size < 0 && errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
        ld_text_add(line, bytes, size > 0 ? (size_t)size : 0);
        if (line->failed || line->size > ANSWER_MAX) {
            return line->failed ? -ENOMEM : -EMSGSIZE;
        }
        if (size > 0 && bytes[size - 1] == '\n') {
            return 0;
        }
    }
}

/* Ask and wait for the answer. */
static int converse(int fd, const char *verb, int64_t deadline, json_t **answer) {
    struct ld_text line = {0};
    int rc = send_request(fd, verb, deadline);
    rc = rc == 0 ? receive_line(fd, &line, deadline) : rc;
    if (rc == 0) {
        *answer = json_loadb(line.data, line.size, JSON_ALLOW_NUL, NULL);
        rc = *answer == NULL ? -EPROTO : 0;
    }
    ld_text_fini(&line);
    return rc;
}

/* Say in words what went wrong on the way. */
static const char *explain(int rc) {
    switch (rc) {
    case -ETIMEDOUT:
        return "it does not answer (is its script busy? see its log)";
    case -ECONNREFUSED:
        return "nobody listens on its control socket";
    case -EMSGSIZE:
        return "its answer has no end";
    case -EPERM:
        return "its control socket is not of the user whose run directory this is";
    case -ECONNRESET:
        return "it ended before it had answered";
    default:
        return strerror(-rc);
    }
}

/* Ask a daemon. */
int ld_client_ask(const struct ld_request *request, json_t **answer, struct ld_text *why) {
    int64_t deadline = request->seconds < 0 ? -1 : now_ms() + (int64_t)(request->seconds * 1000);
    *answer = NULL;
    int fd = connect_to(request->run_fd, request->name, deadline);
    int rc = fd < 0 ? fd : converse(fd, request->verb, deadline, answer);
    if (fd >= 0) {
        close(fd);
    }
    if (rc < 0) {
        ld_text_puts(why, explain(rc));
        return rc;
    }
    if (!json_is_true(json_object_get(*answer, "ok"))) {
        const json_t *error = json_object_get(*answer, "error");
        if (json_is_string(error)) {
            ld_text_add(why, json_string_value(error), json_string_length(error));
        } else {
            ld_text_puts(why, "it refused, and did not say why");
        }
        json_decref(*answer);
        *answer = NULL;
        return -EREMOTEIO;
    }
    return 0;
}

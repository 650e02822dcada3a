#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/time.h"
#include "daemon/service.h"
#include "posix/paths.h"
#include "posix/process.h"

#define RETRY_MS   10  /* between tries to connect to a socket whose queue is full */
#define LOOK_MS    100 /* between checks whether the daemon is stopped */
#define STOPPED_MS 500 /* a daemon that is stopped so long will not answer */

#define BUSY_SECONDS 1.5 /* for the answer of a daemon whose loop does not turn */

static const char status_verb[] = "status";

/* Bytes of an answer; a daemon with very much to report has a few megabytes. */
#define ANSWER_MAX ((size_t)16 << 20)

/* An exchange of lines. */
struct talk {
    const struct ld_request *request;
    int fd;
    int64_t begun;
    int64_t deadline;
    struct ld_text input;
    size_t taken; /* of the input */
};

/* Compute how long poll may wait: until the next check, or the deadline. */
static int time_left(const struct talk *talk) {
    int64_t left = talk->deadline - ld_time_ms();
    return left < 0 ? 0 : left < LOOK_MS ? (int)left : LOOK_MS;
}

/* Check whether waiting is useless: the time is up, or the daemon is stopped. */
static bool is_hopeless(const struct talk *talk) {
    const struct ld_request *request = talk->request;
    int64_t now = ld_time_ms();
    return now >= talk->deadline ||
           (request->pid > 0 && !request->patient && now - talk->begun >= STOPPED_MS &&
            ld_process_is_stopped(request->pid));
}

/* Wait for EVENTS; 0 or a negative errno. */
static int wait_for(const struct talk *talk, short events) {
    const struct ld_request *request = talk->request;
    struct pollfd poller = {.fd = talk->fd, .events = events};
    for (;;) {
        int rc = request->wait != NULL ? request->wait(request->arg, &poller, time_left(talk))
                                       : poll(&poller, 1, time_left(talk));
        if (rc > 0) {
            return 0;
        }
        if (rc < 0 && errno != EINTR) {
            return -errno;
        }
        if (is_hopeless(talk)) {
            return -ETIMEDOUT;
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

/* Connect to the daemon; 0 or a negative errno. */
static int connect_to(struct talk *talk) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char dir[32];
    snprintf(dir, sizeof dir, "/proc/self/fd/%d", talk->request->run_fd);
    int rc = ld_paths_socket(address.sun_path, sizeof address.sun_path, dir, talk->request->name);
    if (rc < 0) {
        return rc;
    }
    talk->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (talk->fd < 0) {
        return -errno;
    }
    while (connect(talk->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        rc = -errno;
        if (rc != -EAGAIN || is_hopeless(talk)) {
            return rc == -ENOENT ? -ECONNREFUSED : rc;
        }
        poll(NULL, 0, RETRY_MS);
    }
    return check_peer(talk->fd, talk->request->run_fd);
}

/* Send SIZE bytes; 0 or a negative errno. */
static int send_bytes(const struct talk *talk, const char *bytes, size_t size) {
    while (size > 0) {
        int rc = wait_for(talk, POLLOUT);
        if (rc < 0) {
            return rc;
        }
        ssize_t sent = send(talk->fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            return errno == EPIPE ? -ECONNRESET : -errno;
        }
        bytes += sent > 0 ? sent : 0;
        size -= sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}

/* Send the request. */
static int send_request(const struct talk *talk) {
    json_t *line = json_pack("{s:s}", "verb", talk->request->verb);
    if (talk->request->body != NULL) {
        json_object_update(line, (json_t *)talk->request->body);
    }
    char *dump = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    if (dump == NULL) {
        return -ENOMEM;
    }
    size_t size = strlen(dump);
    int rc = size > LD_CLIENT_REQUEST_MAX ? -E2BIG : 0;
    dump[size] = '\n'; /* in the place of the NUL */
    rc = rc == 0 ? send_bytes(talk, dump, size + 1) : rc;
    free(dump);
    return rc;
}

/* Receive more bytes. */
static int receive(struct talk *talk) {
    char bytes[16384];
    int rc = wait_for(talk, POLLIN);
    if (rc < 0) {
        return rc;
    }
    if (ld_time_ms() >= talk->deadline) {
        return -ETIMEDOUT; /* a daemon that keeps sending has not answered either */
    }
    ssize_t size = recv(talk->fd, bytes, sizeof bytes, 0);
    if (size == 0) {
        return -ECONNRESET;
    }
    if (size < 0) {
        return errno == EINTR || errno == EAGAIN ? 0 : -errno;
    }
    ld_text_add(&talk->input, bytes, (size_t)size);
    return talk->input.failed ? -ENOMEM : talk->input.size > ANSWER_MAX ? -EMSGSIZE : 0;
}

/* Receive the next line as JSON. */
static int receive_answer(struct talk *talk, json_t **answer) {
    const char *newline = NULL;
    int rc = 0;
    while (rc == 0 && newline == NULL) {
        size_t searched = talk->input.size;
        if (searched > talk->taken) {
            newline = memchr(talk->input.data + talk->taken, '\n', searched - talk->taken);
        }
        rc = newline == NULL ? receive(talk) : 0;
    }
    if (rc < 0) {
        return rc;
    }
    size_t size = (size_t)(newline - (talk->input.data + talk->taken)) + 1;
    *answer = json_loadb(talk->input.data + talk->taken, size, JSON_ALLOW_NUL, NULL);
    talk->taken += size;
    return json_is_object(*answer) ? 0 : -EPROTO;
}

/* Remove what was taken from the input. */
static void compact(struct talk *talk) {
    struct ld_text *input = &talk->input;
    if (talk->taken > 0) {
        input->size -= talk->taken;
        memmove(input->data, input->data + talk->taken, input->size);
        talk->taken = 0;
    }
}

/* Receive the answer, and the parts that come before it where some are expected. */
static int receive_all(struct talk *talk, json_t **answer) {
    const struct ld_request *request = talk->request;
    int rc = receive_answer(talk, answer);
    while (rc == 0 && request->on_part != NULL) {
        bool is_last = json_object_get(*answer, "ok") != NULL;
        const json_t *output = json_object_get(*answer, "output");
        bool is_known = is_last || json_is_string(output) || request->is_list;
        rc = is_known ? request->on_part(request->arg, *answer) : -EPROTO;
        if (rc < 0 || is_last) {
            return rc;
        }
        json_decref(*answer);
        *answer = NULL;
        compact(talk);
        if (request->is_list) {
            talk->deadline = ld_time_ms() + (int64_t)(request->seconds * 1000);
        }
        rc = ld_time_ms() >= talk->deadline ? -ETIMEDOUT : receive_answer(talk, answer);
    }
    return rc;
}

/* Send the request and receive the answer. */
static int converse_once(struct talk *talk, json_t **answer) {
    int rc = connect_to(talk);
    if (rc == 0) {
        rc = send_request(talk);
    }
    return rc < 0 ? rc : receive_all(talk, answer);
}

/* Whether the daemon has closed the connection and still runs: it does so to the client that has been idle
 * longest when very many come, before it has read a request of that client. */
static bool was_pushed_out(const struct talk *talk, int rc) {
    pid_t pid = talk->request->pid;
    return rc == -ECONNRESET && talk->request->body == NULL && talk->input.size == 0 && pid > 0 &&
           !is_hopeless(talk) && ld_process_activity(pid) != LD_ACTIVITY_GONE;
}

/* The same, again if there was no room for this client. */
static int converse(struct talk *talk, json_t **answer) {
    int rc = converse_once(talk, answer);
    while (was_pushed_out(talk, rc)) {
        close(talk->fd);
        talk->fd = -1;
        poll(NULL, 0, RETRY_MS);
        int again = converse_once(talk, answer);
        rc = again == -ECONNREFUSED ? rc : again; /* it was about to end */
    }
    return rc;
}

/* Describe what a daemon that does not answer is busy with, as far as /proc tells. */
static const char *name_activity(enum ld_activity activity) {
    switch (activity) {
    case LD_ACTIVITY_STOPPED:
        return "it is stopped by a signal";
    case LD_ACTIVITY_TRACED:
        return "a debugger holds it";
    case LD_ACTIVITY_COMPUTES:
        return "it is busy: something in it computes, and its loop does not turn";
    case LD_ACTIVITY_BLOCKED:
        return "it waits for a disk or another device";
    case LD_ACTIVITY_SLEEPS:
        return "it is busy: a call in it blocks, and its loop does not turn";
    case LD_ACTIVITY_GONE:
        break;
    }
    return "it has ended";
}

/* Ask a daemon that has not answered what it is busy with; false if it does not say that either. */
static bool add_busy(const struct ld_request *asked, struct ld_text *why) {
    struct ld_request request = *asked;
    struct ld_text ignored = {0};
    json_t *answer = NULL;
    request.verb = status_verb;
    request.body = NULL;
    request.on_part = NULL;
    request.wait = NULL;
    request.seconds = BUSY_SECONDS;
    bool is_told =
        strcmp(asked->verb, status_verb) != 0 && ld_client_ask(&request, &answer, &ignored) == 0;
    if (is_told) {
        const json_t *error = json_object_get(answer, "error");
        const json_t *awaited = json_object_get(answer, "waits_for");
        if (json_is_string(error)) {
            ld_text_format(why, ": %s", json_string_value(error));
        } else if (json_is_string(awaited)) {
            ld_text_format(why, ": it waits for %s", json_string_value(awaited));
        } else {
            ld_text_puts(why, ": its loop turns, and that is not done yet");
        }
    }
    json_decref(answer);
    ld_text_fini(&ignored);
    return is_told;
}

/* Add why a daemon does not answer. */
static void explain_silence(const struct ld_request *request, struct ld_text *why) {
    enum ld_activity activity = ld_process_activity(request->pid);
    ld_text_format(why, ": %s", name_activity(activity));
    if (activity == LD_ACTIVITY_STOPPED) {
        ld_text_format(why, " (\"lunad signal %s CONT\" lets it go on)", request->name);
    }
}

/* Describe an error of the exchange. */
static void explain(const struct talk *talk, int rc, struct ld_text *why) {
    pid_t pid = talk->request->pid;
    switch (rc) {
    case -EAGAIN: /* the queue of its socket is full */
    case -ETIMEDOUT:
        ld_text_format(why, "it does not answer (waited %.1f s)",
                       (double)(ld_time_ms() - talk->begun) / 1e3);
        if (pid > 0 && (ld_process_is_stopped(pid) || !add_busy(talk->request, why))) {
            explain_silence(talk->request, why);
        }
        break;
    case -ECONNREFUSED:
        ld_text_puts(why, "no process listens on its control socket");
        break;
    case -E2BIG:
        ld_text_puts(why, "the request would have more than 1 MiB");
        break;
    case -EMSGSIZE:
        ld_text_puts(why, "its answer has no end");
        break;
    case -EPERM:
        ld_text_puts(why, "its control socket is not of the user whose run directory this is");
        break;
    case -ECONNRESET:
        ld_text_puts(why, "it ended before it had answered");
        break;
    case -EPROTO:
        ld_text_puts(why, "it does not answer as a lunad does");
        break;
    default:
        ld_text_puts(why, strerror(-rc));
    }
}

/* Ask a daemon. */
int ld_client_ask(const struct ld_request *request, json_t **answer, struct ld_text *why) {
    struct talk talk = {.request = request, .fd = -1, .begun = ld_time_ms()};
    talk.deadline = talk.begun + (int64_t)(request->seconds * 1000);
    *answer = NULL;
    int rc = converse(&talk, answer);
    if (talk.fd >= 0) {
        close(talk.fd);
    }
    ld_text_fini(&talk.input);
    if (rc < 0) {
        explain(&talk, rc, why);
        json_decref(*answer);
        *answer = NULL;
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

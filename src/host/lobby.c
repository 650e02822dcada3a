#include "host/lobby.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "base/json.h"
#include "engine/libc.h"

#define SEATS_MAX   256
#define STRANGERS   128 /* seats of clients that the loop does not know */
#define ACCEPT_MAX  32  /* in one call */
#define LINES_MAX   8   /* of one client, in one call */
#define REQUEST_MAX 512 /* longer ones are left to the loop */

/* A client. */
struct seat {
    int fd;
    bool is_loops;     /* the loop has it too, and closes it */
    bool is_left;      /* what it has sent is left to the loop */
    bool wants_reload; /* that is a reload */
};

struct ld_lobby {
    pthread_mutex_t mutex;
    uid_t owner;
    int listener;
    bool is_full; /* a client waits that cannot be accepted */
    size_t count;
    struct seat seats[SEATS_MAX]; /* in the order in which they came */
    atomic_size_t strangers;      /* those that are not the loop's */
    atomic_bool wants_stop;
    atomic_bool wants_reopen;
    bool has_stopped; /* a client was told so, since the loop has turned */
};

/* Make it. */
struct ld_lobby *ld_lobby_new(uid_t owner) {
    struct ld_lobby *lobby = calloc(1, sizeof *lobby);
    if (lobby != NULL) {
        pthread_mutex_init(&lobby->mutex, NULL);
        lobby->owner = owner;
        lobby->listener = -1;
    }
    return lobby;
}

/* Free it. */
void ld_lobby_free(struct ld_lobby *lobby) {
    int fd;
    while ((fd = ld_lobby_take(lobby)) >= 0) {
        close(fd);
    }
    pthread_mutex_destroy(&lobby->mutex);
    free(lobby);
}

/* Use another listening socket. */
void ld_lobby_set_listener(struct ld_lobby *lobby, int fd) {
    pthread_mutex_lock(&lobby->mutex);
    lobby->listener = fd;
    pthread_mutex_unlock(&lobby->mutex);
}

/* The listening socket. */
int ld_lobby_listener(struct ld_lobby *lobby) {
    pthread_mutex_lock(&lobby->mutex);
    int fd = lobby->is_full ? -1 : lobby->listener;
    pthread_mutex_unlock(&lobby->mutex);
    return fd;
}

/* Add a client; false if there is no room. */
static bool add_seat(struct ld_lobby *lobby, int fd, bool is_loops) {
    if (lobby->count == SEATS_MAX) {
        return false;
    }
    lobby->seats[lobby->count++] = (struct seat){.fd = fd, .is_loops = is_loops};
    lobby->strangers += !is_loops;
    return true;
}

/* Remove a client. */
static void remove_seat(struct ld_lobby *lobby, size_t index) {
    lobby->strangers -= !lobby->seats[index].is_loops;
    lobby->count--;
    memmove(&lobby->seats[index], &lobby->seats[index + 1],
            (lobby->count - index) * sizeof lobby->seats[0]);
}

/* Let a client of the loop in. Without room for it, only the loop answers it. */
void ld_lobby_enter(struct ld_lobby *lobby, int fd) {
    pthread_mutex_lock(&lobby->mutex);
    add_seat(lobby, fd, true);
    pthread_mutex_unlock(&lobby->mutex);
}

/* Let a client of the loop out. */
void ld_lobby_leave(struct ld_lobby *lobby, int fd) {
    pthread_mutex_lock(&lobby->mutex);
    for (size_t i = 0; i < lobby->count; i++) {
        if (lobby->seats[i].fd == fd && lobby->seats[i].is_loops) {
            remove_seat(lobby, i);
            break;
        }
    }
    pthread_mutex_unlock(&lobby->mutex);
}

/* Take over a client. */
int ld_lobby_take(struct ld_lobby *lobby) {
    int fd = -1;
    if (atomic_load(&lobby->strangers) == 0) {
        return -1;
    }
    pthread_mutex_lock(&lobby->mutex);
    for (size_t i = 0; i < lobby->count && fd < 0; i++) {
        if (!lobby->seats[i].is_loops) {
            fd = lobby->seats[i].fd;
            remove_seat(lobby, i);
        }
    }
    pthread_mutex_unlock(&lobby->mutex);
    return fd;
}

/* Whether the daemon is to stop. */
bool ld_lobby_wants_stop(struct ld_lobby *lobby) {
    return atomic_load(&lobby->wants_stop) && atomic_exchange(&lobby->wants_stop, false);
}

/* Whether the log is to be opened again. */
bool ld_lobby_wants_reopen(struct ld_lobby *lobby) {
    return atomic_load(&lobby->wants_reopen) && atomic_exchange(&lobby->wants_reopen, false);
}

/* Say what the daemon is busy with. */
void ld_lobby_say_busy(char *bytes, size_t size, const struct ld_lobby_news *news) {
    bool has_place = news->where != NULL && news->where[0] != '\0';
    snprintf(bytes, size, "busy %s%s for %.*f s", has_place ? "in " : "",
             has_place ? news->where : "(no Lua code runs)", news->seconds < 10 ? 1 : 0,
             news->seconds);
}

/* Send a line; false if it cannot be sent as a whole and at once. The reference is taken over. */
static bool send_answer(int fd, json_t *answer) {
    char *dump = answer != NULL ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(answer);
    if (dump == NULL) {
        return false;
    }
    size_t size = strlen(dump);
    dump[size] = '\n';
    ssize_t sent = send(fd, dump, size + 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    free(dump);
    return sent == (ssize_t)size + 1;
}

/* Make the answer to a verb; a reload gets none unless reloads are refused, one that is only checked does. */
static json_t *make_answer(struct ld_lobby *lobby, const char *verb,
                           const struct ld_lobby_news *news) {
    char words[512];
    ld_lobby_say_busy(words, sizeof words, news);
    json_t *busy =
        json_pack("{s:o, s:f}", "where", ld_json_string(news->where), "seconds", news->seconds);
    if (strcmp(verb, "status") == 0) {
        return json_pack("{s:b, s:s, s:i, s:s, s:o, s:o}", "ok", 1, "name", news->name, "pid",
                         (int)getpid(), "state", news->state, "error", ld_json_string(words),
                         "busy", busy);
    }
    if (strcmp(verb, "stop") == 0) {
        lobby->has_stopped = true;
        atomic_store(&lobby->wants_stop, true);
        return json_pack("{s:b, s:i, s:f, s:o, s:o}", "ok", 1, "pid", (int)getpid(), "timeout",
                         news->stop_timeout, "error", ld_json_string(words), "busy", busy);
    }
    if (strcmp(verb, "reopen") == 0) {
        atomic_store(&lobby->wants_reopen, true);
        strncat(words, "; it reopens its log when that ends", sizeof words - strlen(words) - 1);
    }
    return json_pack("{s:b, s:o, s:o}", "ok", 0, "error", ld_json_string(words), "busy", busy);
}

/* What is done with a line. */
enum fate { ANSWERED, LEFT, BROKEN };

/* Serve a line of SIZE bytes, the newline among them, which is still in the socket. */
static enum fate serve_line(struct ld_lobby *lobby, struct seat *seat, const char *line,
                            size_t size, const struct ld_lobby_news *news) {
    char taken[REQUEST_MAX];
    json_t *request = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const char *verb = json_string_value(json_object_get(request, "verb"));
    bool is_reload = verb != NULL && strcmp(verb, "reload") == 0 &&
                     !json_is_true(json_object_get(request, "check"));
    bool is_commit = verb != NULL && strcmp(verb, "commit") == 0;
    enum fate fate = LEFT;
    seat->wants_reload = is_reload;
    if (verb != NULL && !is_commit && (!is_reload || news->refuses_reload) &&
        recv(seat->fd, taken, size, MSG_DONTWAIT) == (ssize_t)size) {
        seat->wants_reload = false;
        bool is_same = memcmp(taken, line, size) == 0; /* else the loop has taken what was seen */
        fate = is_same && send_answer(seat->fd, make_answer(lobby, verb, news)) ? ANSWERED : BROKEN;
    }
    json_decref(request);
    return fate;
}

/* Serve the lines that a client has sent; false if it has gone. */
static bool serve_seat(struct ld_lobby *lobby, struct seat *seat,
                       const struct ld_lobby_news *news) {
    char line[REQUEST_MAX];
    for (int lines = 0; lines < LINES_MAX; lines++) {
        ssize_t size = recv(seat->fd, line, sizeof line, MSG_PEEK | MSG_DONTWAIT);
        if (size <= 0) {
            return size < 0 && (errno == EAGAIN || errno == EINTR);
        }
        const char *end = memchr(line, '\n', (size_t)size);
        if (end == NULL) {
            seat->is_left = size == sizeof line;
            return true;
        }
        switch (serve_line(lobby, seat, line, (size_t)(end - line) + 1, news)) {
        case ANSWERED:
            break;
        case LEFT:
            seat->is_left = true;
            return true;
        case BROKEN:
            return false;
        }
    }
    return true;
}

/* Whether a client may send requests. */
static bool is_allowed(const struct ld_lobby *lobby, int fd) {
    struct ucred user;
    socklen_t size = sizeof user;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &size) == 0 &&
           (user.uid == 0 || user.uid == lobby->owner);
}

/* Close the stranger that came first and does not wait for a reload; false if there is none. */
static bool close_first(struct ld_lobby *lobby) {
    for (size_t i = 0; i < lobby->count; i++) {
        if (!lobby->seats[i].is_loops && !lobby->seats[i].wants_reload) {
            close(lobby->seats[i].fd);
            remove_seat(lobby, i);
            return true;
        }
    }
    return false;
}

/* Accept a client, and close another one where there is no room or no descriptor for both. A descriptor or
 * a negative errno. */
static int accept_client(struct ld_lobby *lobby) {
    bool has_room = lobby->strangers < STRANGERS && lobby->count < SEATS_MAX;
    if (!has_room && !close_first(lobby)) {
        return -EMFILE;
    }
    for (;;) {
        int fd = ld_libc_accept4(lobby->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0 || (errno != EMFILE && errno != ENFILE)) {
            return fd >= 0 ? fd : -errno;
        }
        if (!close_first(lobby)) {
            return -EMFILE; /* clients wait */
        }
    }
}

/* Accept clients. */
static void accept_clients(struct ld_lobby *lobby) {
    lobby->is_full = false;
    for (int i = 0; i < ACCEPT_MAX && lobby->listener >= 0; i++) {
        int fd = accept_client(lobby);
        if (fd < 0) {
            lobby->is_full = fd != -EAGAIN;
            return;
        }
        if (!is_allowed(lobby, fd)) {
            send_answer(fd, json_pack("{s:b, s:s}", "ok", 0, "error",
                                      "permission denied: this daemon belongs to another user"));
            close(fd);
        } else if (!add_seat(lobby, fd, false)) {
            close(fd);
        }
    }
}

/* Serve all. */
void ld_lobby_serve(struct ld_lobby *lobby, const struct ld_lobby_news *news,
                    struct ld_lobby_wishes *wishes) {
    *wishes = (struct ld_lobby_wishes){0};
    pthread_mutex_lock(&lobby->mutex);
    accept_clients(lobby);
    for (size_t i = 0; i < lobby->count && news->where != NULL;) {
        struct seat *seat = &lobby->seats[i];
        bool is_due = !seat->is_left || (seat->wants_reload && news->refuses_reload);
        if (!is_due || serve_seat(lobby, seat, news)) {
            i++;
        } else if (seat->is_loops) {
            shutdown(seat->fd, SHUT_RDWR); /* the loop will see it */
            seat->is_left = true;
            i++;
        } else {
            close(seat->fd);
            remove_seat(lobby, i);
        }
    }
    for (size_t i = 0; i < lobby->count; i++) {
        wishes->reload = wishes->reload || lobby->seats[i].wants_reload;
    }
    wishes->stop = lobby->has_stopped;
    wishes->clients = lobby->count;
    pthread_mutex_unlock(&lobby->mutex);
}

/* Forget what clients wanted. */
void ld_lobby_end_turn(struct ld_lobby *lobby) {
    pthread_mutex_lock(&lobby->mutex);
    lobby->has_stopped = false;
    for (size_t i = 0; i < lobby->count; i++) {
        lobby->seats[i].is_left = false;
        lobby->seats[i].wants_reload = false;
    }
    pthread_mutex_unlock(&lobby->mutex);
}

#include "daemon/keeper_desk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"

#define REQUEST_MAX 4096 /* bytes of a line */
#define DEAF_S      0.1  /* without accepting clients, when there is no descriptor for them */

/* Begin to answer. */
void ld_keeper_desk_open(struct ld_keeper_desk *desk, int listener, uid_t owner,
                         ld_keeper_desk_answer *answer, void *arg) {
    *desk =
        (struct ld_keeper_desk){.listener = listener, .owner = owner, .answer = answer, .arg = arg};
    for (size_t i = 0; i < LD_KEEPER_DESK_CLIENTS; i++) {
        desk->clients[i].fd = -1;
    }
}

/* Close the connection of a client. */
static void drop(struct ld_keeper_desk_client *client) {
    if (client->fd >= 0) {
        close(client->fd);
    }
    ld_text_fini(&client->input);
    *client = (struct ld_keeper_desk_client){.fd = -1};
}

/* Close all connections. */
void ld_keeper_desk_close(struct ld_keeper_desk *desk) {
    for (size_t i = 0; i < LD_KEEPER_DESK_CLIENTS; i++) {
        drop(&desk->clients[i]);
    }
}

/* Fill in what to poll. */
void ld_keeper_desk_poll(const struct ld_keeper_desk *desk, struct pollfd *polls) {
    bool is_deaf = ld_time_seconds() < desk->deaf_until;
    polls[0] = (struct pollfd){.fd = is_deaf ? -1 : desk->listener, .events = POLLIN};
    for (size_t i = 0; i < LD_KEEPER_DESK_CLIENTS; i++) {
        polls[i + 1] = (struct pollfd){.fd = desk->clients[i].fd, .events = POLLIN};
    }
}

/* Send an answer, whose reference is taken over; false if the client does not take all of it at once. */
static bool send_answer(int fd, json_t *answer) {
    struct ld_text text = {0};
    char *dump = answer != NULL ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(answer);
    if (dump != NULL) {
        ld_text_puts(&text, dump);
        ld_text_putc(&text, '\n');
    }
    free(dump);
    bool sent = text.size > 0 && !text.failed &&
                send(fd, text.data, text.size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)text.size;
    ld_text_fini(&text);
    return sent;
}

/* Make an error answer. */
static json_t *failure(const char *message) {
    return json_pack("{s:b, s:s}", "ok", 0, "error", message);
}

/* Whether the peer of FD may send requests. */
static bool is_allowed(const struct ld_keeper_desk *desk, int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == desk->owner);
}

/* Find the client to drop first: one that was served, or came first; NULL without clients. */
static struct ld_keeper_desk_client *find_oldest(struct ld_keeper_desk *desk) {
    struct ld_keeper_desk_client *oldest = NULL;
    for (size_t i = 0; i < LD_KEEPER_DESK_CLIENTS; i++) {
        struct ld_keeper_desk_client *client = &desk->clients[i];
        if (client->fd >= 0 &&
            (oldest == NULL ||
             (client->served == oldest->served ? client->since < oldest->since : client->served))) {
            oldest = client;
        }
    }
    return oldest;
}

/* Take in a client, in a free place or in that of another one. */
static void take_in(struct ld_keeper_desk *desk, int fd) {
    struct ld_keeper_desk_client *place = NULL;
    for (size_t i = 0; i < LD_KEEPER_DESK_CLIENTS && place == NULL; i++) {
        place = desk->clients[i].fd < 0 ? &desk->clients[i] : NULL;
    }
    if (place == NULL) {
        place = find_oldest(desk);
        drop(place);
    }
    place->fd = fd;
    place->since = ld_time_seconds();
}

/* Accept the clients that wait, but not more than there is room for in one round. Without a descriptor, take
 * that of another client, or let them wait for a moment. */
static void accept_clients(struct ld_keeper_desk *desk) {
    struct pollfd poller = {.fd = desk->listener, .events = POLLIN};
    for (int i = 0; i < LD_KEEPER_DESK_CLIENTS && poll(&poller, 1, 0) > 0; i++) {
        int fd = accept4(desk->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0 && is_allowed(desk, fd)) {
            take_in(desk, fd);
        } else if (fd >= 0) {
            send_answer(fd, failure("permission denied: this daemon belongs to another user"));
            close(fd);
        } else if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) {
            return;
        } else if (find_oldest(desk) != NULL) {
            drop(find_oldest(desk));
        } else {
            desk->deaf_until = ld_time_seconds() + DEAF_S;
            return;
        }
    }
}

/* Make the answer to a line. */
static json_t *answer_line(const struct ld_keeper_desk *desk, const char *line, size_t size) {
    json_t *request = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const char *verb = json_string_value(json_object_get(request, "verb"));
    json_t *answer = request == NULL ? failure("this line is not a JSON object")
                     : verb == NULL  ? failure("a request is an object with a \"verb\"")
                                     : desk->answer(desk->arg, verb);
    json_decref(request);
    return answer;
}

/* Answer the whole lines of a client; false to end with it. */
static bool answer_lines(const struct ld_keeper_desk *desk, struct ld_keeper_desk_client *client) {
    struct ld_text *input = &client->input;
    const char *newline = NULL;
    while (input->size > 0 && (newline = memchr(input->data, '\n', input->size)) != NULL) {
        size_t size = (size_t)(newline - input->data);
        if (!send_answer(client->fd, answer_line(desk, input->data, size))) {
            return false;
        }
        client->served = true;
        client->since = ld_time_seconds();
        input->size -= size + 1;
        memmove(input->data, newline + 1, input->size);
    }
    return input->size < REQUEST_MAX && !input->failed;
}

/* Receive from a client, and answer it. */
static void serve_client(const struct ld_keeper_desk *desk, struct ld_keeper_desk_client *client) {
    char bytes[REQUEST_MAX];
    ssize_t size = recv(client->fd, bytes, sizeof bytes - client->input.size, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    ld_text_add(&client->input, bytes, size > 0 ? (size_t)size : 0);
    if (size <= 0 || !answer_lines(desk, client)) {
        drop(client);
    }
}

/* Serve clients, then accept new ones: else one could be served that did not send anything. */
void ld_keeper_desk_serve(struct ld_keeper_desk *desk, const struct pollfd *polls) {
    for (size_t i = 0; i < LD_KEEPER_DESK_CLIENTS; i++) {
        if (polls[i + 1].revents != 0 && desk->clients[i].fd >= 0) {
            serve_client(desk, &desk->clients[i]);
        }
    }
    if (polls[0].revents != 0 && desk->listener >= 0) {
        accept_clients(desk);
    }
}

/* Whether a client waits for an answer. */
bool ld_keeper_desk_is_busy(const struct ld_keeper_desk *desk, double since) {
    for (size_t i = 0; i < LD_KEEPER_DESK_CLIENTS; i++) {
        const struct ld_keeper_desk_client *client = &desk->clients[i];
        if (client->fd >= 0 && client->since >= since &&
            (!client->served || client->input.size > 0)) {
            return true;
        }
    }
    return false;
}

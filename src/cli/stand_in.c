/* Frames are a letter, a decimal number and a newline. To the spec: A SIZE, a word of the command (its bytes
 * follow); C SIZE, the working directory; G 0, that is all; I SIZE, input; Z 0, its end. From the spec:
 * O SIZE and E SIZE, bytes for stdout and stderr; X STATUS, exit; S SIGNAL, die of it. */
#include "cli/stand_in.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/say.h"
#include "base/text.h"

#define FRAME_MAX 32 /* bytes of the line */

/* Write all; false if the other side has gone. */
static bool write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t count = write(fd, data, size);
        if (count < 0 && errno != EINTR) {
            return false;
        }
        data += count > 0 ? count : 0;
        size -= count > 0 ? (size_t)count : 0;
    }
    return true;
}

/* Send a frame with SIZE bytes. */
static bool send_frame(int fd, char letter, const char *data, size_t size) {
    char line[FRAME_MAX];
    int length = snprintf(line, sizeof line, "%c%zu\n", letter, size);
    return write_all(fd, line, (size_t)length) && write_all(fd, data, size);
}

/* Connect to the spec; a negative errno if that fails. */
static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int code = errno;
        close(fd);
        return -code;
    }
    return fd < 0 ? -errno : fd;
}

/* Tell the spec which command this is. */
static bool introduce(int fd, char **words) {
    char cwd[PATH_MAX];
    bool ok = true;
    for (char **word = words; ok && *word != NULL; word++) {
        ok = send_frame(fd, 'A', *word, strlen(*word));
    }
    if (getcwd(cwd, sizeof cwd) == NULL) {
        cwd[0] = '\0';
    }
    return ok && send_frame(fd, 'C', cwd, strlen(cwd)) && send_frame(fd, 'G', "", 0);
}

/* Pass on what there is on stdin; false at its end. */
static bool pass_input(int fd) {
    char data[16384];
    ssize_t count = read(STDIN_FILENO, data, sizeof data);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) {
        return true;
    }
    if (count <= 0) {
        send_frame(fd, 'Z', "", 0);
        return false;
    }
    return send_frame(fd, 'I', data, (size_t)count);
}

/* Die of a signal, without a core. */
_Noreturn static void die_of(int signo) {
    const struct rlimit none = {0, 0};
    sigset_t all;
    setrlimit(RLIMIT_CORE, &none);
    signal(signo, SIG_DFL);
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    raise(signo);
    _exit(128 + signo);
}

/* Do what the first frame of WANTED says, if it is there as a whole; how many bytes it has. */
static size_t obey(const struct ld_text *wanted) {
    const char *text = ld_text_string(wanted);
    const char *end = memchr(text, '\n', wanted->size);
    if (end == NULL) {
        return 0;
    }
    long number = strtol(text + 1, NULL, 10);
    size_t head = (size_t)(end + 1 - text);
    if (text[0] == 'X') {
        _exit((int)number);
    } else if (text[0] == 'S') {
        die_of((int)number);
    } else if (wanted->size - head < (size_t)number) {
        return 0;
    }
    write_all(text[0] == 'E' ? STDERR_FILENO : STDOUT_FILENO, end + 1, (size_t)number);
    return head + (size_t)number;
}

/* Do what the spec says, until it says that this is the end, or has gone. */
static void serve(int fd) {
    struct ld_text wanted = {0};
    struct pollfd polls[2] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        char data[16384];
        if (poll(polls, 2, -1) < 0 && errno != EINTR) {
            return;
        }
        if (polls[1].revents != 0 && !pass_input(fd)) {
            polls[1].fd = -1;
            polls[1].revents = 0;
        }
        ssize_t count = polls[0].revents != 0 ? read(fd, data, sizeof data) : 1;
        if (count == 0 || (count < 0 && errno != EINTR)) {
            return;
        }
        if (polls[0].revents != 0 && count > 0) {
            ld_text_add(&wanted, data, (size_t)count);
        }
        for (size_t size = obey(&wanted); size > 0; size = obey(&wanted)) {
            struct ld_text rest = {0};
            ld_text_add(&rest, ld_text_string(&wanted) + size, wanted.size - size);
            ld_text_fini(&wanted);
            wanted = rest;
        }
    }
}

/* Stand in for a command. */
int ld_stand_in_run(char **words) {
    int fd = words[0] != NULL ? connect_to(words[0]) : -EINVAL;
    if (fd < 0) {
        ld_say_error("the spec that fakes this command cannot be reached: %s", strerror(-fd));
        return 127;
    }
    if (introduce(fd, words + 1)) {
        serve(fd);
    }
    return 1;
}

#include "cli/repl_wait.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP, SIGCHLD};

static int signal_pipe = -1; /* where the handler writes */

/* Note a signal. */
static void on_signal(int signo) {
    int code = errno;
    unsigned char byte = (unsigned char)signo;
    ssize_t written = write(signal_pipe, &byte, 1); /* a full pipe has enough to say */
    (void)written;
    errno = code;
}

/* Catch signals. */
int ld_repl_wait_open(struct ld_repl_wait *wait) {
    struct sigaction action = {.sa_handler = on_signal};
    int pair[2];
    wait->signals = -1;
    if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    wait->signals = pair[0];
    signal_pipe = pair[1];
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < LD_COUNT(caught); i++) {
        sigaction(caught[i], &action, NULL);
    }
    return 0;
}

/* Do their default again. */
void ld_repl_wait_close(struct ld_repl_wait *wait) {
    for (size_t i = 0; wait->signals >= 0 && i < LD_COUNT(caught); i++) {
        signal(caught[i], SIG_DFL);
    }
    if (wait->signals >= 0) {
        close(wait->signals);
        close(signal_pipe);
    }
    wait->signals = -1;
    signal_pipe = -1;
}

/* Note the signals that have come. */
static void take_signals(struct ld_repl_wait *wait) {
    unsigned char numbers[64];
    ssize_t count = read(wait->signals, numbers, sizeof numbers);
    for (ssize_t i = 0; i < count; i++) {
        switch (numbers[i]) {
        case SIGINT:
            wait->interrupted = true;
            break;
        case SIGWINCH:
            wait->resized = true;
            break;
        case SIGTSTP:
            wait->suspended = true;
            break;
        case SIGCHLD:
            wait->is_over = wait->host != NULL && ld_repl_host_has_ended(wait->host);
            break;
        default:
            wait->ended = numbers[i];
        }
    }
}

/* Copy what one of the host's outputs has. */
static void copy_output(struct ld_repl_wait *wait, int *from, int to) {
    char bytes[16384];
    ssize_t size = read(*from, bytes, sizeof bytes);
    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) {
        close(*from);
        *from = -1;
    } else if (size > 0) {
        if (wait->on_output != NULL) {
            wait->on_output(wait->arg, true);
        }
        ld_file_write(to, bytes, (size_t)size);
        wait->torn = bytes[size - 1] != '\n';
        if (wait->on_output != NULL) {
            wait->on_output(wait->arg, false);
        }
    }
}

/* Wait. */
int ld_repl_wait_poll(struct ld_repl_wait *wait, struct pollfd *poller, int ms) {
    struct pollfd pollers[4] = {
        *poller, {.fd = wait->signals, .events = POLLIN}, {.fd = -1}, {.fd = -1}};
    for (int i = 0; i < 2 && wait->host != NULL; i++) {
        pollers[2 + i] = (struct pollfd){.fd = wait->host->outputs[i], .events = POLLIN};
    }
    int rc = poll(pollers, LD_COUNT(pollers), ms);
    poller->revents = (short)(rc > 0 ? pollers[0].revents : 0);
    for (int i = 0; i < 2 && rc > 0 && wait->host != NULL; i++) {
        if (pollers[2 + i].revents != 0) {
            copy_output(wait, &wait->host->outputs[i], STDOUT_FILENO + i);
        }
    }
    if (rc > 0 && pollers[1].revents != 0) {
        take_signals(wait);
        errno = EINTR;
        return -1;
    }
    if (rc > 0 && poller->revents == 0) {
        errno = EINTR;
        return -1;
    }
    return rc < 0 ? rc : rc > 0;
}

/* Stop. */
void ld_repl_wait_suspend(struct ld_repl_wait *wait) {
    wait->suspended = false;
    raise(SIGSTOP);
}

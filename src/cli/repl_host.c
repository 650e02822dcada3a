#include "cli/repl_host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/say.h"
#include "cli/prepare.h"
#include "daemon/hold.h"
#include "daemon/launch.h"
#include "host/host.h"
#include "posix/inherit.h"

/* Run the host on the words of a command line; the exit status. */
static int run_host(char **words) {
    struct ld_options options;
    struct ld_service service = {.daemon = false};
    struct ld_text why = {0};
    int status = 1;
    int operand = ld_options_parse(&options, LD_OPTIONS_SERVICE | LD_OPTIONS_CHUNK, words, &why);
    if (operand < 0) {
        ld_say_error("%s", ld_text_string(&why));
    } else {
        const struct ld_call call = {.options = &options, .argv = words, .operand = operand};
        status = ld_prepare_descriptors(&call, false);
        if (status == 0) {
            status = ld_prepare_service(&service, &call);
            service.is_console = true;
        }
        if (status == 0) {
            ld_inherit_reset_signals();
            status = ld_launch_run(&service, ld_host_run);
        }
        ld_service_fini(&service);
    }
    ld_options_fini(&options);
    ld_text_fini(&why);
    return status;
}

/* Become the host, in a session of its own: a Ctrl-C is not meant for it. It ends with the console. */
static void be_host(const struct ld_repl_host *host, pid_t console, const int ends[3]) {
    char number[16];
    char *words[] = {"lunad",       "run",  "--name", LD_REPL_HOST_NAME, "--run-dir", NULL,
                     "--notify-fd", number, "-e",     "-- a console",    NULL};
    words[5] = (char *)(uintptr_t)host->dir;
    snprintf(number, sizeof number, "%d", ends[2]);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != console || ld_inherit_null_stdin() < 0 || dup2(ends[0], STDOUT_FILENO) < 0 ||
        dup2(ends[1], STDERR_FILENO) < 0) {
        _exit(1);
    }
    int status = run_host(words + 1);
    rmdir(host->dir);
    exit(status);
}

/* Make the private run directory; 0 or a negative errno. */
static int make_dir(struct ld_repl_host *host) {
    const char *parent = getenv("TMPDIR");
    int size = snprintf(host->dir, sizeof host->dir, "%s/lunad-repl-XXXXXX",
                        parent != NULL && parent[0] == '/' ? parent : "/tmp");
    if ((size_t)size >= sizeof host->dir) {
        return -ENAMETOOLONG;
    }
    return mkdtemp(host->dir) != NULL ? 0 : -errno;
}

/* Close three descriptors. */
static void close_all(const int fds[3]) {
    for (int i = 0; i < 3; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* Make three pipes; 0 or a negative errno. */
static int make_pipes(int readers[3], int writers[3]) {
    for (int i = 0; i < 3; i++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) < 0) {
            int code = errno;
            close_all(readers);
            close_all(writers);
            return -code;
        }
        readers[i] = pair[0];
        writers[i] = pair[1];
    }
    return 0;
}

/* Copy what is left of its output, which says why it failed, and end it. */
static void give_up(struct ld_repl_host *host) {
    struct ld_text text = {0};
    ld_repl_host_ask_to_stop(host);
    for (int i = 0; i < 2; i++) {
        fcntl(host->outputs[i], F_SETFL, 0);
        ld_file_read(host->outputs[i], &text);
    }
    fwrite(ld_text_string(&text), 1, text.size, stderr);
    ld_text_fini(&text);
    ld_repl_host_close(host);
}

/* Start it. */
int ld_repl_host_start(struct ld_repl_host *host) {
    int readers[3] = {-1, -1, -1};
    int writers[3] = {-1, -1, -1};
    char byte;
    pid_t console = getpid();
    int rc = make_pipes(readers, writers);
    rc = rc == 0 ? make_dir(host) : rc;
    if (rc < 0) {
        ld_say_error("repl: no loop of its own: %s", strerror(-rc));
        return 1;
    }
    fflush(NULL);
    host->pid = fork();
    if (host->pid == 0) {
        be_host(host, console, writers);
    }
    close_all(writers);
    host->outputs[0] = readers[0];
    host->outputs[1] = readers[1];
    ssize_t size;
    do {
        size = host->pid > 0 ? read(readers[2], &byte, 1) : -1;
    } while (size < 0 && errno == EINTR && host->pid > 0);
    close(readers[2]);
    for (int i = 0; i < 2; i++) {
        fcntl(readers[i], F_SETFL, O_NONBLOCK);
    }
    if (size != 1) {
        give_up(host);
        ld_say_error("repl: its own loop did not start");
        return 1;
    }
    return 0;
}

/* Wait for the process; true if it has ended. */
static bool reap(struct ld_repl_host *host, int flags) {
    int status;
    if (host->pid > 0) {
        pid_t pid;
        do {
            pid = waitpid(host->pid, &status, flags);
        } while (pid < 0 && errno == EINTR);
        if (pid == host->pid) {
            host->pid = 0;
            host->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
    }
    return host->pid <= 0;
}

/* Note whether it has ended. */
bool ld_repl_host_has_ended(struct ld_repl_host *host) {
    return reap(host, WNOHANG);
}

/* Have it stop. */
void ld_repl_host_ask_to_stop(const struct ld_repl_host *host) {
    if (host->pid > 1) {
        kill(host->pid, SIGTERM);
    }
}

/* Remove what a host has left that was killed. */
static void clean(const struct ld_repl_host *host) {
    int dir = open(host->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir >= 0) {
        ld_hold_remove_stale(dir, LD_REPL_HOST_NAME);
        close(dir);
        rmdir(host->dir);
    }
}

/* Close. */
void ld_repl_host_close(struct ld_repl_host *host) {
    reap(host, 0);
    clean(host);
    for (int i = 0; i < 2; i++) {
        if (host->outputs[i] >= 0) {
            close(host->outputs[i]);
            host->outputs[i] = -1;
        }
    }
}

#include "daemon/way_back.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define STACK_SIZE 65536
#define LATE       SIGVTALRM /* no other part of lunad uses it */

/* What is needed to go back, ready for a signal handler. */
static struct {
    volatile bool is_open;
    volatile sig_atomic_t is_going;
    pid_t thread; /* the main one: children of it would die with it if another thread called exec */
    int old_exe;
    int *fds;
    size_t fd_count;
    char number[16];
    char why[4096];
    char *argv[5];
    timer_t timer;
    char stack[STACK_SIZE];
} way;

static const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, LATE};

/* Execute the old program, on the main thread. Returns if that fails. */
static void execute(void) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    for (size_t i = 0; i < way.fd_count; i++) {
        fcntl(way.fds[i], F_SETFD, 0);
    }
    syscall(SYS_execveat, way.old_exe, "", way.argv, environ, AT_EMPTY_PATH);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* Note why. */
static void note(const char *why) {
    size_t i = 0;
    while (why[i] != '\0' && i + 1 < sizeof way.why) {
        way.why[i] = why[i];
        i++;
    }
    way.why[i] = '\0';
}

/* Bring the old program back. */
void ld_way_back_go(const char *why) {
    if (!way.is_open) {
        return;
    }
    if (!way.is_going) {
        way.is_going = 1;
        note(why);
    }
    if (gettid() != way.thread) {
        syscall(SYS_tgkill, getpid(), way.thread, LATE);
        for (;;) {
            pause();
        }
    }
    way.is_open = false;
    execute();
}

/* Go back from a crash, or when the time is over. */
void ld_way_back_on_crash(int signo) {
    ld_way_back_go(signo == SIGSEGV   ? "the new program crashed (SIGSEGV)"
                   : signo == SIGABRT ? "the new program crashed (SIGABRT)"
                   : signo == SIGBUS  ? "the new program crashed (SIGBUS)"
                   : signo == SIGILL  ? "the new program crashed (SIGILL)"
                   : signo == SIGFPE  ? "the new program crashed (SIGFPE)"
                                      : "the new program was not ready in time");
}

/* The same as a signal handler; where there is no way back, the signal does its default. */
static void on_signal(int signo) {
    ld_way_back_on_crash(signo);
    if (signo != LATE) {
        signal(signo, SIG_DFL);
        raise(signo);
    }
}

/* Go back from an exit that is not ours. */
static void on_process_exit(int status, void *arg) {
    (void)arg;
    (void)status;
    ld_way_back_go("the new program exited");
}

/* Make the timer. */
static int make_timer(void) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = LATE};
    event.sigev_notify_thread_id = way.thread;
    return timer_create(CLOCK_MONOTONIC, &event, &way.timer) < 0 ? -errno : 0;
}

/* Set the time. */
void ld_way_back_wait(double seconds) {
    const struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)seconds,
                     .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) + 1}};
    if (way.is_open) {
        timer_settime(way.timer, 0, &when, NULL);
    }
}

/* Have the signals bring the old program back. */
static void catch_signals(void) {
    const stack_t stack = {.ss_sp = way.stack, .ss_size = sizeof way.stack};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER};
    sigset_t set;
    sigemptyset(&set);
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < LD_COUNT(signals); i++) {
        sigaction(signals[i], &action, NULL);
        sigaddset(&set, signals[i]);
    }
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* Note what is needed to go; 0 or a negative errno. */
static int prepare(const struct ld_handover *handover) {
    static char title[] = "lunad: (returning)";
    static char word[] = LD_HANDOVER_WORD;
    char *argv[] = {title, word, way.number, way.why, NULL};
    size_t count = ld_handover_list_fds(handover, NULL, 0);
    way.fds = calloc(count + 1, sizeof *way.fds);
    if (way.fds == NULL) {
        return -ENOMEM;
    }
    way.fd_count = ld_handover_list_fds(handover, way.fds, count);
    way.thread = gettid();
    way.old_exe = ld_handover_old_program(handover);
    snprintf(way.number, sizeof way.number, "%d", handover->paper);
    memcpy(way.argv, argv, sizeof argv);
    return 0;
}

/* Watch for what it is for; 0 or a negative errno. */
static int watch(void) {
    static bool is_watching;
    if (!is_watching && on_exit(on_process_exit, NULL) != 0) {
        return -ENOMEM;
    }
    is_watching = true;
    return make_timer();
}

/* Open the way. One that cannot be watched is taken at once. */
int ld_way_back_open(const struct ld_handover *handover, double seconds) {
    int rc = prepare(handover);
    if (rc < 0) {
        return rc;
    }
    way.is_going = 0;
    way.is_open = true;
    rc = watch();
    if (rc < 0) {
        ld_way_back_go("the new program can make no timer by which it would go back");
        return rc;
    }
    catch_signals();
    ld_way_back_wait(seconds);
    return 0;
}

/* Close it. */
void ld_way_back_close(void) {
    if (way.is_open) {
        way.is_open = false;
        timer_delete(way.timer);
        sigaction(LATE, &(struct sigaction){.sa_handler = SIG_DFL},
                  NULL); /* a script may have it */
        free(way.fds);
        way.fds = NULL;
    }
}

/* Whether it is open. */
bool ld_way_back_is_open(void) {
    return way.is_open;
}

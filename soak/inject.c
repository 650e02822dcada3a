/* Run a command, or watch a process, and make one of its system calls fail once.
 *
 *   inject -o REPORT [-k PROCESS -c CALL -n N -e ERRNO] (-p PID | COMMAND...)
 *
 * PROCESS counts in the order of forks: 0 is the command, or PID. Without -c nothing fails, and the
 * report says how often each process makes each call. strace's inject counts in each process, so
 * a fault for the daemon would first hit the process that starts it, and it never makes the call that
 * fails: a close that fails would leave the descriptor open. The exit status is the command's. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESSES 24
#define CALLS     512
#define TASKS     256
#define OPTIONS                                                                                    \
    (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |      \
     PTRACE_O_TRACEEXEC)

/* From the system's header: {"read", 0}, and so on. */
static const struct {
    const char *name;
    long number;
} calls[] = {
#include "calls.h"
};

/* A thread that is traced. */
struct task {
    pid_t id;
    int process; /* its number, or -1: its creation has not been announced */
    bool hit;    /* it is in the call that must fail */
    long call;
};

static struct {
    FILE *report;
    bool attached; /* to a process that was there; else a command is run */
    bool started;  /* the command has left the dynamic loader */
    int process;
    long call;
    long when;
    int error;
    bool done;
    pid_t first;
    int processes;
    struct task tasks[TASKS];
    unsigned counts[PROCESSES][CALLS];
} state = {.call = -1, .process = -1, .processes = 1};

/* Give up. */
__attribute__((noreturn)) static void die(const char *what) {
    fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
    exit(125);
}

/* Write a line of the report at once. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(state.report, format, args);
    va_end(args);
    fputc('\n', state.report);
    fflush(state.report);
}

/* The number of a call by its name, or -1. */
static long find_call(const char *name) {
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(calls[i].name, name) == 0) {
            return calls[i].number;
        }
    }
    return -1;
}

/* Write how often each process made each call. */
static void report_counts(void) {
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        for (int process = 0; process < PROCESSES; process++) {
            unsigned count = calls[i].number < CALLS ? state.counts[process][calls[i].number] : 0;
            if (count > 0) {
                say("count %d %s %u", process, calls[i].name, count);
            }
        }
    }
}

/* Handle a thread's return from a call. */
static void on_return(struct task *task) {
    if (!task->hit) {
        return;
    }
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, task->id, 0, &registers);
    registers.rax = (unsigned long long)-(long long)state.error;
    ptrace(PTRACE_SETREGS, task->id, 0, &registers);
    task->hit = false;
    state.done = true;
    say("hit %d", (int)task->id);
}

/* Finish a call that was replaced: untraced it would fail with ENOSYS. */
static void complete(struct task *task) {
    int status;
    if (waitpid(task->id, &status, __WALL) == task->id && WIFSTOPPED(status)) {
        on_return(task);
    }
}

/* Finish; traced processes continue untraced. */
__attribute__((noreturn)) static void finish(int status) {
    if (state.call < 0) {
        report_counts();
    }
    for (struct task *task = state.tasks; task < state.tasks + TASKS; task++) {
        if (task->id != 0 && task->hit) {
            complete(task);
        }
    }
    exit(status);
}

static volatile sig_atomic_t asked_to_end;

/* Note that the driver wants to end, and repeat in case waitpid was not reached yet. */
static void on_term(int signo) {
    asked_to_end = signo;
    alarm(1);
}

/* The entry of a thread; made if the thread is new. */
static struct task *find_task(pid_t id) {
    struct task *unused = NULL;
    for (struct task *task = state.tasks; task < state.tasks + TASKS; task++) {
        if (task->id == id) {
            return task;
        }
        if (task->id == 0 && unused == NULL) {
            unused = task;
        }
    }
    if (unused == NULL) {
        die("too many threads");
    }
    *unused = (struct task){.id = id, .process = -1};
    return unused;
}

/* The process that a thread belongs to. */
static pid_t group_of(pid_t id) {
    char path[40];
    char line[128];
    int group = id;
    snprintf(path, sizeof path, "/proc/%d/status", (int)id);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "Tgid: %d", &group) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return group;
}

/* Let a thread continue; once the fault has happened, without stops at calls. */
static void resume(const struct task *task, int signo) {
    ptrace(state.done ? PTRACE_CONT : PTRACE_SYSCALL, task->id, 0, signo);
}

/* Number a thread whose creation is announced: as its process, or as the next one. */
static void on_birth(const struct task *parent) {
    unsigned long id = 0;
    ptrace(PTRACE_GETEVENTMSG, parent->id, 0, &id);
    struct task *task = find_task((pid_t)id);
    pid_t group = group_of(task->id);
    task->process = group == task->id ? state.processes++ : find_task(group)->process;
    resume(task, 0); /* if it has stopped already */
}

/* Whether what a process does now counts. */
static bool is_counted(const struct task *task) {
    if (task->process < 0 || task->process >= PROCESSES || task->call >= CALLS) {
        return false;
    }
    if (task->id == state.first && !state.attached && !state.started) {
        state.started = task->call == SYS_fcntl; /* the loader does not call it */
    }
    return state.started || state.attached;
}

/* Whether a descriptor of a process is an eventfd. */
static bool is_eventfd(pid_t id, int fd) {
    char path[60];
    char target[60] = "";
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)id, fd);
    return readlink(path, target, sizeof target - 1) > 0 && strstr(target, "[eventfd]") != NULL;
}

/* Whether a call can fail at all: the kernel needs memory to add to an epoll set, but none to change
 * it; reads and writes of an eventfd succeed; a wait that does not block is not interrupted. */
static bool can_fail(pid_t id, const struct user_regs_struct *registers) {
    switch (registers->orig_rax) {
    case SYS_epoll_ctl:
        return registers->rsi == EPOLL_CTL_ADD;
    case SYS_read:
    case SYS_write:
        return !is_eventfd(id, (int)registers->rdi);
    case SYS_wait4:
        return (registers->rdx & WNOHANG) == 0;
    case SYS_waitid:
        return (registers->r10 & WNOHANG) == 0;
    default:
        return true;
    }
}

/* Whether a call is made although it fails: its effect cannot be taken back or left out. */
static bool is_made(long call) {
    return call == SYS_close;
}

/* Handle a thread's entry into a call. */
static void on_entry(struct task *task) {
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, task->id, 0, &registers);
    task->call = (long)registers.orig_rax;
    if (!is_counted(task) || !can_fail(task->id, &registers)) {
        return;
    }
    unsigned count = ++state.counts[task->process][task->call];
    if (task->process != state.process || task->call != state.call || count != state.when) {
        return;
    }
    task->hit = true;
    if (!is_made(task->call)) {
        registers.orig_rax = (unsigned long long)-1;
        ptrace(PTRACE_SETREGS, task->id, 0, &registers);
    }
}

/* Handle a thread that has stopped at a call. */
static void on_call(struct task *task) {
    struct __ptrace_syscall_info info;
    ptrace(PTRACE_GET_SYSCALL_INFO, task->id, sizeof info, &info);
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        on_entry(task);
    } else {
        on_return(task);
    }
    resume(task, 0);
}

/* Handle a thread that has stopped. */
static void on_stop(struct task *task, int status) {
    int signo = WSTOPSIG(status);
    int event = status >> 16;
    switch (event) {
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
        on_birth(task);
        resume(task, 0);
        return;
    case PTRACE_EVENT_EXEC:
        if (state.attached && task->process > 0) { /* it runs another program now */
            task->process = PROCESSES;
        }
        resume(task, 0);
        return;
    case PTRACE_EVENT_STOP:
        if (signo != SIGTRAP) {
            ptrace(PTRACE_LISTEN, task->id, 0, 0);
        } else if (task->process >= 0) { /* else it waits for its announcement */
            resume(task, 0);
        }
        return;
    default:
        if (signo == (SIGTRAP | 0x80)) {
            on_call(task);
        } else {
            resume(task, signo);
        }
    }
}

/* Trace until the first process has ended. */
static void trace(void) {
    for (;;) {
        int status;
        pid_t id = waitpid(-1, &status, __WALL);
        if (asked_to_end) {
            finish(0);
        }
        if (id < 0) {
            if (errno == EINTR) {
                continue;
            }
            finish(0);
        }
        struct task *task = find_task(id);
        if (WIFSTOPPED(status)) {
            on_stop(task, status);
        } else if (id == state.first) {
            finish(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
        } else {
            task->id = 0;
        }
    }
}

/* Start a command that waits until it is traced. */
static pid_t run(char **command) {
    int gate[2];
    char byte;
    if (pipe(gate) < 0) {
        die("pipe");
    }
    pid_t pid = fork();
    if (pid < 0) {
        die("fork");
    }
    if (pid == 0) {
        close(gate[1]);
        if (read(gate[0], &byte, 1) < 0) {
            _exit(125);
        }
        close(gate[0]);
        execv(command[0], command);
        _exit(127);
    }
    close(gate[0]);
    if (ptrace(PTRACE_SEIZE, pid, 0, OPTIONS) < 0) {
        kill(pid, SIGKILL);
        die("ptrace");
    }
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    close(gate[1]);
    return pid;
}

/* Attach to a process; its other threads are not traced. */
static pid_t attach(pid_t pid) {
    if (pid <= 1 || ptrace(PTRACE_SEIZE, pid, 0, OPTIONS) < 0) {
        die("ptrace");
    }
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    return pid;
}

/* Read the options; the index of the command. */
static int parse(int argc, char **argv, pid_t *pid) {
    int option;
    while ((option = getopt(argc, argv, "+o:k:c:n:e:p:")) > 0) {
        switch (option) {
        case 'o':
            state.report = fopen(optarg, "we");
            break;
        case 'k':
            state.process = atoi(optarg);
            break;
        case 'c':
            state.call = find_call(optarg);
            break;
        case 'n':
            state.when = atol(optarg);
            break;
        case 'e':
            state.error = atoi(optarg);
            break;
        case 'p':
            *pid = (pid_t)atoi(optarg);
            break;
        default:
            exit(125);
        }
    }
    return optind;
}

int main(int argc, char **argv) {
    pid_t pid = 0;
    int command = parse(argc, argv, &pid);
    if (state.report == NULL || (pid == 0 && command >= argc)) {
        fprintf(stderr, "usage: inject -o REPORT [-k PROCESS -c CALL -n N -e ERRNO] "
                        "(-p PID | COMMAND...)\n");
        return 125;
    }
    struct sigaction action = {.sa_handler = on_term};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    state.attached = pid != 0;
    state.first = state.attached ? attach(pid) : run(argv + command);
    find_task(state.first)->process = 0;
    /* The first stop makes sure that the tracing of calls has begun. */
    int status;
    if (waitpid(state.first, &status, __WALL) == state.first && WIFSTOPPED(status)) {
        on_stop(find_task(state.first), status);
    }
    say("attached");
    trace();
}

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "engine/spawn.h"
#include "support.h"

#define WORDS(...) ((char *const[]){__VA_ARGS__, NULL})
#define NOBODY     65534

static char *const plain_env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};

/* A program to start, with stdout in a pipe. */
struct job {
    struct ld_spawn spec;
    struct ld_spawn_fd fds[16];
    int out;
    int theirs;
    pid_t pid;
    const char *step;
};

/* Prepare a job. */
static void prepare(struct job *job, char *const *argv) {
    int ends[2];
    *job = (struct job){0};
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    job->out = ends[0];
    job->theirs = ends[1];
    job->fds[0] = (struct ld_spawn_fd){0, open("/dev/null", O_RDWR | O_CLOEXEC)};
    job->fds[1] = (struct ld_spawn_fd){1, ends[1]};
    job->fds[2] = (struct ld_spawn_fd){2, ends[1]};
    job->spec = (struct ld_spawn){.argv = argv,
                                  .envp = plain_env,
                                  .fds = job->fds,
                                  .fd_count = 3,
                                  .mask = -1,
                                  .identity = {(uid_t)-1, (gid_t)-1, NULL, -1}};
}

/* Start it. */
static int start(struct job *job) {
    int rc = ld_spawn_start(&job->spec, &job->pid, NULL, &job->step);
    close(job->theirs);
    close(job->fds[0].parent);
    return rc;
}

/* Start it, and return what it says until its end. */
static const char *run(struct job *job) {
    CHECK_INT(0, start(job));
    const char *text = read_fd(job->out);
    close(job->out);
    CHECK_INT(0, wait_child(job->pid));
    return text;
}

/* Start what must fail at STEP with CODE, with nothing left. */
static void check_fails(struct job *job, int code, const char *step) {
    job->pid = -77;
    CHECK_INT(-code, start(job));
    CHECK_STR(step, job->step);
    CHECK_INT(-77, job->pid);
    CHECK_STR("", read_fd(job->out)); /* no process has the pipe */
    close(job->out);
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

/* The value of a line of /proc/PID/status. */
static const char *status_line(const char *status, const char *key) {
    static char value[256];
    const char *line = strstr(status, key);
    const char *at = line != NULL ? line + strlen(key) + 1 : "";
    at += strspn(at, " \t:");
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\n"), at);
    return value;
}

static void test_words_and_environment(void) {
    struct job job;
    prepare(&job, WORDS("sh", "-c", "echo \"$0|$1|$A|$HOME|\"", "zero", "o n\ne"));
    job.spec.envp = WORDS("PATH=/bin", "A=b c");
    CHECK_STR("zero|o n\ne|b c||\n", run(&job));
    prepare(&job, WORDS("env"));
    job.spec.envp = WORDS("PATH=/usr/bin:/bin", "X=1");
    CHECK_STR("PATH=/usr/bin:/bin\nX=1\n", run(&job));
}

static void test_search(void) {
    struct job job;
    write_file(box_path("tool"), "#!/bin/sh\necho found\n");
    write_file(box_path("denied"), "#!/bin/sh\n");
    write_file(box_path("text"), "no program\n");
    REQUIRE(chmod(box_path("tool"), 0755) == 0 && chmod(box_path("text"), 0755) == 0);
    char path[128];
    snprintf(path, sizeof path, "PATH=/nowhere:/dev/null:%s", box_path(""));
    prepare(&job, WORDS("tool"));
    job.spec.envp = WORDS(path);
    CHECK_STR("found\n", run(&job));
    prepare(&job, WORDS("none-of-that-name"));
    check_fails(&job, ENOENT, "exec");
    prepare(&job, WORDS("denied"));
    job.spec.envp = WORDS(path);
    check_fails(&job, EACCES, "exec");
    prepare(&job, WORDS((char *)(uintptr_t)box_path("denied")));
    check_fails(&job, EACCES, "exec");
    prepare(&job, WORDS((char *)(uintptr_t)box_path("")));
    check_fails(&job, EACCES, "exec");
    prepare(&job, WORDS((char *)(uintptr_t)box_path("text")));
    check_fails(&job, ENOEXEC, "exec");
    prepare(&job, WORDS((char *)(uintptr_t)box_path("tool/x")));
    check_fails(&job, ENOTDIR, "exec");
    prepare(&job, WORDS(""));
    check_fails(&job, ENOENT, "exec");
}

static void test_too_much(void) {
    static char big[200000];
    struct job job;
    memset(big, 'x', sizeof big - 1);
    prepare(&job, WORDS("true", big));
    check_fails(&job, E2BIG, "exec");
}

static void test_directory(void) {
    struct job job;
    prepare(&job, WORDS("pwd"));
    job.spec.cwd = "/usr";
    CHECK_STR("/usr\n", run(&job));
    prepare(&job, WORDS("pwd"));
    job.spec.cwd = "/nowhere";
    check_fails(&job, ENOENT, "chdir");
    prepare(&job, WORDS("pwd"));
    job.spec.cwd = "/dev/null";
    check_fails(&job, ENOTDIR, "chdir");
    char here[256];
    prepare(&job, WORDS("/bin/pwd"));
    const char *said = run(&job);
    CHECK(getcwd(here, sizeof here) != NULL && strncmp(said, here, strlen(here)) == 0);
}

static void test_surroundings(void) {
    struct job job;
    prepare(&job, WORDS("cat", "/proc/self/status", "/proc/self/limits", "/proc/self/stat"));
    job.spec.mask = 027;
    job.spec.nice = 3;
    job.spec.rlimits[0].resource = RLIMIT_NOFILE;
    job.spec.rlimits[0].limit = (struct rlimit){100, 200};
    job.spec.rlimits[1].resource = RLIMIT_CORE;
    job.spec.rlimits[1].limit = (struct rlimit){0, 0};
    job.spec.rlimit_count = 2;
    const char *text = run(&job);
    CHECK_STR("0027", status_line(text, "Umask"));
    CHECK(strstr(text, "Max open files            100                  200 ") != NULL);
    CHECK(strstr(text, "Max core file size        0                    0 ") != NULL);
    const char *stat = strstr(text, "(cat)");
    long nice = -100;
    CHECK(stat != NULL && sscanf(stat,
                                 "(cat) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u "
                                 "%*d %*d %*d %ld",
                                 &nice) == 1);
    CHECK_INT(getpriority(PRIO_PROCESS, 0) + 3, nice);
    umask(0123);
    prepare(&job, WORDS("cat", "/proc/self/status"));
    CHECK_STR("0123", status_line(run(&job), "Umask"));
    umask(022);
}

static void test_limits_fail(void) {
    struct job job;
    prepare(&job, WORDS("true"));
    job.spec.rlimits[0].resource = RLIMIT_NOFILE;
    job.spec.rlimits[0].limit = (struct rlimit){200, 100};
    job.spec.rlimit_count = 1;
    check_fails(&job, EINVAL, "setrlimit");
    prepare(&job, WORDS("true"));
    job.spec.rlimits[0].resource = 12345;
    job.spec.rlimit_count = 1;
    check_fails(&job, EINVAL, "setrlimit");
}

/* As nobody, who may not. */
static void fail_unprivileged(void) {
    struct job job;
    REQUIRE(setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0);
    REQUIRE(setresuid(NOBODY, NOBODY, NOBODY) == 0);
    prepare(&job, WORDS("true"));
    job.spec.identity.uid = 0;
    check_fails(&job, EPERM, "setuid");
    prepare(&job, WORDS("true"));
    job.spec.identity.gid = 0;
    check_fails(&job, EPERM, "setuid");
    prepare(&job, WORDS("true"));
    job.spec.identity.group_count = 0;
    check_fails(&job, EPERM, "setuid");
    prepare(&job, WORDS("true"));
    job.spec.nice = -5;
    check_fails(&job, EACCES, "setpriority");
    prepare(&job, WORDS("id", "-u"));
    CHECK_STR("65534\n", run(&job));
}

static void test_identity(void) {
    struct job job;
    const gid_t groups[2] = {4, 12345};
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    prepare(&job, WORDS("cat", "/proc/self/status"));
    job.spec.identity = (struct ld_spawn_identity){1234567, 7654321, groups, 2};
    const char *text = run(&job);
    CHECK_STR("1234567\t1234567\t1234567\t1234567", status_line(text, "Uid"));
    CHECK_STR("7654321\t7654321\t7654321\t7654321", status_line(text, "Gid"));
    CHECK_STR("4 12345 ", status_line(text, "Groups"));
    CHECK_INT(0, geteuid()); /* we are as we were */
    CHECK_INT(0, getegid());
    check_in_child(fail_unprivileged);
}

static void fail_to_clone(void) {
    struct job job;
    deny_syscall(SYS_clone, EAGAIN);
    prepare(&job, WORDS("true"));
    check_fails(&job, EAGAIN, "clone");
}

static void fail_to_lead(void) {
    struct job job;
    deny_syscall(SYS_setpgid, EPERM);
    prepare(&job, WORDS("true"));
    check_fails(&job, EPERM, "setpgid");
}

static void fail_to_leave(void) {
    struct job job;
    deny_syscall(SYS_setsid, EPERM);
    prepare(&job, WORDS("true"));
    job.spec.session = true;
    check_fails(&job, EPERM, "setpgid");
}

static void test_clone_and_group_fail(void) {
    check_in_child(fail_to_clone);
    check_in_child(fail_to_lead);
    check_in_child(fail_to_leave);
}

static void test_fds_fail(void) {
    static const int wrong[] = {-1, 5, 999};
    struct job job;
    for (size_t i = 0; i < LD_COUNT(wrong); i++) {
        for (int child = 5; child < 7; child++) {
            prepare(&job, WORDS("true"));
            close(fcntl(1, F_DUPFD_CLOEXEC, 900)); /* whatever was there */
            job.fds[3] = (struct ld_spawn_fd){child, wrong[i] == 5 ? 555 : wrong[i]};
            job.spec.fd_count = 4;
            check_fails(&job, EBADF, "dup2");
        }
    }
    prepare(&job, WORDS("true"));
    job.fds[3] = (struct ld_spawn_fd){555, 555}; /* closed, and in its place */
    job.spec.fd_count = 4;
    check_fails(&job, EBADF, "dup2");
}

/* No room for what must be moved. */
static void fail_to_move(void) {
    struct job job;
    struct rlimit limit;
    prepare(&job, WORDS("true"));
    job.fds[3] = (struct ld_spawn_fd){20, job.theirs};
    job.spec.fd_count = 4;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 21;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    job.pid = 0;
    CHECK_INT(-EINVAL, start(&job)); /* as fcntl says it: past the limit */
    CHECK_STR("dup2", job.step);
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static void test_move_fails(void) {
    check_in_child(fail_to_move);
}

static bool without_close_range;

/* Put files "a" to "e" on 3 to 7, and start a shell with a plan for its descriptors; what it reads
 * from 3 to 9 in order, "-" for what is closed. */
static void check_plan(const struct ld_spawn_fd *plan, size_t count, const char *expected) {
    struct job job;
    int sources[5];
    for (int i = 0; i < 5; i++) {
        char text[2] = {(char)('a' + i), '\0'};
        write_file(box_path(text), text);
        sources[i] = open(box_path(text), O_RDONLY | O_CLOEXEC);
    }
    prepare(&job, WORDS("sh", "-c",
                        "for fd in 3 4 5 6 7 8 9; do\n"
                        "  if [ -e /proc/self/fd/$fd ]; then cat /proc/self/fd/$fd\n"
                        "  else echo -n -; fi\n"
                        "done"));
    int high = fcntl(job.theirs, F_DUPFD_CLOEXEC, 50);
    int null = fcntl(job.fds[0].parent, F_DUPFD_CLOEXEC, 50);
    int out = fcntl(job.out, F_DUPFD_CLOEXEC, 50);
    close(job.theirs);
    close(job.fds[0].parent);
    close(job.out);
    job.theirs = job.fds[1].parent = job.fds[2].parent = high;
    job.fds[0].parent = null;
    job.out = out;
    for (int i = 0; i < 5; i++) {
        int moved = fcntl(sources[i], F_DUPFD_CLOEXEC, 60);
        close(sources[i]);
        sources[i] = moved;
    }
    for (int i = 0; i < 5; i++) {
        dup3(sources[i], 3 + i, O_CLOEXEC);
        close(sources[i]);
    }
    memcpy(&job.fds[3], plan, count * sizeof *plan);
    job.spec.fd_count = 3 + count;
    CHECK_STR(expected, run(&job));
    for (int i = 0; i < 5; i++) {
        close(3 + i);
    }
}

/* Every kind of placement. */
static void place_all(void) {
    static const struct {
        struct ld_spawn_fd plan[6];
        size_t count;
        const char *expected;
    } rows[] = {
        {{{0, 0}}, 0, "-------"},
        {{{3, 3}}, 1, "a------"},
        {{{3, 4}, {4, 3}}, 2, "ba-----"}, /* a swap */
        {{{4, 3}, {3, 4}}, 2, "ba-----"},
        {{{3, 4}, {4, 5}, {5, 3}}, 3, "bca----"}, /* a cycle */
        {{{5, 3}, {4, 5}, {3, 4}}, 3, "bca----"},
        {{{3, 4}, {4, 5}, {5, 6}, {6, 7}}, 4, "bcde---"}, /* a chain */
        {{{7, 6}, {6, 5}, {5, 4}, {4, 3}}, 4, "-abcd--"},
        {{{3, 3}, {4, 3}, {5, 3}}, 3, "aaa----"}, /* one for many */
        {{{5, 3}, {3, 3}}, 2, "a-a----"},
        {{{9, 7}, {3, 7}}, 2, "e-----e"},
        {{{3, 7}, {7, 7}, {4, 5}, {5, 4}}, 4, "ecb-e--"},
        {{{8, 3}}, 1, "-----a-"},
        {{{4, 4}, {6, 6}}, 2, "-b-d---"},
    };
    close(3); /* inherited, as they may be */
    closefrom(4);
    if (without_close_range) {
        deny_syscall(SYS_close_range, ENOSYS);
    }
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        check_plan(rows[i].plan, rows[i].count, rows[i].expected);
    }
}

static void test_places(void) {
    box_path("");
    without_close_range = false;
    check_in_child(place_all);
}

static void test_places_on_old_kernels(void) {
    box_path("");
    without_close_range = true;
    check_in_child(place_all);
}

/* The standard streams may come from one another. */
static void permute_std(void) {
    int a[2];
    int b[2];
    struct job job;
    REQUIRE(pipe2(a, O_CLOEXEC) == 0 && pipe2(b, O_CLOEXEC) == 0);
    prepare(&job, WORDS("sh", "-c", "echo out; echo err >&2"));
    dup2(a[1], 1);
    dup2(b[1], 2);
    job.fds[1].parent = 2;
    job.fds[2].parent = 1;
    int rc = start(&job);
    wait_child(job.pid);
    dup2(job.fds[0].parent, 1);
    close(1);
    close(2);
    close(a[1]);
    close(b[1]);
    bool right =
        rc == 0 && strcmp(read_fd(a[0]), "err\n") == 0 && strcmp(read_fd(b[0]), "out\n") == 0;
    _exit(right ? 0 : 1);
}

static void test_std(void) {
    check_in_child(permute_std);
}

/* Many descriptors without close-on-exec. */
static void leak_nothing(void) {
    struct job job;
    if (without_close_range) {
        deny_syscall(SYS_close_range, ENOSYS);
    }
    prepare(&job, WORDS("ls", "/proc/self/fd"));
    for (int i = 0; i < 50; i++) {
        REQUIRE(dup(1) >= 0);
    }
    REQUIRE(dup2(1, 1000) == 1000);
    CHECK_STR("0\n1\n2\n3\n", run(&job));                    /* and that of ls itself */
    CHECK(without_close_range || fcntl(1000, F_GETFD) == 0); /* ours are as they were */
}

static void test_nothing_inherited(void) {
    without_close_range = false;
    check_in_child(leak_nothing);
}

static void test_nothing_inherited_on_old_kernels(void) {
    without_close_range = true;
    check_in_child(leak_nothing);
}

static void on_signal(int signo) {
    (void)signo;
}

/* All blocked, and handled or ignored. */
static void spoil_and_spawn(void) {
    static const struct {
        void (*handler)(int);
        unsigned long rest[3];
    } ignore = {.handler = SIG_IGN};
    struct job job;
    sigset_t all;
    for (int signo = 1; signo <= 64; signo++) {
        bool crash = signo == SIGSEGV || signo == SIGBUS || signo == SIGFPE || signo == SIGILL;
        struct sigaction action = {.sa_handler = on_signal};
        if (!crash && (signo % 2 == 0 || sigaction(signo, &action, NULL) < 0)) {
            syscall(SYS_rt_sigaction, signo, &ignore, NULL, 8);
        }
    }
    sigfillset(&all);
    sigdelset(&all, SIGALRM);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prepare(&job, WORDS("cat", "/proc/self/status"));
    CHECK_INT(0, start(&job));
    const char *text = read_fd(job.out);
    CHECK_STR("0000000000000000", status_line(text, "SigBlk"));
    CHECK_STR("0000000000000000", status_line(text, "SigIgn"));
    CHECK_STR("0000000000000000", status_line(text, "SigCgt"));
    CHECK_STR("0000000000000000", status_line(text, "SigPnd"));
    sigset_t after;
    sigprocmask(SIG_SETMASK, NULL, &after);
    for (int signo = 1; signo <= 64; signo++) { /* ours are as they were */
        bool blocked =
            signo != SIGKILL && signo != SIGSTOP && signo != SIGALRM && signo != 32 && signo != 33;
        CHECK_INT(blocked, sigismember(&after, signo) == 1);
    }
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    CHECK(action.sa_handler == SIG_IGN);
    sigaction(SIGINT, NULL, &action);
    CHECK(action.sa_handler == SIG_IGN);
    sigaction(SIGHUP, NULL, &action);
    CHECK(action.sa_handler == on_signal);
}

static void test_signals(void) {
    check_in_child(spoil_and_spawn);
}

static void test_group_and_session(void) {
    struct job job;
    prepare(&job, WORDS("sleep", "1000"));
    REQUIRE(start(&job) == 0);
    CHECK_INT(job.pid, getpgid(job.pid));
    CHECK_INT(getsid(0), getsid(job.pid));
    end_child(job.pid);
    close(job.out);
    prepare(&job, WORDS("sleep", "1000"));
    job.spec.session = true;
    REQUIRE(start(&job) == 0);
    CHECK_INT(job.pid, getpgid(job.pid));
    CHECK_INT(job.pid, getsid(job.pid));
    end_child(job.pid);
    close(job.out);
}

/* Whether a process sleeps. */
static bool is_asleep(void *arg) {
    return process_state(*(const pid_t *)arg) == 'S';
}

/* Start a sleeper in a process that is then killed; the sleeper's pid. */
static pid_t start_and_die(bool session, uid_t uid) {
    int ends[2];
    pid_t sleeper = 0;
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    pid_t parent = fork_bound();
    if (parent == 0) {
        struct job job;
        prepare(&job, WORDS("sleep", "1000"));
        job.spec.session = session;
        job.spec.identity.uid = uid;
        REQUIRE(start(&job) == 0);
        REQUIRE(write(ends[1], &job.pid, sizeof job.pid) == sizeof job.pid);
        for (;;) {
            pause();
        }
    }
    REQUIRE(read(ends[0], &sleeper, sizeof sleeper) == sizeof sleeper && sleeper > 1);
    CHECK(wait_until(is_asleep, &parent));
    end_child(parent);
    close(ends[0]);
    close(ends[1]);
    return sleeper;
}

static void test_parent_death(void) {
    CHECK(wait_gone(start_and_die(false, (uid_t)-1)));
    if (geteuid() == 0) {
        CHECK(wait_gone(start_and_die(false, NOBODY))); /* a change of user keeps that */
    }
    pid_t pid = start_and_die(true, (uid_t)-1);
    pid_t other = start_and_die(false, (uid_t)-1);
    CHECK(wait_gone(other));
    CHECK(process_state(pid) != 0 && process_state(pid) != 'Z');
    REQUIRE(pid > 1);
    kill(pid, SIGKILL);
    CHECK(wait_gone(pid));
}

/* A child that fails before exec never shows: no handler of ours runs in it. */
static void test_many(void) {
    for (int i = 0; i < 300; i++) {
        struct job job;
        if (i % 3 == 0) {
            prepare(&job, WORDS("/nowhere/x"));
            check_fails(&job, ENOENT, "exec");
        } else {
            prepare(&job, WORDS("echo", "x"));
            CHECK_STR("x\n", run(&job));
        }
    }
}

static void test_own_pid(void) {
    char variable[5 + LD_SPAWN_PID_SIZE] = "SELF=";
    char *const env[] = {"PATH=/usr/bin:/bin", variable, NULL};
    char expected[2 * sizeof variable];
    struct job job;
    prepare(&job, WORDS("sh", "-c", "echo $SELF $$"));
    job.spec.envp = env;
    job.spec.own_pid = variable + strlen("SELF=");
    const char *said = run(&job);
    snprintf(expected, sizeof expected, "%d %d\n", (int)job.pid, (int)job.pid);
    CHECK_STR(expected, said);
}

static void test_memory_is_not_copied(void) {
    size_t size = (size_t)256 << 20;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct job job;
    REQUIRE(memory != MAP_FAILED);
    memset(memory, 1, size);
    prepare(&job, WORDS("echo", "x"));
    CHECK_STR("x\n", run(&job));
    munmap(memory, size);
}

static const struct check_case cases[] = {
    /* First, before this process has found out that there is a close_range. */
    {"nothing else is inherited without close_range", test_nothing_inherited_on_old_kernels},
    {"descriptors come to their places without close_range", test_places_on_old_kernels},
    {"words and environment arrive", test_words_and_environment},
    {"its own pid is in its environment", test_own_pid},
    {"a command is searched for, and a failing exec is told", test_search},
    {"too many words are refused", test_too_much},
    {"the working directory", test_directory},
    {"mask, priority and limits", test_surroundings},
    {"limits that cannot be are told", test_limits_fail},
    {"user and groups, and that they cannot be", test_identity},
    {"a failing clone, setpgid or setsid is told", test_clone_and_group_fail},
    {"descriptors that are none are told", test_fds_fail},
    {"descriptors that cannot be moved are told", test_move_fails},
    {"descriptors come to their places, in swaps, cycles and chains", test_places},
    {"standard streams may be swapped", test_std},
    {"nothing else is inherited", test_nothing_inherited},
    {"dispositions are the default, and nothing is blocked", test_signals},
    {"a group of its own, or a session", test_group_and_session},
    {"it dies with us, but for a session of its own", test_parent_death},
    {"many in a row, some of which fail", test_many},
    {"a large process can start one too", test_memory_is_not_copied},
};

CHECK_MAIN(cases)

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "check.h"

static char box[64];
static pid_t box_owner;

/* A path in the private directory. */
const char *box_path(const char *name) {
    static char paths[8][160];
    static unsigned turn;
    if (box[0] == '\0') {
        snprintf(box, sizeof box, "/tmp/lunad-check-XXXXXX");
        REQUIRE(mkdtemp(box) != NULL);
        box_owner = getpid();
    }
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s%s%s", box, name[0] != '\0' ? "/" : "", name);
    return path;
}

/* Remove one thing of a tree. */
static int remove_item(const char *path, const struct stat *facts, int type, struct FTW *where) {
    (void)facts;
    (void)type;
    (void)where;
    return remove(path);
}

/* Remove the private directory. */
void box_close(void) {
    if (box[0] != '\0' && box_owner == getpid()) {
        CHECK(nftw(box, remove_item, 16, FTW_DEPTH | FTW_PHYS) == 0);
        box[0] = '\0';
    }
}

/* Write a whole file. */
void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* Read until the end. */
const char *read_fd(int fd) {
    static struct ld_text texts[4];
    static unsigned turn;
    struct ld_text *text = &texts[turn++ % 4];
    char chunk[4096];
    ssize_t size;
    ld_text_clear(text);
    do {
        size = read(fd, chunk, sizeof chunk);
        if (size > 0) {
            ld_text_add(text, chunk, (size_t)size);
        }
    } while (size > 0 || (size < 0 && errno == EINTR));
    return ld_text_string(text);
}

/* Read a whole file. */
const char *read_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return "(there is no such file)";
    }
    const char *text = read_fd(fd);
    close(fd);
    return text;
}

/* Let libuv open what it opens once in a process. */
void warm_up(void) {
    uv_loop_t loop;
    REQUIRE(uv_loop_init(&loop) == 0 && uv_loop_close(&loop) == 0);
}

/* Wait for the end of a child. */
int wait_child(pid_t pid) {
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/* Run something in a child. */
int run_in_child(void (*run)(void)) {
    fflush(stdout);
    int before = check_failures();
    pid_t pid = fork_bound();
    if (pid == 0) {
        run();
        fflush(stdout);
        _exit(check_failures() > before);
    }
    return wait_child(pid);
}

/* Run something in a child, which must exit with 0. */
void check_in_child(void (*run)(void)) {
    int status = run_in_child(run);
    CHECK(WIFEXITED(status));
    CHECK_INT(0, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Be the first process of the namespace: run the test in the second. */
static void be_init(void (*run)(void)) {
    int status = 0;
    REQUIRE(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    REQUIRE(mount("proc", "/proc", "proc", 0, NULL) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        int before = check_failures();
        run();
        fflush(stdout);
        _exit(check_failures() > before);
    }
    pid_t ended;
    while ((ended = waitpid(-1, &status, WUNTRACED)) != pid) {
        REQUIRE(ended > 0 || errno == EINTR);
    }
    CHECK(!WIFSTOPPED(status));
    CHECK(!WIFSIGNALED(status));
    fflush(stdout);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1); /* which kills everything in it */
}

static void (*in_namespace)(void);

/* Make the namespace. */
static void enter_namespace(void) {
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0) {
        check_skip("needs the right to make a pid namespace");
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        be_init(in_namespace);
    }
    int status = wait_child(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Run something in a pid namespace. */
void check_in_namespace(void (*run)(void)) {
    in_namespace = run;
    check_in_child(enter_namespace);
}

/* Let a system call fail. */
void deny_syscall(long number, int code) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = LD_COUNT(filter), .filter = filter};
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* Let this process get no more descriptors. */
bool deny_descriptors(void) {
    char text[4096] = "";
    char expected[64];
    struct rlimit limit;
    int fd = open("/proc/self/limits", O_RDONLY | O_CLOEXEC);
    int next = dup(fd);
    close(next);
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = (rlim_t)next;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    bool is_read = pread(fd, text, sizeof text - 1, 0) > 0;
    close(fd);
    limit.rlim_cur = (rlim_t)fd;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    snprintf(expected, sizeof expected, "Max open files            %d ", next);
    return is_read && strstr(text, expected) != NULL;
}

/* Nanoseconds on the monotonic clock. */
uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Wait until something is true. */
bool wait_until(bool (*condition)(void *arg), void *arg) {
    uint64_t deadline = now_ns() + WAIT_SECONDS * 1000000000ULL;
    while (!condition(arg)) {
        if (now_ns() > deadline) {
            return false;
        }
        poll(NULL, 0, 1);
    }
    return true;
}

/* The state of a process. */
char process_state(pid_t pid) {
    char path[40];
    char line[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t size = read(fd, line, sizeof line - 1);
    close(fd);
    const char *name_end = size > 0 ? strrchr(line, ')') : NULL;
    return name_end != NULL ? name_end[2] : 0;
}

/* Whether a process is gone. */
static bool is_gone(void *arg) {
    char state = process_state(*(pid_t *)arg);
    return state == 0 || state == 'Z' || state == 'X';
}

/* Wait until a process is gone. */
bool wait_gone(pid_t pid) {
    return wait_until(is_gone, &pid);
}

/* Fork a child that dies with us. */
pid_t fork_bound(void) {
    pid_t parent = getpid();
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
    }
    return pid;
}

/* Fork a child that does nothing. */
pid_t fork_sleeper(void) {
    pid_t pid = fork_bound();
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    return pid;
}

/* Kill and reap a child. */
void end_child(pid_t pid) {
    REQUIRE(pid > 1);
    kill(pid, SIGKILL);
    wait_child(pid);
}

/* Random numbers: xorshift64*. */
uint64_t next_random(void) {
    static uint64_t state = 0x9E3779B97F4A7C15U;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1DU;
}

/* A random number below LIMIT. */
uint64_t random_below(uint64_t limit) {
    return next_random() % limit;
}

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "posix/family.h"
#include "posix/process.h"
#include "support.h"

static const pid_t unsafe_pids[] = {1, 0, -1, -2, -3, INT_MIN};

/* Whether a child lives and is not stopped. */
static bool is_unharmed(pid_t pid) {
    char state = process_state(pid);
    return state == 'S' || state == 'R';
}

static pid_t unsafe_root;

/* In a namespace: end the family of a pid below 2, which would be everybody. */
static void end_unsafe_family(void) {
    pid_t victim = fork_sleeper();
    ld_family_end(unsafe_root, -1);
    CHECK(is_unharmed(victim));
    end_child(victim);
}

static void test_end_family_guard(void) {
    for (size_t i = 0; i < LD_COUNT(unsafe_pids); i++) {
        unsafe_root = unsafe_pids[i];
        check_in_namespace(end_unsafe_family);
    }
}

/* Whether a list has a pid. */
static bool has(const struct ld_pids *pids, pid_t pid) {
    for (size_t i = 0; i < pids->count; i++) {
        if (pids->list[i] == pid) {
            return true;
        }
    }
    return false;
}

/* The processes of a family, and the channel by which their root tells of them. */
enum { CHILD, IN_SESSION, ORPHAN, NAMED, ZOMBIE, MEMBERS };

static int channel[2];

/* Tell the test who we are. */
static void tell(int member) {
    const pid_t report[2] = {member, getpid()};
    REQUIRE(write(channel[1], report, sizeof report) == sizeof report);
}

/* Be a member of the family that waits for its end. */
static void be(int member) {
    tell(member);
    for (;;) {
        pause();
    }
}

/* The root: a subreaper with children, grandchildren and an orphan. */
static void be_root(void) {
    pid_t root = getpid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (fork() == 0) {
        if (fork() == 0) {
            setsid();
            be(IN_SESSION);
        }
        be(CHILD);
    }
    if (fork() == 0) {
        if (fork() == 0) {
            while (getppid() != root) {
                poll(NULL, 0, 1);
            }
            be(ORPHAN);
        }
        _exit(0);
    }
    if (fork() == 0) {
        prctl(PR_SET_NAME, ") Z 1 1 1 (");
        be(NAMED);
    }
    if (fork() == 0) {
        tell(ZOMBIE);
        _exit(0);
    }
    for (;;) {
        pause();
    }
}

/* Start a family; its root. */
static pid_t start_family(void (*run)(void), pid_t *members, int count) {
    REQUIRE(pipe2(channel, O_CLOEXEC) == 0);
    pid_t root = fork_bound();
    if (root == 0) {
        run();
    }
    for (int i = 0; i < count; i++) {
        pid_t report[2];
        REQUIRE(read(channel[0], report, sizeof report) == sizeof report);
        members[report[0]] = report[1];
    }
    close(channel[0]);
    close(channel[1]);
    return root;
}

static void test_family(void) {
    pid_t members[MEMBERS];
    struct ld_pids family;
    pid_t root = start_family(be_root, members, MEMBERS);
    CHECK(wait_gone(members[ZOMBIE]));
    CHECK_INT(0, ld_family_find(root, &family));
    CHECK_INT(4, family.count);
    for (int i = CHILD; i <= NAMED; i++) {
        CHECK(has(&family, members[i]));
    }
    ld_pids_fini(&family);
    CHECK_INT(0, family.count);
    CHECK_INT(0, ld_family_find(members[CHILD], &family));
    CHECK_INT(1, family.count);
    CHECK(has(&family, members[IN_SESSION]));
    ld_pids_fini(&family);
    CHECK_INT(0, ld_family_find(members[IN_SESSION], &family));
    CHECK_INT(0, family.count);
    ld_pids_fini(&family);
    ld_family_end(root, -1);
    wait_child(root);
    for (int i = CHILD; i <= NAMED; i++) {
        CHECK(wait_gone(members[i]));
    }
    CHECK_INT(0, ld_family_find(root, &family)); /* nobody any more */
    CHECK_INT(0, family.count);
    ld_pids_fini(&family);
}

static void test_family_of_ourselves(void) {
    struct ld_pids family;
    pid_t pid = fork_sleeper();
    CHECK_INT(0, ld_family_find(getpid(), &family));
    CHECK(has(&family, pid));
    CHECK(!has(&family, getpid()));
    ld_pids_fini(&family);
    end_child(pid);
}

/* A root with a child that has the mark of `detach`, one that nearly has it, and what came of the
 * former: a child, and an orphan, neither with the mark. */
static void be_root_of_detached(void) {
    static char *const marked[] = {"LUNAD_DETACHED=1", "PATH=/bin:/usr/bin", NULL};
    static char *const unmarked[] = {"LUNAD_DETACHEDX=1", "X=LUNAD_DETACHED=1", NULL};
    static char *const words[] = {"sh", "-c",
                                  "env -i sleep 1000 & (env -i sleep 1000 &) ; sleep 1000", NULL};
    static char *const sleeping[] = {"sleep", "1000", NULL};
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (fork() == 0) {
        setsid();
        tell(0);
        execve("/bin/sh", words, marked);
    }
    if (fork() == 0) {
        tell(1);
        execve("/bin/sleep", sleeping, unmarked);
    }
    for (;;) {
        pause();
    }
}

/* Those who are in the session of LEADER and run sleep. */
static struct ld_pids find_sleepers(pid_t leader) {
    struct ld_pids found = {.list = calloc(64, sizeof(pid_t))};
    DIR *proc = opendir("/proc");
    const struct dirent *item;
    while ((item = readdir(proc)) != NULL) {
        pid_t pid = isdigit((unsigned char)item->d_name[0]) ? (pid_t)atoi(item->d_name) : 0;
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
        if (pid > 1 && getsid(pid) == leader && strcmp(read_file(path), "sleep\n") == 0) {
            found.list[found.count++] = pid;
        }
    }
    closedir(proc);
    return found;
}

/* Whether all three run. */
static bool are_sleeping(void *arg) {
    struct ld_pids sleepers = find_sleepers(*(pid_t *)arg);
    size_t count = sleepers.count;
    ld_pids_fini(&sleepers);
    return count == 3;
}

static void test_detached(void) {
    pid_t members[2];
    struct ld_pids family;
    pid_t root = start_family(be_root_of_detached, members, 2);
    REQUIRE(members[0] > 1);
    CHECK(wait_until(are_sleeping, &members[0]));
    CHECK_INT(0, ld_family_find(root, &family));
    CHECK_INT(1, family.count);
    CHECK(has(&family, members[1]));
    ld_pids_fini(&family);
    ld_family_end(root, -1);
    wait_child(root);
    CHECK(wait_gone(members[1]));
    CHECK(is_unharmed(members[0]));
    struct ld_pids sleepers = find_sleepers(members[0]);
    CHECK_INT(3, sleepers.count);
    for (size_t i = 0; i < sleepers.count; i++) {
        CHECK(is_unharmed(sleepers.list[i]));
    }
    kill(-members[0], SIGKILL);
    CHECK(wait_gone(members[0]));
    for (size_t i = 0; i < sleepers.count; i++) {
        CHECK(wait_gone(sleepers.list[i]));
    }
    ld_pids_fini(&sleepers);
}

/* Have a child every millisecond, for a while. */
static void breed(void (*be_child)(uint64_t deadline), uint64_t deadline) {
    for (int i = 0; i < 60 && now_ns() < deadline; i++) {
        if (fork() == 0) {
            be_child(deadline);
            poll(NULL, 0, WAIT_SECONDS * 1000);
            _exit(0);
        }
        poll(NULL, 0, 1);
    }
}

/* Have no child, but tell of ourselves, if anybody listens still. */
static void be_barren(uint64_t deadline) {
    const pid_t report[2] = {0, getpid()};
    (void)deadline;
    if (write(channel[1], report, sizeof report) < 0) {
        _exit(1);
    }
}

/* Have children. */
static void be_breeder(uint64_t deadline) {
    breed(be_barren, deadline);
}

/* A root whose family grows all the time. */
static void be_root_of_breeders(void) {
    uint64_t deadline = now_ns() + 3000000000;
    setpgid(0, 0);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            breed(be_breeder, deadline);
            poll(NULL, 0, WAIT_SECONDS * 1000);
            _exit(0);
        }
    }
    for (;;) {
        pause();
    }
}

/* Whether a process group has nobody in it, when those of it that came to us are reaped. */
static bool is_group_empty(void *arg) {
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    return kill(-*(pid_t *)arg, 0) < 0 && errno == ESRCH;
}

static void test_nobody_escapes(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int round = 0; round < 5; round++) {
        pid_t member;
        pid_t root = start_family(be_root_of_breeders, &member, 20);
        REQUIRE(root > 1);
        ld_family_end(root, -1);
        int status = wait_child(root);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        uint64_t start = now_ns();
        CHECK(wait_until(is_group_empty, &root));
        CHECK(now_ns() - start < WAIT_SECONDS * 500000000ULL); /* not by their own deadline */
    }
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

/* A process that has the mark and never stops calling exec. */
static void be_restless(void) {
    static char *const marked[] = {"PATH=/bin:/usr/bin", "MARK=restless", NULL};
    char *const words[] = {"sh", (char *)(uintptr_t)box_path("restless"), NULL};
    setsid();
    execve("/bin/sh", words, marked);
    _exit(1);
}

/* Look for PID again and again for a while; how often it was missed. */
static size_t count_missed(const struct ld_gone *gone, pid_t pid) {
    struct ld_pids strays;
    uint64_t start = now_ns();
    size_t missed = 0;
    while (now_ns() - start < 700000000) {
        CHECK_INT(0, ld_family_find_strays(gone, &strays));
        missed += !has(&strays, pid);
        ld_pids_fini(&strays);
    }
    return missed;
}

static void test_strays_in_exec(void) {
    const struct ld_gone gone = {.pid = getpid(), .started = now_ns(), .mark = "MARK=restless"};
    struct ld_text text = {0};
    struct ld_pids strays;
    ld_text_format(&text, "exec sh %s\n", box_path("restless"));
    write_file(box_path("restless"), ld_text_string(&text));
    ld_text_fini(&text);
    pid_t pid = fork_bound();
    if (pid == 0) {
        be_restless();
    }
    do { /* until it has left our session */
        strays.count = 0;
        CHECK_INT(0, ld_family_find_strays(&gone, &strays));
        ld_pids_fini(&strays);
    } while (getsid(pid) != pid);
    uint64_t start = now_ns();
    size_t missed;
    do { /* an exec that others keep from the processors takes longer than it is waited for */
        missed = count_missed(&gone, pid);
    } while (missed > 0 && now_ns() - start < WAIT_SECONDS * 1000000000ULL);
    CHECK_INT(0, missed);
    end_child(pid);
}

static const struct check_case cases[] = {
    {"ending the family of a pid below 2 ends no process", test_end_family_guard},
    {"a family is all that descends from its root", test_family},
    {"this process has a family too", test_family_of_ourselves},
    {"detached processes and their descendants do not count", test_detached},
    {"no process escapes the end of a family by forking", test_nobody_escapes},
    {"what was left behind is found while it calls exec", test_strays_in_exec},
};

CHECK_MAIN(cases)

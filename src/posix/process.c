#include "posix/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/grow.h"
#include "base/time.h"

#define WATCH_MS      100
#define BUSY_TICKS    3   /* of ten in that time, on a machine that others load as well */
#define END_ROUNDS    200 /* how often, and how long at a time, what was killed is waited for */
#define END_MS        10
#define FREEZE_ROUNDS 100 /* a fork bomb may be faster than we are: do not try for ever */
#define EXITING       4   /* a flag of the kernel's: PF_EXITING */
#define EXEC_ROUNDS   100 /* how often, each millisecond, an exec that is under way is waited for */

/* What /proc says of one process. */
struct entry {
    pid_t pid;
    pid_t parent;
    pid_t group;
    pid_t session;
    unsigned long long started; /* in clock ticks since the boot */
    bool is_stopped;
    bool is_exiting;
    bool is_root;
    bool in_family;
    bool detached;
};

/* All processes at one moment. */
struct table {
    struct entry *entries;
    size_t count;
};

static struct table spared; /* processes that are nobody's family */

/* Add to a list of pids. */
bool ld_pids_add(struct ld_pids *pids, pid_t pid) {
    pid_t *list = ld_grow(pids->list, pids->count, sizeof *list);
    if (list == NULL) {
        return false;
    }
    pids->list = list;
    list[pids->count++] = pid;
    return true;
}

/* Free a list of pids. */
void ld_pids_fini(struct ld_pids *pids) {
    free(pids->list);
    *pids = (struct ld_pids){0};
}

/* Send a signal to one process. */
int ld_process_kill(pid_t pid, int signo) {
    if (pid <= 1) {
        return -EINVAL;
    }
    return kill(pid, signo) < 0 ? -errno : 0;
}

/* Send a signal to a process group. */
int ld_process_kill_group(pid_t pid, int signo) {
    if (pid <= 1) {
        return -EINVAL;
    }
    return kill(-pid, signo) < 0 ? -errno : 0;
}

/* Open a pidfd. */
int ld_process_open(pid_t pid) {
    if (pid <= 1) {
        return -EINVAL;
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

/* Send a signal through a pidfd. */
int ld_process_signal(int pidfd, int signo) {
    return syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

/* Wait for the end of a process. */
bool ld_process_has_ended(int pidfd, int timeout_ms) {
    struct pollfd poller = {.fd = pidfd, .events = POLLIN};
    return poll(&poller, 1, timeout_ms) > 0;
}

/* Read a file of /proc/PID into TEXT. */
static int read_proc(pid_t pid, const char *name, struct ld_text *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int rc = ld_file_read(fd, text);
    close(fd);
    return rc;
}

/* Read what is known of a live process; false for a zombie, or one that is gone. */
static bool read_entry(pid_t pid, struct entry *entry) {
    struct ld_text stat = {0};
    char state = 'Z';
    int parent = 0;
    int group = 0;
    int session = 0;
    unsigned long long started = 0;
    unsigned flags = 0;
    if (read_proc(pid, "stat", &stat) == 0) {
        const char *name_end = strrchr(ld_text_string(&stat), ')'); /* a name may have ")" too */
        if (name_end == NULL ||
            sscanf(name_end,
                   ") %c %d %d %d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                   &state, &parent, &group, &session, &flags, &started) != 6) {
            state = 'Z';
        }
    }
    ld_text_fini(&stat);
    *entry = (struct entry){.pid = pid,
                            .parent = parent,
                            .group = group,
                            .session = session,
                            .started = started,
                            .is_stopped = state == 'T' || state == 't',
                            .is_exiting = (flags & EXITING) != 0};
    return state != 'Z' && state != 'X';
}

/* Read the state of a process, and the clock ticks that it has computed for. */
static char read_state(pid_t pid, unsigned long *ticks) {
    struct ld_text stat = {0};
    unsigned long user = 0;
    unsigned long system = 0;
    char state = 'X';
    if (read_proc(pid, "stat", &stat) == 0) {
        const char *name_end = strrchr(ld_text_string(&stat), ')');
        if (name_end == NULL ||
            sscanf(name_end, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &state, &user,
                   &system) != 3) {
            state = 'X';
        }
    }
    ld_text_fini(&stat);
    *ticks = user + system;
    return state;
}

/* Whether a process is stopped. */
bool ld_process_is_stopped(pid_t pid) {
    unsigned long ticks;
    char state = read_state(pid, &ticks);
    return state == 'T' || state == 't';
}

/* What a process does. */
enum ld_activity ld_process_activity(pid_t pid) {
    unsigned long before;
    unsigned long after;
    char state = read_state(pid, &before);
    if (state != 'T' && state != 't' && state != 'X') {
        poll(NULL, 0, WATCH_MS);
        state = read_state(pid, &after);
        if (state == 'R' || after - before >= BUSY_TICKS) {
            return LD_ACTIVITY_COMPUTES;
        }
    }
    switch (state) {
    case 'X':
    case 'Z':
        return LD_ACTIVITY_GONE;
    case 'T':
        return LD_ACTIVITY_STOPPED;
    case 't':
        return LD_ACTIVITY_TRACED;
    case 'D':
        return LD_ACTIVITY_BLOCKED;
    default:
        return LD_ACTIVITY_SLEEPS;
    }
}

/* Read the environment that PID was started with. In the middle of an exec it is empty for a moment,
 * and the words are too. */
static void read_environment(pid_t pid, struct ld_text *environment) {
    struct entry entry;
    for (int round = 0; round < EXEC_ROUNDS; round++) {
        struct ld_text words = {0};
        bool is_known = read_proc(pid, "environ", environment) < 0 || environment->size > 0 ||
                        read_proc(pid, "cmdline", &words) < 0 || words.size > 0;
        ld_text_fini(&words);
        if (is_known || !read_entry(pid, &entry) || entry.is_exiting) {
            return;
        }
        poll(NULL, 0, 1);
    }
}

/* Whether a variable of an environment begins with BEGINNING. */
static bool has_variable(const struct ld_text *environment, const char *beginning) {
    bool found = false;
    size_t at = 0;
    while (at < environment->size && !found) {
        const char *variable = environment->data + at;
        found = strncmp(variable, beginning, strlen(beginning)) == 0;
        at += strlen(variable) + 1;
    }
    return found;
}

/* Whether the environment that PID was started with says that it is detached. */
static bool is_marked(pid_t pid) {
    struct ld_text environment = {0};
    read_environment(pid, &environment);
    bool found = has_variable(&environment, LD_DETACHED_VARIABLE "=");
    ld_text_fini(&environment);
    return found;
}

/* The parent of a live process. */
pid_t ld_process_parent(pid_t pid) {
    struct entry entry;
    return read_entry(pid, &entry) ? entry.parent : 0;
}

/* Add an entry for PID to the table if it lives. */
static int add_entry(struct table *table, pid_t pid) {
    struct entry entry;
    if (!read_entry(pid, &entry)) {
        return 0;
    }
    struct entry *entries = ld_grow(table->entries, table->count, sizeof *entries);
    if (entries == NULL) {
        return -ENOMEM;
    }
    table->entries = entries;
    entries[table->count++] = entry;
    return 0;
}

/* Order entries by pid. */
static int compare_pids(const void *left, const void *right) {
    pid_t a = ((const struct entry *)left)->pid;
    pid_t b = ((const struct entry *)right)->pid;
    return (a > b) - (a < b);
}

/* Read the table of all processes. */
static int read_table(struct table *table) {
    DIR *proc = opendir("/proc");
    if (proc == NULL) {
        return -errno;
    }
    int rc = 0;
    const struct dirent *item;
    while (rc == 0 && (item = readdir(proc)) != NULL) {
        if (isdigit((unsigned char)item->d_name[0])) {
            rc = add_entry(table, (pid_t)atoi(item->d_name));
        }
    }
    closedir(proc);
    if (table->count > 0) {
        qsort(table->entries, table->count, sizeof *table->entries, compare_pids);
    }
    return rc;
}

/* Find the entry of PID. */
static struct entry *find_entry(const struct table *table, pid_t pid) {
    struct entry key = {.pid = pid};
    return table->count == 0
               ? NULL
               : bsearch(&key, table->entries, table->count, sizeof key, compare_pids);
}

/* Whether an entry is one of those to be left alone. */
static bool is_spared(const struct entry *entry) {
    for (size_t i = 0; i < spared.count; i++) {
        const struct entry *at = &spared.entries[i];
        if (at->pid == entry->pid && at->started == entry->started) {
            return true;
        }
    }
    return false;
}

/* Leave the children alone that there are. Without memory they are family as others are. */
void ld_process_spare_children(void) {
    struct table table = {0};
    size_t count = 0;
    if (read_table(&table) < 0) {
        free(table.entries);
        return;
    }
    for (size_t i = 0; i < table.count; i++) {
        if (table.entries[i].parent == getpid()) {
            table.entries[count++] = table.entries[i];
        }
    }
    table.count = count;
    free(spared.entries);
    spared = table;
}

/* Draw one more generation of descendants into the family; whether there was any. */
static bool extend_family(const struct table *table) {
    bool extended = false;
    for (size_t i = 0; i < table->count; i++) {
        struct entry *entry = &table->entries[i];
        const struct entry *parent = find_entry(table, entry->parent);
        bool belongs = parent != NULL && (parent->is_root || parent->in_family);
        if (entry->in_family || entry->is_root || !belongs || is_spared(entry)) {
            continue;
        }
        entry->in_family = true;
        entry->detached = parent->detached || is_marked(entry->pid);
        extended = true;
    }
    return extended;
}

/* Whether ENTRY is in the session of a detached one: some programs overwrite their environment. */
static bool shares_detached_session(const struct table *table, const struct entry *entry) {
    for (size_t i = 0; i < table->count; i++) {
        const struct entry *other = &table->entries[i];
        if (other->in_family && other->detached && other->session == entry->session) {
            return true;
        }
    }
    return false;
}

/* Copy the pids of those in the family that are not detached, in order. */
static int collect_family(const struct table *table, struct ld_pids *family, bool *frozen) {
    *frozen = true;
    family->list = malloc((table->count + 1) * sizeof *family->list);
    if (family->list == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < table->count; i++) {
        const struct entry *entry = &table->entries[i];
        bool belongs =
            entry->in_family && !entry->detached && !shares_detached_session(table, entry);
        if (belongs) {
            family->list[family->count++] = entry->pid;
        }
        *frozen = *frozen && (entry->is_stopped || !(belongs || entry->is_root));
    }
    return 0;
}

/* Find every live process that descends from one of the ROOTS and is not detached, and whether all of
 * them and the roots are stopped. */
static int find_families(const struct ld_pids *roots, struct ld_pids *family, bool *frozen) {
    struct table table = {0};
    *family = (struct ld_pids){0};
    int rc = read_table(&table);
    for (size_t i = 0; i < roots->count; i++) {
        struct entry *entry = find_entry(&table, roots->list[i]);
        if (entry != NULL) {
            entry->is_root = true;
        }
    }
    if (rc == 0) {
        while (extend_family(&table)) {
        }
        rc = collect_family(&table, family, frozen);
    }
    free(table.entries);
    return rc;
}

/* Find every live process that descends from ROOT and is not detached. */
int ld_process_family(pid_t root, struct ld_pids *family) {
    bool frozen;
    return find_families(&(struct ld_pids){.list = &root, .count = 1}, family, &frozen);
}

/* A time of CLOCK_MONOTONIC in clock ticks since the boot. */
static unsigned long long to_ticks(uint64_t monotonic) {
    double asleep = (double)(ld_time_boot() - ld_time_monotonic());
    double ticks = ((double)monotonic + asleep) / LD_TIME_SECOND * (double)sysconf(_SC_CLK_TCK);
    return ticks > 1 ? (unsigned long long)ticks - 1 : 0; /* two clocks are read: one tick less */
}

/* Whether GONE, which started at the tick SINCE, has left a process behind. */
static bool is_left_by(const struct entry *entry, const struct ld_gone *gone,
                       unsigned long long since) {
    struct ld_text environment = {0};
    read_environment(entry->pid, &environment);
    bool overwritten =
        environment.size > 0 && memchr(environment.data, '=', environment.size) == NULL;
    bool is_its = entry->group == gone->pid || entry->session == gone->pid ||
                  has_variable(&environment, gone->mark) ||
                  (overwritten && entry->started >= since);
    bool detached = has_variable(&environment, LD_DETACHED_VARIABLE "=");
    ld_text_fini(&environment);
    return is_its && !detached;
}

/* Find what GONE has left behind. */
int ld_process_strays(const struct ld_gone *gone, struct ld_pids *strays) {
    struct table table = {0};
    *strays = (struct ld_pids){0};
    int rc = read_table(&table);
    unsigned long long since = to_ticks(gone->started);
    for (size_t i = 0; rc == 0 && i < table.count; i++) {
        const struct entry *entry = &table.entries[i];
        if (entry->parent == getpid() && is_left_by(entry, gone, since) &&
            !ld_pids_add(strays, entry->pid)) {
            rc = -ENOMEM;
        }
    }
    free(table.entries);
    return rc;
}

/* Send SIGNO to each of a list. */
static void signal_each(const struct ld_pids *pids, int signo) {
    for (size_t i = 0; i < pids->count; i++) {
        ld_process_kill(pids->list[i], signo);
    }
}

/* Whether two lists that are in order are the same. */
static bool are_equal(const struct ld_pids *a, const struct ld_pids *b) {
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->list, b->list, a->count * sizeof *a->list) == 0);
}

/* Stop the families of ROOTS, which are stopped or about to be; who they are then. Somebody may have
 * been forking as he was told to stop: nobody is missing who was not there when all had stopped. */
static void freeze_families(const struct ld_pids *roots, struct ld_pids *family) {
    bool were_frozen = false;
    *family = (struct ld_pids){0};
    for (int round = 0; round < FREEZE_ROUNDS; round++) {
        struct ld_pids found;
        bool frozen = false;
        if (find_families(roots, &found, &frozen) < 0) {
            return;
        }
        bool same = are_equal(&found, family);
        ld_pids_fini(family);
        *family = found;
        if (same && were_frozen) {
            return;
        }
        signal_each(family, SIGSTOP);
        were_frozen = frozen;
        if (same && !frozen) {
            poll(NULL, 0, 1);
        }
    }
}

/* End ROOTS and their families. They are stopped first: what is stopped cannot fork, and while its
 * root lives nobody's parent changes. */
void ld_process_end_families(const struct ld_pids *roots) {
    struct ld_pids family;
    signal_each(roots, SIGSTOP);
    freeze_families(roots, &family);
    signal_each(&family, SIGKILL);
    signal_each(roots, SIGKILL);
    ld_pids_fini(&family);
}

/* End ROOT and its family. */
void ld_process_end_family(pid_t root) {
    if (root > 1) { /* those of 0 and 1 are everybody */
        ld_process_end_families(&(struct ld_pids){.list = &root, .count = 1});
    }
}

/* End what descends from this process. What is killed may have been forking, so look again until
 * nobody is left. */
void ld_process_end_orphans(void) {
    struct ld_pids family;
    for (int round = 0; round < END_ROUNDS; round++) {
        int rc = ld_process_family(getpid(), &family);
        for (size_t i = 0; rc == 0 && i < family.count; i++) {
            ld_process_kill(family.list[i], SIGKILL);
        }
        bool gone = rc < 0 || family.count == 0;
        ld_pids_fini(&family);
        if (gone) {
            return;
        }
        poll(NULL, 0, END_MS);
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    }
}

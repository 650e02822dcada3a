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
    unsigned long long started; /* in clock ticks since the boot: a pid can be used again */
    bool is_stopped;
    bool is_exiting;
    bool is_root;
    bool in_family;
    bool detached;
    bool is_open;      /* whether it still is who it was: to be seen, after its parent */
    bool is_confirmed; /* it is */
};

/* All processes at one moment. */
struct table {
    struct entry *entries;
    size_t count;
    int patience; /* how often an exec is still waited for: of all together, or many could hold us up */
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
static void read_environment(pid_t pid, struct ld_text *environment, int *patience) {
    struct entry entry;
    for (;;) {
        struct ld_text words = {0};
        bool is_known = read_proc(pid, "environ", environment) < 0 || environment->size > 0 ||
                        read_proc(pid, "cmdline", &words) < 0 || words.size > 0;
        ld_text_fini(&words);
        if (is_known || !read_entry(pid, &entry) || entry.is_exiting || (*patience)-- <= 0) {
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
static bool is_detached(pid_t pid, int *patience) {
    struct ld_text environment = {0};
    read_environment(pid, &environment, patience);
    bool found = has_variable(&environment, LD_DETACHED_VARIABLE "=");
    ld_text_fini(&environment);
    return found;
}

/* The real user id of a process. */
int ld_process_user(pid_t pid, uid_t *uid) {
    struct ld_text status = {0};
    unsigned id = 0;
    int rc = read_proc(pid, "status", &status);
    const char *line = rc == 0 ? strstr(ld_text_string(&status), "\nUid:") : NULL;
    if (rc == 0 && (line == NULL || sscanf(line, "\nUid: %u", &id) != 1)) {
        rc = -ESRCH;
    }
    *uid = id;
    ld_text_fini(&status);
    return rc;
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
static bool extend_family(struct table *table) {
    bool extended = false;
    for (size_t i = 0; i < table->count; i++) {
        struct entry *entry = &table->entries[i];
        const struct entry *parent = find_entry(table, entry->parent);
        bool belongs = parent != NULL && (parent->is_root || parent->in_family);
        if (entry->in_family || entry->is_root || !belongs || is_spared(entry)) {
            continue;
        }
        entry->in_family = true;
        entry->detached = parent->detached || is_detached(entry->pid, &table->patience);
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

/* Whether ENTRY still is the process that it was, and a child of the same parent. */
static bool is_unchanged(const struct table *table, const struct entry *entry) {
    struct entry now;
    struct entry above;
    const struct entry *parent = find_entry(table, entry->parent);
    return parent != NULL && read_entry(entry->pid, &now) && now.started == entry->started &&
           now.parent == entry->parent && read_entry(parent->pid, &above) &&
           above.started == parent->started;
}

/* Send SIGNO to one of the family if it still is who it was: a pidfd means it, and nobody else. */
static void signal_entry(const struct entry *entry, int signo) {
    struct entry now;
    int pidfd = ld_process_open(entry->pid);
    bool is_same = read_entry(entry->pid, &now) && now.started == entry->started;
    if (is_same && pidfd >= 0) {
        ld_process_signal(pidfd, signo);
    } else if (is_same && pidfd != -ESRCH) { /* there are no pidfds, or no descriptors */
        ld_process_kill(entry->pid, signo);
    }
    if (pidfd >= 0) {
        close(pidfd);
    }
}

/* Confirm the family from the top, before anybody is signalled: what came of one that has changed
 * since the table was read is none of it. */
static void confirm_family(struct table *table) {
    bool again = true;
    for (size_t i = 0; i < table->count; i++) {
        table->entries[i].is_open = table->entries[i].in_family && !table->entries[i].detached;
    }
    while (again) {
        again = false;
        for (size_t i = 0; i < table->count; i++) {
            struct entry *entry = &table->entries[i];
            const struct entry *parent = entry->is_open ? find_entry(table, entry->parent) : NULL;
            if (parent == NULL || parent->is_open) {
                continue;
            }
            entry->is_open = false;
            again = true;
            entry->is_confirmed =
                (parent->is_root || parent->is_confirmed) && is_unchanged(table, entry);
        }
    }
}

/* Send SIGNO to those of FAMILY who are confirmed. */
static void signal_family(struct table *table, const struct ld_pids *family, int signo) {
    confirm_family(table);
    for (size_t i = 0; i < family->count; i++) {
        const struct entry *entry = find_entry(table, family->list[i]);
        if (entry->is_confirmed) {
            signal_entry(entry, signo);
        }
    }
}

/* The processes that families come from; a pidfd of each, or -1, says which of that number is meant. */
struct roots {
    const struct ld_pids *pids;
    const int *pidfds; /* NULL: none */
};

/* Note the roots in the table, but for those that ended before it was read. */
static void mark_roots(struct table *table, const struct roots *roots) {
    for (size_t i = 0; i < roots->pids->count; i++) {
        struct entry *entry = find_entry(table, roots->pids->list[i]);
        int pidfd = roots->pidfds != NULL ? roots->pidfds[i] : -1;
        if (entry != NULL && (pidfd < 0 || !ld_process_has_ended(pidfd, 0))) {
            entry->is_root = true;
        }
    }
}

/* Find every live process that descends from one of the ROOTS and is not detached, and whether all of
 * them and the roots are stopped. Unless SIGNO is 0, send it to them. */
static int find_families(const struct roots *roots, int signo, struct ld_pids *family,
                         bool *frozen) {
    struct table table = {.patience = EXEC_ROUNDS};
    *family = (struct ld_pids){0};
    int rc = read_table(&table);
    if (rc == 0) {
        mark_roots(&table, roots);
        while (extend_family(&table)) {
        }
        rc = collect_family(&table, family, frozen);
    }
    if (rc == 0 && signo != 0) {
        signal_family(&table, family, signo);
    }
    free(table.entries);
    return rc;
}

/* Find every live process that descends from ROOT and is not detached, and send SIGNO unless it is 0. */
static int signal_descendants(pid_t root, int signo, struct ld_pids *family) {
    const struct ld_pids pids = {.list = &root, .count = 1};
    bool frozen;
    return find_families(&(struct roots){.pids = &pids}, signo, family, &frozen);
}

/* A time of CLOCK_MONOTONIC in clock ticks since the boot. */
static unsigned long long to_ticks(uint64_t monotonic) {
    double asleep = (double)(int64_t)(ld_time_boot() - ld_time_monotonic());
    double ticks = ((double)monotonic + asleep) / LD_TIME_SECOND * (double)sysconf(_SC_CLK_TCK);
    return ticks > 1 ? (unsigned long long)ticks - 1 : 0; /* two clocks are read: one tick less */
}

/* Whether GONE, which started at the tick SINCE, has left a process behind. */
static bool is_left_by(const struct entry *entry, const struct ld_gone *gone,
                       unsigned long long since, int *patience) {
    struct ld_text environment = {0};
    read_environment(entry->pid, &environment, patience);
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
    struct table table = {.patience = EXEC_ROUNDS};
    *strays = (struct ld_pids){0};
    int rc = read_table(&table);
    unsigned long long since = to_ticks(gone->started);
    for (size_t i = 0; rc == 0 && i < table.count; i++) {
        const struct entry *entry = &table.entries[i];
        if (entry->parent == getpid() && is_left_by(entry, gone, since, &table.patience) &&
            !ld_pids_add(strays, entry->pid)) {
            rc = -ENOMEM;
        }
    }
    free(table.entries);
    return rc;
}

/* Find every live process that descends from ROOT and is not detached. */
int ld_process_family(pid_t root, struct ld_pids *family) {
    return signal_descendants(root, 0, family);
}

/* Send SIGNO to each of the roots. */
static void signal_roots(const struct roots *roots, int signo) {
    for (size_t i = 0; i < roots->pids->count; i++) {
        if (roots->pidfds != NULL && roots->pidfds[i] >= 0) {
            ld_process_signal(roots->pidfds[i], signo);
        } else {
            ld_process_kill(roots->pids->list[i], signo);
        }
    }
}

/* Whether two lists that are in order are the same. */
static bool are_equal(const struct ld_pids *a, const struct ld_pids *b) {
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->list, b->list, a->count * sizeof *a->list) == 0);
}

/* Stop the families of ROOTS, which are stopped or about to be. Somebody may have
 * been forking as he was told to stop: nobody is missing who was not there when all had stopped. */
static void freeze_families(const struct roots *roots) {
    bool were_frozen = false;
    bool done = false;
    struct ld_pids family = {0};
    for (int round = 0; round < FREEZE_ROUNDS && !done; round++) {
        struct ld_pids found;
        bool frozen = false;
        if (find_families(roots, SIGSTOP, &found, &frozen) < 0) {
            break;
        }
        bool same = are_equal(&found, &family);
        ld_pids_fini(&family);
        family = found;
        done = same && were_frozen;
        were_frozen = frozen;
        if (same && !frozen) {
            poll(NULL, 0, 1);
        }
    }
    ld_pids_fini(&family);
}

/* End ROOTS and their families. They are stopped first: what is stopped cannot fork, and while its
 * root lives nobody's parent changes. */
static void end_families(const struct roots *roots) {
    struct ld_pids family;
    bool frozen;
    signal_roots(roots, SIGSTOP);
    freeze_families(roots);
    find_families(roots, SIGKILL, &family, &frozen);
    signal_roots(roots, SIGKILL);
    ld_pids_fini(&family);
}

/* End children of ours and their families. */
void ld_process_end_families(const struct ld_pids *roots) {
    end_families(&(struct roots){.pids = roots});
}

/* End ROOT and its family. */
void ld_process_end_family(pid_t root, int pidfd) {
    const struct ld_pids pids = {.list = &root, .count = 1};
    if (root > 1) { /* those of 0 and 1 are everybody */
        end_families(&(struct roots){.pids = &pids, .pidfds = &pidfd});
    }
}

/* End what descends from this process. What is killed may have been forking, so look again until
 * nobody is left. */
void ld_process_end_orphans(void) {
    struct ld_pids family;
    for (int round = 0; round < END_ROUNDS; round++) {
        int rc = signal_descendants(getpid(), SIGKILL, &family);
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

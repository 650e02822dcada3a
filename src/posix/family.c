#include "posix/family.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/grow.h"
#include "base/time.h"
#include "posix/process.h"

#define END_ROUNDS    200 /* how often, and how long at a time, killed processes are waited for */
#define END_MS        10
#define FREEZE_ROUNDS 100 /* a fork bomb may be faster than this process: give up then */
#define EXEC_ROUNDS   100 /* how often, each millisecond, an exec in progress is waited for */
#define EMPTY_LOOKS   4   /* after so many an environment is empty */

/* A process, and its relation to the family. */
struct entry {
    struct ld_process process;
    bool is_root;
    bool in_family;
    bool detached;
    bool is_open; /* not yet checked whether it is still the same process; its parent is first */
    bool is_confirmed; /* it is */
};

/* All live processes at one moment. */
struct table {
    struct entry *entries;
    size_t count;
    int patience; /* how often an exec is still waited for: a limit for all processes together */
};

static struct table spared; /* processes that are left alone */

/* Read a file of /proc/PID. */
static int read_proc(pid_t pid, const char *name, struct ld_text *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return ld_file_load(path, text);
}

/* Whether PID calls exec: then its environment is empty for a moment, and its command line too. */
static bool is_in_exec(pid_t pid) {
    struct ld_process process;
    struct ld_text words = {0};
    bool is_empty = read_proc(pid, "cmdline", &words) == 0 && words.size == 0;
    ld_text_fini(&words);
    return is_empty && ld_process_read(&process, pid) && !process.is_exiting;
}

/* Read the environment that PID was started with. It counts as empty only if it is so each time that it is
 * read: an exec may have ended between a look at the environment and one at the command line. */
static void read_environment(pid_t pid, struct ld_text *environment, int *patience) {
    for (int seen_empty = 0; seen_empty < EMPTY_LOOKS;) {
        if (read_proc(pid, "environ", environment) < 0 || environment->size > 0) {
            return;
        }
        bool in_exec = is_in_exec(pid);
        seen_empty += !in_exec;
        int pause = in_exec || seen_empty > 1 ? 1 : 0; /* in ms */
        *patience -= pause;
        if (*patience < 0) {
            return;
        }
        poll(NULL, 0, pause);
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

/* Add an entry for PID to the table if it lives. */
static int add_entry(struct table *table, pid_t pid) {
    struct entry entry = {.is_root = false};
    if (!ld_process_read(&entry.process, pid)) {
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
    pid_t a = ((const struct entry *)left)->process.pid;
    pid_t b = ((const struct entry *)right)->process.pid;
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
    struct entry key = {.process = {.pid = pid}};
    return table->count == 0
               ? NULL
               : bsearch(&key, table->entries, table->count, sizeof key, compare_pids);
}

/* Whether a process is one of those to be left alone. */
static bool is_spared(const struct entry *entry) {
    for (size_t i = 0; i < spared.count; i++) {
        const struct ld_process *at = &spared.entries[i].process;
        if (at->pid == entry->process.pid && at->started == entry->process.started) {
            return true;
        }
    }
    return false;
}

/* Leave the present children alone. Without memory they count as family. */
void ld_family_spare_children(void) {
    struct table table = {0};
    size_t count = 0;
    if (read_table(&table) < 0) {
        free(table.entries);
        return;
    }
    for (size_t i = 0; i < table.count; i++) {
        if (table.entries[i].process.parent == getpid()) {
            table.entries[count++] = table.entries[i];
        }
    }
    table.count = count;
    free(spared.entries);
    spared = table;
}

/* Find one of those that are left alone. */
bool ld_family_spared(size_t index, pid_t *pid, unsigned long long *started) {
    if (index < spared.count) {
        *pid = spared.entries[index].process.pid;
        *started = spared.entries[index].process.started;
    }
    return index < spared.count;
}

/* Leave one alone. */
bool ld_family_spare(pid_t pid, unsigned long long started) {
    struct entry *entries = ld_grow(spared.entries, spared.count, sizeof *entries);
    if (entries == NULL) {
        return false;
    }
    spared.entries = entries;
    entries[spared.count++] = (struct entry){.process = {.pid = pid, .started = started}};
    return true;
}

/* Add one more generation of descendants to the family; whether there was any. */
static bool extend_family(struct table *table) {
    bool extended = false;
    for (size_t i = 0; i < table->count; i++) {
        struct entry *entry = &table->entries[i];
        const struct entry *parent = find_entry(table, entry->process.parent);
        bool belongs = parent != NULL && (parent->is_root || parent->in_family);
        if (entry->in_family || entry->is_root || !belongs || is_spared(entry)) {
            continue;
        }
        entry->in_family = true;
        entry->detached = parent->detached || is_detached(entry->process.pid, &table->patience);
        extended = true;
    }
    return extended;
}

/* Order pids. */
static int compare_numbers(const void *left, const void *right) {
    pid_t a = *(const pid_t *)left;
    pid_t b = *(const pid_t *)right;
    return (a > b) - (a < b);
}

/* Find the sessions of those that are detached, in order; 0 or a negative errno. */
static int find_detached_sessions(const struct table *table, struct ld_pids *sessions) {
    for (size_t i = 0; i < table->count; i++) {
        const struct entry *entry = &table->entries[i];
        if (entry->in_family && entry->detached && !ld_pids_add(sessions, entry->process.session)) {
            return -ENOMEM;
        }
    }
    if (sessions->count > 0) {
        qsort(sessions->list, sessions->count, sizeof *sessions->list, compare_numbers);
    }
    return 0;
}

/* Whether ENTRY is in the session of a detached one: some programs overwrite their environment. */
static bool shares_session(const struct entry *entry, const struct ld_pids *sessions) {
    return sessions->count > 0 && bsearch(&entry->process.session, sessions->list, sessions->count,
                                          sizeof *sessions->list, compare_numbers) != NULL;
}

/* Copy the pids of those in the family that are not detached, in order. */
static int collect_family(const struct table *table, struct ld_pids *family, bool *frozen) {
    struct ld_pids sessions = {0};
    *frozen = true;
    int rc = find_detached_sessions(table, &sessions);
    for (size_t i = 0; i < table->count && rc == 0; i++) {
        const struct entry *entry = &table->entries[i];
        bool belongs = entry->in_family && !entry->detached && !shares_session(entry, &sessions);
        bool is_stopped = entry->process.state == 'T' || entry->process.state == 't';
        if (belongs && !ld_pids_add(family, entry->process.pid)) {
            rc = -ENOMEM;
        }
        *frozen = *frozen && (is_stopped || !(belongs || entry->is_root));
    }
    ld_pids_fini(&sessions);
    if (rc < 0) {
        ld_pids_fini(family);
    }
    return rc;
}

/* Whether ENTRY is still the same process, and a child of the same parent. */
static bool is_unchanged(const struct table *table, const struct entry *entry) {
    const struct ld_process *process = &entry->process;
    struct ld_process now;
    struct ld_process above;
    const struct entry *parent = find_entry(table, process->parent);
    return parent != NULL && ld_process_read(&now, process->pid) &&
           now.started == process->started && now.parent == process->parent &&
           ld_process_read(&above, process->parent) && above.started == parent->process.started;
}

/* Send SIGNO to a process if it is still the same: a pidfd cannot mean another one. */
static void signal_process(const struct ld_process *process, int signo) {
    struct ld_process now;
    int pidfd = ld_process_open(process->pid);
    bool is_same = ld_process_read(&now, process->pid) && now.started == process->started;
    if (is_same && pidfd >= 0) {
        ld_process_signal(pidfd, signo);
    } else if (is_same && pidfd != -ESRCH) { /* there are no pidfds, or no descriptors */
        ld_process_kill(process->pid, signo);
    }
    if (pidfd >= 0) {
        close(pidfd);
    }
}

/* Confirm an entry, unless its parent is still to be confirmed; whether that was done. */
static bool confirm_entry(const struct table *table, struct entry *entry) {
    const struct entry *parent = entry->is_open ? find_entry(table, entry->process.parent) : NULL;
    if (parent == NULL || parent->is_open) {
        return false;
    }
    entry->is_open = false;
    entry->is_confirmed = (parent->is_root || parent->is_confirmed) && is_unchanged(table, entry);
    return true;
}

/* Confirm the family from the top, before a process is signalled: one whose parent has changed since
 * the table was read does not belong to it. */
static void confirm_family(struct table *table) {
    bool again = true;
    for (size_t i = 0; i < table->count; i++) {
        table->entries[i].is_open = table->entries[i].in_family && !table->entries[i].detached;
    }
    while (again) {
        again = false;
        for (size_t i = 0; i < table->count; i++) {
            again = confirm_entry(table, &table->entries[i]) || again;
        }
    }
}

/* Send SIGNO to those of FAMILY that are confirmed. */
static void signal_family(struct table *table, const struct ld_pids *family, int signo) {
    confirm_family(table);
    for (size_t i = 0; i < family->count; i++) {
        const struct entry *entry = find_entry(table, family->list[i]);
        if (entry->is_confirmed) {
            signal_process(&entry->process, signo);
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

/* Whether GONE, which started at the tick SINCE, has left PROCESS behind. */
static bool is_left_by(const struct ld_process *process, const struct ld_gone *gone,
                       unsigned long long since, int *patience) {
    struct ld_text environment = {0};
    read_environment(process->pid, &environment, patience);
    bool overwritten =
        environment.size > 0 && memchr(environment.data, '=', environment.size) == NULL;
    bool is_its = process->group == gone->pid || process->session == gone->pid ||
                  has_variable(&environment, gone->mark) ||
                  (overwritten && process->started >= since);
    bool detached = has_variable(&environment, LD_DETACHED_VARIABLE "=");
    ld_text_fini(&environment);
    return is_its && !detached;
}

/* Find what GONE has left behind. */
int ld_family_find_strays(const struct ld_gone *gone, struct ld_pids *strays) {
    struct table table = {.patience = EXEC_ROUNDS};
    *strays = (struct ld_pids){0};
    int rc = read_table(&table);
    unsigned long long since = to_ticks(gone->started);
    for (size_t i = 0; rc == 0 && i < table.count; i++) {
        const struct ld_process *process = &table.entries[i].process;
        if (process->parent == getpid() && is_left_by(process, gone, since, &table.patience) &&
            !ld_pids_add(strays, process->pid)) {
            rc = -ENOMEM;
        }
    }
    free(table.entries);
    return rc;
}

/* Find every live process that descends from ROOT and is not detached. */
int ld_family_find(pid_t root, struct ld_pids *family) {
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

/* Stop ROOTS and their families. A process may have forked before SIGSTOP reached it, so repeat until
 * two scans agree and all were stopped. */
static void freeze_families(const struct roots *roots) {
    bool were_frozen = false;
    bool done = false;
    struct ld_pids family = {0};
    signal_roots(roots, SIGSTOP);
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

/* End ROOTS and their families. They are stopped first: a stopped process cannot fork, and while its
 * root lives its parent does not change. */
static void end_families(const struct roots *roots) {
    struct ld_pids family;
    bool frozen;
    freeze_families(roots);
    find_families(roots, SIGKILL, &family, &frozen);
    signal_roots(roots, SIGKILL);
    ld_pids_fini(&family);
}

/* End children of ours and their families. */
void ld_family_end_all(const struct ld_pids *roots) {
    end_families(&(struct roots){.pids = roots});
}

/* End ROOT and its family. */
void ld_family_end(pid_t root, int pidfd) {
    const struct ld_pids pids = {.list = &root, .count = 1};
    if (root > 1) { /* every process descends from 0 and 1 */
        end_families(&(struct roots){.pids = &pids, .pidfds = &pidfd});
    }
}

/* Stop ROOT and its family. */
void ld_family_freeze(pid_t root, int pidfd) {
    const struct ld_pids pids = {.list = &root, .count = 1};
    if (root > 1) {
        freeze_families(&(struct roots){.pids = &pids, .pidfds = &pidfd});
    }
}

/* End what descends from this process. A process may have forked before it was killed, so look again
 * until none is left. */
void ld_family_end_orphans(void) {
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

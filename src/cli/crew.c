#include "cli/crew.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "base/say.h"
#include "daemon/options.h"
#include "daemon/record.h"

/* Which worker a daemon is. */
unsigned ld_crew_worker(const struct ld_rundir *dir, const char *name) {
    struct ld_record record;
    if (dir->fd < 0 || !ld_parse_is_name(name) || ld_record_load(&record, dir->fd, name) < 0) {
        return 0;
    }
    unsigned worker = ld_record_worker(&record, name);
    ld_record_fini(&record);
    return worker;
}

/* The name of the master of a worker: without "-NUMBER". */
static void name_master(const char *name, unsigned worker, char *master, size_t size) {
    int ending = snprintf(NULL, 0, "-%u", worker);
    snprintf(master, size, "%.*s", (int)strlen(name) - ending, name);
}

/* Whether its master runs. */
bool ld_crew_has_master(const struct ld_rundir *dir, const char *name) {
    char master[LD_NAME_MAX + 1];
    struct ld_holder holder;
    unsigned worker = ld_crew_worker(dir, name);
    if (worker == 0) {
        return false;
    }
    name_master(name, worker, master, sizeof master);
    return ld_pidfile_inspect(&holder, dir->fd, master) == 0 && holder.state == LD_HOLDER_ALIVE;
}

/* Name a worker; false if it would have no name. */
static bool name_worker(struct ld_target *worker, const struct ld_target *master, unsigned number) {
    *worker = (struct ld_target){.dir = master->dir};
    int size = snprintf(worker->name, sizeof worker->name, "%s-%u", master->name, number);
    return size < (int)sizeof worker->name && ld_parse_is_name(worker->name);
}

/* Find the last worker of a daemon. Some may have been stopped, the first ones too. */
unsigned ld_crew_count(const struct ld_target *target) {
    unsigned last = 0;
    struct ld_target worker;
    for (unsigned number = 1; number <= LD_WORKERS_MAX && name_worker(&worker, target, number);
         number++) {
        if (ld_crew_worker(target->dir, worker.name) == number) {
            last = number;
        }
    }
    return last;
}

/* Find a worker. */
int ld_crew_find(struct ld_target *worker, const struct ld_target *master, unsigned number) {
    if (!name_worker(worker, master, number)) {
        return -ENAMETOOLONG;
    }
    return ld_crew_worker(worker->dir, worker->name) == number
               ? ld_pidfile_inspect(&worker->holder, worker->dir->fd, worker->name)
               : -ENOENT;
}

/* Find the master of a worker. */
bool ld_crew_find_master(struct ld_target *master, const struct ld_target *worker,
                         unsigned *number) {
    const char *dash = strrchr(worker->name, '-');
    long value;
    *master = (struct ld_target){.dir = worker->dir};
    if (dash == NULL || worker->dir->fd < 0 ||
        !ld_parse_whole(dash + 1, 1, LD_WORKERS_MAX, &value)) {
        return false;
    }
    *number = (unsigned)value;
    snprintf(master->name, sizeof master->name, "%.*s", (int)(dash - worker->name), worker->name);
    return ld_parse_is_name(master->name) &&
           ld_pidfile_inspect(&master->holder, master->dir->fd, master->name) == 0 &&
           ld_crew_is_up(master) &&
           (ld_crew_worker(worker->dir, worker->name) == *number || ld_crew_count(master) > 0);
}

/* Whether a worker runs. */
bool ld_crew_is_up(const struct ld_target *worker) {
    return worker->holder.state == LD_HOLDER_ALIVE && !worker->holder.waiting;
}

/* Work for a worker. */
static int work_for(const struct ld_target *master, unsigned number, ld_crew_work *work,
                    void *arg) {
    struct ld_target worker;
    int rc = ld_crew_find(&worker, master, number);
    if (rc == -ENOENT) {
        return 0;
    }
    if (rc < 0 || !ld_crew_is_up(&worker)) {
        ld_say_error("%s: it is about to be started again", worker.name);
        return 1;
    }
    return work(arg, &worker);
}

/* Work for each. */
int ld_crew_each(struct ld_target *target, ld_crew_work *work, void *arg) {
    unsigned count = ld_crew_count(target);
    int worst = count == 0 ? work(arg, target) : 0;
    for (unsigned number = 1; number <= count; number++) {
        int status = work_for(target, number, work, arg);
        worst = status > worst ? status : worst;
    }
    return worst;
}

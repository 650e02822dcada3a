#include "cli/crew.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "base/say.h"
#include "daemon/options.h"
#include "daemon/record.h"

/* Which worker a record is of, by its name too. */
static unsigned worker_of(const struct ld_record *record, const char *name) {
    char ending[16];
    json_int_t number = json_integer_value(json_object_get(record->fields, "worker"));
    if (number < 1 || number > LD_WORKERS_MAX) {
        return 0;
    }
    size_t size = (size_t)snprintf(ending, sizeof ending, "-%d", (int)number);
    size_t length = strlen(name);
    bool fits = length > size && strcmp(name + length - size, ending) == 0;
    return fits ? (unsigned)number : 0;
}

/* Which worker a daemon is. */
unsigned ld_crew_worker(const struct ld_rundir *dir, const char *name) {
    struct ld_record record;
    if (dir->fd < 0 || !ld_parse_is_name(name) || ld_record_load(&record, dir->fd, name) < 0) {
        return 0;
    }
    unsigned worker = worker_of(&record, name);
    ld_record_fini(&record);
    return worker;
}

/* The name of its master: without "-NUMBER". */
void ld_crew_master(const char *name, unsigned worker, char *master, size_t size) {
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
    ld_crew_master(name, worker, master, sizeof master);
    return ld_pidfile_inspect(&holder, dir->fd, master) == 0 && holder.state == LD_HOLDER_ALIVE;
}

/* Name a worker; false if it would have no name. */
static bool name_worker(struct ld_target *worker, const struct ld_target *master, unsigned number) {
    *worker = (struct ld_target){.dir = master->dir};
    int size = snprintf(worker->name, sizeof worker->name, "%s-%u", master->name, number);
    return size < (int)sizeof worker->name && ld_parse_is_name(worker->name);
}

/* Count the workers of a daemon. */
unsigned ld_crew_count(const struct ld_target *target) {
    unsigned count = 0;
    struct ld_target worker;
    while (count < LD_WORKERS_MAX && name_worker(&worker, target, count + 1) &&
           ld_crew_worker(target->dir, worker.name) == count + 1) {
        count++;
    }
    return count;
}

/* Find a worker. */
int ld_crew_find(struct ld_target *worker, const struct ld_target *master, unsigned number) {
    return name_worker(worker, master, number)
               ? ld_pidfile_inspect(&worker->holder, worker->dir->fd, worker->name)
               : -ENAMETOOLONG;
}

/* Whether a worker runs. */
bool ld_crew_is_up(const struct ld_target *worker) {
    return worker->holder.state == LD_HOLDER_ALIVE && !worker->holder.waiting;
}

/* Work for a worker. */
static int work_for(const struct ld_target *master, unsigned number, ld_crew_work *work,
                    void *arg) {
    struct ld_target worker;
    if (ld_crew_find(&worker, master, number) < 0 || !ld_crew_is_up(&worker)) {
        ld_say_error("%s: it does not run at the moment", worker.name);
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

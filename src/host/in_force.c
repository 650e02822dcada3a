/* What the keeper has for the next host that it starts: the code in force, while the disk has other code, which is on
 * probation, was undone or refused; and what a master knows of its workers. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/keeper_channel.h"
#include "engine/workers.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/sealed.h"
#include "script/memory_image.h"

#define AGAIN_MS 100 /* before it is told again what it could not be told */

/* Find what the next host is to be made from; NULL: from the disk. */
static struct ld_memory *find_wanted(const struct ld_host *host) {
    bool is_from_memory =
        host->reload.phase != LD_RELOAD_NONE || /* the new code may end all of it */
        host->probation.phase != LD_PROBATION_NONE || host->script->recall != NULL ||
        host->reload.refused != NULL || (host->service->is_master && host->master.inherited >= 0);
    return is_from_memory ? ld_probation_in_force(host) : NULL;
}

/* Send the keeper what the next host is to be made from; 0 or a negative errno. */
static int send_code(const struct ld_host *host, const struct ld_memory *memory) {
    struct ld_text bytes = {0};
    if (memory == NULL) {
        return ld_keeper_channel_tell_memory(host->service, -1);
    }
    if (host->service->is_master) { /* what its workers are made of */
        return ld_keeper_channel_tell_memory(host->service, ld_master_in_force(host));
    }
    int rc = ld_memory_image_write(memory, &bytes);
    int fd = rc == 0 ? ld_sealed_make("lunad-memory", ld_text_string(&bytes), bytes.size) : rc;
    ld_text_fini(&bytes);
    if (fd < 0) {
        return fd;
    }
    rc = ld_keeper_channel_tell_memory(host->service, fd);
    close(fd);
    return rc;
}

/* Tell the keeper what is in force, if that has changed; 0 or a negative errno. */
static int tell_code(struct ld_host *host) {
    struct ld_memory *wanted = host->script != NULL && host->was_ready ? find_wanted(host) : NULL;
    size_t count = wanted != NULL ? ld_memory_count(wanted) : 0;
    if (host->in_force.is_known && wanted == host->in_force.told && count == host->in_force.count) {
        return 0;
    }
    ld_in_force_forget(host);
    int rc = send_code(host, wanted);
    if (rc == -E2BIG) { /* that stays so: from the disk then */
        ld_log(LD_LOG_WARN,
               "the code in force is too large to be handed to the keeper: after a crash it "
               "starts what is on the disk then");
        rc = send_code(host, NULL);
    }
    if (rc == 0) {
        host->in_force.told = wanted != NULL ? ld_memory_hold(wanted) : NULL;
        host->in_force.count = count;
        host->in_force.is_known = true;
    }
    return rc;
}

/* Tell the keeper of a master what is known of the workers, if that has changed; 0 or a negative errno. */
static int tell_facts(struct ld_host *host) {
    struct ld_text facts = {0};
    if (host->master.channels == NULL) {
        return 0;
    }
    unsigned long changes = ld_workers_count_changes(host->master.channels);
    if (host->in_force.workers == host->service->workers && host->in_force.changes == changes) {
        return 0;
    }
    ld_master_write_facts(host, &facts);
    int rc = facts.failed ? -ENOMEM : ld_keeper_channel_tell_facts(host->service, &facts);
    if (rc == 0) {
        host->in_force.workers = host->service->workers;
        host->in_force.changes = changes;
    }
    ld_text_fini(&facts);
    return rc;
}

/* Tell the keeper what has changed. While that fails, most likely because the keeper does not read, it is tried again. */
void ld_in_force_step(struct ld_host *host) {
    const struct ld_service *service = host->service;
    bool has_keeper =
        service->keeper >= 0 && service->worker == 0 && ld_service_restarts(service, 1);
    if (!has_keeper || host->state != LD_HOST_RUNNING) {
        return;
    }
    if (host->in_force.is_late && uv_now(&host->loop) < host->in_force.again_at) {
        ld_alarm_wake_at(host, host->in_force.again_at);
        return;
    }
    int code = tell_code(host);
    int rc = code < 0 ? code : tell_facts(host);
    if (rc < 0 && !host->in_force.is_late) {
        ld_log(LD_LOG_WARN,
               "the keeper cannot be told yet what is in force: %s: until then it starts after a "
               "crash what it was told before, or what is on the disk",
               strerror(-rc));
    }
    if (rc == 0 && host->in_force.is_late) {
        ld_log(LD_LOG_INFO, "the keeper knows now what is in force");
    }
    host->in_force.is_late = rc < 0;
    if (rc < 0) {
        host->in_force.again_at = uv_now(&host->loop) + AGAIN_MS;
        ld_alarm_wake_at(host, host->in_force.again_at);
    }
}

/* Forget what the keeper was told, as far as it is ours to hold. */
void ld_in_force_forget(struct ld_host *host) {
    ld_memory_drop(host->in_force.told);
    host->in_force.told = NULL;
    host->in_force.is_known = false;
}

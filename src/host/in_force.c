/* The code in force, with the keeper: while the disk has other code, which is on probation, was undone or refused, the next
 * host that the keeper starts is made from memory. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/keeper_channel.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/sealed.h"
#include "script/memory_image.h"

/* Find what the next host is to be made from; NULL: from the disk. */
static struct ld_memory *find_wanted(const struct ld_host *host) {
    bool is_from_memory =
        host->reload.phase != LD_RELOAD_NONE || /* the new code may end all of it */
        host->probation.phase != LD_PROBATION_NONE || host->script->recall != NULL ||
        host->reload.refused != NULL || (host->service->is_master && host->master.inherited >= 0);
    return is_from_memory ? ld_probation_in_force(host) : NULL;
}

/* Tell the keeper; 0 or a negative errno. */
static int tell(const struct ld_host *host, const struct ld_memory *memory) {
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

/* Tell the keeper what is in force, if that has changed. */
void ld_in_force_step(struct ld_host *host) {
    const struct ld_service *service = host->service;
    struct ld_memory *wanted = host->script != NULL && host->was_ready ? find_wanted(host) : NULL;
    size_t count = wanted != NULL ? ld_memory_count(wanted) : 0;
    bool is_known =
        host->in_force.is_known && wanted == host->in_force.told && count == host->in_force.count;
    bool has_keeper =
        service->keeper >= 0 && service->worker == 0 && ld_service_restarts(service, 1);
    if (is_known || !has_keeper || host->state != LD_HOST_RUNNING) {
        return;
    }
    ld_in_force_forget(host);
    host->in_force.told = wanted != NULL ? ld_memory_hold(wanted) : NULL;
    host->in_force.count = count;
    host->in_force.is_known = true;
    int rc = tell(host, wanted);
    if (rc < 0) {
        ld_log(LD_LOG_WARN,
               "the code in force cannot be handed to the keeper: %s: after a crash it starts what "
               "is on the disk then",
               strerror(-rc));
    }
}

/* Forget what the keeper was told. */
void ld_in_force_forget(struct ld_host *host) {
    ld_memory_drop(host->in_force.told);
    host->in_force.told = NULL;
}

/* What a worker tells its master, and has from it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "daemon/keeper_channel.h"
#include "host/workers.h"
#include "posix/sealed.h"
#include "script/memory_image.h"

/* Send a packet to the master. */
int ld_worker_tell(const struct ld_host *host, unsigned long number, const char *word,
                   const char *text, int fd) {
    return ld_packet_send(host->service->keeper, number, word, text, strlen(text), fd);
}

/* Make an image of a memory that others can read: a descriptor at its beginning, or a negative errno. */
static int make_image(const struct ld_memory *memory) {
    struct ld_text bytes = {0};
    int rc = memory != NULL ? ld_memory_image_write(memory, &bytes) : -ENOENT;
    int fd = rc == 0 ? ld_sealed_make("lunad-memory", ld_text_string(&bytes), bytes.size) : rc;
    ld_text_fini(&bytes);
    return fd;
}

/* Send WORD with an image of a memory; without one if it cannot be made: then the disk has to do. */
int ld_worker_send_memory(const struct ld_host *host, unsigned long number, const char *word,
                          const struct ld_memory *memory) {
    int fd = make_image(memory);
    int rc = ld_worker_tell(host, number, word, "", fd < 0 ? -1 : fd);
    if (fd < 0) {
        ld_log(
            LD_LOG_WARN,
            "what the code is made of cannot be handed to the master: %s: this worker is started "
            "again with what is on the disk then",
            strerror(-fd));
    } else {
        close(fd);
    }
    return rc;
}

/* Tell the master what this worker is made of. */
void ld_worker_tell_memory(struct ld_host *host) {
    if (host->service->worker > 0 && host->service->keeper >= 0) {
        const struct ld_memory *memory = ld_probation_in_force(host);
        host->worker.told = ld_memory_count(memory);
        ld_worker_send_memory(host, 0, LD_WORKERS_WORD_MEMORY, memory);
    }
}

/* Ask the master for a reload. */
bool ld_worker_ask_reload(struct ld_host *host, bool have_changed) {
    return host->service->worker > 0 && host->service->keeper >= 0 &&
           ld_worker_tell(host, 0, have_changed ? LD_WORKERS_WORD_CHANGED : LD_WORKERS_WORD_RELOAD,
                          "", -1) == 0;
}

/* Read all of an image. The other workers have the same open file, so its offset is left alone. */
static int read_image(int fd, struct ld_text *bytes) {
    char part[65536];
    ssize_t size;
    while ((size = pread(fd, part, sizeof part, (off_t)bytes->size)) > 0 &&
           bytes->size <= LD_MEMORY_IMAGE_MAX && !bytes->failed) {
        ld_text_add(bytes, part, (size_t)size);
    }
    return size < 0 ? -errno : bytes->failed ? -ENOMEM : 0;
}

/* Read the memory that the master has handed to this worker. */
int ld_worker_recall(struct ld_host *host, struct ld_memory **memory, struct ld_text *why) {
    struct ld_text bytes = {0};
    int fd = host->service->memory_fd;
    *memory = NULL;
    if (fd < 0) {
        return 0;
    }
    host->service->memory_fd = -1;
    int rc = read_image(fd, &bytes);
    if (rc == 0) {
        rc = ld_memory_image_read(host->texts, ld_text_string(&bytes), bytes.size, memory, why);
    } else {
        ld_text_format(why, "the code in force: %s", strerror(-rc));
    }
    close(fd);
    ld_text_fini(&bytes);
    return rc;
}

/* Ask the master for a listening socket. */
static int ask_for_socket(void *arg, const char *address, const struct ld_listen_options *options) {
    struct ld_host *host = arg;
    struct ld_text text = {0};
    ld_text_format(&text, "%d %d %s", options->backlog, options->mode, address);
    int fd = text.failed ? -ENOMEM
                         : ld_keeper_channel_ask(host->service, LD_WORKERS_WORD_LISTEN,
                                                 ld_text_string(&text));
    ld_text_fini(&text);
    return fd;
}

/* Tell the master that an address is not used any more. */
static void release_socket(void *arg, const char *address) {
    const struct ld_host *host = arg;
    ld_worker_tell(host, 0, LD_WORKERS_WORD_UNLISTEN, address, -1);
}

/* Have the listening sockets come from the master. */
void ld_worker_source_sockets(struct ld_host *host) {
    static const struct ld_listener_source source = {ask_for_socket, release_socket};
    if (host->service->worker > 0) {
        ld_listeners_set_source(host->listeners, &source, host);
    }
}

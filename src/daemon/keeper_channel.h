/* The channel between keeper and host, and the host's end of it. */
#ifndef LD_DAEMON_KEEPER_CHANNEL_H
#define LD_DAEMON_KEEPER_CHANNEL_H

#include "daemon/service.h"
#include "daemon/start_report.h"
#include "posix/packet.h"

/* The words of the protocol (posix/packet.h). From the host, requests with a number: */
#define LD_KEEPER_WORD_LOG    "open-log"
#define LD_KEEPER_WORD_ROTATE "rotate-log"

/* The same, from the host of a master: the files of a worker, "WORKER PID" and "WORKER"; see hold_worker.h. A
 * worker asks its master by the same words, without a text. */
#define LD_KEEPER_WORD_LOCK    "worker-lock"
#define LD_KEEPER_WORD_CONTROL "worker-control"

/* From the host of a master, without a number, about "WORKER": it has no process; it shall have no files. */
#define LD_KEEPER_WORD_DOWN "worker-down"
#define LD_KEEPER_WORD_DROP "worker-drop"

/* From the host, without a number: how the start went, with the reason if it failed. */
#define LD_KEEPER_WORD_READY    "ready"
#define LD_KEEPER_WORD_FINISHED "finished"
#define LD_KEEPER_WORD_FAILED   "failed"

/* From the host, without a number: what the next host is to be made from, an image of a memory that is a sealed
 * descriptor; without one: the disk. The keeper reads none of it. */
#define LD_KEEPER_WORD_MEMORY "memory"
#define LD_KEEPER_MEMORY_MAX  ((size_t)128 << 20) /* bytes */

/* From the host of a master, without a number: what the next one is to know of the workers, a text that the keeper does not
 * read. */
#define LD_KEEPER_WORD_FACTS "facts"
#define LD_KEEPER_FACTS_MAX  60000 /* bytes */

/* From the host, without a number: it was asked to stop. */
#define LD_KEEPER_WORD_STOPPING "stopping"

/* From the keeper, with the number of the request: OK with the descriptor, ERROR with an errno. */
#define LD_KEEPER_WORD_OK    "ok"
#define LD_KEEPER_WORD_ERROR "error"

/* From the keeper, without a number; SOCKET and PIDFILE with a descriptor. */
#define LD_KEEPER_WORD_STOP    "stop"
#define LD_KEEPER_WORD_SOCKET  "socket"
#define LD_KEEPER_WORD_PIDFILE "pidfile"
#define LD_KEEPER_WORD_TOLD    "told"

/* The same to the host of a master, and from that to its workers, without a descriptor: files of workers were removed
 * and made again; the workers ask for them. */
#define LD_KEEPER_WORD_FILES "worker-files"

/* From a master, without a number: the order for a reload follows. So it is seen too while the script of the worker holds
 * the loop, which is interrupted then. */
#define LD_KEEPER_WORD_RELOAD "reload-due"

/* The same of an upgrade, which does not interrupt that: the worker answers that it is busy. */
#define LD_KEEPER_WORD_UPGRADE "upgrade-due"

/* To a master, without a number, from the thread that watches the loop of a worker: the order that was announced is not
 * seen, as the script holds the loop, for the reason in the text; a reload was due for too long. */
#define LD_KEEPER_WORD_RELOAD_BUSY  "reload-busy"
#define LD_KEEPER_WORD_UPGRADE_BUSY "upgrade-busy"

/* What the keeper sends to the host. */
enum ld_keeper_event {
    LD_KEEPER_NOTHING,
    LD_KEEPER_STOP,   /* the keeper was asked to stop */
    LD_KEEPER_SOCKET, /* a new control socket, because the file of the old one was removed */
    LD_KEEPER_GONE,   /* the keeper has died */
};

/* In the host, or in a service without a keeper: report to the starting process, if it still
 * waits, how the start went. KIND is READY, FINISHED, or FAILED with TEXT as the reason. */
void ld_keeper_channel_report_start(struct ld_service *service, enum ld_start_report_kind kind,
                                    const char *text);

/* In the host: tell the keeper, if there is one, that the service was asked to stop, so that it is not
 * restarted. */
void ld_keeper_channel_say_stopping(const struct ld_service *service);

/* In the host: tell the keeper by FD what the next host is made from, -1: the disk. 0 or a negative errno. */
int ld_keeper_channel_tell_memory(const struct ld_service *service, int fd);

/* In the host of a master: tell the keeper what the next one is to know. 0 or a negative errno. */
int ld_keeper_channel_tell_facts(const struct ld_service *service, const struct ld_text *facts);

/* In the host: ask the keeper to open the log; a descriptor or a negative errno. An opener for the
 * log; ARG is the service. */
int ld_keeper_channel_open_log(void *arg);

/* The same, after it has moved the log away if that is half full or more: a rotator for the log. */
int ld_keeper_channel_rotate_log(void *arg);

/* In the host: make the request WORD with TEXT; the descriptor of the answer, or a negative errno: -ETIMEDOUT
 * without an answer. */
int ld_keeper_channel_ask(struct ld_service *service, const char *word, const char *text);

/* In a worker: receive what its master sends, with what came during a request first; as ld_packet_receive, but the
 * packet is valid until the next call. Whether something came during a request. */
int ld_keeper_channel_receive(const struct ld_service *service, struct ld_packet *packet);
bool ld_keeper_channel_is_behind(void);

/* In the host, when service->keeper is readable: receive what it sends. With SOCKET, *FD is the
 * socket. A new pidfile is taken here. */
enum ld_keeper_event ld_keeper_channel_hear(struct ld_service *service, int *fd);

#endif

/* The two ends of the channel between a master and its workers, and their words. The words of the channel between a
 * host and its keeper (daemon/keeper_channel.h) mean the same here: the host of the master is the keeper of its
 * workers. */
#ifndef LD_HOST_WORKERS_H
#define LD_HOST_WORKERS_H

#include "host/internal.h"
#include "posix/packet.h"

/* From the master, with a number: make the next generation ready, and hold it; the text is "WORKERS PROBATION", how
 * many there are to be, and for how many seconds the code is on probation. */
#define LD_WORKERS_WORD_PREPARE "prepare"

/* From the worker, with that number: it is held, with an image of its memory; or it is refused, for the reason in the
 * text. */
#define LD_WORKERS_WORD_PREPARED "prepared"
#define LD_WORKERS_WORD_REFUSED  "refused"

/* From the master: let what is held become the service, which is a generation with the number in the text; or give it up. */
#define LD_WORKERS_WORD_COMMIT  "commit"
#define LD_WORKERS_WORD_ABANDON "abandon"

/* From the master: that is the generation of the service now, as an upgrade has counted on. */
#define LD_WORKERS_WORD_GENERATION "generation"

/* From the worker, after a commit: that it is the service, or why not. */
#define LD_WORKERS_WORD_COMMITTED "committed"
#define LD_WORKERS_WORD_FAILED    "uncommitted"

/* From the worker, a request: a socket for an address, "BACKLOG MODE ADDRESS". Without a number: "ADDRESS" is not used
 * any more. */
#define LD_WORKERS_WORD_LISTEN   "listen"
#define LD_WORKERS_WORD_UNLISTEN "unlisten"

/* From the worker: its code has failed its probation, for the reason in the text. From the master: that of a worker
 * has, and all go back. */
#define LD_WORKERS_WORD_UNPROVED "unproved"

/* From the worker: its code has done well for as long as it is on probation, and waits for the word. From the master:
 * that of all has, and has passed. */
#define LD_WORKERS_WORD_PROVED "proved"

/* From the worker: what it is made of now, as an image; and that the service is to be reloaded. */
#define LD_WORKERS_WORD_MEMORY "memory"
#define LD_WORKERS_WORD_RELOAD "reload"

/* The same, because files on the disk have changed: each worker sees that. */
#define LD_WORKERS_WORD_CHANGED "changed"

/* From the master: open the log again. */
#define LD_WORKERS_WORD_REOPEN "reopen"

/* From the master, first of all: the box with messages of other workers (engine/mail.h). */
#define LD_WORKERS_WORD_MAIL "mail"

/* Of an upgrade. From the master: the image of what the worker is to be made of, if that is not the disk; with a number and
 * a descriptor: try this program, and hold it; become it; or forget it. */
#define LD_WORKERS_WORD_UPGRADE_CODE "upgrade-code"
#define LD_WORKERS_WORD_UPGRADE_TRY  "upgrade-try"
#define LD_WORKERS_WORD_UPGRADE_GO   "upgrade-go"
#define LD_WORKERS_WORD_UPGRADE_DROP "upgrade-drop"

/* From the worker, with that number: it could become the program; it cannot, or is the old one again, for the reason in
 * the text; it is the program. */
#define LD_WORKERS_WORD_UPGRADE_CAN     "upgrade-can"
#define LD_WORKERS_WORD_UPGRADE_REFUSED "upgrade-refused"
#define LD_WORKERS_WORD_UPGRADED        "upgraded"

/* What a master knows of a worker. */
struct ld_master_worker {
    int memory;       /* an image of what it is made of; -1: not known yet */
    int next;         /* the same of what it holds, or has become in an upgrade; -1: nothing */
    bool is_unproved; /* its code is on probation, and has yet to do well until the end of that */
    bool can_upgrade; /* it has tried the program, and holds it */
    bool is_upgraded; /* it is the program that its master is to become */
};

/* crew.c: the workers during an upgrade. */

/* Replace a descriptor that is kept, -1: by none. */
void ld_crew_keep(int *kept, int fd);

/* Begin to have all of them become the program of the upgrade; or have those that did become this one again. */
void ld_crew_begin(struct ld_host *host);
void ld_crew_begin_back(struct ld_host *host);

/* Continue: 1 when it is done, 0, or -1 with the reason in host->upgrade.why. */
int ld_crew_step(struct ld_host *host);

/* Let none hold the program any more. */
void ld_crew_drop(struct ld_host *host);

/* Whether some are another program than their master. */
bool ld_crew_is_mixed(const struct ld_host *host);

/* Take what a worker says; false if it is not of this. Note that it has ended. */
bool ld_crew_hear(struct ld_host *host, int worker, const struct ld_packet *packet);
void ld_crew_note_gone(struct ld_host *host, int worker);

/* Whether what a worker says that it is made of is that of the program. */
bool ld_crew_is_ahead(const struct ld_host *host, int worker);

/* master_estate.c */

/* Leave the channels, sockets, boxes and files of the workers to another program, a new reference; take them over, before
 * the chunk is loaded: 0 or a negative errno; and make them our own. Does nothing for what is no master. */
json_t *ld_master_leave(struct ld_host *host, struct ld_handover *handover);
int ld_master_take_over(struct ld_host *host, struct ld_handover *handover);
void ld_master_settle(struct ld_host *host);

/* master.c */

/* Make the channels of a master; 0 or a negative errno. To be closed in either case. Does nothing for others. */
int ld_master_open(struct ld_host *host);
void ld_master_close(struct ld_host *host);

/* Have the workers of a master open the log again. Does nothing for others. */
void ld_master_tell_reopen(struct ld_host *host);

/* Have the chunk of a master restart a worker. */
void ld_master_restart(struct ld_host *host, int worker);

/* List the workers of a master, a new reference: null for others. */
json_t *ld_master_report(const struct ld_host *host);

/* Find the first worker that a reload or an upgrade waits for: 0 if there is none, and for what is no master. */
int ld_master_find_awaited(const struct ld_host *host);

/* Count the workers of a master that have no process, and are started when the loop turns; 0 for others. */
int ld_master_count_down(const struct ld_host *host);

/* Tell the workers of a master that files of theirs were made again. */
void ld_master_tell_files(struct ld_host *host);

/* Have the workers of a master, which is the next host of a keeper, made from the image of a memory that the host
 * before had in force; it is the master's then. */
void ld_master_inherit(struct ld_host *host, int memory);

/* Find such an image of what is in force now, which stays the master's; -1 if there is none. */
int ld_master_in_force(const struct ld_host *host);

/* Write what the next host of a keeper is to know of the workers, and take that over from the host before. */
void ld_master_write_facts(const struct ld_host *host, struct ld_text *facts);
void ld_master_read_facts(struct ld_host *host);

/* The reload of a master: it begins; what its workers hold becomes the service, or is given up. */
void ld_master_begin(struct ld_host *host);
void ld_master_commit(struct ld_host *host);
void ld_master_abandon(struct ld_host *host);

/* Have the workers of a master pass, if their code has, once in a turn. Does nothing for others. */
void ld_master_step(struct ld_host *host);

/* worker.c: for a worker. */

/* Send the master a packet, with a descriptor unless FD is -1, or with an image of a memory; 0 or a negative errno. */
int ld_worker_tell(const struct ld_host *host, unsigned long number, const char *word,
                   const char *text, int fd);
int ld_worker_send_memory(const struct ld_host *host, unsigned long number, const char *word,
                          const struct ld_memory *memory);

/* Send the master what this worker is made of now. Does nothing for others. */
void ld_worker_tell_memory(struct ld_host *host);

/* Ask the master for a reload of the service, as a script does or because files HAVE_CHANGED; false if this is no
 * worker. */
bool ld_worker_ask_reload(struct ld_host *host, bool have_changed);

/* Read the memory that the first generation is made from into *MEMORY, which is held; NULL if there is none. 0 or a
 * negative errno with the reason in WHY. */
int ld_worker_recall(struct ld_host *host, struct ld_memory **memory, struct ld_text *why);

/* Have the listening sockets of this host come from the master. Does nothing for others. */
void ld_worker_source_sockets(struct ld_host *host);

/* worker_orders.c: for a worker. */

/* Receive what the master sends to this worker; true if it is to stop. */
bool ld_worker_orders_hear(struct ld_host *host);

/* Do what was put off, once in a turn of the loop; likewise. */
bool ld_worker_orders_step(struct ld_host *host);

#endif

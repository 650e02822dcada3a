/* The file of --state: what a service wants to have again at its next start.
 *
 * A line says what it is: the mark, whose it is, how large each part is, and a sum of all of them. The parts follow,
 * as they are; to this file they are bytes. It is only ever replaced as a whole: written under another name, brought
 * to the disk, and renamed. Nothing is done with more rights than this process has. */
#ifndef LD_DAEMON_STATE_FILE_H
#define LD_DAEMON_STATE_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/text.h"

enum ld_state_part {
    LD_STATE_GIVEN,   /* what on_reload has returned */
    LD_STATE_KEPT,    /* what lunad.keep has */
    LD_STATE_UNASKED, /* what it has from the start before, and nothing has asked for yet */
    LD_STATE_PARTS,
};

/* What is in a file. Zeroed means nothing; free with ld_state_file_fini. */
struct ld_state_file {
    struct ld_text text;
    struct ld_text parts
        [LD_STATE_PARTS]; /* in TEXT, which has their bytes: they are not to be freed or changed */
    double time;          /* when it was written; Unix time */
};

/* Read the file PATH of the service NAME. 0; -ENOENT if there is none; or, with the reason in WHY: -EBADMSG if it is
 * of this service and damaged, and else any other negative errno: then it is not ours, or cannot be read. */
int ld_state_file_read(struct ld_state_file *file, const char *path, const char *name,
                       struct ld_text *why);
void ld_state_file_fini(struct ld_state_file *file);

/* Rename the damaged file PATH so that it is kept, and no other one lost: its new name in KEPT. 0, or a negative
 * errno. */
int ld_state_file_put_aside(const char *path, struct ld_text *kept);

/* What the name of a file ends with while it is being written, beside that which it is to replace. No state file may have
 * such a name. */
#define LD_STATE_DRAFT ".lunad-draft"

/* A new file that is being written. */
struct ld_state_draft {
    int dir;                   /* that it is in */
    int fd;                    /* -1: there is none */
    char name[NAME_MAX + 1];   /* that it will have */
    char draft[NAME_MAX + 16]; /* that it has */
    const char *service;       /* borrowed */
    const char *path;          /* borrowed */
    uint64_t sizes[LD_STATE_PARTS];
    uint64_t sum;
};

/* Begin to write the file PATH of SERVICE; its folder is made, 0700, if it is missing. What a process that died has left of a
 * draft is removed; another file that has its name is not, and refuses this. Add to a part, one after the
 * other in their order. Finish: 1 if the file was replaced; 0 if it has the same parts already, and stays; its size
 * in *SIZE. Each may return a negative errno with the reason in WHY; then, and at any other time, the draft is given
 * up by ld_state_draft_fini, which is to be called in any case. */
int ld_state_draft_open(struct ld_state_draft *draft, const char *path, const char *service,
                        struct ld_text *why);
int ld_state_draft_add(struct ld_state_draft *draft, enum ld_state_part part,
                       const struct ld_text *bytes, struct ld_text *why);
int ld_state_draft_finish(struct ld_state_draft *draft, uint64_t *size, struct ld_text *why);
void ld_state_draft_fini(struct ld_state_draft *draft);

#endif

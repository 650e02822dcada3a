/* The record of how a service was started: NAME.start beside its pidfile, mode 0600, written and
 * owned by the process that starts it, so that `restart` and `stop` need not trust the service. It
 * is kept when the service dies, and then also says how, if a process of ours saw it. */
#ifndef LD_DAEMON_RECORD_H
#define LD_DAEMON_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/text.h"

struct ld_record {
    uid_t uid;    /* the owner of the file: who started the service */
    char *cwd;    /* NULL if it had been removed */
    char **words; /* the command line, the program first */
    char **environment;
    char *script; /* absolute; NULL for -e and stdin */
    char *text;   /* of -e, else NULL */
    char *log;    /* the path of the log file, or NULL */
    double start_timeout;
    double stop_timeout;
    double probation;
    double died;    /* Unix time of a death that was seen; 0: unknown */
    char *death;    /* "killed by SIGKILL"; NULL: unknown */
    char *report;   /* the path of the crash report, or NULL */
    json_t *fields; /* all of it, to be saved again */
};

/* Write FIELDS, which are borrowed, as NAME.start in the run directory DIR, and replace the one
 * that is there. 0 or a negative errno. */
int ld_record_save(int dir, const char *name, const json_t *fields);

/* Note in NAME.start that the service has died now, and how, and where the report of its crash is (or
 * NULL). Does nothing without NAME.start. */
void ld_record_note_death(int dir, const char *name, const char *how, const char *report);

/* The same in a signal handler of the service itself, if the file is its own. */
void ld_record_note_own_death(int dir, const char *name, const char *how, const char *report);

/* Write RECORD, which was loaded from NAME.start and has been removed since, again; HOW its
 * service ended now, or NULL for what it says already. 0 or a negative errno. */
int ld_record_restore(const struct ld_record *record, int dir, const char *name, const char *how);

/* Read NAME.start. 0; -ENOENT if there is none, -EACCES if it belongs to another user and this is
 * not root, -EPERM if others may have written it, -EPROTO if it is not a record. */
int ld_record_load(struct ld_record *record, int dir, const char *name);
void ld_record_fini(struct ld_record *record);

/* Which worker of a master the service NAME of a record is; 0 if it is not one. */
unsigned ld_record_worker(const struct ld_record *record, const char *name);

/* Add when and how the service of a record ended: "was killed by SIGKILL at 2026-11-22T10:11:12Z",
 * or the time of its last sign of life. The service must not be running. */
void ld_record_describe_death(struct ld_text *text, const struct ld_record *record, int dir,
                              const char *name);

/* Remove NAME.start. */
void ld_record_remove(int dir, const char *name);

#endif

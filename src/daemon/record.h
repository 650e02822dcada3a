/* How a service was started, in NAME.start beside its pidfile: written by the process that starts
 * it, 0600 and its own, so that `restart` and `stop` need not believe what the service says. It stays
 * when the service dies, and then also says how that happened, as far as anyone saw it. */
#ifndef LD_DAEMON_RECORD_H
#define LD_DAEMON_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/text.h"

struct ld_record {
    uid_t uid;    /* the owner of the file: who started the service */
    char *cwd;    /* NULL if there was none: it had been removed */
    char **words; /* the command line, the program first */
    char **environment;
    char *script; /* absolute; NULL for -e and stdin */
    char *text;   /* of -e, else NULL */
    char *log;    /* the path of the log file, or NULL */
    double start_timeout;
    double stop_timeout;
    double died; /* Unix time of a death that was seen; 0: none was */
    char *death; /* "killed by SIGKILL"; NULL: none was seen */
};

/* Write FIELDS, which are borrowed, as NAME.start in the run directory DIR, in place of what is
 * there; 0 or a negative errno. */
int ld_record_save(int dir, const char *name, const json_t *fields);

/* Add to NAME.start that the service has died now, and how. Does nothing if there is none. */
void ld_record_note_death(int dir, const char *name, const char *how);

/* Read NAME.start. 0; -ENOENT if there is none, -EACCES if it belongs to another user and this is not
 * root, -EPERM if others may have written it, -EPROTO for what is not such a file. */
int ld_record_load(struct ld_record *record, int dir, const char *name);
void ld_record_fini(struct ld_record *record);

/* Say when and how the service of a record ended that is not running: "was killed by SIGKILL at
 * 2026-11-22T10:11:12Z", or when there was its last sign of life. */
void ld_record_describe_death(struct ld_text *text, const struct ld_record *record, int dir,
                              const char *name);

/* Remove NAME.start. */
void ld_record_remove(int dir, const char *name);

#endif

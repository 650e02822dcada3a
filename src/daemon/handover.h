/* What a program leaves to the one that this process becomes next, in an upgrade: a paper, which is a memory file, and open
 * descriptors. The paper begins with a line of JSON with named members and the number of its format; after
 * it come parts, whose sizes the line has: state of the script, code. Both programs are of the same process and
 * have the same rights; yet the reader checks every member, because the writer may be of another version. */
#ifndef LD_DAEMON_HANDOVER_H
#define LD_DAEMON_HANDOVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "daemon/options.h"
#include "posix/socket.h"
#include "posix/user.h"

#define LD_HANDOVER_FORMAT 1

/* The words that another program in this process is called with: WORD PAPER [WHY-IT-CAME-BACK], or in a process of
 * its own, to see whether it could take over, TRIAL_WORD PAPER. */
#define LD_HANDOVER_WORD       "--take-over"
#define LD_HANDOVER_TRIAL_WORD "--take-over-trial"

/* What a trial prints if it could take over; the "trial" of the paper follows, and a newline. */
#define LD_HANDOVER_TOKEN "lunad: can take over "

/* The parts of the paper. */
enum ld_handover_part {
    LD_HANDOVER_STATE, /* of on_reload, packed */
    LD_HANDOVER_KEPT,  /* of lunad.keep, packed */
    LD_HANDOVER_CODE,  /* the memory of the generation, or of the one that is to follow it */
    LD_HANDOVER_MAIL,  /* what was sent to other workers or has come (engine/mail_relic.h) */
    LD_HANDOVER_PARTS,
};

struct ld_handover {
    json_t *root;
    int paper;
    struct ld_text parts[LD_HANDOVER_PARTS];
    bool has[LD_HANDOVER_PARTS];
    bool is_incomplete; /* memory ran out for something that was to be written */
    struct ld_text why; /* what is wrong with it; empty: nothing that was read so far */
    bool is_trial;      /* it is only tried: no descriptor is there */
    char *back;         /* this is the old program again, because of that; NULL: the new one */
    char **words;       /* what the options are read from */
    struct ld_options options;
};

/* Make a handover to write into; NULL without memory. And free it, with its paper. */
struct ld_handover *ld_handover_new(void);
void ld_handover_free(struct ld_handover *handover);

/* Set a member of an object, or add to a list; VALUE is taken over. What cannot be written because memory ran out, and a
 * NULL, is noted: then no paper can be made. */
void ld_handover_set(struct ld_handover *handover, json_t *object, const char *key, json_t *value);
void ld_handover_add(struct ld_handover *handover, json_t *list, json_t *value);

/* Note a descriptor (or -1), which is left open; its number, a new reference. */
json_t *ld_handover_leave_fd(struct ld_handover *handover, int fd);

/* Make the paper of what is there, PROGRAM (O_PATH) being what this process executes. 0 or a negative errno: -EMFILE if
 * its reader could not open a second descriptor for each that is left. */
int ld_handover_write(struct ld_handover *handover, int program);

/* Have all that is left survive an exec, or only this program. */
void ld_handover_expose(const struct ld_handover *handover, bool exposes);

/* Read the paper FD; false with the reason in handover->why. */
bool ld_handover_read(struct ld_handover *handover, int fd, const char *back);

/* Read a member of OBJECT. One that is missing, of another kind, or out of its bounds is noted in handover->why, and the
 * value is 0 or NULL. Strings are to be freed, and NULL for null; a descriptor is a copy, and -1 for -1. */
long long ld_handover_int(struct ld_handover *handover, const json_t *object, const char *key);
long long ld_handover_within(struct ld_handover *handover, const json_t *object, const char *key,
                             long long least, long long most);
pid_t ld_handover_pid(struct ld_handover *handover, const json_t *object, const char *key);
double ld_handover_real(struct ld_handover *handover, const json_t *object, const char *key);
bool ld_handover_bool(struct ld_handover *handover, const json_t *object, const char *key);
char *ld_handover_string(struct ld_handover *handover, const json_t *object, const char *key);
int ld_handover_fd(struct ld_handover *handover, const json_t *object, const char *key);
const json_t *ld_handover_array(struct ld_handover *handover, const json_t *object,
                                const char *key);

/* Note in handover->why that a member is WHAT, if nothing was noted before. */
void ld_handover_blame(struct ld_handover *handover, const char *key, const char *what);

/* Write which file of a Unix socket is ours to remove, a new reference; note it again in FILE, if it is still the one
 * at ADDRESS. The path is judged for USER (NULL: no user). */
json_t *ld_handover_leave_file(const struct ld_socket_file *file);
void ld_handover_file(struct ld_handover *handover, const json_t *value, const char *address,
                      const struct ld_user *user, struct ld_socket_file *file);

/* Write a list of strings, a new reference; read one, which is to be freed with its strings, by ld_handover_free_list. NULL:
 * it cannot be read, which is noted. */
json_t *ld_handover_strings(struct ld_handover *handover, char *const *strings);
char **ld_handover_list(struct ld_handover *handover, const json_t *object, const char *key);
void ld_handover_free_list(char **list);

/* The same of any bytes, which ld_handover_bytes makes a new reference of; added to OUT. */
void ld_handover_text(struct ld_handover *handover, const json_t *object, const char *key,
                      struct ld_text *out);
json_t *ld_handover_bytes(const struct ld_text *text);

/* The descriptor of the program that has left it, and of all that is left: how many, of which the first MOST are
 * put into FDS. */
int ld_handover_old_program(const struct ld_handover *handover);
size_t ld_handover_list_fds(const struct ld_handover *handover, int *fds, size_t most);

/* Close all that is left: there is no way back. */
void ld_handover_close_left(const struct ld_handover *handover);

/* Free it, with what it was filled with; the descriptors stay. */
void ld_handover_fini(struct ld_handover *handover);

#endif

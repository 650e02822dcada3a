/* The tally of a daemon's uncaught errors, of all of its generations: how often which has happened where,
 * and what the log says of it: an error that repeats itself once a beat must not fill a disk. */
#ifndef LD_SCRIPT_TALLY_H
#define LD_SCRIPT_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "script/errors.h"

#define LD_TALLY_PLACES 32

/* A place where errors happen: a line of a script, in a kind of callback. The messages may differ. */
struct ld_tally_place {
    char where[LD_ERROR_WHERE];
    char what[48];
    char message[512]; /* the last one, perhaps cut */
    unsigned generation;
    uint64_t count;
    double first; /* Unix time */
    double last;
    uint64_t last_at; /* nanoseconds, as all that follow */
    uint64_t unsaid;  /* since the log has told of one */
    uint64_t said_at;
    uint64_t window; /* after that, the log tells of what is unsaid */
    unsigned singly; /* repeats that the log was told of at once, each */
};

/* Zeroed means empty. */
struct ld_tally {
    bool shows_lines;   /* errors that are logged whole, with their line, on a terminal */
    const char *script; /* its path, or NULL; borrowed */
    uint64_t count;
    uint64_t unsaid; /* of all places together */
    struct ld_tally_place places[LD_TALLY_PLACES];
    size_t used;
    struct ld_tally_place elsewhere; /* the rest, together */
    char last_where[LD_ERROR_WHERE]; /* of the last error */
    char last_what[48];
};

/* Count an error of GENERATION at NOW (nanoseconds of a monotonic clock), and log it: whole, if it is the
 * first of its generation at its place, or after a quiet time. The next few are logged without their
 * traceback; those after them are only counted, and the log is told at intervals how many there were. */
void ld_tally_note(struct ld_tally *tally, const struct ld_error *error, unsigned generation,
                   uint64_t now);

/* Log the counts that are due at NOW; with UINT64_MAX, all of them. Returns when to call this again, or
 * UINT64_MAX if everything has been told. */
uint64_t ld_tally_flush(struct ld_tally *tally, uint64_t now);

/* The place of the last error that is still known; one with a count of 0 if there was none. */
const struct ld_tally_place *ld_tally_last(const struct ld_tally *tally);

/* Begin with what the program before has counted: so many errors, the last of which had this message, at this Unix
 * time. Only for a tally that is empty. */
void ld_tally_restore(struct ld_tally *tally, uint64_t count, const char *message, double last);

#endif

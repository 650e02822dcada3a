/* A thread that watches the loop. While a callback holds the loop for long, it reports where the Lua code
 * is, answers clients of the control socket, interrupts the code for a stop or a reload that was asked
 * for, and in the end, when a stop takes too long, has the process end. */
#ifndef LD_HOST_SENTRY_H
#define LD_HOST_SENTRY_H

#include <stdbool.h>
#include <stdint.h>

struct ld_lobby;
struct ld_script;
struct ld_sentry;

struct ld_sentry_config {
    const char *name;
    double stuck_after;   /* seconds; 0: report nothing */
    double stop_timeout;  /* seconds */
    double start_timeout; /* seconds: a reload waits no longer for a C function */
    bool heeds_hup;       /* SIGHUP is worth an interruption */
    int keeper;           /* the channel to the keeper; -1: there is none */
    struct ld_lobby *lobby;
    struct ld_script *const *script; /* where the loop keeps the one that is the service */

    /* Called in the thread when a stop takes too long: end the process. WHERE is a text, or "". */
    void (*end)(void *arg, const char *where);
    void *arg;
};

/* Begin to watch the loop of the calling thread (see pulse.h, which is open). The signals must be caught
 * already. 0 or a negative errno: then nothing is watched. */
int ld_sentry_start(struct ld_sentry **out, const struct ld_sentry_config *config);

/* End the thread; NULL does nothing. */
void ld_sentry_stop(struct ld_sentry *sentry);

/* In the loop; NULL does nothing: what the state of the host is called, a static text; when a stop that is
 * under way should be over (ld_time_monotonic). */
void ld_sentry_note_state(struct ld_sentry *sentry, const char *state);
void ld_sentry_note_stop(struct ld_sentry *sentry, uint64_t deadline);

/* In the loop; NULL does nothing: whether a callback that holds the loop longer than stuck_after is interrupted, as its
 * code is on probation. */
void ld_sentry_note_probation(struct ld_sentry *sentry, bool is_on);

/* In the loop: whether a reload was refused because a C function did not return. */
bool ld_sentry_has_refused(struct ld_sentry *sentry);

/* In the loop: whether the master was told that the order for an upgrade which was announced first is not seen; it is not
 * to be obeyed then. Returned once. */
bool ld_sentry_has_put_off(struct ld_sentry *sentry);

/* Whether a stop was asked for while code held the loop, which may have been interrupted for it. */
bool ld_sentry_was_asked_to_stop(struct ld_sentry *sentry);

/* In the function that ends the process: whether that is because a signal has asked for the stop again. */
bool ld_sentry_was_asked_again(const struct ld_sentry *sentry);

#endif

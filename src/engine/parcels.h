/* Connections on their way from one generation to the next. The generation that has a connection offers
 * it under a key; the next one, while it is loading, claims it; at the commit the former hands it over and
 * the latter collects it. Until then nothing has happened to the connection. What was handed over and
 * not claimed is held for some time, for whoever asks for it. One set a host. */
#ifndef LD_ENGINE_PARCELS_H
#define LD_ENGINE_PARCELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/text.h"

struct ld_parcels;

/* All of its data are the set's. */
struct ld_parcel {
    struct ld_text key;
    struct ld_text peer; /* the address of the other side, for people */
    bool is_unix;        /* a Unix socket, not TCP */
    const void *owner;   /* who offers it; NULL: the host has it */
    const void *claimant;
    int fd;                       /* what was handed over; -1: nothing */
    struct ld_text received;      /* bytes that have come and were not read */
    struct ld_text unsent;        /* bytes that were written and are not sent */
    uint64_t deadline;            /* uv_now; when it is closed if nothing has claimed it */
    TAILQ_ENTRY(ld_parcel) place; /* among the offers, or what the host has */
    struct ld_parcel *chain;      /* of those with the same hash */
};

/* Bytes of all that is held at most: what is more is not held. */
#define LD_PARCELS_HELD_MAX ((size_t)64 << 20)

/* Make an empty set on LOOP that holds what nothing claims for HELD_MS; NULL when memory ran out. */
struct ld_parcels *ld_parcels_new(uv_loop_t *loop, uint64_t held_ms);

/* Hold what is handed over from now on for HELD_MS. */
void ld_parcels_hold_for(struct ld_parcels *parcels, uint64_t held_ms);

/* Close all that is held. The memory is freed when the loop has closed the set's timer. */
void ld_parcels_close(struct ld_parcels *parcels);

/* Offer a connection of OWNER; 0 or a negative errno: -EEXIST if it offers another under this key. */
int ld_parcels_offer(struct ld_parcels *parcels, const void *owner, const char *key, size_t size,
                     struct ld_parcel **made);

/* What OWNER offers under a key; NULL if there is none. */
struct ld_parcel *ld_parcels_find_offer(const struct ld_parcels *parcels, const void *owner,
                                        const char *key, size_t size);

/* What CLAIMANT may have under a key: what it has claimed; else what the host holds and nothing has
 * claimed; with OFFERS also, and first, what another offers. NULL if there is none. */
struct ld_parcel *ld_parcels_find(const struct ld_parcels *parcels, const void *claimant,
                                  bool offers, const char *key, size_t size);

/* The first that OWNER offers, and the first that CLAIMANT has claimed of what the host has; or NULL. */
struct ld_parcel *ld_parcels_first_offer(const struct ld_parcels *parcels, const void *owner);
struct ld_parcel *ld_parcels_first_claim(const struct ld_parcels *parcels, const void *claimant);

/* End an offer: it is the host's from now on, with FD, a descriptor that the set owns then, or -1 if the
 * connection has gone: then only its claimant finds it, and it is forgotten if there is none. */
void ld_parcels_take(struct ld_parcels *parcels, struct ld_parcel *parcel, int fd);

/* Forget a parcel. Its descriptor, if it has one, is the caller's from now on. */
void ld_parcels_forget(struct ld_parcels *parcels, struct ld_parcel *parcel);

/* Forget all that OWNER offers, and its claims. */
void ld_parcels_forget_owner(struct ld_parcels *parcels, const void *owner);

/* For a program that goes on in this process: the first of what the host has, and the one after another, or NULL; how
 * long it is held, in milliseconds. And the other way round: hold a connection again, which was offered, for MS. */
struct ld_parcel *ld_parcels_next_held(const struct ld_parcels *parcels,
                                       const struct ld_parcel *after);
uint64_t ld_parcels_left_ms(const struct ld_parcels *parcels, const struct ld_parcel *parcel);
void ld_parcels_restore(struct ld_parcels *parcels, struct ld_parcel *parcel, int fd, uint64_t ms);

/* In a process beside that program: close the descriptors of what the host has, without a word. */
void ld_parcels_leave(struct ld_parcels *parcels);

/* How many the host has, and whether FD is a descriptor of one. */
size_t ld_parcels_held(const struct ld_parcels *parcels);
bool ld_parcels_has_fd(const struct ld_parcels *parcels, int fd);

/* In a copy of the process: replace the descriptors by copies of BLANK. Async-signal-safe. */
void ld_parcels_give_up(const struct ld_parcels *parcels, int blank);

#endif

#include "engine/parcels.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"

#define NAMES_MAX 20 /* of those that are closed, in the log */

TAILQ_HEAD(parcel_list, ld_parcel);

struct ld_parcels {
    uv_timer_t timer; /* for the first deadline of what the host has */
    uint64_t held_ms;
    struct parcel_list offers;
    struct parcel_list held; /* what the host has, in the order of the deadlines */
    size_t held_count;
    size_t held_bytes;
    struct ld_parcel **buckets; /* all, by the hash of the key */
    size_t bucket_count;        /* a power of 2, or 0 */
    size_t count;
};

/* Make a set. */
struct ld_parcels *ld_parcels_new(uv_loop_t *loop, uint64_t held_ms) {
    struct ld_parcels *parcels = calloc(1, sizeof *parcels);
    if (parcels != NULL) {
        uv_timer_init(loop, &parcels->timer);
        uv_unref((uv_handle_t *)&parcels->timer);
        parcels->timer.data = parcels;
        parcels->held_ms = held_ms;
        TAILQ_INIT(&parcels->offers);
        TAILQ_INIT(&parcels->held);
    }
    return parcels;
}

/* The first parcel whose key has the same hash as KEY. */
static struct ld_parcel **bucket_of(const struct ld_parcels *parcels, const char *key,
                                    size_t size) {
    return &parcels->buckets[ld_text_hash(key, size) & (parcels->bucket_count - 1)];
}

/* Whether a parcel has a key. */
static bool has_key(const struct ld_parcel *parcel, const char *key, size_t size) {
    return parcel->key.size == size && memcmp(ld_text_string(&parcel->key), key, size) == 0;
}

/* Make room for one more parcel in the table; 0 or -ENOMEM. */
static int reserve(struct ld_parcels *parcels) {
    if (parcels->count < parcels->bucket_count) {
        return 0;
    }
    struct ld_parcels grown = {.bucket_count =
                                   parcels->bucket_count > 0 ? parcels->bucket_count * 2 : 16};
    grown.buckets = calloc(grown.bucket_count, sizeof(struct ld_parcel *));
    if (grown.buckets == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < parcels->bucket_count; i++) {
        struct ld_parcel *next;
        for (struct ld_parcel *at = parcels->buckets[i]; at != NULL; at = next) {
            next = at->chain;
            struct ld_parcel **bucket = bucket_of(&grown, ld_text_string(&at->key), at->key.size);
            at->chain = *bucket;
            *bucket = at;
        }
    }
    free(parcels->buckets);
    parcels->buckets = grown.buckets;
    parcels->bucket_count = grown.bucket_count;
    return 0;
}

/* Free a parcel that is in no list and no table. */
static void free_parcel(struct ld_parcel *parcel) {
    ld_text_fini(&parcel->key);
    ld_text_fini(&parcel->peer);
    ld_text_fini(&parcel->received);
    ld_text_fini(&parcel->unsent);
    free(parcel);
}

/* Offer a connection. */
int ld_parcels_offer(struct ld_parcels *parcels, const void *owner, const char *key, size_t size,
                     struct ld_parcel **made) {
    if (ld_parcels_find_offer(parcels, owner, key, size) != NULL) {
        return -EEXIST;
    }
    struct ld_parcel *parcel = reserve(parcels) == 0 ? calloc(1, sizeof *parcel) : NULL;
    if (parcel == NULL) {
        return -ENOMEM;
    }
    ld_text_add(&parcel->key, key, size);
    if (parcel->key.failed) {
        free_parcel(parcel);
        return -ENOMEM;
    }
    parcel->owner = owner;
    parcel->fd = -1;
    struct ld_parcel **bucket = bucket_of(parcels, key, size);
    parcel->chain = *bucket;
    *bucket = parcel;
    parcels->count++;
    TAILQ_INSERT_TAIL(&parcels->offers, parcel, place);
    *made = parcel;
    return 0;
}

/* Find an offer. */
struct ld_parcel *ld_parcels_find_offer(const struct ld_parcels *parcels, const void *owner,
                                        const char *key, size_t size) {
    struct ld_parcel *at = parcels->bucket_count > 0 ? *bucket_of(parcels, key, size) : NULL;
    while (at != NULL && !(at->owner == owner && has_key(at, key, size))) {
        at = at->chain;
    }
    return at;
}

/* How well a parcel suits a claimant; 0: not at all. */
static int rank(const struct ld_parcel *parcel, const void *claimant, bool offers) {
    if (parcel->claimant == claimant) {
        return 3;
    }
    if (parcel->claimant != NULL || parcel->owner == claimant) {
        return 0;
    }
    return parcel->owner == NULL ? 1 : offers ? 2 : 0;
}

/* Find what a claimant may have. */
struct ld_parcel *ld_parcels_find(const struct ld_parcels *parcels, const void *claimant,
                                  bool offers, const char *key, size_t size) {
    struct ld_parcel *found = NULL;
    struct ld_parcel *at = parcels->bucket_count > 0 ? *bucket_of(parcels, key, size) : NULL;
    for (; at != NULL; at = at->chain) {
        int best = found != NULL ? rank(found, claimant, offers) : 0;
        if (has_key(at, key, size) && rank(at, claimant, offers) > best) {
            found = at;
        }
    }
    return found;
}

/* The first that an owner offers. */
struct ld_parcel *ld_parcels_first_offer(const struct ld_parcels *parcels, const void *owner) {
    struct ld_parcel *at = TAILQ_FIRST(&parcels->offers);
    while (at != NULL && at->owner != owner) {
        at = TAILQ_NEXT(at, place);
    }
    return at;
}

/* The first that was claimed. */
struct ld_parcel *ld_parcels_first_claim(const struct ld_parcels *parcels, const void *claimant) {
    struct ld_parcel *at = TAILQ_FIRST(&parcels->held);
    while (at != NULL && at->claimant != claimant) {
        at = TAILQ_NEXT(at, place);
    }
    return at;
}

/* How much memory a parcel has for the connection's bytes. */
static size_t bytes_of(const struct ld_parcel *parcel) {
    return parcel->received.size + parcel->unsent.size;
}

/* Forget a parcel. */
void ld_parcels_forget(struct ld_parcels *parcels, struct ld_parcel *parcel) {
    struct ld_parcel **chain = bucket_of(parcels, ld_text_string(&parcel->key), parcel->key.size);
    while (*chain != parcel) {
        chain = &(*chain)->chain;
    }
    *chain = parcel->chain;
    parcels->count--;
    if (parcel->owner != NULL) {
        TAILQ_REMOVE(&parcels->offers, parcel, place);
    } else {
        TAILQ_REMOVE(&parcels->held, parcel, place);
        parcels->held_count--;
        parcels->held_bytes -= bytes_of(parcel);
    }
    free_parcel(parcel);
}

/* Close what the host has. */
static void close_held(struct ld_parcels *parcels, struct ld_parcel *parcel) {
    if (parcel->fd >= 0) {
        close(parcel->fd);
    }
    ld_parcels_forget(parcels, parcel);
}

/* Add the name of a parcel to those that are closed, COUNT so far. */
static void add_name(struct ld_text *names, const struct ld_parcel *parcel, size_t count) {
    if (count < NAMES_MAX) {
        ld_text_puts(names, count > 0 ? ", " : "");
        ld_text_append(names, &parcel->key);
        ld_text_format(names, " (%s)", ld_text_string(&parcel->peer));
    }
}

/* Close what has not been claimed in time, and wait for the next. */
static void on_timer(uv_timer_t *timer) {
    struct ld_parcels *parcels = timer->data;
    struct ld_text names = {0};
    size_t count = 0;
    struct ld_parcel *next;
    uint64_t now = uv_now(timer->loop);
    for (struct ld_parcel *at = TAILQ_FIRST(&parcels->held); at != NULL; at = next) {
        next = TAILQ_NEXT(at, place);
        if (at->claimant == NULL && at->deadline <= now) {
            add_name(&names, at, count++);
            close_held(parcels, at);
        }
    }
    if (count > NAMES_MAX) {
        ld_text_format(&names, " and %zu more", count - NAMES_MAX);
    }
    if (count > 0) {
        ld_log_with(LD_LOG_WARN, &names, "closed, as no generation has taken what was handed on: ");
    }
    ld_text_fini(&names);
    const struct ld_parcel *first = TAILQ_FIRST(&parcels->held);
    if (first != NULL) { /* one that is claimed may have to wait for the end of a reload */
        uv_timer_start(timer, on_timer, first->deadline > now ? first->deadline - now : 1000, 0);
    }
}

/* Close an older connection that has the key of a new one, which nothing could find. */
static void replace_older(struct ld_parcels *parcels, const struct ld_parcel *parcel) {
    const char *key = ld_text_string(&parcel->key);
    struct ld_parcel *at = *bucket_of(parcels, key, parcel->key.size);
    while (at != NULL &&
           !(at->owner == NULL && at->claimant == NULL && has_key(at, key, parcel->key.size))) {
        at = at->chain;
    }
    if (at != NULL) {
        ld_log_with(LD_LOG_WARN, &at->key, "closed, as another was handed on by its name: ");
        close_held(parcels, at);
    }
}

/* Set how long what is handed over is held. */
void ld_parcels_hold_for(struct ld_parcels *parcels, uint64_t held_ms) {
    parcels->held_ms = held_ms;
}

/* End an offer. */
void ld_parcels_take(struct ld_parcels *parcels, struct ld_parcel *parcel, int fd) {
    uint64_t now = uv_now(parcels->timer.loop);
    replace_older(parcels, parcel);
    TAILQ_REMOVE(&parcels->offers, parcel, place);
    TAILQ_INSERT_TAIL(&parcels->held, parcel, place);
    parcel->owner = NULL;
    parcel->fd = fd;
    parcels->held_count++;
    parcels->held_bytes += bytes_of(parcel);
    bool is_held = parcels->held_bytes <= LD_PARCELS_HELD_MAX;
    parcel->deadline = is_held ? now + parcels->held_ms : now;
    if (fd < 0 && parcel->claimant == NULL) {
        ld_parcels_forget(parcels, parcel);
    } else if (!is_held || !uv_is_active((uv_handle_t *)&parcels->timer)) {
        uv_timer_start(&parcels->timer, on_timer, parcel->deadline - now, 0);
    }
}

/* Go through what the host has. */
struct ld_parcel *ld_parcels_next_held(const struct ld_parcels *parcels,
                                       const struct ld_parcel *after) {
    return after != NULL ? TAILQ_NEXT(after, place) : TAILQ_FIRST(&parcels->held);
}

/* How long a parcel is held. */
uint64_t ld_parcels_left_ms(const struct ld_parcels *parcels, const struct ld_parcel *parcel) {
    uint64_t now = uv_now(parcels->timer.loop);
    return parcel->deadline > now ? parcel->deadline - now : 0;
}

/* Hold a connection again. */
void ld_parcels_restore(struct ld_parcels *parcels, struct ld_parcel *parcel, int fd, uint64_t ms) {
    uint64_t held_ms = parcels->held_ms;
    parcels->held_ms = ms;
    ld_parcels_take(parcels, parcel, fd);
    parcels->held_ms = held_ms;
}

/* Close what the host has. */
void ld_parcels_leave(struct ld_parcels *parcels) {
    struct ld_parcel *parcel;
    while ((parcel = TAILQ_FIRST(&parcels->held)) != NULL) {
        close_held(parcels, parcel);
    }
}

/* Forget what an owner has to do with the set. */
void ld_parcels_forget_owner(struct ld_parcels *parcels, const void *owner) {
    struct ld_parcel *next;
    for (struct ld_parcel *at = TAILQ_FIRST(&parcels->offers); at != NULL; at = next) {
        next = TAILQ_NEXT(at, place);
        at->claimant = at->claimant == owner ? NULL : at->claimant;
        if (at->owner == owner) {
            ld_parcels_forget(parcels, at);
        }
    }
    for (struct ld_parcel *at = TAILQ_FIRST(&parcels->held); at != NULL; at = next) {
        next = TAILQ_NEXT(at, place);
        at->claimant = at->claimant == owner ? NULL : at->claimant;
        if (at->claimant == NULL && at->fd < 0) {
            ld_parcels_forget(parcels, at);
        }
    }
}

/* How many the host has. */
size_t ld_parcels_held(const struct ld_parcels *parcels) {
    return parcels->held_count;
}

/* Whether the host has a descriptor. */
bool ld_parcels_has_fd(const struct ld_parcels *parcels, int fd) {
    const struct ld_parcel *at = TAILQ_FIRST(&parcels->held);
    while (at != NULL && at->fd != fd) {
        at = TAILQ_NEXT(at, place);
    }
    return at != NULL;
}

/* Give everything up. */
void ld_parcels_give_up(const struct ld_parcels *parcels, int blank) {
    const struct ld_parcel *at;
    TAILQ_FOREACH(at, &parcels->held, place) {
        if (at->fd >= 0) {
            dup3(blank, at->fd, O_CLOEXEC);
        }
    }
}

/* Free a set. */
static void on_closed(uv_handle_t *handle) {
    struct ld_parcels *parcels = handle->data;
    free(parcels->buckets);
    free(parcels);
}

/* Close a set. */
void ld_parcels_close(struct ld_parcels *parcels) {
    struct ld_parcel *next;
    for (struct ld_parcel *at = TAILQ_FIRST(&parcels->offers); at != NULL; at = next) {
        next = TAILQ_NEXT(at, place);
        ld_parcels_forget(parcels, at);
    }
    for (struct ld_parcel *at = TAILQ_FIRST(&parcels->held); at != NULL; at = next) {
        next = TAILQ_NEXT(at, place);
        close_held(parcels, at);
    }
    uv_close((uv_handle_t *)&parcels->timer, on_closed);
}

#include "script/tally.h"

#include <stdio.h>
#include <string.h>

#include "base/excerpt.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"

#define SECOND       ((uint64_t)LD_TIME_SECOND)
#define QUIET        (60 * SECOND) /* after that long an error is news */
#define OVER         (10 * SECOND) /* after that long without one, tell of the last ones */
#define SINGLY       4             /* repeats are logged each */
#define WINDOW_FIRST (10 * SECOND) /* each is twice as long as the one before */
#define WINDOW_MOST  (640 * SECOND)

/* Copy as much of a text as fits, without a cut in a character; a NUL byte, which would end it, as '?'. */
static void copy_text(char *to, size_t capacity, const char *bytes, size_t size) {
    size = size < capacity ? size : ld_text_cut(bytes, capacity - 1);
    for (size_t i = 0; i < size; i++) {
        to[i] = '?';
        if (bytes[i] != '\0') {
            to[i] = bytes[i];
        }
    }
    to[size] = '\0';
}

/* Find the place of an error; NULL if it is new. */
static struct ld_tally_place *find(struct ld_tally *tally, const struct ld_error *error) {
    for (size_t i = 0; i < tally->used; i++) {
        struct ld_tally_place *place = &tally->places[i];
        if (strcmp(place->where, error->where) == 0 && strcmp(place->what, error->what) == 0) {
            return place;
        }
    }
    return NULL;
}

/* When the log is to be told of what is unsaid at a place. */
static uint64_t due_at(const struct ld_tally_place *place) {
    uint64_t window_end = place->said_at + place->window;
    uint64_t over = place->last_at + OVER;
    return window_end < over ? window_end : over;
}

/* Add the last message of a place, and where that is unless it begins with it, as Lua's own do. */
static void add_message(struct ld_text *text, const struct ld_tally_place *place) {
    bool has_place = strncmp(place->message, place->where, strlen(place->where)) == 0;
    ld_text_puts(text, place->message);
    if (!has_place && strcmp(place->where, "?") != 0 && place->where[0] != '\0') {
        ld_text_format(text, " at %s", place->where);
    }
}

/* Log the last error of a place without its traceback. */
static void tell_briefly(const struct ld_tally_place *place) {
    struct ld_text text = {0};
    add_message(&text, place);
    ld_text_puts(&text, " (again)");
    ld_log_with(LD_LOG_ERROR, &text, "uncaught error in %s: ", place->what);
    ld_text_fini(&text);
}

/* Log how many errors there were since the log was told of one. */
static void tell_repeats(struct ld_tally *tally, struct ld_tally_place *place, uint64_t now) {
    struct ld_text text = {0};
    bool is_elsewhere = place == &tally->elsewhere;
    double seconds = (double)(now - place->said_at) / (double)SECOND;
    add_message(&text, place);
    ld_text_puts(&text, is_elsewhere ? " (the last of " : " (repeated ");
    if (place->unsaid == 1 && !is_elsewhere) {
        ld_text_puts(&text, "once");
    } else {
        ld_text_add_count(&text, place->unsaid);
        ld_text_puts(&text, is_elsewhere ? " at many places" : " times");
    }
    ld_text_format(&text, " in %.*f s)", seconds < 9.95 ? 1 : 0, seconds);
    ld_log_with(LD_LOG_ERROR, &text, "uncaught error in %s: ", place->what);
    ld_text_fini(&text);
    tally->unsaid -= place->unsaid;
    place->unsaid = 0;
    place->said_at = now;
    place->window = 2 * place->window < WINDOW_MOST ? 2 * place->window : WINDOW_MOST;
}

/* Find a slot for a new place: an unused one, or that of the place where nothing has happened for the longest
 * time, if that is long enough; NULL if there is none. */
static struct ld_tally_place *find_slot(struct ld_tally *tally, uint64_t now) {
    if (tally->used < LD_TALLY_PLACES) {
        return &tally->places[tally->used++];
    }
    struct ld_tally_place *oldest = &tally->places[0];
    for (size_t i = 1; i < LD_TALLY_PLACES; i++) {
        if (tally->places[i].last_at < oldest->last_at) {
            oldest = &tally->places[i];
        }
    }
    if (now - oldest->last_at < QUIET) {
        return NULL;
    }
    if (oldest->unsaid > 0) {
        tell_repeats(tally, oldest, now);
    }
    tally->elsewhere.count += oldest->count;
    return oldest;
}

/* Find or make the place of an error. */
static struct ld_tally_place *place_of(struct ld_tally *tally, const struct ld_error *error,
                                       uint64_t now) {
    struct ld_tally_place *place = find(tally, error);
    if (place != NULL) {
        return place;
    }
    place = find_slot(tally, now);
    if (place == NULL) {
        return &tally->elsewhere;
    }
    *place = (struct ld_tally_place){0};
    copy_text(place->where, sizeof place->where, error->where, strlen(error->where));
    copy_text(place->what, sizeof place->what, error->what, strlen(error->what));
    return place;
}

/* Whether the next error at a place is news, and is to be logged whole. */
static bool is_news(const struct ld_tally *tally, const struct ld_tally_place *place,
                    unsigned generation, uint64_t now) {
    bool is_known = place->said_at != 0 && now - place->last_at < QUIET;
    return !is_known || (place->generation != generation && place != &tally->elsewhere);
}

/* Count and log an error. */
void ld_tally_note(struct ld_tally *tally, const struct ld_error *error, unsigned generation,
                   uint64_t now) {
    struct ld_tally_place *place = place_of(tally, error, now);
    bool tells_all = is_news(tally, place, generation, now);
    tally->count++;
    place->count++;
    copy_text(tally->last_where, sizeof tally->last_where, error->where, strlen(error->where));
    copy_text(tally->last_what, sizeof tally->last_what, error->what, strlen(error->what));
    if (tells_all && place->unsaid > 0) {
        tell_repeats(tally, place, now);
    }
    if (place == &tally->elsewhere) {
        copy_text(place->what, sizeof place->what, error->what, strlen(error->what));
    }
    copy_text(place->message, sizeof place->message, ld_text_string(error->trace),
              error->message_size);
    place->generation = generation;
    place->last = (double)ld_time_real() / LD_TIME_SECOND;
    place->first = place->count == 1 ? place->last : place->first;
    place->last_at = now;
    if (tells_all) {
        ld_log_with(LD_LOG_ERROR, error->trace, "uncaught error in %s: ", error->what);
        if (tally->shows_lines) {
            ld_excerpt_print(ld_text_string(error->trace), tally->script);
        }
        place->said_at = now;
        place->window = WINDOW_FIRST;
        place->singly = 0;
        return;
    }
    if (place->unsaid == 0 && place->singly < SINGLY) {
        place->singly++;
        place->said_at = now;
        tell_briefly(place);
        return;
    }
    place->unsaid++;
    tally->unsaid++;
    if (now >= due_at(place)) {
        tell_repeats(tally, place, now);
    }
}

/* Log the counts of a place that are due; returns when its next ones are. */
static uint64_t flush_place(struct ld_tally *tally, struct ld_tally_place *place, uint64_t now) {
    if (place->unsaid == 0) {
        return UINT64_MAX;
    }
    uint64_t due = due_at(place);
    if (now < due) {
        return due;
    }
    tell_repeats(tally, place, now == UINT64_MAX ? place->last_at : now);
    return UINT64_MAX;
}

/* Log the counts that are due. */
uint64_t ld_tally_flush(struct ld_tally *tally, uint64_t now) {
    uint64_t next = UINT64_MAX;
    if (tally->unsaid == 0) {
        return next;
    }
    for (size_t i = 0; i < tally->used; i++) {
        uint64_t due = flush_place(tally, &tally->places[i], now);
        next = due < next ? due : next;
    }
    uint64_t due = flush_place(tally, &tally->elsewhere, now);
    return due < next ? due : next;
}

/* Find the place of the last error. */
const struct ld_tally_place *ld_tally_last(const struct ld_tally *tally) {
    const struct ld_tally_place *last = &tally->elsewhere;
    for (size_t i = 0; i < tally->used; i++) {
        last = tally->places[i].last > last->last ? &tally->places[i] : last;
    }
    return last;
}

/* Begin with what the program before has counted. */
void ld_tally_restore(struct ld_tally *tally, uint64_t count, const char *message, double last) {
    struct ld_tally_place *place = &tally->elsewhere;
    tally->count = count;
    place->count = count;
    place->last = last;
    copy_text(place->message, sizeof place->message, message, strlen(message));
}

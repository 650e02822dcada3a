#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "engine/parcels.h"
#include "support.h"

static uv_loop_t loop;
static uv_timer_t alive; /* as a script is: libuv runs no timers for what keeps no loop alive */
static struct ld_parcels *set;
static const int first_generation;
static const int second_generation;
static const void *const old = &first_generation;
static const void *const next = &second_generation;

static void do_nothing(uv_timer_t *timer) {
    (void)timer;
}

/* Make the set; what nothing claims is held for MS. */
static void make(uint64_t ms) {
    warm_up();
    REQUIRE(uv_loop_init(&loop) == 0);
    uv_timer_init(&loop, &alive);
    uv_timer_start(&alive, do_nothing, 3600000, 0);
    set = ld_parcels_new(&loop, ms);
    REQUIRE(set != NULL);
}

/* Close the set and the loop. */
static void unmake(void) {
    ld_parcels_close(set);
    uv_close((uv_handle_t *)&alive, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(0, uv_loop_close(&loop));
}

static struct ld_parcel *offer(const void *owner, const char *key) {
    struct ld_parcel *parcel = NULL;
    CHECK_INT(0, ld_parcels_offer(set, owner, key, strlen(key), &parcel));
    return parcel;
}

static struct ld_parcel *find(const void *claimant, bool offers, const char *key) {
    return ld_parcels_find(set, claimant, offers, key, strlen(key));
}

static int new_fd(void) {
    return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
}

/* Let the loop run; whether the host has so many. */
static bool is_held(void *count) {
    uv_update_time(&loop);
    uv_run(&loop, UV_RUN_NOWAIT);
    return ld_parcels_held(set) == *(const size_t *)count;
}

static void test_commit(void) {
    make(60000);
    struct ld_parcel *parcel = offer(old, "a");
    ld_text_puts(&parcel->received, "half a li");
    CHECK(find(old, true, "a") == NULL);
    CHECK(find(next, false, "a") == NULL);
    CHECK(find(next, true, "a") == parcel);
    parcel->claimant = next;
    CHECK(ld_parcels_first_offer(set, old) == parcel);
    ld_parcels_take(set, parcel, new_fd());
    CHECK(ld_parcels_first_offer(set, old) == NULL);
    CHECK(ld_parcels_first_claim(set, next) == parcel);
    CHECK(find(next, false, "a") == parcel);
    CHECK(find(old, true, "a") == NULL);
    CHECK_STR("half a li", ld_text_string(&parcel->received));
    CHECK(ld_parcels_has_fd(set, parcel->fd));
    int fd = parcel->fd;
    ld_parcels_forget(set, parcel);
    CHECK(!ld_parcels_has_fd(set, fd));
    CHECK_INT(0, close(fd));
    CHECK_INT(0, ld_parcels_held(set));
    unmake();
}

static void test_refusal(void) {
    make(60000);
    struct ld_parcel *parcel = offer(old, "a");
    offer(next, "a"); /* for the reload after this one */
    parcel->claimant = next;
    ld_parcels_forget_owner(set, next);
    CHECK(find(next, true, "a") == parcel && parcel->claimant == NULL);
    ld_parcels_forget_owner(set, old);
    CHECK(find(next, true, "a") == NULL);
    unmake();
}

static void test_keys(void) {
    make(60000);
    struct ld_parcel *same = NULL;
    struct ld_parcel *one = offer(old, "a");
    CHECK_INT(-EEXIST, ld_parcels_offer(set, old, "a", 1, &same));
    CHECK_INT(0, ld_parcels_offer(set, old, "a\0b", 3, &same));
    CHECK(same != one);
    CHECK(ld_parcels_find_offer(set, old, "a", 1) == one);
    CHECK(ld_parcels_find_offer(set, old, "a\0b", 3) == same);
    CHECK(ld_parcels_find_offer(set, old, "", 0) == NULL);
    CHECK(ld_parcels_find_offer(set, next, "a", 1) == NULL);
    unmake();
}

static void test_gone(void) {
    make(60000);
    struct ld_parcel *claimed = offer(old, "claimed");
    claimed->claimant = next;
    ld_parcels_take(set, claimed, -1);
    ld_parcels_take(set, offer(old, "unclaimed"), -1);
    CHECK_INT(1, ld_parcels_held(set));
    CHECK(ld_parcels_first_claim(set, next) == claimed);
    ld_parcels_forget_owner(set, next);
    CHECK_INT(0, ld_parcels_held(set));
    unmake();
}

static void test_held(void) {
    int before = check_descriptors();
    make(10);
    int with_loop = check_descriptors();
    for (int i = 0; i < 30; i++) {
        char key[16];
        snprintf(key, sizeof key, "key %d", i);
        ld_parcels_take(set, offer(old, key), new_fd());
    }
    CHECK_INT(30, ld_parcels_held(set));
    CHECK_INT(with_loop + 30, check_descriptors());
    CHECK(find(next, true, "key 7") != NULL);
    CHECK(wait_until(is_held, &(size_t){0}));
    CHECK(find(next, true, "key 7") == NULL);
    CHECK_INT(with_loop, check_descriptors());
    unmake();
    CHECK_INT(before, check_descriptors());
}

static void test_held_key(void) {
    make(60000);
    ld_parcels_take(set, offer(old, "a"), new_fd());
    struct ld_parcel *newer = offer(next, "a");
    CHECK_INT(1, ld_parcels_held(set));
    ld_parcels_take(set, newer, new_fd());
    CHECK_INT(1, ld_parcels_held(set));
    CHECK(find(next, true, "a") == newer);
    unmake();
}

static void test_claimed_in_time(void) {
    make(1);
    struct ld_parcel *parcel = offer(old, "a");
    ld_parcels_take(set, parcel, new_fd());
    parcel->claimant = next;
    ld_parcels_take(set, offer(old, "b"), new_fd());
    CHECK(wait_until(is_held, &(size_t){1}));
    CHECK(ld_parcels_first_claim(set, next) == parcel); /* a reload is under way */
    unmake();
}

static void test_too_much(void) {
    make(60000);
    static char megabyte[1 << 20];
    for (size_t i = 0; i < (LD_PARCELS_HELD_MAX >> 20) + 1; i++) {
        char key[16];
        snprintf(key, sizeof key, "key %zu", i);
        struct ld_parcel *parcel = offer(old, key);
        ld_text_add(&parcel->received, megabyte, sizeof megabyte);
        ld_parcels_take(set, parcel, new_fd());
    }
    size_t held = LD_PARCELS_HELD_MAX >> 20;
    CHECK(wait_until(is_held, &held));
    CHECK(find(next, true, "key 0") != NULL);
    unmake();
}

static void test_many(void) {
    make(60000);
    char key[16];
    for (int i = 0; i < 10000; i++) {
        snprintf(key, sizeof key, "%d", i);
        offer(old, key)->claimant = next;
    }
    for (int i = 0; i < 10000; i++) {
        struct ld_parcel *parcel = ld_parcels_first_offer(set, old);
        snprintf(key, sizeof key, "%d", i);
        CHECK_STR(key, ld_text_string(&parcel->key)); /* in their order */
        ld_parcels_take(set, parcel, -1);
        ld_parcels_forget(set, find(next, false, key));
    }
    CHECK(ld_parcels_first_offer(set, old) == NULL);
    unmake();
}

static const struct check_case cases[] = {
    {"what is claimed is collected after the commit", test_commit},
    {"what is not handed on after all is offered to nothing", test_refusal},
    {"a key is any bytes, and means one connection of a generation", test_keys},
    {"a connection that has gone is found by its claimant alone", test_gone},
    {"what nothing claims is closed after a time", test_held},
    {"what nothing claims makes room for another of its name", test_held_key},
    {"what is claimed is not closed", test_claimed_in_time},
    {"what is held has a limit", test_too_much},
    {"very many", test_many},
};

CHECK_MAIN(cases)

/* The wheel beside a model of it: a plain list, sorted by due time and order of arming. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "engine/wheel.h"
#include "support.h"

void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static long allocations = -1; /* the one that fails, from 1, and all after it; below 0: none */

/* Whether the next allocation of what is tested succeeds. */
static bool may_allocate(void) {
    allocations -= allocations > 0;
    return allocations != 0;
}

void *__wrap_realloc(void *block, size_t size) {
    return may_allocate() ? __real_realloc(block, size) : NULL;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    return may_allocate() ? __real_aligned_alloc(alignment, size) : NULL;
}

#define SECOND 1000000000ULL
#ifdef __SANITIZE_ADDRESS__ /* ten times as slow */
#define OPERATIONS 200000
#else
#define OPERATIONS 1000000
#endif
#define TEN_YEARS (10ULL * 366 * 86400 * SECOND)
#define TIMERS    400 /* of the model; more exist only in a case of their own */

/* What the model knows of a timer. */
struct model_timer {
    ld_timer id; /* 0: none */
    uint64_t due;
    uint64_t interval;
    uint64_t missed;
    uint64_t order; /* of the last change; tells whether one in the batch is still valid */
    bool armed;     /* in the sorted list */
    bool waits;     /* in the batch */
    bool skipped;   /* its last beat was not called */
};

static struct {
    struct ld_wheel wheel;
    struct model_timer timers[TIMERS];
    struct model_timer *sorted[TIMERS]; /* those armed */
    size_t armed;
    uint64_t order;
    uint64_t now;
    uint32_t generations[1 << 16]; /* the latest of each index */
    uint64_t fired;
    uint64_t skipped;
} model;

/* Whether A fires before B. */
static bool is_before(const struct model_timer *a, const struct model_timer *b) {
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

/* Fire what is next in the batch, if it is valid. */
static ld_timer fire(struct ld_wheel *wheel, uint64_t now) {
    struct ld_timer_info *info = NULL;
    ld_timer timer = ld_wheel_fire(wheel, now, &info);
    CHECK(timer == 0 || info == ld_wheel_info(wheel, timer));
    return timer;
}

/* Fire what is next in the batch, after those that are void. Its timer, also if the beat is skipped, in
 * *STANDS. */
static ld_timer fire_valid(struct ld_wheel *wheel, uint64_t now, bool *stands) {
    struct ld_timer_info *info = NULL;
    ld_timer timer = 0;
    while (info == NULL && ld_wheel_has_batch(wheel)) {
        timer = ld_wheel_fire(wheel, now, &info);
    }
    *stands = info != NULL;
    return timer;
}

/* Put an armed timer into the sorted list. */
static void model_insert(struct model_timer *timer) {
    size_t at = model.armed++;
    while (at > 0 && is_before(timer, model.sorted[at - 1])) {
        model.sorted[at] = model.sorted[at - 1];
        at--;
    }
    model.sorted[at] = timer;
    timer->armed = true;
}

/* Take a timer out of the sorted list. */
static void model_take_out(struct model_timer *timer) {
    size_t at = 0;
    while (model.sorted[at] != timer) {
        at++;
    }
    model.armed--;
    memmove(&model.sorted[at], &model.sorted[at + 1], (model.armed - at) * sizeof *model.sorted);
    timer->armed = false;
}

/* Add a timer in both. */
static void op_add(struct model_timer *timer) {
    if (timer->id != 0) {
        return;
    }
    ld_timer reserved = random_below(2) == 0 ? ld_wheel_reserve(&model.wheel) : 0;
    ld_timer id = ld_wheel_add(&model.wheel);
    REQUIRE(id != 0);
    REQUIRE(reserved == 0 || reserved == id);
    uint32_t index = ld_wheel_index(id);
    REQUIRE(index < LD_COUNT(model.generations));
    REQUIRE(id >> 32 > model.generations[index]); /* no id comes twice */
    model.generations[index] = (uint32_t)(id >> 32);
    *timer = (struct model_timer){.id = id};
}

/* A random due time: now, in the past, near, far, and equal to others. */
static uint64_t random_due(void) {
    switch (random_below(10)) {
    case 0:
        return model.now;
    case 1: {
        uint64_t back = random_below(5 * SECOND);
        return back < model.now ? model.now - back : 0;
    }
    case 2: /* equal to one that is armed */
        return model.armed > 0 ? model.sorted[random_below(model.armed)]->due : model.now;
    case 3:
    case 4: /* on a coarse grid: many are equal */
        return (model.now / 1000000 + random_below(50)) * 1000000;
    case 5:
        return model.now + random_below(1 << 21);
    case 6:
        return model.now + random_below(SECOND);
    case 7:
        return model.now + random_below(86400 * SECOND);
    default:
        return model.now + random_below(TEN_YEARS) + 1;
    }
}

/* A random interval. */
static uint64_t random_interval(void) {
    switch (random_below(4)) {
    case 0:
        return 1000000 * (1 + random_below(100));
    case 1:
        return 1 + random_below(SECOND);
    case 2:
        return SECOND * (1 + random_below(86400));
    default:
        return 1 + random_below(TEN_YEARS);
    }
}

/* Arm in both. */
static void op_arm(struct model_timer *timer) {
    if (timer->id == 0) {
        return;
    }
    if (timer->armed) {
        model_take_out(timer);
    }
    timer->due = random_due();
    timer->interval = random_below(2) == 0 ? random_interval() : 0;
    timer->skipped = false;
    timer->waits = false;
    timer->order = ++model.order;
    model_insert(timer);
    ld_wheel_arm(&model.wheel, timer->id, timer->due, timer->interval);
}

/* Disarm in both. */
static void op_disarm(struct model_timer *timer) {
    if (timer->armed) {
        model_take_out(timer);
    }
    timer->waits = false;
    timer->order = ++model.order;
    ld_wheel_disarm(&model.wheel, timer->id);
}

/* Free in both. */
static void op_free(struct model_timer *timer) {
    ld_timer id = timer->id;
    if (timer->armed) {
        model_take_out(timer);
    }
    timer->id = 0;
    timer->waits = false;
    timer->order = ++model.order;
    ld_wheel_free(&model.wheel, id);
    CHECK(id == 0 || ld_wheel_info(&model.wheel, id) == NULL);
    ld_wheel_free(&model.wheel, id); /* twice does nothing */
    ld_wheel_disarm(&model.wheel, id);
}

/* How many beats a timer has missed. */
static uint64_t missed_by(const struct ld_wheel *wheel, ld_timer timer) {
    struct ld_timer_info *info = ld_wheel_info(wheel, timer);
    return info->has_history ? ld_wheel_history(wheel, timer, info)->missed : 0;
}

/* Compare the information about a timer. */
static void check_info(const struct model_timer *timer) {
    const struct ld_timer_info *info = ld_wheel_info(&model.wheel, timer->id);
    REQUIRE((info == NULL) == (timer->id == 0));
    if (info != NULL) {
        REQUIRE(info->armed == (timer->armed || timer->waits));
        REQUIRE(missed_by(&model.wheel, timer->id) == timer->missed);
        REQUIRE(!timer->armed || info->due == timer->due);
        REQUIRE(!timer->armed || info->repeats == (timer->interval > 0));
        REQUIRE(!timer->armed || !info->repeats || info->interval == timer->interval);
    }
}

/* Change one timer at random, as scripts do. */
static void op_random(void) {
    struct model_timer *timer = &model.timers[random_below(TIMERS)];
    switch (random_below(12)) {
    case 0:
        op_disarm(timer);
        break;
    case 1:
        op_free(timer);
        break;
    case 2:
    case 3:
        op_add(timer);
        break;
    default:
        op_add(timer);
        op_arm(timer);
        break;
    }
    check_info(timer);
}

/* Arm a repeating timer of the model for its next beat; whether the last one is called. */
static bool model_beat(struct model_timer *timer) {
    uint64_t beats = (model.now - timer->due) / timer->interval; /* that have passed since */
    uint64_t late = (model.now - timer->due) % timer->interval;
    bool called = timer->skipped || late <= 2 * SECOND / 1000 || late * 2 <= timer->interval;
    timer->skipped = !called;
    timer->missed += beats + (called ? 0 : 1);
    timer->due += (beats + 1) * timer->interval;
    timer->order = ++model.order;
    model_insert(timer);
    return called;
}

/* Fire all that is due in both, with changes between, and compare. */
static void op_expire(void) {
    struct due {
        struct model_timer *timer;
        uint64_t order;
        uint64_t due;
    } batch[TIMERS];
    size_t size = 0;
    while (model.armed > 0 && model.sorted[0]->due <= model.now) {
        struct model_timer *timer = model.sorted[0];
        batch[size++] = (struct due){timer, timer->order, timer->due};
        model_take_out(timer);
        timer->waits = true;
    }
    ld_wheel_expire(&model.wheel, model.now);
    for (size_t i = 0; i < size; i++) {
        bool stands;
        struct model_timer *timer = batch[i].timer;
        if (!timer->waits || timer->order != batch[i].order) {
            continue;
        }
        ld_timer fired = fire_valid(&model.wheel, model.now, &stands);
        REQUIRE(stands);
        timer->waits = false;
        timer->order = ++model.order;
        bool called = timer->interval == 0 || model_beat(timer);
        check_info(timer);
        REQUIRE(fired == (called ? timer->id : 0));
        model.fired += called;
        model.skipped += !called;
        model.wheel.batch_at--;
        REQUIRE(fire(&model.wheel, model.now) == 0);
        for (uint64_t changes = random_below(4); changes > 1; changes--) {
            op_random();
        }
    }
    bool is_more;
    REQUIRE(fire_valid(&model.wheel, model.now, &is_more) == 0 && !is_more);
}

/* A random step of time. */
static uint64_t random_step(void) {
    switch (random_below(9)) {
    case 0:
        return 0;
    case 1:
        return 1;
    case 2:
        return random_below(1 << 20);
    case 3: /* to a due time, or just before or after it */
        if (model.armed > 0) {
            uint64_t due = model.sorted[random_below(1 + model.armed / 8)]->due + random_below(3);
            return due > model.now + 1 ? due - 1 - model.now : 0;
        }
        return 1;
    case 4: /* to an edge between ticks, on any level */
    {
        uint64_t step = (uint64_t)1000000 << (6 * random_below(6));
        uint64_t edge = (model.now / step + 1) * step;
        return edge - model.now - random_below(2);
    }
    case 5:
        return random_below(50000000);
    case 6:
        return random_below(2 * SECOND);
    case 7:
        return random_below(3 * 86400 * SECOND);
    default:
        return random_below(64) == 0 ? random_below(TEN_YEARS) : random_below(1000);
    }
}

/* Compare everything. */
static void check_all(void) {
    size_t armed = 0;
    for (ld_timer at = ld_wheel_next(&model.wheel, 0); at != 0;
         at = ld_wheel_next(&model.wheel, at)) {
        REQUIRE(ld_wheel_info(&model.wheel, at)->armed);
        armed++;
    }
    REQUIRE(armed == model.armed);
    for (size_t i = 0; i < TIMERS; i++) {
        check_info(&model.timers[i]);
    }
}

/* Begin again. */
static void begin(uint64_t now) {
    memset(&model, 0, sizeof model);
    model.now = now;
    ld_wheel_init(&model.wheel, now);
}

/* One operation. */
static void op_any(uint64_t i) {
    if (random_below(6) == 0) {
        model.now += random_step();
        op_expire();
    } else {
        op_random();
    }
    REQUIRE(model.wheel.armed == model.armed);
    uint64_t first = model.armed > 0 ? model.sorted[0]->due : LD_WHEEL_NEVER;
    REQUIRE(ld_wheel_first_due(&model.wheel) == first);
    if (i % 1024 == 0) {
        check_all();
    }
}

static void test_model(void) {
    const char *wanted = getenv("WHEEL_OPERATIONS");
    uint64_t operations = wanted != NULL ? strtoull(wanted, NULL, 10) : OPERATIONS;
    begin(random_below(1000 * SECOND));
    for (uint64_t i = 0; i < operations; i++) {
        if (model.now > UINT64_MAX / 4) { /* centuries have passed */
            ld_wheel_fini(&model.wheel);
            begin(random_below(86400 * SECOND));
        }
        op_any(i);
    }
    check_all();
    printf("    %llu fired, %llu were changed while they waited in a batch\n",
           (unsigned long long)model.fired, (unsigned long long)model.skipped);
    CHECK(model.fired > 0 && model.skipped > 0);
    ld_wheel_fini(&model.wheel);
}

static void test_empty(void) {
    struct ld_wheel wheel;
    ld_wheel_init(&wheel, 12345);
    CHECK(ld_wheel_first_due(&wheel) == LD_WHEEL_NEVER);
    CHECK(ld_wheel_next(&wheel, 0) == 0);
    ld_wheel_expire(&wheel, UINT64_MAX - 1);
    CHECK_INT(0, wheel.batch_size);
    CHECK(ld_wheel_info(&wheel, 0) == NULL);
    CHECK(ld_wheel_info(&wheel, 1) == NULL);
    CHECK(ld_wheel_info(&wheel, UINT64_MAX) == NULL);
    ld_wheel_free(&wheel, 0);
    ld_wheel_disarm(&wheel, 77);
    ld_wheel_fini(&wheel);
}

/* Fire everything that is due at NOW and return the indices in order, as text. */
static const char *fire_all(struct ld_wheel *wheel, uint64_t now) {
    static char text[4096];
    size_t used = 0;
    text[0] = '\0';
    ld_wheel_expire(wheel, now);
    while (ld_wheel_has_batch(wheel)) {
        ld_timer timer = fire(wheel, now);
        if (timer != 0 && used < sizeof text - 16) {
            used += (size_t)sprintf(text + used, "%u ", (unsigned)ld_wheel_index(timer));
        }
    }
    return text;
}

static void test_equal_dues(void) {
    static const uint64_t dues[] = {5, SECOND, 100 * SECOND, TEN_YEARS};
    for (size_t d = 0; d < LD_COUNT(dues); d++) {
        struct ld_wheel wheel;
        ld_timer timers[8];
        ld_wheel_init(&wheel, 0);
        for (int i = 0; i < 8; i++) {
            timers[i] = ld_wheel_add(&wheel);
        }
        static const int order[] = {3, 1, 4, 0, 5, 2, 6, 7};
        for (int i = 0; i < 8; i++) {
            ld_wheel_arm(&wheel, timers[order[i]], dues[d], 0);
        }
        ld_wheel_arm(&wheel, timers[1], dues[d], 0); /* again: the last now */
        ld_wheel_disarm(&wheel, timers[4]);
        CHECK_STR("", fire_all(&wheel, dues[d] - 1));
        CHECK_STR("3 0 5 2 6 7 1 ", fire_all(&wheel, dues[d]));
        ld_wheel_fini(&wheel);
    }
}

static void test_order_wraps(void) {
    struct ld_wheel wheel;
    ld_wheel_init(&wheel, 0);
    wheel.order = UINT32_MAX - 3;
    for (int i = 0; i < 8; i++) {
        ld_wheel_arm(&wheel, ld_wheel_add(&wheel), SECOND, 0);
    }
    CHECK_STR("0 1 2 3 4 5 6 7 ", fire_all(&wheel, SECOND));
    ld_wheel_fini(&wheel);
}

/* A timer whose void note has by chance the order that it is armed with now. */
static void test_order_returns(void) {
    static const uint64_t dues[] = {SECOND / 1000, SECOND, 100 * SECOND, TEN_YEARS};
    for (size_t i = 0; i < LD_COUNT(dues) * LD_COUNT(dues); i++) {
        uint64_t first = dues[i / LD_COUNT(dues)];
        uint64_t second = dues[i % LD_COUNT(dues)] + 1;
        struct ld_wheel wheel;
        ld_wheel_init(&wheel, 0);
        ld_timer timer = ld_wheel_add(&wheel);
        uint32_t order = wheel.order;
        ld_wheel_arm(&wheel, timer, first, 0);
        wheel.order = order + (1U << 23);
        ld_wheel_arm(&wheel, timer, second, 0);
        CHECK_STR("", fire_all(&wheel, second - 1));
        CHECK_STR("0 ", fire_all(&wheel, second));
        CHECK_STR("", fire_all(&wheel, 2 * TEN_YEARS));
        CHECK(ld_wheel_first_due(&wheel) == LD_WHEEL_NEVER);
        ld_wheel_fini(&wheel);
    }
}

/* The same again and again: such notes use up no blocks. */
static void test_order_returns_often(void) {
    enum { COUNT = 256 };
    struct ld_wheel wheel;
    ld_timer timers[COUNT];
    ld_wheel_init(&wheel, 0);
    for (size_t i = 0; i < COUNT; i++) {
        timers[i] = ld_wheel_add(&wheel);
    }
    for (uint64_t round = 1; round <= 100; round++) {
        uint32_t order = wheel.order;
        for (size_t i = 0; i < COUNT; i++) {
            ld_wheel_arm(&wheel, timers[i], TEN_YEARS + round, 0);
        }
        wheel.order = order;
    }
    wheel.order += COUNT;
    ld_wheel_expire(&wheel, TEN_YEARS + 99);
    CHECK(!ld_wheel_has_batch(&wheel));
    ld_wheel_expire(&wheel, TEN_YEARS + 100);
    for (size_t i = 0; i <= COUNT; i++) {
        bool stands;
        CHECK(fire_valid(&wheel, TEN_YEARS + 100, &stands) == (i < COUNT ? timers[i] : 0));
    }
    CHECK_STR("", fire_all(&wheel, 2 * TEN_YEARS));
    ld_wheel_fini(&wheel);
}

static void test_beats(void) {
    struct ld_wheel wheel;
    ld_wheel_init(&wheel, 1000);
    ld_timer timer = ld_wheel_add(&wheel);
    const struct ld_timer_info *info = ld_wheel_info(&wheel, timer);
    ld_wheel_arm(&wheel, timer, 1000 + SECOND, SECOND);
    for (uint64_t beat = 1; beat <= 1000; beat++) {
        CHECK(info->due == 1000 + beat * SECOND);
        CHECK_STR("0 ", fire_all(&wheel, 1000 + beat * SECOND + 12345)); /* always a bit late */
    }
    CHECK_INT(0, missed_by(&wheel, timer));
    CHECK_STR("0 ", fire_all(&wheel, 1000 + 1011 * SECOND)); /* just on a beat */
    CHECK_INT(10, missed_by(&wheel, timer));
    CHECK(info->due == 1000 + 1012 * SECOND);
    CHECK_STR("",
              fire_all(&wheel, 1000 + 1014 * SECOND - 1)); /* just before one: that is waited for */
    CHECK_INT(12, missed_by(&wheel, timer));
    CHECK(info->due == 1000 + 1014 * SECOND);
    CHECK_STR("0 ", fire_all(&wheel, 1000 + 1014 * SECOND));
    CHECK_INT(12, missed_by(&wheel, timer));
    ld_wheel_fini(&wheel);
}

/* Check what a beat that is late by LATE comes to, of a timer with INTERVAL. */
static void check_late(uint64_t interval, uint64_t late, bool called) {
    struct ld_wheel wheel;
    ld_wheel_init(&wheel, 0);
    ld_timer timer = ld_wheel_add(&wheel);
    ld_wheel_arm(&wheel, timer, interval, interval);
    CHECK_STR(called ? "0 " : "", fire_all(&wheel, interval + late));
    CHECK_INT(called ? 0 : 1, missed_by(&wheel, timer));
    CHECK(ld_wheel_info(&wheel, timer)->due == 2 * interval);
    ld_wheel_fini(&wheel);
}

static void test_late_beats(void) {
    check_late(3 * SECOND / 1000, 2 * SECOND / 1000, true);
    check_late(3 * SECOND / 1000, 2 * SECOND / 1000 + 1, false);
    check_late(10 * SECOND / 1000, 5 * SECOND / 1000, true);
    check_late(SECOND, SECOND / 2, true);
    check_late(SECOND, SECOND / 2 + 1, false);
    check_late(SECOND / 1000, SECOND / 1000 - 1, true);
}

static void test_always_late_beats(void) {
    struct ld_wheel wheel;
    ld_wheel_init(&wheel, 0);
    ld_timer timer = ld_wheel_add(&wheel);
    ld_wheel_arm(&wheel, timer, SECOND, SECOND);
    for (uint64_t beat = 1; beat <= 100; beat++) { /* every second one is called */
        CHECK_STR(beat % 2 == 0 ? "0 " : "", fire_all(&wheel, beat * SECOND + 2 * SECOND / 3));
    }
    CHECK_INT(50, missed_by(&wheel, timer));
    ld_wheel_fini(&wheel);
}

static void test_many_missed(void) {
    struct ld_wheel wheel;
    ld_wheel_init(&wheel, 0);
    ld_timer timer = ld_wheel_add(&wheel);
    ld_wheel_arm(&wheel, timer, 1, 1);
    fire_all(&wheel, 5 * SECOND);
    CHECK_INT(5 * SECOND - 1, missed_by(&wheel, timer));
    ld_wheel_fini(&wheel);
}

static void test_many(void) {
    enum { COUNT = 100000 };
    struct ld_wheel wheel;
    static ld_timer timers[COUNT];
    size_t fired = 0;
    uint64_t before = 0;
    ld_wheel_init(&wheel, 0);
    for (size_t i = 0; i < COUNT; i++) {
        timers[i] = ld_wheel_add(&wheel);
        REQUIRE(timers[i] != 0);
        ld_wheel_arm(&wheel, timers[i], 1 + random_below(1000 * SECOND), 0);
    }
    CHECK_INT(COUNT, wheel.armed);
    while (wheel.armed > 0) {
        uint64_t due = ld_wheel_first_due(&wheel);
        uint64_t now = due + random_below(SECOND);
        ld_wheel_expire(&wheel, now);
        CHECK(ld_wheel_has_batch(&wheel) && wheel.batch[wheel.batch_at].due == due);
        while (ld_wheel_has_batch(&wheel)) {
            CHECK(wheel.batch[wheel.batch_at].due >= before);
            CHECK(wheel.batch[wheel.batch_at].due <= now);
            before = wheel.batch[wheel.batch_at].due;
            fired += fire(&wheel, now) != 0;
        }
    }
    CHECK_INT(COUNT, fired);
    for (size_t i = 0; i < COUNT; i++) {
        ld_wheel_free(&wheel, timers[i]);
    }
    CHECK(ld_wheel_add(&wheel) != timers[COUNT - 1]);
    ld_wheel_fini(&wheel);
}

/* Arm each of COUNT timers again and again: what was armed before is void. */
static void rearm(size_t count) {
    struct ld_wheel wheel;
    ld_timer timers[3000];
    uint64_t dues[3000];
    ld_wheel_init(&wheel, 0);
    for (size_t i = 0; i < 200000; i++) {
        size_t at = i % count;
        if (i < count) {
            timers[at] = ld_wheel_add(&wheel);
        }
        dues[at] = 1 + random_below(random_below(2) == 0 ? SECOND : TEN_YEARS);
        ld_wheel_arm(&wheel, timers[at], dues[at], 0);
    }
    CHECK_INT(count, wheel.armed);
    size_t fired = 0;
    for (uint64_t due; (due = ld_wheel_first_due(&wheel)) != LD_WHEEL_NEVER;) {
        ld_wheel_expire(&wheel, due);
        REQUIRE(ld_wheel_has_batch(&wheel)); /* a void arming wakes nothing */
        while (ld_wheel_has_batch(&wheel)) {
            ld_timer timer = fire(&wheel, due);
            REQUIRE(timer == 0 || dues[ld_wheel_index(timer)] == due);
            fired += timer != 0;
        }
    }
    CHECK_INT(count, fired);
    CHECK_INT(0, wheel.armed);
    ld_wheel_fini(&wheel);
}

static void test_rearming(void) {
    rearm(1);
    rearm(300);
    rearm(3000);
}

static void test_far_dues(void) {
    struct ld_wheel wheel;
    uint64_t start = 400 * 86400 * SECOND; /* up for more than a year */
    ld_wheel_init(&wheel, start);
    ld_timer timer = ld_wheel_add(&wheel);
    ld_wheel_arm(&wheel, timer, start + TEN_YEARS, TEN_YEARS);
    for (uint64_t now = start; now < start + TEN_YEARS; now += 86400 * SECOND) {
        CHECK_STR("", fire_all(&wheel, now));
    }
    CHECK(ld_wheel_first_due(&wheel) == start + TEN_YEARS);
    CHECK_STR("", fire_all(&wheel, start + TEN_YEARS - 1));
    CHECK_STR("0 ", fire_all(&wheel, start + TEN_YEARS));
    CHECK(ld_wheel_first_due(&wheel) == start + 2 * TEN_YEARS);
    ld_wheel_fini(&wheel);
}

static void test_out_of_memory(void) {
    struct ld_wheel wheel;
    size_t fired = 0;
    ld_wheel_init(&wheel, 0);
    allocations = 1;
    CHECK(ld_wheel_reserve(&wheel) == 0);
    CHECK(ld_wheel_add(&wheel) == 0);
    allocations = -1;
    for (int i = 0; i < 200; i++) {
        ld_wheel_arm(&wheel, ld_wheel_add(&wheel), SECOND, 0);
    }
    allocations = 1;
    ld_wheel_expire(&wheel, SECOND);
    CHECK_INT(0, wheel.batch_size);
    CHECK_INT(200, wheel.armed);
    for (int round = 0; round < 3; round++) { /* they come when there is memory */
        allocations = round < 2 ? 2 : -1;
        ld_wheel_expire(&wheel, SECOND);
        while (ld_wheel_has_batch(&wheel)) {
            fired += fire(&wheel, SECOND) != 0;
        }
    }
    CHECK_INT(200, fired);
    CHECK_INT(0, wheel.armed);
    allocations = -1;
    ld_wheel_fini(&wheel);
}

static const struct check_case cases[] = {
    {"an empty wheel", test_empty},
    {"a million random operations go as in a sorted list", test_model},
    {"equal dues fire in the order of arming", test_equal_dues},
    {"the order of arming is right when its counter wraps", test_order_wraps},
    {"a void note with the order of a valid one does nothing", test_order_returns},
    {"nor do many of them", test_order_returns_often},
    {"beats do not drift, and missed ones are counted", test_beats},
    {"a beat that is much too late is skipped", test_late_beats},
    {"but not every time", test_always_late_beats},
    {"missed beats are counted past 32 bits", test_many_missed},
    {"a hundred thousand timers", test_many},
    {"timers that are armed again and again", test_rearming},
    {"dues in ten years", test_far_dues},
    {"out of memory loses no timer", test_out_of_memory},
};

CHECK_MAIN(cases)

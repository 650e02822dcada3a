/* Timeouts that never expire, 100,000 in flight. Fresh: N times, one is made and armed, and the one that was
 * made 100,000 before is cancelled and released. Reused: N times, one of them is armed again. With a second
 * argument so many are in flight, and have been armed before. */
#include <uv.h>

#include "bench.h"

#define FLYING 100000

static void on_timer(uv_timer_t *timer) {
    (void)timer;
    abort();
}

static void on_closed(uv_handle_t *handle) {
    free(handle);
}

static uv_timer_t *arm(uv_loop_t *loop, uint64_t delay) {
    uv_timer_t *timer = malloc(sizeof *timer);
    uv_timer_init(loop, timer);
    uv_timer_start(timer, on_timer, 60 * delay, 0);
    return timer;
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 1000000;
    long in_flight = argc > 2 ? atol(argv[2]) : FLYING;
    uv_timer_t **flying = calloc((size_t)in_flight, sizeof *flying);
    uv_loop_t *loop = uv_default_loop();
    uint64_t *delays = bench_delays(count);
    for (long i = 0; argc > 2 && i < in_flight; i++) {
        flying[i] = arm(loop, delays[i % count]);
    }
    double start = bench_cpu();
    for (long i = 0; i < count; i++) {
        uv_timer_t **place = &flying[i % in_flight];
        if (*place != NULL) {
            uv_close((uv_handle_t *)*place, on_closed);
        }
        *place = arm(loop, delays[i]);
        if (i % in_flight == 0) {
            uv_run(loop, UV_RUN_NOWAIT); /* so that what is closed is freed */
        }
    }
    double fresh = bench_cpu();
    for (long i = 0; i < count; i++) {
        uv_timer_start(flying[i % in_flight], on_timer, 60 * delays[i], 0);
    }
    double again = bench_cpu();
    printf("{\"fresh\": %.6f, \"again\": %.6f}\n", fresh - start, again - fresh);
    return 0;
}

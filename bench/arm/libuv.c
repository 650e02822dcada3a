/* Timeouts that never expire, 100,000 in flight. Fresh: N times, one is made and armed, and the one that was
 * made 100,000 before is cancelled and released. Reused: N times, one of them is armed again. */
#include <uv.h>

#include "bench.h"

#define FLYING 100000

static uv_timer_t *flying[FLYING];

static void on_timer(uv_timer_t *timer) {
    (void)timer;
    abort();
}

static void on_closed(uv_handle_t *handle) {
    free(handle);
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 1000000;
    uv_loop_t *loop = uv_default_loop();
    uint64_t *delays = bench_delays(count);
    double start = bench_cpu();
    for (long i = 0; i < count; i++) {
        uv_timer_t **place = &flying[i % FLYING];
        if (*place != NULL) {
            uv_close((uv_handle_t *)*place, on_closed);
        }
        *place = malloc(sizeof **place);
        uv_timer_init(loop, *place);
        uv_timer_start(*place, on_timer, 60 * delays[i], 0);
        if (i % FLYING == 0) {
            uv_run(loop, UV_RUN_NOWAIT); /* so that what is closed is freed */
        }
    }
    double fresh = bench_cpu();
    for (long i = 0; i < count; i++) {
        uv_timer_start(flying[i % FLYING], on_timer, 60 * delays[i], 0);
    }
    double again = bench_cpu();
    printf("{\"fresh\": %.6f, \"again\": %.6f}\n", fresh - start, again - fresh);
    return 0;
}

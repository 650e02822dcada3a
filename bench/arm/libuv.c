/* N timers are armed, each armed again (as an idle timer at each request), and cancelled. */
#include <uv.h>

#include "bench.h"

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
    uv_timer_t **timers = malloc((size_t)count * sizeof *timers);
    double fresh = bench_cpu();
    for (long i = 0; i < count; i++) {
        timers[i] = malloc(sizeof **timers);
        uv_timer_init(loop, timers[i]);
        uv_timer_start(timers[i], on_timer, 60 * delays[i], 0);
    }
    double armed = bench_cpu();
    for (long i = 0; i < count; i++) {
        uv_timer_start(timers[i], on_timer, 60 * delays[i], 0);
    }
    double again = bench_cpu();
    for (long i = 0; i < count; i++) {
        uv_close((uv_handle_t *)timers[i], on_closed);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    double end = bench_cpu();
    printf("{\"fresh\": %.6f, \"again\": %.6f}\n", armed - fresh + end - again, again - armed);
    return 0;
}

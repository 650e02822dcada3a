/* N timers at once, each due 1 to 2 s from now, made, fired and released. */
#include <uv.h>

#include "bench.h"

static long fired;

static void on_closed(uv_handle_t *handle) {
    free(handle);
}

static void on_timer(uv_timer_t *timer) {
    fired++;
    uv_close((uv_handle_t *)timer, on_closed);
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 1000000;
    uv_loop_t *loop = uv_default_loop();
    uint64_t *delays = bench_delays(count);
    double before = bench_memory("VmRSS");
    double cpu = bench_cpu();
    double wall = bench_wall();
    for (long i = 0; i < count; i++) {
        uv_timer_t *timer = malloc(sizeof *timer);
        uv_timer_init(loop, timer);
        uv_timer_start(timer, on_timer, delays[i], 0);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    printf("{\"cpu\": %.6f, \"wall\": %.6f, \"fired\": %ld, \"bytes\": %.1f}\n", bench_cpu() - cpu,
           bench_wall() - wall, fired, (bench_memory("VmHWM") - before) / (double)count);
    return 0;
}

/* N timers that repeat every 10 ms, for some seconds: how many ticks of the ideal come? */
#include <uv.h>

#include "bench.h"

static long ticks;

static void on_tick(uv_timer_t *timer) {
    (void)timer;
    ticks++;
}

static void on_end(uv_timer_t *timer) {
    uv_stop(timer->loop);
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 10000;
    long seconds = argc > 2 ? atol(argv[2]) : 5;
    uv_timer_t end;
    uv_timer_t *timers = calloc((size_t)count, sizeof *timers);
    uv_loop_t *loop = uv_default_loop();
    double cpu = bench_cpu();
    double wall = bench_wall();
    for (long i = 0; i < count; i++) {
        uv_timer_init(loop, &timers[i]);
        uv_timer_start(&timers[i], on_tick, 10, 10);
    }
    uv_update_time(loop);
    uv_timer_init(loop, &end);
    uv_timer_start(&end, on_end, (uint64_t)seconds * 1000 + 5, 0);
    uv_run(loop, UV_RUN_DEFAULT);
    printf("{\"cpu\": %.6f, \"wall\": %.6f, \"delivered\": %.4f}\n", bench_cpu() - cpu,
           bench_wall() - wall, (double)ticks / (double)(count * seconds * 100));
    return 0;
}

/* Waits of 1 ms, one after the other: how long is each? Then a timer that repeats every 1 ms, for some seconds: how
 * many ticks of the ideal come? */
#include <uv.h>

#include "bench.h"

static long seconds = 3;
static double *waits;
static long count;
static long ticks;
static double armed;
static uv_timer_t timer;
static uv_timer_t end;

static void on_tick(uv_timer_t *handle) {
    (void)handle;
    ticks++;
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

static void on_end(uv_timer_t *handle) {
    qsort(waits, (size_t)count, sizeof *waits, compare);
    printf("{\"wait\": %.9f, \"delivered\": %.4f}\n", waits[count / 2],
           (double)ticks / (double)(seconds * 1000));
    uv_stop(handle->loop);
}

static void on_time(uv_timer_t *handle) {
    double now = bench_wall();
    waits[count++] = now - armed;
    if (count == seconds * 500) {
        uv_update_time(handle->loop);
        uv_timer_start(handle, on_tick, 1, 1);
        uv_timer_init(handle->loop, &end);
        uv_timer_start(&end, on_end, (uint64_t)seconds * 1000, 0);
    } else {
        armed = now;
        uv_timer_start(handle, on_time, 1, 0);
    }
}

int main(int argc, char **argv) {
    uv_loop_t *loop = uv_default_loop();
    seconds = argc > 1 ? atol(argv[1]) : seconds;
    waits = calloc((size_t)seconds * 500, sizeof *waits);
    uv_timer_init(loop, &timer);
    armed = bench_wall();
    uv_timer_start(&timer, on_time, 1, 0);
    uv_run(loop, UV_RUN_DEFAULT);
    return 0;
}

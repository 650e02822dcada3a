/* A zero-delay timer that arms itself again, N times; a signal sent at the start is waiting. */
#include <signal.h>
#include <unistd.h>
#include <uv.h>

#include "bench.h"

static long left;
static long fired;
static long heard = -1;
static uv_signal_t waiting;

static void on_signal(uv_signal_t *handle, int number) {
    (void)number;
    heard = fired;
    uv_close((uv_handle_t *)handle, NULL);
}

static void on_timer(uv_timer_t *timer) {
    fired++;
    if (--left > 0) {
        uv_timer_start(timer, on_timer, 0, 0);
    }
}

int main(int argc, char **argv) {
    uv_timer_t timer;
    uv_loop_t *loop = uv_default_loop();
    left = argc > 1 ? atol(argv[1]) : 1000000;
    uv_signal_init(loop, &waiting);
    uv_signal_start(&waiting, on_signal, SIGUSR2);
    uv_timer_init(loop, &timer);
    double cpu = bench_cpu();
    double wall = bench_wall();
    uv_timer_start(&timer, on_timer, 0, 0);
    kill(getpid(), SIGUSR2);
    uv_run(loop, UV_RUN_DEFAULT);
    printf("{\"cpu\": %.6f, \"wall\": %.6f, \"starved\": %ld}\n", bench_cpu() - cpu,
           bench_wall() - wall, heard);
    return 0;
}

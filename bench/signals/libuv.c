/* Each delivery of a signal sends the next, N times. */
#include <signal.h>
#include <unistd.h>
#include <uv.h>

#include "bench.h"

static long left;

static void on_signal(uv_signal_t *handle, int number) {
    if (--left > 0) {
        kill(getpid(), number);
    } else {
        uv_close((uv_handle_t *)handle, NULL);
    }
}

int main(int argc, char **argv) {
    uv_signal_t signal;
    uv_loop_t *loop = uv_default_loop();
    left = argc > 1 ? atol(argv[1]) : 100000;
    uv_signal_init(loop, &signal);
    uv_signal_start(&signal, on_signal, SIGUSR2);
    double cpu = bench_cpu();
    double wall = bench_wall();
    kill(getpid(), SIGUSR2);
    uv_run(loop, UV_RUN_DEFAULT);
    printf("{\"cpu\": %.6f, \"wall\": %.6f}\n", bench_cpu() - cpu, bench_wall() - wall);
    return 0;
}

/* N children live; all are killed at once. What does it cost to handle each end? First with a tenth of them. */
#include <signal.h>
#include <uv.h>

#include "bench.h"

static long left;

static void on_child_exit(uv_process_t *process, int64_t status, int signal) {
    (void)status;
    (void)signal;
    left--;
    uv_close((uv_handle_t *)process, NULL);
}

/* Seconds of CPU for each of COUNT exits. */
static double measure(long count) {
    static char *sleep_argv[] = {"/bin/sleep", "1000", NULL};
    uv_process_t *children = calloc((size_t)count, sizeof *children);
    uv_process_options_t options = {.file = sleep_argv[0], .args = sleep_argv, .exit_cb = on_child_exit};
    for (long i = 0; i < count; i++) {
        if (uv_spawn(uv_default_loop(), &children[i], &options) != 0) {
            abort();
        }
    }
    left = count;
    double cpu = bench_cpu();
    for (long i = 0; i < count; i++) {
        uv_process_kill(&children[i], SIGKILL);
    }
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    cpu = bench_cpu() - cpu;
    free(children);
    return left == 0 ? cpu / (double)count : -1;
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 10000;
    double few = measure(count / 10);
    double many = measure(count);
    printf("{\"cpu\": %.9f, \"growth\": %.6f}\n", many, many / few);
    return 0;
}

/* Usage: libuv one|many|capture|heap|crowd N */
#include <signal.h>
#include <uv.h>

#include "bench.h"

#define CROWD  2000
#define FLYING 32

static char *true_argv[] = {"/bin/true", NULL};
static char *sleep_argv[] = {"/bin/sleep", "1000", NULL};
static char *head_argv[] = {"/usr/bin/head", "-c", "1048576", "/dev/zero", NULL};

static uv_loop_t *loop;
static long to_start;
static int closed;
static size_t captured;
static char *output;
static uv_process_t *crowd;

static void next(void);

static void on_closed(uv_handle_t *handle) {
    free(handle);
}

static void on_child_exit(uv_process_t *process, int64_t status, int signal) {
    (void)status;
    (void)signal;
    uv_close((uv_handle_t *)process, on_closed);
    next();
}

static int start(uv_process_t *process, char **argv, uv_exit_cb on_end, uv_stream_t *out) {
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE}, {.flags = UV_IGNORE}, {.flags = UV_IGNORE}};
    if (out != NULL) {
        stdio[1].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
        stdio[1].data.stream = out;
    }
    uv_process_options_t options = {
        .file = argv[0], .args = argv, .exit_cb = on_end, .stdio = stdio, .stdio_count = 3};
    return uv_spawn(loop, process, &options);
}

static void next(void) {
    if (to_start > 0) {
        to_start--;
        if (start(malloc(sizeof(uv_process_t)), true_argv, on_child_exit, NULL) != 0) {
            abort();
        }
    }
}

/* Run COUNT children, FLYING at a time. */
static void run(long count, int flying) {
    to_start = count;
    for (int i = 0; i < flying; i++) {
        next();
    }
    uv_run(loop, UV_RUN_DEFAULT);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(output + captured, 1 << 16);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    (void)buffer;
    if (size > 0) {
        captured += (size_t)size;
    } else if (size < 0) {
        uv_close((uv_handle_t *)stream, NULL);
    }
}

static void on_writer_exit(uv_process_t *process, int64_t status, int signal) {
    (void)status;
    (void)signal;
    uv_close((uv_handle_t *)process, NULL);
}

static void capture(long count) {
    output = malloc((1 << 20) + (1 << 16));
    while (count-- > 0) {
        uv_process_t process;
        uv_pipe_t out;
        captured = 0;
        uv_pipe_init(loop, &out, 0);
        start(&process, head_argv, on_writer_exit, (uv_stream_t *)&out);
        uv_read_start((uv_stream_t *)&out, on_alloc, on_read);
        uv_run(loop, UV_RUN_DEFAULT);
        if (captured != 1 << 20) {
            abort();
        }
    }
}

static void on_crowd_exit(uv_process_t *process, int64_t status, int signal) {
    (void)status;
    (void)signal;
    uv_close((uv_handle_t *)process, NULL);
    closed++;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "one";
    long count = argc > 2 ? atol(argv[2]) : 1000;
    int in_crowd = strcmp(mode, "crowd") != 0 ? 0 : argc > 3 ? atoi(argv[3]) : CROWD;
    crowd = calloc((size_t)in_crowd + 1, sizeof *crowd);
    double small = 1;
    loop = uv_default_loop();
    if (strcmp(mode, "heap") == 0) {
        small = bench_wall();
        run(count, 1);
        small = bench_wall() - small;
        memset(malloc(1 << 30), 1, 1 << 30);
    }
    for (int i = 0; i < in_crowd; i++) {
        start(&crowd[i], sleep_argv, on_crowd_exit, NULL);
        uv_unref((uv_handle_t *)&crowd[i]);
    }
    double wall = bench_wall();
    double cpu = bench_cpu();
    if (strcmp(mode, "capture") == 0) {
        capture(count);
    } else {
        run(count, strcmp(mode, "many") == 0 ? FLYING : 1);
    }
    wall = bench_wall() - wall;
    cpu = bench_cpu() - cpu;
    for (int i = 0; i < in_crowd; i++) {
        uv_ref((uv_handle_t *)&crowd[i]);
        uv_process_kill(&crowd[i], SIGKILL);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    printf("{\"cpu\": %.6f, \"wall\": %.6f, \"growth\": %.6f}\n", cpu / (double)count,
           wall / (double)count, wall / small);
    return 0;
}

/* The floor: vfork, exec and waitpid, without a loop. Usage: c one|many|capture|heap|crowd N */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define CROWD  2000
#define FLYING 32

extern char **environ;
static char *const true_argv[] = {"/bin/true", NULL};
static char *const sleep_argv[] = {"/bin/sleep", "1000", NULL};
static char *const head_argv[] = {"/usr/bin/head", "-c", "1048576", "/dev/zero", NULL};
static int null;

static pid_t start(char *const *argv, int out) {
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(null, 0);
        dup2(out, 1);
        dup2(null, 2);
        execve(argv[0], argv, environ);
        _exit(127);
    }
    return pid;
}

static void run(long count, int flying) {
    int live = 0;
    while (count > 0 || live > 0) {
        if (count > 0 && live < flying) {
            start(true_argv, null);
            count--;
            live++;
        } else {
            waitpid(-1, NULL, 0);
            live--;
        }
    }
}

static void capture(long count) {
    char *buffer = malloc(1 << 20);
    while (count-- > 0) {
        int ends[2];
        size_t size = 0;
        ssize_t got;
        pipe2(ends, O_CLOEXEC);
        pid_t pid = start(head_argv, ends[1]);
        close(ends[1]);
        while ((got = read(ends[0], buffer + size, (1 << 20) - size)) > 0) {
            size += (size_t)got;
        }
        close(ends[0]);
        waitpid(pid, NULL, 0);
        if (size != 1 << 20) {
            abort();
        }
    }
}

/* Spawn one after the other beside many live children. */
static void crowd(long count, double *wall, double *cpu) {
    static pid_t pids[CROWD];
    for (int i = 0; i < CROWD; i++) {
        pids[i] = start(sleep_argv, null);
    }
    *wall = bench_wall();
    *cpu = bench_cpu();
    for (long i = 0; i < count; i++) {
        waitpid(start(true_argv, null), NULL, 0);
    }
    *wall = bench_wall() - *wall;
    *cpu = bench_cpu() - *cpu;
    for (int i = 0; i < CROWD; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "one";
    long count = argc > 2 ? atol(argv[2]) : 1000;
    double small = 1;
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (strcmp(mode, "heap") == 0) {
        small = bench_wall();
        run(count, 1);
        small = bench_wall() - small;
        memset(malloc(1 << 30), 1, 1 << 30);
    }
    double wall = bench_wall();
    double cpu = bench_cpu();
    if (strcmp(mode, "crowd") == 0) {
        crowd(count, &wall, &cpu);
    } else {
        if (strcmp(mode, "capture") == 0) {
            capture(count);
        } else {
            run(count, strcmp(mode, "many") == 0 ? FLYING : 1);
        }
        wall = bench_wall() - wall;
        cpu = bench_cpu() - cpu;
    }
    printf("{\"cpu\": %.6f, \"wall\": %.6f, \"growth\": %.6f}\n", cpu / (double)count,
           wall / (double)count, wall / small);
    return 0;
}

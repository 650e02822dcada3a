/* Lines like those of the others, each formatted by the C library and written at once. */
#include <fcntl.h>
#include <unistd.h>

#include "bench.h"

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 100000;
    int file = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    double cpu = bench_cpu();
    double wall = bench_wall();
    for (long i = 1; i <= count; i++) {
        char day[32];
        char line[128];
        struct timespec now;
        struct tm parts;
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &parts);
        strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
        int size = snprintf(line, sizeof line, "%s.%03ldZ info  log: beat count=%ld\n", day,
                            now.tv_nsec / 1000000, i);
        if (write(file, line, (size_t)size) != size) {
            abort();
        }
    }
    printf("{\"cpu\": %.9f, \"rate\": %.1f}\n", (bench_cpu() - cpu) / (double)count,
           (double)count / (bench_wall() - wall));
    return 0;
}

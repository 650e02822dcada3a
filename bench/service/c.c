/* The least that a daemon can do: two forks, a session, /dev/null. Usage: c OUT; a byte there says "ready". */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (fork() != 0) {
        _exit(0);
    }
    setsid();
    if (fork() != 0) {
        _exit(0);
    }
    umask(022);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) {
        dup2(null, fd);
    }
    int out = open(argc > 1 ? argv[1] : "/dev/null", O_WRONLY | O_CLOEXEC);
    if (chdir("/") != 0 || write(out, "A", 1) != 1) {
        abort();
    }
    pause();
    return 0;
}

#include "daemon/detach.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/start_report.h"

/* The middle process: leave the session, fork the daemon, and go. */
static void be_middle(int channel) {
    pid_t pid = setsid() < 0 ? -1 : fork();
    if (pid < 0) {
        ld_start_report_send(channel, LD_START_REPORT_FAILED, 1, strerror(errno));
    }
    if (pid != 0) {
        _exit(pid < 0);
    }
}

/* Fork twice and leave the session. */
int ld_detach_fork(int *channel) {
    int ends[2];
    int rc = ld_start_report_open(ends);
    if (rc < 0) {
        return rc;
    }
    pid_t middle = fork();
    if (middle < 0) {
        int code = errno;
        close(ends[0]);
        close(ends[1]);
        return -code;
    }
    if (middle == 0) {
        close(ends[0]);
        *channel = ends[1];
        be_middle(*channel);
        return 0;
    }
    close(ends[1]);
    *channel = ends[0];
    while (waitpid(middle, NULL, 0) < 0 && errno == EINTR) {
    }
    return 1;
}

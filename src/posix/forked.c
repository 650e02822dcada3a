#include "posix/forked.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char ld_forked_words[] = "this process is a copy made by fork, and has no loop";

static struct {
    bool is_watching;
    bool is_copy;
    bool is_splitting;
    void (*give_up)(void *arg);
    void *arg;
} state;

/* Become a copy. */
static void on_fork(void) {
    if (state.is_splitting) {
        return;
    }
    state.is_copy = true;
    if (state.give_up != NULL) {
        state.give_up(state.arg);
    }
}

/* End a copy that C code ends by exit: the destructors of libraries would wait for threads, which a
 * copy does not have. */
static void on_process_exit(int status, void *arg) {
    (void)arg;
    if (state.is_copy) {
        ld_forked_leave(status);
    }
}

/* Watch for copies. */
int ld_forked_watch(void (*give_up)(void *arg), void *arg) {
    state.give_up = give_up;
    state.arg = arg;
    if (state.is_watching || give_up == NULL) {
        return 0;
    }
    int rc = pthread_atfork(NULL, NULL, on_fork);
    if (rc == 0 && on_exit(on_process_exit, NULL) != 0) {
        rc = ENOMEM;
    }
    state.is_watching = rc == 0;
    return -rc;
}

/* Fork without making a copy. */
pid_t ld_forked_split(void) {
    state.is_splitting = true;
    pid_t pid = fork();
    state.is_splitting = false;
    return pid;
}

/* Whether this is a copy. */
bool ld_forked_is_copy(void) {
    return state.is_copy;
}

/* End a copy. */
void ld_forked_leave(int status) {
    fflush(NULL);
    _exit(status);
}

/* The trial of a program that this process is to become: it runs as a child, while the service goes on, reads what it
 * would take over, and says so by a token. What is opened here is what is tried, and later executed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/parse.h"
#include "base/time.h"
#include "daemon/handover_service.h"
#include "host/internal.h"

#define SAID_MAX    4000
#define KILL_MS     100
#define USAGE       2  /* the status of a lunad that does not know the word of a trial */
#define ABOVE_TRIAL 64 /* descriptors below are placed in the trial */

/* End it. */
void ld_upgrade_trial_drop(struct ld_upgrade *upgrade) {
    if (upgrade->trial != NULL) {
        ld_child_kill(upgrade->trial, SIGKILL);
        ld_child_abandon(upgrade->trial);
        upgrade->trial = NULL;
    }
    if (upgrade->trials != NULL) {
        ld_children_close(upgrade->trials);
        upgrade->trials = NULL;
    }
}

/* Note what the trial says. */
static void on_trial_output(void *owner, int stream, const char *bytes, size_t size) {
    struct ld_upgrade *upgrade = owner;
    (void)stream;
    if (bytes != NULL && upgrade->said.size < SAID_MAX) {
        size_t room = SAID_MAX - upgrade->said.size;
        ld_text_add(&upgrade->said, bytes, size < room ? size : room);
    }
}

/* Ignore that nothing waits to be written. */
static void on_trial_drained(void *owner) {
    (void)owner;
}

/* Whether the trial has said that it could take over. */
static bool has_passed(const struct ld_upgrade *upgrade, const struct ld_exit *exit) {
    struct ld_text token = {0};
    ld_text_format(&token, "%s%s\n", LD_HANDOVER_TOKEN, upgrade->token);
    bool said =
        upgrade->said.size >= token.size &&
        memcmp(upgrade->said.data + upgrade->said.size - token.size, token.data, token.size) == 0;
    ld_text_fini(&token);
    return said && !exit->signaled && exit->status == 0; /* any program may exit with 0 */
}

/* Note why the trial has failed. */
static void blame_trial(struct ld_upgrade *upgrade, const struct ld_child_facts *facts) {
    struct ld_text *said = &upgrade->said;
    while (said->size > 0 && said->data[said->size - 1] == '\n') {
        said->size--;
    }
    ld_text_format(&upgrade->why, "%s cannot take over: ", upgrade->path);
    if (facts->timed_out) {
        ld_text_puts(&upgrade->why, "its trial did not end in time");
    } else if (facts->exit.signaled) {
        ld_text_format(&upgrade->why, "its trial was killed by SIG%s",
                       ld_parse_signal_name(facts->exit.status));
    } else if (facts->exit.status == 0) {
        ld_text_puts(&upgrade->why,
                     "it is not a lunad that knows how (its trial said nothing of it)");
    } else {
        ld_text_format(&upgrade->why, "%sits trial exited with status %d",
                       facts->exit.status == USAGE
                           ? "it is an older lunad, or another program, and does not know how: "
                           : "",
                       facts->exit.status);
    }
    if (said->size > 0) {
        ld_text_puts(&upgrade->why, ": ");
        ld_text_add_escaped(&upgrade->why, said->data, said->size, true);
    }
}

/* Note how the trial ended. */
static void on_trial_finished(void *owner) {
    struct ld_upgrade *upgrade = owner;
    struct ld_child_facts facts;
    ld_child_describe(upgrade->trial, &facts);
    if (!has_passed(upgrade, &facts.exit)) {
        blame_trial(upgrade, &facts);
    }
    ld_child_release(upgrade->trial);
    upgrade->trial = NULL;
}

static const struct ld_child_ops trial_ops = {
    .on_output = on_trial_output, .on_drained = on_trial_drained, .on_finished = on_trial_finished};

/* Whether a program would have rights that this process has not. */
static bool gives_rights(int fd, const struct stat *facts) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return (facts->st_mode & (S_ISUID | S_ISGID)) != 0 ||
           getxattr(path, "security.capability", NULL, 0) > 0;
}

/* Open the program, unless the master has sent it. */
static int open_path(struct ld_upgrade *upgrade) {
    char link[64];
    char path[4096];
    int fd = upgrade->program;
    if (fd < 0) {
        return open(upgrade->path, O_PATH | O_CLOEXEC);
    }
    upgrade->program = -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = '\0';
    free(upgrade->path);
    upgrade->path = strdup(size > 0 ? path : "the program");
    return fd;
}

/* Open the program. What is opened here is what is tried, and executed. */
static void open_program(struct ld_upgrade *upgrade) {
    struct stat facts;
    const char *wrong = NULL;
    bool is_sent = upgrade->program >= 0;
    int fd = open_path(upgrade);
    int above = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, ABOVE_TRIAL) : -1;
    if (above < 0 || fstat(above, &facts) < 0) {
        wrong = strerror(errno);
    } else if (!S_ISREG(facts.st_mode)) {
        wrong = "it is not a file";
    } else if (!is_sent && (facts.st_dev != upgrade->device || facts.st_ino != upgrade->inode)) {
        wrong =
            "it is not the program that has asked: it was replaced meanwhile, or this process sees "
            "another file there";
    } else if (gives_rights(above, &facts)) {
        wrong =
            "it would have other rights: it is set-user-id or set-group-id, or has capabilities";
    }
    if (wrong != NULL) {
        ld_text_format(&upgrade->why, "%s: %s", upgrade->path, wrong);
    }
    if (fd >= 0) {
        close(fd);
    }
    upgrade->program = above;
}

/* Make the token that the trial must say. */
static void make_token(struct ld_upgrade *upgrade) {
    uint64_t random[2] = {(uint64_t)ld_time_real(), (uint64_t)getpid()};
    if (getrandom(random, sizeof random, GRND_NONBLOCK) < 0) {
        random[1] ^= uv_hrtime();
    }
    snprintf(upgrade->token, sizeof upgrade->token, "%016" PRIx64 "%016" PRIx64, random[0],
             random[1]);
}

/* Run the program as a child that says whether it could take over; 0 or a negative errno. */
static int start(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    char path[64];
    char word[] = LD_HANDOVER_TRIAL_WORD;
    char three[] = "3";
    char *argv[] = {path, word, three, NULL};
    const char *step;
    snprintf(path, sizeof path, "/proc/self/fd/%d", upgrade->program);
    const struct ld_spawn_fd fds[] = {{.child = 3, .parent = upgrade->handover->paper}};
    const struct ld_child_config config = {
        .spawn = {.argv = argv,
                  .envp = environ,
                  .fds = fds,
                  .fd_count = 1,
                  .mask = -1,
                  .identity = {.uid = (uid_t)-1, .gid = (gid_t)-1, .group_count = -1}},
        .streams = {{.kind = LD_STREAM_NULL}, {.kind = LD_STREAM_PIPE}, {.kind = LD_STREAM_JOIN}},
        .name = "upgrade",
        .timeout_ms = (uint64_t)(host->service->options->start_timeout * 1000),
        .kill_after_ms = KILL_MS,
        .ops = &trial_ops,
        .owner = upgrade,
    };
    upgrade->trials = ld_children_new(&host->loop, host->reaper, host->service->name);
    return upgrade->trials == NULL
               ? -ENOMEM
               : ld_child_start(upgrade->trials, &config, &upgrade->trial, &step);
}

/* Begin. */
void ld_upgrade_trial_begin(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    open_program(upgrade);
    if (!ld_text_is_empty(&upgrade->why)) {
        return;
    }
    make_token(upgrade);
    upgrade->handover = ld_handover_new();
    int rc = upgrade->handover != NULL ? 0 : -ENOMEM;
    if (rc == 0) {
        ld_handover_service_write(upgrade->handover, host->service);
        ld_handover_set(upgrade->handover, upgrade->handover->root, "trial",
                        json_string(upgrade->token));
        rc = ld_handover_write(upgrade->handover, -1);
    }
    rc = rc == 0 ? start(host) : rc;
    if (rc < 0) {
        ld_text_format(&upgrade->why, "%s cannot be tried: %s", upgrade->path, strerror(-rc));
    }
}

/* restart. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "jsontext.h"
#include "process.h"
#include "say.h"
#include "source.h"
#include "target.h"

#define ASK_SECONDS 2.0 /* for an answer of a loop that turns */

extern char **environ;

/* Make a vector of strings from a JSON array, for good. */
static char **to_strings(const json_t *array) {
    size_t index;
    const json_t *item;
    char **strings = calloc(json_array_size(array) + 1, sizeof *strings);
    json_array_foreach(array, index, item) {
        if (strings != NULL) {
            strings[index] = ld_json_take_bytes(item);
        }
    }
    return strings;
}

/* Become who started the daemon, if that was somebody else; 0 or a negative errno. */
static int become_starter(const json_t *origin) {
    uid_t uid = (uid_t)json_integer_value(json_object_get(origin, "uid"));
    gid_t gid = (gid_t)json_integer_value(json_object_get(origin, "gid"));
    const struct passwd *entry = getpwuid(uid);
    if (uid == geteuid()) {
        return 0;
    }
    bool failed = (entry != NULL ? initgroups(entry->pw_name, gid) : setgroups(0, NULL)) < 0 ||
                  setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0;
    return failed ? -errno : 0;
}

/* Start as ORIGIN says, in this process, which is a child of its own. The exit status. */
static int start_again(const json_t *origin) {
    char *cwd = ld_json_take_bytes(json_object_get(origin, "cwd"));
    char **words = to_strings(json_object_get(origin, "words"));
    char **variables = to_strings(json_object_get(origin, "environment"));
    if (words == NULL || variables == NULL || words[0] == NULL || words[1] == NULL) {
        ld_complain("restart: it does not say how it was started");
        return 1;
    }
    int rc = become_starter(origin);
    if (rc < 0) {
        ld_complain("restart: becoming the user who started it: %s", strerror(-rc));
        return 1;
    }
    if (cwd == NULL) {
        cwd = strdup("/"); /* it had been removed before the start, which did not need it */
    }
    if (cwd == NULL || chdir(cwd) < 0) {
        ld_complain("restart: %s: %s", cwd != NULL ? cwd : "?", strerror(errno));
        return 1;
    }
    environ = variables;
    return ld_cmd_again(words);
}

static volatile sig_atomic_t start_pid; /* of the child that starts */

/* Pass an interruption on to the child, which cancels the start. */
static void on_interrupt(int signo) {
    ld_process_kill((pid_t)start_pid, signo);
}

/* Let HANDLER act on what may interrupt us. */
static void handle_interrupts(void (*handler)(int)) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    const struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < LD_COUNT(signals); i++) {
        sigaction(signals[i], &action, NULL);
    }
}

/* Fork the child that starts. No interruption is lost: each process can act on it when it comes. */
static pid_t fork_start(void) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid > 0) {
        start_pid = pid;
        handle_interrupts(on_interrupt);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

/* Start as ORIGIN says, and wait for what comes of it. The exit status. */
static int start_in_child(const json_t *origin) {
    int result = 0;
    fflush(NULL);
    signal(SIGCHLD, SIG_DFL); /* who ignores it learns of no exit status */
    pid_t pid = fork_start();
    if (pid < 0) {
        ld_complain("restart: fork: %s", strerror(errno));
        return 1;
    }
    if (pid == 0) {
        int status = start_again(origin);
        fflush(NULL);
        _exit(status);
    }
    while (waitpid(pid, &result, 0) < 0 && errno == EINTR) {
    }
    handle_interrupts(SIG_DFL);
    return WIFEXITED(result) ? WEXITSTATUS(result) : 1;
}

/* Whether what is to be started again can be; 0, or an exit status after complaining. */
static int check_origin(const struct ld_target *target, const json_t *origin) {
    struct ld_text why = {0};
    char *script = ld_json_take_bytes(json_object_get(origin, "script"));
    char *text = ld_json_take_bytes(json_object_get(origin, "text"));
    const struct ld_source source = {.path = script,
                                     .text = text,
                                     .size = text != NULL ? strlen(text) : 0,
                                     .title = "=(command line)",
                                     .as_root = json_is_true(json_object_get(origin, "root"))};
    int status = 0;
    if (script == NULL && text == NULL) {
        ld_complain("%s: its script came on stdin and cannot be had again", target->name);
        status = 1;
    } else if (ld_source_check(&source, &why) < 0) {
        ld_complain("%s: not restarted: %s", target->name, ld_text_string(&why));
        status = 1;
    }
    free(script);
    free(text);
    ld_text_fini(&why);
    return status;
}

/* Restart one. */
static int restart_one(const struct ld_call *call, const struct ld_rundir *dir,
                       const char *argument) {
    struct ld_target target;
    struct ld_text why = {0};
    json_t *origin = NULL;
    (void)call;
    int status = ld_target_find(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    if (target.holder.state != LD_HOLDER_ALIVE) {
        ld_complain("%s: not running (%s), so nothing says how it was started: use lunad start",
                    target.name, ld_text_string(&dir->where));
        return 3;
    }
    if (ld_client_ask(&(struct ld_request){dir->path, target.name, "origin", ASK_SECONDS}, &origin,
                      &why) < 0) {
        ld_complain("%s: not restarted: %s", target.name, ld_text_string(&why));
        ld_text_fini(&why);
        return 1;
    }
    status = check_origin(&target, origin);
    status = status == 0 ? ld_stop_target(&target, -1) : status;
    status = status == 0 ? start_in_child(origin) : status;
    json_decref(origin);
    ld_text_fini(&why);
    return status;
}

/* Restart daemons. */
int ld_cmd_restart(const struct ld_call *call) {
    return ld_target_each(call, restart_one);
}

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "base/text.h"
#include "check.h"
#include "engine/child.h"
#include "engine/child_state.h"
#include "engine/signals.h"
#include "support.h"

extern char **environ;

static uv_loop_t loop;
static struct ld_reaper *reaper;
static struct ld_children *children;

/* The owner of a child. */
struct owner {
    struct ld_child *child;
    struct ld_text output[2];
    int ends[2];
    int drained;
    int finished;
    struct ld_child_facts facts; /* at the end */
    bool keeps;                  /* the child is not released at its end */
    bool holds;                  /* output is held after the first chunk */
};

static void on_output(void *arg, int stream, const char *bytes, size_t size) {
    struct owner *owner = arg;
    CHECK_INT(0, owner->finished); /* all output comes before the end */
    CHECK_INT(0, owner->ends[stream - 1]);
    if (bytes == NULL) {
        owner->ends[stream - 1]++;
    } else {
        ld_text_add(&owner->output[stream - 1], bytes, size);
        if (owner->holds) {
            ld_child_hold(owner->child, stream, LD_HOLD_BUSY);
        }
    }
}

static void on_drained(void *arg) {
    ((struct owner *)arg)->drained++;
}

static void on_finished(void *arg) {
    struct owner *owner = arg;
    owner->finished++;
    ld_child_describe(owner->child, &owner->facts);
    CHECK(!owner->facts.running);
    if (!owner->keeps) {
        ld_child_release(owner->child);
    }
}

static const struct ld_child_ops ops = {on_output, on_drained, on_finished, NULL, NULL};

/* Reap after SIGCHLD. */
static void on_signal(void *arg, int signo, bool by_kernel) {
    (void)arg;
    (void)by_kernel;
    if (signo == SIGCHLD) {
        ld_reaper_sweep(reaper);
    }
}

/* What keeps the loop alive, as a host does: a reaper that waits for a child does not. */
static uv_timer_t host;

static void on_host(uv_timer_t *timer) {
    (void)timer;
}

/* Begin with a loop, a reaper, an empty set and a log. */
static void begin(void) {
    struct ld_log_config config = {.sink = LD_LOG_FILE, .path = box_path("log")};
    REQUIRE(ld_log_open(&config) == 0);
    REQUIRE(uv_loop_init(&loop) == 0);
    REQUIRE(ld_signals_open() == 0 && ld_signals_catch(SIGCHLD) == 0);
    REQUIRE(ld_signals_attach(&loop, on_signal, NULL) == 0);
    REQUIRE(ld_reaper_new(&reaper, &loop, true) == 0);
    children = ld_children_new(&loop, reaper, "beat");
    REQUIRE(children != NULL);
    REQUIRE(uv_timer_init(&loop, &host) == 0 && uv_timer_start(&host, on_host, 3600000, 0) == 0);
    signal(SIGPIPE, SIG_IGN);
}

/* End it all: the loop must be empty. */
static void end(void) {
    CHECK(ld_children_next(children, NULL) == NULL);
    uv_close((uv_handle_t *)&host, NULL);
    ld_reaper_close(reaper);
    ld_signals_detach();
    ld_signals_release(SIGCHLD);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    ld_children_close(children);
    CHECK_INT(0, uv_loop_close(&loop));
    ld_log_close();
}

/* A config for a shell command with both outputs for the owner. */
static struct ld_child_config config_of(const char *command, struct owner *owner) {
    static const char *argv[4] = {"sh", "-c"};
    argv[2] = command;
    return (struct ld_child_config){
        .spawn = {.argv = (char *const *)(uintptr_t)argv,
                  .envp = environ,
                  .mask = -1,
                  .identity = {(uid_t)-1, (gid_t)-1, NULL, -1}},
        .streams = {{LD_STREAM_NULL, -1}, {LD_STREAM_PIPE, -1}, {LD_STREAM_PIPE, -1}},
        .name = "sh",
        .kill_after_ms = LD_KILL_AFTER_MS,
        .ops = &ops,
        .owner = owner,
    };
}

/* Start a child as a config says. */
static void start(const struct ld_child_config *config) {
    const char *step = "";
    struct owner *owner = config->owner;
    CHECK_INT(0, ld_child_start(children, config, &owner->child, &step));
}

/* Start a shell command. */
static void start_command(const char *command, struct owner *owner) {
    struct ld_child_config config = config_of(command, owner);
    start(&config);
}

/* Let the loop turn until *VALUE is not 0. */
static void run_until(const int *value) {
    uint64_t deadline = now_ns() + WAIT_SECONDS * 1000000000ULL;
    while (*value == 0 && now_ns() < deadline) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(200);
    }
    CHECK(*value != 0);
}

/* Let the loop turn until SIZE bytes of stdout have come. */
static void run_until_output(struct owner *owner, size_t size) {
    uint64_t deadline = now_ns() + WAIT_SECONDS * 1000000000ULL;
    while (owner->output[0].size < size && now_ns() < deadline) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(200);
    }
    CHECK(owner->output[0].size >= size);
}

/* Free what an owner has got. */
static void free_owner(struct owner *owner) {
    ld_text_fini(&owner->output[0]);
    ld_text_fini(&owner->output[1]);
}

static void test_output(void) {
    struct owner owner = {.keeps = true};
    begin();
    start_command("echo one; echo two >&2; exit 3", &owner);
    CHECK(ld_children_next(children, NULL) == owner.child);
    CHECK(ld_children_next(children, owner.child) == NULL);
    run_until(&owner.finished);
    CHECK_INT(1, owner.finished);
    CHECK_STR("one\n", ld_text_string(&owner.output[0]));
    CHECK_STR("two\n", ld_text_string(&owner.output[1]));
    CHECK_INT(1, owner.ends[0]);
    CHECK_INT(1, owner.ends[1]);
    CHECK(!owner.facts.exit.signaled && owner.facts.exit.status == 3);
    CHECK_STR("sh", owner.facts.name);
    CHECK_STR("sh -c echo one; echo two >&2; exit 3", owner.facts.command);
    CHECK(owner.facts.seconds > 0 && !owner.facts.timed_out && !owner.facts.keep);
    CHECK_INT(-ESRCH, ld_child_kill(owner.child, SIGTERM));
    CHECK_INT(-EPIPE, ld_child_write(owner.child, "x", 1));
    ld_child_release(owner.child);
    free_owner(&owner);
    end();
}

static void test_input(void) {
    struct owner owner = {0};
    char *bytes = malloc(1 << 20);
    begin();
    memset(bytes, 'x', 1 << 20);
    struct ld_child_config config = config_of("wc -c", &owner);
    config.streams[0].kind = LD_STREAM_PIPE;
    start(&config);
    CHECK_INT(0, ld_child_write(owner.child, bytes, 1 << 20));
    CHECK(ld_child_unwritten(owner.child) > 0);
    ld_child_close_stdin(owner.child);
    CHECK_INT(-EBADF, ld_child_write(owner.child, "x", 1));
    run_until(&owner.finished);
    CHECK(owner.drained > 0);
    CHECK_STR("1048576\n", ld_text_string(&owner.output[0]));
    free(bytes);
    free_owner(&owner);
    end();
}

static void test_log(void) {
    struct owner owner = {0};
    begin();
    struct ld_child_config config = config_of("echo one; echo two >&2; printf three", &owner);
    config.streams[1].kind = LD_STREAM_LOG;
    config.streams[2].kind = LD_STREAM_LOG;
    start(&config);
    struct ld_child_facts facts;
    ld_child_describe(owner.child, &facts);
    CHECK(facts.running && facts.pid > 1);
    run_until(&owner.finished);
    char line[64];
    snprintf(line, sizeof line, "info  beat/sh[%d]: one\n", (int)facts.pid);
    CHECK(strstr(read_file(box_path("log")), line) != NULL);
    snprintf(line, sizeof line, "warn  beat/sh[%d]: two\n", (int)facts.pid);
    CHECK(strstr(read_file(box_path("log")), line) != NULL);
    snprintf(line, sizeof line, "info  beat/sh[%d]: three\n", (int)facts.pid);
    CHECK(strstr(read_file(box_path("log")), line) != NULL);
    end();
}

static void test_join(void) {
    struct owner owner = {0};
    begin();
    struct ld_child_config config = config_of("echo one; echo two >&2; echo three", &owner);
    config.streams[2].kind = LD_STREAM_JOIN;
    start(&config);
    run_until(&owner.finished);
    CHECK_STR("one\ntwo\nthree\n", ld_text_string(&owner.output[0]));
    CHECK_INT(0, owner.ends[1]);
    free_owner(&owner);
    end();
}

static void test_cannot_start(void) {
    static const char *argv[] = {"/nowhere/x", NULL};
    struct owner owner = {0};
    const char *step = "";
    begin();
    struct ld_child_config config = config_of("", &owner);
    config.streams[0].kind = LD_STREAM_PIPE;
    config.spawn.argv = (char *const *)(uintptr_t)argv;
    CHECK_INT(-ENOENT, ld_child_start(children, &config, &owner.child, &step));
    CHECK_STR("exec", step);
    config = config_of("", &owner);
    config.spawn.cwd = "/nowhere";
    CHECK_INT(-ENOENT, ld_child_start(children, &config, &owner.child, &step));
    CHECK_STR("chdir", step);
    CHECK(ld_children_next(children, NULL) == NULL);
    CHECK_INT(0, uv_run(&loop, UV_RUN_NOWAIT) < 0);
    CHECK_INT(0, owner.finished);
    end();
}

/* Whether what came to us from a child that was killed with its group is reaped. */
static bool is_alone(void *arg) {
    (void)arg;
    uv_run(&loop, UV_RUN_NOWAIT);
    return !ld_reaper_has_children();
}

static void test_timeout(void) {
    struct owner polite = {0};
    struct owner stubborn = {0};
    begin();
    struct ld_child_config config = config_of("exec sleep 1000", &polite);
    config.timeout_ms = 20;
    start(&config);
    config = config_of("trap '' TERM; echo; while :; do sleep 1000; done", &stubborn);
    config.kill_after_ms = 30;
    start(&config);
    run_until_output(&stubborn, 1);
    ld_child_end(stubborn.child);
    ld_child_end(stubborn.child); /* which does not put it off */
    run_until(&polite.finished);
    run_until(&stubborn.finished);
    CHECK(polite.facts.timed_out && polite.facts.exit.signaled);
    CHECK_INT(SIGTERM, polite.facts.exit.status);
    CHECK(polite.facts.seconds >= 0.02);
    CHECK(!stubborn.facts.timed_out && stubborn.facts.exit.signaled);
    CHECK_INT(SIGKILL, stubborn.facts.exit.status);
    CHECK(wait_until(is_alone, NULL));
    free_owner(&stubborn);
    end();
}

static void test_stopped_child_ends(void) {
    struct owner owner = {0};
    begin();
    start_command("echo; kill -STOP $$; sleep 1000", &owner);
    run_until_output(&owner, 1);
    ld_child_end(owner.child); /* it goes on to see the signal */
    run_until(&owner.finished);
    CHECK_INT(SIGTERM, owner.facts.exit.status);
    free_owner(&owner);
    end();
}

static void test_grandchild_holds_output(void) {
    struct owner owner = {0};
    begin();
    start_command("sleep 1000 & echo $!", &owner);
    run_until(&owner.finished); /* after a second, though the stream has not ended */
    CHECK_INT(1, owner.ends[0]);
    pid_t pid = (pid_t)atoi(ld_text_string(&owner.output[0]));
    REQUIRE(pid > 1);
    kill(pid, SIGKILL);
    CHECK(wait_gone(pid));
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    free_owner(&owner);
    end();
}

static void test_hold(void) {
    struct owner owner = {.holds = true};
    begin();
    start_command("echo one; echo two", &owner);
    run_until_output(&owner, 4);
    struct ld_child_facts facts;
    do {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(1000);
        ld_child_describe(owner.child, &facts);
    } while (facts.running);
    CHECK_INT(0, owner.finished); /* not before its owner is done */
    owner.holds = false;
    ld_child_unhold(owner.child, 1, LD_HOLD_BUSY);
    run_until(&owner.finished);
    CHECK_STR("one\ntwo\n", ld_text_string(&owner.output[0]));
    free_owner(&owner);
    end();
}

static void test_release(void) {
    struct owner owner = {0};
    begin();
    struct ld_child_config config = config_of("read x; echo last", &owner);
    config.streams[0].kind = LD_STREAM_PIPE;
    start(&config);
    ld_child_release(owner.child); /* closes its stdin */
    while (ld_children_next(children, NULL) != NULL) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    CHECK_INT(0, owner.finished);
    CHECK_STR("", ld_text_string(&owner.output[0]));
    CHECK(strstr(read_file(box_path("log")), ": last\n") != NULL);
    end();
}

static void test_hand_over(void) {
    static const bool to_log[2] = {false, true};
    struct owner old = {0};
    struct owner new = {0};
    begin();
    struct ld_child_config config = config_of("echo one; read x; echo $x; echo err >&2", &old);
    config.streams[0].kind = LD_STREAM_PIPE;
    config.identity = "the same";
    start(&config);
    run_until_output(&old, 4);
    CHECK_STR("the same", ld_child_identity(old.child));
    new.child = old.child;
    ld_child_claim(old.child, &new);
    CHECK(ld_child_owner(old.child) == &old && ld_child_claimant(old.child) == &new);
    ld_child_hand_over(old.child, to_log, LD_READY_UNTOLD);
    ld_child_settle(new.child);
    CHECK(ld_child_owner(new.child) == &new &&ld_child_claimant(new.child) == NULL);
    CHECK_INT(0, ld_child_write(new.child, "two\n", 4));
    run_until(&new.finished);
    CHECK_INT(0, old.finished);
    CHECK_STR("one\n", ld_text_string(&old.output[0]));
    CHECK_STR("two\n", ld_text_string(&new.output[0]));
    CHECK(new.facts.keep);
    CHECK(strstr(read_file(box_path("log")), ": err\n") != NULL);
    free_owner(&old);
    free_owner(&new);
    end();
}

static void test_park(void) {
    static const bool to_log[2] = {false, true};
    struct owner old = {0};
    struct owner new = {0};
    struct ld_text partials[2] = {{0}};
    struct ld_text line = {0};
    struct ld_child_facts facts;
    begin();
    struct ld_child_config config = config_of("read x; echo $x; read x; echo $x", &old);
    config.streams[0].kind = LD_STREAM_PIPE;
    config.identity = "the same";
    start(&config);
    ld_text_puts(&partials[0], "unfinished");
    ld_child_park(old.child, partials);
    ld_child_describe(old.child, &facts);
    CHECK(facts.parked && facts.running && ld_child_owner(old.child) == NULL);
    CHECK_INT(0, ld_child_write(old.child, "one\n", 4));
    for (int i = 0; i < 50; i++) { /* what it says is not read */
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    new.child = old.child;
    ld_child_claim(new.child, &new);
    ld_children_release_parked(children, true); /* which leaves it, as it is claimed */
    ld_child_take_line(new.child, 1, &line);
    CHECK_STR("unfinished", ld_text_string(&line));
    ld_child_hand_over(new.child, to_log, LD_READY_UNTOLD);
    ld_child_settle(new.child);
    CHECK_INT(0, ld_child_write(new.child, "two\n", 4));
    run_until(&new.finished);
    CHECK_STR("one\ntwo\n", ld_text_string(&new.output[0]));
    CHECK_INT(0, old.finished);
    CHECK_STR("", ld_text_string(&old.output[0]));
    ld_text_fini(&line);
    free_owner(&old);
    free_owner(&new);
    end();
}

/* Whether a file is there. */
static bool is_there(void *arg) {
    usleep(1000);
    return access(arg, F_OK) == 0;
}

static void test_park_for_nobody(void) {
    struct owner owner = {0};
    struct ld_text partials[2] = {{0}};
    char path[200];
    char command[300];
    begin();
    snprintf(path, sizeof path, "%s", box_path("said"));
    snprintf(command, sizeof command, "echo ed; : >%s; exec sleep 1000", path);
    struct ld_child_config config = config_of(command, &owner);
    config.identity = "the same";
    start(&config);
    CHECK(wait_until(is_there, path)); /* else it may be ended before it has said it */
    ld_text_puts(&partials[0], "park");
    ld_child_park(owner.child, partials);
    ld_children_release_parked(children, true);
    while (ld_children_next(children, NULL) != NULL) { /* it is ended */
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    CHECK_INT(0, owner.finished);
    CHECK(strstr(read_file(box_path("log")), ": parked\n") != NULL);
    end();
}

static void test_claimant_learns_of_the_end(void) {
    struct owner old = {0};
    struct owner new = {.keeps = true};
    begin();
    start_command("exit 4", &old);
    new.child = old.child;
    ld_child_claim(old.child, &new);
    run_until(&new.finished);
    CHECK_INT(1, old.finished);
    CHECK_INT(4, new.facts.exit.status);
    CHECK_INT(0, new.ends[0]); /* and of nothing else */
    end();
}

static void test_find(void) {
    struct owner owner = {0};
    struct ld_child_facts facts;
    begin();
    start_command("exec sleep 1000", &owner);
    ld_child_describe(owner.child, &facts);
    CHECK(ld_children_find(children, facts.pid) == owner.child);
    CHECK(ld_children_find(children, getpid()) == NULL);
    ld_child_note(owner.child, 3, &(struct ld_exit){.signaled = true, .status = SIGHUP});
    ld_child_describe(owner.child, &facts);
    CHECK(facts.restarts == 3 && facts.has_last && facts.last.status == SIGHUP);
    CHECK_INT(0, ld_child_kill(owner.child, SIGKILL));
    run_until(&owner.finished);
    CHECK(ld_children_find(children, facts.pid) == NULL);
    end();
}

/* Start a child under a name; without an identity it is not kept. */
static void start_as(const char *name, const char *identity, struct owner *owner) {
    struct ld_child_config config = config_of("exec sleep 1000", owner);
    config.name = name;
    config.identity = identity;
    start(&config);
}

/* Find a name whose children are in the list of those under "one". */
static void find_neighbour(char *name, size_t size) {
    size_t list = ld_text_hash("one", 3) % LD_CHILD_KEPT_LISTS;
    int number = 0;
    do {
        snprintf(name, size, "%d", number++);
    } while (ld_text_hash(name, strlen(name)) % LD_CHILD_KEPT_LISTS != list);
}

static void test_find_kept(void) {
    struct owner owners[4] = {{0}};
    char neighbour[20];
    find_neighbour(neighbour, sizeof neighbour);
    begin();
    start_as("one", "a", &owners[0]);
    start_as(neighbour, "b", &owners[1]);
    start_as("one", NULL, &owners[2]);
    start_as("one", "c", &owners[3]);
    CHECK(ld_children_next_kept(children, "one", NULL) == owners[3].child);
    CHECK(ld_children_next_kept(children, "one", owners[3].child) == owners[0].child);
    CHECK(ld_children_next_kept(children, "one", owners[0].child) == NULL);
    CHECK(ld_children_next_kept(children, neighbour, NULL) == owners[1].child);
    CHECK(ld_children_next_kept(children, "two", NULL) == NULL);
    CHECK_INT(0, ld_child_kill(owners[3].child, SIGKILL));
    run_until(&owners[3].finished);
    CHECK(ld_children_next_kept(children, "one", NULL) == owners[0].child);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(0, ld_child_kill(owners[i].child, SIGKILL));
        run_until(&owners[i].finished);
    }
    CHECK(ld_children_next_kept(children, "one", NULL) == NULL);
    end();
}

static void test_many(void) {
    static struct owner owners[100];
    memset(owners, 0, sizeof owners);
    begin();
    for (size_t i = 0; i < LD_COUNT(owners); i++) {
        start_command("echo x", &owners[i]);
    }
    for (size_t i = 0; i < LD_COUNT(owners); i++) {
        run_until(&owners[i].finished);
        CHECK_INT(1, owners[i].finished);
        CHECK_STR("x\n", ld_text_string(&owners[i].output[0]));
        free_owner(&owners[i]);
    }
    end();
}

static const struct check_case cases[] = {
    {"output and the end", test_output},
    {"input", test_input},
    {"output to the log", test_log},
    {"stderr that goes where stdout goes", test_join},
    {"what cannot be started", test_cannot_start},
    {"a timeout, and a child that does not heed it", test_timeout},
    {"a stopped child can be ended", test_stopped_child_ends},
    {"a grandchild that holds the output open", test_grandchild_holds_output},
    {"a child does not finish before its owner is done", test_hold},
    {"a child that is given up", test_release},
    {"a child that changes hands", test_hand_over},
    {"a child that is held for another owner", test_park},
    {"a held child that nobody claims", test_park_for_nobody},
    {"a claimant learns of the end", test_claimant_learns_of_the_end},
    {"a child is found by its pid", test_find},
    {"kept children are found by their name", test_find_kept},
    {"many children", test_many},
};

/* Run the cases. What is opened once a process belongs to no case. */
int main(int argc, char **argv) {
    REQUIRE(ld_signals_open() == 0);
    return check_main(argc, argv, cases, LD_COUNT(cases));
}

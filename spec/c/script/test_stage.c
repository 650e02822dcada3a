/* The stages of a generation. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "script/stage.h"

/* Whether a move is allowed: a process that makes it does not abort. */
static bool is_allowed(enum ld_stage from, enum ld_stage to) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        enum ld_stage stage = from;
        fclose(stderr);
        ld_stage_move(&stage, to);
        _exit(stage == to ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    return status == 0;
}

/* Exactly the moves of the table are allowed. */
static void test_moves(void) {
    static const char *const to[] = {
        [LD_STAGE_MADE] = ".x...x.",     [LD_STAGE_STARTED] = "..x.xx.",
        [LD_STAGE_SERVICE] = "...xxx.",  [LD_STAGE_REPLACED] = "....xx.",
        [LD_STAGE_STOPPING] = ".....x.", [LD_STAGE_CLOSING] = "......x",
        [LD_STAGE_CLOSED] = ".......",
    };
    for (int from = LD_STAGE_MADE; from <= LD_STAGE_CLOSED; from++) {
        for (int next = LD_STAGE_MADE; next <= LD_STAGE_CLOSED; next++) {
            CHECK_INT(to[from][next] == 'x', is_allowed((enum ld_stage)from, (enum ld_stage)next));
        }
    }
}

/* What a stage permits. */
static void test_predicates(void) {
    CHECK(ld_stage_is_new(LD_STAGE_STARTED) && !ld_stage_is_new(LD_STAGE_SERVICE));
    CHECK(ld_stage_is_ending(LD_STAGE_STOPPING) && !ld_stage_is_ending(LD_STAGE_REPLACED));
    CHECK(ld_stage_is_closing(LD_STAGE_CLOSING) && !ld_stage_is_closing(LD_STAGE_STOPPING));
    CHECK(ld_stage_is_ending(LD_STAGE_CLOSED) && ld_stage_is_closing(LD_STAGE_CLOSED));
}

static const struct check_case cases[] = {
    {"a generation goes through its stages in order, and can be closed in each", test_moves},
    {"a generation that ends starts nothing new", test_predicates},
};

CHECK_MAIN(cases)

/* How children end with their generation, and what they leave behind. */
#include "api/child_end.h"

#include <signal.h>

#include "api/child_box.h"
#include "api/child_keep.h"
#include "api/spawn_request.h"
#include "posix/family.h"
#include "posix/process.h"
#include "script/script.h"

/* Kill the children of a script, with one scan of all processes for their descendants. */
void ld_api_child_end_discard(struct ld_script *script) {
    struct ld_pids roots = {0};
    struct ld_child *child = NULL;
    while ((child = ld_children_next(script->setup->children, child)) != NULL) {
        const struct ld_child_half *owner = ld_child_owner(child);
        struct ld_child_facts facts;
        ld_child_describe(child, &facts);
        if (owner != NULL && owner->handle.script == script && facts.running && !facts.detached) {
            ld_pids_add(&roots,
                        facts.pid); /* without memory, it is ended when the script is closed */
        }
    }
    if (roots.count > 0) {
        ld_family_end_all(&roots);
    }
    ld_pids_fini(&roots);
}

/* Call EACH, which may part the two, for every running child of a script that ends with it. */
static void each_child(struct ld_script *script,
                       void (*each)(struct ld_child_half *half, void *arg), void *arg) {
    struct ld_child *child = NULL;
    while ((child = ld_children_next(script->setup->children, child)) != NULL) {
        struct ld_child_half *owner = ld_child_owner(child);
        struct ld_child_facts facts;
        ld_child_describe(child, &facts);
        if (owner != NULL && owner->handle.script == script && facts.running && !facts.detached) {
            each(owner, arg);
        }
    }
}

/* End a child that is not a command, and was started before the script was replaced; or hold it, if it is kept and
 * may be asked for again. */
static void end_early(struct ld_child_half *half, void *arg) {
    const struct ld_setup *setup = arg;
    struct ld_child_facts facts;
    ld_child_describe(half->child, &facts);
    if (half->late || half->command) {
        return;
    }
    if (facts.keep && setup->holds_kept) {
        ld_api_child_keep_park(half);
    } else {
        ld_child_end(half->child);
    }
}

/* End the children that a script had when it was replaced. */
void ld_api_child_end_retire(struct ld_script *old, struct ld_script *next) {
    (void)next;
    each_child(old, end_early, (void *)old->setup);
}

/* Name a child that has not been told to end. */
static void name_one(struct ld_child_half *half, void *arg) {
    if (half->late || half->command) {
        ld_text_format(arg, "%s%s %s (pid %d)", ld_text_is_empty(arg) ? "" : ", ",
                       half->command ? "command" : "child", half->box->name, (int)half->box->pid);
    }
}

/* Name the children of a replaced script that still run. */
void ld_api_child_end_name_unfinished(struct ld_script *script, struct ld_text *text) {
    each_child(script, name_one, text);
}

/* Remove from a list the processes that another part of this process waits for. */
static void forget_known(const struct ld_setup *setup, struct ld_pids *pids) {
    size_t kept = 0;
    for (size_t i = 0; i < pids->count; i++) {
        pid_t pid = pids->list[i];
        if (ld_reaper_find(setup->reaper, pid) == NULL && !ld_guest_has_child(pid)) {
            pids->list[kept++] = pid;
        }
    }
    pids->count = kept;
}

/* Send SIGTERM to processes and to all that descends from them, and SIGCONT so that stopped ones see it. */
static void ask_to_end(const struct ld_pids *roots) {
    for (size_t i = 0; i < roots->count; i++) {
        struct ld_pids family = {0};
        ld_family_find(roots->list[i], &family);
        ld_pids_add(&family, roots->list[i]);
        for (size_t j = 0; j < family.count; j++) {
            ld_process_kill(family.list[j], SIGTERM);
            ld_process_kill(family.list[j], SIGCONT);
        }
        ld_pids_fini(&family);
    }
}

/* Count the processes that a child left behind, and end them. */
size_t ld_api_child_end_strays(const struct ld_script *script, const struct ld_child_box *box,
                               enum ld_strays how) {
    char mark[LD_SPAWN_MARK_SIZE];
    struct ld_pids strays = {0};
    if (box->finished && box->mark != 0) {
        ld_api_spawn_request_mark(mark, box->mark);
        ld_family_find_strays(
            &(struct ld_gone){.pid = box->pid, .started = box->start, .mark = mark}, &strays);
        forget_known(script->setup, &strays);
    }
    if (how == LD_STRAYS_TERM) {
        ask_to_end(&strays);
    } else if (how == LD_STRAYS_KILL && strays.count > 0) {
        ld_family_end_all(&strays);
    }
    size_t count = strays.count;
    ld_pids_fini(&strays);
    return count;
}

#include "cli/unit_script.h"

/* Add a line of a script that calls lunad: BEFORE, the program, "VERB --run-dir DIR NAME", AFTER. */
static void add_call(struct ld_text *text, const struct ld_unit *unit, const char *before,
                     const char *verb) {
    ld_text_puts(text, before);
    ld_quote_sh(text, unit->program);
    ld_text_putc(text, ' ');
    ld_unit_line_verb(text, unit, verb, ld_quote_sh);
}

/* Add a function of an OpenRC script that says what it does, and its status. */
static void add_function(struct ld_text *text, const struct ld_unit *unit, const char *verb,
                         const char *does) {
    ld_text_format(text, "\n%s() {\n\tebegin \"%s ${RC_SVCNAME}\"\n", verb, does);
    add_call(text, unit, "\t", verb);
    ld_text_puts(text, "\n\teend $?\n}\n");
}

/* Print a script for OpenRC. lunad start itself waits until the service is ready, and a keeper of its own
 * starts it again, so that no supervise-daemon is needed, whose readiness is not in every release. */
void ld_unit_script_openrc(struct ld_text *text, const struct ld_unit *unit) {
    static const char *const nothing[] = {NULL};
    const struct ld_unit_style style = {.verb = "start",
                                        .quote = ld_quote_sh,
                                        .without = nothing,
                                        .more = unit->has_restart ? "" : " --restart on-failure"};
    ld_text_format(text,
                   "#!/sbin/openrc-run\n# /etc/init.d/%s (lunad unit --for openrc)\n\n"
                   "description='lunad: %s'\nextra_started_commands='reload'\n\n"
                   "depend() {\n\tuse logger net\n",
                   unit->name, unit->name);
    for (size_t i = 0; i < unit->options->after_count; i++) {
        ld_text_format(text, "\tafter %s\n", unit->options->after[i]);
    }
    ld_text_puts(text, "}\n\nstart() {\n\tebegin \"Starting ${RC_SVCNAME}\"\n\t");
    ld_quote_sh(text, unit->program);
    ld_text_putc(text, ' ');
    ld_unit_line_start(text, unit, &style);
    ld_text_puts(text, "\n\teend $?\n}\n");
    add_function(text, unit, "stop", "Stopping");
    add_function(text, unit, "reload", "Reloading");
    ld_text_puts(text, "\nstatus() {\n");
    add_call(text, unit, "\t", "status");
    ld_text_puts(text, "\n}\n");
}

/* Add what a file ./finish must do, so that a service which must not be started again is not; PERMIT does that. */
static void add_finish(struct ld_text *text, const struct ld_unit *unit, const char *manager,
                       const char *permit) {
    bool never = unit->has_restart && unit->options->restart == LD_RESTART_NO;
    if (unit->has_restart && unit->options->restart == LD_RESTART_ALWAYS) {
        return;
    }
    ld_text_format(text, "#\n# %s starts it again whenever it ends. %s ./finish:\n#   #!/bin/sh\n",
                   manager,
                   never ? "To leave it stopped, put this into"
                         : "To do that only when it has failed, put this into");
    ld_text_format(text, "#   %s%s\n", never ? "" : "[ \"$1\" -ne 0 ] || ", permit);
}

/* Add the command that becomes the service. */
static void add_run(struct ld_text *text, const struct ld_unit *unit, const char *more) {
    static const char *const handled[] = {"restart", NULL};
    struct ld_text options = {0};
    ld_text_puts(&options, unit->options->log == NULL ? " --log stderr" : "");
    ld_text_puts(&options, more);
    const struct ld_unit_style style = {
        .verb = "run", .quote = ld_quote_sh, .without = handled, .more = ld_text_string(&options)};
    ld_text_puts(text, "\nexec 2>&1\nexec ");
    ld_quote_sh(text, unit->program);
    ld_text_putc(text, ' ');
    ld_unit_line_start(text, unit, &style);
    ld_text_putc(text, '\n');
    ld_text_fini(&options);
}

/* Print a script for runit. It has no protocol for readiness, but asks ./check. */
void ld_unit_script_runit(struct ld_text *text, const struct ld_unit *unit) {
    ld_text_format(
        text,
        "#!/bin/sh\n# ./run in a service directory %s of runit (lunad unit --for runit)\n"
        "#\n# ./check, with which \"sv start\" waits until it is ready:\n"
        "#   #!/bin/sh\n",
        unit->name);
    add_call(text, unit, "#   ", "status --json");
    ld_text_puts(text, " | grep -q '\"ready\": *true'\n");
    add_finish(text, unit, "runit", "exec sv down .");
    add_run(text, unit, "");
}

/* Print a script for s6. */
void ld_unit_script_s6(struct ld_text *text, const struct ld_unit *unit) {
    int fd = unit->options->notify_fd;
    ld_text_format(text,
                   "#!/bin/sh\n# ./run in a service directory %s of s6 (lunad unit --for s6)\n"
                   "#\n# ./notification-fd, with which s6 knows when it is ready:\n#   %d\n",
                   unit->name, fd >= 0 ? fd : 3);
    add_finish(text, unit, "s6", "exit 125");
    add_run(text, unit, fd >= 0 ? "" : " --notify-fd 3");
}

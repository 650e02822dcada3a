/* lunad repl */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/say.h"
#include "base/time.h"
#include "base/version.h"
#include "cli/answer.h"
#include "cli/crew.h"
#include "cli/repl_host.h"
#include "cli/repl_line.h"
#include "cli/repl_wait.h"
#include "cli/target.h"
#include "cli/verbs.h"

#define SECONDS          3e8 /* for an answer: ten years, as Ctrl-C ends it */
#define COMPLETE_SECONDS 1.0
#define END_MS           10000 /* for the end of a host that has closed its socket */
#define LOOK_MS          100

static const char first_prompt[] = "> ";
static const char next_prompt[] = ">> ";

/* A console. */
struct console {
    const char
        *name; /* of the daemon, as it was given; of a service with workers that of the first */
    char worker[256]; /* that */
    struct ld_rundir dir;
    struct ld_target target;
    struct ld_repl_host host; /* of its own, without a NAME */
    bool has_host;
    struct ld_repl_wait wait;
    struct ld_repl_line *line; /* NULL: stdin is not a terminal */
    struct ld_text input;      /* of stdin then, from `taken` on */
    size_t taken;
    bool was_asked; /* to interrupt what runs */
    bool is_incomplete;
    bool said_local;
    int status; /* the worst so far */
};

/* Note that something has failed. */
static void fail(struct console *console, int status) {
    console->status = status > console->status ? status : console->status;
}

/* Wait for an answer. A Ctrl-C has the daemon interrupt what runs; a second one does not wait for that. */
static int on_wait(void *arg, struct pollfd *poller, int ms) {
    struct console *console = arg;
    struct ld_repl_wait *wait = &console->wait;
    if (wait->suspended) {
        ld_repl_wait_suspend(wait);
    }
    if (wait->ended != 0 || (wait->interrupted && console->was_asked)) {
        wait->interrupted = false;
        errno = ECANCELED;
        return -1;
    }
    if (wait->interrupted) {
        wait->interrupted = false;
        console->was_asked = true;
        fputs(console->line != NULL ? "\n" : "", stdout); /* after the ^C */
        fflush(stdout);
        shutdown(poller->fd, SHUT_WR);
    }
    return ld_repl_wait_poll(wait, poller, ms);
}

/* Print a part of the output, and note whether the chunk is only a beginning. */
static int on_part(void *arg, const json_t *part) {
    struct console *console = arg;
    const json_t *output = json_object_get(part, "output");
    console->is_incomplete = json_is_true(json_object_get(part, "incomplete"));
    return json_is_string(output)
               ? ld_answer_print(json_string_value(output), json_string_length(output))
               : 0;
}

/* Ask the daemon for BODY; an answer, or NULL with the reason in WHY and the status in *RC. */
static json_t *ask(struct console *console, const json_t *body, struct ld_text *why, int *rc) {
    struct ld_request request = ld_target_request(&console->target, "eval", SECONDS);
    json_t *answer = NULL;
    request.body = body;
    request.on_part = on_part;
    request.wait = on_wait;
    request.arg = console;
    request.patient = true;
    console->was_asked = false;
    console->is_incomplete = false;
    *rc = body != NULL ? ld_client_ask(&request, &answer, why) : -ENOMEM;
    return answer;
}

/* Show why a chunk has failed: on a terminal as Lua does. */
static void complain(const struct console *console, const struct ld_text *why) {
    struct ld_text shown = {0};
    const char *line = ld_text_string(why);
    if (console->line == NULL) {
        ld_say_error("%s", line);
        return;
    }
    while (*line != '\0') {
        size_t size = strcspn(line, "\n");
        ld_text_add_escaped(&shown, line, size, false);
        ld_text_putc(&shown, '\n');
        line += size + (line[size] == '\n');
    }
    fputs(ld_text_string(&shown), stderr);
    ld_text_fini(&shown);
}

/* Tell once that local variables do not stay. */
static void tell_of_locals(struct console *console, const char *chunk) {
    static const char word[] = "local ";
    chunk += strspn(chunk, " \t");
    if (console->line != NULL && !console->said_local &&
        strncmp(chunk, word, sizeof word - 1) == 0) {
        console->said_local = true;
        ld_say("-- a local variable ends with its input: leave out \"local\" to keep it");
    }
}

/* Wait for the end of the host of our own, which has closed its socket; false if there is none. */
static bool waits_for_end(struct console *console) {
    struct pollfd none = {.fd = -1};
    int64_t until = ld_time_ms() + END_MS;
    while (!console->wait.is_over && ld_time_ms() < until) {
        ld_repl_wait_poll(&console->wait, &none, LOOK_MS);
        console->wait.is_over = ld_repl_host_has_ended(&console->host);
    }
    return console->wait.is_over;
}

/* Explain an exchange that has failed. */
static void explain(struct console *console, int rc, struct ld_text *why) {
    if (rc == -ECANCELED && console->wait.ended == 0) {
        ld_text_clear(why);
        ld_text_puts(why, "not interrupted yet; no longer waiting for it");
    }
    if (console->has_host && (rc == -ECONNRESET || rc == -ECONNREFUSED) && waits_for_end(console)) {
        return; /* its status says how */
    }
    if (console->wait.ended == 0) {
        complain(console, why);
    }
    fail(console, 1);
}

/* Find the daemon, which may be another than before; 0 or an exit status after complaining. */
static int find_target(struct console *console) {
    if (!console->has_host) {
        return ld_target_find_running(&console->target, &console->dir, console->name);
    }
    console->wait.is_over = ld_repl_host_has_ended(&console->host);
    return console->wait.is_over ? 1 : 0;
}

/* Run a chunk. True if it is only the beginning of one. */
static bool evaluate(struct console *console, const struct ld_text *chunk, struct ld_text *why) {
    json_t *body = NULL;
    json_t *answer = NULL;
    int rc = 0;
    int status = find_target(console);
    if (status != 0) {
        fail(console, console->has_host ? 0 : status);
        return false;
    }
    json_t *string = json_stringn(ld_text_string(chunk), chunk->size);
    if (string == NULL) {
        ld_text_puts(why, "this is not UTF-8 text; write other bytes as \\xNN");
        rc = -EILSEQ;
    } else {
        body = json_pack("{s:o, s:b, s:b, s:f}", "chunk", string, "stream", 1, "interactive", 1,
                         "timeout", SECONDS);
        answer = ask(console, body, why, &rc);
    }
    bool is_incomplete = rc < 0 && console->is_incomplete;
    if (rc == 0) {
        rc = ld_answer_print_values(answer);
        tell_of_locals(console, ld_text_string(chunk));
        ld_text_puts(why, rc < 0 && rc != -ECANCELED ? strerror(-rc) : "");
    }
    if (rc < 0 && !is_incomplete) {
        explain(console, rc, why);
    }
    json_decref(body);
    json_decref(answer);
    return is_incomplete;
}

/* Find the names that may come next. */
static json_t *on_complete(void *arg, const char *text, size_t size) {
    struct console *console = arg;
    struct ld_text why = {0};
    json_t *answer = NULL;
    json_t *names = NULL;
    json_t *string = json_stringn(text, size);
    json_t *body = string != NULL
                       ? json_pack("{s:o, s:f}", "complete", string, "timeout", COMPLETE_SECONDS)
                       : NULL;
    struct ld_request request = ld_target_request(&console->target, "eval", COMPLETE_SECONDS);
    request.body = body;
    if (body != NULL && ld_client_ask(&request, &answer, &why) == 0) {
        names = json_incref(json_object_get(answer, "values"));
    }
    json_decref(body);
    json_decref(answer);
    ld_text_fini(&why);
    return names;
}

/* Read a line of a stdin that is not a terminal. */
static enum ld_repl_key read_plain(struct console *console, struct ld_text *text) {
    struct ld_text *input = &console->input;
    bool is_over = false;
    ld_text_clear(text);
    for (;;) {
        size_t left = input->size - console->taken;
        const char *from = left > 0 ? input->data + console->taken : NULL;
        const char *newline = left > 0 ? memchr(from, '\n', left) : NULL;
        if (newline != NULL || (is_over && left > 0)) {
            size_t size = newline != NULL ? (size_t)(newline - from) : left;
            ld_text_add(text, from, size);
            console->taken += size + (newline != NULL);
            return LD_REPL_LINE;
        }
        if (is_over || console->wait.is_over || console->wait.ended != 0 ||
            console->wait.interrupted) {
            return LD_REPL_END;
        }
        struct pollfd poller = {.fd = STDIN_FILENO, .events = POLLIN};
        char bytes[16384];
        int rc = ld_repl_wait_poll(&console->wait, &poller, -1);
        ssize_t size = rc > 0 ? read(STDIN_FILENO, bytes, sizeof bytes) : -1;
        is_over = size == 0 || (rc > 0 && size < 0 && errno != EINTR && errno != EAGAIN) ||
                  (rc < 0 && errno != EINTR);
        ld_text_add(input, bytes, size > 0 ? (size_t)size : 0);
    }
}

/* Read a line. */
static enum ld_repl_key read_line(struct console *console, bool is_first, struct ld_text *text) {
    return console->line != NULL
               ? ld_repl_line_read(console->line, is_first ? first_prompt : next_prompt, text)
               : read_plain(console, text);
}

/* Add a line to a chunk: "=x" begins one that returns x. */
static void add_line(struct ld_text *chunk, const struct ld_text *line) {
    const char *text = ld_text_string(line);
    size_t size = line->size;
    if (!ld_text_is_empty(chunk)) {
        ld_text_putc(chunk, '\n');
    } else if (size > 0 && text[0] == '=') {
        ld_text_puts(chunk, "return ");
        text++;
        size--;
    }
    ld_text_add(chunk, text, size);
}

/* Whether a chunk has nothing to run. */
static bool is_blank(const struct ld_text *chunk) {
    const char *text = ld_text_string(chunk);
    return strspn(text, " \t\r\n") == chunk->size;
}

/* Whether the console is to end by itself. */
static bool is_over(const struct console *console) {
    return console->wait.is_over || console->wait.ended != 0;
}

/* Read and run chunks until the end. */
static void converse(struct console *console) {
    struct ld_text chunk = {0};
    struct ld_text line = {0};
    struct ld_text why = {0};
    enum ld_repl_key key = LD_REPL_LINE;
    while (key != LD_REPL_END && !is_over(console)) {
        key = read_line(console, ld_text_is_empty(&chunk), &line);
        if (key == LD_REPL_LINE) {
            add_line(&chunk, &line);
            ld_text_clear(&why);
        }
        if (key == LD_REPL_DROPPED || is_blank(&chunk) ||
            (key == LD_REPL_LINE && !evaluate(console, &chunk, &why))) {
            ld_text_clear(&chunk);
        }
    }
    if (console->line != NULL) {
        ld_say("%s", "");
    }
    if (!ld_text_is_empty(&chunk) && !is_over(console)) {
        complain(console, &why); /* why it is incomplete */
        fail(console, 1);
    }
    ld_text_fini(&chunk);
    ld_text_fini(&line);
    ld_text_fini(&why);
}

/* Of a service with workers, choose the first one that runs. */
static void choose_worker(struct console *console) {
    struct ld_target worker;
    unsigned count = ld_crew_count(&console->target);
    for (unsigned number = 1; number <= count; number++) {
        if (ld_crew_find(&worker, &console->target, number) == 0 && ld_crew_is_up(&worker)) {
            console->target = worker;
            snprintf(console->worker, sizeof console->worker, "%s", worker.name);
            console->name = console->worker;
            return;
        }
    }
}

/* Find the daemon, or start a host of our own; 0 or an exit status after complaining. */
static int attach(struct console *console, const struct ld_call *call) {
    console->name = call->argv[call->operand];
    console->has_host = console->name == NULL;
    if (console->has_host) {
        int status = ld_repl_host_start(&console->host);
        if (status != 0) {
            return status;
        }
        console->wait.host = &console->host;
    }
    int status = ld_rundir_open(&console->dir,
                                console->has_host ? console->host.dir : call->options->run_dir);
    if (status == 0) {
        status = ld_target_find_running(&console->target, &console->dir,
                                        console->has_host ? LD_REPL_HOST_NAME : console->name);
    }
    if (status == 0 && !console->has_host) {
        choose_worker(console);
    }
    return status;
}

/* Greet the person at a terminal; 0, or 1 after complaining. */
static int open_terminal(struct console *console) {
    const struct ld_repl_line_config config = {
        .wait = &console->wait, .complete = on_complete, .arg = console};
    struct ld_text why = {0};
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return 0;
    }
    int rc = ld_repl_line_open(&console->line, &config, &why);
    if (rc < 0) {
        ld_say_error("repl: %s", ld_text_string(&why));
    } else {
        if (!ld_text_is_empty(&why)) {
            ld_say_error("repl: no history is kept: %s", ld_text_string(&why));
        }
        ld_say("lunad %s, %s%s. Ctrl-C interrupts, Ctrl-D ends.", ld_version_text,
               console->has_host ? "a loop of its own" : "in ",
               console->has_host ? "" : console->target.name);
    }
    ld_text_fini(&why);
    return rc < 0;
}

/* Whether the host of our own is about to end, with a status of its own: what it was told last is done by the time
 * that it answers again. */
static bool is_stopping(const struct console *console) {
    struct ld_request request = ld_target_request(&console->target, "eval", COMPLETE_SECONDS);
    struct ld_text why = {0};
    json_t *answer = NULL;
    json_t *body = json_pack("{s:s}", "chunk", "");
    request.body = body;
    int rc = body != NULL ? ld_client_ask(&request, &answer, &why) : 0;
    json_decref(body);
    json_decref(answer);
    ld_text_fini(&why);
    return rc == -EREMOTEIO || rc == -ECONNRESET || rc == -ECONNREFUSED;
}

/* Stop the host of our own, and show what it says until then. */
static void stop_host(struct console *console) {
    struct ld_repl_wait *wait = &console->wait;
    struct ld_repl_host *host = &console->host;
    if (!ld_repl_host_has_ended(host) && !is_stopping(console)) {
        ld_repl_host_ask_to_stop(host);
    }
    while (!ld_repl_host_has_ended(host)) {
        struct pollfd none = {.fd = -1};
        ld_repl_wait_poll(wait, &none, 1000);
        if (wait->interrupted) {
            wait->interrupted = false;
            ld_repl_host_ask_to_stop(host);
        }
    }
    struct pollfd none = {.fd = -1};
    while (ld_repl_wait_poll(wait, &none, 0) < 0 && errno == EINTR) {
        /* what it wrote last */
    }
    ld_repl_host_close(host);
    fail(console, host->status);
}

/* Close what was opened. */
static void detach(struct console *console) {
    if (console->line != NULL) {
        ld_repl_line_close(console->line);
    }
    if (console->has_host && console->wait.host != NULL) {
        stop_host(console);
    }
    ld_repl_wait_close(&console->wait);
    ld_rundir_close(&console->dir);
    ld_text_fini(&console->input);
}

/* Run a console. */
static int run(const struct ld_call *call) {
    struct console console = {.dir = {.fd = -1}, .wait = {.signals = -1}};
    int status = attach(&console, call);
    int rc = status == 0 ? ld_repl_wait_open(&console.wait) : 0;
    if (rc < 0) {
        ld_say_error("repl: %s", strerror(-rc));
        status = 1;
    }
    if (status == 0) {
        status = open_terminal(&console);
    }
    if (status == 0) {
        converse(&console);
    }
    bool is_terminal = console.line != NULL;
    detach(&console);
    if (console.wait.ended != 0) {
        return 128 + console.wait.ended;
    }
    if (status == 0 && (!is_terminal || console.wait.is_over)) {
        status = is_terminal ? console.host.status : console.status;
    }
    return status;
}

const struct ld_verb ld_verb_repl = {
    .name = "repl",
    .operands = "[NAME]",
    .summary = "run Lua in the live script, line by line; without NAME, in a fresh loop",
    .options = 0,
    .least = 0,
    .most = 1,
    .run = run,
};

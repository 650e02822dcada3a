/* lunad eval */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/say.h"
#include "cli/answer.h"
#include "cli/client.h"
#include "cli/crew.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "daemon/record.h"

#define DEFAULT_SECONDS 30.0 /* where no record says the daemon's own limit */
#define SLACK_SECONDS   3.0  /* "and a little": the daemon says why there is no end */

/* An eval in one process, or in each of several: then its lines begin with the name of the process. */
struct eval {
    const struct ld_call *call;
    const json_t *body;
    const char *name;    /* of the process, to be shown; NULL: it is alone */
    bool is_inside_line; /* what was printed last did not end with a newline */
};

/* Print text of a process. */
static int print(struct eval *eval, const char *bytes, size_t size) {
    struct ld_text text = {0};
    if (eval->name == NULL || size == 0) {
        return ld_answer_print(bytes, size);
    }
    for (size_t i = 0; i < size; i++) {
        if (!eval->is_inside_line) {
            ld_text_format(&text, "%s: ", eval->name);
        }
        ld_text_putc(&text, bytes[i]);
        eval->is_inside_line = bytes[i] != '\n';
    }
    int rc = text.failed ? -ENOMEM : ld_answer_print(ld_text_string(&text), text.size);
    ld_text_fini(&text);
    return rc;
}

/* Print the output in a part of the answer, or in the answer. */
static int on_part(void *arg, const json_t *part) {
    const json_t *output = json_object_get(part, "output");
    return json_is_string(output)
               ? print(arg, json_string_value(output), json_string_length(output))
               : 0;
}

/* Print the values in an answer. */
static int print_values(struct eval *eval, const json_t *answer) {
    struct ld_text line = {0};
    int rc = ld_answer_values(answer, &line);
    if (rc == 0 && line.size > 0) {
        rc = print(eval, ld_text_string(&line), line.size);
    }
    if (rc == 0 && eval->name != NULL && eval->is_inside_line) {
        rc = print(eval, "\n", 1);
    }
    ld_text_fini(&line);
    return rc;
}

/* Read the chunk from stdin, as far as it could be sent; 0 or a negative errno. */
static int read_chunk(struct ld_text *chunk) {
    char bytes[16384];
    ssize_t size;
    do {
        size = read(STDIN_FILENO, bytes, sizeof bytes);
        if (size > 0) {
            ld_text_add(chunk, bytes, (size_t)size);
        }
    } while ((size > 0 || (size < 0 && errno == EINTR)) && chunk->size <= LD_CLIENT_REQUEST_MAX);
    return chunk->failed ? -ENOMEM : size < 0 ? -errno : 0;
}

/* Make what the request says beside the verb; NULL after complaining. */
static json_t *make_body(const struct ld_call *call) {
    const char *word = call->argv[call->operand + 1];
    struct ld_text chunk = {0};
    int rc = 0;
    if (strcmp(word, "-") == 0) {
        rc = read_chunk(&chunk);
    } else {
        ld_text_puts(&chunk, word);
    }
    json_t *string = json_stringn(ld_text_string(&chunk), chunk.size);
    if (rc < 0) {
        ld_say_error("eval: stdin: %s", strerror(-rc));
    } else if (chunk.size > LD_CLIENT_REQUEST_MAX) {
        ld_say_error("eval: the chunk has more than 1 MiB");
    } else if (string == NULL || strlen(ld_text_string(&chunk)) < chunk.size) {
        ld_say_error("eval: the chunk is not UTF-8 text; write other bytes as \\xNN");
    } else {
        ld_text_fini(&chunk);
        json_t *body = json_pack("{s:o, s:b}", "chunk", string, "stream", 1);
        if (call->options->timeout >= 0) {
            json_object_set_new(body, "timeout", json_real(call->options->timeout));
        }
        return body;
    }
    json_decref(string);
    ld_text_fini(&chunk);
    return NULL;
}

/* The time that the daemon gives a chunk without --timeout: its --start-timeout of the record. */
static double own_seconds(const struct ld_target *target) {
    struct ld_record record;
    double seconds = DEFAULT_SECONDS;
    if (ld_record_load(&record, target->dir->fd, target->name) == 0) {
        seconds = record.start_timeout;
        ld_record_fini(&record);
    }
    return seconds;
}

/* Have a process run the chunk, and print what it answers. */
static int eval_one(void *arg, struct ld_target *target) {
    struct eval *eval = arg;
    struct ld_text why = {0};
    json_t *answer = NULL;
    struct ld_request request =
        ld_target_timed_request(eval->call, target, "eval", own_seconds(target));
    request.seconds += SLACK_SECONDS;
    request.body = eval->body;
    request.on_part = on_part;
    request.arg = eval;
    eval->name = eval->name != NULL ? target->name : NULL;
    eval->is_inside_line = false;
    int rc = ld_client_ask(&request, &answer, &why);
    if (rc == 0) {
        rc = print_values(eval, answer);
        ld_text_puts(&why, rc == -EPROTO ? "it does not answer as a lunad does" : "");
        ld_text_format(&why, "%s", rc < 0 && rc != -EPROTO ? strerror(-rc) : "");
    }
    if (rc == -ECONNRESET && target->holder.waiting) { /* the chunk was too large for its keeper */
        ld_say_error("%s: it waits to be restarted: no script runs", target->name);
    } else if (rc < 0 && rc != -ECANCELED) {
        ld_say_error("%s: %s", target->name, ld_text_string(&why));
    }
    json_decref(answer);
    ld_text_fini(&why);
    return rc < 0;
}

/* Run a chunk in a daemon. */
static int run(const struct ld_call *call) {
    struct ld_rundir dir;
    struct ld_target target;
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0) {
        status = ld_target_find_running(&target, &dir, call->argv[call->operand]);
    }
    json_t *body = status == 0 ? make_body(call) : NULL;
    if (status == 0) {
        bool has_workers = ld_crew_count(&target) > 0;
        struct eval eval = {call, body, has_workers ? target.name : NULL, false};
        status = body != NULL ? ld_crew_each(&target, eval_one, &eval) : 1;
    }
    json_decref(body);
    ld_rundir_close(&dir);
    return status;
}

const struct ld_verb ld_verb_eval = {
    .name = "eval",
    .operands = "NAME CHUNK|-",
    .summary = "run Lua in the live script and print what it returns",
    .options = LD_OPTIONS_ASK,
    .least = 2,
    .most = 2,
    .run = run,
};

/* Clients that ask for the status. What the script has is counted by place, and its first told one by one, in slices of
 * the loop's turns: mostly one is enough, and the answer is given at once. The totals, and all else in the report, are
 * of the moment of the answer.
 *
 * With "full" everything is told one by one, in parts, each sent when the client has read the one before: the head of
 * the report, then lists. A client that does not read is waited for, but not for ever. */
#include <stdlib.h>
#include <string.h>

#include "api/module.h"
#include "api/survey.h"
#include "base/time.h"
#include "host/internal.h"

#define SLICE_NS   2000000ULL    /* in one turn of the loop, for all clients */
#define GIVE_UP_NS 1000000000ULL /* for counting: clients wait for 2 s */
#define PART_ITEMS 100
#define READ_MS    30000 /* for a client to read a part */

enum phase { COUNTING, HEAD, LISTS, LISTENERS, RETIRING, END };

struct ld_inquiry {
    TAILQ_ENTRY(ld_inquiry) link;
    struct ld_host *host;
    struct ld_waiter *waiter;
    bool is_full;
    bool is_torn; /* a reload has replaced what was told of */
    enum phase phase;
    size_t part; /* of ld_api_module_surveyed, that the survey is of */
    size_t told; /* of the listening sockets, or the retiring */
    size_t own;  /* tasks that are lunad's own */
    struct ld_survey survey;
    struct ld_text lists; /* members of the answer */
    json_t *groups;
    uint64_t give_up; /* ld_time_monotonic, when counting */
    uint64_t last;    /* uv_now, when the client was last sent something */
};

/* Make an error answer. */
static json_t *failure(const char *message) {
    return json_pack("{s:b, s:s}", "ok", 0, "error", message);
}

/* Add a value to a text. */
static void add_json(struct ld_text *text, const json_t *value) {
    char *dump = value != NULL ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    if (dump != NULL) {
        ld_text_puts(text, dump);
    }
    text->failed = text->failed || dump == NULL;
    free(dump);
}

/* Free an inquiry. */
static void free_inquiry(struct ld_inquiry *inquiry) {
    struct ld_host *host = inquiry->host;
    if (host->inquiries.current == inquiry) {
        host->inquiries.current = NULL;
    }
    TAILQ_REMOVE(&host->inquiries.list, inquiry, link);
    ld_api_survey_end(&inquiry->survey);
    ld_text_fini(&inquiry->lists);
    json_decref(inquiry->groups);
    free(inquiry);
}

/* End an inquiry with an answer, whose reference is taken over. */
static void finish(struct ld_inquiry *inquiry, json_t *answer) {
    struct ld_waiter *waiter = inquiry->waiter;
    free_inquiry(inquiry);
    waiter->done(waiter, answer);
}

/* Begin to count, from the first part on. */
static void begin(struct ld_inquiry *inquiry) {
    ld_api_survey_end(&inquiry->survey);
    ld_text_clear(&inquiry->lists);
    json_decref(inquiry->groups);
    inquiry->groups = json_object();
    inquiry->phase = COUNTING;
    inquiry->part = 0;
    inquiry->own = 0;
}

/* Add what the survey has told to the answer, and its end if it is over. */
static void take_items(struct ld_inquiry *inquiry) {
    const struct ld_survey *survey = &inquiry->survey;
    size_t index;
    const json_t *item;
    json_array_foreach(survey->items, index, item) {
        struct ld_text *lists = &inquiry->lists;
        bool is_first = lists->size > 0 && lists->data[lists->size - 1] == '[';
        ld_text_puts(lists, is_first ? "" : ",");
        add_json(lists, item);
    }
    json_array_clear(survey->items);
}

/* Count, and take the first of each kind; true when that is done. */
static bool count(struct ld_inquiry *inquiry, uint64_t until) {
    struct ld_survey *survey = &inquiry->survey;
    for (; inquiry->part < LD_API_MODULE_SURVEYED; inquiry->part++) {
        const struct ld_part *part = ld_api_module_surveyed[inquiry->part];
        if (survey->script == NULL) {
            ld_api_survey_begin(survey, inquiry->host->script, part,
                                inquiry->is_full ? 0 : LD_REPORT_FIRST);
            ld_text_format(&inquiry->lists, ",\"%s\":[", part->name);
        }
        do {
            ld_api_survey_run(survey, until, inquiry->give_up, PART_ITEMS);
            take_items(inquiry);
        } while (!survey->is_over && ld_time_monotonic() < until);
        if (!survey->is_over) {
            return false;
        }
        ld_text_putc(&inquiry->lists, ']');
        inquiry->own += survey->own;
        json_object_set_new(inquiry->groups, part->name, ld_api_survey_report(survey));
        ld_api_survey_end(survey);
    }
    return true;
}

/* Make the head of the report. */
static json_t *make_head(struct ld_inquiry *inquiry) {
    return ld_snapshot_head(inquiry->host, json_incref(inquiry->groups), inquiry->own);
}

/* Make the answer: the head and the lists, as one object. */
static void make_answer(struct ld_inquiry *inquiry, struct ld_text *answer) {
    const struct ld_host *host = inquiry->host;
    json_t *head = make_head(inquiry);
    json_object_set_new(head, "listeners", ld_snapshot_listeners(host, 0, LD_REPORT_FIRST));
    json_object_set_new(head, "retiring", ld_snapshot_retiring(host, 0, LD_REPORT_FIRST));
    json_object_set_new(head, "ok", json_true());
    add_json(answer, head);
    json_decref(head);
    if (answer->size > 0) {
        answer->size--; /* its closing brace */
    }
    ld_text_append(answer, &inquiry->lists);
    ld_text_puts(answer, "}\n");
}

/* Send the client a part, whose reference is taken over; false if the client has gone, and the inquiry with it. */
static bool tell(struct ld_inquiry *inquiry, json_t *part) {
    struct ld_host *host = inquiry->host;
    inquiry->last = uv_now(&host->loop);
    inquiry->waiter->tell(inquiry->waiter, part);
    return host->inquiries.current == inquiry;
}

/* Send the client some of a list, whose reference is taken over. */
static bool tell_items(struct ld_inquiry *inquiry, const char *name, json_t *items) {
    return tell(inquiry, json_pack("{s:s, s:o}", "list", name, "items", items));
}

/* Go on telling what the script has; false if the client has gone. */
static bool tell_lists(struct ld_inquiry *inquiry, uint64_t until) {
    struct ld_survey *survey = &inquiry->survey;
    const struct ld_part *part = ld_api_module_surveyed[inquiry->part];
    if (survey->script == NULL) {
        ld_api_survey_begin(survey, inquiry->host->script, part, SIZE_MAX);
    }
    ld_api_survey_run(survey, until, UINT64_MAX, PART_ITEMS);
    json_t *items = survey->items;
    bool is_over = survey->is_over;
    if (json_array_size(items) > 0) {
        survey->items = json_array();
    } else {
        items = NULL;
    }
    if (is_over) {
        ld_api_survey_end(survey);
        inquiry->part++;
        inquiry->phase = inquiry->part < LD_API_MODULE_SURVEYED ? LISTS : LISTENERS;
    }
    return items == NULL || tell_items(inquiry, part->name, items);
}

/* Go on telling what the host has; false if the client has gone. */
static bool tell_hosts(struct ld_inquiry *inquiry) {
    bool is_listeners = inquiry->phase == LISTENERS;
    json_t *items = is_listeners ? ld_snapshot_listeners(inquiry->host, inquiry->told, PART_ITEMS)
                                 : ld_snapshot_retiring(inquiry->host, inquiry->told, PART_ITEMS);
    size_t size = json_array_size(items);
    inquiry->told += size;
    if (size == 0) {
        json_decref(items);
        inquiry->told = 0;
        inquiry->phase = is_listeners ? RETIRING : END;
        return true;
    }
    return tell_items(inquiry, is_listeners ? "listeners" : "retiring", items);
}

/* Tell the next of a full report; false if the inquiry has ended. */
static bool tell_next(struct ld_inquiry *inquiry, uint64_t until) {
    json_t *head;
    switch (inquiry->phase) {
    case COUNTING:
        if (count(inquiry, until)) {
            inquiry->phase = HEAD;
        }
        return true;
    case HEAD:
        head = make_head(inquiry);
        inquiry->phase = LISTS;
        inquiry->part = 0;
        return tell(inquiry, json_pack("{s:o}", "report", head));
    case LISTS:
        return tell_lists(inquiry, until);
    case LISTENERS:
    case RETIRING:
        return tell_hosts(inquiry);
    case END:
        break;
    }
    finish(inquiry, json_pack("{s:b}", "ok", 1));
    return false;
}

/* Whether a client has not read the part that it was sent. */
static bool is_behind(const struct ld_inquiry *inquiry) {
    return inquiry->is_full && !inquiry->waiter->can_tell(inquiry->waiter);
}

/* Go on telling all, until the slice is over or the client has to read; false if the inquiry has ended. */
static bool go_on_fully(struct ld_inquiry *inquiry, uint64_t until) {
    bool is_there = true;
    while (is_there && !is_behind(inquiry) && ld_time_monotonic() < until) {
        is_there = tell_next(inquiry, until);
    }
    return is_there;
}

/* Go on with one, until it is ld_time_monotonic UNTIL; false if it has ended. */
static bool go_on(struct ld_inquiry *inquiry, uint64_t until) {
    if (inquiry->is_torn) {
        finish(inquiry, failure("it was reloaded meanwhile: the lists are not whole"));
        return false;
    }
    if (inquiry->is_full) {
        return go_on_fully(inquiry, until);
    }
    if (!count(inquiry, until)) {
        return true;
    }
    struct ld_text answer = {0};
    struct ld_waiter *waiter = inquiry->waiter;
    make_answer(inquiry, &answer);
    free_inquiry(inquiry);
    waiter->done_text(waiter, &answer);
    return false;
}

/* When one that is not finished has to be looked at again, uv_now: at once, or when its client has read nothing for
 * long. */
static uint64_t next_look(const struct ld_inquiry *inquiry) {
    return is_behind(inquiry) ? inquiry->last + READ_MS : 0;
}

/* Give up one whose client does not read; false if it was. */
static bool check_reader(struct ld_inquiry *inquiry, uint64_t now) {
    bool is_late = is_behind(inquiry) && now >= inquiry->last + READ_MS;
    if (is_late) {
        finish(inquiry, failure("nothing was read for 30 s: the lists are not whole"));
    }
    return !is_late;
}

/* Go on with all: the first becomes the last. */
void ld_inquiry_step(struct ld_host *host) {
    size_t left = 0;
    struct ld_inquiry *inquiry;
    host->inquiries.spent = 0;
    if (TAILQ_EMPTY(&host->inquiries.list)) {
        return;
    }
    uint64_t begun = ld_time_monotonic();
    TAILQ_FOREACH(inquiry, &host->inquiries.list, link) {
        left++;
    }
    for (; left > 0 && (inquiry = TAILQ_FIRST(&host->inquiries.list)) != NULL; left--) {
        TAILQ_REMOVE(&host->inquiries.list, inquiry, link);
        TAILQ_INSERT_TAIL(&host->inquiries.list, inquiry, link);
        host->inquiries.current = inquiry;
        if (check_reader(inquiry, uv_now(&host->loop)) && go_on(inquiry, begun + SLICE_NS)) {
            ld_alarm_wake_at(host, next_look(inquiry));
        }
        host->inquiries.current = NULL;
        if (ld_time_monotonic() >= begun + SLICE_NS) {
            break;
        }
    }
    if (!TAILQ_EMPTY(&host->inquiries.list)) {
        ld_alarm_wake_at(host, next_look(TAILQ_FIRST(&host->inquiries.list)));
    }
    host->inquiries.spent = ld_time_monotonic() - begun;
}

/* Answer at once, if what is left of this turn's time is enough. */
static bool answer_at_once(struct ld_inquiry *inquiry, struct ld_text *answer) {
    struct ld_host *host = inquiry->host;
    uint64_t now = ld_time_monotonic();
    bool is_done = !inquiry->is_full && host->inquiries.spent < SLICE_NS &&
                   count(inquiry, now + SLICE_NS - host->inquiries.spent);
    if (is_done) {
        make_answer(inquiry, answer);
    }
    host->inquiries.spent += ld_time_monotonic() - now;
    return is_done;
}

/* Answer a request for the status. */
bool ld_inquiry_ask(struct ld_host *host, struct ld_waiter *waiter, const json_t *request,
                    struct ld_text *answer) {
    const json_t *full = json_object_get(request, "full");
    if (full != NULL && !json_is_boolean(full)) {
        ld_text_puts(answer, "{\"ok\":false,\"error\":\"\\\"full\\\" must be true or false\"}\n");
        return true;
    }
    struct ld_inquiry *inquiry = calloc(1, sizeof *inquiry);
    if (inquiry == NULL) {
        ld_text_puts(answer, "{\"ok\":false,\"error\":\"not enough memory\"}\n");
        return true;
    }
    *inquiry = (struct ld_inquiry){.host = host,
                                   .waiter = waiter,
                                   .is_full = json_is_true(full),
                                   .give_up = ld_time_monotonic() + GIVE_UP_NS};
    TAILQ_INSERT_TAIL(&host->inquiries.list, inquiry, link);
    begin(inquiry);
    if (answer_at_once(inquiry, answer)) {
        free_inquiry(inquiry);
        return true;
    }
    ld_alarm_wake_at(host, 0);
    return false;
}

/* Forget the inquiry of a client that has gone. */
void ld_inquiry_forget(struct ld_host *host, const struct ld_waiter *waiter) {
    struct ld_inquiry *inquiry;
    TAILQ_FOREACH(inquiry, &host->inquiries.list, link) {
        if (inquiry->waiter == waiter) {
            free_inquiry(inquiry);
            return;
        }
    }
}

/* Leave the script. */
void ld_inquiry_leave(struct ld_host *host) {
    struct ld_inquiry *inquiry;
    TAILQ_FOREACH(inquiry, &host->inquiries.list, link) {
        if (inquiry->phase <= HEAD) {
            begin(inquiry);
        } else {
            ld_api_survey_end(&inquiry->survey);
            inquiry->is_torn = true;
        }
    }
}

/* End all. */
void ld_inquiry_abandon(struct ld_host *host) {
    struct ld_inquiry *next;
    for (struct ld_inquiry *inquiry = TAILQ_FIRST(&host->inquiries.list); inquiry != NULL;
         inquiry = next) {
        next = TAILQ_NEXT(inquiry, link);
        finish(inquiry, failure("it has ended, or was upgraded: the lists are not whole"));
    }
}

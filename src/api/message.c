/* lunad.send, broadcast and on_message: plain data for other workers, and for the next generation. */
#include "api/message.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>

#include "api/module.h"
#include "base/log.h"
#include "engine/mail_drafts.h"
#include "script/luax.h"
#include "script/pack.h"
#include "script/task.h"

static const char handlers_key; /* in the registry: topic -> function */
static const char places_key;   /* topic -> where on_message was called for it */
static const char unheard_key;  /* topics that were logged because there is no function for them */

#define TASKS_MAX   1000 /* calls that have not ended: as many more messages are left in the box */
#define UNHEARD_MAX 100  /* topics that are logged */

/* The topic in argument ARG. */
static const char *check_topic(lua_State *L, int arg, size_t *size) {
    const char *topic = luaL_checklstring(L, arg, size);
    luaL_argcheck(L, *size >= 1 && *size <= LD_MAIL_TOPIC_MAX, arg,
                  "a topic of 1 to 255 bytes expected");
    return topic;
}

/* Explain why a message to worker TO was not sent. */
static int fail_to_send(lua_State *L, int rc, unsigned to) {
    if (rc == -EAGAIN) {
        return lx_fail(L, rc, "worker %d does not keep up, too much waits for it", (int)to);
    }
    if (rc == -ESRCH) {
        return lx_fail(L, rc, "there is no worker %d any more", (int)to);
    }
    if (rc == -EMSGSIZE) {
        return lx_fail(L, rc, "a message has at most %d MiB, packed",
                       (int)(LD_MAIL_DATA_MAX >> 20));
    }
    return lx_fail(L, rc, "a message to worker %d", (int)to);
}

/* Send a message, or keep it until the generation that sends it has become the service. */
static int send_one(struct ld_script *script, unsigned to, const struct ld_mail_message *message) {
    const struct ld_setup *setup = script->setup;
    return ld_stage_is_new(script->stage)
               ? ld_mail_drafts_keep(setup->mail_drafts, script, to, message)
               : ld_mail_send(setup->mail, to, message);
}

/* Send a message to worker TO, or to all others if that is 0; 0 or the first error, with the worker in *FAILED. */
static int send_all(struct ld_script *script, unsigned to, const struct ld_mail_message *message,
                    unsigned *failed) {
    unsigned first = to > 0 ? to : 1;
    unsigned last = to > 0 ? to : (unsigned)script->messages.workers;
    int result = 0;
    for (unsigned number = first; number <= last; number++) {
        bool is_self = number == script->messages.self;
        int rc = to == 0 && is_self ? 0 : send_one(script, number, message);
        if (rc < 0 && result == 0) {
            result = rc;
            *failed = number;
        }
    }
    return result;
}

/* Pack the value at the top; 0, -EMSGSIZE, or -1 with the reason in WHY. */
static int pack(lua_State *L, struct ld_text *data, struct ld_text *why) {
    struct ld_packer *packer = ld_packer_new(L, "data", data, why);
    int rc = packer != NULL ? ld_packer_step(packer, LD_MAIL_DATA_MAX + 1, UINT64_MAX) : -1;
    ld_packer_free(packer);
    return rc == 1 ? -EMSGSIZE : rc;
}

/* Send the topic and the data in arguments ARG and ARG + 1, as send_all. NAME is the function that was
 * called. */
static int send_arguments(lua_State *L, unsigned to, int arg, const char *name) {
    struct ld_script *script = ld_state_script(L);
    struct ld_mail_message message = {.to_all = to == 0};
    struct ld_text data = {0};
    struct ld_text why = {0};
    char reason[512];
    message.topic = check_topic(L, arg, &message.topic_size);
    lua_settop(L, arg + 1);
    if (script->setup->mail == NULL) { /* the process ends */
        return lx_fail(L, -ESHUTDOWN, "%s", name);
    }
    unsigned failed = to;
    int rc = pack(L, &data, &why); /* nothing may raise until the texts are freed */
    bool is_plain = rc != -1;
    if (rc == 0) {
        message.data = ld_text_string(&data);
        message.size = data.size;
        rc = send_all(script, to, &message, &failed);
    }
    snprintf(reason, sizeof reason, "%s", ld_text_string(&why));
    ld_text_fini(&data);
    ld_text_fini(&why);
    if (!is_plain) {
        lx_error(L, "%s: the data cannot be sent: %s", name, reason);
    }
    if (rc < 0) {
        return fail_to_send(L, rc, failed);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* The worker in argument 1 of send, which is not "next". */
static unsigned check_worker(lua_State *L) {
    const struct ld_script *script = ld_state_script(L);
    bool is_number = lua_type(L, 1) == LUA_TNUMBER && lx_is_whole(L, 1);
    lua_Integer worker = is_number ? luaL_checkinteger(L, 1) : 0;
    if (worker < 1 || worker > script->messages.workers) {
        lx_error(L, "bad argument #1 to 'send' (a worker from 1 to %d, or \"next\", expected)",
                 script->messages.workers);
    }
    return (unsigned)worker;
}

/* send(worker | "next", topic, data) -> true | nil, error, code */
static int l_send(lua_State *L) {
    const struct ld_script *script = ld_state_script(L);
    bool to_next = lua_type(L, 1) == LUA_TSTRING && strcmp(lua_tostring(L, 1), "next") == 0;
    if (!to_next) {
        return send_arguments(L, check_worker(L), 2, "send");
    }
    if (!script->messages.was_replaced) {
        return lx_fail(L, -ESRCH, "no generation has replaced this one");
    }
    return send_arguments(L, script->messages.self, 2, "send");
}

/* broadcast(topic, data) -> true | nil, error, code */
static int l_broadcast(lua_State *L) {
    return send_arguments(L, 0, 1, "broadcast");
}

/* Count the topics that have functions by one, up or down. A script with one is alive as long as there are
 * other workers that may send it something. */
static void count_topics(struct ld_script *script, int by) {
    bool had_any = script->messages.topics > 0;
    script->messages.topics += (size_t)by;
    bool has_any = script->messages.topics > 0;
    if (script->messages.workers > 1 && had_any != has_any) {
        script->keepers += has_any ? 1 : (size_t)-1;
    }
}

/* Warn that a function takes the place of the one at the top; note where on_message was called. */
static void note_place(lua_State *L, bool replaces) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &places_key);
    lua_pushvalue(L, 1);
    lx_push_place(L, L);
    if (replaces) {
        lua_pushvalue(L, 1);
        lua_rawget(L, -4);
        ld_log(LD_LOG_WARN,
               "lunad.on_message at %s replaces the function for '%s' that lunad.on_message at %s "
               "was given",
               lua_tostring(L, -2), lua_tostring(L, 1), lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* on_message(topic, fn | nil) */
static int l_on_message(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    size_t size;
    check_topic(L, 1, &size);
    lua_settop(L, 2);
    if (!lua_isnil(L, 2)) {
        lx_check_callable(L, 2);
        ld_state_check_current(L, "on_message");
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &handlers_key);
    lua_pushvalue(L, 1);
    bool had = lua_rawget(L, 3) != LUA_TNIL;
    bool has = !lua_isnil(L, 2);
    note_place(L, had && has && !lua_rawequal(L, -1, 2));
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_rawset(L, 3);
    if (had != has) {
        count_topics(script, has ? 1 : -1);
    }
    return 0;
}

/* A message on its way to its function. */
struct delivery {
    const struct ld_mail_message *message;
    bool heard;
};

/* Stand for a function that there is not. */
static int do_nothing(lua_State *L) {
    (void)L;
    return 0;
}

/* Log once that a message that was sent to this worker alone finds no function. */
static void tell_unheard(lua_State *co, const struct ld_mail_message *message) {
    struct ld_script *script = ld_state_script(co);
    if (message->to_all || script->messages.unheard >= UNHEARD_MAX) {
        return;
    }
    lua_rawgetp(co, LUA_REGISTRYINDEX, &unheard_key);
    lua_pushlstring(co, message->topic, message->topic_size);
    lua_pushvalue(co, -1);
    if (lua_rawget(co, -3) == LUA_TNIL) {
        const struct ld_text topic = {.data = (char *)(uintptr_t)lua_tostring(co, -2),
                                      .size = message->topic_size};
        ld_log_with(LD_LOG_WARN, &topic,
                    "a message of worker %u is dropped, as lunad.on_message was not called for its "
                    "topic: ",
                    message->from);
        script->messages.unheard++;
        lua_pop(co, 1);
        lua_pushboolean(co, 1);
        lua_rawset(co, -3);
        lua_pop(co, 1);
        return;
    }
    lua_pop(co, 3);
}

/* Push the data of a message. */
static void push_data(lua_State *co, const struct ld_mail_message *message) {
    struct ld_text why = {0};
    char reason[256];
    if (ld_unpack_value(co, message->data, message->size, &why) < 0) {
        snprintf(reason, sizeof reason, "%s", ld_text_string(&why));
        ld_text_fini(&why);
        luaL_error(co, "a message of worker %d cannot be read: %s", (int)message->from, reason);
    }
    ld_text_fini(&why);
}

/* Push the function for a message, and what it is called with. */
static int push_call(lua_State *co, void *arg) {
    struct delivery *delivery = arg;
    const struct ld_mail_message *message = delivery->message;
    lua_rawgetp(co, LUA_REGISTRYINDEX, &handlers_key);
    lua_pushlstring(co, message->topic, message->topic_size);
    delivery->heard = lua_rawget(co, -2) != LUA_TNIL;
    lua_remove(co, -2);
    if (!delivery->heard) {
        lua_pop(co, 1);
        tell_unheard(co, message);
        lua_pushcfunction(co, do_nothing);
        return 0;
    }
    push_data(co, message);
    lua_pushinteger(co, (lua_Integer)message->from);
    return 2;
}

/* Count a call that has ended. */
static bool on_end(struct ld_task *task, enum ld_outcome outcome, int results) {
    (void)outcome;
    (void)results;
    task->script->messages.running--;
    return false;
}

/* Whether a script can take a message. */
bool ld_api_message_is_able(const struct ld_script *script) {
    return script->stage == LD_STAGE_SERVICE && !script->halted && !script->exited &&
           script->messages.running < TASKS_MAX;
}

/* Deliver a message. */
bool ld_api_message_deliver(struct ld_script *script, const struct ld_mail_message *message,
                            bool *heard) {
    struct delivery delivery = {.message = message};
    struct ld_task *task = ld_task_take_or_report(script, "a message function");
    if (task != NULL) {
        script->messages.running++;
        task->on_end = on_end;
        ld_task_start_with(task, push_call, &delivery);
    }
    *heard = delivery.heard;
    return ld_api_message_is_able(script);
}

/* Send what the chunk has sent while it was loading. */
static void take_over(struct ld_script *script) {
    ld_mail_expect(script->setup->mail, (unsigned)script->messages.workers);
    size_t unsent = ld_mail_drafts_send(script->setup->mail_drafts, script);
    if (unsent > 0) {
        ld_log(LD_LOG_WARN, "%zu messages that the script sent while it was loading are dropped",
               unsent);
    }
}

/* Take the functions of a generation that has been replaced: messages go to the next one. */
static void retire(struct ld_script *old, struct ld_script *next) {
    (void)next;
    old->messages.was_replaced = true;
    if (old->messages.topics > 0) {
        old->messages.topics = 1;
        count_topics(old, -1);
    }
}

/* Send nothing of what a generation has sent that does not become the service. */
static void discard(struct ld_script *script) {
    ld_mail_drafts_drop(script->setup->mail_drafts, script);
}

static const luaL_Reg functions[] = {
    {"send", l_send},
    {"broadcast", l_broadcast},
    {"on_message", l_on_message},
    {NULL, NULL},
};

/* Open this part. */
static int set_up(lua_State *L) {
    static const void *const keys[] = {&handlers_key, &places_key, &unheard_key};
    struct ld_script *script = ld_state_script(L);
    const struct ld_setup *setup = script->setup;
    script->messages.self = setup->worker > 1 ? (unsigned)setup->worker : 1;
    script->messages.workers = setup->workers > 1 ? setup->workers : 1;
    for (size_t i = 0; i < LD_COUNT(keys); i++) {
        lua_newtable(L);
        lua_rawsetp(L, LUA_REGISTRYINDEX, keys[i]);
    }
    return 0;
}

const struct ld_part ld_api_message_part = {
    .name = "messages",
    .functions = functions,
    .open = set_up,
    .take_over = take_over,
    .retire = retire,
    .discard = discard,
};

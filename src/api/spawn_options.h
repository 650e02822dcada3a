/* The options of lunad.spawn, read from a Lua table. */
#ifndef LD_API_SPAWN_OPTIONS_H
#define LD_API_SPAWN_OPTIONS_H

#include <lua.h>

#include "base/text.h"
#include "engine/child.h"
#include "posix/user.h"

/* What the table asks for. Its strings live as long as the values that reading it left on the
 * stack. */
struct ld_spawn_request {
    struct ld_child_config config;
    struct ld_spawn_fd fds[32];
    char name[80];
    char user[64]; /* name or number; "" for none */
    char group[64];
    bool clear_env;
    bool keep;
    bool marked;                   /* its environment has a mark that no other child's has */
    uint64_t mark;                 /* if it has one */
    const struct ld_user *account; /* the user that was asked for, if there is one */
    int account_error;             /* why it was not found, a negative errno */
};

/* Read the table at INDEX; raises for what is wrong with it. A user or group that does not exist is
 * noted in account_error. MARKED: set the LD_CHILD_VARIABLE in its environment. Pushes some values
 * that must stay on the stack while the request is used. */
void ld_spawn_options_read(lua_State *L, int index, bool marked, struct ld_spawn_request *request);

/* The part of that which sets words, environment and name. */
void ld_spawn_request_set_command(lua_State *L, int index, struct ld_spawn_request *request);

/* Find the user and the group that were asked for. Pushes a value that holds them. */
void ld_spawn_request_find_account(lua_State *L, struct ld_spawn_request *request);

/* Write the mark of a child as "NAME=VALUE"; the same length for all of this process. */
#define LD_SPAWN_MARK_SIZE 64
void ld_spawn_mark(char text[LD_SPAWN_MARK_SIZE], uint64_t mark);

/* Add what tells whether a running child is what another request asks for: words, directory,
 * environment, user, and how its streams are connected. */
void ld_spawn_request_identify(const struct ld_spawn_request *request, struct ld_text *identity);

#endif

/* The options of lunad.spawn, read from a Lua table. */
#ifndef LD_LIB_SPAWN_H
#define LD_LIB_SPAWN_H

#include <lua.h>

#include "child.h"
#include "text.h"
#include "user.h"

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
};

/* Read the table at INDEX; raises for what is wrong with it. Pushes some values that must stay on
 * the stack while the request is used. */
void ld_spawn_request_read(lua_State *L, int index, struct ld_spawn_request *request);

/* The part of that which sets words, environment and name. */
void ld_spawn_request_set_command(lua_State *L, int index, struct ld_spawn_request *request);

/* Find the user and the group that were asked for; USER holds them for the request, and is to be
 * freed. 0, or a negative errno with the reason in WHY. */
int ld_spawn_request_find_user(struct ld_spawn_request *request, struct ld_user *user,
                               struct ld_text *why);

/* Add what tells whether a running child is what another request asks for: words, directory,
 * environment, user, and how its streams are connected. */
void ld_spawn_request_identify(const struct ld_spawn_request *request, struct ld_text *identity);

#endif

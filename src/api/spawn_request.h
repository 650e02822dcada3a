/* What lunad.spawn asks for: the command, its environment, its user, and how it is told from others. */
#ifndef LD_API_SPAWN_REQUEST_H
#define LD_API_SPAWN_REQUEST_H

#include <lua.h>

#include "base/text.h"
#include "engine/child.h"
#include "posix/user.h"

#define LD_SPAWN_NAME_SIZE    80
#define LD_SPAWN_ACCOUNT_SIZE 64

/* Its strings live as long as the values that reading it left on the stack. */
struct ld_spawn_request {
    struct ld_child_config config;
    struct ld_spawn_fd fds[32];
    char name[LD_SPAWN_NAME_SIZE];
    char user[LD_SPAWN_ACCOUNT_SIZE]; /* name or number; "" for none */
    char group[LD_SPAWN_ACCOUNT_SIZE];
    bool clear_env;
    bool keep;
    bool marked;                   /* its environment has a mark that no other child's has */
    uint64_t mark;                 /* if it has one */
    const struct ld_user *account; /* the user that was asked for, if there is one */
    int account_error;             /* why it was not found, a negative errno */
};

/* Set words, environment and name from the table at INDEX; raises for wrong ones. Pushes some values
 * that hold them. */
void ld_api_spawn_request_set_command(lua_State *L, int index, struct ld_spawn_request *request);

/* Find the user and the group that were asked for; what cannot be found is noted in account_error. Pushes
 * a value that holds them. */
void ld_api_spawn_request_find_account(lua_State *L, struct ld_spawn_request *request);

/* Write the mark of a child as "NAME=VALUE"; the same length for all of this process. */
#define LD_SPAWN_MARK_SIZE 64
void ld_api_spawn_request_mark(char text[LD_SPAWN_MARK_SIZE], uint64_t mark);

/* Add what decides whether a running child is the one that another request asks for: words, directory,
 * environment, user, and how its streams are connected. */
void ld_api_spawn_request_identify(const struct ld_spawn_request *request,
                                   struct ld_text *identity);

#endif

/* Children that live through a reload. */
#ifndef LD_API_CHILD_KEEP_H
#define LD_API_CHILD_KEEP_H

#include "api/child_box.h"
#include "api/spawn_request.h"

/* Find the kept child that another generation runs under the name of a request, whose identity is that of
 * the request (in its config), and which can say that it is ready as asked; NULL if there is none. Raises if
 * the script itself keeps a child of that name. */
struct ld_child *ld_api_child_keep_find(lua_State *L, const struct ld_spawn_request *request);

/* Give a claim up, so that the child stays the old generation's; false if the half claims nothing. The
 * half is freed if it does. */
bool ld_api_child_keep_drop_claim(struct ld_child_half *half);

/* Hold the child of a half, which is kept, for a generation that claims it, instead of ending it; the half is freed. */
void ld_api_child_keep_park(struct ld_child_half *half);

/* For an upgrade: move what the script has of an unfinished line of a child that is kept to TEXT, unless it is for
 * the log; ld_child_put_output gives it back. */
void ld_api_child_keep_take_line(struct ld_child *child, int stream, struct ld_text *text);

/* In a process beside that of the service: forget the children of the script, which belong to the other, but
 * the commands of lunad.exec. */
void ld_api_child_keep_let_go(struct ld_script *script);

/* Make the script, which has become the service, the owner of the children that it claims. */
void ld_api_child_keep_take_over(struct ld_script *script);

#endif

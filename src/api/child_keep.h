/* Children that live through a reload. */
#ifndef LD_API_CHILD_KEEP_H
#define LD_API_CHILD_KEEP_H

#include "api/child_box.h"

/* Find the kept child that another generation runs under NAME and whose identity is IDENTITY; NULL if
 * there is none that can be claimed. Raises if the script itself keeps a child of that name. */
struct ld_child *ld_api_child_keep_find(lua_State *L, const char *name, const char *identity);

/* Give a claim up, so that the child stays the old generation's; false if the half claims nothing. The
 * half is freed if it does. */
bool ld_api_child_keep_drop_claim(struct ld_child_half *half);

/* Make the script, which has become the service, the owner of the children that it claims. */
void ld_api_child_keep_take_over(struct ld_script *script);

#endif

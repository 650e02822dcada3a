/* What the child engine tells a child in Lua. */
#ifndef LD_API_CHILD_EVENTS_H
#define LD_API_CHILD_EVENTS_H

#include "engine/child.h"

/* The calls; their owner is a struct ld_child_half. */
extern const struct ld_child_ops ld_api_child_events;

#endif

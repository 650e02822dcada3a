/* Memory that runs out when a test says so: for lunad's own code (linked with --wrap for malloc, calloc,
 * realloc, strdup and fdopen), for Lua and libuv, whose memory lunad allocates, and for jansson. */
#ifndef FAMINE_H
#define FAMINE_H

#define FAMINE_FOR_GOOD 1000000000L

/* Make the allocations of jansson fail too. */
void famine_init(void);

/* Grant SPARED allocations from now on, then refuse LENGTH of them. */
void famine_begin(long spared, long length);

/* Grant everything again; how many have been refused since the beginning. */
long famine_end(void);

#endif

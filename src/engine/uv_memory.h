/* The memory of libuv, which aborts where its table of descriptors cannot grow. That is the one allocation
 * that it makes by realloc; where it fails, a spare block of the process's own takes its place. */
#ifndef LD_ENGINE_UV_MEMORY_H
#define LD_ENGINE_UV_MEMORY_H

/* Have libuv allocate by this. To be called before it is used. */
void ld_uv_memory_install(void);

#endif

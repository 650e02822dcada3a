/* The C stack of a crash. */
#ifndef LD_ENGINE_C_STACK_H
#define LD_ENGINE_C_STACK_H

#include <stdint.h>

#include "base/writer.h"

/* Where CONTEXT, the ucontext_t of a signal handler, was interrupted: its instruction, and its stack
 * pointer; 0 where this is not known on this machine. */
uintptr_t ld_c_stack_instruction(const void *context);
uintptr_t ld_c_stack_pointer(const void *context);

/* Add the address of an instruction: 0x55d1c0a2 function+0x12 (/usr/bin/lunad+0x1c2a2). */
void ld_c_stack_write_address(struct ld_writer *writer, uintptr_t address);

/* Add the calls that led to CONTEXT, at most MOST, a line each after INDENT. To be called by the handler
 * that got CONTEXT. It takes no memory, and no lock but that of the dynamic linker; on a stack that is
 * broken it may fault. */
void ld_c_stack_write(struct ld_writer *writer, const void *context, int most, const char *indent);

#endif

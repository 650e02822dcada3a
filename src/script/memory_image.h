/* A memory as bytes, for another process. They are text but for the texts themselves:
 *
 *     lunad-memory 1 FILES
 *     KIND PATH MODULE ABSOLUTE REAL TEXT        the sizes of what follows this line, "-" for what there is not
 *     ...
 *     end
 *
 * Bytes that come from a process with fewer rights are an attacker's: the reader takes nothing but what the writer
 * writes, and a memory holds only data. Who makes a generation from it must have no more rights than its writer. */
#ifndef LD_SCRIPT_MEMORY_IMAGE_H
#define LD_SCRIPT_MEMORY_IMAGE_H

#include "base/text.h"
#include "script/memory.h"

/* What an image has at most: the texts, and names for LD_MEMORY_FILES. */
#define LD_MEMORY_IMAGE_MAX ((size_t)LD_MEMORY_BYTES * 2)

/* Add a memory to OUT. What was missing is left out. 0, -ENOMEM, or -E2BIG with OUT as it was. */
int ld_memory_image_write(const struct ld_memory *memory, struct ld_text *out);

/* Read the memory in BYTES, all of them, into *MEMORY, which is held once; its texts come to be in TEXTS. 0,
 * -ENOMEM, or -EPROTO with the reason in WHY, the offset of the byte among it. */
int ld_memory_image_read(struct ld_texts *texts, const char *bytes, size_t size,
                         struct ld_memory **memory, struct ld_text *why);

#endif

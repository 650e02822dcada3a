/* The last lines of the log, for a crash report. Once a process. */
#ifndef LD_BASE_LOG_RING_H
#define LD_BASE_LOG_RING_H

#include <stddef.h>

#include "base/writer.h"

#define LD_LOG_RING_SIZE 8192
#define LD_LOG_RING_LINE 1024 /* of a longer line, only the beginning is kept */

/* Keep a LINE, with or without the newline that ends it. */
void ld_log_ring_keep(const char *line, size_t size);

/* Add all lines that are kept whole, oldest first. A signal handler may call this. */
void ld_log_ring_write(struct ld_writer *writer);

/* Forget all lines. */
void ld_log_ring_clear(void);

#endif

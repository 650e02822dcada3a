/* The file of crash reports: NAME.crash in the directory of the log or, if the log is not a file, in the
 * run directory; none if the log is stderr, which then has the report. Those of earlier crashes are kept
 * as NAME.crash.1 to NAME.crash.4.
 *
 * A host that has a keeper leaves its report in memory that both share, and the keeper makes the file,
 * because the host may not: it takes the report for text of an attacker, whose size is limited. */
#ifndef LD_DAEMON_CRASH_FILE_H
#define LD_DAEMON_CRASH_FILE_H

#include <stddef.h>

#include "daemon/service.h"

#define LD_CRASH_FILE_MAX 65000 /* bytes of a report */

/* Find the path of the file: service->crash_path, or NULL. To be called when the log is open. 0 or an
 * exit status. */
int ld_crash_file_find(struct ld_service *service, struct ld_text *why);

/* Make the file PATH, empty, in the directory DIR unless it is absolute, and rename what is there. A
 * descriptor or a negative errno. A signal handler may call this. */
int ld_crash_file_make(int dir, const char *path);

/* In the keeper: share memory with the host that is forked next, for as long as this process lives.
 * Without memory there is no report. */
void ld_crash_file_share(struct ld_service *service);

/* In a host that goes on as another program: use the memory again that FD, service->crash_fd, is. */
void ld_crash_file_adopt(struct ld_service *service);

/* In the keeper: write the file from what the host left, which was HOW ("killed by SIGSEGV"), or log it
 * if that fails. Returns the path, owned by the service, or NULL if there is no file. */
const char *ld_crash_file_take(struct ld_service *service, const char *how);

/* In the host: leave a part of the report to the keeper. A signal handler may call this. */
void ld_crash_file_leave(struct ld_service *service, const char *bytes, size_t size);

#endif
